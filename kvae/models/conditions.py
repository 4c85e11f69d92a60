"""What a conditional model is told: named attributes that become one vector beside x and z."""

import math
import re

import keras
from keras import ops

from kvae.backends.initializers import RandomNormal
from kvae.serialization import register

#: What else stands beside conditions in graphs and in files of draws.
_RESERVED = ("x", "z", "component", "seed", "start", "scheme")


class Condition(keras.layers.Layer):
    """Base of all conditions: values `[batch]` in the user's units to a vector `[batch, dim]`.

    Args:
        name: what users call it; the input of that name in the exported graphs.
    """

    #: Width of what `vector` returns.
    dim: int

    def __init__(self, name, **kwargs):
        super().__init__(name=name, **kwargs)
        # It becomes the name of a graph's input.
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name in _RESERVED:
            raise ValueError(
                f"A condition's name is lower-case letters, digits and _, none of {', '.join(_RESERVED)}; got {name!r}."
            )

    def vector(self, values):
        """Float32 `[batch, dim]` from the values `[batch]` of one batch."""
        raise NotImplementedError

    def manifest(self):
        """What a reader of the exported file must know, as JSON."""
        raise NotImplementedError


@register("conditions.Categorical")
class Categorical(Condition):
    """One of several classes, given by index, int64 `[batch]`.

    Args:
        name: what users call it; `label` is the common one.
        classes: class names in the order of their indices, or their number (then named "0", "1", ...).
        embedding_dim: width of a learned embedding; None (the default) for one-hot.
    """

    def __init__(self, name="label", classes=10, embedding_dim=None, **kwargs):
        super().__init__(name=name, **kwargs)
        self.classes = [str(c) for c in (range(classes) if isinstance(classes, int) else classes)]
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"{name} needs at least 2 classes, each with a name of its own, got {self.classes}.")
        self.embedding_dim = embedding_dim
        self.dim = embedding_dim or len(self.classes)
        self.embedding = None
        if embedding_dim:
            self.embedding = self.add_weight(
                (len(self.classes), embedding_dim),
                initializer=RandomNormal(0.0, 1.0),
                name="embedding",
            )
        self.built = True

    @property
    def num_classes(self):
        """How many classes there are."""
        return len(self.classes)

    def vector(self, values):
        """One-hot classes of mean square 1, or embedded ones, float32 `[batch, dim]`.

        A plain one-hot vector is small beside z (length 1 against the root of latent_dim), and a decoder that hears
        it faintly learns to read the class from z first, where it does not belong.
        """
        one_hot = ops.one_hot(ops.cast(values, "int64"), self.num_classes, dtype="float32")
        # A product with the table, not a gather: negative indices do not wrap, and the graph stays two nodes.
        return one_hot * math.sqrt(self.num_classes) if self.embedding is None else ops.matmul(one_hot, self.embedding)

    def check(self, values, where):
        """Raise ValueError unless all `values` (a NumPy array) are class indices."""
        if values.ndim != 1 or _whole(values).dtype.kind not in "iu":
            raise ValueError(
                f"{where}: {self.name} must be class indices, integers [batch], got {values.dtype} "
                f"{list(values.shape)}."
            )
        if values.size and (values.min() < 0 or values.max() >= self.num_classes):
            raise ValueError(
                f"{where}: {self.name} must lie in 0 to {self.num_classes - 1}, got {values.min()} to {values.max()}."
            )

    def manifest(self):
        """Name, kind and classes."""
        return {"name": self.name, "kind": "categorical", "classes": self.classes}

    def get_config(self):
        """The arguments, for Keras."""
        return {"name": self.name, "classes": self.classes, "embedding_dim": self.embedding_dim}


def _whole(values):
    """Class indices that came as floats, as from a CSV file, as integers; anything else as it is."""
    import numpy as np

    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        return values.astype("int64")
    return values


@register("conditions.Continuous")
class Continuous(Condition):
    """A number, scaled so that `low` to `high` becomes -1 to 1, float32 `[batch]` in the user's own units.

    Args:
        name: what users call it.
        low: a low value of the training data; values outside are allowed, and extrapolate.
        high: a high value, above `low`.
    """

    dim = 1

    def __init__(self, name, low=0.0, high=1.0, **kwargs):
        super().__init__(name=name, **kwargs)
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"{name} needs finite bounds, low below high, got {low} and {high}.")
        self.low, self.high = float(low), float(high)
        self.built = True

    def vector(self, values):
        """Scaled values, float32 `[batch, 1]`."""
        scaled = (ops.cast(values, "float32") - self.low) * (2.0 / (self.high - self.low)) - 1.0
        return ops.expand_dims(scaled, -1)

    def check(self, values, where):
        """Raise ValueError unless all `values` (a NumPy array) are finite numbers."""
        import numpy as np

        if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise ValueError(
                f"{where}: {self.name} must be finite numbers [batch], got {values.dtype} {list(values.shape)}."
            )

    def manifest(self):
        """Name, kind and range."""
        return {"name": self.name, "kind": "continuous", "range": [self.low, self.high]}

    def get_config(self):
        """The arguments, for Keras."""
        return {"name": self.name, "low": self.low, "high": self.high}
