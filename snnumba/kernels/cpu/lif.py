"""Leaky integrate-and-fire neurons over all time steps in one call, forward and backward.

Eqs. (1) to (8) are in rules.py; here is what runs over time. rec is the feedback of the spikes of the step before:

    (9)  i[t] = current[t] + rec(s[t-1]),      rec(s) = 0 | V s | s W + b | conv.py (1), + b
                                                         none | one-to-one | linear | conv2d
    (10) a_s[t] = dL/ds[t] + 0 | V d[t+1] | d[t+1] W^T | conv.py (2)
    (11) a_u[t] = dL/du[t] + beta d[t+1]
    (12) dV = sum_t s[t-1] d[t];     dW = sum_t s[t-1]^T d[t],  db = sum_t d[t]      or conv.py (3) and (4)

(12) is one_to_one_backward's, dense.linear_backward's or conv.conv_backward's.

A kernel takes samples a few at a time through all steps, so that their state stays in cache: BLOCK of them, for the
product in (10), and within it as many as `beta` and `threshold` are repeated for, whose neurons make one long row.
Sources: Henkes et al. 2022, arXiv:2210.03515; Neftci et al. 2019, arXiv:1901.09948.
"""

from functools import cache

import numba

from ._compile import copied, kernel, part, rules
from .bits import add_chosen, add_rows, keep_nonzero, pack_above, pack_nonzero
from .conv import NO_BITS, correlate_sample
from .dense import BLOCK, product

ATAN = rules.ATAN
spike, surrogate = rules.spike, rules.surrogate
lif_potential, lif_settle, lif_through_leak = rules.lif_potential, rules.lif_settle, rules.lif_through_leak
lif_adjoint, lif_dthreshold, nearest = rules.lif_adjoint, rules.lif_dthreshold, rules.nearest


@part
def potential_row(u, i, beta, threshold, levels, reset):
    """Eqs. (1) and (2) for a row of neurons: i becomes m."""
    for n in range(i.shape[0]):
        i[n] = lif_potential(u[n], i[n], beta[n], threshold[n], reset)
    if levels is not None:
        for n in range(i.shape[0]):
            i[n] = nearest(i[n], levels)


@part
def find_winners(m, threshold, n, winner):
    """For each sample of n neurons in a row: 1 at the largest m - theta, the first of equals, and 0 elsewhere."""
    winner[:] = 0
    for first in range(0, m.shape[0], n):
        best = first
        for k in range(first + 1, first + n):
            if m[k] - threshold[k] > m[best] - threshold[best]:
                best = k
        winner[best] = 1


@part
def fired(m, threshold, winner, block, n):
    """Eq. (3) for neuron n of a row; winner None: without inhibition."""
    s = spike(m[n] - threshold[n])
    if winner is None:
        return s
    return s * winner[block, n]


@part
def settle_row(u, m, threshold, winner, block, reset, mem):
    """Eq. (4) without reset_delay for a row of neurons."""
    for n in range(m.shape[0]):
        s = fired(m, threshold, winner, block, n)
        mem[n] = lif_settle(m[n], s, spike(u[n] - threshold[n]), threshold[n], reset)


@part
def surrogate_row(m, threshold, winner, block, kind, a, b, h):
    """h(m - theta) for a row of neurons."""
    if kind == ATAN:  # the default: a loop without a choice in it takes an eighth of the time
        for n in range(m.shape[0]):
            h[n] = surrogate(m[n] - threshold[n], ATAN, a, b)
    else:
        for n in range(m.shape[0]):
            h[n] = surrogate(m[n] - threshold[n], kind, a, b)
    if winner is not None:
        for n in range(m.shape[0]):
            h[n] *= winner[block, n]


@part
def adjoint_row(dspk, carry_spk, dmem, next_d, m, u, mem, beta, threshold, winner, block, h, reset, delay, d):
    """Eqs. (5), (6) and (11) for a row of neurons; next_d is d[t+1], u the membrane before the step, mem after."""
    for n in range(d.shape[0]):
        a_s = dspk[n] + carry_spk[n]
        a_u = dmem[n] + beta[n] * lif_through_leak(next_d[n], mem[n], threshold[n], reset)
        s = fired(m, threshold, winner, block, n)
        d[n] = lif_adjoint(a_s, a_u, m[n], s, u[n], threshold[n], h[n], reset, delay)


@part
def learn_row(
    dspk, carry_spk, dmem, next_d, m, u, mem, beta, threshold, winner, block, first, h, reset, delay, d, dbeta,
    dthreshold,
):  # fmt: skip
    """Eqs. (7) and (8) for a row of neurons, the one that begins at `first` of the winners: adds to both gradients."""
    for n in range(d.shape[0]):
        a_s = dspk[n] + carry_spk[n]
        a_u = dmem[n] + beta[n] * lif_through_leak(next_d[n], mem[n], threshold[n], reset)
        s = spike(m[n] - threshold[n])
        if winner is not None:
            s *= winner[block, first + n]
        dbeta[n] += lif_through_leak(d[n], u[n], threshold[n], reset) * u[n]
        dthreshold[n] += lif_dthreshold(a_s, a_u, m[n], s, u[n], threshold[n], h[n], d[n], reset, delay)


