"""The threads that run a kernel together.

A kernel's items are cut into one contiguous range a thread; every item is computed in the same way whichever thread
does it, so results do not depend on the number of threads. Kernels are serial and release the interpreter lock, so
plain Python threads serve: nothing breaks under fork, and a second Python thread that comes while the team is busy
does its work alone.
"""

import os
import threading
from collections.abc import Callable
from typing import Any


def available_threads() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker(threading.Thread):
    """A thread that waits for a call, does it, and says so."""

    def __init__(self) -> None:
        super().__init__(name="snnumba", daemon=True)
        self.call: tuple[Callable[..., Any], tuple[Any, ...]] | None = None
        self.error: BaseException | None = None
        self._go = threading.Lock()
        self._done = threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self.start()

    def submit(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.call = function, args
        self._go.release()

    def wait(self) -> None:
        self._done.acquire()
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def stop(self) -> None:
        self.call = None
        self._go.release()

    def run(self) -> None:
        while True:
            self._go.acquire()
            if self.call is None:
                return
            function, args = self.call
            try:
                function(*args)
            except BaseException as error:
                self.error = error
            self._done.release()


class Team:
    """Threads that share the items of a kernel."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._workers: list[_Worker] = []
        self._busy = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked child has none of its parent's threads."""
        self._workers = []
        self._busy = threading.Lock()

    def resize(self, threads: int) -> None:
        """Use this many threads from now on."""
        with self._busy:
            while len(self._workers) > threads - 1:
                self._workers.pop().stop()
            self.threads = threads

    def run(self, function: Callable[..., Any], items: int, grain: int, args: tuple[Any, ...]) -> None:
        """Call function(begin, end, *args) over [0, items), in ranges that begin at multiples of grain."""
        chunk = -(-items // (self.threads * grain)) * grain
        if chunk >= items or not self._busy.acquire(blocking=False):
            function(0, items, *args)
            return
        try:
            while len(self._workers) < self.threads - 1:
                self._workers.append(_Worker())
            called = []
            for worker, begin in zip(self._workers, range(chunk, items, chunk), strict=False):
                worker.submit(function, (begin, min(begin + chunk, items), *args))
                called.append(worker)
            try:
                function(0, chunk, *args)
            finally:
                for worker in called:
                    worker.wait()
        finally:
            self._busy.release()


team = Team(int(os.environ.get("SNNUMBA_NUM_THREADS", 0)) or available_threads())
