"""Leaky integrate-and-fire neurons over all time steps in one call, forward and backward.

Eqs. (1) to (8) are in rules.py; here is what runs over time. rec is the feedback of the spikes of the step before:

    (9)  i[t] = current[t] + rec(s[t-1]),      rec(s) = 0 | V s | s W + b | conv.py (1), + b
                                                         none | one-to-one | linear | conv2d
    (10) a_s[t] = dL/ds[t] + 0 | V d[t+1] | d[t+1] W^T | conv.py (2)
    (11) a_u[t] = dL/du[t] + beta d[t+1]
    (12) dV = sum_t s[t-1] d[t];     dW = sum_t s[t-1]^T d[t],  db = sum_t d[t]      or conv.py (3) and (4)

(12) is lif_backward's for V, which has d in cache, and else dense.linear_backward's or conv.conv_backward's.

A kernel takes samples a few at a time through all steps, so that their state stays in the second cache. The default,
with the same beta, threshold and V for all neurons, has a loop of its own over one long row of samples, in which
nothing is chosen and of these nothing is loaded: rows of them would fill the first cache.
Sources: Henkes et al. 2022, arXiv:2210.03515; Neftci et al. 2019, arXiv:1901.09948.
"""

from functools import cache

from ._compile import kernel, part, rules
from ._lif import (
    adjoint_lanes,
    adjoint_row,
    carry_of,
    find_winner,
    first_of,
    own_of,
    run_narrow,
    same,
    settle_row,
    step_row,
    step_wide,
    with_surrogate,
)
from .bits import add_all_rows, add_chosen, add_rows, keep_nonzero, pack_above, pack_nonzero
from .conv import NO_BITS, correlate_sample
from .dense import BLOCK, product
from .vector import add, lanes, load_part, store_part

ATAN, SUBTRACT, WANTED, MORE = rules.ATAN, rules.SUBTRACT, rules.WANTED, rules.MORE
lif_through_leak, nearest = rules.lif_through_leak, rules.nearest


@part
def start_row(current, bias, i):
    """i = current, and bias if there is one."""
    n, width = i.shape[0], lanes(i)
    for c in range(0, n, width):
        now = load_part(current, c, n - c)
        store_part(i, c, now if bias is None else add(now, load_part(bias, c, n - c)), n - c)


@part
def feedback_row(bits, spk, weight, window, room, block, i):
    """Eq. (9) but for its bias: i += rec of the spikes that bits mark, whose values are spk; None: all are 1."""
    if weight is not None:
        if weight.ndim == 1:
            add_chosen(bits, spk, weight, i)
        elif weight.ndim == 2:
            add_rows(bits, spk, weight, range(bits.shape[0]), i, i.shape[0])
        else:
            correlate_sample(bits, spk, weight, window, room[block], i)


@part
def linear_current(current, bits, weight, bias, i):
    """Eq. (9) for some samples where the feedback is linear; whether it is."""
    if weight is not None:  # noqa: SIM102  Numba decides one by one what it leaves out
        if weight.ndim == 2:
            for b in range(i.shape[0]):
                start_row(current[b], bias, i[b])
            add_all_rows(bits, None, weight, range(bits.shape[1]), i)
            return True
    return False


