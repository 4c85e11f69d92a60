"""The manifest: what docs/format.md shows is read, whatever else is refused with a line that says why."""

from __future__ import annotations

import copy
import json
import sys
import time

import pytest

from kvae_serve.errors import ModelFileError
from kvae_serve.sealed.manifest import Condition, Data, Manifest
from support import make_tiny_models

GOOD = make_tiny_models.manifest("conditional", True, "standard_normal") | {"graph": "decoder", "golden": None}


def parse(raw: object) -> Manifest:
    return Manifest.parse(json.dumps(raw), "file.onnx")


def changed(path: str, value: object) -> dict:
    raw = copy.deepcopy(GOOD)
    node = raw
    *parents, last = path.split(".")
    for key in parents:
        node = node[int(key)] if key.isdigit() else node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return raw


def test_documented_example_is_read():
    text = """{"format": 1, "graph": "decoder", "model_id": "%s", "name": "mnist", "kind": "conditional-vae",
      "latent_dim": 16, "data": {"kind": "image", "shape": [28, 28, 1], "range": [0, 255]},
      "conditions": [{"name": "label", "kind": "categorical", "classes": ["0", "1", "2"]},
                     {"name": "slant", "kind": "continuous", "range": [-1, 1]}],
      "likelihood": {"name": "bernoulli"}, "prior": {"name": "standard_normal"},
      "training": {"dataset": "mnist", "examples": 60000},
      "golden": {"seed": 0, "num": 3,
                 "outputs": {"x_mean": {"stride": 37, "values": [0.25], "atol": 0.0255, "rtol": 0.0}}},
      "of the future": [1, {"a": null}]}""" % ("0a" * 32)
    manifest = Manifest.parse(text, "file.onnx")
    assert manifest.data == Data("image", (28, 28, 1), (0.0, 255.0))
    assert manifest.data.num_values == 784
    assert manifest.conditions[0] == Condition("label", "categorical", classes=("0", "1", "2"))
    assert manifest.conditions[1] == Condition("slant", "continuous", range=(-1.0, 1.0))
    assert manifest.to_dict() == json.loads(text)
    assert manifest.num_components == 1


def test_to_dict_returns_a_deep_copy():
    manifest = parse(GOOD)
    manifest.to_dict()["data"]["shape"][0] = 99
    assert manifest.to_dict()["data"]["shape"] == [8, 6, 1]


def test_newer_format_is_refused_with_advice_to_update():
    with pytest.raises(ModelFileError, match=r"format 2; this version of kvae reads up to 1.*pip install -U"):
        parse(GOOD | {"format": 2})


