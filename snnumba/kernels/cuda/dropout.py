"""Dropout: numbers left out at random, others for every step and sample.

Eqs. (1) and (2) are in kernels/cpu/dropout.py. The random bits, of rules.py, are the CPU's: they follow from a number's
place alone.
"""

import numpy as np

from ._driver import cuda, elementwise, rules
from .bits import is_set, no_bits

random_bits = rules.random_bits


@elementwise(lambda x, bits, key, call, limit, scale, first, out: out.size)
def keep(x, bits, key, call, limit, scale, first, out):
    """dropout_forward."""
    k = cuda.grid(1)
    if k < out.size:
        row, n = divmod(k, out.shape[2])
        t, b = divmod(row, out.shape[1])
        number = np.uint64(first * out.shape[1] * out.shape[2] + k)
        kept = random_bits(random_bits(key, call[0]), number) >= limit
        value = scale
        if x is None:
            kept = kept and is_set(bits[t, b], n)
        else:
            value *= x[t if x.shape[0] > 1 else 0, b, n]
        out[t, b, n] = value if kept else out.dtype.type(0)


def dropout_forward(x, bits, key, call, limit, scale, first, out):
    """Eq. (1).

    Parameters
    ----------
    x : (T, B, N) or (1, B, N) float, or None if it is 1 where bits are set
    bits : (T, B, ceil(N/64)) uint64, or None beside an x
    key, limit : uint64                     limit is p 2^64
    call : (1,) uint64                      the number of the call
    scale : float                           1/(1 - p)
    first : int                             t0: the first step's number
    out : (T, B, N) float                   written in full
    """
    keep(x, no_bits() if bits is None else bits, key, call, limit, scale, first, out)


@elementwise(lambda d, key, call, limit, scale, first, dx, add: dx.size)
def dropout_backward(d, key, call, limit, scale, first, dx, add):
    """Eq. (2): d (T, B, N); dx (T, B, N) or (1, B, N) float, added to if add, else written in full.

    The others are as in dropout_forward.
    """
    k = cuda.grid(1)
    if k < dx.size:
        row, n = divmod(k, dx.shape[2])
        t, b = divmod(row, dx.shape[1])
        stream = random_bits(key, call[0])
        total = dx[t, b, n] if add else dx.dtype.type(0)
        for step in range(t, t + 1 if dx.shape[0] > 1 else d.shape[0]):
            number = np.uint64(((first + step) * d.shape[1] + b) * d.shape[2] + n)
            if random_bits(stream, number) >= limit:
                total += scale * d[step, b, n]
        dx[t, b, n] = total


@elementwise(lambda counter, call: 1)
def next_call(counter, call):
    """call = counter, counter += 1; both (1,) uint64."""
    if cuda.grid(1) == 0:
        call[0] = counter[0]
        counter[0] += np.uint64(1)


__all__ = ["dropout_backward", "dropout_forward", "next_call"]
