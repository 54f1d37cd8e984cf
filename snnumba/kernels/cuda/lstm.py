"""Spiking LSTM cells over all time steps, forward and backward.

Eqs. (l1) to (l6) are in rules.py, (l7) and (l8) in kernels/cpu/lstm.py. Up to MOST_TOGETHER cells, all steps are one
launch, in which each sample reads the weights for itself; beyond, samples had better share them, and a step is a
product of dense.py and a launch.
"""

from functools import cache
from types import SimpleNamespace

from . import _lstm
from ._driver import THREADS, blocks
from ._lif import with_surrogate
from ._lif_striding import STRIDE
from ._lif_tiled import clear_bits
from .bits import no_bits, num_words
from .dense import product

MOST_TOGETHER = 128  # cells, whose weights take 256 KB in float32


def lstm_forward(
    current, weight, threshold, levels, winner, syn0, mem0, reset, gates, syn, mem, spk
):  # fmt: skip
    """Eqs. (l1) to (l4) and (l7) over all steps.

    Parameters
    ----------
    current : (T, B, 4 N) or (1, B, 4 N) float   x Wih^T + b; constant in time where it has one step
    weight : (N, 4 N) float                      Whh, its outputs last
    threshold : (N,) float
    levels : None or (L,) float                  of state_quant, ascending
    winner : None or any array                   with inhibition; not used
    syn0, mem0 : (B, N) float                    the state before the first step
    reset : int                                  see rules.py
    gates : (T, B, 4 N) float                    written in full: i, f, g, o
    syn, mem : (T, B, N) float                   written in full: c, h
    spk : (T, B, ceil(N/64)) uint64              written in full, one bit a neuron
    """
    steps, batch, size = mem.shape
    inhibition = winner is not None
    if size <= MOST_TOGETHER or inhibition:
        _lstm.forward_together.launch(
            batch, STRIDE, current, weight, threshold, levels, syn0, mem0, inhibition, reset, gates, syn, mem, spk,
            shared=size * mem.dtype.itemsize + 8 * num_words(size),
        )  # fmt: skip
        return
    clear_bits(spk)
    for t in range(steps):
        h = mem[t - 1 : t] if t > 0 else mem0.reshape(1, batch, size)
        product(h, no_bits(), weight, None, gates[t : t + 1])
        _lstm.forward_step.launch(
            blocks(batch * size, THREADS), THREADS, t, current, threshold, levels, syn0, mem0, reset, gates, syn, mem,
            spk,
        )  # fmt: skip


def _backward(kernels):
    """lstm_backward by these kernels, which differ in their surrogate."""

    def lstm_backward(
        dspk, dsyn, dmem, weight, threshold, winner, syn0, mem0, gates, syn, mem, kind, a, b, reset, learn, surrogates,
        d, dsyn0, dmem0, dthreshold,
    ):  # fmt: skip
        """Eqs. (l4) to (l6) and (l8), from the last step to the first.

        Parameters
        ----------
        dspk, dsyn, dmem : (T, B, N) or (1, 1, N) float   the direct gradients, or those of all samples and steps
        weight : (4 N, N) float                      Whh transposed
        kind, a, b : int, float, float               the surrogate, see rules.py
        learn : int                                  WANTED if dthreshold is, plus MORE after later steps
        surrogates :                                 not used
        d : (T, B, 4 N) float                        written in full: dL/d(l7)
        dsyn0, dmem0 : (B, N) float                  written in full: dL/d(initial state); with MORE, what such a call
                                                     left
        dthreshold : (B, N) float                    written in full, or with MORE added to, if WANTED
        The others are as in lstm_forward.
        """
        steps, batch, size = mem.shape
        inhibition = winner is not None
        given = dspk, dsyn, dmem
        rest = syn0, mem0, gates, syn, mem, kind, a, b, reset, learn, d, dsyn0, dmem0, dthreshold
        if size <= MOST_TOGETHER or inhibition:
            kernels.backward_together.launch(batch, STRIDE, *given, weight, threshold, inhibition, *rest)
            return
        for t in range(steps - 1, -1, -1):
            kernels.backward_step.launch(blocks(batch * size, THREADS), THREADS, t, *given, threshold, *rest)
            product(d[t : t + 1], no_bits(), weight, None, dmem0.reshape(1, batch, size))

    return lstm_backward


BACKWARD = {"backward_together": _lstm.backward_together, "backward_step": _lstm.backward_step}
lstm_backward = _backward(SimpleNamespace(**BACKWARD))


@cache
def lstm_backward_with(function):
    """lstm_backward with a scalar function of the user's, x -> h(x), in place of rules.surrogate."""
    return _backward(with_surrogate(BACKWARD, function))


__all__ = ["lstm_backward", "lstm_backward_with", "lstm_forward"]
