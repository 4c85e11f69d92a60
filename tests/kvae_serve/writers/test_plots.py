"""Line plots of sequences: lines pass through the values, and outputs hold one plot per row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvae_serve.errors import RequestError
from kvae_serve.inference.sampling import Draws
from kvae_serve.model import load
from kvae_serve.sealed.manifest import Manifest
from kvae_serve.writers import dispatch, plots

PIL = pytest.importorskip("PIL.Image")
HEIGHT, WIDTH, _ = plots.SHAPE


def centres(picture: np.ndarray) -> np.ndarray:
    """Return the mean height of the ink in each column, with the top at 0, or NaN for an empty column."""
    ink = 255.0 - picture.mean(-1)
    with np.errstate(invalid="ignore"):
        return (ink * np.arange(len(ink))[:, None]).sum(0) / ink.sum(0)


@pytest.fixture
def sequences(tiny: Path) -> Draws:
    draws = load(tiny / "conditional").sample(4, label=["dog", "0"], seed=1)
    raw = draws.manifest.to_dict() | {"data": {"kind": "sequence", "shape": [24, 2], "range": None}}
    return Draws(draws.x.reshape(8, 24, 2), draws.z, draws.conditions, 1, 0, 4, Manifest.from_dict(raw))


def test_lines_pass_through_the_values_of_each_step():
    steps = np.linspace(0.0, 1.0, 9)
    x = np.stack([steps, 5.0 - 3.0 * steps, np.full(9, 2.0)])[:, :, None]
    rising, falling, level = map(centres, plots.draw(x, plots.limits(x)))
    inked = np.flatnonzero(~np.isnan(rising))[3:-3]
    # 0 to 5 fill the height, so a straight line falls by the same number of pixels in each column.
    slope = np.polyfit(inked, rising[inked], 1)
    np.testing.assert_allclose(rising[inked], np.polyval(slope, inked), atol=0.5)
    span = np.polyval(np.polyfit(inked, falling[inked], 1), inked[[0, -1]])
    assert np.diff(span)[0] == pytest.approx(-3.0 * slope[0] * np.diff(inked[[0, -1]])[0], rel=0.02)
    assert np.ptp(level[inked]) < 0.01
    assert rising[inked[0]] > level[inked[0]] > falling[inked[0]]


def test_each_feature_has_a_scale_and_a_colour_of_its_own():
    x = np.stack([np.array([0.0, 1.0, 0.0]), np.array([1000.0, 1000.0, 3000.0])], axis=1)[None]
    np.testing.assert_array_equal(plots.limits(x), [[0.0, 1000.0], [1.0, 3000.0]])
    picture = plots.draw(x, plots.limits(x))[0].reshape(-1, 3)
    saturated = {tuple(each) for each in picture[np.ptp(picture, axis=1) > 150]}
    assert {(0, 114, 178), (213, 94, 0)} <= saturated


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3), (1, 200, 12)])
def test_constant_sequences_and_single_steps_are_level_lines(shape):
    x = np.full(shape, 7.0, np.float32)
    pictures = plots.draw(x, plots.limits(x))
    assert pictures.shape == (shape[0], *plots.SHAPE)
    assert pictures.dtype == np.uint8
    inked = np.flatnonzero((pictures[0] < 255).any((1, 2)))
    assert 0 < len(inked) <= 4
    assert abs(inked.mean() - (HEIGHT - 1) / 2) <= 1


def test_plain_png_of_sequences_has_one_row_per_label(sequences, tmp_path):
    dispatch.write(str(tmp_path / "a.png"), sequences, style=dispatch.PictureStyle(plain=True))
    with PIL.open(tmp_path / "a.png") as image:
        picture = np.asarray(image)
        assert image.text["kvae seed"] == "1"
    assert picture.shape == (2 * HEIGHT + 2, 4 * WIDTH + 3 * 2, 3)
    expected = plots.draw(sequences.x[5:6], plots.limits(sequences.x))[0]
    assert (picture[HEIGHT + 2 :, WIDTH + 2 : 2 * WIDTH + 2] == expected).all()


def test_folder_of_sequences_has_one_plot_each_on_a_common_scale(sequences, tmp_path):
    dispatch.write(str(tmp_path / "plots"), sequences)
    assert len(list((tmp_path / "plots").iterdir())) == 8
    with PIL.open(tmp_path / "plots" / "label-0_000002.png") as image:
        assert (np.asarray(image) == plots.draw(sequences.x[6:7], plots.limits(sequences.x))[0]).all()


def test_latent_vectors_of_sequences_are_not_pictures(sequences, tmp_path):
    import dataclasses

    rows = dataclasses.replace(sequences.row_stream(), main=("z",))
    with pytest.raises(RequestError, match="makes z"):
        dispatch.stream(str(tmp_path / "a.png"), rows)
