"""Leaky integrate-and-fire neurons over all time steps, forward and backward.

Eqs. (1) to (8) are in rules.py, (9) to (12) in kernels/cpu/lif.py. A launch does all steps, in one of these ways, and
in the last one, one step:

    _lif_resident.py   states in registers, a linear feedback's matrix in shared memory: 239 neurons of float32
    _lif_striding.py   states in global memory, a block a sample: conv2d, and what is too large for the first
    _lif_events.py     a large linear feedback, forward: blocks share out the matrix, spikes are lists of its rows
    _lif_wide.py       the same, backward, many samples: the matrix in shared memory, on tensor cores
    _lif_spread.py     the same, few samples, or too many neurons for those two: the matrix in registers
    _lif_tiled.py      a step a launch, a tile of neurons and samples a block: a larger linear feedback, or in float64

Which one follows from sizes, but for one thing: the blocks of _lif_events.py, _lif_wide.py and _lif_spread.py wait for
each other, and where a device does not hold them all at once, the next way is taken. It adds in another order, so there
the last bits differ.
"""

from functools import cache
from types import SimpleNamespace

from . import _lif_events, _lif_resident, _lif_spread, _lif_striding, _lif_tiled, _lif_wide
from ._driver import blocks, cuda, elementwise, rules
from ._lif import with_surrogate
from ._tile import SQUARE, TILE
from .bits import is_set, no_bits, num_words
from .conv import by_taps
from .dense import find_active, product

MORE = rules.MORE
MOST_SHARED = 227 << 10  # bytes of shared memory of a block, on sm_90
MOST_TOGETHER = 512  # neurons that a block takes one a thread
STRETCH = 128  # of neurons that do not depend on each other: a multiple of 64, so that blocks write whole words
STACKED = 256  # threads of a block that takes several samples
SHARED_OUT, MOST_SHARES = 64, 4  # neurons from which on shares of the threads multiply, and how many: 2 or 4
ENOUGH = 128  # blocks, to keep a device busy