BAD = [
    ("format", ...), ("format", "1"), ("format", True), ("format", 0),
    ("graph", "loop"), ("graph", ...), ("graph", ["decoder"]),
    ("model_id", "short"), ("model_id", "A" * 64), ("model_id", 5), ("model_id", "g" * 64),
    ("name", ""), ("name", 5), ("name", "n" * 300), ("kind", None),
    ("latent_dim", 0), ("latent_dim", -1), ("latent_dim", 1.5), ("latent_dim", 2**40), ("latent_dim", True),
    ("data", None), ("data.kind", "video"), ("data.shape", [8, 6]), ("data.shape", [8, 6, 0]),
    ("data.shape", [8, 6, "1"]),
    ("data.shape", [1, 2, 3, 4, 5]), ("data.shape", [2**20, 2**20, 3]), ("data.range", [255, 0]), ("data.range", [0]),
    ("data.range", "all"), ("data.range", [0, None]), ("data.bounded", 1), ("data.bounded", None),
    ("conditions", {}), ("conditions", ["label"]), ("conditions.0.name", "x"), ("conditions.0.name", "component"),
    ("conditions.0.kind", "ordinal"), ("conditions.0.classes", []), ("conditions.0.classes", ["a", "a"]),
    ("conditions.0.classes", ["a", 1]), ("conditions.0.classes", ["a", ""]),
    ("conditions", [GOOD["conditions"][0]] * 2),
    ("likelihood", "bernoulli"), ("likelihood.name", "student"), ("likelihood", {}),
    ("prior.name", "flow"), ("prior", {"name": "vamp"}), ("prior", {"name": "vamp", "log_weights": []}),
    ("prior", {"name": "vamp", "log_weights": ["0"]}), ("training", "long"),
    ("name", "a\x1b[31mb"), ("name", "a\nb"), ("kind", "\u202eeav"), ("conditions.0.name", "la\x00bel"),
    ("conditions.0.classes", ["a", "b\x07"]), ("conditions.0.classes", ["a", "\u2066b"]),
    ("golden", {"seed": 0, "num": 3, "outputs": {"\x1b[31m": {"stride": 1, "values": [1], "atol": 0, "rtol": 0}}}),
    *[("name", f"a{mark}") for mark in "\xad\u061c\u115f\u1160\u200b\u200e\u200f\u2060\u2069\u3164\ufeff"],
    *[("conditions.0.classes", ["a", f"{mark}b"]) for mark in "\xad\u061c\u200e\u200f\ufeff"],
    ("score", []), ("score", {"num_samples": 1001, "seed": 0, "quantiles": {"0.5": 1}}),
    ("score", {"num_samples": 1, "seed": 0, "quantiles": {"0.5": 1} | {f"0.{i:09}": 1 for i in range(1000)}}),
    ("score", {"num_samples": 1, "seed": 2**64, "quantiles": {"0.5": 1}}),
    ("score", {"num_samples": 1, "seed": 0, "quantiles": {"1.5": 1}}),
    ("score", {"num_samples": 1, "seed": 0, "quantiles": {"٠": 1}}),
    ("golden", []), ("golden", {"seed": -1, "num": 3, "outputs": {}}), ("golden", {"seed": 0, "num": 0, "outputs": {}}),
    ("golden", {"seed": 0, "num": 3, "outputs": {"x_mean": {"stride": 0, "values": [1], "atol": 0, "rtol": 0}}}),
    ("golden", {"seed": 0, "num": 3, "outputs": {"x_mean": {"stride": 1, "values": [1] * 65, "atol": 0, "rtol": 0}}}),
    ("golden", {"seed": 0, "num": 3, "outputs": {"x_mean": {"stride": 1, "values": [1], "atol": -1, "rtol": 0}}}),
]  # fmt: skip


SCALED = {"kind": "vector", "shape": [2], "range": None, "bounded": False, "mean": [0.5, -3], "scale": [1, 2.5]}


def test_mean_and_scale_of_features_are_read():
    data = parse(GOOD | {"data": SCALED}).data
    assert (data.mean, data.scale, data.range, data.bounded) == ((0.5, -3.0), (1.0, 2.5), None, False)


@pytest.mark.parametrize(
    "change",
    [
        {"scale": [1]},
        {"scale": [1, 0]},
        {"scale": [1, "2"]},
        {"mean": None},
        {"mean": [0, None]},
        {"range": [0, 1]},
        {"kind": "image", "shape": [8, 6, 2]},
    ],
)
def test_invalid_mean_or_scale_of_features_is_refused(change):
    with pytest.raises(ModelFileError, match=r"data\.|mean|scale"):
        parse(GOOD | {"data": SCALED | change})


