"""The GPU side of a benchmark: its clock, its ceilings, calls of kernels, launches counted, calls as CUDA graphs.

Imported only where backend.load("cuda") works; in numba's simulator too, to try the code out, by the host's clock.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import clock
import numpy as np
from ceilings import REPEATS, Ceilings

from snnumba.kernels import cuda as kernels
from snnumba.kernels.cuda._driver import SIMULATED, Kernel, cuda, elementwise, kernel, numba_cuda

COPIED = 3000 if SIMULATED else 1 << 28  # bytes of each array
THREADS = 4 if SIMULATED else 256
GRID = 2 if SIMULATED else 4096
TIMES = 2 if SIMULATED else 512  # of CHAINS x UNROLLED multiply-adds a thread
CHAINS, UNROLLED = 8, 4


def about() -> dict[str, Any]:
    """Name, driver and versions."""
    if SIMULATED:
        return {"name": "numba's simulator"}
    device = numba_cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else str(device.name)
    found = {"name": name, "compute_capability": list(device.compute_capability)}
    found["cuda"] = list(numba_cuda.runtime.get_version())
    query = ["nvidia-smi", "--query-gpu=driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()[0]
        found |= dict(zip(("driver", "memory", "most_clock"), map(str.strip, line.split(",")), strict=True))
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        found["driver"] = None
    return found


def synchronize() -> None:
    """Wait for the device."""
    numba_cuda.synchronize()


def timed(call: clock.Call, together: int) -> float:
    """Seconds from when the device begins so many calls to when it has done them."""
    if SIMULATED:
        return clock.on_host(call, together)
    begin, end = numba_cuda.event(timing=True), numba_cuda.event(timing=True)
    synchronize()
    begin.record()
    for _ in range(together):
        call()
    end.record()
    end.synchronize()
    return float(numba_cuda.event_elapsed_time(begin, end)) / 1e3


def on_device(arguments: dict[str, Any]) -> list[Any]:
    """The arguments of a kernel, host arrays among them moved; arrays that are the same stay the same."""
    moved: dict[int, Any] = {}
    for x in arguments.values():
        if isinstance(x, np.ndarray) and id(x) not in moved:
            moved[id(x)] = kernels.from_host(x)
    return [moved.get(id(x), x) if isinstance(x, np.ndarray) else x for x in arguments.values()]


@contextmanager
def launching(launch: Callable[..., None]) -> Iterator[None]:
    """Let kernels be launched by this method instead of their own."""
    usual = Kernel.launch
    Kernel.launch = launch  # type: ignore[method-assign]
    try:
        yield
    finally:
        Kernel.launch = usual  # type: ignore[method-assign]


def launches(call: clock.Call) -> int:
    """How many kernels a call launches."""
    count, usual = 0, Kernel.launch

    def launch(self: Kernel, *args: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        usual(self, *args, **options)

    with launching(launch):
        call()
    synchronize()
    return count


def as_graph(call: clock.Call) -> clock.Call:
    """The launches of a call as one CUDA graph, recorded; call it to launch it."""
    graph: clock.Call = kernels.Graph(call)
    graph()
    graph()
    return graph


@elementwise(lambda a, b: a.shape[0])
def add_multiple(a, b):
    """a += 2 b."""
    i = cuda.grid(1)
    if i < a.shape[0]:
        a[i] += a.dtype.type(2) * b[i]


@kernel
def multiply_add(factor, y, times, out):
    """CHAINS of x = factor x + y in each thread, UNROLLED times in a turn."""
    i = cuda.grid(1)
    x0, x1 = out[i], out[i] + y
    x2, x3, x4, x5, x6, x7 = x1 + y, x1 - y, x0 - y, x0 * y, x1 * y, x0 * x1  # not the same, or one would do for all
    for _ in range(times):
        for _ in range(UNROLLED):
            x0, x1, x2, x3 = factor * x0 + y, factor * x1 + y, factor * x2 + y, factor * x3 + y
            x4, x5, x6, x7 = factor * x4 + y, factor * x5 + y, factor * x6 + y, factor * x7 + y
    out[i] = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7


def ceilings() -> Ceilings:
    """Those of the device in float32: of its memory the faster of the driver's copy and of a += 2 b."""

    def fastest(call: clock.Call) -> float:
        call()
        return min(timed(call, 1) for _ in range(1 if SIMULATED else REPEATS))

    size = COPIED // 4
    a, b = (kernels.from_host(np.ones(size, np.float32)) for _ in range(2))
    bandwidth = max(8 * size / fastest(lambda: a.copy_to_device(b)), 12 * size / fastest(lambda: add_multiple(a, b)))
    out = kernels.from_host(np.arange(GRID * THREADS, dtype=np.float32))
    arguments = np.float32(0.5), np.float32(0.25), TIMES, out
    seconds = fastest(lambda: multiply_add.launch(GRID, THREADS, *arguments))
    return Ceilings(GRID * THREADS * TIMES * CHAINS * UNROLLED / seconds, {2 * COPIED: bandwidth})
