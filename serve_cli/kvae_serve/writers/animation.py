"""Pictures that follow each other, as GIF or WebP; by Pillow, which is imported here alone.

What is decoded from a file is what went in, but for a coloured GIF, which holds 256 colours: one palette for all
frames, so that nothing flickers, and no dithering, which would.
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
"""Pixels of all frames: Pillow keeps them all."""

MAX_FPS = 50.0
"""A GIF counts hundredths of a second, and browsers show what is quicker than two of them at a tenth of the speed."""

MIN_FPS = 0.1


def order(num: int, loop: Loop) -> list[int]:
    """Return the order in which frames are shown; back and forth no frame at an end comes twice in a row."""
    forward = list(range(num))
    return forward + forward[-2:0:-1] if loop == "bounce" else forward


def encode(frames: np.ndarray, suffix: str, fps: float = 10.0, loop: Loop = "bounce", comment: str = "") -> bytes:
    """Return frames as the bytes of an animation.

    Args:
        frames: uint8 `[num, height, width, channels]`, 1 channel (grey) or 3 (RGB).
        suffix: ".gif" or ".webp".
        fps: frames a second, 0.1 to 50; a GIF rounds their time to hundredths of a second.
        loop: "bounce" goes back and forth for ever, "forward" starts over for ever, "once" stays at the end.
        comment: a text to keep in a GIF, at most 255 characters of ASCII.

    Raises:
        RequestError: the frames are too large for the format, or Pillow cannot write it here.
    """
    num, height, width, channels = frames.shape
    if not MIN_FPS <= fps <= MAX_FPS:
        raise RequestError(f"An animation shows {MIN_FPS:g} to {MAX_FPS:g} frames a second, got {fps:g}.")
    if max(height, width) > MAX_SIDE[suffix] or frames.nbytes > MAX_BYTES:
        raise RequestError(
            f"{num} frames of {width} x {height} pixels are too many for a {suffix}. "
            "Lower --scale, or take fewer rows or steps."
        )
    from PIL import Image, features

    if suffix == ".webp" and not features.check("webp"):
        raise RequestError("Pillow was built without WebP here. Write a .gif instead.")
    shown = frames[order(num, loop)]
    pictures = [Image.fromarray(frame[:, :, 0] if channels == 1 else frame) for frame in shown]
    duration = 10 * max(2, round(100 / fps)) if suffix == ".gif" else max(1, round(1000 / fps))
    repeat = {} if loop == "once" else {"loop": 0}
    out = io.BytesIO()
    if suffix == ".gif":
        if channels == 3:
            pictures = _one_palette(pictures, shown)
        extra = {"comment": comment.encode("ascii", "replace")[:255]} if comment else {}
        pictures[0].save(
            out, "GIF", save_all=True, append_images=pictures[1:], duration=duration, optimize=False, **repeat, **extra
        )
    else:
        # Pillow's own default of loop is 0, for ever.
        times = repeat or {"loop": 1}
        rgb = [picture.convert("RGB") for picture in pictures]
        rgb[0].save(
            out, "WEBP", save_all=True, append_images=rgb[1:], duration=duration, lossless=True, method=4, **times
        )
    return out.getvalue()


def _one_palette(pictures: list, shown: np.ndarray) -> list:
    """Return pictures with one palette: their own colours where those are few, else the best 256 of all frames."""
    from PIL import Image

    colours = np.unique(shown.reshape(-1, 3), axis=0)
    if len(colours) <= 256:
        palette = Image.new("P", (1, 1))
        palette.putpalette(colours.astype(np.uint8).tobytes())
    else:
        # A sample of all frames; every pixel of a long film would take minutes.
        pixels = shown.reshape(-1, 3)
        sample = np.ascontiguousarray(pixels[:: max(1, len(pixels) // 2**20)])
        palette = Image.fromarray(sample[None]).quantize(256, method=Image.Quantize.MEDIANCUT)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
