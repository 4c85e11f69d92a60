"""Proof that a sealed file gives what its function gives, through the reader that will serve it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from kvae_export.graph import Graph
from kvae_export.tolerances import Tolerance
from kvae_serve.errors import RequestError, VerificationError

BATCHES = (1, 3, 64)

Tensors = dict[str, np.ndarray]


def prove(
    graph: Graph,
    reference: Callable[[Tensors], Tensors],
    served: Callable[[Tensors], Tensors],
    parity_inputs: Callable[[str, int], Mapping[str, np.ndarray]],
    tolerance: Mapping[str, Tolerance],
) -> None:
    """Compare what is served with the reference on data-like inputs, at several batch sizes.

    Args:
        graph: what both should compute.
        reference: runs the function itself.
        served: runs the sealed file.
        parity_inputs: gives inputs for (graph name, batch size).
        tolerance: (absolute, relative) by output.

    Raises:
        VerificationError: they differ by more than is allowed.
    """
    for batch in BATCHES:
        feeds = checked_feeds(graph, parity_inputs(graph.name, batch), batch)
        want, got = reference(feeds), served(feeds)
        for output, shape in graph.outputs.items():
            _compare(
                f"{output} of {graph.name} at batch {batch}",
                (batch, *shape),
                got[output],
                want[output],
                tolerance[output],
            )


def checked_feeds(graph: Graph, feeds: Mapping[str, np.ndarray], batch: int) -> Tensors:
    """Return inputs in the types of the graph; those of other names or shapes are the caller's mistake."""
    if set(feeds) != set(graph.inputs):
        raise RequestError(f"Inputs to prove {graph.name} are {sorted(feeds)}, expected {list(graph.inputs)}.")
    arrays = {name: np.asarray(feeds[name], dtype) for name, (_, dtype) in graph.inputs.items()}
    for name, (shape, _) in graph.inputs.items():
        if arrays[name].shape != (batch, *shape):
            raise RequestError(
                f"Input {name!r} to prove {graph.name} has shape {arrays[name].shape}, expected {(batch, *shape)}."
            )
    return arrays


def _compare(where: str, shape: tuple[int, ...], got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> None:
    if want.shape != shape or got.shape != shape:
        raise VerificationError(
            f"{where} has shape {got.shape} in the file and {want.shape} from its function, expected {shape}."
        )
    if not np.isfinite(want).all():
        raise VerificationError(f"{where} is not finite: the function itself gives {_first_bad(want)}. Train anew.")
    absolute, relative = tolerance
    allowed = absolute + relative * np.abs(want.astype(np.float64))
    difference = np.abs(got.astype(np.float64) - want)
    excess = np.where(np.isfinite(difference), difference - allowed, np.inf)
    worst = np.unravel_index(np.argmax(excess), shape)
    if excess[worst] > 0:
        raise VerificationError(
            f"{where} differs from its function by {difference[worst]:.3g} ({got[worst]:.6g} for {want[worst]:.6g}), "
            f"at most {allowed[worst]:.3g} is allowed; nothing was written."
        )


def _first_bad(values: np.ndarray) -> float:
    return float(values[~np.isfinite(values)][0])
