"""Encode frames as an animated GIF or WebP with Pillow.

The files are lossless, except for a GIF in colour with more than 256 colours. It has one palette for all frames and no
dithering, so that it does not flicker.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np

from kvae_serve.errors import RequestError

Loop = Literal["bounce", "forward", "once"]
LOOPS: tuple[Loop, ...] = ("bounce", "forward", "once")

SUFFIXES = (".gif", ".webp")
MAX_SIDE = {".gif": 65_535, ".webp": 16_383}
MAX_BYTES = 2**30
"""Size of the pixels of all frames, which Pillow keeps in memory."""

MAX_FPS = 50.0
"""A frame of a GIF takes at least 2 hundredths of a second. Browsers slow down faster ones to a tenth of the speed."""

MIN_FPS = 0.1


def order(num: int, loop: Loop) -> list[int]:
    """Return the order of the frames. With "bounce", the frames at the ends are shown once per turn."""
    forward = list(range(num))
    return forward + forward[-2:0:-1] if loop == "bounce" else forward


def encode(frames: np.ndarray, suffix: str, fps: float = 10.0, loop: Loop = "bounce", comment: str = "") -> bytes:
    """Encode frames as an animation.

    Args:
        frames: uint8 `[num, height, width, channels]`, 1 channel (grey) or 3 (RGB).
        suffix: ".gif" or ".webp".
        fps: Frames per second, 0.1 to 50. A GIF rounds their duration to hundredths of a second.
        loop: "bounce" plays forwards and backwards, "forward" repeats from the start, "once" stops at the end.
        comment: ASCII text of at most 255 characters for a GIF.

    Returns:
        The bytes of the file.

    Raises:
        RequestError: The frames are too large for the format, or this Pillow does not support it.
    """
    num, height, width, channels = frames.shape
    if not MIN_FPS <= fps <= MAX_FPS:
        raise RequestError(f"fps is {fps:g}; expected {MIN_FPS:g} to {MAX_FPS:g} frames per second.")
    if max(height, width) > MAX_SIDE[suffix] or frames.nbytes > MAX_BYTES:
        raise RequestError(
            f"{num} frames of {width} x {height} pixels are too many for a {suffix}. "
            "Lower --scale, or use fewer rows or steps."
        )
    from PIL import Image, features

    if suffix == ".webp" and not features.check("webp"):
        raise RequestError("This Pillow does not support WebP. Use .gif.")
    ordered = frames[order(num, loop)]
    pictures = [Image.fromarray(frame[:, :, 0] if channels == 1 else frame) for frame in ordered]
    duration = 10 * max(2, round(100 / fps)) if suffix == ".gif" else max(1, round(1000 / fps))
    repeat = {} if loop == "once" else {"loop": 0}
    out = io.BytesIO()
    if suffix == ".gif":
        if channels == 3:
            pictures = _one_palette(pictures, ordered)
        extra = {"comment": comment.encode("ascii", "replace")[:255]} if comment else {}
        pictures[0].save(
            out, "GIF", save_all=True, append_images=pictures[1:], duration=duration, optimize=False, **repeat, **extra
        )
    else:
        # Without loop, Pillow repeats a WebP forever.
        times = repeat or {"loop": 1}
        rgb = [picture.convert("RGB") for picture in pictures]
        rgb[0].save(
            out, "WEBP", save_all=True, append_images=rgb[1:], duration=duration, lossless=True, method=4, **times
        )
    return out.getvalue()


def _one_palette(pictures: list, frames: np.ndarray) -> list:
    """Convert pictures to one palette: their colours if there are at most 256, else the best 256 of all frames."""
    from PIL import Image

    colours = np.unique(frames.reshape(-1, 3), axis=0)
    if len(colours) <= 256:
        palette = Image.new("P", (1, 1))
        palette.putpalette(colours.astype(np.uint8).tobytes())
    else:
        # A sample of the pixels, because all of them would take minutes.
        pixels = frames.reshape(-1, 3)
        sample = np.ascontiguousarray(pixels[:: max(1, len(pixels) // 2**20)])
        palette = Image.fromarray(sample[None]).quantize(256, method=Image.Quantize.MEDIANCUT)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
