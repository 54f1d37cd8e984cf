"""Calls of kernels recorded, to be run as one: a step of many small kernels is bound by what comes between them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba.core import config

from ._program import Program
from ._threads import Recording, team


class Graph:
    """Work on the same arrays again and again: from its second run on, it is replayed without its lines of Python.

    The first run compiles kernels and makes arrays. With the JIT disabled each run is of the work itself.

    Parameters
    ----------
    work : has kernels write to arrays, and does not read what they write; its arguments are arrays that kernels read,
        of the same shapes and types each time
    """

    def __init__(self, work: Callable[..., None]) -> None:
        self.work = work
        self._ran = False
        self._recording: Recording | None = None
        self._programs: list[Program] = []

    def __call__(self, *inputs: Any) -> None:
        if not self._ran or config.DISABLE_JIT:
            self._ran = True
            self.work(*inputs)
            return
        if self._recording is None:
            self._recording = team.record(partial(self.work, *inputs))
            self._programs = [step for step in self._recording if isinstance(step, Program)]
            for program in self._programs:
                program.find(inputs)
            others = [x for step in self._recording if isinstance(step, partial) for x in step.args]
            assert not any(np.may_share_memory(x, y) for x in others if isinstance(x, np.ndarray) for y in inputs)
        else:
            for program in self._programs:
                program.move(inputs)
        team.replay(self._recording)


__all__ = ["Graph"]
