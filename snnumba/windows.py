"""A run over time in windows of a few steps, of which only the states that they begin with are kept.

Of T steps in windows of k, a layer's work arrays are k steps long, and T/k + 1 states are kept, each a membrane and a
bit a neuron. The backward pass goes from the last window to the first: it runs a window again from its state, for its
tape, and then back, from the gradient of the state that the window left. All sums over time run from the last step to
the first, and a window's are added to those of the windows after it, in place. On the CPU these are the same additions
in the same order as without windows, hence the same bits; on a GPU they are equal up to rounding. The price is one more
forward pass.

Sources: Griewank and Walther 2000, ACM TOMS 26(1), 19-45; Chen et al. 2016, arXiv:1604.06174.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .layers.base import Array, Layer, Window
from .layers.dropout import Dropout
from .layers.spiking import Spiking

if TYPE_CHECKING:
    from .network import Network

# What a window's tape takes over from that of the window after it: of the run, what came back, weights, and sums over
# time, but where layers inside have their own.
OF_RUN = ("counts", "steps", "total", "back", "dspk0", "dsyn0", "dmem0")
WEIGHTS = ("transposed", "flipped", "weight_ih", "weight_hh")
SUMS = ("dbeta", "dthreshold", "dV", "dgraded", "dweight", "dbias")
State = list[tuple[Array | None, ...]]  # of each layer that may carry one, those inside others too


class Windows:
    """A forward pass of a net, from which it can go back; x (T or 1, B, *sample), 1 where it is constant."""

    def __init__(self, net: "Network", x: Array, steps: int, every: int) -> None:
        self._net, self._steps, self._every = net, steps, every
        self._count = -(-steps // every)
        self._still = len(x) == 1
        moving = next(k for k, layer in enumerate(net.layers) if layer._moves) if self._still else 0
        self._before, self._layers = net.layers[:moving], net.layers[moving:]  # before: run once
        self._parts = [part for layer in self._layers for part in layer._all()]
        self._stores: dict[str, Array] = {}
        self._states: list[State] = []
        self._x: Any = x

    def forward(self) -> tuple[Array, Array]:
        """Spikes and membranes of the last layer at all steps."""
        net, batch = self._net, self._x.shape[1]
        with net._kernels.team.together():
            for layer in self._before:
                self._x = layer._run(self._x, 1)
        shape = self._steps, batch, *(net.shapes[-1] or ())
        spk, mem = (net._work.empty(name, shape, net.dtype) for name in ("spk", "mem"))
        spiking = [layer for layer in self._layers if isinstance(layer, Spiking)]
        counts = [net._work.empty("counts", (self._count, batch), np.int64) for _ in spiking]
        with self._chained():
            for w in range(self._count):
                steps = self._steps_of(w)
                self._keep()
                net._kernels.copy(self._run(w, again=False), spk[steps])
                net._kernels.copy(net._last.mem, mem[steps])
                for layer, count in zip(spiking, counts, strict=True):
                    net._kernels.count_bits(layer._tape["spikes"].bits, count[w])
            self._keep()
        self._at = self._count - 1  # the window whose tape the layers have
        for layer, count in zip(spiking, counts, strict=True):
            layer._tape |= {"counts": count, "steps": self._steps}
        return spk, mem

    def end(self, layer: Layer) -> tuple[Array | None, ...]:
        """The state of a layer after the last step."""
        return self._states[-1][self._parts.index(layer)]

    def backward(self, dspk: Array | None, dmem: Array | None, input_gradient: bool) -> Array | None:
        """Fill the gradients, from those of spk and mem; give that of x, if wanted, with its time axis."""
        net, dx, dy = self._net, None, None
        both = zip(self._parts, self._states[-1], strict=True)
        ends = [end if isinstance(part, Dropout) else part._state for part, end in both]
        wanted = [input_gradient or k > 0 for k in range(len(net.layers))]
        if input_gradient and not self._still:
            dx = net._work.empty("dx", self._x.shape, net.dtype)
        with self._chained():
            for w in range(self._count - 1, -1, -1):
                steps = self._steps_of(w)
                self._go_to(w)
                given = [None if d is None else d[steps] for d in (dspk, dmem)]
                dy = self._back(w, given[0], given[1], wanted[len(self._before) :])
                if dx is not None and dy is not None:
                    net._kernels.copy(dy, dx[steps])
        self._resume(ends)
        with net._kernels.team.together():
            for layer in self._layers:
                if not layer._inner:
                    layer._finish_back()
        for k in range(len(self._before) - 1, -1, -1):
            layer = self._before[k]
            layer._prepare_back(wanted[k])
            assert dy is not None
            dy = layer._run_back(dy, wanted[k])
            layer._learn_weights()
            layer._finish_back()
        return dy if dx is None else dx

    def _steps_of(self, w: int) -> slice:
        return slice(w * self._every, min((w + 1) * self._every, self._steps))

    @contextmanager
    def _chained(self) -> Iterator[None]:
        """Let a run of the layers go on where the last one ended, and back."""
        spiking = [part for part in self._parts if isinstance(part, Spiking)]
        for part in spiking:
            part._chained, part._later = True, ()
        try:
            yield
        finally:
            for part in spiking:
                part._later = ()
                if part in self._layers:
                    part._chained, part._start = False, ()
            for layer in self._layers:
                layer._window = Window()

    def _keep(self) -> None:
        """Keep the state that the layers are in, and let them go on from what is kept."""
        state: State = []
        for place, part in enumerate(self._parts):
            state.append(tuple(self._kept(f"{place}.{k}", array) for k, array in enumerate(part._state)))
        self._states.append(state)
        self._resume(state)

    def _kept(self, name: str, array: Array | None) -> Array | None:
        """A copy of an array of a state."""
        if array is None:
            return None
        if name not in self._stores:
            shape = self._count + 1, *array.shape
            self._stores[name] = self._net._work.empty(f"state {name}", shape, array.dtype)
        kept: Array = self._stores[name][len(self._states)]
        self._net._kernels.copy(array, kept)
        return kept

    def _resume(self, state: State) -> None:
        """Let the layers go on from a state."""
        for part, arrays in zip(self._parts, state, strict=True):
            part._state = arrays

    def _run(self, w: int, again: bool) -> Array | None:
        """Run a window from the state that the layers are in; what the last layer gives, unless it is known."""
        steps = self._steps_of(w)
        self._place(Window(steps.start, again=again))
        signal: Any = self._x if self._still else self._x[steps]
        with self._net._kernels.team.together():
            for layer in self._layers:
                signal = layer._run(signal, steps.stop - steps.start)
            return None if again else self._net._last._as_floats(signal)

    def _place(self, window: Window) -> None:
        """Tell the layers which window they are at."""
        for k, layer in enumerate(self._layers):
            layer._window = replace(window, longest=self._every, still=self._still and k == 0)

    def _go_to(self, w: int) -> None:
        """Have the tape of a window, with what it shares with the one after it."""
        if w == self._at:
            return
        shared = []
        for layer in self._layers:
            names = OF_RUN if layer._inner else OF_RUN + WEIGHTS + SUMS
            shared.append({name: layer._tape[name] for name in names if name in layer._tape})
        self._net._tapes = []  # lets go of their arrays
        self._resume(self._states[w])
        self._run(w, again=True)
        for layer, arrays in zip(self._layers, shared, strict=True):
            layer._tape |= arrays
        self._net._tapes = [layer._tape for layer in self._net.layers]
        self._at = w

    def _back(self, w: int, dspk: Array | None, dmem: Array | None, wanted: list[bool]) -> Array | None:
        """A window back: what its steps give for the gradients is there, or added."""
        net, more = self._net, w < self._count - 1
        self._place(Window(w * self._every, again=True, more=more))
        for layer, want in zip(self._layers, wanted, strict=True):
            if layer._inner or not more:
                layer._prepare_back(want)
        with net._kernels.team.together():  # over samples
            dy = net._last._run_back(dspk, wanted[-1], dmem)
            for layer, want in zip(self._layers[-2::-1], wanted[-2::-1], strict=True):
                assert dy is not None
                dy = layer._run_back(dy, want)
        with net._kernels.team.together():  # over weights
            for layer in self._layers:
                layer._learn_weights(more)
        for layer in self._layers:
            if layer._inner:
                layer._finish_back(more)
        return dy
