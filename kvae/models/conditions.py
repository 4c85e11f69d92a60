"""Conditions of a conditional model: named attributes of an example that become one condition vector."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kvae.serialization import register
from kvae_serve.sealed.manifest import RESERVED


class Condition(keras.layers.Layer):
    """Base class of all conditions: maps values `[batch]` in the user's units to a vector `[batch, dim]`.

    Args:
        name: Name of the condition, and of its input in the exported graphs.

    Raises:
        ValueError: The name is not a valid graph input.
    """

    #: Width of the vector.
    dim: int

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or name in RESERVED:
            raise ValueError(
                f"The condition's name is {name!r}; expected lower-case letters, digits and _, "
                f"and none of {', '.join(sorted(RESERVED))}."
            )

    def vector(self, values: Any) -> Any:
        """Map values `[batch]` to float32 `[batch, dim]`."""
        raise NotImplementedError

    def check(self, values: np.ndarray, where: str) -> None:
        """Raise ValueError unless all `values` are valid.

        Args:
            values: Array `[batch]`.
            where: Start of the message, such as `fit`.
        """
        raise NotImplementedError

    def manifest(self) -> dict[str, Any]:
        """Return the entry of this condition in the manifest, as JSON values."""
        raise NotImplementedError


@register("conditions.Categorical")
class Categorical(Condition):
    """One of several classes, given as an index, int64 `[batch]`.

    Args:
        name: Name of the condition; `label` is the usual one.
        classes: Class names in the order of their indices, or their number (the names are then "0", "1", ...).
        embedding_dim: Width of a learned embedding. None means one-hot vectors.
        shares: Share of each class in the training data, for sampling the classes in this proportion.
        column: Column of a table that the condition was, as in `kvae_serve.readers.Dataset.condition_columns`.
        joint: Combinations of the values of all conditions in the training data, if this is the last of several; see
            `kvae_serve.sealed.manifest.Manifest.joint`.

    Raises:
        ValueError: There are fewer than 2 classes, or two classes have the same name.

    Example:
        >>> label = kvae.Categorical("label", ["cat", "dog"])
        >>> label.num_classes
        2
    """

    def __init__(
        self,
        name: str = "label",
        classes: int | Sequence[str] = 10,
        embedding_dim: int | None = None,
        shares: Sequence[float] = (),
        column: Mapping[str, Any] | None = None,
        joint: Sequence[Sequence[int]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.shares, self.column = [float(share) for share in shares], dict(column or {})
        self.joint = [list(map(int, each)) for each in joint]
        self.classes = [str(c) for c in (range(classes) if isinstance(classes, int) else classes)]
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"The classes of {name} are {self.classes}; expected at least 2 classes, all different.")
        self.embedding_dim = embedding_dim
        self.dim = embedding_dim or len(self.classes)
        self.embedding = None
        if embedding_dim:
            self.embedding = self.add_weight(
                (len(self.classes), embedding_dim),
                initializer=keras.initializers.RandomNormal(0.0, 1.0),
                name="embedding",
            )
        self.built = True

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def vector(self, values: Any) -> Any:
        """Return embedded classes, or one-hot vectors of mean square 1, float32 `[batch, dim]`.

        A one-hot vector of length 1 is small compared with z, whose length is about the root of latent_dim. The decoder
        would then learn to read the class from z.
        """
        one_hot = ops.one_hot(ops.cast(values, "int64"), self.num_classes, dtype="float32")
        # A matrix product instead of a gather: negative indices do not wrap, and the graph has two nodes.
        return one_hot * math.sqrt(self.num_classes) if self.embedding is None else ops.matmul(one_hot, self.embedding)

    def check(self, values: np.ndarray, where: str) -> None:
        """Raise ValueError unless all `values` are class indices; whole-number floats are valid."""
        shape = list(values.shape)
        if values.ndim == 2 and shape[1] == self.num_classes:
            raise ValueError(
                f"{where}: {self.name} has the shape {shape}, which looks one-hot; expected class indices [batch]. "
                f"Use {self.name}.argmax(axis=1)."
            )
        if values.ndim != 1 or not _are_integers(values):
            raise ValueError(
                f"{where}: {self.name} has the type {values.dtype} and the shape {shape}; expected class indices, "
                "integers [batch]."
            )
        if values.size and (values.min() < 0 or values.max() >= self.num_classes):
            raise ValueError(
                f"{where}: {self.name} ranges from {values.min():g} to {values.max():g}; "
                f"expected 0 to {self.num_classes - 1}."
            )

    def manifest(self) -> dict[str, Any]:
        """Return name, kind and classes, and the shares, the column and the combinations if they are known."""
        entry = {"name": self.name, "kind": "categorical", "classes": self.classes}
        return entry | _known(shares=self.shares, column=self.column, joint=self.joint)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        arguments = {"name": self.name, "classes": self.classes, "embedding_dim": self.embedding_dim}
        return arguments | _known(shares=self.shares, column=self.column, joint=self.joint)


@register("conditions.Continuous")
class Continuous(Condition):
    """A number, scaled so that `low` to `high` becomes -1 to 1.

    Args:
        name: Name of the condition.
        low: A low value of the training data, in the user's units. Lower values extrapolate.
        high: A high value, above `low`.
        quantiles: Equally spaced quantiles of the training data from minimum to maximum, for sampling numbers like
            them.
        column: Column of a table that the condition was, as in `kvae_serve.readers.Dataset.condition_columns`.
        joint: Combinations of the values of all conditions in the training data, if this is the last of several; see
            `kvae_serve.sealed.manifest.Manifest.joint`.

    Raises:
        ValueError: The bounds are not finite, or `low` is not below `high`.

    Example:
        >>> age = kvae.Continuous("age", low=20, high=60)
        >>> age.dim
        1
    """

    dim = 1

    def __init__(
        self,
        name: str,
        low: float = 0.0,
        high: float = 1.0,
        quantiles: Sequence[float] = (),
        column: Mapping[str, Any] | None = None,
        joint: Sequence[Sequence[int]] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.quantiles, self.column = [float(each) for each in quantiles], dict(column or {})
        self.joint = [list(map(int, each)) for each in joint]
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"The bounds of {name} are {low} and {high}; expected finite numbers, the lower first.")
        self.low, self.high = float(low), float(high)
        self.built = True

    def vector(self, values: Any) -> Any:
        """Return scaled values, float32 `[batch, 1]`."""
        scaled = (ops.cast(values, "float32") - self.low) * (2.0 / (self.high - self.low)) - 1.0
        return ops.expand_dims(scaled, -1)

    def check(self, values: np.ndarray, where: str) -> None:
        """Raise ValueError unless all `values` are finite numbers."""
        if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise ValueError(
                f"{where}: {self.name} has the type {values.dtype} and the shape {list(values.shape)}, or holds NaN or "
                "infinity; expected finite numbers [batch]."
            )

    def manifest(self) -> dict[str, Any]:
        """Return name, kind and range, and the quantiles, the column and the combinations if they are known."""
        entry = {"name": self.name, "kind": "continuous", "range": [self.low, self.high]}
        return entry | _known(quantiles=self.quantiles, column=self.column, joint=self.joint)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        arguments = {"name": self.name, "low": self.low, "high": self.high}
        return arguments | _known(quantiles=self.quantiles, column=self.column, joint=self.joint)


def _known(**values: Any) -> dict[str, Any]:
    """Return the values that are not empty."""
    return {name: value for name, value in values.items() if value}


def _are_integers(values: np.ndarray) -> bool:
    """Test for integers, in an integer or a float array."""
    if values.dtype.kind == "f":
        return bool(np.isfinite(values).all() and (values == np.rint(values)).all())
    return values.dtype.kind in "iu"
