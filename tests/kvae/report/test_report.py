"""The HTML report: complete, self-contained, with exact figures, and safe with names from files of strangers."""

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib")

from kvae import report
from kvae.report import page as page_module
from kvae_serve.errors import InputDataError, MissingExtraError
from kvae_serve.model import load

HOSTILE = "<script>alert('x')</script>&$x_1$ \"><img src=http://evil.example/a.png>"
X = (np.random.default_rng(0).random((60, 8, 6, 1)) * 256).astype(np.uint8)
LABEL = np.arange(60) % 3
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Sections by name, each with its text and tags. A tag that is not closed properly is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.data, self.text = [], [], [], ""
        self.sections, self.inside = {}, None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self.inside = dict(attributes)["id"]
            self.sections[self.inside] = {"text": "", "tags": []}
        if self.inside:
            self.sections[self.inside]["tags"].append(tag)
        if tag == "data":
            self.data.append((self.inside, float(dict(attributes)["value"])))

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self.inside = None

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            return
        self.text += data
        if self.inside:
            self.sections[self.inside]["text"] += data


def charts_of(text):
    """Return the SVG source of every chart; each is well-formed and contains no script and no reference."""
    sources = [base64.b64decode(code).decode() for code in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text)]
    for source in sources:
        for element in ElementTree.fromstring(source).iter():
            assert not element.tag.endswith(("script", "foreignObject"))
            for name, value in element.attrib.items():
                assert not name.startswith("on")
                assert not name.endswith("href") or value.startswith("#")
    return "".join(sources)


def assert_loads_nothing(page):
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "foreignobject"), tag
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            if name in ("src", "href", "xlink:href", "action", "srcset", "poster"):
                assert value.startswith(("data:image/png;base64,", "data:image/svg+xml;base64,", "#")), value
            assert "url(" not in (value or "").replace("url(#", ""), value


@pytest.fixture(scope="module")
def conditional(tiny):
    model = load(tiny / "conditional")
    document = model.evaluate(X, {"label": LABEL}, importance_samples=3)
    history = {"epoch": [0.0, 1.0], "elbo": [-30.0, -20.0], "val_elbo": [float("nan"), -21.0], HOSTILE: [1.0, 2.0]}
    return model, document, report.render(model, document, X, {"label": LABEL}, history=history)


def test_page_of_images_has_every_section_and_loads_nothing(conditional):
    _, _, text = conditional
    page = Page(text)
    names = ["figures", "history", "reconstructions", "samples", "kl", "traversals", "latent"]
    assert list(page.sections) == names
    for name in names:
        assert "Skipped" not in page.sections[name]["text"], name
        assert {"table", "img"} & set(page.sections[name]["tags"]), name
    assert page.sections["reconstructions"]["tags"].count("img") == 24
    assert page.sections["samples"]["tags"].count("img") == 3  # a strip for each class
    assert_loads_nothing(page)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]+)', text)
    assert targets
    assert set(targets) <= set(ids)


def test_page_shows_the_figures_of_the_evaluation(conditional):
    _, document, text = conditional
    shown = [value for where, value in Page(text).data if where == "figures"]
    for name, figure in document["figures"].items():
        assert figure["mean"] in shown, name
        assert figure["standard_error"] in shown, name
    by_dim = [value for where, value in Page(text).data if where == "kl"]
    assert set(document["kl_per_dimension"]) <= set(by_dim)


def test_traversals_are_ordered_by_kl(conditional):
    _, document, text = conditional
    values = document["kl_per_dimension"]
    walked = re.findall(r"<b>z(\d+)<small>", text)
    assert [int(dim) for dim in walked] == sorted(range(len(values)), key=lambda dim: -values[dim])[:10]


def test_columns_of_strips_have_names_and_a_transparent_gap(conditional):
    *_, text = conditional
    samples, traversals = text.split('<section id="samples">')[1].split('<section id="traversals">')
    assert re.findall(r"<span>([^<]*)</span>", samples)[:12] == [str(at) for at in range(12)]
    shown = re.findall(r"<span>([^<]*)</span>", traversals)[:11]
    np.testing.assert_allclose([float(each.replace("−", "-")) for each in shown], np.linspace(-3, 3, 11), atol=1e-9)
    strip = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", traversals)[1])
    with Image.open(io.BytesIO(strip)) as picture:
        alpha = np.asarray(picture)[0, :, -1]  # 11 images that are 6 pixels wide, with gaps of 2
    assert alpha.tolist() == ([255] * 6 + [0] * 2) * 10 + [255] * 6


