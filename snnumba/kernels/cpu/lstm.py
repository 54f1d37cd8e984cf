"""Spiking LSTM cells over all time steps in one call, forward and backward.

Eqs. (l1) to (l6) are in rules.py; here is what runs over time. x Wih^T and the biases are dense.linear_forward's:

    (l7) gates before their functions: current[t] + h[t-1] Whh^T
    (l8) a_h[t] = dL/dh[t] + d[t+1] Whh,   a_c[t] = dL/dc[t] + f[t+1] a_c[t+1]

d[t] is dL/d(l7), from which dense.linear_backward makes the gradients of weights and biases.
Sources: Hochreiter and Schmidhuber 1997, Neural Computation 9(8), 1735-1780; Eshraghian et al. 2023, arXiv:2109.12894.
"""

import math
from functools import cache

from ._compile import kernel, part, rules
from ._lif import find_winner, surrogate_row, with_surrogate
from .bits import keep_nonzero, pack_above
from .dense import BLOCK, product

logistic, lstm_cell, lstm_output, nearest = rules.logistic, rules.lstm_cell, rules.lstm_output, rules.nearest
lstm_reset, lstm_through_reset, lstm_adjoint = rules.lstm_reset, rules.lstm_through_reset, rules.lstm_adjoint
lstm_dthreshold, WANTED, MORE = rules.lstm_dthreshold, rules.WANTED, rules.MORE


@part
def cell_row(current, c, h, threshold, levels, reset, gates, syn, mem):
    """Eqs. (l1) to (l3) and (l7) for a sample: gates hold h Whh^T, and then i, f, g, o."""
    n = syn.shape[0]
    for k in range(n):
        gates[k] = logistic(current[k] + gates[k])
        gates[n + k] = logistic(current[n + k] + gates[n + k])
        gates[2 * n + k] = math.tanh(current[2 * n + k] + gates[2 * n + k])
        gates[3 * n + k] = logistic(current[3 * n + k] + gates[3 * n + k])
    for k in range(n):
        syn[k] = lstm_cell(gates[k], gates[n + k], gates[2 * n + k], c[k])
        mem[k] = lstm_reset(lstm_output(gates[3 * n + k], syn[k]), h[k], threshold[k], reset)
    if levels is not None:
        for k in range(n):
            syn[k] = nearest(syn[k], levels)
            mem[k] = nearest(mem[k], levels)


