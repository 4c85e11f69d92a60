"""Models built from presets, behind `kvae.VAE.from_preset`."""

import math
from collections.abc import Sequence
from typing import Any

from kvae import presets
from kvae.data import sources
from kvae.data.spec import DataSpec
from kvae.data.table import TableSpec
from kvae.models import constructors
from kvae.models.conditions import Condition
from kvae.training import factory
from kvae_serve.errors import RequestError

#: Shape, and number of training examples, of the data sets that Keras downloads.
_SHAPE, _NUM_EXAMPLES = (28, 28, 1), 60_000


def from_preset(
    cls: type,
    name: str,
    data: DataSpec | TableSpec | None,
    conditions: Condition | Sequence[Condition] | None,
    num_examples: int | None,
) -> Any:
    """Build and compile the model of a preset; see `kvae.VAE.from_preset`."""
    config = presets.get(name).config
    described: list[dict[str, Any]] = []
    if config.data.data in sources.NAMED:
        data = data or DataSpec(_SHAPE)
        num_examples = num_examples or _NUM_EXAMPLES
        if config.data.conditional:
            described = [{"name": "label", "kind": "categorical", "classes": sources.NAMED[config.data.data]}]
    if conditions is not None:
        several: Any = conditions if isinstance(conditions, (list, tuple)) else [conditions]
        described = [condition.manifest() for condition in several]
    if data is None or num_examples is None:
        raise RequestError(
            f"The preset {name} does not name its data. Add data=DataSpec(...) or TableSpec(...), and num_examples."
        )
    steps = max(1, math.floor(num_examples / config.training.batch_size))
    model = factory.model(config, data, described, steps, num_examples=num_examples)
    if not isinstance(model, cls):
        raise RequestError(f"The preset {name} is a {type(model).__name__}, not a {cls.__name__}. Use kvae.VAE.")
    model.compile(factory.optimizer(config, steps), steps_per_execution=config.training.steps_per_execution)
    return model


constructors.preset_builder = from_preset
