"""The threads that run kernels together.

A kernel's items are cut into one contiguous range a thread; every item is computed in the same way whichever thread
does it, so results do not depend on the number of threads. Kernels are serial and release the interpreter lock, so
plain Python threads serve: nothing breaks under fork, and a second Python thread that comes while the team is busy
does its work alone.

Waking a sleeping thread takes about 50 us, as long as a kernel, and so does waiting for the interpreter lock. So a
worker watches a number in memory, for about as long as it takes to come from one step of training to the next, before
it sleeps, and what it is then asked to do is written down for it (_program.py): it needs no interpreter. And since the
system may wake a worker on the core of the thread that it is to help, there to stay for many steps, a worker keeps off
that core.

Work that is done again and again on the same arrays is recorded: all that its kernels are called with is one program
then, with barriers where one has to wait for another, and runs without a line of Python.
"""

import ctypes
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ._cache import kept
from ._program import LINE, Program, aligned, load, run_share, store

WATCH = 1_200_000  # looks at the number before sleeping: about 0.5 ms


def available_threads() -> int:
    """The number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - not Linux


try:
    _current_core: Callable[[], int] | None = ctypes.PyDLL(None).sched_getcpu  # keeps the interpreter lock
except (AttributeError, OSError, TypeError):  # pragma: no cover - not Linux
    _current_core = None


# Words of a worker's board: the number of the last program asked for, and what run_share takes for it, on one line; on
# the next the number of the last one done, and whether one has failed.
ASKED, ADDRESS, END, THREADS, ALL_HERE, STOP, DONE, FAILED = 0, 1, 2, 3, 4, 5, LINE, LINE + 1
LAST = 1 << 62  # the number after which there is none


@kept
@numba.njit  # with the interpreter lock: see _Worker.ask
def _ask(board, number, program, end, threads, all_here):  # pragma: no cover - machine code is not traced
    """Ask for a program's share."""
    store(board, ADDRESS, program)
    store(board, END, end)
    store(board, THREADS, threads)
    store(board, ALL_HERE, all_here)
    store(board, ASKED, number)


@kept
@numba.njit(nogil=True)
def _come(board, word, number, looks):  # pragma: no cover - machine code is not traced
    """Look, so many times at most, until a word of the board has come to a number; has it?"""
    for _ in range(looks):  # noqa: SIM110  as Numba compiles it
        if load(board, word) >= number:
            return True
    return False


@kept
@numba.njit(nogil=True)
def _serve(board, place):  # pragma: no cover - machine code is not traced
    """Do what is asked for until nothing is for a while, or, True, until the end."""
    number = load(board, DONE) + 1
    while _come(board, ASKED, number, WATCH):
        if load(board, ASKED) == LAST:
            return True
        program, end, threads = load(board, ADDRESS), load(board, END), load(board, THREADS)
        if run_share(program, end, threads, place, load(board, ALL_HERE), load(board, STOP)):
            store(board, FAILED, 1)
        store(board, DONE, number)
        number += 1
    return False


class _Worker(threading.Thread):
    """A thread that does its share of programs when asked to."""

    def __init__(self, place: int, halt: npt.NDArray[np.int64]) -> None:
        super().__init__(name=f"snnumba-{place}", daemon=True)
        self._place = place
        self._words = aligned(2 * LINE)
        self._board: int = self._words.ctypes.data
        self._halt = halt  # (1,): no longer 0 when a worker has ended that others might wait for
        self._words[STOP] = halt.ctypes.data
        self._number = 0
        self._asleep = False
        self._error: BaseException | None = None
        self._bell = threading.Lock()
        self._bell.acquire()
        self.start()

    def ask(self, program: Program, threads: int, all_here: int) -> None:
        """Do the share of a program that is cut for so many threads, which so many run."""
        self._number += 1
        self._tell(self._number, program.address, program.end, threads, all_here)

    def end(self) -> None:
        """Ask for no more: the thread ends when it has done what it is at."""
        self._tell(LAST, 0, 0, 0, 0)

    def _tell(self, *asked: int) -> None:
        """Write on the board, and ring if need be: the thread holds the lock that we hold when it goes to sleep."""
        _ask(self._board, *asked)
        if self._asleep and self._bell.locked():
            self._bell.release()

    def wait(self) -> bool:
        """Wait for the share to be done: did a kernel fail in it?"""
        while not _come(self._board, DONE, self._number, WATCH):
            time.sleep(0)  # lets another thread have this core
        if self._error is not None:
            raise self._error
        failed = bool(self._words[FAILED])
        self._words[FAILED] = 0
        return failed

    def run(self) -> None:
        try:
            while not _serve(self._board, self._place):
                self._asleep = True
                if self._words[ASKED] <= self._words[DONE]:
                    self._bell.acquire()
                self._asleep = False
        except BaseException as error:  # such as a lack of memory to compile _serve with: nothing will be done any more
            self._error = error
            self._halt[0] = 1
            self._words[DONE] = LAST