@kernel(lambda current, *_: current.shape[1], grain=BLOCK)
def lstm_forward(
    begin, end, current, weight, threshold, levels, winner, syn0, mem0, reset, gates, syn, mem, spk
):  # fmt: skip
    """Eqs. (l1) to (l4) and (l7) over all steps.

    Parameters
    ----------
    current : (T, B, 4 N) or (1, B, 4 N) float   x Wih^T + b; constant in time where it has one step
    weight : (N, 4 N) float                      Whh, its outputs last
    threshold : (N,) float
    levels : None or (L,) float                  of state_quant, ascending
    winner : None or (ceil(B/BLOCK), N)          to work in, with inhibition
    syn0, mem0 : (B, N) float                    the state before the first step
    reset : int                                  see rules.py
    gates : (T, B, 4 N) float                    written in full: i, f, g, o
    syn, mem : (T, B, N) float                   written in full: c, h
    spk : (T, B, ceil(N/64)) uint64              written in full, one bit a neuron
    """
    moving = current.shape[0] > 1
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        for t in range(mem.shape[0]):
            c, h = (syn[t - 1], mem[t - 1]) if t > 0 else (syn0, mem0)
            product(h, weight, gates[t], first, last)
            for b in range(first, last):
                cell_row(
                    current[t * moving, b], c[b], h[b], threshold, levels, reset, gates[t, b], syn[t, b], mem[t, b]
                )
                pack_above(mem[t, b], threshold, spk[t, b])
                if winner is not None:
                    won = winner[first // BLOCK]
                    find_winner(mem[t, b], threshold, won)
                    keep_nonzero(won, spk[t, b])


@part
def cell_back_row(dspk, carry_c, a_h, gates, c, h, threshold, p, reset, learn, d, dthreshold):
    """Eqs. (l4) to (l6) for a sample; carry_c is a_c and becomes the state's gradient, a_h is dL/dh."""
    n = carry_c.shape[0]
    for k in range(n):
        i, f, g, o = gates[k], gates[n + k], gates[2 * n + k], gates[3 * n + k]
        through = p[k] * dspk[k]
        a = a_h[k] + through
        if learn & WANTED:
            dthreshold[k] += lstm_dthreshold(through, a, h[k], threshold[k], reset)
        a_q = lstm_through_reset(a, h[k], threshold[k], reset)
        squashed = math.tanh(lstm_cell(i, f, g, c[k]))
        a_c, d[k], d[n + k], d[2 * n + k], d[3 * n + k] = lstm_adjoint(carry_c[k], a_q, squashed, i, f, g, o, c[k])
        carry_c[k] = a_c * f


@kernel(lambda dspk, dsyn, dmem, weight, threshold, winner, syn0, *_: syn0.shape[0], grain=BLOCK)
def lstm_backward(
    begin, end, dspk, dsyn, dmem, weight, threshold, winner, syn0, mem0, gates, syn, mem, kind, a, b, reset, learn,
    surrogates, d, dsyn0, dmem0, dthreshold,
):  # fmt: skip
    """Eqs. (l4) to (l6) and (l8), from the last step to the first.

    Parameters
    ----------
    dspk, dsyn, dmem : (T, B, N) or (1, 1, N) float   the direct gradients, or those of all samples and steps
    weight : (4 N, N) float                      Whh transposed
    kind, a, b : int, float, float               the surrogate, see rules.py
    learn : int                                  WANTED if dthreshold is, plus MORE after later steps
    surrogates : (ceil(B/BLOCK), N) float        to work in
    d : (T, B, 4 N) float                        written in full: dL/d(l7)
    dsyn0, dmem0 : (B, N) float                  written in full: dL/d(initial state); with MORE, what such a call
                                                 left
    dthreshold : (ceil(B/BLOCK), N)              written in full, or with MORE added to, if WANTED; a row a block of
                                                 samples
    The others are as in lstm_forward.
    """
    spk_t, spk_b = dspk.shape[0] > 1, dspk.shape[1] > 1
    syn_t, syn_b = dsyn.shape[0] > 1, dsyn.shape[1] > 1
    mem_t, mem_b = dmem.shape[0] > 1, dmem.shape[1] > 1
    for first in range(begin, end, BLOCK):
        last = min(first + BLOCK, end)
        block = first // BLOCK
        p = surrogates[block : block + 1]
        if learn & MORE == 0:
            dsyn0[first:last] = 0
            dmem0[first:last] = 0
        if learn == WANTED:
            dthreshold[block] = 0
        for t in range(mem.shape[0] - 1, -1, -1):
            c, h = (syn[t - 1], mem[t - 1]) if t > 0 else (syn0, mem0)
            for r in range(first, last):
                if winner is not None:
                    find_winner(mem[t, r], threshold, winner[block])
                surrogate_row(mem[t, r], threshold, winner, block, kind, a, b, p[0])
                carry_c, a_h = dsyn0[r], dmem0[r]
                gc, gh = dsyn[t * syn_t, r * syn_b], dmem[t * mem_t, r * mem_b]
                for k in range(a_h.shape[0]):
                    carry_c[k] += gc[k]
                    a_h[k] += gh[k]
                gs = dspk[t * spk_t, r * spk_b]
                cell_back_row(
                    gs, carry_c, a_h, gates[t, r], c[r], h[r], threshold, p[0], reset, learn, d[t, r], dthreshold[block]
                )
            product(d[t], weight, dmem0, first, last)


@cache
def lstm_backward_with(function):
    """lstm_backward with a scalar function of the user's, x -> h(x), in place of rules.surrogate."""
    return with_surrogate(lstm_backward, globals(), function, surrogate_row)


__all__ = ["lstm_backward", "lstm_backward_with", "lstm_forward"]
