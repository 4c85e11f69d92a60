"""Animations are read back by Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from kvae_serve.errors import RequestError
from kvae_serve.writers.animation import encode, order


def film(channels, num=5):
    return np.random.default_rng(0).integers(0, 256, (num, 12, 10, channels)).astype(np.uint8)


def decode(data):
    """Return the frames as RGB, their duration in milliseconds, and the loop count."""
    with Image.open(io.BytesIO(data)) as picture:
        frames, times = [], []
        for frame in ImageSequence.Iterator(picture):
            frames.append(np.asarray(frame.convert("RGB")))
            times.append(frame.info.get("duration"))
        return np.stack(frames), times, picture.info.get("loop")


@pytest.mark.parametrize(("suffix", "channels"), [(".gif", 1), (".webp", 1), (".webp", 3)])
def test_frames_are_lossless(suffix, channels):
    frames = film(channels)
    decoded, times, loop = decode(encode(frames, suffix, fps=20))
    assert order(5, "bounce") == [0, 1, 2, 3, 4, 3, 2, 1]
    np.testing.assert_array_equal(decoded, np.broadcast_to(frames, (5, 12, 10, 3))[order(5, "bounce")])
    assert set(times) == {50}
    assert loop == 0


def test_colour_gif_is_lossless_up_to_256_colours_and_close_above():
    few = film(3) // 128 * 100
    np.testing.assert_array_equal(decode(encode(few, ".gif", loop="forward"))[0], few)
    ramp = np.stack([np.tile(np.arange(0, 240, 4, np.uint8)[:, None, None], (1, 60, 3)) + shift for shift in (0, 5)])
    ramp[..., 1] //= 2
    decoded, _, _ = decode(encode(ramp, ".gif", loop="forward"))
    assert np.abs(decoded.astype(int) - ramp).mean() < 3


def test_loop_once_does_not_repeat():
    assert decode(encode(film(1), ".gif", loop="once"))[2] is None
    assert decode(encode(film(1), ".webp", loop="once"))[2] == 1


def test_equal_frames_give_equal_bytes():
    for suffix in (".gif", ".webp"):
        assert encode(film(3), suffix) == encode(film(3), suffix)


def test_frames_beyond_the_limits_of_a_format_are_refused():
    with pytest.raises(RequestError, match="too many for a"):
        encode(np.zeros((2, 1, 16_384, 1), np.uint8), ".webp")
    for fps in (0, 51, float("nan")):
        with pytest.raises(RequestError, match="frames per second"):
            encode(film(1), ".gif", fps=fps)