@part
def samples_together(n):
    """How many samples of n neurons go through all steps before the next: 256 KB of float32, in cache."""
    return max((1 << 16) // n // BLOCK, 1) * BLOCK


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
    beta, threshold : (N,) float             of each neuron
    levels : None or (L,) float              of state_quant, ascending
    winner : None or (ceil(B/BLOCK), N)      to work in, with inhibition
    spk0, mem0 : (B, N) float                the state before the first step
    reset, delay : int, bool                 see rules.py
    mem : (T, B, N) float                    written in full: u
    potential : (T, B, N) float              written in full: m; the same array as mem if delay
    spk : (T+1, B, ceil(N/64)) uint64        written in full, one bit a neuron; spk[0] is where spk0 is not zero
    """
    steps, batch, n = mem.shape
    moving = current.shape[0] > 1
    simple = reset == SUBTRACT and delay and levels is None and winner is None  # the default: no choice, no row to load
    simple = simple and same(beta) and same(threshold) and same(own_of(weight))
    currents, ms, words = current.reshape(-1), potential.reshape(-1), spk.reshape(-1)
    group = samples_together(n)
    for first in range(begin, end, group):
        last = min(first + group, end)
        for t in range(steps):
            before = mem[t - 1] if t > 0 else mem0
            if simple and t > 0:
                each = beta[0], threshold[0], SUBTRACT
                if t == 1 and run_narrow(current, weight, bias, *each, potential, spk, first, last):
                    break
                rows = current[t * moving, first:last], spk[t, first:last], weight, bias, before[first:last]
                if step_wide(*rows, *each, potential[t, first:last], spk[t + 1, first:last]):
                    continue
            given = t > 0 and linear_current(
                current[t * moving, first:last], spk[t, first:last], weight, bias, potential[t, first:last]
            )
            if simple and t > 0 and (given or weight is None or weight.ndim == 1):  # all samples as one row
                size, at = (last - first) * n, (t * batch + first) * n
                m, u = ms[at : at + size], ms[at - batch * n : at - batch * n + size]
                i = m if given else currents[(t * moving * batch + first) * n :]
                alike = first_of(own_of(weight)), beta[0], threshold[0]
                if n % 64 == 0:
                    step_row(u, u, i, *alike, SUBTRACT, m, words[((t + 1) * batch + first) * n // 64 :])
                else:
                    step_row(u, u, i, *alike, SUBTRACT, m, None)
                    for b in range(first, last):
                        pack_above(potential[t, b], threshold, spk[t + 1, b])
                continue
            for b in range(first, last):
                u, m, bits, block = before[b], potential[t, b], spk[t + 1, b], b // BLOCK
                now = current[t * moving, b]
                if t == 0:
                    pack_nonzero(spk0[b], spk[0, b])
                if (weight is None or weight.ndim == 1) and winner is None and t > 0:
                    step_row(u, potential[t - 1, b], now, weight, beta, threshold, reset, m, bits)
                else:
                    if not given:
                        start_row(now, bias, m)
                        if t == 0:
                            feedback_row(spk[0, b], spk0[b], weight, window, room, block, m)
                        else:
                            feedback_row(spk[t, b], None, weight, window, room, block, m)
                    step_row(u, m, m, None, beta, threshold, reset, m, bits)
                if levels is not None:
                    for k in range(n):
                        m[k] = nearest(m[k], levels)
                    pack_above(m, threshold, bits)
                if winner is not None:
                    find_winner(m, threshold, winner[block])
                    keep_nonzero(winner[block], bits)
                if not delay:
                    settle_row(u, m, threshold, winner, block, reset, mem[t, b])


@part
def add_fed_back(spk0, spk, d, t, b, dweight):
    """Eq. (12) for V, a step and a sample: dweight += s[t-1] d."""
    if spk0 is not None and t == 0:
        add_chosen(spk[0, b], spk0[b], d, dweight)
    else:
        add_chosen(spk[t, b], None, d, dweight)


@kernel(lambda *given: given[10].shape[1], grain=BLOCK)  # mem's batch
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
    spk0,
    mem0,
    mem,
    potential,
    spk,
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
    dweight,
):
    """Eqs. (5) to (8), (10) and (11), from the last step to the first, and (12) for V.

    Parameters
    ----------
    dspk, dmem : (T, B, N) or (1, 1, N) float   the direct gradients, or those of all samples and steps
    weight : None, (N,), (N, N) or conv_forward's float         V, W transposed, or flip's
    spk0 : None or (B, N) float                 for dweight, where the spikes before the first step need not be 0 and 1
    kind, a, b : int, float, float              the surrogate, see rules.py
    learn : int                                 WANTED if dbeta and dthreshold are, plus MORE after later steps
    initial : bool                              whether dspk0 and dmem0 are
    dcurrent : (T, B, N) float                  written in full: d; with MORE (T+1, B, N), d of the step after the last
    dspk0, dmem0 : (B, N) float                 overwritten; if initial, with dL/d(initial state); with MORE, dspk0 is
                                                what such a call left
    dbeta, dthreshold : (ceil(B/BLOCK), N)      written in full, or with MORE added to, if WANTED; a row a block of
                                                samples
    dweight : None or (ceil(B/BLOCK), N)        the same whether WANTED or not: dV of each block of samples
    The others are as in lif_forward.
    """
    steps, batch, n = mem.shape
    spk_t, spk_b = dspk.shape[0] > 1, dspk.shape[1] >= batch
    mem_t, mem_b = dmem.shape[0] > 1, dmem.shape[1] >= batch
    simple = reset == SUBTRACT and delay and kind == ATAN and learn & WANTED == 0  # the default, as in lif_forward
    simple = simple and winner is None and spk_b and dmem.shape[:2] == (1, 1) and same(dmem[0, 0])
    simple = simple and same(beta) and same(threshold) and same(own_of(weight))
    dspks, ms, ds = dspk.reshape(-1), potential.reshape(-1), dcurrent.reshape(-1)
    mem0s, dspk0s = mem0.reshape(-1), dspk0.reshape(-1)
    group, more = samples_together(n), learn & MORE != 0
    for first in range(begin, end, group):
        last = min(first + group, end)
        if not more:
            dspk0[first:last] = 0
        if learn == WANTED:
            dbeta[first // BLOCK : (last - 1) // BLOCK + 1] = 0
            dthreshold[first // BLOCK : (last - 1) // BLOCK + 1] = 0
        if dweight is not None and not more:
            dweight[first // BLOCK : (last - 1) // BLOCK + 1] = 0
        for t in range(steps - 1, -1, -1):
            before = mem[t - 1] if t > 0 else mem0
            after = dcurrent[t + 1] if more or t + 1 < steps else dspk0  # which is still 0
            for low in range(first, last, BLOCK):
                high, block = min(low + BLOCK, last), low // BLOCK
                if simple:  # all samples as one row
                    at, own = (t * batch + low) * n, low * n
                    u = ms[at - batch * n :] if t > 0 else mem0s[own:]
                    later = ds[at + batch * n :] if more or t + 1 < steps else dspk0s[own:]
                    gs, m, d = dspks[(t * spk_t * batch + low) * n :], ms[at:], ds[at : at + (high - low) * n]
                    state = gs, carry_of(weight, dspk0s[own:]), later, m, u, m
                    alike = dmem[0, 0, 0], first_of(own_of(weight)), beta[0], threshold[0]
                    adjoint_row(*state, *alike, None, 0, ATAN, a, b, SUBTRACT, True, d, None, None)
                else:
                    for r in range(low, high):
                        gs, gu, d = dspk[t * spk_t, r * spk_b], dmem[t * mem_t, r * mem_b], dcurrent[t, r]
                        m = potential[t, r]
                        if winner is not None:
                            find_winner(m, threshold, winner[block])
                        rows = gs, carry_of(weight, dspk0[r]), after[r], m, before[r], mem[t, r]
                        each = gu, own_of(weight), beta, threshold
                        if learn & WANTED:
                            learned = dbeta[block], dthreshold[block]
                            adjoint_row(*rows, *each, winner, block, kind, a, b, reset, delay, d, *learned)
                        else:
                            adjoint_row(*rows, *each, winner, block, kind, a, b, reset, delay, d, None, None)
                if dweight is not None:
                    for r in range(low, high):
                        add_fed_back(spk0, spk, dcurrent[t, r], t, r, dweight[block])
            if weight is not None and (t > 0 or initial):
                if weight.ndim == 2:
                    product(dcurrent[t], weight, dspk0, first, last)
                elif weight.ndim > 2:
                    for r in range(first, last):
                        dspk0[r] = 0
                        correlate_sample(NO_BITS, dcurrent[t, r], weight, window, room[r // BLOCK], dspk0[r])
        if initial:
            for r in range(first, last):
                for k in range(n):
                    d = dcurrent[0, r, k]
                    dmem0[r, k] = beta[k] * lif_through_leak(d, mem0[r, k], threshold[k], reset)
                    if weight is not None and weight.ndim == 1:
                        dspk0[r, k] = weight[k] * d


@cache
def lif_backward_with(function):
    """lif_backward with a scalar function of the user's, x -> h(x), in place of rules.surrogate."""
    return with_surrogate(lif_backward, globals(), function, adjoint_lanes, adjoint_row)


@kernel(lambda spk0, spk, d, dweight, add: d.shape[1], grain=BLOCK)
def one_to_one_backward(begin, end, spk0, spk, d, dweight, add):
    """Eq. (12): dV of each block of samples.

    Parameters
    ----------
    spk0 : None or (B, N) float                 the spikes before the first step, where they need not be 0 and 1
    spk : (T+1, B, ceil(N/64)) uint64           as lif_forward left it
    d : (T, B, N) float
    dweight : (ceil(B/BLOCK), N) float          added to if add, else written in full
    """
    if not add:
        dweight[begin // BLOCK : (end - 1) // BLOCK + 1] = 0
    for t in range(d.shape[0] - 1, -1, -1):
        for b in range(begin, end):
            add_fed_back(spk0, spk, d[t, b], t, b, dweight[b // BLOCK])


__all__ = ["lif_backward", "lif_backward_with", "lif_forward", "one_to_one_backward"]