TWO_COLUMNS = {
    "kind": "table", "shape": [2], "range": None,
    "columns": [
        {"name": "a", "kind": "categorical", "classes": [str(i) for i in range(5000)]},
        {"name": "b", "kind": "numeric"},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("data", "change", "fault"),
    [
        (TWO_COLUMNS, {"width": 0}, r"width 0, expected an integer from 1 to 4096"),
        (TWO_COLUMNS, {"components": None}, r"components None, expected an integer"),
        (TWO_COLUMNS, {"width": 3400}, r"likelihood\.width 3400, expected at most 16777216 embeddings"),
        (GOOD["data"], {}, r"data\.kind 'image', expected table under a mixed_autoregressive likelihood"),
    ],
)
def test_invalid_dependence_of_columns_is_refused(data, change, fault):
    likelihood = {"name": "mixed_autoregressive", "width": 3300, "components": 2}
    assert parse(GOOD | {"data": TWO_COLUMNS, "likelihood": likelihood}).likelihood["width"] == 3300
    with pytest.raises(ModelFileError, match=fault):
        parse(GOOD | {"data": data, "likelihood": likelihood | change})


def test_golden_inputs_of_gigabytes_are_refused():
    large = changed("data.shape", [1024, 1024, 16]) | {"golden": {"seed": 0, "num": 64, "outputs": {}}}
    with pytest.raises(ModelFileError, match=r"golden\.num 64, expected at most 33554432 numbers"):
        parse(large)
    assert parse(large | {"golden": {"seed": 0, "num": 1, "outputs": {}}}).golden["num"] == 1


def test_names_of_any_language_and_joined_emoji_are_accepted():
    names = ["Größe", "数字", "\U0001f468\u200d\U0001f469", "a\u00a0b", "x=1"]
    assert parse(changed("conditions.0.classes", names)).conditions[0].classes == tuple(names)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2**20, '{"a":' * 2**17, '\\"' * 2**19, '"' + "\\" * (2**20 - 1), "[]," * 2**18, '"' * 2**20,
        '{"a": [' + "1," * 2**19 + "1]}", '{"a": "' + "\\u0041" * 2**17 + '"}', "9" * 4000 + "," * 2**19,
    ],
    ids=["lists", "objects", "quotes", "backslashes", "empty lists", "texts", "numbers", "escapes", "digits"],
)  # fmt: skip
def test_any_mebibyte_is_parsed_quickly_and_without_recursion(text):
    """A caller may have raised Python's own limit, under which a parser that recurses would end the process."""
    limit, start = sys.getrecursionlimit(), time.process_time()
    sys.setrecursionlimit(10**6)
    try:
        with pytest.raises(ModelFileError):
            Manifest.parse(text, "file.onnx")
    finally:
        sys.setrecursionlimit(limit)
    assert time.process_time() - start < 1.5


@pytest.mark.parametrize(("path", "value"), BAD)
def test_invalid_value_is_refused(path, value):
    with pytest.raises(ModelFileError, match=r"^file\.onnx has a manifest with ") as error:
        parse(changed(path, value))
    assert str(error.value).isprintable()
    assert len(str(error.value)) <= 193


GOLDEN = {"seed": 0, "num": 3, "outputs": {"x_mean": {"stride": 1, "values": [1.5], "atol": 0.5, "rtol": 0.25}}}
COLUMNS = [
    {"name": "a", "kind": "numeric", "mean": 0.5, "scale": 1.5},
    {"name": "b", "kind": "categorical", "classes": ["x"]},
]
TABLE = {
    "data": {"kind": "table", "shape": [2], "range": [0, 1], "columns": COLUMNS},
    "conditions": [{"name": "age", "kind": "continuous", "range": [0.0, 9.5]}],
    "prior": {"name": "vamp", "log_weights": [-0.5, -1.5]},
    "golden": GOLDEN,
    "score": {"num_samples": 16, "seed": 0, "examples": 9, "quantiles": {"0.5": -88.2, "1e-05": -99.0}},
}


def numbers_of(node: object, path: tuple = ()) -> list[tuple]:
    """Return the path of every number in a document."""
    if isinstance(node, dict | list):
        items = node.items() if isinstance(node, dict) else enumerate(node)
        return [found for key, each in items for found in numbers_of(each, (*path, key))]
    return [path] if isinstance(node, int | float) and not isinstance(node, bool) else []


@pytest.mark.parametrize(
    "number", [10**30, -(10**30), 1e301, -1e301, 10**4000], ids=lambda n: f"{n:.0e}"[:9] if abs(n) < 10**300 else "huge"
)
@pytest.mark.parametrize("document", [TABLE, {"data": SCALED}, {}], ids=["table", "vector", "image"])
def test_every_number_of_a_manifest_is_bounded(document, number):
    whole = GOOD | document
    parse(whole)
    paths = numbers_of({key: value for key, value in whole.items() if key != "training"})
    assert len(paths) >= (20 if document is TABLE else 4)
    for path in paths:
        raw = copy.deepcopy(whole)
        node = raw
        for key in path[:-1]:
            node = node[key]
        node[path[-1]] = number
        with pytest.raises(ModelFileError) as error:
            parse(raw)
        assert str(error.value).isprintable(), path
        assert len(str(error.value)) <= 193, path


