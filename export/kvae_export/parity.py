"""Comparison of a sealed file with its function, through the reader that runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from kvae_export.graph import Graph
from kvae_export.tolerances import Tolerance, with_magnitude
from kvae_serve.errors import RequestError, VerificationError

BATCHES = (1, 7, 64)

Tensors = dict[str, np.ndarray]


def check(
    graph: Graph,
    reference: Callable[[Tensors], Tensors],
    served: Callable[[Tensors], Tensors],
    parity_inputs: Callable[[str, int], Mapping[str, np.ndarray]],
    tolerance: Mapping[str, Tolerance],
    errors: Mapping[str, float],
) -> None:
    """Compare the outputs of a file with those of its function on realistic inputs, at several batch sizes.

    Args:
        graph: The exported graph.
        reference: Runs the function.
        served: Runs the sealed file.
        parity_inputs: Returns inputs for (graph name, batch size).
        tolerance: (absolute, relative) by output.
        errors: Error relative to the largest value, by output, which is added to the absolute tolerance.

    Raises:
        VerificationError: If an output differs by more than its tolerance.
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
                with_magnitude(tolerance[output], errors[output], want[output]),
            )
    # A running sum over the batch leaves its first row as it is, and a reversed one its last.
    for row in (0, batch - 1):
        alone = served({name: values[row : row + 1] for name, values in feeds.items()})
        for output, shape in graph.outputs.items():
            name = f"{output} of {graph.name}, row {row} of a batch of {batch} beside the same row alone,"
            allowed = with_magnitude(tolerance[output], errors[output], got[output])
            _compare(name, (1, *shape), alone[output], got[output][row : row + 1], allowed)


def checked_feeds(graph: Graph, feeds: Mapping[str, np.ndarray], batch: int) -> Tensors:
    """Return inputs in the types of the graph.

    Raises:
        RequestError: If a name or a shape is not that of the graph.
    """
    if set(feeds) != set(graph.inputs):
        raise RequestError(f"Parity inputs of {graph.name} are {sorted(feeds)}; expected {list(graph.inputs)}.")
    arrays = {name: np.asarray(feeds[name], dtype) for name, (_, dtype) in graph.inputs.items()}
    for name, (shape, _) in graph.inputs.items():
        if arrays[name].shape != (batch, *shape):
            raise RequestError(
                f"Parity input {name!r} of {graph.name} has shape {arrays[name].shape}; expected {(batch, *shape)}."
            )
    return arrays


def _compare(name: str, shape: tuple[int, ...], got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> None:
    if want.shape != shape or got.shape != shape:
        raise VerificationError(
            f"{name} has shape {got.shape} in the file and {want.shape} from its function; expected {shape}."
        )
    if not np.isfinite(want).all():
        first = float(want[~np.isfinite(want)][0])
        raise VerificationError(f"{name} is not finite: the function returns {first}. Train the model again.")
    absolute, relative = tolerance
    allowed = absolute + relative * np.abs(want.astype(np.float64))
    difference = np.abs(got.astype(np.float64) - want)
    excess = np.where(np.isfinite(difference), difference - allowed, np.inf)
    worst = np.unravel_index(np.argmax(excess), shape)
    if excess[worst] > 0:
        raise VerificationError(
            f"{name} differs from its function by {difference[worst]:.3g} ({got[worst]:.6g} instead of "
            f"{want[worst]:.6g}); at most {allowed[worst]:.3g} is allowed. Nothing was written."
        )
