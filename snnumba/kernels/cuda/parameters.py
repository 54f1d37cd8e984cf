"""Parameters between the shape that they have and one number for each neuron.

A parameter p of a shape that broadcasts to that of the neurons: (), (N,), (C, 1, 1) and so on.

    (1) p[n] of every neuron, the row repeated as rows of samples are
    (2) dL/dp = sum of the neurons' own over blocks of samples, and over the neurons that share p

A block has a number of p in (2): its threads add up the neurons' own, and one adds their sums in order.
"""

from ._driver import THREADS, cuda, elementwise, kernel
from ._sums import total_of

SUMS = (THREADS,)


def three_axes(shape):
    """A shape of at most three axes with three."""
    return (1,) * (3 - len(shape)) + tuple(shape)


@elementwise(lambda value, sizes, shape, out, clipped: out.shape[0])
def spread_row(value, sizes, shape, out, clipped):
    """Eq. (1) for value, of these sizes along the axes of shape, as a row."""
    k = cuda.grid(1)
    if k < out.shape[0]:
        n = k % (shape[0] * shape[1] * shape[2])
        n, z = divmod(n, shape[2])
        x, y = divmod(n, shape[1])
        p = value[(min(x, sizes[0] - 1) * sizes[1] + min(y, sizes[1] - 1)) * sizes[2] + min(z, sizes[2] - 1)]
        if clipped:
            p = min(max(p, type(p)(0)), type(p)(1))
        out[k] = p


def spread(value, shape, out, clipped=False):
    """Eq. (1): out (K N,), K rows of neurons of a shape; clipped to [0, 1] if asked."""
    spread_row(value.reshape(value.size), three_axes(value.shape), three_axes(shape), out, clipped)


@kernel
def sum_of_sharing(partial, sizes, shape, value, clipped, add, gradient):
    """Eq. (2) for one number of value and gradient, of these sizes along the axes of shape, as rows."""
    shared = cuda.shared.array(SUMS, partial.dtype)
    thread, p = cuda.threadIdx.x, cuda.blockIdx.x
    row, z = divmod(p, sizes[2])
    x, y = divmod(row, sizes[1])
    deep, high, wide = shape[0] // sizes[0], shape[1] // sizes[1], shape[2] // sizes[2]  # those that share, of an axis
    total = partial.dtype.type(0)
    for i in range(thread, partial.shape[0] * deep * high * wide, cuda.blockDim.x):
        i, dz = divmod(i, wide)
        i, dy = divmod(i, high)
        block, dx = divmod(i, deep)
        total += partial[block, ((x + dx) * shape[1] + y + dy) * shape[2] + z + dz]
    total = total_of(total, shared)
    if thread == 0:
        if clipped and not 0 <= value[p] <= 1:
            total = partial.dtype.type(0)
        gradient[p] = gradient[p] + total if add else total


def sum_shared(partial, shape, value, clipped, add, gradient):
    """Eq. (2): gradient, shaped as value, from partial (blocks, N); 0 where a clipped value lies outside of [0, 1]."""
    row, own = value.reshape(value.size), gradient.reshape(value.size)
    sizes = three_axes(value.shape)
    sum_of_sharing.launch(value.size, THREADS, partial, sizes, three_axes(shape), row, clipped, add, own)


@elementwise(lambda weight, out: out.size)
def flip(weight, out):
    """A weight (C, kh, kw, O) as its backward pass wants it, (O, ceil(kh/s), ceil(kw/s), C, s, s); see the CPU's."""
    k = cuda.grid(1)
    if k < out.size:
        k, b = divmod(k, out.shape[5])
        k, a = divmod(k, out.shape[4])
        k, c = divmod(k, out.shape[3])
        k, j = divmod(k, out.shape[2])
        o, i = divmod(k, out.shape[1])
        row = (out.shape[1] - 1 - i) * out.shape[4] + a
        column = (out.shape[2] - 1 - j) * out.shape[5] + b
        inside = row < weight.shape[1] and column < weight.shape[2]
        out[o, i, j, c, a, b] = weight[c, row, column, o] if inside else out.dtype.type(0)


@elementwise(lambda x, y, out: out.shape[0])
def add_rows_of(x, y, out):
    """out = x + y, vectors."""
    n = cuda.grid(1)
    if n < out.shape[0]:
        out[n] = x[n] + y[n]


__all__ = ["add_rows_of", "flip", "spread", "sum_shared"]