@pytest.mark.parametrize("limits", [[-1e38, 0], [0, 1e38]])
def test_range_beyond_float32_is_refused(limits):
    assert parse(changed("data.range", [-(2.0**126), 2.0**126])).data.range == (-(2.0**126), 2.0**126)
    with pytest.raises(ModelFileError, match="range"):
        parse(changed("data.range", limits))


def test_numbers_of_unknown_keys_are_bounded_by_64_bits():
    assert parse(GOOD | {"future": [2**64, -(2**64)]}).raw["future"] == [2**64, -(2**64)]
    with pytest.raises(ModelFileError, match="an integer of '65 bits', expected at most 64"):
        parse(GOOD | {"future": [{"a": 2**64 + 1}]})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1]", "null", '"text"', '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": Infinity}', '{"a": 1e400}',
        "\ufeff{}",
        '{"a": "\\ud800"}', "[" * 100_000, '{"a":' * 20 + "1" + "}" * 20, "{" + " " * 100_000, "9" * 5000, "{'a': 1}",
    ],
)  # fmt: skip
def test_invalid_json_is_refused(text):
    with pytest.raises(ModelFileError, match=r"not valid JSON|not a JSON object"):
        Manifest.parse(text, "file.onnx")


def test_table_needs_one_column_per_value():
    columns = [{"name": "age", "kind": "numeric"}, {"name": "city", "kind": "categorical", "classes": ["a", "b"]}]
    data = {"kind": "table", "shape": [2], "range": None, "columns": columns}
    assert parse(GOOD | {"data": data}).data.columns[1]["classes"] == ["a", "b"]
    for bad in ([], columns[:1], [1, 2], [{"name": "age"}, columns[1]]):
        with pytest.raises(ModelFileError):
            parse(GOOD | {"data": data | {"columns": bad}})


AGE = {"name": "age", "kind": "numeric", "type": "integer", "decimals": 0, "minimum": 17, "maximum": 90, "missing": ""}
DAY = {"name": "day", "kind": "numeric", "type": "datetime", "format": "%Y-%m-%d", "offset": 1e9, "missing": "?"}
CITY = {
    "name": "city",
    "kind": "categorical",
    "type": "category",
    "classes": ["a", ""],
    "missing": "",
    "dtype": "category[object]",
    "categories": ["b", "a"],
    "ordered": True,
}
OUTSIDE = [
    {"name": "id", "type": "id", "prefix": "", "start": 1, "width": 4},
    {"name": "land", "type": "constant", "value": ""},
]
ORDER = ["id", "day", "Sex", "age", "city", "land"]
SEX = {"name": "sex", "kind": "categorical", "classes": ["f", "m"], "shares": [0.25, 0.75], "column": {"name": "Sex"}}


def parse_table(**changes) -> Manifest:
    data = {
        "kind": "table", "shape": [3], "range": None,
        "columns": [AGE | changes.get("age", {}), DAY | changes.get("day", {}), CITY | changes.get("city", {})],
        "outside": [OUTSIDE[0] | changes.get("id", {}), OUTSIDE[1] | changes.get("land", {})],
        "order": changes.get("order", ORDER),
        **{key: changes[key] for key in ("header", "delimiter") if key in changes},
    }  # fmt: skip
    return parse(GOOD | {"data": data, "conditions": [SEX | changes.get("sex", {})], "golden": None})


def test_written_form_of_columns_is_read():
    manifest = parse_table()
    assert manifest.data.order == tuple(ORDER)
    assert manifest.data.outside == tuple(OUTSIDE)
    assert manifest.conditions[0].shares == (0.25, 0.75)
    assert manifest.conditions[0].column["name"] == "Sex"
    assert (manifest.data.header, manifest.data.delimiter) == ((), ",")
    header = ["id", *(f" {name} " for name in ORDER[1:])]
    manifest = parse_table(header=header, delimiter="; ")
    assert (manifest.data.header, manifest.data.delimiter) == (tuple(header), "; ")


