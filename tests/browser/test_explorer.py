"""The page of `kvae explore` in headless Chromium without a network, held against the Python runtime."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kvae_serve import cells, explorer
from kvae_serve.model import load
from kvae_serve.readers import read_for
from support.paths import python_path
from support.tiny import binary_images, resealed

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
SHIPPED = ("mnist", "mnist-vae", "fashion", "sprites", "emoji-faces")
DRAW = (
    "async ([seed, start, num, values, heat]) => Array.from(await explorer.model.draw(seed, start, num, values, heat))"
)
DECODE = "async ([z, values]) => Array.from((await explorer.model.decode(z, values)).get('x_mean'))"


@pytest.fixture(scope="module")
def chromium():
    pytest.importorskip("playwright", reason="Playwright is not installed: pip install playwright")
    from playwright.sync_api import sync_playwright

    from support.browser import chromium

    if not (path := chromium()):
        pytest.skip("Chromium is neither installed nor available from Debian or Playwright")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """Write the page of a model and open it in a browser without a network: `opened(path, data, width=360)`."""
    from support.browser import Page

    with contextlib.ExitStack() as stack:

        def open_page(model, examples=None, *, width=1280, fragment="", address="", name="model", offline=True, **more):
            loaded = load(model)
            page = tmp_path / f"{len(list(tmp_path.iterdir()))}.html"
            explorer.write(str(page), loaded, examples, name=name, **more)
            context = chromium.new_context(
                viewport={"width": width, "height": 800},
                offline=offline,
                has_touch=width < 500,
                reduced_motion="reduce",
            )
            stack.callback(context.close)
            return Page(context, page, fragment, address and f"{address}/{page.name}")

        yield open_page


def digits(model):
    """The digits that ship with kvae, as examples of a model."""
    data = read_for("mnist-sample", load(model).manifest)
    return explorer.Examples(data.x, data.conditions)


def drawn_examples(model, page, values, num=4):
    """x of draws in Python and in the page, `[num, values]` each."""
    conditions = {each.name: value for each, value in zip(model.manifest.conditions, values, strict=True)}
    want = model.sample(num, conditions=conditions, seed=5, start=3, draw=True).x.reshape(num, -1)
    code = "async ([values, num]) => Array.from(await explorer.model.sample('5', 3, num, values, 1, true))"
    return want, np.reshape(page.run(code, [values, num]), want.shape)


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_drawn_images_equal_those_of_the_command(name, opened):
    want, got = drawn_examples(load(name), opened(name), [3])
    assert (want != got).mean() < 1e-3  # a uniform may lie between two probabilities that differ in the last bit


@pytest.mark.parametrize("name", ["table", "sequence", "rgb"])
def test_drawn_rows_equal_those_of_the_command(name, opened, trained):
    values = [2, 3.25] if name == "rgb" else []
    want, got = drawn_examples(load(trained / name), opened(trained / name), values, num=40)
    np.testing.assert_allclose(got, want, atol=1e-4 * np.nanmax(np.abs(want)))


def test_drawn_rows_of_dependent_columns_equal_those_of_the_command(opened, trained):
    model, page = load(trained / "dependent"), opened(trained / "dependent")
    assert page.tab.inner_text("#badge-text") == "✓ verified in this browser: 4 of 4 graphs"
    want, got = drawn_examples(model, page, [], num=300)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got / np.nanstd(want, axis=0), want / np.nanstd(want, axis=0), atol=1e-4)
    # The draws contain what they are to compare: missing cells, atoms, and several classes.
    names = [column["name"] for column in model.manifest.data.columns]
    column = dict(zip(names, want.T, strict=True))
    assert [name for name in names if np.isnan(column[name]).any()] == ["spend", "age", "gain"]
    for value in (0, 19.99):
        assert (column["spend"] == np.float32(value)).sum() > 3
    assert [len({*column[name][~np.isnan(column[name])]}) > 2 for name in ("shop", "age", "colour")] == [True] * 3


def test_spread_of_a_mixture_is_in_data_units_and_of_standard_numbers_only(opened, trained):
    model, page = load(trained / "dependent"), opened(trained / "dependent")
    outputs = model.run("decoder", {"z": model.sample(1, seed=0).z})
    shown = {}
    for row in page.tab.locator("#stage tr").all():
        spans = [text for text in row.locator("span.soft").all_inner_texts() if "±" in text]
        shown[row.locator("th").inner_text()] = float(spans[0].replace("±", "")) if spans else None
    random = np.random.default_rng(0)
    for at, column in enumerate(model.manifest.data.columns):
        if column["name"] not in ("height", "gain"):
            assert shown[column["name"]] is None
            continue
        weight, mean, log_var = (outputs[f"x_{name}"][0, :, at] for name in ("weight", "score", "log_var"))
        chosen = random.choice(3, size=400_000, p=weight / weight.sum(dtype="f8"))
        drawn = column["mean"] + column["scale"] * random.normal(mean[chosen], np.exp(log_var[chosen] / 2))
        assert shown[column["name"]] == pytest.approx(drawn.std(), rel=0.02)


def test_page_without_columns_onnx_shows_the_means_of_dependent_columns(opened, trained, tmp_path):
    folder = tmp_path / "partial"
    shutil.copytree(trained / "dependent", folder, ignore=shutil.ignore_patterns("columns.onnx"))
    page = opened(folder)
    assert page.errors == []
    assert page.tab.locator("#drawn").is_hidden()
    assert page.tab.inner_text("#gallery-help").endswith("of kvae sample --mean.")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder of the models of `support.make_explorer_models`."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("models")
    script = ROOT / "tests/support/make_explorer_models.py"
    environment = {**os.environ, "PYTHONPATH": python_path(), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, script, folder], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


def examples_of(model: Path, data: Path):
    read = read_for(data, load(model).manifest)
    return explorer.Examples(read.x, read.conditions)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_model_is_verified_in_the_browser_without_a_request(name, opened):
    page = opened(name)
    graphs = len(load(name).graphs)
    assert page.tab.inner_text("#badge-text") == f"✓ verified in this browser: {graphs} of {graphs} graphs"
    assert page.requests == [page.tab.url.partition("#")[0]]
    assert page.errors == []


@pytest.mark.parametrize(
    "name", [*SHIPPED, "conditional", "gaussian_prior", "mixture_prior", "linear_several", "linear_mixture"]
)
def test_samples_of_a_seed_equal_those_of_the_command(name, opened, tiny):
    path = name if name in SHIPPED else tiny / name
    model, page = load(path), opened(path)
    values = [1 if each.categorical else 0.25 for each in model.manifest.conditions]
    conditions = {each.name: value for each, value in zip(model.manifest.conditions, values, strict=True)}
    for seed, start, heat in ((2**64 - 1, 5, 1), (12, 2**40, 0.7)):
        want = model.sample(3, conditions=conditions, seed=seed, start=start, temperature=heat)
        z = page.run(DRAW, [str(seed), start, 3, values, heat])
        np.testing.assert_allclose(np.reshape(z, want.z.shape), want.z, atol=1e-5)
        x = np.reshape(page.run(DECODE, [z, values]), want.x.shape)
        np.testing.assert_allclose(x, want.x, atol=1e-5 * np.ptp(want.x))


def test_gallery_shows_the_images_of_kvae_sample(opened):
    page = opened("mnist")
    page.tab.fill("#seed", "7")
    page.tab.press("#seed", "Enter")
    page.tab.check("input[name=condition-0] >> nth=3", force=True)
    page.tab.wait_for_selector('#gallery[data-shown="7 0 3 1"]')
    want = load("mnist").sample(16, label="3", seed=7).x.reshape(16, -1)
    shown = np.array(page.pixels("#gallery canvas"))
    assert np.abs(shown - want).max() <= 0.51  # a pixel is rounded


def test_slider_moves_one_dimension_of_the_picture(opened):
    page = opened("mnist", digits("mnist"))
    before = page.pixels("#stage canvas")
    z = page.run("async () => Array.from(await explorer.toZ())")
    slider = page.tab.locator("#sliders input").first
    dimension = int(slider.get_attribute("id")[1:])
    slider.fill("2.5")
    page.settle()
    moved = page.run("async () => Array.from(await explorer.toZ())")
    assert [i for i, (a, b) in enumerate(zip(z, moved, strict=True)) if a != b] == [dimension]
    assert moved[dimension] == 2.5
    after = np.array(page.pixels("#stage canvas"))
    assert np.abs(after - before).max() > 20
    want = load("mnist").decode(np.array([moved]), label="0").ravel()
    assert np.abs(after.ravel() - want).max() <= 0.51


def test_drawn_digit_is_encoded_and_scored_like_kvae_score(opened):
    page = opened("mnist", digits("mnist"))
    mouse = page.tab.mouse
    page.tab.locator("#drawing").scroll_into_view_if_needed()
    box = page.tab.locator("#drawing").bounding_box()
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.2 * box["height"])
    mouse.down()
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"], steps=12)
    mouse.up()
    page.tab.click("#best")  # a vertical stroke is a one
    page.tab.wait_for_selector("#conditions input:checked")
    page.settle()
    page.tab.wait_for_timeout(1500)
    assert page.run("() => explorer.values") == [1]
    x = np.array(page.run("() => Array.from(explorer.input)")).reshape(1, 28, 28, 1)
    assert x.max() == 255
    model = load("mnist")
    want = model.score(x, label="1")
    assert float(page.tab.get_attribute("#score", "data-elbo")) == pytest.approx(want.elbo[0], abs=0.01)
    assert "of the held-out data" in page.tab.inner_text("#score")
    shown = np.array(page.pixels("#reconstruction canvas")).ravel()
    assert np.abs(shown - model.reconstruct(x, label="1").ravel()).max() <= 0.51
    z_mean, z_log_var = model.encode(x, label="1")
    posterior = page.run("() => [Array.from(explorer.posterior.mean), Array.from(explorer.posterior.logVar)]")
    np.testing.assert_allclose(posterior, [z_mean[0], z_log_var[0]], atol=1e-3)
    np.testing.assert_allclose(page.run("async () => Array.from(await explorer.toZ())"), z_mean[0], atol=1e-3)


@pytest.mark.parametrize("name", ["linear_mixture", "linear_label", "linear_several"])
def test_elbo_under_learned_priors_equals_kvae_score(name, opened, tiny):
    model, page = load(tiny / name), opened(tiny / name)
    x = np.linspace(-2, 9, 5, dtype=np.float32)
    values = [1 if each.categorical else 0.25 for each in model.manifest.conditions]
    conditions = {each.name: value for each, value in zip(model.manifest.conditions, values, strict=True)}
    got = page.run("([x, values]) => explorer.model.score(x, values)", [x.tolist(), values])
    want = model.score(x[None], conditions=conditions)
    for key in ("elbo", "reconstruction", "kl"):
        assert got[key] == pytest.approx(getattr(want, key)[0], rel=1e-4)


def test_dropped_image_is_cropped_scaled_and_encoded(opened, tmp_path):
    picture = np.zeros((56, 84), np.uint8)
    picture[:, 38:46] = 255  # a bar in the centre
    Image.fromarray(picture).save(tmp_path / "bar.png")
    page = opened("mnist-vae")
    page.tab.set_input_files("input[type=file]", tmp_path / "bar.png")
    page.tab.wait_for_selector("#score b")
    x = np.array(page.run("() => Array.from(explorer.input)")).reshape(28, 28)
    assert x[:, 12:16].mean() > 200
    assert x[:, :11].max() == x[:, 17:].max() == 0


def test_map_moves_the_point_and_a_click_on_an_example_encodes_it(opened):
    examples = digits("mnist-vae")
    page = opened("mnist-vae", examples)
    page.tab.locator("#map").focus()
    before = page.run("() => Array.from(explorer.u)")
    page.tab.keyboard.press("Shift+ArrowRight")
    page.settle()
    assert page.run("() => Array.from(explorer.u)") != before
    box = page.tab.locator("#map").bounding_box()
    page.tab.mouse.move(box["x"] + 2, box["y"] + 2)
    page.settle()
    assert page.run("() => explorer.preview !== null")
    for step in range(400):  # examples are dense in the centre
        at = 0.4 + 0.2 * (step % 20) / 20, 0.4 + 0.2 * (step // 20) / 20
        page.tab.mouse.click(box["x"] + at[0] * box["width"], box["y"] + at[1] * box["height"])
        if page.run("() => Boolean(explorer.input)"):
            break
    page.tab.wait_for_selector("#score b")
    number = int(page.tab.input_value("#example"))
    np.testing.assert_array_equal(page.run("() => Array.from(explorer.input)"), examples.x[number].ravel())
    np.testing.assert_allclose(
        page.run("() => Array.from(explorer.posterior.mean)"),
        load("mnist-vae").encode(examples.x[number : number + 1])[0][0],
        atol=1e-3,
    )


def test_wheel_zooms_the_map_around_the_pointer_and_a_key_resets_it(opened):
    page = opened("mnist-vae")
    canvas = page.tab.locator("#map")
    box = canvas.bounding_box()

    def plane(across, down):
        """Coordinates in the plane below a place of the map, both as text and as numbers."""
        page.tab.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])
        page.settle()
        return [float(each.split()[-1]) for each in page.run("() => explorer.preview.text").split(", ")]

    def width():
        return plane(0.98, 0.5)[0] - plane(0.02, 0.5)[0]

    whole, scrolled = width(), page.run("() => scrollY")
    page.tab.mouse.wheel(0, 120)  # without the focus, the page scrolls
    page.tab.wait_for_function("before => scrollY !== before", arg=scrolled)
    page.run("() => scrollTo(0, 0)")
    box = canvas.bounding_box()
    assert width() == pytest.approx(whole, abs=0.03)
    canvas.focus()
    box = canvas.bounding_box()
    below = plane(0.25, 0.25)
    page.tab.mouse.wheel(0, -600)
    page.settle()
    assert plane(0.25, 0.25) == pytest.approx(below, abs=0.03)
    assert width() == pytest.approx(whole * np.exp(-0.9), rel=0.03)
    page.tab.keyboard.press("0")
    page.settle()
    assert width() == pytest.approx(whole, abs=0.03)
    page.tab.keyboard.press("+")
    page.settle()
    assert width() == pytest.approx(whole / 1.25, rel=0.03)


def test_path_and_palette_blend_the_corners(opened):
    page = opened("mnist-vae")
    page.tab.fill("#t", "0.5")
    page.settle()
    model = load("mnist-vae")
    ends = model.sample(4, seed=0).z
    middle = model.interpolate(ends[0], ends[1], steps=3).z[0, 1]
    np.testing.assert_allclose(page.run("async () => Array.from(await explorer.toZ())"), middle, atol=1e-5)
    page.tab.locator("#palette-canvas").focus()
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("ArrowLeft")
    page.settle()
    centre = page.run("async () => Array.from(await explorer.toZ())")
    np.testing.assert_allclose(centre, ends.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("moved", [False, True], ids=["sample", "chosen point"])
def test_copied_command_and_python_give_the_shown_picture(moved, opened, tmp_path):
    page = opened("mnist", name="mnist")
    page.tab.check("input[name=condition-0] >> nth=5", force=True)
    page.tab.fill("#seed", "99")
    page.tab.press("#seed", "Enter")
    page.settle()
    if moved:
        page.tab.locator("#sliders input").first.fill("-1.5")
    page.settle()
    page.tab.wait_for_timeout(600)
    environment = {**os.environ, "PYTHONPATH": python_path()}
    script = f'set -e\nkvae() {{ "{sys.executable}" -m kvae "$@" --plain; }}\n{page.tab.text_content("#command")}\n'
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    code = page.tab.text_content("#python") + "\nimport numpy\nnumpy.save('x.npy', x)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    shown = np.array(page.pixels("#stage canvas")).ravel()
    assert np.abs(shown - np.load(tmp_path / "x.npy").ravel()).max() <= 0.51
    with Image.open(tmp_path / "picture.png") as picture:
        want = np.asarray(picture.convert("L")).astype(int)
    assert np.abs(shown.reshape(28, 28) - want).max() <= 1


def test_png_download_is_the_enlarged_picture(opened, tmp_path):
    page = opened("mnist")
    with page.tab.expect_download() as download:
        page.tab.click("#download")
    download.value.save_as(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        pixels = np.asarray(picture.convert("L")).astype(int)
    assert pixels.shape == (280, 280)
    want = load("mnist").sample(1, label="0", seed=0).x.reshape(28, 28)
    assert np.abs(pixels[5::10, 5::10] - want).max() <= 0.51


def test_state_survives_in_the_address(opened):
    page = opened("mnist")
    page.tab.check("input[name=condition-0] >> nth=8", force=True)
    page.tab.locator("#sliders input").first.fill("1.25")
    page.tab.wait_for_timeout(1000)
    u = page.run("() => Array.from(explorer.u)")
    page.tab.reload()
    page.tab.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
    assert page.run("() => explorer.values") == [8]
    np.testing.assert_allclose(page.run("() => Array.from(explorer.u)"), u, atol=1e-4)


def test_address_that_does_not_fit_is_ignored(opened):
    page = opened("mnist", fragment="#u=1 2 nan&conditions=99&seed=abc&temperature=-4&sample=-1")
    assert page.run("() => [explorer.values[0], explorer.seed, explorer.temperature, explorer.index]") == [0, "0", 1, 0]
    assert page.errors == []


def test_keyboard_reaches_every_control_with_a_name_and_a_visible_focus(opened):
    page = opened("mnist", digits("mnist"))
    reached = []
    for _ in range(140):
        page.tab.keyboard.press("Tab")
        each = page.run(
            """() => {
              const now = document.activeElement;
              const width = (each) => (each ? parseFloat(getComputedStyle(each).outlineWidth) : 0);
              const ring = width(now) > 1 || width(now.nextElementSibling) > 1;
              const name = now.getAttribute("aria-label") || now.labels?.[0]?.textContent || now.textContent;
              return { id: now.id, tag: now.tagName, name: name.trim(), ring };
            }"""
        )
        if each["tag"] == "BODY":
            break
        assert each["name"], each
        assert each["ring"], each
        reached.append(each["id"])
    controls = {
        "new-seed",
        "centre",
        "download",
        "seed",
        "temperature",
        "axis-x",
        "map",
        "drawing",
        "example",
        "t",
        "palette-canvas",
    }
    assert controls <= set(reached)
    assert sum(each.startswith("z") for each in reached) >= 8
    page.tab.locator("#conditions input").first.focus()
    page.tab.keyboard.press("ArrowRight")
    page.settle()
    assert page.run("() => explorer.values") == [1]
    page.tab.locator("#drawing").focus()
    page.tab.keyboard.press("Space")
    page.tab.wait_for_selector("#score b")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["mnist", "table", "sequence", "rgb"])
def test_page_fits_the_width_of_the_screen(name, width, opened, trained, tmp_path_factory):
    data = {"table": "rows.csv", "sequence": "waves.npz", "rgb": "blobs.npz"}
    path = name if name in SHIPPED else trained / name
    page = opened(path, digits(name) if name in SHIPPED else examples_of(path, trained / data[name]), width=width)
    page.tab.fill("#example", "3")
    page.tab.wait_for_selector("#score b")
    page.settle()
    assert page.run("() => document.documentElement.scrollWidth") <= width
    assert page.errors == []
    folder = Path(os.environ.get("KVAE_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    page.tab.screenshot(path=folder / f"{name}-{width}.png", full_page=True)


def test_small_copy_of_the_picture_is_in_sight_while_the_sliders_are(opened):
    page = opened("mnist", width=360)
    assert page.tab.locator("#mini").is_hidden()
    page.tab.locator("#path-title").scroll_into_view_if_needed()
    page.tab.wait_for_selector("#mini", state="visible")
    page.tab.locator("#t").fill("0.4")
    page.settle()
    assert page.pixels("#mini") == page.pixels("#stage canvas")


def test_first_picture_needs_less_than_two_seconds_of_the_main_thread(chromium, tmp_path):
    page = tmp_path / "page.html"
    explorer.write(str(page), load("mnist"), digits("mnist"), name="mnist")
    context = chromium.new_context(offline=True)
    tab = context.new_page()
    session = context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # its own time, whatever else runs here
    tab.goto(page.as_uri())
    tab.wait_for_selector("html[data-first-picture]", state="attached", timeout=120_000)
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    context.close()
    assert metrics["TaskDuration"] < 2


def test_table_has_a_form_rows_and_class_bars(opened, trained):
    page = opened(trained / "table", examples_of(trained / "table", trained / "rows.csv"))
    assert page.tab.inner_text("#stage").split()[0] == "species"
    assert "Gentoo" in page.tab.inner_text("#stage .bars >> nth=0")
    model = load(trained / "table")
    want = model.sample(16, seed=0)
    columns = model.manifest.data.columns
    written = [cells.texts(column, want.x[:, i]) for i, column in enumerate(columns)]
    shown = [row.locator("td").all_inner_texts() for row in page.tab.locator("#gallery tbody tr").all()]
    assert [[cell.replace("missing", "") for cell in row] for row in shown] == [
        list(row) for row in zip(*written, strict=True)
    ]
    assert "" in written[1]
    assert "table of 4 columns" in page.tab.inner_text("#subtitle")
    captions = page.tab.locator("#input-panel figcaption")
    assert not any(each.is_visible() for each in captions.all())
    page.tab.select_option("#column-0", label="Gentoo")
    page.tab.fill("#column-1", "4500")
    page.tab.wait_for_selector("#score b")
    assert all(each.is_visible() for each in captions.all())
    x = np.array(page.run("() => Array.from(explorer.input)"))[None]
    assert x[0, :2].tolist() == [columns[0]["classes"].index("Gentoo"), 4500 - columns[1].get("offset", 0)]
    page.tab.wait_for_timeout(500)
    assert float(page.tab.get_attribute("#score", "data-elbo")) == pytest.approx(model.score(x).elbo[0], abs=0.01)


def test_sequence_is_a_line_plot_that_follows_typed_values(opened, trained):
    page = opened(trained / "sequence")
    values = np.load(trained / "waves.npz")["x"][0]
    page.tab.fill("textarea", " ".join(f"{each:.4f}" for each in values.ravel()))
    page.tab.wait_for_selector("#score b")
    np.testing.assert_allclose(page.run("() => Array.from(explorer.input)"), values.ravel(), atol=1e-4)
    assert len(set(page.pixels("#stage canvas")[0])) > 2


def test_rgb_model_with_a_class_and_a_number_equals_python(opened, trained):
    page = opened(trained / "rgb")
    page.tab.check("input[name=condition-0] >> nth=2", force=True)
    page.tab.fill("#conditions input[type=range]", "3.25")
    page.settle()
    page.tab.wait_for_timeout(300)
    want = load(trained / "rgb").sample(1, conditions={"label": "blue", "size": 3.25}, seed=0).x
    got = page.run(
        """() => {
          const canvas = document.querySelector("#stage canvas");
          return Array.from(canvas.getContext("2d").getImageData(0, 0, 8, 8).data);
        }"""
    )
    assert np.abs(np.reshape(got, (8, 8, 4))[..., :3] - want[0].clip(0, 255)).max() <= 0.51


def hostile(tiny_folder: Path, folder: Path, change) -> Path:
    """A copy of the model `conditional` whose manifests were changed and sealed again."""
    folder.mkdir()
    for each in ("decoder", "encoder", "likelihood"):
        (folder / f"{each}.onnx").write_bytes(resealed(tiny_folder / "conditional" / f"{each}.onnx", change))
    return folder


def test_markup_in_a_manifest_is_shown_as_text(opened, tiny, tmp_path):
    names = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "&lt;!--'\"`${alert(3)}"]

    def change(manifest):
        manifest["name"] = names[0]
        manifest["conditions"][0]["classes"] = names
        manifest["training"] = {"dataset": names[1]}

    folder = hostile(tiny, tmp_path / "hostile", change)
    labels = {names[1]: (np.arange(4) % 3, names)}
    examples = explorer.Examples(binary_images(4), {"label": [0, 1, 2, 0]}, labels)
    page = opened(folder, examples, name=names[0])
    assert page.errors == []
    assert page.run("() => document.querySelectorAll('img, iframe, object').length") == 0
    assert page.tab.inner_text("#name") == names[0]
    assert page.tab.locator("#conditions .choices span").all_inner_texts() == names
    page.tab.wait_for_timeout(500)
    command = page.tab.text_content("#command").replace("kvae ", "printf '%s|' ", 1)
    arguments = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout.split("|")
    assert {names[0], f"--label={names[0]}"} <= set(arguments)
    violation = page.run(
        """() => new Promise((done) => {
          document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "globalThis.broken = true";
          document.body.append(script);
        })"""
    )
    assert violation == "script-src-elem"
    assert page.run("() => globalThis.broken") is None


def test_model_with_other_outputs_than_its_golden_values_is_not_verified(opened, tiny, tmp_path):
    def change(manifest):
        if manifest["graph"] == "encoder":
            manifest["golden"]["outputs"]["z_mean"]["values"][0] += 0.1

    page = opened(hostile(tiny, tmp_path / "changed", change))
    assert page.tab.inner_text("#badge-text") == "✗ not verified: 2 of 3 graphs reproduce their reference outputs"
    assert page.tab.get_attribute("#badge", "data-state") == "failed"


def test_damaged_graph_in_a_page_is_refused(chromium, tmp_path):
    import base64

    page = tmp_path / "page.html"
    text = explorer.render(load("mnist"), name="mnist")
    start = text.index('id="graph-encoder">') + len('id="graph-encoder">')
    end = text.index("<", start)
    data = bytearray(gzip.decompress(base64.b64decode(text[start:end])))
    data[100_000] ^= 1
    page.write_text(text[:start] + base64.b64encode(gzip.compress(bytes(data))).decode() + text[end:])
    from support.browser import Page

    context = chromium.new_context(offline=True)
    opened = Page(context, page)
    assert opened.tab.inner_text("#badge-text") == "✗ not verified: 2 of 3 graphs reproduce their reference outputs"
    context.close()


@pytest.fixture
def server(tmp_path):
    """Address of a server on this machine with the folder of the test; `npm` has the files of the package."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            self.send_header("Access-Control-Allow-Origin", "*")
            super().end_headers()

        def log_message(self, *arguments):
            pass

    Handler.extensions_map = {**Handler.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}
    vendored = ROOT / "serve_cli/kvae_serve/explorer/onnxruntime_web"
    (tmp_path / "npm").mkdir()
    (tmp_path / "npm/ort.wasm.bundle.min.mjs").write_bytes((vendored / "ort.wasm.bundle.min.mjs").read_bytes())
    wasm = gzip.decompress((vendored / "ort-wasm-simd-threaded.wasm.gz").read_bytes())
    (tmp_path / "npm/ort-wasm-simd-threaded.wasm").write_bytes(wasm)
    handler = functools.partial(Handler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("served", [False, True], ids=["file", "http"])
def test_runtime_beside_the_page_is_loaded(served, opened, tiny, request):
    address = request.getfixturevalue("server") if served else ""
    runtime = explorer.Runtime("beside")
    page = opened(tiny / "conditional", runtime=runtime, address=address, offline=not served)
    assert page.tab.inner_text("#badge-text").startswith("✓ verified in this browser: 3 of 3 graphs")
    assert [each.rpartition("/")[2] for each in page.requests][1:] == [runtime.file_name]


def test_runtime_of_an_address_is_loaded_with_its_digests(opened, tiny, server, tmp_path):
    page = opened(tiny / "conditional", runtime=explorer.Runtime(f"{server}/npm"), address=server, offline=False)
    assert page.tab.inner_text("#badge-text").startswith("✓ verified in this browser: 3 of 3 graphs")
    assert {each.rpartition("/")[2] for each in page.requests} >= {"ort-wasm-simd-threaded.wasm"}
