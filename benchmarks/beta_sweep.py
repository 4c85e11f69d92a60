"""How does beta change a VAE of sprites? A grid of `kvae tune`: kl, reconstruction, and disentanglement of the codes.

    python benchmarks/beta_sweep.py -o sweep

`--case small` (the default) has the images at every second pixel (32 x 32), 4,608 of them, upright, with the factors
shape (3), scale (6), position_x (16) and position_y (16), and dense networks. `conv` has a quarter of these images and
convolutions, for a few minutes on a CPU. `full` is the case of Locatello et al. (2019),
https://arxiv.org/abs/1811.12359, for a GPU: all 737,280 images of 64 x 64, four convolutions, 300,000 steps.

The command writes the images and a study into the folder `-o`. Run it again, with more seeds or after an interruption,
and only what is missing is trained. `study/report.html` has the charts, `study/medians.csv` the table.
"""

import csv
import zipfile
from pathlib import Path

import click
import numpy as np

import kvae
from kvae.data.sprites import files, render

_COMMON = {"likelihood": "bernoulli", "binarize": "none", "latent_dim": 10, "batch_size": 64,
           "learning_rate_schedule": "constant"}  # fmt: skip
_DENSE = {"network": "dense", "encoder_hidden": (256, 128), "decoder_hidden": (128, 256)}
_CONV = {"network": "conv", "encoder_filters": (32, 32, 64, 64), "decoder_filters": (64, 64, 32, 32),
         "encoder_hidden": (256,), "decoder_hidden": (256,)}  # fmt: skip

#: Values kept of each factor, distance of the pixels that are kept, and settings: 3,000, 450 and 300,000 steps.
CASES = {
    "small": ({"orientation": 1, "position_x": 16, "position_y": 16}, 2, _DENSE | {"epochs": 47}),
    "conv": ({"orientation": 1, "position_x": 8, "position_y": 8}, 2, _CONV | {"epochs": 28}),
    "full": ({}, 1, _CONV | {"epochs": 26, "learning_rate": 1e-4}),
}


def write_images(path: Path, counts: dict[str, int], stride: int) -> None:
    """Write the images and their factors, in the layout of `kvae sprites`; images of 64 x 64 by its own writer."""
    index = render.select(counts)
    if stride == 1:
        files.write(path, index)
        return
    x = np.concatenate([part[:, ::stride, ::stride] for part in files.render_chunks(index)])
    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, x=x, z=render.index_to_factors(index))
    partial.replace(path)


@click.command()
@click.option("-o", "--output", "folder", default=Path("beta-sweep"), show_default=True,
              type=click.Path(path_type=Path), help="Folder of the images and the study.")  # fmt: skip
@click.option("--betas", default="1,2,4,8,16", show_default=True, help="Betas to train.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Runs of each beta.")
@click.option("--case", default="small", show_default=True, type=click.Choice(CASES), help="Images, networks, steps.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each run, in place of those of the case.")
def main(folder, betas, seeds, case, epochs):
    """Sweep beta on sprites and print a table of medians over seeds, lowest and highest in brackets."""
    counts, stride, settings = CASES[case]
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "sprites.npz"
    if not zipfile.is_zipfile(images):
        write_images(images, counts, stride)
    chosen = {**_COMMON, **settings} | ({"epochs": epochs} if epochs else {})
    study = kvae.tune(images, folder / "study", grid={"beta": betas.split(",")}, seeds=seeds, **chosen)
    with (study.directory / "medians.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    figures = [name for name in rows[0] if f"{name}_lowest" in rows[0]]
    click.echo(f"| beta | {' | '.join(figures)} |\n|{'---|' * (len(figures) + 1)}")
    for row in rows:
        cells = [
            " to ".join(f"{float(row[f'{name}{end}']):.3g}" for end in ("_lowest", "_highest")) for name in figures
        ]
        medians = [f"{float(row[name]):.3g} ({cell})" for name, cell in zip(figures, cells, strict=True)]
        click.echo(f"| {row['objective.beta']} | {' | '.join(medians)} |")


if __name__ == "__main__":
    main()
