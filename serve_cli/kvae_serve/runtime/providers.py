"""Execution providers of ONNX Runtime: the CPU, or whatever else the installed build supports.

Only "cpu" keeps all promises of kvae: the same bits in any batch, and a memory limit. On "cuda" the limit applies to
the arena on the GPU, not to the libraries' own memory, and TF32 is off. Other providers do not limit device memory.
Operators that a provider does not support run on the CPU.
"""

from __future__ import annotations

from typing import Any

from kvae_serve.errors import RequestError, printable
from kvae_serve.runtime import onnxruntime

CPU = "cpu"
_SUFFIX = "ExecutionProvider"
_REMOTE = {"azure"}
"""Providers that send data to a server and cannot run our graphs."""


def available() -> list[str]:
    """Return the short names of the providers of this onnxruntime, cpu first."""
    names = [_short(name) for name in onnxruntime.onnxruntime().get_available_providers()]
    return [CPU, *sorted(set(names) - {CPU} - _REMOTE)]


def check(name: str) -> str:
    """Return the short name of an available provider.

    Args:
        name: Short name (`"cuda"`) or ONNX Runtime's own (`"CUDAExecutionProvider"`), in any case.

    Raises:
        RequestError: The provider is not available. The message lists the available ones.
    """
    short = _short(name) if isinstance(name, str) else ""
    known = available()
    if short not in known:
        raise RequestError(
            f"This onnxruntime does not have the provider {printable(name, 40)}; it has {', '.join(known)}. "
            "Other providers need another package, such as onnxruntime-gpu."
        )
    return short


def arguments(name: str, max_memory: int) -> list[Any]:
    """Return the `providers` argument of a session: this provider with its options, then the CPU."""
    full = next(each for each in onnxruntime.onnxruntime().get_available_providers() if _short(each) == name)
    if name == CPU:
        return [full]
    options = {"gpu_mem_limit": str(max_memory), "use_tf32": "0"} if name == "cuda" else {}
    return [(full, options), "CPUExecutionProvider"]


def check_runs(session: Any, name: str) -> None:
    """Raise `RequestError` if a session does not use its provider. ONNX Runtime itself would continue without it."""
    if name not in map(_short, session.get_providers()):
        raise RequestError(
            f"The provider {name} does not start on this machine. Check its device, driver and libraries, or leave out "
            "--provider."
        )


def _short(name: str) -> str:
    return name.lower().removesuffix(_SUFFIX.lower())
