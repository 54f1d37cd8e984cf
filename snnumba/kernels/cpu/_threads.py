"""The threads that run kernels together.

A kernel's items are cut into one contiguous range a thread; every item is computed in the same way whichever thread
does it, so results do not depend on the number of threads. Kernels are serial and release the interpreter lock, so
plain Python threads serve: nothing breaks under fork, and a second Python thread that comes while the team is busy
does its work alone.

Waking a sleeping thread takes about 50 us, as long as a kernel. So who waits first watches a number in memory, without
the interpreter lock, for about as long as it takes to come from one step of training to the next; then it sleeps. And
since the system may wake a worker on the core of the thread that it is to help, there to stay for many steps, a worker
keeps off that core.
"""

import ctypes
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core import config
from numba.extending import intrinsic

WATCH = 200_000  # looks at the number before sleeping: about 100 us
STAGGER = 6_000  # looks before a worker takes the interpreter lock, times its place: who called needs it for 3 us


def available_threads() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


try:
    _current_core: Callable[[], int] | None = ctypes.CDLL(None).sched_getcpu
except (AttributeError, OSError, TypeError):  # not Linux
    _current_core = None


class Call(NamedTuple):
    """A kernel's loop nest, function(begin, end, *args), over items in ranges that begin at multiples of grain."""

    function: Callable[..., Any]
    items: int
    grain: int
    args: tuple[Any, ...]

    def chunk(self, threads: int) -> int:
        """How many items a thread gets."""
        return -(-self.items // (threads * self.grain)) * self.grain

    def run(self, threads: int, place: int) -> None:
        """Do the share of the thread with this place, 0 to threads - 1."""
        chunk = self.chunk(threads)
        begin = place * chunk
        if begin < self.items:
            self.function(begin, min(begin + chunk, self.items), *self.args)


@intrinsic
def _load(typing, numbers, index):
    """numbers[index], read from memory each time."""

    def generate(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.gep(array.data, [args[1]])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.Array(types.int64, 1, "C"), types.intp), generate


@numba.njit(nogil=True)
def _watch(numbers, index, value, looks, more):
    """Look until numbers[index] has come to value, `looks` times at most, then `more` times for nothing; has it?"""
    for _ in range(looks):
        if _load(numbers, index) >= value:
            for _ in range(more):
                _load(numbers, index)
            return True
    return False


class _Signal:
    """A number that one thread raises and another waits for; both hold the interpreter lock outside of _watch."""

    def __init__(self) -> None:
        self._number = np.zeros(8, np.int64)  # a cache line
        self._asleep = False
        self._bell = threading.Lock()
        self._bell.acquire()

    def raise_to(self, value: int) -> None:
        self._number[0] = value
        if self._asleep and self._bell.locked():
            self._bell.release()

    def wait_for(self, value: int, more: int = 0) -> None:
        if _watch(self._number, 0, value, WATCH, more):
            return
        self._asleep = True
        while self._number[0] < value:
            self._bell.acquire()
        self._asleep = False


LAST = 1 << 62  # the number of the call after which there is none


class _Worker(threading.Thread):
    """A thread that does its share of calls when asked to."""

    def __init__(self, place: int) -> None:
        super().__init__(name=f"snnumba-{place}", daemon=True)
        self._place = place
        self._asked, self._done = _Signal(), _Signal()
        self._number = 0
        self._calls: list[Call] = []
        self._threads = 0
        self._error: BaseException | None = None
        self.start()

    def ask(self, calls: list[Call], threads: int) -> None:
        """Do the share of calls."""
        self._calls, self._threads = calls, threads
        self._number += 1
        self._asked.raise_to(self._number)

    def wait(self) -> None:
        """Wait for the share to be done; raise what it raised."""
        self._done.wait_for(self._number)
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Ask for no more: the thread ends when it has done what it is at."""
        self._number = LAST
        self._asked.raise_to(LAST)

    def run(self) -> None:
        number = 0
        while True:
            number += 1
            self._asked.wait_for(number, STAGGER * self._place)
            if self._number == LAST:
                return
            try:
                for call in self._calls:
                    call.run(self._threads, self._place)
            except BaseException as error:
                self._error = error
            self._calls = []
            self._done.raise_to(number)


class Team:
    """Threads that share the items of kernels."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._workers: list[_Worker] = []
        self._core: int | None = None  # the one that the workers keep off
        self._busy = threading.RLock()  # not to be locked out by an interrupt that came just after acquiring it
        self._collected = threading.local()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A forked child has none of its parent's threads."""
        self._workers = []
        self._busy = threading.RLock()

    def resize(self, threads: int) -> None:
        """Use this many threads from now on."""
        with self._busy:
            while len(self._workers) > threads - 1:
                self._workers.pop().end()
            self.threads = threads

    @contextmanager
    def together(self) -> Iterator[None]:
        """Run the kernels called inside at its end, each thread its share of one after the other, without waiting.

        So a kernel inside must not need what another thread's share of an earlier one writes: kernels over samples
        go together, whose shares are the same samples.
        """
        if getattr(self._collected, "calls", None) is not None:  # inside another: that one's end is the end
            yield
            return
        calls: list[Call] = []
        self._collected.calls = calls
        try:
            yield
        finally:
            self._collected.calls = None
        self._run(calls)

    def run(self, call: Call) -> None:
        """Run a kernel, now or, inside together(), at its end."""
        calls = getattr(self._collected, "calls", None)
        if calls is None:
            self._run([call])
        else:
            calls.append(call)

    def _run(self, calls: list[Call]) -> None:
        threads = self.threads
        helpers = max((-(-call.items // call.chunk(threads)) for call in calls if call.items), default=1) - 1
        if helpers < 1 or config.DISABLE_JIT or not self._busy.acquire(blocking=False):
            for call in calls:
                call.run(1, 0)
            return
        try:
            while len(self._workers) < helpers:
                self._workers.append(_Worker(len(self._workers) + 1))
                self._core = None
            self._keep_off()
            asked = self._workers[:helpers]
            for worker in asked:
                worker.ask(calls, threads)
            for call in calls:
                call.run(threads, 0)
            for worker in asked:
                worker.wait()
        except BaseException:  # an error, or an interrupt that may have come anywhere: none may go on with our arrays
            workers, self._workers = self._workers, []
            for worker in workers:
                worker.end()
            for worker in workers:
                worker.join()
            raise
        finally:
            self._busy.release()

    def _keep_off(self) -> None:
        """Let the workers run on any core but this thread's."""
        if _current_core is None:
            return
        core = _current_core()
        if core == self._core:
            return
        others = os.sched_getaffinity(0) - {core}
        if others:
            for worker in self._workers:
                os.sched_setaffinity(worker.native_id or 0, others)
        self._core = core


MOST_THREADS = 1024


def _threads_wanted() -> int:
    """SNNUMBA_NUM_THREADS, or all cores this process may use."""
    wanted = os.environ.get("SNNUMBA_NUM_THREADS")
    if wanted is None:
        return available_threads()
    if wanted.isdecimal() and 1 <= int(wanted) <= MOST_THREADS:
        return int(wanted)
    warnings.warn(
        f"SNNUMBA_NUM_THREADS must be an integer from 1 to {MOST_THREADS}; got {wanted!r}: all cores are used",
        RuntimeWarning,
        stacklevel=2,
    )
    return available_threads()


team = Team(_threads_wanted())
