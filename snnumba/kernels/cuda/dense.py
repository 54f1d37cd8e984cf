"""Products with a weight matrix at every step t and for every sample b, (1) forward and (2)-(4) backward.

    (1) out[t, b] = x[t, b] W + bias
    (2) dW        = sum_tb x[t, b]^T d[t, b]
    (3) dbias     = sum_tb d[t, b]
    (4) dx[t, b]  = d[t, b] W^T

A block of threads makes a tile of a product (_product.py): a small one, of which many are soon done, or a large one,
with which each number that is loaded serves many products, where these fill a device. Where tiles are few, several
blocks share out the terms of one, and a second kernel adds what they made, in order. All this follows from the sizes
alone.

With precision "tf32" large tiles have their factors, but for those of (3), rounded to 10 bits after the point. Tensor
cores make those of (2) with x as bits anyway, to float32's precision (_product_bits.py).
"""

from types import SimpleNamespace

import numpy as np

from ._driver import SIMULATED, THREADS, address, blocks, cuda, elementwise, kernel, part, scratch
from ._product import product_kernels
from ._product_bits import bits_product
from ._ptx import QUAD
from ._tile import COUNT, LEFT, SQUARE, TILE, place
from .bits import bit, no_bits, word_of

BLOCK = 1  # samples whose gradients of beta, threshold and V lie in one row: each thread writes its own

# Tiles of a product: size, terms at a time, and so on; see product_kernels and bits_product.
if SIMULATED:
    SMALL = product_kernels(4, 8, 3, (2, 2), (2, 2), (2, 2), 8, 1)
    SMALL64 = product_kernels(4, 8, 2, (2, 2), (2, 2), (2, 2), 8, 1)
    LARGE = product_kernels(16, 8, 2, (2, 2), (4, 4), (2, 2), 16, 1)
    TF32 = product_kernels(16, 8, 2, (8, 4), (2, 4), (1, 2), 32, 1, tensor=True)
    BITS = bits_product(1, 1, 8, 2, 2, 1)
else:
    SMALL = product_kernels(16, 64, 4, (8, 4), (2, 4), (2, 4), 256, 3)
    SMALL64 = product_kernels(16, 64, 2, (8, 4), (2, 4), (2, 4), 256, 2)
    LARGE = product_kernels(128, 16, 2, (8, 4), (8, 8), (4, 4), 256, 2)
    TF32 = product_kernels(128, 16, 2, (8, 4), (8, 8), (1, 2), 256, 2, tensor=True)
    BITS = bits_product(4, 4, 64, 2, 2, 1)
MANY = 96  # large tiles, or parts of them, that are worth it
MOSTLY = 2  # so often the product may lie in its large tiles, each half empty then
FULL = 128  # large tiles, or parts of them, that fill a device, or twice so many where two are together
LEAST = 128  # terms of a part of a large tile
ENOUGH = 128  # small tiles, or parts of them, to keep a device busy
LEAST_SMALL = 1024  # terms of a part of a small tile


def num_input_parts(inputs, outputs):
    """Into how many parts linear_forward is to cut inputs."""
    return 1


def num_parts(batch):
    """Into how many parts linear_backward is to cut samples that spiked: a plan cuts the terms itself."""
    return 1


