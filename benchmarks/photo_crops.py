r"""Write color photographs to train on: crops of four pictures of scikit-image and scikit-learn, a folder per picture.

    python benchmarks/photo_crops.py photos-32 --size 32
    kvae train --data photos-32 -o RUN

Crops of 64 x 64 pixels at random positions, reduced to 32 x 32 if `--size` is 32. The pictures are chelsea and coffee
(CC0) and rocket (public domain) of scikit-image, and flower of scikit-learn (CC BY 2.0, flickr.com/photos/vultilion),
according to the documentation of both packages.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_image

CROP = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Folder to create")
    parser.add_argument("--size", type=int, default=32, choices=(32, 64))
    parser.add_argument("--num", type=int, default=375, help="Crops per picture")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    pictures = {
        "chelsea": data.chelsea(),
        "coffee": data.coffee(),
        "rocket": data.rocket(),
        "flower": load_sample_image("flower.jpg"),
    }
    for name, picture in pictures.items():
        folder = arguments.folder / name
        folder.mkdir(parents=True)
        for index in range(arguments.num):
            top, left = (random.integers(0, side - CROP) for side in picture.shape[:2])
            crop = Image.fromarray(picture[top : top + CROP, left : left + CROP, :3])
            crop.resize((arguments.size, arguments.size)).save(folder / f"{index}.png")


if __name__ == "__main__":
    main()