class Shape:
    """How a launch of _lif_resident.py is cut: blocks, threads of a block, and bytes of its shared memory."""

    def __init__(self, weight, inhibition, mem):
        _, batch, neurons = mem.shape
        matrix = weight is not None and weight.ndim == 2
        width = neurons if matrix or inhibition else min(neurons, STRETCH)
        stretches = blocks(neurons, width)
        held = neurons * neurons * mem.dtype.itemsize if matrix else 0

        def each(shares):  # bytes of shared memory for a sample, of both directions the most
            return shares * width * mem.dtype.itemsize + max(2 * width * mem.dtype.itemsize, 3 * 8 * num_words(width))

        rows = min(max(1, STACKED // width), blocks(batch * stretches, ENOUGH), (MOST_SHARED - held) // each(1))
        shares = 1
        if matrix and not inhibition and width >= SHARED_OUT:
            while 2 * shares * width * rows <= MOST_TOGETHER and shares < MOST_SHARES:
                shares *= 2
        self.possible = rows > 0 and width <= MOST_TOGETHER and (weight is None or weight.ndim < 4)
        self.grid = blocks(batch, max(rows, 1)), stretches
        self.block = width, rows, shares
        self.shared = held + rows * each(shares)
        self.tiled = matrix and not inhibition  # where it is not possible


def for_striding(weight):
    """A feedback's weight as _lif_striding.py takes it: conv2d's by its taps."""
    return weight if weight is None or weight.ndim < 4 else by_taps(weight)


def lif_forward(
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
    window : Window                          of conv.py, with conv2d, else None
    room :                                   not used
    beta, threshold : (N,) float
    levels : None or (L,) float              of state_quant, ascending
    winner : None or any array               with inhibition; not used
    spk0, mem0 : (B, N) float                the state before the first step
    reset, delay : int, bool                 see rules.py
    mem : (T, B, N) float                    written in full: u
    potential : (T, B, N) float              written in full: m; the same array as mem if delay
    spk : (T+1, B, ceil(N/64)) uint64        written in full, one bit a neuron; spk[0] is where spk0 is not zero
    """
    steps, batch, neurons = mem.shape
    inhibition = winner is not None
    shape = Shape(weight, inhibition, mem)
    made = mem, potential, spk
    if shape.possible:
        state = spk0, mem0, inhibition, reset, delay
        _lif_resident.forward_resident.launch(
            shape.grid, shape.block, current, weight, bias, beta, threshold, levels, *state, *made, shared=shape.shared
        )
    elif (
        shape.tiled
        and not _lif_spread.Spread(weight, mem).alone  # then that is faster
        and (events := _lif_events.Events(weight, mem)).possible
    ):
        find_active(spk0.reshape(1, batch, neurons), spk[:1])
        words, halves = events.words(), spk.reshape(-1).view(_lif_events.WORD)
        for first, grid in events.launches:
            _lif_events.forward_events.launch(
                grid, events.block, first, current, weight, bias, beta, threshold, levels, spk0, mem0, reset, delay,
                words, mem, potential, halves, shared=events.shared, together=True,
            )  # fmt: skip
    elif shape.tiled and (spread := _lif_spread.Spread(weight, mem)).possible:
        find_active(spk0.reshape(1, batch, neurons), spk[:1])
        words = spread.words().reshape(-1)
        for first, grid in spread.launches:
            _lif_spread.forward_spread.launch(
                grid, spread.block, first, spread.samples, spread.rows, current, weight, bias, beta, threshold,
                levels, spk0, mem0, reset, delay, words, mem, potential, shared=spread.shared, together=True,
            )  # fmt: skip
        _lif_spread.pack_spikes(potential, threshold, spk[1:])
    elif shape.tiled:
        _lif_tiled.clear_bits(spk)
        find_active(spk0.reshape(1, batch, neurons), spk[:1])
        grid = blocks(batch, TILE), blocks(neurons, TILE)
        for t in range(steps):
            _lif_tiled.forward_tile.launch(
                grid, SQUARE, t, None if t else spk0, current, weight, bias, beta, threshold, levels, mem0, reset,
                delay, *made,
            )  # fmt: skip
    else:
        _lif_striding.forward_striding.launch(
            batch, _lif_striding.STRIDE, current, for_striding(weight), bias, window, beta, threshold, levels, spk0,
            mem0, inhibition, reset, delay, *made, shared=8 * num_words(neurons),
        )  # fmt: skip


def _backward(kernels):
    """lif_backward by these kernels, which differ in their surrogate."""

    def lif_backward(
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
        dspk, dmem : (T, B, N) or (1, K, N) float   the direct gradients, or one for all samples and steps
        weight : None, (N,), (N, N) or conv_forward's float         V, W transposed, or flip's
        spk0 : None or (B, N) float                 as in one_to_one_backward, for dweight
        kind, a, b : int, float, float              the surrogate, see rules.py
        learn : int                                 WANTED if dbeta and dthreshold are, plus MORE after later steps
        initial : bool                              whether dspk0 and dmem0 are
        dcurrent : (T, B, N) float                  written in full: d; with MORE (T+1, B, N), d of the step after
        dspk0, dmem0 : (B, N) float                 written in full if initial: dL/d(initial state); with MORE, dspk0 is
                                                    what such a call left
        dbeta, dthreshold : (B, N) float            written in full, or with MORE added to, if WANTED
        dweight : None or (B, N) float              the same whether WANTED or not: dV of each sample
        The others are as in lif_forward.
        """
        steps, batch, neurons = mem.shape
        inhibition = winner is not None
        shape = Shape(weight, inhibition, mem)
        known, options = (mem0, mem, potential), (kind, a, b, reset, delay, learn)
        made = initial, dcurrent, dspk0, dmem0, dbeta, dthreshold
        if shape.possible:
            kernels.backward_resident.launch(
                shape.grid, shape.block, dspk, dmem, weight, beta, threshold, inhibition, *known, *options, *made,
                shared=shape.shared,
            )  # fmt: skip
        elif shape.tiled and (wide := _lif_wide.Wide(weight, mem)).chosen:
            for first, grid in wide.launches:
                kernels.backward_wide.launch(
                    grid, _lif_wide.THREADS, first, wide.rows, dspk, dmem, weight, beta, threshold, *known, *options,
                    *wide.room(), *made, shared=wide.shared, together=True,
                )  # fmt: skip
        elif shape.tiled and (spread := _lif_spread.Spread(weight, mem)).possible:
            words = spread.words().reshape(-1)
            for first, grid in spread.launches:
                kernels.backward_spread.launch(
                    grid, spread.block, first, spread.samples, spread.rows, dspk, dmem, weight, beta,
                    threshold, *known, *options, words, *made, shared=spread.shared, together=True,
                )  # fmt: skip
        elif shape.tiled:
            grid, words = (blocks(batch, TILE), blocks(neurons, TILE)), no_bits()[0]
            for t in range(steps - 1, -1, -1):
                kernels.backward_tile.launch(
                    grid, SQUARE, t, dspk, dmem, words, weight, beta, threshold, *known, *options, dcurrent, dbeta,
                    dthreshold,
                )  # fmt: skip
            if initial:
                product(dcurrent[:1], no_bits(), weight, None, dspk0.reshape(1, batch, neurons))
                _lif_tiled.initial_membrane(dcurrent[0], beta, threshold, mem0, reset, dmem0)
        else:
            kernels.backward_striding.launch(
                batch, _lif_striding.STRIDE, dspk, dmem, for_striding(weight), window, no_bits()[0, 0], beta,
                threshold, inhibition, *known, *options, *made,
            )  # fmt: skip
        if dweight is not None:
            one_to_one_backward(spk0, spk, dcurrent[:steps], dweight, learn & MORE > 0)

    return lif_backward


BACKWARD = {
    "backward_resident": _lif_resident.backward_resident,
    "backward_spread": _lif_spread.backward_spread,
    "backward_striding": _lif_striding.backward_striding,
    "backward_tile": _lif_tiled.backward_tile,
    "backward_wide": _lif_wide.backward_wide,
}
lif_backward = _backward(SimpleNamespace(**BACKWARD))


@cache
def lif_backward_with(function):
    """lif_backward with a scalar function of the user's, x -> h(x), in place of rules.surrogate."""
    return _backward(with_surrogate(BACKWARD, function))


@elementwise(lambda spk0, spk, d, dweight, add: dweight.size)
def one_to_one_backward(spk0, spk, d, dweight, add):
    """Eq. (12): dV of each sample.

    Parameters
    ----------
    spk0 : None or (B, N) float                 the spikes before the first step, where they need not be 0 and 1
    spk : (T+1, B, ceil(N/64)) uint64           as lif_forward left it
    d : (T, B, N) float
    dweight : (B, N) float                      added to if add, else written in full
    """
    i = cuda.grid(1)
    if i < dweight.size:
        b, n = divmod(i, dweight.shape[1])
        total = dweight[b, n] if add else d.dtype.type(0)
        if spk0 is not None:
            total += spk0[b, n] * d[0, b, n]
        for t in range(0 if spk0 is None else 1, d.shape[0]):
            if is_set(spk[t, b], n):
                total += d[t, b, n]
        dweight[b, n] = total


__all__ = ["lif_backward", "lif_backward_with", "lif_forward", "one_to_one_backward"]
