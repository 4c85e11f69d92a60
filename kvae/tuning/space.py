"""Settings to try: ranges and choices, their text form, and the default space of each kind of data.

This module does not import Keras or Optuna, so that errors are reported before they start, which takes seconds.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_origin

from kvae.training.config import Config, settings
from kvae_serve.errors import RequestError, printable

#: A setting stands at the start or after a comma, and ends at `=`. Commas between values do not end it.
_ITEM = re.compile(r",(?=\s*[A-Za-z_][\w.]*\s*=)")
_INCOMPARABLE = "elbos of different ones cannot be compared, so give it as an option"
#: Settings that cannot be tried: they do not change the model, `--seeds` sets them, or they change what the elbo means.
_FIXED = {
    "likelihood": _INCOMPARABLE,
    "binarize": _INCOMPARABLE,
    "numbers": _INCOMPARABLE,
    "seed": "give --seeds, and --seed for the first one",
    "weights_from": "give it as an option",
    "checkpoint_every": "give it as an option",
    "steps_per_execution": "give it as an option",
}
#: Settings whose value decides whether other settings have an effect; help texts begin with these values.
_SELECTORS = ("network", "likelihood", "prior", "objective")


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: Lowest value; int for a setting of integers.
        high: Highest value.
        log: Whether values are drawn evenly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        """Return the text form, such as `2:64:log`."""
        return f"{_text(self.low)}:{_text(self.high)}" + (":log" if self.log else "")

    def value(self, drawn: Any) -> Any:
        """Return the value of the setting."""
        return drawn

    def contains(self, value: Any) -> bool:
        """Return whether a value can be drawn."""
        return self.low <= value <= self.high

    def ends(self) -> tuple[Any, ...]:
        """Return the values to check before training."""
        return self.low, self.high


@dataclasses.dataclass(frozen=True)
class Choices:
    """Values of any setting, by their text.

    Attributes:
        values: Value by text, in the order of the request.
    """

    values: dict[str, Any]

    def __str__(self) -> str:
        """Return the text form, such as `relu|tanh`."""
        return "|".join(self.values)

    def value(self, drawn: str) -> Any:
        """Return the value of the setting."""
        return self.values[drawn]

    def contains(self, value: Any) -> bool:
        """Return whether a value can be drawn."""
        return value in self.values.values()

    def ends(self) -> tuple[Any, ...]:
        """Return the values to check before training."""
        return tuple(self.values.values())


Space = dict[str, "Range | Choices"]


def parse_space(request: str | Mapping[str, Any]) -> Space:
    """Parse `objective.beta=1:16:log,model.activation=relu|tanh`, or a mapping of settings to such texts or lists.

    Raises:
        RequestError: If a setting does not exist or cannot be tuned, or if a range or a choice is invalid.

    Example:
        >>> {key: str(part) for key, part in parse_space("latent_dim=2:64,activation=relu|tanh").items()}
        {'model.latent_dim': '2:64', 'model.activation': 'relu|tanh'}
    """
    space: Space = {}
    for key, field, text in _items(request, "--space"):
        if ":" in text:
            space[key] = _range(field, text)
        else:
            space[key] = _choices(field, text.split("|"), "low:high, low:high:log or choices such as a|b")
    return space


def parse_grid(request: str | Mapping[str, Any]) -> dict[str, Choices]:
    """Parse `objective.beta=1,2,4,model.latent_dim=2,8`, or a mapping of settings to lists.

    Lists as values need `|` between them: `encoder_hidden=256,128|512,256`.

    Raises:
        RequestError: If a setting does not exist or cannot be tuned, or if a value is invalid.

    Example:
        >>> {key: list(part.values.values()) for key, part in parse_grid("beta=1,2,4").items()}
        {'objective.beta': [1.0, 2.0, 4.0]}
    """
    grid = {}
    for key, field, text in _items(request, "--grid"):
        if ":" in text:
            raise RequestError(f"--grid {field.name} is {printable(text, 40)}; expected values such as 1,2,4. "
                               "A range belongs to --space.")  # fmt: skip
        is_list = get_origin(field.type) is tuple
        grid[key] = _choices(field, text.split("|" if "|" in text or is_list else ","), "values such as 1,2,4")
    return grid


def tunable() -> list[str]:
    """Return the keys of the settings that can be tried."""
    return [f"{home}.{field.name}" for home, field in settings() if home != "data" and field.name not in _FIXED]


def _items(request: str | Mapping[str, Any], option: str) -> Iterable[tuple[str, dataclasses.Field, str]]:
    """Yield the full key, the declaration and the text of each setting in a request."""
    if isinstance(request, str):
        pairs = [part.partition("=")[::2] for part in _ITEM.split(request) if part.strip()]
    elif isinstance(request, Mapping):
        pairs = [(str(name), _joined(value)) for name, value in request.items()]
    else:
        raise RequestError(
            f"{option} is {printable(repr(request), 40)}; expected a text or a mapping, such as "
            "{'latent_dim': [2, 8]}."
        )
    if not pairs:
        raise RequestError(f"{option} is empty; expected SETTING=VALUES such as model.latent_dim=2:64.")
    seen = set()
    for name, text in pairs:
        key, field = _declared(name.strip(), option)
        if key in seen:
            raise RequestError(f"{option} contains {key} twice. Give it once.")
        if not text.strip():
            raise RequestError(f"{option} has no values for {key}; expected {key}=VALUES. Add them.")
        seen.add(key)
        yield key, field, text.strip()


def _joined(values: Any) -> str:
    """Return the value or the values of a setting as text."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        return str(values)
    return "|".join(_text(tuple(each)) if isinstance(each, (list, tuple)) else str(each) for each in values)


