"""Execution providers of ONNX Runtime: the CPU, or what else the installed build of it can run a graph on.

Only "cpu" keeps all that kvae promises: the same bits in any batch, and memory capped by an allocator. On "cuda" the
cap is set as the limit of its arena on the GPU, beside which libraries take memory of their own, and TF32 is off; on
others memory on the device is not capped at all. What a provider cannot run, ONNX Runtime runs on the CPU.
"""

from __future__ import annotations

from typing import Any

from kvae_serve.errors import RequestError, printable
from kvae_serve.runtime import onnxruntime

CPU = "cpu"
_SUFFIX = "ExecutionProvider"
_REMOTE = {"azure"}
"""It would send data to a server, and runs none of our graphs."""


def available() -> list[str]:
    """Return the short names of the providers that this onnxruntime was built with, cpu first."""
    names = [name.removesuffix(_SUFFIX).lower() for name in onnxruntime.onnxruntime().get_available_providers()]
    return [CPU, *sorted(set(names) - {CPU} - _REMOTE)]


def check(name: str) -> str:
    """Return the short name of a provider that is there.

    Args:
        name: short (`"cuda"`) or ONNX Runtime's own (`"CUDAExecutionProvider"`), in any case.

    Raises:
        RequestError: it is not there; the message lists those that are.
    """
    short = name.lower().removesuffix(_SUFFIX.lower()) if isinstance(name, str) else ""
    known = available()
    if short not in known:
        raise RequestError(
            f"There is no provider {printable(name, 40)} in this onnxruntime; it has {', '.join(known)}. "
            "Other providers come in builds of their own, such as onnxruntime-gpu."
        )
    return short


def arguments(name: str, max_memory: int) -> list[Any]:
    """Return what a session takes as its providers: the one asked for with its options, then the CPU."""
    known = onnxruntime.onnxruntime().get_available_providers()
    full = next(each for each in known if each.removesuffix(_SUFFIX).lower() == name)
    if name == CPU:
        return [full]
    options = {"gpu_mem_limit": str(max_memory), "use_tf32": "0"} if name == "cuda" else {}
    return [(full, options), "CPUExecutionProvider"]


def check_runs(session: Any, name: str) -> None:
    """Raise `RequestError` where a session came up without its provider: ONNX Runtime would go on without it."""
    used = [each.removesuffix(_SUFFIX).lower() for each in session.get_providers()]
    if name not in used:
        raise RequestError(
            f"The provider {name} does not start on this machine: its device, driver or libraries are missing. "
            "Mend that, or leave out --provider."
        )
