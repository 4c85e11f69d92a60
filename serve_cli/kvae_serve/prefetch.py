"""Prefetching: run an iterator in a background thread, so that graphs run while earlier results are written.

ONNX Runtime, NumPy and file output release Python's lock, so both threads make progress.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

DEPTH = 2
"""Maximum number of waiting results. More only cost memory."""


def prefetch(items: Iterable[T], depth: int = DEPTH) -> Iterator[T]:
    """Yield the same items in the same order, computed up to `depth` items ahead in a background thread.

    An exception of the thread is raised here, after the items before it. Closing the generator stops the thread and
    waits for it.
    """
    waiting: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(more: bool, item: T | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                waiting.put((more, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
        except BaseException as error:
            put(False, error)
        else:
            put(False, None)

    worker = threading.Thread(target=work, name="kvae-prefetch", daemon=True)
    worker.start()
    try:
        while True:
            more, item = waiting.get()
            if not more:
                break
            yield item  # type: ignore[misc]
        if item is not None:
            raise item  # type: ignore[misc]
    finally:
        stop.set()
        worker.join()
