"""The workers of one training run, as `TF_CONFIG` describes them to each of their processes.

Read before TensorFlow is opened: a wrong address should not cost ten seconds.
"""

import json
import os
import re
from dataclasses import dataclass

from kvae_serve.errors import RequestError, printable

_EXAMPLE = '{"cluster": {"worker": ["host1:12345", "host2:12345"]}, "task": {"type": "worker", "index": 0}}'


@dataclass(frozen=True)
class Cluster:
    """Who trains together.

    Attributes:
        addresses: `host:port` of each worker; the first is the chief.
        index: which of them this process is.
        tasks: how many tasks of each type there are, as `TF_CONFIG` has them.
    """

    addresses: tuple[str, ...]
    index: int
    tasks: dict[str, int]

    @property
    def num_workers(self):
        """How many processes train together."""
        return len(self.addresses)

    @property
    def is_chief(self):
        """Whether this process is the one that writes and speaks."""
        return self.index == 0


def of_environment():
    """The cluster that `TF_CONFIG` names; None where it names no other process than this.

    Raises:
        RequestError: where it makes no sense.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
        groups = {str(name): list(addresses) for name, addresses in config.get("cluster", {}).items()}
        task = config.get("task", {"type": "worker", "index": 0})
        kind, index = str(task["type"]), int(task["index"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _refused(f"is not understood ({type(error).__name__}: {printable(error, 60)})") from None
    if not groups:
        return None
    if unknown := sorted(set(groups) - {"chief", "worker"}):
        raise _refused(f"names tasks of type {printable(unknown[0], 20)}, kvae knows chief and worker")
    chiefs, workers = groups.get("chief", []), groups.get("worker", [])
    if len(chiefs) > 1:
        raise _refused(f"names {len(chiefs)} chiefs, there is one at most")
    addresses = chiefs + workers
    for address in addresses:
        found = re.fullmatch(r"[^\s/]+:([0-9]{1,5})", address) if isinstance(address, str) else None
        if not found or not 0 < int(found[1]) < 2**16:
            raise _refused(f"has the address {printable(address, 60)}, not HOST:PORT")
    if len(set(addresses)) < len(addresses):
        raise _refused("gives two workers one address")
    if kind not in groups or not 0 <= index < len(groups[kind]):
        raise _refused(f"calls this process {printable(kind, 20)} {index}, which its cluster does not have")
    if len(addresses) == 1:
        return None
    tasks = {name: len(group) for name, group in groups.items() if group}
    return Cluster(tuple(addresses), index + (len(chiefs) if kind == "worker" else 0), tasks)


def _refused(what):
    return RequestError(f"TF_CONFIG {what}; expected for example {_EXAMPLE}.")
