"""Steps of training and of evaluation that leave the host out: what a step begins with, and what it leaves behind.

`k` (1,) int64 counts the steps of an epoch on the device, so that the same launches do each of them: before the first
step, the host writes down the samples of all, and what an optimizer changes from one to the next; after the last, it
reads what each has left in its row.
"""

import numpy as np

from ._driver import SIMULATED, cuda, elementwise, kernel
from ._sums import total_of

THREADS_OF_SUM = 4 if SIMULATED else 256
SUMS = (THREADS_OF_SUM,)


@elementwise(lambda k, order, size, picked, table, factors: max(picked.shape[0], factors.shape[0]))
def begin_step(k, order, size, picked, table, factors):
    """The samples of step k, and the factors of its optimizer.

    Parameters
    ----------
    k : (1,) int64
    order : (N,) int64                  samples in the order of the epoch, `size` a step
    picked : (B,) int64                 written in full; B < size in a last, short step
    table : (K, F) float                a row a step
    factors : (F,) float                written in full
    """
    i = cuda.grid(1)
    if i < picked.shape[0]:
        picked[i] = order[k[0] * size + i]
    if i < factors.shape[0]:
        factors[i] = table[k[0], i]


@kernel
def sum_up(values, k, column, out):
    """record, by one block."""
    shared = cuda.shared.array(SUMS, out.dtype)
    total = out.dtype.type(0)
    for i in range(cuda.threadIdx.x, values.shape[0], cuda.blockDim.x):
        total += values[i]
    total = total_of(total, shared)
    if cuda.threadIdx.x == 0:
        out[k[0], column] = total


def record(values, k, column, out):
    """out[k, column] = the sum of values, of any shape and of the type of out (K, C)."""
    sum_up.launch(1, THREADS_OF_SUM, values.reshape(values.size), k, column, out)


@kernel
def find_right(x, labels, k, column, out):
    """count_right, by one block."""
    shared = cuda.shared.array(SUMS, np.int64)
    total = 0
    for b in range(cuda.threadIdx.x, labels.shape[0], cuda.blockDim.x):
        best = 0
        for c in range(1, x.shape[2]):
            if x[0, b, c] > x[0, b, best]:
                best = c
        total += best == labels[b]
    total = total_of(total, shared)
    if cuda.threadIdx.x == 0:
        out[k[0], column] = total


def count_right(x, labels, k, column, out):
    """out[k, column] = how many samples have their largest x, the first of equals, at their label.

    x (1, B, C) float, labels (B,) int64, k (1,) int64, out (K, columns) int64.
    """
    find_right.launch(1, THREADS_OF_SUM, x, labels, k, column, out)


@elementwise(lambda k: 1)
def end_step(k):
    """k += 1."""
    if cuda.grid(1) == 0:
        k[0] += 1


__all__ = ["begin_step", "count_right", "end_step", "record"]