@pytest.mark.parametrize(
    "changes",
    [
        {"header": ORDER[1:]}, {"header": "id"}, {"header": [*ORDER[:-1], "Land"]}, {"header": [*ORDER[:-1], 1]},
        {"header": [*ORDER[:-1], "land\n"]}, {"header": [*ORDER[:-1], "land" + " " * 400]},
        {"delimiter": ",  "}, {"delimiter": "  "}, {"delimiter": ""}, {"delimiter": None},
        {"age": {"type": "category"}}, {"age": {"type": "money"}}, {"age": {"decimals": 16}}, {"age": {"decimals": -1}},
        {"age": {"decimals": 1.5}}, {"age": {"digits": 0}}, {"age": {"digits": 21}}, {"age": {"digits": 2.5}},
        {"age": {"exponent": "f"}},
        {"age": {"width": 41}}, {"age": {"step": 0}}, {"age": {"decimal": ";"}},
        {"age": {"prefix": "x" * 11}}, {"age": {"suffix": 1}},
        {"age": {"minimum": 91}}, {"age": {"minimum": "17"}}, {"age": {"offset": None}},
        {"age": {"offset": True}}, {"age": {"missing": 3}}, {"age": {"missing": "x" * 201}}, {"age": {"missing": "\n"}},
        {"age": {"format": "%Y"}}, {"day": {"format": "%Q"}}, {"day": {"format": "%Y" * 40}}, {"day": {"format": 1}},
        {"age": {"exact": []}}, {"age": {"exact": [2, 1]}}, {"age": {"exact": ["1"]}}, {"age": {"exact": 1.5}},
        {"age": {"exact": list(range(4097))}},
        {"age": {"calendar": {"weekdays": [1]}}}, {"day": {"calendar": {}}}, {"day": {"calendar": [1]}},
        {"day": {"calendar": {"weekdays": []}}}, {"day": {"calendar": {"weekdays": [7]}}},
        {"day": {"calendar": {"month_days": [0]}}}, {"day": {"calendar": {"months": ["1"]}}},
        {"day": {"calendar": {"years": [1]}}}, {"day": {"calendar": {"weekdays": 1}}},
        {"id": {"missing": 1}}, {"id": {"suffix": "\n"}}, {"id": {"missing_share": 1.5}}, {"id": {"missing_share": ""}},
        {"city": {"type": "datetime"}}, {"city": {"missing": "a"}}, {"city": {"dtype": 7}},
        {"city": {"categories": []}}, {"city": {"categories": ["a", "a"]}}, {"city": {"categories": ["a", 1]}},
        {"city": {"categories": ["a", "\n"]}}, {"city": {"ordered": 1}}, {"land": {"categories": "a"}},
        {"id": {"start": -1}},
        {"id": {"start": 2**53 + 1}}, {"id": {"width": 41}}, {"id": {"prefix": "\x1b"}}, {"id": {"type": "money"}},
        {"land": {"value": None}}, {"land": {"value": "x" * 201}}, {"land": {"name": ""}}, {"order": ORDER[1:]},
        {"order": [*ORDER, "more"]}, {"order": ["id", *ORDER[:-1]]}, {"order": "id"}, {"sex": {"shares": [0.5]}},
        {"sex": {"shares": [0.5, 0.6]}}, {"sex": {"shares": [1.5, -0.5]}}, {"sex": {"column": "Sex"}},
        {"sex": {"column": {"name": "Sex", "type": "datetime"}}}, {"age": {"form": "cubic"}},
        {"age": {"form": "classes", "atoms": []}}, {"age": {"form": "quantile", "knots": [1, 0], "scores": [0, 1]}},
    ],
)  # fmt: skip
def test_invalid_written_form_is_refused(changes):
    with pytest.raises(ModelFileError):
        parse_table(**changes)
