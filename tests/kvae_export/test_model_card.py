"""Model cards: their text follows the manifest and the files."""

from kvae_export.model_card import GraphFile, render
from kvae_serve.evaluation.card import with_measured

MANIFEST = {
    "format": 1,
    "model_id": "0123456789abcdef" * 4,
    "name": "mnist",
    "kind": "conditional-vae",
    "latent_dim": 16,
    "data": {"kind": "image", "shape": [28, 28, 1], "range": [0, 255]},
    "conditions": [{"name": "label", "kind": "categorical", "classes": list("0123456789")}],
    "likelihood": {"name": "bernoulli"},
    "prior": {"name": "standard_normal"},
    "training": {
        "dataset": "mnist", "examples": 55000, "epochs": 60, "beta": {"name": "constant", "value": 1.0}, "seed": 0,
        "validation": {"elbo": -90.1, "reconstruction": 70.0, "kl": 20.1, "examples": 5000, "binarisation": "drawn"},
        "versions": {"kvae": "0.1.0", "keras": "3.15.1"}, "optimizer": "adam",
    },
}  # fmt: skip
FILES = [
    GraphFile("encoder.onnx", 1_234_567, {"x": ((28, 28, 1), "float32"), "label": ((), "int64")}, {"z_mean": (16,)}),
    GraphFile("decoder.onnx", 540_123, {"z": ((16,), "float32"), "label": ((), "int64")}, {"x_mean": (28, 28, 1)}),
]


def test_card_states_manifest_and_files():
    card = render(MANIFEST, FILES, preview=True)
    for words in (
        "# mnist\n",
        "conditional variational autoencoder",
        "trained on mnist",
        "![Samples from the model](preview.png)",
        "| Data | image, 28 x 28 x 1 (height x width x channels), 0 to 255 |",
        "| Condition label | 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 |",
        "| Prior | N(0, I) |",
        "| Beta | constant (value 1.0) |",
        "| Optimizer | adam |",
        "| Versions | keras 3.15.1, kvae 0.1.0 |",
        "On 5000 validation examples",
        "| elbo | -90.10 |",
        "| kl | 20.10 |",
        "| Binarisation | drawn |",
        "1,234,567",
        "`label` int64 [batch]",
        "`x_mean` float32 [batch, 28, 28, 1]",
        "kvae sample -m . --label 9 -o samples.png",
        'kvae.load(".")',
        'label="9"',
        "binarised data",
    ):
        assert words in card, words
    assert card == render(MANIFEST, FILES, preview=True)
    assert "\n\n\n" not in card


def test_card_of_a_minimal_manifest_states_missing_information():
    plain = {
        **MANIFEST, "kind": "vae", "conditions": [], "training": None, "likelihood": {"name": "gaussian"},
        "data": {"kind": "vector", "shape": [5], "range": None}, "prior": {"name": "vamp", "log_weights": [0.0] * 500},
    }  # fmt: skip
    card = render(plain, FILES[:1], preview=False)
    assert "No training information was recorded" in card
    assert "unbounded" in card
    assert "preview.png" not in card
    assert "kvae sample" not in card  # Without a decoder there is nothing to sample.
    assert "binarised" not in card
    assert "| Prior | vamp |" in card
    assert "--label" not in render({**plain, "kind": "vae"}, FILES, preview=False)


def test_card_of_a_table_counts_its_columns_and_draws_a_csv():
    columns = {"conditions": [], "data": {"kind": "table", "shape": [7], "range": None}}
    card = render({**MANIFEST, **columns, "likelihood": {"name": "mixed"}}, FILES, preview=False)
    assert "| Data | table of 7 columns |" in card
    assert "kvae sample -m . -o samples.csv" in card


def test_names_are_escaped_for_markdown_and_shell():
    conditions = [{"name": "style", "kind": "categorical", "classes": ["a|b", "it's <b>", "x\ny"]}]
    card = render({**MANIFEST, "name": "my_*model*\n# big", "conditions": conditions}, FILES, preview=False)
    assert card.startswith("# my\\_\\*model\\*\\\\n# big\n")
    assert "a\\|b" in card
    assert "\\<b\\>" in card
    assert "x\ny" not in card
    assert "--condition 'style=x\\ny'" in card


def test_backticks_in_names_stay_inside_code():
    from markdown_it import MarkdownIt

    names = ["a`b", "``", "`", "c``<b>|d", "`[x](http://a)"]
    files = [GraphFile("decoder.onnx", 1, dict.fromkeys(names, ((), "int64")), {"x_mean": (4,)})]
    card = render({**MANIFEST, "name": "a`<b>`", "kind": "x`<i>"}, files, preview=False)
    card = with_measured(card, "kvae evaluate -m 'a``b<b>'", ["elbo  -85"])
    tokens = MarkdownIt("commonmark").enable("table").parse(card)
    inline = [each for token in tokens for each in token.children or ()]
    code = [each.content for each in inline if each.type == "code_inline"]
    assert set(names) <= set(code)
    assert "kvae evaluate -m 'a``b<b>'" in code
    assert not [each for each in inline if each.type == "html_inline"]
    links = [each.attrs["href"] for each in inline if each.type == "link_open"]
    assert links == ["https://github.com/kvae-onnx/kvae"]
