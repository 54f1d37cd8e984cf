"""Parameters between the shape that they have and one number for each neuron; small arrays, so NumPy does.

A parameter p of a shape that broadcasts to that of the neurons: (), (N,), (C, 1, 1) and so on.

    (1) p[n] of every neuron, the row repeated as rows of samples are
    (2) dL/dp = sum of the neurons' own over blocks of samples, and over the neurons that share p
"""

import numpy as np

from ._threads import recordable


@recordable
def spread(value, shape, out, clipped=False):
    """Eq. (1): out (K N,), K rows of neurons of a shape; clipped to [0, 1] if asked."""
    rows = out.reshape(-1, *shape)
    if clipped:
        np.maximum(value, 0, out=rows)
        np.minimum(out, 1, out=out)
    else:
        rows[...] = value


@recordable
def sum_shared(partial, shape, value, clipped, add, gradient):
    """Eq. (2): gradient, shaped as value, from partial (blocks, N); 0 where a clipped value lies outside of [0, 1]."""
    total = partial.sum(axis=0).reshape(shape)
    total = total.sum(axis=tuple(range(total.ndim - value.ndim)))
    shared = tuple(k for k, size in enumerate(value.shape) if size == 1)
    total = total.sum(axis=shared, keepdims=True).reshape(value.shape)
    if clipped:
        total = total * ((value >= 0) & (value <= 1))
    gradient[...] = gradient + total if add else total


@recordable
def flip(weight, out):
    """A weight (C, kh, kw, O) as its backward pass wants it: flipped in both directions, from outputs to inputs.

    out (O, ceil(kh/s), ceil(kw/s), C, s, s), s the stride: offset (i, j) of the kernel is one of (i // s, j // s) for
    the inputs' rows and columns that leave (i % s, j % s); where there is no such i or j, 0.
    """
    down, across = out.shape[4:]
    out[...] = 0
    for a in range(down):
        for b in range(across):
            some = weight[:, a::down, b::across].transpose(3, 1, 2, 0)
            out[:, ::-1, ::-1][:, : some.shape[1], : some.shape[2], :, a, b] = some


@recordable
def add_rows_of(x, y, out):
    """out = x + y, vectors."""
    np.add(x, y, out=out)


__all__ = ["add_rows_of", "flip", "spread", "sum_shared"]