def test_page_does_not_depend_on_matplotlib_settings(conditional):
    import matplotlib

    model, document, text = conditional
    history = {"epoch": [0.0, 1.0], "elbo": [-30.0, -20.0], "val_elbo": [float("nan"), -21.0], HOSTILE: [1.0, 2.0]}
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path"}):
        assert report.render(model, document, X, {"label": LABEL}, history=history) == text
        assert matplotlib.rcParams["font.size"] == 30


class Table:
    """A table model in numpy with the methods that a page uses, and with hostile names."""

    def __init__(self):
        from kvae_serve.sealed.manifest import Manifest

        self.manifest = Manifest.from_dict(
            {
                "format": 1, "graph": "decoder", "model_id": "0" * 64, "name": HOSTILE, "kind": "vae", "latent_dim": 3,
                "data": {
                    "kind": "table", "shape": [2], "range": None,
                    "columns": [
                        {"name": HOSTILE, "kind": "numeric", "mean": 0.0, "scale": 1.0},
                        {"name": "city", "kind": "categorical", "classes": ["$a_b$", "<svg onload=x>", "c-->"]},
                    ],
                },
                "conditions": [], "likelihood": {"name": "mixed"}, "prior": {"name": "standard_normal"},
            }
        )  # fmt: skip

    def has(self, graph):
        return graph != "encoder"

    def rows(self, z):
        return np.stack([z[..., 0], np.abs(z[..., 1]) // 1 % 3], axis=-1).astype(np.float32)

    def sample(self, num, conditions=None, seed=0, **options):
        from types import SimpleNamespace

        return SimpleNamespace(x=self.rows(np.random.default_rng(seed).standard_normal((num, 3))))

    def traverse(self, dims, conditions, steps, span):
        from types import SimpleNamespace

        z = np.zeros((1, len(dims), steps, 3))
        for at, dim in enumerate(dims):
            z[0, at, :, dim] = np.linspace(*span, steps)
        activity = SimpleNamespace(values=np.ones(3), unit="nats of kl")
        return SimpleNamespace(x=self.rows(z), dims=dims, values=np.linspace(*span, steps), activity=activity)


@pytest.fixture(scope="module")
def of_table(conditional):
    _, document, _ = conditional
    document = document | {"model": HOSTILE, "data": f"/home/someone/{HOSTILE}", "kl_per_dimension": [0.1, 0.9, 0.5]}
    model = Table()
    return report.render(model, document, model.sample(60, seed=1).x)


def test_page_of_a_table_has_marginals_and_names_skipped_sections(of_table):
    page = Page(of_table)
    assert page.sections["marginals"]["tags"].count("img") == 2
    assert "table" in page.sections["samples"]["tags"]
    assert page.sections["traversals"]["tags"].count("table") == 3
    for name, word in (("history", "--history FILE"), ("reconstructions", "no encoder"), ("latent", "no encoder")):
        assert "Skipped" in page.sections[name]["text"]
        assert word in page.sections[name]["text"]


def test_axis_of_a_date_column_has_dates_and_empty_classes_have_a_name():
    from kvae.report import examples

    seconds = np.linspace(0, 4 * 365 * 86_400, 500)
    column = {"name": "born", "kind": "numeric", "format": "%Y-%m-%d", "offset": 1_577_836_800}  # 1 January 2020
    assert {"2020", "2022", "2024"} <= set(
        re.findall(r">(\d+)</text>", svg_of(examples._marginal(column, seconds, seconds)))
    )
    classes = {"name": "size", "kind": "categorical", "classes": ["", "big"]}
    index = np.array([0.0, 1.0])
    assert ">(empty)</text>" in svg_of(examples._marginal(classes, index, index))


def svg_of(picture):
    return base64.b64decode(picture.address.partition(",")[2]).decode()


def test_names_from_files_are_shown_as_text(of_table, conditional):
    for text in (of_table, conditional[2]):
        page = Page(text)
        assert_loads_nothing(page)
        assert "<script" not in text
        assert "onload=x>" not in text.replace("&lt;svg onload=x&gt;", "")
    assert "<script>alert('x')" in Page(of_table).text
    assert "$a_b$" in Page(of_table).text + charts_of(of_table)  # not set as a formula
    assert "/home/someone" not in of_table


def test_bad_history_is_an_error_and_missing_one_only_if_needed(tmp_path):
    assert report.read_history(tmp_path / "history.csv", needed=False) is None
    with pytest.raises(InputDataError, match="Give the history"):
        report.read_history(tmp_path / "history.csv")
    for bad in ("", "epoch,elbo\n1\n", "epoch,elbo\n1,x\n", "elbo\n1\n"):
        (tmp_path / "history.csv").write_text(bad)
        with pytest.raises(InputDataError, match="not the history"):
            report.read_history(tmp_path / "history.csv", needed=False)
    (tmp_path / "history.csv").write_text("epoch,elbo,val_elbo\n0,-3.5,NA\n")
    found = report.read_history(tmp_path / "history.csv")
    assert found["elbo"] == [-3.5]
    assert np.isnan(found["val_elbo"][0])


def test_labels_of_the_data_colour_the_latent_space_of_an_unconditional_model(tmp_path, tiny):
    model = load(tiny / "unconditional")
    shape = model.manifest.data.shape
    x = (np.random.default_rng(0).random((20, *shape)) * 256).astype(np.uint8)
    np.savez(tmp_path / "data.npz", x=x, label=np.arange(20) % 4)
    labels = report.read_labels(str(tmp_path / "data.npz"), model.manifest, None)
    document = model.evaluate(x, importance_samples=2)
    page = Page(report.render(model, document, x, labels=labels))
    assert "coloured by label" in page.sections["latent"]["text"]
    assert "the data have no labels" in Page(report.render(model, document, x)).sections["latent"]["text"].lower()


def test_projection_matches_the_eigenvalues_of_the_covariance():
    from kvae.report.results import project

    codes = np.random.default_rng(0).standard_normal((500, 6)) * [1, 5, 0.1, 3, 0.2, 0.3]
    places, share = project(codes)
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(codes.T)))[::-1]
    np.testing.assert_allclose(places.var(0, ddof=1), eigenvalues[:2], rtol=1e-10)
    assert share == pytest.approx(eigenvalues[:2].sum() / eigenvalues.sum())
    np.testing.assert_allclose(project(codes + 7)[0], places, atol=1e-9)