Recording = list[Program | partial[None]]


class _Mine(threading.local):
    """What each Python thread has for itself."""

    def __init__(self) -> None:
        self.program = Program()
        self.together = False  # inside Team.together
        self.recording: Recording | None = None  # inside Team.record


class Team:
    """Threads that share the items of kernels."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._workers: list[_Worker] = []
        self._core: int | None = None  # the one that the workers keep off
        self._busy = threading.RLock()  # not to be locked out by an interrupt that came just after acquiring it
        self._halt = np.zeros(1, np.int64)
        self._halt_address: int = self._halt.ctypes.data
        self._mine = _Mine()
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

        So a kernel inside must not need what another thread's share of an earlier one writes, unless wait() is called
        between: kernels over samples go together, whose shares are the same samples.
        """
        mine = self._mine
        if mine.together:  # inside another: that one's end is the end
            yield
            return
        mine.together = True
        try:
            yield
            self._finish(mine)
        finally:
            mine.together = False
            if mine.recording is None:
                mine.program.clear()

    def wait(self) -> None:
        """Let no kernel called from now on begin before all until now are done; for together(), else they are."""
        self._mine.program.wait()

    def call(self, write: Callable[..., int], items: int, grain: int, args: tuple[Any, ...]) -> None:
        """Run a kernel, see Program.append, now or, inside together(), at its end."""
        mine = self._mine
        if mine.together:
            mine.program.append(write, items, grain, args)
            return
        try:
            mine.program.append(write, items, grain, args)
            self._finish(mine)
        finally:
            if mine.recording is None:
                mine.program.clear()

    def _finish(self, mine: _Mine) -> None:
        """Run what a thread has written down, or, if it is recorded, let what comes wait for it."""
        if mine.recording is None:
            self._run(mine.program)
        else:
            mine.program.wait()

    def record(self, work: Callable[[], None]) -> Recording:
        """What `work` has kernels and recordable functions do; nothing of it is done.

        Its lines of Python run once, now, and must not depend on what those write.
        """
        mine = self._mine
        before, mine.program = mine.program, Program()
        recording = mine.recording = []
        try:
            work()
            self._file(mine)
        finally:
            mine.program, mine.recording, mine.together = before, None, False
        return recording

    def _file(self, mine: _Mine) -> None:
        """Put what a thread has written down into its recording."""
        if mine.program.end:
            assert mine.recording is not None
            mine.recording.append(mine.program)
            mine.program = Program()

    def replay(self, recording: Recording) -> None:
        """Do again what was recorded, on the same arrays."""
        for step in recording:
            if isinstance(step, Program):
                self._run(step)
            else:
                step()

    def do(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function that writes to arrays without a kernel, or record that it is to be called."""
        mine = self._mine
        if mine.recording is None:
            if mine.program.end:  # inside together(): what is to be done before
                self._run(mine.program)
                mine.program.clear()
            function(*args)
        else:
            self._file(mine)
            mine.recording.append(partial(function, *args))

    def _run(self, program: Program) -> None:
        """Run a program on as many threads as it has shares for, or alone while the others are busy."""
        threads = self.threads
        program.begin()
        if min(threads, program.shares) < 2 or not self._busy.acquire(blocking=False):
            failed = run_share(program.address, program.end, 1, 0, 1, self._halt_address)
        else:
            failed = self._run_on(threads, program)
        if failed:
            raise RuntimeError("a kernel failed")

    def _run_on(self, threads: int, program: Program) -> bool:
        """Run a program cut for so many threads, and let go of _busy: did a kernel fail?"""
        helpers = min(threads, program.shares) - 1
        try:
            while len(self._workers) < helpers:
                self._workers.append(_Worker(len(self._workers) + 1, self._halt))
                self._core = None
            self._keep_off()
            asked = self._workers[:helpers]
            for worker in asked:
                worker.ask(program, threads, 1 + helpers)
            failed: bool = run_share(program.address, program.end, threads, 0, 1 + helpers, self._halt_address)
            for worker in asked:
                failed = worker.wait() or failed
            return failed
        except BaseException:  # an error, or an interrupt that may have come anywhere: none may go on with our arrays
            self._halt[0] = 1
            workers, self._workers = self._workers, []
            for worker in workers:
                worker.end()
            for worker in workers:
                worker.join()
            self._halt[0] = 0
            raise
        finally:
            self._busy.release()

    def _keep_off(self) -> None:
        """Let the workers run on any core but this thread's."""
        if _current_core is None:  # pragma: no cover - not Linux
            return
        core = _current_core()
        if core == self._core:
            return
        others = os.sched_getaffinity(0) - {core}
        for worker in self._workers if others else []:
            with suppress(ProcessLookupError):  # one that has ended tells why when it is waited for
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


def recordable(function: Callable[..., None]) -> Callable[..., None]:
    """A function that writes to arrays, and is no kernel, as one that Team.record can record."""

    @wraps(function)
    def recorded(*args: Any) -> None:
        team.do(function, *args)

    return recorded
