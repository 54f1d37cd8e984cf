"""Leaky integrate-and-fire neurons with a large linear feedback: a step is a launch, and a block a tile of a product.

The product with the matrix, of the spikes of the step before as bits or of d of the step after, is that of _tile.py; a
thread then goes on with some neurons of the tile, whose state stays in global memory.
"""

from ._driver import cuda, elementwise, kernel, rules
from ._lif import adjoint, potential_of, settled
from ._tile import COUNT, LEFT, RIGHT, SUMS, TILE, multiply_tile, place
from .bits import word_bit

spike, surrogate, lif_through_leak = rules.spike, rules.surrogate, rules.lif_through_leak
WANTED, MORE = rules.WANTED, rules.MORE


@elementwise(lambda bits: bits.size)
def clear_bits(bits):
    """bits (T, B, W) = 0."""
    i = cuda.grid(1)
    if i < bits.size:
        row, w = divmod(i, bits.shape[2])
        t, b = divmod(row, bits.shape[1])
        bits[t, b, w] = 0


@kernel
def forward_tile(
    t, x, current, weight, bias, beta, threshold, levels, mem0, reset, delay, mem, potential, spk
):  # fmt: skip
    """Eqs. (1) to (4) and (9) at step t: x is spk0, or None after the first step; spk holds zeros after step t."""
    left = cuda.shared.array(LEFT, weight.dtype)
    right = cuda.shared.array(RIGHT, weight.dtype)
    sums = cuda.local.array(SUMS, weight.dtype)
    row, column = TILE * cuda.blockIdx.x, TILE * cuda.blockIdx.y
    _, batch, neurons = mem.shape
    multiply_tile(x, spk[t], weight, batch, row, column, 0, neurons, left, right, sums)
    for e in range(place(), TILE * TILE, COUNT):
        b, n = row + e // TILE, column + e % TILE
        if b < batch and n < neurons:
            i = current[t if current.shape[0] > 1 else 0, b, n] + left[e // TILE, e % TILE]
            if bias is not None:
                i += bias[n]
            u = mem[t - 1, b, n] if t > 0 else mem0[b, n]
            m = potential_of(u, i, beta[n], threshold[n], levels, reset)
            s = spike(m - threshold[n])
            potential[t, b, n] = m
            mem[t, b, n] = settled(u, m, s, threshold[n], reset, delay)
            if s != 0:
                cuda.atomic.or_(spk, (t + 1, b, n // 64), word_bit(n))


@kernel
def backward_tile(
    t, dspk, dmem, no_bits, weight, beta, threshold, mem0, mem, potential, kind, a, b, reset, delay, learn, dcurrent,
    dbeta, dthreshold,
):  # fmt: skip
    """Eqs. (5) to (8), (10) and (11) at step t."""
    left = cuda.shared.array(LEFT, weight.dtype)
    right = cuda.shared.array(RIGHT, weight.dtype)
    sums = cuda.local.array(SUMS, weight.dtype)
    row, column = TILE * cuda.blockIdx.x, TILE * cuda.blockIdx.y
    steps, batch, neurons = mem.shape
    zero, one = mem.dtype.type(0), mem.dtype.type(1)
    first = t + 1 == steps and learn & MORE == 0
    after = t if first else t + 1
    multiply_tile(
        dcurrent[after], no_bits, weight, batch, row, column, 0, 0 if first else neurons, left, right, sums
    )  # fmt: skip
    for e in range(place(), TILE * TILE, COUNT):
        r, n = row + e // TILE, column + e % TILE
        if r < batch and n < neurons:
            m = potential[t, r, n]
            u = mem[t - 1, r, n] if t > 0 else mem0[r, n]
            a_s = left[e // TILE, e % TILE]
            a_s += dspk[t if dspk.shape[0] > 1 else 0, r if dspk.shape[1] >= batch else 0, n]
            gu = dmem[t if dmem.shape[0] > 1 else 0, r if dmem.shape[1] >= batch else 0, n]
            next_d = zero if first else dcurrent[after, r, n]
            h = surrogate(m - threshold[n], kind, a, b)
            d, of_beta, of_threshold = adjoint(
                a_s, gu, next_d, m, u, mem[t, r, n], beta[n], threshold[n], one, h, reset, delay
            )
            dcurrent[t, r, n] = d
            if learn & WANTED:
                dbeta[r, n] = of_beta + (zero if first else dbeta[r, n])
                dthreshold[r, n] = of_threshold + (zero if first else dthreshold[r, n])


@elementwise(lambda d, *_: d.size)
def initial_membrane(d, beta, threshold, mem0, reset, dmem0):
    """Eq. (8) before the first step: dL/dmem0 from d (B, N) of it."""
    i = cuda.grid(1)
    if i < d.size:
        b, n = divmod(i, d.shape[1])
        dmem0[b, n] = beta[n] * lif_through_leak(d[b, n], mem0[b, n], threshold[n], reset)
