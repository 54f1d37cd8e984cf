"""Leaky integrate-and-fire neurons over all time steps in one call, forward and backward.

Eqs. (1) to (7) are in rules.py; here is what runs over time. rec is the feedback of the spikes of the step before:

    (8)  i[t] = current[t] + rec(s[t-1]),        rec(s) = s W + b                   linear feedback
    (9)  a_s[t] = dL/ds[t] + d[t+1] W^T,         a_u[t] = dL/du[t] + beta d[t+1]
    (10) dW = sum_t s[t-1]^T d[t],  db = sum_t d[t]                                 dense.linear_backward

Forward, each sample goes through all its steps before the next one starts, so that its state stays in cache. Backward,
the product in (9) takes BLOCK samples together.
Sources: Henkes et al. 2022, arXiv:2210.03515; Neftci et al. 2019, arXiv:1901.09948.
"""

from ._compile import kernel, part, rules
from .bits import add_rows, pack_above, pack_nonzero
from .dense import BLOCK, product

spike, surrogate = rules.spike, rules.surrogate
lif_potential, lif_settle = rules.lif_potential, rules.lif_settle
lif_adjoint, lif_dthreshold = rules.lif_adjoint, rules.lif_dthreshold


@part
def step_row(u, i, beta, threshold, reset, delay, mem, spk):
    """Eqs. (1) to (4) for a row of neurons: i becomes m; spk is written, and mem if it is not delayed."""
    for n in range(i.shape[0]):
        i[n] = lif_potential(u[n], i[n], beta[n], threshold[n], reset)
    pack_above(i, threshold, spk)
    if not delay:
        for n in range(i.shape[0]):
            mem[n] = lif_settle(i[n], spike(u[n] - threshold[n]), threshold[n], reset)


@part
def surrogate_row(m, threshold, kind, a, b, h):
    """h(m - theta) for a row of neurons."""
    for n in range(m.shape[0]):
        h[n] = surrogate(m[n] - threshold[n], kind, a, b)


@part
def adjoint_row(dspk, carry_spk, dmem, next_d, m, u, beta, threshold, h, reset, delay, d):
    """Eqs. (5), (6) and (9) for a row of neurons; next_d is d[t+1]."""
    for n in range(d.shape[0]):
        a_s = dspk[n] + carry_spk[n]
        a_u = dmem[n] + beta[n] * next_d[n]
        d[n] = lif_adjoint(a_s, a_u, m[n], u[n], threshold[n], h[n], reset, delay)


@part
def learn_row(dspk, carry_spk, dmem, next_d, m, u, beta, threshold, h, reset, delay, d, dbeta, dthreshold):
    """Eq. (7) for a row of neurons: adds to dbeta and dthreshold."""
    for n in range(d.shape[0]):
        a_s = dspk[n] + carry_spk[n]
        a_u = dmem[n] + beta[n] * next_d[n]
        dbeta[n] += d[n] * u[n]
        dthreshold[n] += lif_dthreshold(a_s, a_u, m[n], u[n], threshold[n], h[n], d[n], reset, delay)


@kernel(lambda current, *_: current.shape[1], grain=BLOCK)
def rleaky_linear_forward(
    begin, end, current, weight, bias, beta, threshold, spk0, mem0, reset, delay, mem, potential, spk
):
    """RLeaky with linear feedback, eqs. (1) to (4) and (8), over all steps.

    Parameters
    ----------
    current : (T, B, N) or (1, B, N) float   constant in time where it has one step
    weight, bias : (N, N), (N,) float        weight[n, m]: from neuron n to neuron m
    beta, threshold : (N,) float
    spk0, mem0 : (B, N) float                the state before the first step
    reset, delay : int, bool                 see rules.py
    mem : (T, B, N) float                    written in full: u
    potential : (T, B, N) float              written in full: m; the same array as mem if delay
    spk : (T+1, B, ceil(N/64)) uint64        written in full, one bit a neuron; spk[0] is where spk0 is not zero
    """
    moving = current.shape[0] > 1
    for b in range(begin, end):
        for t in range(mem.shape[0]):
            i = potential[t, b]
            c = current[t * moving, b]
            for n in range(i.shape[0]):
                i[n] = c[n] + bias[n]
            if t == 0:
                pack_nonzero(spk0[b], spk[0, b])
                add_rows(spk[0, b], spk0[b], weight, i)
            else:
                add_rows(spk[t, b], None, weight, i)
            u = mem[t - 1, b] if t > 0 else mem0[b]
            step_row(u, i, beta, threshold, reset, delay, mem[t, b], spk[t + 1, b])


@kernel(lambda dspk, dmem, weight, beta, threshold, mem0, mem, *_: mem.shape[1], grain=BLOCK)
def rleaky_linear_backward(
    begin,
    end,
    dspk,
    dmem,
    weight,
    beta,
    threshold,
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
    """RLeaky with linear feedback, eqs. (5) to (7) and (9), from the last step to the first.

    Parameters
    ----------
    dspk, dmem : (T, B, N) or (1, 1, N) float   the direct gradients; one row where they are all alike
    weight : (N, N) float                       transposed: weight[m, n] is from neuron n to neuron m
    kind, a, b : int, float, float              the surrogate, see rules.py
    learn : bool                                whether dbeta and dthreshold are wanted
    initial : bool                              whether dspk0 and dmem0 are
    dcurrent : (T, B, N) float                  written in full: d
    dspk0, dmem0 : (B, N) float                 overwritten; if initial, with dL/d(initial state)
    dbeta, dthreshold : (ceil(B/BLOCK), N)      written in full if learn, one row a block of samples
    The others are as in rleaky_linear_forward.
    """
    spk_t, spk_r = dspk.shape[0] > 1, dspk.shape[1] > 1
    mem_t, mem_r = dmem.shape[0] > 1, dmem.shape[1] > 1
    steps = mem.shape[0]
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        block = first // BLOCK
        dspk0[first:last] = 0
        if learn:
            dbeta[block] = 0
            dthreshold[block] = 0
        for t in range(steps - 1, -1, -1):
            for r in range(first, last):
                gs, gu = dspk[t * spk_t, r * spk_r], dmem[t * mem_t, r * mem_r]
                m, u = potential[t, r], mem[t - 1, r] if t > 0 else mem0[r]
                h = dmem0[r]  # a row to work in until the end
                next_d = dcurrent[t + 1, r] if t + 1 < steps else dspk0[r]  # dspk0 is still 0
                surrogate_row(m, threshold, kind, a, b, h)
                adjoint_row(gs, dspk0[r], gu, next_d, m, u, beta, threshold, h, reset, delay, dcurrent[t, r])
                if learn:
                    learn_row(
                        gs, dspk0[r], gu, next_d, m, u, beta, threshold, h, reset, delay, dcurrent[t, r],
                        dbeta[block], dthreshold[block],
                    )  # fmt: skip
            if t > 0 or initial:
                product(dcurrent[t], weight, dspk0, first, last)
        if initial:
            for r in range(first, last):
                for n in range(mem.shape[2]):
                    dmem0[r, n] = beta[n] * dcurrent[0, r, n]


__all__ = ["rleaky_linear_backward", "rleaky_linear_forward"]
