"""Square tiles of a product, from tiles of its factors in shared memory: what a block of threads makes.

A thread has EACH x EACH sums in registers. GROUPS of threads share out the terms, and their sums are added in order.
An input that comes as bits is made floats on its way to shared memory.
"""

from ._driver import SIMULATED, cuda, part
from .bits import is_set

SIDE, EACH, GROUPS = (2, 2, 2) if SIMULATED else (8, 4, 4)
TILE = SIDE * EACH  # rows, columns, and terms at a time
SHARE = TILE // GROUPS  # of these terms, a group's
SQUARE = (SIDE, SIDE, GROUPS)  # the threads of a block
COUNT = SIDE * SIDE * GROUPS
LEFT, RIGHT, SUMS = (TILE, TILE + 1), (TILE, TILE), (EACH, EACH)  # one column more: a column lies in many banks


@part
def place():
    """This thread's number in its block."""
    return cuda.threadIdx.x + SIDE * (cuda.threadIdx.y + SIDE * cuda.threadIdx.z)


@part
def clear(sums):
    """sums = 0."""
    for i in range(EACH):
        for j in range(EACH):
            sums[i, j] = 0


@part
def multiply(left, right, sums):
    """sums += this thread's part of left times right, over the terms of its group."""
    row, column = EACH * cuda.threadIdx.y, cuda.threadIdx.x
    first = SHARE * cuda.threadIdx.z
    for k in range(first, first + SHARE):
        for i in range(EACH):
            for j in range(EACH):
                sums[i, j] += left[row + i, k] * right[k, column + SIDE * j]


@part
def gather_sums(sums, left):
    """left = the whole tile of sums, those of the groups added in order."""
    row, column = EACH * cuda.threadIdx.y, cuda.threadIdx.x
    for group in range(GROUPS):
        if cuda.threadIdx.z == group:
            for i in range(EACH):
                for j in range(EACH):
                    if group == 0:
                        left[row + i, column + SIDE * j] = sums[i, j]
                    else:
                        left[row + i, column + SIDE * j] += sums[i, j]
        cuda.syncthreads()


@part
def input_at(x, active, row, k):
    """Number k of a row of x, or of the bits where x is None."""
    if x is None:
        return is_set(active[row], k)
    return x[row, k]


@part
def multiply_tile(x, active, weight, rows, row, column, begin, end, left, right, sums):
    """left = the tile from (row, column) on of eq. (1) without bias, over the terms [begin, end)."""
    clear(sums)
    for first in range(begin, end, TILE):
        for e in range(place(), TILE * TILE, COUNT):
            i, j = e // TILE, e % TILE
            if row + i < rows and first + j < end:
                left[i, j] = input_at(x, active, row + i, first + j)
            else:
                left[i, j] = 0
            if first + i < end and column + j < weight.shape[1]:
                right[i, j] = weight[first + i, column + j]
            else:
                right[i, j] = 0
        cuda.syncthreads()
        multiply(left, right, sums)
        cuda.syncthreads()
    gather_sums(sums, left)
