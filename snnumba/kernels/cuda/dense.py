"""Products with a weight matrix at every step t and for every sample b, (1) forward and (2)-(4) backward.

    (1) out[t, b] = x[t, b] W + bias
    (2) dW        = sum_tb x[t, b]^T d[t, b]
    (3) dbias     = sum_tb d[t, b]
    (4) dx[t, b]  = d[t, b] W^T

A block of threads makes a tile of a product (_tile.py). Where tiles are few, several blocks share out the terms of one,
and a second kernel adds what they made, in order.
"""

import numpy as np

from ._driver import SIMULATED, THREADS, blocks, cuda, elementwise, kernel, part, scratch
from ._tile import COUNT, LEFT, RIGHT, SQUARE, SUMS, TILE, clear, gather_sums, input_at, multiply, multiply_tile, place
from .bits import bit, no_bits, word_of

BLOCK = 1  # samples whose gradients of beta, threshold and V lie in one row: each thread writes its own
ENOUGH = 4 if SIMULATED else 128  # blocks, to keep a device busy
LEAST = 4 * TILE  # terms of a block, where blocks share them


@kernel
def multiply_rows(x, active, weight, bias, terms, out):
    """Eq. (1) for rows x (R, I) or active (R, ceil(I/64)): out (P, R, O), each of P over its share of the terms."""
    left = cuda.shared.array(LEFT, weight.dtype)
    right = cuda.shared.array(RIGHT, weight.dtype)
    sums = cuda.local.array(SUMS, weight.dtype)
    row, column, p = TILE * cuda.blockIdx.x, TILE * cuda.blockIdx.y, cuda.blockIdx.z
    _, rows, columns = out.shape
    end = min((p + 1) * terms, weight.shape[0])
    multiply_tile(x, active, weight, rows, row, column, p * terms, end, left, right, sums)
    for e in range(place(), TILE * TILE, COUNT):
        i, j = e // TILE, e % TILE
        if row + i < rows and column + j < columns:
            out[p, row + i, column + j] = left[i, j] if bias is None else left[i, j] + bias[column + j]


@kernel
def multiply_columns(x, active, d, terms, parts, dweight, dbias, add):
    """Eqs. (2) and (3) for rows x (R, I) or active (R, ceil(I/64)) and d (R, O).

    parts (P, I + 1, O) is written in full, each of P over its share of the rows; if None, dweight and dbias are.
    """
    left = cuda.shared.array(LEFT, d.dtype)
    right = cuda.shared.array(RIGHT, d.dtype)
    sums = cuda.local.array(SUMS, d.dtype)
    row, column, p = TILE * cuda.blockIdx.x, TILE * cuda.blockIdx.y, cuda.blockIdx.z
    inputs, columns = dweight.shape
    end = min((p + 1) * terms, d.shape[0])
    clear(sums)
    for first in range(p * terms, end, TILE):
        for e in range(place(), TILE * TILE, COUNT):
            k, j = e // TILE, e % TILE
            if first + k < end and row + j < inputs:
                left[j, k] = input_at(x, active, first + k, row + j)
            else:
                left[j, k] = first + k < end and row + j == inputs  # (3): the bias is an input that is always 1
            if first + k < end and column + j < columns:
                right[k, j] = d[first + k, column + j]
            else:
                right[k, j] = 0
        cuda.syncthreads()
        multiply(left, right, sums)
        cuda.syncthreads()
    gather_sums(sums, left)
    for e in range(place(), TILE * TILE, COUNT):
        i, j = e // TILE, e % TILE
        if row + i <= inputs and column + j < columns:
            if parts is None:
                put(left[i, j], row + i, column + j, dweight, dbias, add)
            else:
                parts[p, row + i, column + j] = left[i, j]


@part
def put(value, i, o, dweight, dbias, add):
    """Write or add to dweight[i, o], or to dbias[o] after the last input."""
    if i == dweight.shape[0]:
        dbias[o] = dbias[o] + value if add else value
    else:
        dweight[i, o] = dweight[i, o] + value if add else value


@elementwise(lambda parts, bias, out: out.size)
def add_parts(parts, bias, out):
    """out (1, R, O) = the sum of parts (P, R, O) in order, and the bias."""
    i = cuda.grid(1)
    if i < out.size:
        r, c = divmod(i, out.shape[2])
        total = parts[0, r, c]
        for p in range(1, parts.shape[0]):
            total += parts[p, r, c]
        out[0, r, c] = total if bias is None else total + bias[c]


@elementwise(lambda parts, dweight, *_: parts.shape[1] * parts.shape[2])
def add_gradient_parts(parts, dweight, dbias, add):
    """Eqs. (2) and (3): the sum of parts (P, I + 1, O) in order."""
    i = cuda.grid(1)
    if i < parts.shape[1] * parts.shape[2]:
        r, c = divmod(i, parts.shape[2])
        total = parts[0, r, c]
        for p in range(1, parts.shape[0]):
            total += parts[p, r, c]
        put(total, r, c, dweight, dbias, add)


