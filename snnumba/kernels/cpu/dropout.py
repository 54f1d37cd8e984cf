"""Dropout: numbers left out at random, others for every step and sample.

    (1) out[t, b, n] = k x[t, b, n],  k = 1/(1 - p) where random_bits(r, ((t0 + t) B + b) N + n) >= p 2^64, else 0
                                      r = random_bits(key, call[0])
    (2) dx[t, b, n]  = k d[t, b, n]                    summed over t where x is constant in time

The bits, of rules.py, are computed again for (2), and are the same whichever thread computes them. Source: Srivastava
et al. 2014, JMLR 15, 1929-1958.
"""

import numpy as np

from ._compile import kernel, part, rules
from ._threads import recordable
from .bits import ONE, unpack_lanes
from .dense import BLOCK
from .vector import lanes

random_bits = rules.random_bits


@part
def add_kept(x, stream, first, limit, scale, out):
    """out += (1) or (2) of a row whose first number is number `first` of all."""
    for n in range(out.shape[0]):
        kept = random_bits(stream, np.uint64(first) + np.uint64(n)) >= limit
        out[n] += scale * x[n] if kept else out.dtype.type(0)


@part
def keep_some(bits, stream, first, limit, scale, out):
    """out = (1) of such a row of spikes: bits as numbers first, so that no loop takes them one by one."""
    for n in range(0, out.shape[0], lanes(out)):
        unpack_lanes(bits, None, out, n, out.shape[0] - n)
    for n in range(out.shape[0]):
        kept = random_bits(stream, np.uint64(first) + np.uint64(n)) >= limit
        out[n] = scale * out[n] if kept else out.dtype.type(0)


@kernel(lambda x, bits, key, call, limit, scale, first, out: out.shape[1], grain=BLOCK)
def dropout_forward(begin, end, x, bits, key, call, limit, scale, first, out):
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
    steps, batch, n = out.shape
    stream = random_bits(key, call[0])
    for b in range(begin, end):
        for t in range(steps):
            row, number = out[t, b], ((first + t) * batch + b) * n
            if x is not None:
                row[:] = 0
                add_kept(x[t if x.shape[0] > 1 else 0, b], stream, number, limit, scale, row)
            elif bits is not None:  # or there is none to compile for
                keep_some(bits[t, b], stream, number, limit, scale, row)


@kernel(lambda d, key, call, limit, scale, first, dx, add: dx.shape[1], grain=BLOCK)
def dropout_backward(begin, end, d, key, call, limit, scale, first, dx, add):
    """Eq. (2): d (T, B, N); dx (T, B, N) or (1, B, N) float, added to if add, else written in full.

    The others are as in dropout_forward.
    """
    steps, batch, n = d.shape
    stream = random_bits(key, call[0])
    for b in range(begin, end):
        if not add:
            for t in range(dx.shape[0]):
                dx[t, b] = 0
        for t in range(steps - 1, -1, -1):
            number, row = ((first + t) * batch + b) * n, dx[t if dx.shape[0] > 1 else 0, b]
            add_kept(d[t, b], stream, number, limit, scale, row)


@recordable
def next_call(counter, call):
    """call = counter, counter += 1; both (1,) uint64."""
    call[0] = counter[0]
    counter[0] += ONE


__all__ = ["dropout_backward", "dropout_forward", "next_call"]
