"""Workers of one training run, read from `TF_CONFIG`.

This is read before TensorFlow is imported, so that a wrong address is reported at once.
"""

import json
import os
import re
from dataclasses import dataclass

from kvae_serve.errors import RequestError, printable

_EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """Workers that train together.

    Attributes:
        addresses: `host:port` of each worker; the first is the chief.
        index: Number of this process among them.
        tasks: Number of tasks of each type in `TF_CONFIG`.
    """

    addresses: tuple[str, ...]
    index: int
    tasks: dict[str, int]

    @property
    def num_workers(self) -> int:
        """Number of processes that train together."""
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """True if this process writes files and messages."""
        return self.index == 0


def from_environment() -> Cluster | None:
    """Return the cluster in `TF_CONFIG`, None if it is unset or contains this process only.

    Raises:
        RequestError: If `TF_CONFIG` is invalid.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
        groups = {str(name): list(addresses) for name, addresses in config.get("cluster", {}).items()}
        task = config.get("task", {"type": "worker", "index": 0})
        kind, index = str(task["type"]), int(task["index"])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise _invalid(f"cannot be parsed ({type(error).__name__}: {printable(error, 40)})") from None
    if not groups:
        return None
    if unknown := sorted(set(groups) - {"chief", "worker"}):
        raise _invalid(f"has tasks of type {printable(unknown[0], 20)}; kvae supports chief and worker")
    chiefs, workers = groups.get("chief", []), groups.get("worker", [])
    if len(chiefs) > 1:
        raise _invalid(f"has {len(chiefs)} chiefs; at most one is possible")
    addresses = chiefs + workers
    for address in addresses:
        match = re.fullmatch(r"[^\s/]+:([0-9]{1,5})", address) if isinstance(address, str) else None
        if not match or not 0 < int(match[1]) < 2**16:
            raise _invalid(f"has the address {printable(address, 60)}; expected HOST:PORT")
    if len(set(addresses)) < len(addresses):
        raise _invalid("has the same address for two workers")
    if kind not in groups or not 0 <= index < len(groups[kind]):
        raise _invalid(f"names this process {printable(kind, 20)} {printable(index, 20)}, which is not in its cluster")
    if len(addresses) == 1:
        return None
    tasks = {name: len(group) for name, group in groups.items() if group}
    return Cluster(tuple(addresses), index + (len(chiefs) if kind == "worker" else 0), tasks)


def _invalid(problem: str) -> RequestError:
    return RequestError(f"TF_CONFIG {problem}. Example: {_EXAMPLE}")
