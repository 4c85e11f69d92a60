"""Fields of requests for samples, shared by request files (`kvae sample --requests`) and `kvae serve`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kvae_serve.errors import InputDataError, RequestError, printable
from kvae_serve.numbers import integer
from kvae_serve.sealed import noise

if TYPE_CHECKING:
    from kvae_serve.inference.sampling import Plan
    from kvae_serve.model import Model
    from kvae_serve.sealed.manifest import Manifest

MAX_INLINE = 10**6
"""Maximum number of values in one answer."""

Types = tuple[type, ...]
NUMBER: Types = (int, float)
VALUE: Types = (str, int, float, list)
SAMPLE: dict[str, Types] = {
    "n": (int,),
    "label": VALUE,
    "condition": (dict,),
    "seed": (int,),
    "start": (int,),
    "temperature": NUMBER,
    "draw": (bool,),
    "dtype": (str,),
}
PICTURE: dict[str, Types] = {"scale": (int,), "plain": (bool,)}
DECODE: dict[str, Types] = {"z": (list,), "label": VALUE, "condition": (dict,), "dtype": (str,)}
"""Fields of a request with their types. Every request may also have an `id` and a `command`."""


def check(command: str, request: Mapping[str, Any], fields: Mapping[str, Types]) -> None:
    """Raise `RequestError` if a request has an unknown field, or a value of another type than `fields` lists."""
    for key, value in request.items():
        if key not in fields:
            raise RequestError(
                f"Unknown key {printable(key, 40)}; a {command} request has id, command, {', '.join(fields)}."
            )
        if not isinstance(value, fields[key]) or (isinstance(value, bool) and bool not in fields[key]):
            names = " or ".join(_KINDS[kind] for kind in fields[key])
            raise RequestError(f"{key} is {_shown(value)}; expected {names}.")
    labels = [request["label"]] if "label" in request else []
    for value in (*labels, *request.get("condition", {}).values()):
        for each in value if isinstance(value, list) else [value]:
            if each is None or isinstance(each, list | dict | bool):
                raise RequestError(f"A label is {_shown(each)}; expected a name, an index or a list of them.")
    if request.get("dtype", "float32") not in ("float32", "uint8"):
        raise RequestError(f"dtype is {printable(request['dtype'], 40)}; expected float32 or uint8.")


def default_num(manifest: Manifest, has_values: bool) -> int:
    """Return the default number of samples per label, of a request with or without values of conditions."""
    return 1 if manifest.conditions and not has_values and manifest.data.kind != "table" else 16


def seed(request: Mapping[str, Any]) -> int:
    """Return the seed of a request. A random one has 53 bits, so that JavaScript can read it exactly."""
    value = request.get("seed")
    return noise.random_seed() >> 11 if value is None else integer(value, "seed", 0, noise.MAX_SEED)


def plan(model: Model, request: Mapping[str, Any], batch_size: int) -> Plan:
    """Return the checked plan of a `sample` request."""
    has_values = request.get("label") is not None or bool(request.get("condition"))
    return model.plan(
        integer(request.get("n", default_num(model.manifest, has_values)), "n", 1, noise.MAX_INDEX),
        label=request.get("label"),
        conditions=request.get("condition"),
        seed=seed(request),
        start=request.get("start", 0),
        temperature=request.get("temperature", 1.0),
        draw=request.get("draw"),
        batch_size=batch_size,
    )


def facts(planned: Plan) -> dict[str, Any]:
    """Return the part of an answer that describes the samples."""
    return {
        "rows": planned.rows,
        "n": planned.num,
        "conditions": planned.names(),
        "seed": planned.seed,
        "start": planned.start,
    }


def latent_vectors(request: Mapping[str, Any]) -> np.ndarray:
    """Return `z` of a `decode` request, float64 `[rows, latent_dim]`."""
    if "z" not in request:
        raise RequestError("z is missing; expected a list of latent vectors, each a list of numbers.")
    z = numbers(request["z"], "z")
    return z[None] if z.ndim == 1 else z


def numbers(values: list[Any], name: str) -> np.ndarray:
    """Return nested lists of numbers as float64. `null` becomes NaN.

    Raises:
        InputDataError: The lists have different lengths, or contain something else.
    """
    # Objects first: an array of texts would take the memory of the longest text for each value.
    array = np.array(values, object)
    kinds = set(map(type, array.flat))
    if list in kinds:
        raise InputDataError(f"{name} is not rectangular; expected lists of numbers of equal length.")
    if kinds - {int, float, type(None)}:
        raise InputDataError(f"{name} contains values that are not numbers; expected lists of numbers.")
    try:
        return array.astype(np.float64)
    except OverflowError:
        raise InputDataError(f"{name} contains an integer that is too large; expected numbers of float32.") from None


def check_inline(rows: int, values: int, remedy: str = "Give an output, or request fewer rows.") -> None:
    """Raise `RequestError` if rows of this number of values are too many for one answer."""
    if rows * values > MAX_INLINE:
        raise RequestError(
            f"{rows} rows of {values} values are too many for one answer, which holds {MAX_INLINE} values. {remedy}"
        )


def _shown(value: Any) -> str:
    return printable(json.dumps(value), 60)


_KINDS: dict[type, str] = {
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    bool: "true or false",
}
