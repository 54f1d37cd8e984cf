"""The most that the CPU does, measured, and from it the floor of a kernel: the time it cannot be under.

    (1) floor = max(bytes / bandwidth, operations / peak)

An operation is a fused multiply-add of one number, or a sum, a product or a comparison alone: the peak counts them so,
and is half of what is given as FLOP/s. Bandwidth is that of a += k b over all threads, 12 bytes for each number of a: a
is changed in place, since memory that is only written is read as well, unseen. It depends on how much memory that is,
for small arrays stay in caches, so it is measured for several sizes. A run measures both several times, and takes the
higher ones.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from snnumba.kernels.cpu import team
from snnumba.kernels.cpu._compile import kernel
from snnumba.kernels.cpu.vector import fused, lanes, load, store

SIZES = [1 << k for k in range(14, 29)]  # bytes of both arrays
GONE_THROUGH = 1 << 26  # bytes a measurement of bandwidth
CHAINS = 12  # of multiply-adds that do not wait for each other
TIMES = 20_000  # of all chains in a measurement of the peak
REPEATS = 30  # of which the best counts: others may be at work on the machine


@dataclass
class Ceilings:
    """What a device does at most: operations a second, and bytes a second by how many bytes are gone through."""

    peak: float
    bandwidth: dict[int, float]

    def floor(self, work: Any) -> float:
        """Eq. (1), in seconds, of what moves so many bytes of so much memory and does so many operations."""
        return max(self._moving(work), work.operations / self.peak)

    def kind(self, work: Any) -> str:
        """Which of the two it is in eq. (1)."""
        return "bytes" if self._moving(work) > work.operations / self.peak else "operations"

    def _moving(self, work: Any) -> float:
        sizes = sorted(self.bandwidth)
        fast = np.interp(np.log2(max(work.memory, 1)), np.log2(sizes), [self.bandwidth[size] for size in sizes])
        return work.bytes / float(fast)

    def best(self, other: "Ceilings") -> "Ceilings":
        """The higher ones, of two measurements at the same sizes."""
        faster = {size: max(fast, other.bandwidth[size]) for size, fast in self.bandwidth.items()}
        return Ceilings(max(self.peak, other.peak), faster)

    def record(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        around = ", ".join(f"{size / 1e6:.3g} MB: {fast / 1e9:.0f} GB/s" for size, fast in self.bandwidth.items())
        return f"{self.peak / 1e9:.0f} G operations/s; {around}"


@kernel(lambda a, *_: a.shape[0], grain=16)
def add_multiple(begin, end, a, b, times):
    """a += k b, for k below times."""
    a, b = a[begin:end], b[begin:end]
    for k in range(times):
        factor = a.dtype.type(k)
        for i in range(a.shape[0]):
            a[i] += factor * b[i]


@kernel(lambda rows, factor, times: rows.shape[0])
def multiply_add(begin, end, rows, factor, times):
    """Chains x = factor y + x from vectors of each row (CHAINS + 1 of them), so many times."""
    for r in range(begin, end):
        row = rows[r]
        n = lanes(row)
        y = load(row, 12 * n)
        x0, x1, x2, x3 = load(row, 0), load(row, n), load(row, 2 * n), load(row, 3 * n)
        x4, x5, x6, x7 = load(row, 4 * n), load(row, 5 * n), load(row, 6 * n), load(row, 7 * n)
        x8, x9, xa, xb = load(row, 8 * n), load(row, 9 * n), load(row, 10 * n), load(row, 11 * n)
        for _ in range(times):
            x0, x1, x2, x3 = fused(factor, y, x0), fused(factor, y, x1), fused(factor, y, x2), fused(factor, y, x3)
            x4, x5, x6, x7 = fused(factor, y, x4), fused(factor, y, x5), fused(factor, y, x6), fused(factor, y, x7)
            x8, x9, xa, xb = fused(factor, y, x8), fused(factor, y, x9), fused(factor, y, xa), fused(factor, y, xb)
        store(row, 0, x0), store(row, n, x1), store(row, 2 * n, x2), store(row, 3 * n, x3)
        store(row, 4 * n, x4), store(row, 5 * n, x5), store(row, 6 * n, x6), store(row, 7 * n, x7)
        store(row, 8 * n, x8), store(row, 9 * n, x9), store(row, 10 * n, xa), store(row, 11 * n, xb)


def fastest(run: Callable[[], None]) -> float:
    """The least of some times, the first left out."""
    run()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def of_cpu() -> Ceilings:
    """Those of the CPU in float32, on as many threads as kernels have."""
    bandwidth = {}
    for size in SIZES:
        a, b = (np.ones(size // 8, np.float32) for _ in range(2))
        times = max(1, GONE_THROUGH // size)
        bandwidth[size] = 12 * len(a) * times / fastest(lambda a=a, b=b, times=times: add_multiple(a, b, times))
    rows = np.ones((team.threads, (CHAINS + 1) * 16), np.float32)
    seconds = fastest(lambda: multiply_add(rows, np.float32(1e-9), TIMES))
    return Ceilings(team.threads * CHAINS * 16 * TIMES / seconds, bandwidth)