class Plan:
    """How a product (rows, columns) with so many terms is cut: kernels, grid, parts of each tile, terms of a part."""

    def __init__(self, large, rows, columns, terms, dtype):
        def tiles(kernels):
            return blocks(rows, kernels.down) * blocks(columns, kernels.across)

        self.kernels = large
        parts = min(max(1, FULL * large.together // tiles(large)), max(1, terms // LEAST))
        mostly = MOSTLY * rows * columns >= tiles(large) * large.down * large.across
        if dtype != np.float32 or tiles(large) * parts < MANY or not mostly:
            self.kernels = SMALL if dtype == np.float32 else SMALL64
            parts = min(max(1, ENOUGH // tiles(self.kernels)), max(1, terms // LEAST_SMALL))
        step = self.kernels.step
        self.terms = step * blocks(blocks(terms, parts), step)
        self.parts = blocks(terms, self.terms)
        self.grid = blocks(rows, self.kernels.down), blocks(columns, self.kernels.across), self.parts

    def launch(self, kernel, *args):
        """Run one of the kernels on all tiles."""
        kernel.launch(self.grid, self.kernels.count, *args)


def odd_rows(*arrays):
    """None if all rows of arrays are whole vectors that begin at multiples of 16 bytes, else True."""
    odd = any(x.shape[x.ndim - 1] % QUAD or address(x) % 16 for x in arrays if x is not None)
    return True if odd else None


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


def flat(x):
    """(T, B, N) as (T B, N)."""
    return None if x is None else x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def product(x, active, weight, bias, out, large=LARGE):
    """Eq. (1), of arrays (T, B, ...)."""
    x, active, out = flat(x), flat(active), flat(out)
    out = out.reshape(1, *out.shape)
    _, rows, columns = out.shape
    plan = Plan(large, rows, columns, weight.shape[0], out.dtype)
    if plan.parts == 1:
        plan.launch(plan.kernels.rows, x, active, weight, bias, plan.terms, odd_rows(x, weight, out), out)
    else:
        sums = scratch("parts", (plan.parts, rows, columns), out.dtype)
        plan.launch(plan.kernels.rows, x, active, weight, None, plan.terms, odd_rows(x, weight, sums), sums)
        add_parts(sums, bias, out)


def _linear(large):
    """The products by these kernels for large tiles."""

    def linear_forward(x, active, weight, bias, parts, out):
        """Eq. (1).

        Parameters
        ----------
        x : (T, B, I) float, or None if it is 1 where active
        active : (T, B, ceil(I/64)) uint64         where x is not zero: spikes, or what find_active found
        weight, bias : (I, O), (O,) float
        parts : None
        out : (T, B, O) float                      written in full
        """
        product(x, active, weight, bias, out, large)

    def linear_backward(x, active, d, dweight, dbias, add):
        """Eqs. (2) and (3).

        Parameters
        ----------
        x, active : as in linear_forward
        d : (T, B, O) float
        dweight, dbias : (1, I, O), (1, O) float        added to if add, else written in full
        """
        x, active, d, dweight, dbias = flat(x), flat(active), flat(d), flat(dweight), dbias.reshape(-1)
        inputs, columns = dweight.shape
        plan = Plan(BITS if x is None else large, inputs, columns, d.shape[0], d.dtype)
        bits = plan.kernels is BITS
        sums = scratch("parts", (plan.parts, inputs + 1, columns), d.dtype) if bits or plan.parts > 1 else None
        odd = odd_rows(x, d, dweight if sums is None else sums)
        if bits:
            plan.launch(BITS.columns, active, d, plan.terms, odd, sums)
        else:
            plan.launch(plan.kernels.columns, x, active, d, plan.terms, odd, sums, dweight, dbias, add)
        if sums is not None:
            add_gradient_parts(sums, dweight, dbias, add)

    def linear_backward_input(d, weight, dx):
        """Eq. (4): d (T, B, O), weight (O, I) transposed, dx (T, B, I) written in full."""
        product(d, no_bits(), weight, None, dx, large)

    return SimpleNamespace(forward=linear_forward, backward=linear_backward, backward_input=linear_backward_input)


_fp32, tf32 = _linear(LARGE), _linear(TF32)
linear_forward, linear_backward, linear_backward_input = _fp32.forward, _fp32.backward, _fp32.backward_input


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


@elementwise(lambda d, out, add: out.size)
def sum_over_time(d, out, add):
    """out[b] = sum_t d[t, b], or more by it if add: what a current that is constant in time gets back.

    d (T, B, N), out (B, N).
    """
    i = cuda.grid(1)
    if i < out.size:
        b, n = divmod(i, out.shape[1])
        total = out[b, n] if add else d.dtype.type(0)
        for t in range(d.shape[0] - 1, -1, -1):
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
    "num_input_parts",
    "num_parts",
    "sum_over_time",
    "transpose",
]
