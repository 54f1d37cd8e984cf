"""The kinds of feedback of RLeaky: how the spikes of a step come back as current at the next one.

Each has its arrays, what lif_forward and lif_backward take of it, and the gradients of its arrays.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from .base import Array, Layer, Spikes
from .correlation import Correlation
from .linear import finish_sums, learn_product, uniform
from .neurons import Neurons
from .spiking import Spiking

NOTHING = None, None, None, None  # as the feedback in a kernel's arguments


class Feedback:
    """How the spikes of a step come back at the next one."""

    layers: tuple[Layer, ...] = ()  # of the user's
    names: tuple[str, ...] = ()  # of those, in front of the names of their arrays
    config: Any = None  # of those

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        """The arrays, in torch's layout."""
        return {}

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse neurons of a shape that this feedback is not for."""

    def forward(self, layer: Neurons) -> tuple[Any, ...]:
        """weight, bias, window, room for lif_forward."""
        raise NotImplementedError

    def prepare(self, layer: Neurons) -> None:
        """Make what backward needs beside the samples."""

    def backward(self, layer: Neurons) -> tuple[Any, ...]:
        """weight, window, room for lif_backward."""
        raise NotImplementedError

    def learn(self, layer: Neurons, add: bool) -> None:
        """The gradients of the arrays, as far as they are sums over samples: written in full, or added."""

    def finish(self, layer: Neurons, add: bool) -> None:
        """The rest of the gradients."""

    def rest(self) -> None:
        """Forget what layers carry from step to step."""

    def starting_at(self, starts: list[Any]) -> AbstractContextManager[None]:
        """Let layers begin at these states, or at rest where there are none, and have their own back after."""
        return nullcontext()

    def starts(self) -> list[Any]:
        """The states that layers go on at."""
        return []

    def over_time(self, layer: Neurons, current: Array, spk0: Array) -> None:
        """Neurons._lif_forward with this feedback."""
        layer._kernel_forward(current, self.forward(layer), spk0, slice(None))

    def back_over_time(
        self, layer: Neurons, dspk: Array | None, dmem: Array | None, initial: bool
    ) -> tuple[Array | None, Array]:
        """Neurons._lif_backward with this feedback."""
        return layer._whole_backward(dspk, dmem, self.backward(layer), initial)


class OneToOne(Feedback):
    """rec(s) = V s, each neuron to itself."""

    def __init__(self, V: Array) -> None:
        self.V = V

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        return {"V": self.V}

    def forward(self, layer: Neurons) -> tuple[Any, ...]:
        shape = layer._tape["shape"]
        layer._tape["V"] = layer._work.empty("V", (math.prod(shape),), layer.dtype)
        layer._kernels.spread(layer._parameters["V"].value, shape, layer._tape["V"])
        return layer._tape["V"], None, None, None

    def backward(self, layer: Neurons) -> tuple[Any, ...]:
        if layer._parameters["V"].gradient is not None:
            batch, n = layer._tape["mem"].shape[1:]
            layer._partial("dV", layer._blocks(batch), n)
        return layer._tape["V"], None, None

    def finish(self, layer: Neurons, add: bool) -> None:
        layer._learn("V", "dV", add)


class LinearFeedback(Feedback):
    """rec(s) = W s + b."""

    def __init__(self, features: int) -> None:
        self.features = features

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        n = self.features
        return {"recurrent.weight": uniform(rng, (n, n), n), "recurrent.bias": uniform(rng, (n,), n)}

    def forward(self, layer: Neurons) -> tuple[Any, ...]:
        return layer._parameters["recurrent.weight"].value, layer._parameters["recurrent.bias"].value, None, None

    def prepare(self, layer: Neurons) -> None:
        weight = layer._parameters["recurrent.weight"].value
        layer._tape["transposed"] = layer._work.empty("transposed", weight.shape, layer.dtype)
        layer._kernels.transpose(weight, layer._tape["transposed"])

    def backward(self, layer: Neurons) -> tuple[Any, ...]:
        return layer._tape["transposed"], None, None

    def learn(self, layer: Neurons, add: bool) -> None:
        for k, (spk, bits, d) in enumerate(_fed_back(layer)):
            learn_product(layer, "recurrent.", spk, bits, d, True, add or k > 0)

    def finish(self, layer: Neurons, add: bool) -> None:
        finish_sums(layer, "recurrent.", add)


class Conv2dFeedback(Feedback):
    """rec(s) = the correlation of s with a kernel, zeros around the image, and a bias a channel."""

    def __init__(self, channels: int, kernel_size: tuple[int, int]) -> None:
        padding = kernel_size[0] // 2, kernel_size[1] // 2
        self._correlation = Correlation(channels, channels, kernel_size, (1, 1), padding, "recurrent.")

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        return self._correlation.draw(rng)

    def check(self, shape: tuple[int, ...]) -> None:
        channels = self._correlation.channels
        if len(shape) != 3 or shape[0] != channels:
            raise ValueError(f"conv2d_channels={channels} takes inputs of a shape ({channels}, H, W); got {shape}")

    def forward(self, layer: Neurons) -> tuple[Any, ...]:
        shape, batch = layer._tape["shape"], layer._tape["mem"].shape[1]
        bias = layer._work.empty("bias", (math.prod(shape),), layer.dtype)
        layer._kernels.spread(layer._parameters["recurrent.bias"].value.reshape(-1, 1, 1), shape, bias)
        return self._correlation.weight(layer), bias, *self._correlation.forward(layer, shape, batch)

    def prepare(self, layer: Neurons) -> None:
        layer._tape["flipped"] = self._correlation.flipped(layer)

    def backward(self, layer: Neurons) -> tuple[Any, ...]:
        batch = layer._tape["mem"].shape[1]
        return layer._tape["flipped"], *self._correlation.backward(layer, layer._tape["shape"], batch)

    def learn(self, layer: Neurons, add: bool) -> None:
        for k, (spk, bits, d) in enumerate(_fed_back(layer)):
            self._correlation.learn(layer, spk, bits, d, layer._tape["shape"], add=k > 0 or layer._window.more)

    def finish(self, layer: Neurons, add: bool) -> None:
        self._correlation.finish(layer, add)


def _fed_back(layer: Neurons) -> list[tuple[Array | None, Array, Array]]:
    """Spikes that were fed back and what came back for them, the last steps first, in floats where spk0 need not be
    zeros and ones."""
    bits, spk0, d = (layer._tape[name] for name in ("bits", "spk0", "dcurrent"))
    if spk0 is None:
        return [(None, bits[:-1], d)]
    first = spk0.reshape(1, *spk0.shape), bits[:1], d[:1]
    return [(None, bits[1:-1], d[1:]), first] if len(d) > 1 else [first]


class LayerFeedback(Feedback):
    """rec(s) = what a layer of the user's, or a stack of them, makes of s; each step is a call of its own.

    The layers keep one tape a step. Those that spike go on at each step at the state of the one before, and in the
    backward pass hand the gradient of that state on.
    """

    def __init__(self, given: Any) -> None:
        single = isinstance(given, Layer)
        layers = (given,) if single else given
        if not isinstance(layers, tuple | list) or not layers or not all(isinstance(x, Layer) for x in layers):
            raise TypeError(f"recurrent must be a layer or a list of layers; got {given!r}")
        for k, layer in enumerate(layers):
            if layer._in_net or any(layer is other for other in layers[:k]):
                raise ValueError(f"recurrent must be layers that are used nowhere else; {layer!r} is")
        self.given = given
        self.layers = tuple(layers)
        self.names = ("recurrent",) if single else tuple(f"recurrent.{k}" for k in range(len(layers)))
        for layer in layers:
            layer._in_net = True
            for part in layer._all():
                part._stepped = True
        for layer in self._spiking():
            layer._chained = True

    def _spiking(self) -> Iterator[Spiking]:
        """The layers that carry a state."""
        for layer in self.layers:
            for part in layer._all():
                if isinstance(part, Spiking):
                    yield part

    @property
    def config(self) -> Any:
        configs = [layer.config for layer in self.layers]
        return configs[0] if isinstance(self.given, Layer) else configs

    def check(self, shape: tuple[int, ...]) -> None:
        made = shape
        for name, layer in zip(self.names, self.layers, strict=True):
            try:
                made = layer.out_shape(made)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if made != shape:
            raise ValueError(f"recurrent must give what has the shape of its input; it makes {made} of {shape}")

    def rest(self) -> None:
        for layer in self._spiking():
            layer._start = ()

    @contextmanager
    def starting_at(self, starts: list[Any]) -> Iterator[None]:
        kept = self.starts()
        for layer, start in zip(self._spiking(), starts or [() for _ in kept], strict=True):
            layer._start = start
        try:
            yield
        finally:
            for layer, start in zip(self._spiking(), kept, strict=True):
                layer._start = start

    def starts(self) -> list[Any]:
        return [layer._start for layer in self._spiking()]

    def over_time(self, layer: Neurons, current: Array, spk0: Array) -> None:
        tape = layer._tape
        (steps, batch, n), shape = tape["mem"].shape, tape["shape"]
        signal: Array | Spikes = spk0.reshape(1, batch, *shape)
        tape["inner"] = []
        for t in range(steps):
            if t > 0:
                signal = Spikes(tape["bits"][t : t + 1], shape)
                spk0 = layer._as_floats(signal).reshape(batch, n)
            for inner in self.layers:
                signal = inner._run(signal, 1)
            tape["inner"].append([inner._tape for inner in self.layers])
            now = current[t : t + 1] if len(current) > 1 else current
            fed_back = self.layers[-1]._as_floats(signal).reshape(1, batch, n)
            layer._kernel_forward(layer._sum(now, fed_back), NOTHING, spk0, slice(t, t + 1))

    def _tapes(self, layer: Neurons) -> Iterator[int]:
        """Each step, from the last to the first, the tapes of the layers being its own meanwhile."""
        for t in range(len(layer._tape["inner"]) - 1, -1, -1):
            for inner, tape in zip(self.layers, layer._tape["inner"][t], strict=True):
                inner._tape = tape
            yield t

    def prepare(self, layer: Neurons) -> None:
        for _ in self._tapes(layer):
            for inner in self.layers:
                inner._prepare_back(True)

    def back_over_time(
        self, layer: Neurons, dspk: Array | None, dmem: Array | None, initial: bool
    ) -> tuple[Array | None, Array]:
        tape, work = layer._tape, layer._work
        (_, batch, n), shape = tape["mem"].shape, tape["shape"]
        blocks = layer._blocks(batch)
        tape["dbeta"], tape["dthreshold"] = [], []
        if not layer._chained:
            for part in self._spiking():
                part._later = ()
        dspk0, dmem0 = layer._later if layer._window.more else (None, None)
        for t in self._tapes(layer):
            now = slice(t, t + 1)
            ds = layer._sum(None if dspk is None else dspk[now], dspk0)
            du = layer._sum(None if dmem is None else dmem[now], dmem0)
            unused, dmem0 = (work.empty(name, (batch, n), layer.dtype) for name in ("dspk0", "dmem0"))
            learned = [work.empty(name, (blocks, n), layer.dtype) for name in ("dbeta", "dthreshold")]
            tape["dbeta"].append(learned[0])
            tape["dthreshold"].append(learned[1])
            layer._kernel_backward(ds, du, NOTHING[:3], True, now, unused, dmem0, *learned)
            d = tape["dcurrent"][now].reshape(1, batch, *shape)
            for inner in reversed(self.layers):
                d = inner._run_back(d, True)
            dspk0 = d.reshape(batch, n)
        assert dmem0 is not None
        return dspk0, dmem0

    def learn(self, layer: Neurons, add: bool) -> None:
        for t in self._tapes(layer):
            for inner in self.layers:
                inner._learn_weights(add or t < len(layer._tape["inner"]) - 1)

    def finish(self, layer: Neurons, add: bool) -> None:
        for t in self._tapes(layer):
            for inner in self.layers:
                inner._finish_back(add or t < len(layer._tape["inner"]) - 1)