@part
def start_row(current, bias, i):
    """i = current, and bias if there is one."""
    for n in range(i.shape[0]):
        i[n] = current[n] if bias is None else current[n] + bias[n]


@part
def feedback_row(bits, spk, weight, window, room, block, i):
    """Eq. (9) but for its bias: i += rec of the spikes that bits mark, whose values are spk; None: all are 1."""
    if weight is not None:
        if weight.ndim == 1:
            add_chosen(bits, spk, weight, i)
        elif weight.ndim == 2:
            add_rows(bits, spk, weight, i)
        else:
            correlate_sample(bits, spk, weight, window, room[block], i)


@kernel(lambda current, *_: current.shape[1], grain=BLOCK)
def lif_forward(
    begin,
    end,
    current,
    weight,
    bias,
    window,
    room,
    beta,
    threshold,
    levels,
    winner,
    spk0,
    mem0,
    reset,
    delay,
    mem,
    potential,
    spk,
):
    """Eqs. (1) to (4) and (9) over all steps.

    Parameters
    ----------
    current : (T, B, N) or (1, B, N) float   constant in time where it has one step
    weight : None, (N,), (N, N) or (C, kh, kw, C) float      no feedback, V, W (weight[n, m]: from n to m), or conv2d's
    bias : None or (N,) float                b, of each neuron
    window : Window                          of conv.py, with conv2d, else None, as is room
    room : (ceil(B/BLOCK), forward_room)     to work in, as in conv_forward
    beta, threshold : (K N,) float           the N values repeated K times, see rows_together
    levels : None or (L,) float              of state_quant, ascending
    winner : None or (ceil(B/BLOCK), K N)    to work in, with inhibition
    spk0, mem0 : (B, N) float                the state before the first step
    reset, delay : int, bool                 see rules.py
    mem : (T, B, N) float                    written in full: u
    potential : (T, B, N) float              written in full: m; the same array as mem if delay
    spk : (T+1, B, ceil(N/64)) uint64        written in full, one bit a neuron; spk[0] is where spk0 is not zero
    """
    steps, _, n = mem.shape
    moving = current.shape[0] > 1
    together = beta.shape[0] // n
    for first in range(begin, end, together):
        last = min(first + together, end)
        size = (last - first) * n
        block = first // BLOCK
        for t in range(steps):
            for b in range(first, last):
                i = potential[t, b]
                start_row(current[t * moving, b], bias, i)
                if t == 0:
                    pack_nonzero(spk0[b], spk[0, b])
                    feedback_row(spk[0, b], spk0[b], weight, window, room, block, i)
                else:
                    feedback_row(spk[t, b], None, weight, window, room, block, i)
            u = mem[t - 1, first:last].reshape(size) if t > 0 else mem0[first:last].reshape(size)
            m = potential[t, first:last].reshape(size)
            potential_row(u, m, beta[:size], threshold[:size], levels, reset)
            if winner is not None:
                find_winners(m, threshold, n, winner[block])
            if not delay:
                settle_row(u, m, threshold[:size], winner, block, reset, mem[t, first:last].reshape(size))
            for b in range(first, last):
                pack_above(potential[t, b], threshold[:n], spk[t + 1, b])
                if winner is not None:
                    keep_nonzero(winner[block, (b - first) * n : (b - first + 1) * n], spk[t + 1, b])


