"""Anomaly detection of `kvae evaluate --labels`: reads which examples are anomalies, and measures the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kvae_serve.errors import InputDataError, printable

if TYPE_CHECKING:
    from kvae_serve.model import Model

_TRUE, _FALSE = {"1", "1.0", "true", "True", "TRUE"}, {"0", "0.0", "false", "False", "FALSE"}
_SHOWN = (0.01, 0.05)


def read_labels(data: str, column: str, split: str | None, delimiter: str | None, num: int) -> np.ndarray:
    """Read the column or array that marks anomalies, int64 `[num]`: 1 for an anomaly, 0 for a normal example.

    Args:
        data: An .npz file, a CSV or Parquet file, or a folder with train.csv and test.csv.
        column: Name of the column or the array.
        split: Split of a folder; the test split by default.
        delimiter: Delimiter of a CSV; detected by default.
        num: Expected number.

    Raises:
        InputDataError: The column does not exist, has another length, or has other values than 0 and 1.
    """
    from pathlib import Path

    from kvae_serve.readers import arrays, csv, frames
    from kvae_serve.readers.dataset import ReadOptions

    path = Path(data)
    if path.is_dir() and (path / "train.csv").is_file():
        path = path / ("train.csv" if split == "train" or not (path / "test.csv").is_file() else "test.csv")
    source, suffix = printable(str(path)), path.suffix.lower()
    if suffix == ".npz":
        columns: Any = arrays.load_npz(path, source)
    elif suffix in csv.SUFFIXES:
        columns = csv.parse(path, source, ReadOptions(delimiter=delimiter)).cells
    elif suffix == frames.SUFFIX:
        columns = frames.read_parquet(path, source).cells
    else:
        raise InputDataError(
            f"{printable(data)} is not a table or an .npz file, so it does not have --labels {column}."
        )
    if column not in columns:
        known = ", ".join(printable(each, 40) for each in list(columns)[:20])
        raise InputDataError(f"{source} does not have {printable(column, 40)} of --labels; it has {known}.")
    texts = [str(value) for value in np.asarray(columns[column]).reshape(-1)]
    odd = next((text for text in texts if text not in _TRUE | _FALSE), None)
    if odd is not None:
        shown = printable(odd, 40).strip() or "an empty cell"
        raise InputDataError(
            f"{printable(column, 40)} in {source} contains {shown}; expected 1 for an anomaly and 0 for a normal row."
        )
    labels = np.array([text in _TRUE for text in texts], np.int64)
    if len(labels) != num:
        raise InputDataError(f"{printable(column, 40)} in {source} has {len(labels)} values; expected {num}.")
    if labels.min() == labels.max():
        raise InputDataError(f"{printable(column, 40)} in {source} is {labels[0]} in all rows; expected both 0 and 1.")
    return labels


def measure(
    model: Model, x: np.ndarray, conditions: dict[str, Any], labels: np.ndarray, column: str, seed: int
) -> dict[str, Any]:
    """Measure how well the scores of `kvae score` detect anomalies.

    Args:
        model: A loaded model.
        x: `[rows, *shape]` in data units.
        conditions: Their conditions.
        labels: 1 for an anomaly, `[rows]`.
        column: Name of the labels, for the document.
        seed: Seed of the bootstrap.

    Returns:
        `{"anomalies": ...}`, JSON values: figures and curves of each score, and what the stored quantiles flag.
    """
    from kvae.metrics import detection
    from kvae_serve.inference import complexity, scoring, thresholds

    draws = thresholds.draws(model.manifest)
    scores = scoring.score(model, x, conditions, num_samples=draws[0], seed=draws[1])
    ranked = {"elbo": -scores.elbo, "reconstruction": scores.reconstruction, "kl": scores.kl}
    if complexity.applies(model.manifest):
        ranked["complexity"] = -(scores.elbo + model.complexity(x, seed=draws[1]))
    methods = {name: detection.detection_figures(each, labels, seed=seed) for name, each in ranked.items()}
    curves = {
        name: {
            key: values.round(6).tolist() for key, values in detection.detection_curves(each, labels)._asdict().items()
        }
        for name, each in ranked.items()
    }
    return {
        "anomalies": {
            "labels": column,
            "n": len(labels),
            "anomalies": int(labels.sum()),
            "resamples": detection.NUM_RESAMPLES,
            "methods": methods,
            "curves": curves,
            "thresholds": _flagged(model, scores.elbo, labels, draws),
        }
    }


def _flagged(model: Model, elbo: np.ndarray, labels: np.ndarray, draws: tuple[int, int]) -> list[dict[str, Any]]:
    """Return how many normal rows and anomalies are below the stored quantiles, as far as the model has them."""
    from kvae_serve.errors import RequestError
    from kvae_serve.inference import thresholds

    found = []
    for share in _SHOWN:
        try:
            limit = thresholds.threshold(f"q{share}", model.manifest, *draws)
        except RequestError:
            continue
        below = elbo < limit.elbo
        flagged = {"normal": int(below[labels == 0].sum()), "anomalies": int(below[labels == 1].sum())}
        found.append({**limit.document(), **flagged})
    return found


def lines(document: dict[str, Any]) -> list[str]:
    """Return the figures as lines of text, if there are any."""
    found = document.get("anomalies")
    if found is None:
        return []
    normal = found["n"] - found["anomalies"]
    text = [
        "",
        f"{found['anomalies']} anomalies and {normal} normal rows ({printable(found['labels'], 60)}), intervals of 95 "
        f"% from {found['resamples']} resamples",
        f"{'score':<16}{'AUROC':>22}{'average precision':>22}{'precision at rate':>22}",
    ]
    for name, figures in found["methods"].items():
        cells = (f"{each['value']:.3f} [{each['low']:.3f}, {each['high']:.3f}]" for each in figures.values())
        text.append(f"{name:<16}" + "".join(f"{cell:>22}" for cell in cells))
    for limit in found["thresholds"]:
        text.append(
            f"--threshold q{limit['quantile']:g} flags {limit['normal']} of {normal} normal rows "
            f"({100 * limit['normal'] / normal:.2g} %) and {limit['anomalies']} of {found['anomalies']} anomalies."
        )
    return text
