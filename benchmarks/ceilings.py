"""The most that the CPU does, measured, and from it the floor of a kernel: the time it cannot be under.

    (1) floor = max(bytes / bandwidth, operations / peak)

An operation is a fused multiply-add of one number, or a sum, a product or a comparison alone: the peak counts them so,
and is half of what is given as FLOP/s. Bandwidth is that of a += k b over all threads, 12 bytes for each number of a: a
is changed in place, since memory that is only written is read as well, unseen. It depends on how much memory that is,
for small arrays stay in caches, so it is measured for several sizes. A run measures both several times, and takes the
higher ones.

What keeps a kernel from its floor is measured too: how fast rows of a table are added to sums in registers, from the
cache that holds the table, and what a call takes that does nothing.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import clock
import numpy as np

from snnumba.kernels.cpu import aligned, team
from snnumba.kernels.cpu._compile import kernel
from snnumba.kernels.cpu.vector import add, fused, lanes, load, store

SIZES = [1 << k for k in range(14, 29)]  # bytes of both arrays
TABLES = [1 << k for k in range(14, 28, 2)]  # bytes
GONE_THROUGH = 1 << 26  # bytes a measurement of bandwidth
CHAINS = 12  # of multiply-adds that do not wait for each other
TIMES = 20_000  # of all chains in a measurement of the peak
CALLS = 0.1  # seconds to measure one that does nothing
REPEATS = 30  # of which the best counts: others may be at work on the machine


@dataclass
class Ceilings:
    """What a device does at most: operations a second, and bytes a second by how many bytes are gone through.

    rows: numbers a second, added from rows of a table, by its bytes; calls: seconds of one of nothing, by threads.
    """

    peak: float
    bandwidth: dict[int, float]
    rows: dict[int, float] = field(default_factory=dict)
    calls: dict[int, float] = field(default_factory=dict)

    def floor(self, work: Any) -> float:
        """Eq. (1), in seconds, of what moves so many bytes of so much memory and does so many operations."""
        return max(self._moving(work), work.operations / self.peak)

    def kind(self, work: Any) -> str:
        """Which of the two it is in eq. (1)."""
        return "bytes" if self._moving(work) > work.operations / self.peak else "operations"

    def _moving(self, work: Any) -> float:
        return work.bytes / between(self.bandwidth, work.memory)

    def from_table(self, size: int) -> float:
        """The share of the peak that sums of a table's rows can come to, the table of so many bytes."""
        return between(self.rows, size) / self.peak

    def best(self, other: "Ceilings") -> "Ceilings":
        """The higher ones, of two measurements at the same sizes."""
        faster = [
            {size: max(fast, theirs[size]) for size, fast in mine.items()}
            for mine, theirs in ((self.bandwidth, other.bandwidth), (self.rows, other.rows))
        ]
        return Ceilings(
            max(self.peak, other.peak), *faster, {n: min(call, other.calls[n]) for n, call in self.calls.items()}
        )

    def record(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    def __str__(self) -> str:
        around = ", ".join(f"{size / 1e6:.3g} MB: {fast / 1e9:.0f} GB/s" for size, fast in self.bandwidth.items())
        return f"{self.peak / 1e9:.0f} G operations/s; {around}"


def between(fast: dict[int, float], size: int) -> float:
    """What was measured at sizes, in between."""
    sizes = sorted(fast)
    return float(np.interp(np.log2(max(size, 1)), np.log2(sizes), [fast[known] for known in sizes]))


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


@kernel(lambda tables, times: tables.shape[0])
def add_rows(begin, end, tables, times):
    """The sums of rows of 8 vectors of each table, so many times."""
    for r in range(begin, end):
        table = tables[r]
        n = lanes(table)
        for _ in range(times):
            s0, s1, s2, s3 = load(table, 0), load(table, n), load(table, 2 * n), load(table, 3 * n)
            s4, s5, s6, s7 = load(table, 4 * n), load(table, 5 * n), load(table, 6 * n), load(table, 7 * n)
            for at in range(8 * n, table.shape[0], 8 * n):
                s0, s1 = add(s0, load(table, at)), add(s1, load(table, at + n))
                s2, s3 = add(s2, load(table, at + 2 * n)), add(s3, load(table, at + 3 * n))
                s4, s5 = add(s4, load(table, at + 4 * n)), add(s5, load(table, at + 5 * n))
                s6, s7 = add(s6, load(table, at + 6 * n)), add(s7, load(table, at + 7 * n))
            store(table, 0, s0), store(table, n, s1), store(table, 2 * n, s2), store(table, 3 * n, s3)
            store(table, 4 * n, s4), store(table, 5 * n, s5), store(table, 6 * n, s6), store(table, 7 * n, s7)


@kernel(lambda items: items.shape[0])
def nothing(begin, end, items):
    """What every call costs."""


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
    added = {}
    for size in TABLES:
        tables = aligned(team.threads * size // 4, np.float32).reshape(team.threads, -1)
        times = max(1, GONE_THROUGH // size)
        seconds = fastest(lambda tables=tables, times=times: add_rows(tables, times))
        added[size] = tables.size * times / seconds
    rows = np.ones((team.threads, (CHAINS + 1) * 16), np.float32)
    seconds = fastest(lambda: multiply_add(rows, np.float32(1e-9), TIMES))
    each = {n: np.zeros(n, np.int64) for n in (1, team.threads)}
    calls = {n: min(clock.sampled(lambda items=items: nothing(items), CALLS)) for n, items in each.items()}
    return Ceilings(team.threads * CHAINS * 16 * TIMES / seconds, bandwidth, added, calls)