@kernel(lambda dspk, dmem, weight, window, room, beta, threshold, winner, mem0, mem, *_: mem.shape[1], grain=BLOCK)
def lif_backward(
    begin,
    end,
    dspk,
    dmem,
    weight,
    window,
    room,
    beta,
    threshold,
    winner,
    mem0,
    mem,
    potential,
    kind,
    a,
    b,
    reset,
    delay,
    learn,
    initial,
    dcurrent,
    dspk0,
    dmem0,
    dbeta,
    dthreshold,
):
    """Eqs. (5) to (8), (10) and (11), from the last step to the first.

    Parameters
    ----------
    dspk, dmem : (T, B, N) or (1, K, N) float   the direct gradients, or those of K samples and one step for all
    weight : None, (N,), (N, N) or conv_forward's float         V, W transposed, or flip's
    kind, a, b : int, float, float              the surrogate, see rules.py
    learn : bool                                whether dbeta and dthreshold are wanted
    initial : bool                              whether dspk0 and dmem0 are
    dcurrent : (T, B, N) float                  written in full: d
    dspk0, dmem0 : (B, N) float                 overwritten; if initial, with dL/d(initial state)
    dbeta, dthreshold : (ceil(B/BLOCK), N)      written in full if learn, one row a block of samples
    The others are as in lif_forward.
    """
    steps, batch, n = mem.shape
    together = beta.shape[0] // n
    spk_t, spk_b = dspk.shape[0] > 1, dspk.shape[1] >= batch
    mem_t, mem_b = dmem.shape[0] > 1, dmem.shape[1] >= batch
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        block = first // BLOCK
        dspk0[first:last] = 0
        if learn:
            dbeta[block] = 0
            dthreshold[block] = 0
        for t in range(steps - 1, -1, -1):
            for low in range(first, last, together):
                high = min(low + together, last)
                size = (high - low) * n
                gs = dspk[t * spk_t, low * spk_b : low * spk_b + high - low].reshape(size)
                gu = dmem[t * mem_t, low * mem_b : low * mem_b + high - low].reshape(size)
                m = potential[t, low:high].reshape(size)
                u = mem[t - 1, low:high].reshape(size) if t > 0 else mem0[low:high].reshape(size)
                carry = dspk0[low:high].reshape(size)
                next_d = dcurrent[t + 1, low:high].reshape(size) if t + 1 < steps else carry  # which is still 0
                h = dmem0[low:high].reshape(size)  # to work in until the end
                d = dcurrent[t, low:high].reshape(size)
                after = mem[t, low:high].reshape(size)
                if winner is not None:
                    find_winners(m, threshold, n, winner[block])
                surrogate_row(m, threshold[:size], winner, block, kind, a, b, h)
                adjoint_row(
                    gs, carry, gu, next_d, m, u, after, beta[:size], threshold[:size], winner, block, h, reset, delay, d
                )
                if learn:
                    for k in range(0, size, n):
                        learn_row(
                            gs[k : k + n], carry[k : k + n], gu[k : k + n], next_d[k : k + n], m[k : k + n],
                            u[k : k + n], after[k : k + n], beta[:n], threshold[:n], winner, block, k, h[k : k + n],
                            reset, delay, d[k : k + n], dbeta[block], dthreshold[block],
                        )  # fmt: skip
            if weight is not None and (t > 0 or initial):
                if weight.ndim == 1:
                    for r in range(first, last):
                        for k in range(n):
                            dspk0[r, k] = weight[k] * dcurrent[t, r, k]
                elif weight.ndim == 2:
                    product(dcurrent[t], weight, dspk0, first, last)
                else:
                    for r in range(first, last):
                        dspk0[r] = 0
                        correlate_sample(NO_BITS, dcurrent[t, r], weight, window, room[block], dspk0[r])
        if initial:
            for r in range(first, last):
                for k in range(n):
                    dmem0[r, k] = beta[k] * lif_through_leak(dcurrent[0, r, k], mem0[r, k], threshold[k], reset)


def with_surrogate(kernel, names, function):
    """A kernel of a file with these names, with a scalar function x -> h(x) in place of rules.surrogate."""
    compiled = numba.njit(function, error_model="numpy")

    def surrogate(x, kind, a, b):
        return type(x)(compiled(x))

    row = copied(surrogate_row, globals() | {"surrogate": part(surrogate, keep=False)})
    return kernel.with_names(names | {"surrogate_row": part(row, keep=False)})


@cache
def lif_backward_with(function):
    """lif_backward with a scalar function of the user's, x -> h(x), in place of rules.surrogate."""
    return with_surrogate(lif_backward, globals(), function)


@kernel(lambda spk0, spk, d, dweight: d.shape[1], grain=BLOCK)
def one_to_one_backward(begin, end, spk0, spk, d, dweight):
    """Eq. (12): dV of each block of samples.

    Parameters
    ----------
    spk0 : None or (B, N) float                 the spikes before the first step, where they need not be 0 and 1
    spk : (T+1, B, ceil(N/64)) uint64           as lif_forward left it
    d : (T, B, N) float
    dweight : (ceil(B/BLOCK), N) float          written in full
    """
    for first in range(begin, end, BLOCK):
        dv = dweight[first // BLOCK]
        dv[:] = 0
        for t in range(d.shape[0]):
            for b in range(first, min(first + BLOCK, end)):
                if spk0 is not None and t == 0:
                    add_chosen(spk[0, b], spk0[b], d[0, b], dv)
                else:
                    add_chosen(spk[t, b], None, d[t, b], dv)


def rows_together(n):
    """K: how many samples of n neurons make one row: 64 KB of float32 read in one go, which the second cache holds."""
    return min(max(16384 // n, 1), BLOCK)


__all__ = ["lif_backward", "lif_backward_with", "lif_forward", "one_to_one_backward", "rows_together"]