def test_command_writes_the_page_with_the_history_of_the_model(kvae, tiny, tmp_path):
    shutil.copytree(tiny / "conditional", tmp_path / "model")
    (tmp_path / "model" / "history.csv").write_text("epoch,elbo\n0,-3.5\n1,-3.0\n")
    np.savez(tmp_path / "data.npz", x=X, label=LABEL)
    command = ["evaluate", "-m", "model", "--data", "data.npz", "--importance-samples", 2, "-q"]
    done = kvae(*command, "-o", "report.html")
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "2 epochs" in page.sections["history"]["text"]
    assert kvae(*command, "-o", "report.html").returncode == 7
    assert kvae(*command, "--history", "x.csv").returncode == 2
    assert kvae(*command, "--history", "x.csv", "-o", "other.html").returncode == 4


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_missing_package_names_the_extra_before_long_work(package, monkeypatch):
    monkeypatch.setattr(page_module, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingExtraError, match=rf"{package}.*kvae-onnx\[evaluate\]"):
        report.require()


def test_page_shows_sample_quality_next_to_real_images(conditional):
    model, document, _ = conditional
    judge = {"digest": "0123", "accuracy": 0.99, "kept": "x"}
    about = {"n": 60, "images": "means", "temperature": 1.0, "seed": 0, "classifier": judge}
    found = {
        "coverage": {"value": 0.625, "floor": 0.875, "n": 60, "k": 5},
        "label_consistency": {"value": None, "floor": None, "n": 60, "left_out": "there are no labels"},
    }
    text = report.render(model, document | {"samples": found, "samples_measured": about}, X, {"label": LABEL})
    page = Page(text)
    assert [value for where, value in page.data if where == "sample-figures"] == [0.625, 0.875, 60]
    assert "Skipped: label consistency" in page.sections["sample-figures"]["text"]