def _declared(name: str, option: str) -> tuple[str, dataclasses.Field]:
    """Return the full key and the declaration of a setting."""
    section, _, short = name.rpartition(".")
    for home, field in settings():
        if field.name != short:
            continue
        if section not in ("", home):
            raise RequestError(f"{option} {printable(name, 60)}: {short} is in [{home}]. Write {home}.{short}.")
        if home == "data":
            raise RequestError(f"{option} {short}: settings of the data are the same in all trials. Give --{short}.")
        if short in _FIXED:
            raise RequestError(f"{option} {short}: all trials have the same value; {_FIXED[short]}.")
        return f"{home}.{short}", field
    Config().replace(**{short: 0})  # raises the error of an unknown setting, with a suggestion
    raise AssertionError(name)


def _range(field: dataclasses.Field, text: str) -> Range:
    """Parse `low:high` or `low:high:log`."""
    parts, kind = text.split(":"), field.type
    expected = f"{field.name}=LOW:HIGH or {field.name}=LOW:HIGH:log"
    if kind not in (int, float):
        raise RequestError(f"--space {field.name} is {printable(text, 40)}; expected choices such as a|b, no numbers.")
    if not 2 <= len(parts) <= 3 or parts[2:] not in ([], ["log"]):
        raise RequestError(f"--space {field.name} is {printable(text, 40)}; expected {expected}.")
    low, high = (_number(field, part, expected) for part in parts[:2])
    if low >= high:
        raise RequestError(f"--space {field.name} ranges from {low:g} to {high:g}; expected the lower number first.")
    if len(parts) == 3 and low <= 0:
        raise RequestError(f"--space {field.name} starts at {low:g}; a logarithmic range needs numbers above 0.")
    for value in (low, high):
        Config().replace(**{field.name: value})
    return Range(low, high, len(parts) == 3)


def _number(field: dataclasses.Field, text: str, expected: str) -> Any:
    try:
        value = field.type(text)  # type: ignore[operator]
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        kind = "an integer" if field.type is int else "a number"
        raise RequestError(f"--space {field.name}: {printable(text, 40)} is not {kind}; expected {expected}.")
    return value


def _choices(field: dataclasses.Field, texts: list[str], expected: str) -> Choices:
    values = {}
    for text in map(str.strip, texts):
        value = _typed(field, text)
        if text == "" or value is None:
            raise RequestError(f"{field.name} cannot be {printable(text, 40) or 'empty'}; expected {expected}.")
        values[_text(value)] = value
    return Choices(values)


def _typed(field: dataclasses.Field, text: str) -> Any:
    """Convert a text to the type of a setting; None if it does not have this type."""
    if text == "auto" and field.metadata["auto"] is not None:
        return field.metadata["auto"]
    try:
        if get_origin(field.type) is tuple:
            return () if text == "0" else tuple(int(part) for part in text.split(","))
        if field.type is bool:
            return {"true": True, "false": False}.get(text.lower())
        return field.type(text)  # type: ignore[operator]
    except ValueError:
        return None


def _text(value: Any) -> str:
    """Return the text of a value, from which it can be parsed."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "0"
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def default_space(config: Config) -> Space:
    """Return the space around the defaults of the data: latent_dim, the learning rate and the size of the network.

    Widths are halved and doubled; latent_dim and the learning rate are divided and multiplied by 4. beta is not part of
    it, because the elbo is highest near 1 by its definition.

    Args:
        config: Settings of the data, from `defaults.default_settings`.

    Example:
        >>> import kvae
        >>> chosen = kvae.default_settings(kvae.data.load("mnist-sample"))
        >>> {key: str(part) for key, part in default_space(chosen).items()}["model.latent_dim"]
        '4:64:log'
    """
    m, rate = config.model, config.training.learning_rate
    space: Space = {
        "model.latent_dim": Range(max(1, m.latent_dim // 4), 4 * m.latent_dim, log=True),
        "training.learning_rate": Range(rate / 4, 4 * rate, log=True),
    }
    if m.network == "lstm":
        space["model.lstm_units"] = Range(max(1, m.lstm_units // 4), 2 * m.lstm_units, log=True)
    sizes = "filters" if m.network in ("conv", "residual") else "hidden"
    for name in (f"encoder_{sizes}", f"decoder_{sizes}"):
        widths = getattr(m, name)
        scaled = [tuple(max(1, int(width * factor)) for width in widths) for factor in (0.5, 1, 2)]
        if widths and m.network != "lstm":
            space[f"model.{name}"] = Choices({_text(each): each for each in scaled})
    return space


def require_effect(space: Mapping[str, Any], config: Config, source: str, option: str) -> None:
    """Raise RequestError if a setting does not have an effect on the models of these data.

    Args:
        space: The settings to try.
        config: Settings of the data, from `defaults.default_settings`.
        source: Name of the data in the message.
        option: Name of the option in the message.
    """
    declared = {field.name: field for _, field in settings()}
    for key in space:
        name = key.rpartition(".")[2]
        owners = declared[name].metadata["help"].partition(":")[0].split(", ")
        for selector in _SELECTORS:
            if not set(owners) <= set(declared[selector].metadata["choices"]):
                continue
            part = space.get(f"model.{selector}", space.get(f"objective.{selector}"))
            value = getattr(config.model, selector, config.objective.objective)
            if not set(part.ends() if part else (value,)) & {*owners, "auto"}:
                raise RequestError(
                    f"{option} {name} does not have an effect: it belongs to the {selector} {' or '.join(owners)}, and "
                    f"{source} has the {selector} {value}. Leave it out, or set --{selector}."
                )


def is_log(values: Iterable[float]) -> bool:
    """Return whether numbers are better shown on a logarithmic axis."""
    ordered = sorted(set(values))
    return len(ordered) > 2 and ordered[0] > 0 and ordered[-1] / ordered[0] >= 8
