"""Work in a thread of its own, ahead of what takes its results: graphs run while what they gave is being written.

ONNX Runtime, numpy and files all let go of Python's lock, so that the two sides share two cores.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

DEPTH = 2
"""Results that wait at most: more only cost memory."""


def ahead(items: Iterable[T], depth: int = DEPTH) -> Iterator[T]:
    """Yield the same items in the same order, made in a thread that is at most `depth` of them ahead.

    What the thread raises is raised here, after the items before it. When the generator is closed, the thread ends
    with the item that it is at, and has ended before `close` returns.
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

    worker = threading.Thread(target=work, name="kvae-ahead", daemon=True)
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