def shares(rows, columns, terms):
    """Into how many parts the terms of a product are cut, and how many terms a part has."""
    wanted = min(ENOUGH // (blocks(rows, TILE) * blocks(columns, TILE)), terms // LEAST)
    size = TILE * max(1, blocks(blocks(terms, max(1, wanted)), TILE))
    return max(1, blocks(terms, size)), size


def flat(x):
    """(T, B, N) as (T B, N)."""
    return None if x is None else x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def product(x, active, weight, bias, out):
    """Eq. (1), of arrays (T, B, ...)."""
    x, active, out = flat(x), flat(active), flat(out)
    out = out.reshape(1, *out.shape)
    _, rows, columns = out.shape
    parts, terms = shares(rows, columns, weight.shape[0])
    grid = blocks(rows, TILE), blocks(columns, TILE), parts
    if parts == 1:
        multiply_rows.launch(grid, SQUARE, x, active, weight, bias, terms, out)
    else:
        sums = scratch("parts", (parts, rows, columns), out.dtype)
        multiply_rows.launch(grid, SQUARE, x, active, weight, None, terms, sums)
        add_parts(sums, bias, out)


def linear_forward(x, active, weight, bias, out):
    """Eq. (1).

    Parameters
    ----------
    x : (T, B, I) float, or None if it is 1 where active
    active : (T, B, ceil(I/64)) uint64         where x is not zero: spikes, or what find_active found
    weight, bias : (I, O), (O,) float
    out : (T, B, O) float                      written in full
    """
    product(x, active, weight, bias, out)


def linear_backward(x, active, d, dweight, dbias, add):
    """Eqs. (2) and (3).

    Parameters
    ----------
    x, active : as in linear_forward
    d : (T, B, O) float
    dweight, dbias : (I, O), (O,) float        added to if add, else written in full
    """
    x, active, d = flat(x), flat(active), flat(d)
    inputs, columns = dweight.shape
    parts, terms = shares(inputs + 1, columns, d.shape[0])
    grid = blocks(inputs + 1, TILE), blocks(columns, TILE), parts
    sums = None if parts == 1 else scratch("parts", (parts, inputs + 1, columns), d.dtype)
    multiply_columns.launch(grid, SQUARE, x, active, d, terms, sums, dweight, dbias, add)
    if sums is not None:
        add_gradient_parts(sums, dweight, dbias, add)


def linear_backward_input(d, weight, dx):
    """Eq. (4): d (T, B, O), weight (O, I) transposed, dx (T, B, I) written in full."""
    product(d, no_bits(), weight, None, dx)


@kernel
def pack_nonzero(x, active):
    """A word of active (R, W) from 64 elements of x (R, I)."""
    halves = cuda.shared.array(2, np.uint32)
    row, w = cuda.blockIdx.x, cuda.blockIdx.y
    if cuda.threadIdx.x < 2:
        halves[cuda.threadIdx.x] = 0
    cuda.syncthreads()
    for k in range(cuda.threadIdx.x, 64, cuda.blockDim.x):
        if 64 * w + k < x.shape[1] and x[row, 64 * w + k] != 0:
            cuda.atomic.or_(halves, k // 32, bit(k))
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        active[row, w] = word_of(halves, 0)


def find_active(x, active):
    """Where x (T, B, I) is not zero, as bits: active (T, B, ceil(I/64)) uint64, written in full."""
    if x.size > 0:
        x, active = flat(x), flat(active)
        pack_nonzero.launch(active.shape, min(64, THREADS), x, active)


@elementwise(lambda d, out: out.size)
def sum_over_time(d, out):
    """out[b] = sum_t d[t, b]: what a current that is constant in time gets back; d (T, B, N), out (B, N)."""
    i = cuda.grid(1)
    if i < out.size:
        b, n = divmod(i, out.shape[1])
        total = d[0, b, n]
        for t in range(1, d.shape[0]):
            total += d[t, b, n]
        out[b, n] = total


@elementwise(lambda x, y, out: out.size)
def add(x, y, out):
    """out = x + y, all (T, B, N)."""
    i = cuda.grid(1)
    if i < out.size:
        row, n = divmod(i, out.shape[2])
        t, b = divmod(row, out.shape[1])
        out[t, b, n] = x[t, b, n] + y[t, b, n]


@kernel
def transpose_tile(a, out):
    """out = a^T, of a tile."""
    square = cuda.shared.array(LEFT, a.dtype)
    row, column = TILE * cuda.blockIdx.x, TILE * cuda.blockIdx.y
    for e in range(place(), TILE * TILE, COUNT):
        i, j = e // TILE, e % TILE
        if row + i < a.shape[0] and column + j < a.shape[1]:
            square[i, j] = a[row + i, column + j]
    cuda.syncthreads()
    for e in range(place(), TILE * TILE, COUNT):
        j, i = e // TILE, e % TILE
        if row + i < a.shape[0] and column + j < a.shape[1]:
            out[column + j, row + i] = square[i, j]


def transpose(a, out):
    """out = a^T; a (I, O), out (O, I) written in full."""
    transpose_tile.launch((blocks(a.shape[0], TILE), blocks(a.shape[1], TILE)), SQUARE, a, out)


__all__ = [
    "BLOCK",
    "add",
    "find_active",
    "linear_backward",
    "linear_backward_input",
    "linear_forward",
    "sum_over_time",
    "transpose",
]
