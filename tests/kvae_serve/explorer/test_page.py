"""The page of `kvae explore` as text: its policy, its data, its size. tests/browser runs it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html.parser
import json
import math
import re
from importlib.resources import files

import numpy as np
import pytest

from kvae_serve import explorer
from kvae_serve.errors import InputDataError, ModelFileError, RequestError
from kvae_serve.explorer import page as assembly
from kvae_serve.model import load
from kvae_serve.readers import read_for
from support.tiny import assert_refused, binary_images, names

VENDORED = files("kvae_serve.explorer").joinpath("onnxruntime_web")


class Elements(html.parser.HTMLParser):
    """Scripts, styles and other elements with the text in each."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.found: list[tuple[str, dict, str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes), ""))

    def handle_endtag(self, tag):
        self.found.append((f"/{tag}", {}, ""))

    def handle_data(self, data):
        if self.found:
            tag, attributes, text = self.found[-1]
            self.found[-1] = tag, attributes, text + data

    def of(self, tag):
        return [(attributes, text) for each, attributes, text in self.found if each == tag]

    def block(self, identifier):
        (text,) = (text for attributes, text in self.of("script") if attributes.get("id") == identifier)
        return text


@pytest.fixture(scope="module")
def mnist():
    model = load("mnist")
    data = read_for("mnist-sample", model.manifest)
    return Elements(explorer.render(model, explorer.Examples(data.x, data.conditions), name="mnist")), model, data


