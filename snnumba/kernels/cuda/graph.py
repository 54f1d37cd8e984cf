"""Launches recorded as a CUDA graph, which is launched as one: a step of many small kernels is bound by launches."""

import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from ._driver import SIMULATED, bindings, launches, numba_cuda
from .workspace import copy, from_host


class Graph:
    """Work on the same arrays again and again: from its second run on, all its launches are one.

    The first run compiles kernels and makes arrays. In the simulator each run is of plain launches.

    Parameters
    ----------
    work : launches kernels, and neither copies to or from the host nor waits for the device; its arguments are arrays
        that kernels read, of the same shapes and types each time
    """

    def __init__(self, work: Callable[..., None]) -> None:
        self.work = work
        self._ran = False
        self._executable: Any = None
        self._inputs: list[Any] = []  # of our own: what the launches read

    def __call__(self, *inputs: Any) -> None:
        if not self._ran or SIMULATED:
            self._ran = True
            self.work(*inputs)
        else:  # pragma: no cover - needs a GPU
            if self._executable is None:
                self._inputs = [from_host(np.zeros(x.shape, x.dtype)) for x in inputs]
                self._executable = _recorded(partial(self.work, *self._inputs))
                weakref.finalize(self, _call, "cuGraphExecDestroy", self._executable).atexit = False
            for x, ours in zip(inputs, self._inputs, strict=True):
                copy(x, ours)
            _call("cuGraphLaunch", self._executable, _stream().handle)


def graphs_missing() -> str | None:
    """What keeps the launches of a step from being one graph; None: nothing does."""
    return "numba's simulator has none" if SIMULATED else None


@cache
def _stream() -> Any:  # pragma: no cover - needs a GPU
    """Where graphs are recorded and run, in order with what is launched elsewhere."""
    return numba_cuda.stream()


def _recorded(work: Callable[[], None]) -> Any:  # pragma: no cover - needs a GPU
    """The launches of `work`, recorded in place of being run."""
    stream, modes = _stream(), bindings().CUstreamCaptureMode
    _call("cuStreamBeginCapture", stream.handle, modes.CU_STREAM_CAPTURE_MODE_RELAXED)  # numba may free memory
    launches.stream = stream
    try:
        work()
    finally:
        launches.stream = 0
        graph = _call("cuStreamEndCapture", stream.handle)
    try:
        return _call("cuGraphInstantiate", graph, 0)
    finally:
        _call("cuGraphDestroy", graph)


def _call(name: str, *args: Any) -> Any:  # pragma: no cover - needs a GPU
    """What a function of CUDA's driver gives."""
    error, *made = getattr(bindings(), name)(*args)
    if error != bindings().CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"CUDA's {name} failed: {error.name}")
    return made[0] if made else None


__all__ = ["Graph", "graphs_missing"]
