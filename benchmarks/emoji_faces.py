r"""Write the data set of the shipped model `emoji-faces`: color images of faces, 32 x 32, in seven classes.

    apt-get install fonts-noto-color-emoji
    python benchmarks/emoji_faces.py /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf -o emoji-faces.npz

Glyphs of the font Noto Color Emoji (copyright 2013-2017 Google Inc. and Arjen Nienhuis, SIL Open Font License 1.1) are
rotated, scaled and moved a little, on white. The classes are smileys, animals, and people of the five skin tones of
Unicode. Sequences such as "woman, medium skin tone, pilot" are one glyph, so Pillow needs Raqm, as in its wheels.
The array `x_train` has 13,000 images, `x_test` has 1,300 other images of the same glyphs.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

SIZE = 32
# The only size of the font's bitmaps, and their width and height.
FONT_SIZE, GLYPH = 109, (136, 128)
SMILEYS = (
    "😀😁😂😃😄😅😆😇😈😉😊😋😌😍😎😏😐😑😒😓😔😕😖😗😘😙😚😛😜😝😞😟😠😡😢😣😤😥😦😧😨😩😪😫😬😭😮😯😰😱😲😳😴😵😶😷🙁🙂🙃🙄"
    "🤐🤑🤒🤓🤔🤕🤗🤠🤡🤢🤣🤤🤥🤧🤨🤩🤪🤫🤬🤭🤮🤯🥰🥱🥲🥳🥴🥵🥶🥹🥺🧐🫠🫡🫢🫤"
)
ANIMALS = "😸😹😺😻😼😽😾😿🙀🐭🐮🐯🐰🐱🐴🐵🐶🐷🐸🐹🐺🐻🐼🐔🐥🦁🦄🦊🦓🦝"
TONES = {
    "light skin": "\U0001f3fb",
    "medium-light skin": "\U0001f3fc",
    "medium skin": "\U0001f3fd",
    "medium-dark skin": "\U0001f3fe",
    "dark skin": "\U0001f3ff",
}
PEOPLE = "👶🧒👦👧🧑👱👨🧔👩🧓👴👵👲🧕🤴👸🎅🤶👼"
# With a sign for a man or a woman.
BOTH = "👱🧔👮👷💂👳👰🤵🧛🧝"
# After a person, a man or a woman: hair and work.
PARTS = ["🦰", "🦱", "🦳", "🦲", "⚕\ufe0f", "✈\ufe0f", "🎓", "🎤", "💼", "🚒", "🚀", "🍳"]
JOIN = "\u200d"


def glyphs() -> dict[str, list[str]]:
    """Return the text of each glyph by class."""
    classes = {"smiley": list(SMILEYS), "animal": list(ANIMALS)}
    for name, tone in TONES.items():
        people = [person + tone for person in PEOPLE]
        people += [person + tone + JOIN + sign for person in BOTH for sign in ("♂\ufe0f", "♀\ufe0f")]
        people += [person + tone + JOIN + part for person in "🧑👨👩" for part in PARTS]
        classes[name] = people
    return classes


def picture(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """Return the glyph on white, in a square with a margin.

    Raises:
        SystemExit: If the font draws several glyphs or none.
    """
    image = Image.new("RGB", GLYPH, "white")
    ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)
    if font.getlength(text) > font.getlength("😀") or np.asarray(image).min() == 255:
        raise SystemExit(f"The font does not have the glyph of {text!r} ({text.encode('unicode_escape').decode()}).")
    square = Image.new("RGB", (160, 160), "white")
    square.paste(image, (12, 16))
    return square


def varied(image: Image.Image, random: np.random.Generator) -> np.ndarray:
    """Return the picture rotated, scaled and moved by random amounts, as uint8 `[32, 32, 3]`."""
    angle, scale = math.radians(random.uniform(-8, 8)), random.uniform(0.9, 1.02)
    x, y = random.uniform(-4, 4, 2)
    cosine, sine, middle = math.cos(angle) / scale, math.sin(angle) / scale, image.width / 2
    # Pixel (u, v) of the square of 132 pixels comes from this affine map of it.
    matrix = (cosine, -sine, middle + x - 66 * (cosine - sine), sine, cosine, middle + y - 66 * (sine + cosine))
    moved = image.transform((132, 132), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor="white")
    return np.asarray(moved.resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("font", help="NotoColorEmoji.ttf")
    parser.add_argument("-o", "--output", required=True, help="File .npz to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not features.check("raqm"):
        raise SystemExit("Pillow lacks Raqm, so it draws sequences as several glyphs. Install Pillow from PyPI.")
    font = ImageFont.truetype(arguments.font, FONT_SIZE)
    random = np.random.default_rng(arguments.seed)
    arrays = {}
    pictures = {name: [picture(text, font) for text in texts] for name, texts in glyphs().items()}
    for split, share in (("train", 1), ("test", 0.1)):
        x, y = [], []
        for name, images in pictures.items():
            num = round(share * {"smiley": 3000, "animal": 1500}.get(name, 1700))
            x += [varied(images[index % len(images)], random) for index in range(num)]
            y += [name] * num
        order = random.permutation(len(x))
        arrays |= {f"x_{split}": np.array(x)[order], f"y_{split}": np.array(y)[order]}
    np.savez_compressed(arguments.output, **arrays)
    print(
        f"{arguments.output}: {len(arrays['x_train']):,} and {len(arrays['x_test']):,} images of "
        + ", ".join(f"{len(images)} {name}" for name, images in pictures.items())
    )


if __name__ == "__main__":
    main()