def unpack(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def test_page_contains_the_sealed_files_byte_for_byte(mnist):
    page, model, _ = mnist
    for graph in ("decoder", "encoder"):
        assert unpack(page.block(f"graph-{graph}")) == model.sealed(graph)[0].data
    own, base = unpack(page.block("graph-likelihood")), model.sealed("decoder")[0].data
    whole, at = b"", 0
    for start, length in json.loads(page.block("facts"))["likelihood_pieces"]:
        whole += own[at : at + length] if start < 0 else base[start : start + length]
        at += length if start < 0 else 0
    assert whole == model.sealed("likelihood")[0].data
    assert len(own) < 10_000


def test_policy_allows_the_scripts_and_the_style_of_the_page_only(mnist):
    page, _, _ = mnist
    (policy,) = (each["content"] for each, _ in page.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    directives = {name: sources for name, *sources in (each.split() for each in policy.split(";"))}
    assert directives["default-src"] == ["'none'"]
    assert directives["connect-src"] == ["'none'"]
    scripts = [text for each, text in page.of("script") if each.get("type") in (None, "module")]
    digests = {f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts}
    assert {*directives["script-src"]} == digests | {"'wasm-unsafe-eval'"}
    assert not any("src" in each or ("href" in each and each["href"] != "data:,") for _, each, _ in page.found)
    assert not any(name.startswith("on") or name == "style" for _, each, _ in page.found for name in each)


def test_page_of_mnist_is_smaller_than_8_5_megabytes(mnist):
    assert len(mnist[0].text.encode()) < 8_500_000


def test_examples_are_those_of_the_data(mnist):
    page, model, data = mnist
    facts = json.loads(page.block("facts"))
    assert facts["examples"]["num"] == facts["examples"]["numX"] == 600
    (column,) = facts["examples"]["columns"]
    assert [column["name"], column["classes"]] == ["label", list(map(str, range(10)))]
    np.testing.assert_array_equal(column["values"], data.conditions["label"])
    x = np.frombuffer(unpack(page.block("examples-x")), np.uint8).reshape(600, 28, 28, 1)
    np.testing.assert_array_equal(x, data.x)
    z = np.frombuffer(unpack(page.block("examples-z")), "<f4").reshape(600, 16)
    np.testing.assert_array_equal(z, model.encode(data.x, data.conditions["label"])[0])
    components = np.array(facts["components"])
    _, vectors = np.linalg.eigh(np.cov(z.T))
    np.testing.assert_allclose(np.abs(components @ vectors[:, ::-1][:, :2]), np.eye(2), atol=1e-3)
    assert facts["latent"]["order"] == np.argsort(-np.array(facts["latent"]["activity"]), kind="stable").tolist()


def test_large_data_is_thinned_in_equal_steps(tiny):
    x = np.repeat(binary_images(3), 2000, axis=0)
    page = Elements(explorer.render(load(tiny / "unconditional"), explorer.Examples(x), name="m"))
    facts = json.loads(page.block("facts"))["examples"]
    assert facts["num"] == assembly.MAX_EXAMPLES
    shown = np.frombuffer(unpack(page.block("examples-x")), np.uint8).reshape(-1, 8, 6, 1)
    np.testing.assert_array_equal(shown[0], x[0])
    np.testing.assert_array_equal(shown[-1], x[-1])


def test_markup_in_names_cannot_end_the_block_of_facts(tiny):
    name = "</script><script>alert(1)</script><!--"
    labels = {name: (np.arange(3), [name, "&lt;", "'\""])}
    text = explorer.render(load(tiny / "unconditional"), explorer.Examples(binary_images(3), {}, labels), name=name)
    facts = json.loads(Elements(text).block("facts"))
    assert facts["model"] == facts["examples"]["columns"][0]["name"] == name
    assert "alert(1)</script>" not in text


def test_score_of_an_atom_is_the_median_of_its_interval():
    column = {"kind": "numeric", "form": "quantile", "knots": [0.0, 0.0, 7.0, 19.99, 19.99, 30.0]}
    scores = assembly._atom_scores(column | {"scores": [-2.0, -0.5, 0.0, 0.3, 1.2, 2.0]})
    assert [value for value, _ in scores] == [0.0, float(np.float32(19.99))]
    for (_, score), (low, high) in zip(scores, [(-2.0, -0.5), (0.3, 1.2)], strict=True):
        below, between = (math.erf(each / math.sqrt(2)) - math.erf(low / math.sqrt(2)) for each in (score, high))
        assert below == pytest.approx(between / 2)
    assert assembly._atom_scores({"kind": "numeric", "mean": 1.0, "scale": 2.0}) == []
    assert assembly._atom_scores({"kind": "categorical", "classes": ["a"]}) == []


def test_pieces_of_random_files_rebuild_the_file():
    random = np.random.default_rng(0)
    for num in (0, 1, 255, 256, 5000):
        base = random.bytes(num)
        for content in (
            b"",
            base,
            base[300:],
            b"x" + base,
            random.bytes(300) + base[100:4000] + random.bytes(7) + base,
        ):
            pieces, own = assembly._difference(content, base)
            rebuilt, at = b"", 0
            for start, length in pieces:
                rebuilt += own[at : at + length] if start < 0 else base[start : start + length]
                at += length if start < 0 else 0
            assert rebuilt == content
            assert all(length >= 0 for _, length in pieces)


def test_vendored_runtime_has_the_digests_of_its_record():
    record = json.loads(VENDORED.joinpath("version.json").read_text())
    module, wasm = record["sha256"]
    contents = VENDORED.joinpath(module).read_bytes(), gzip.decompress(VENDORED.joinpath(f"{wasm}.gz").read_bytes())
    assert [hashlib.sha256(each).hexdigest() for each in contents] == list(record["sha256"].values())
    assert f"v{record['version']}".encode() in contents[0][:200]
    assert "MIT License" in VENDORED.joinpath("LICENSE").read_text()


def test_every_module_is_part_of_the_page_and_their_names_are_distinct():
    modules = sorted(
        each.name for each in files("kvae_serve.explorer").joinpath("web").iterdir() if each.name.endswith(".js")
    )
    assert modules == sorted(f"{name}.js" for name in assembly._MODULES)
    text = assembly._javascript()
    assert not re.search(r"^(import|export) ", text, re.MULTILINE)
    declared = re.findall(r"^(?:async )?(?:function|const|class|let) (\w+)", text, re.MULTILINE)
    assert len(set(declared)) == len(declared)


def test_page_of_a_model_without_a_decoder_is_refused(tiny):
    with pytest.raises(ModelFileError, match=r"does not include decoder\.onnx"):
        explorer.render(load(tiny / "unconditional" / "encoder.onnx"), name="m")


def test_examples_of_another_shape_are_refused(tiny):
    with pytest.raises(InputDataError, match="shape"):
        explorer.render(load(tiny / "unconditional"), explorer.Examples(np.zeros((2, 3, 3, 1))), name="m")


@pytest.mark.parametrize("source", ["cdn", "http://", "https://x/'; script-src *", "ftp://a/b", "https://a b"])
def test_unknown_runtime_is_refused(source):
    with pytest.raises(RequestError, match="expected inline, beside"):
        explorer.Runtime(source).check()


def test_command_writes_one_page_and_keeps_an_existing_one(kvae, tmp_path):
    done = kvae("explore", "-m", "sprites", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert names(tmp_path) == report["files"] == ["explorer.html"]
    assert report["bytes"] == (tmp_path / "explorer.html").stat().st_size
    assert_refused(kvae("explore", "-m", "sprites"), 7, "explorer.html", "--force")


def test_command_puts_the_runtime_beside_the_page(kvae, tmp_path):
    done = kvae("explore", "-m", "sprites", "-o", "e.html", "--runtime", "beside")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == ["e.html", explorer.Runtime("beside").file_name]
    assert (tmp_path / "e.html").stat().st_size < 3_000_000


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "page.txt"], 2, [".html"]),
        (["--runtime", "cdn"], 2, ["cdn", "inline"]),
        (["--data", "missing.npz"], 4, ["missing.npz"]),
        (["-m", "missing"], 5, ["missing"]),
    ],
)
def test_command_refuses_bad_arguments(kvae, arguments, code, words):
    assert_refused(kvae("explore", *arguments), code, *words)
