"""The kinds of feedback of RLeaky: how the spikes of a step come back as current at the next one.

Each has its arrays, what lif_forward and lif_backward take of it, and the gradients of its arrays.
"""

import math
from typing import Any

import numpy as np

from .base import Array
from .linear import uniform
from .neurons import Neurons

Arguments = tuple[Array | None, ...]


class OneToOne:
    """rec(s) = V s, each neuron to itself."""

    def __init__(self, V: Array) -> None:
        self.V = V

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        """The arrays, in torch's layout."""
        return {"V": self.V}

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse neurons of a shape that this feedback is not for."""

    def forward(self, layer: Neurons) -> tuple[Any, ...]:
        """weight, bias, image, padded for lif_forward."""
        row = layer._work.empty("V", layer._tape["shape"], layer.dtype)
        row[...] = layer._parameters["V"].value
        layer._tape["V"] = row.reshape(-1)
        return layer._tape["V"], None, None, None

    def prepare(self, layer: Neurons) -> None:
        """Make what backward needs beside the samples."""

    def backward(self, layer: Neurons) -> tuple[Any, ...]:
        """weight, image, padded for lif_backward."""
        return layer._tape["V"], None, None

    def learn(self, layer: Neurons, add: bool) -> None:
        """The gradients of the arrays, as far as they are sums over samples."""
        tape = layer._tape
        tape["dV"] = layer._work.empty("dV", tape["dbeta"].shape, layer.dtype)
        layer._kernels.one_to_one_backward(tape["spk0"], tape["bits"], tape["dcurrent"], tape["dV"])

    def finish(self, layer: Neurons, add: bool) -> None:
        """The rest of the gradients."""
        layer._learn("V", "dV", add)


class _Weighted:
    """A feedback with recurrent.weight and recurrent.bias."""

    def prepare(self, layer: Neurons) -> None:
        """Make what backward needs beside the samples."""

    def learn(self, layer: Neurons, add: bool) -> None:
        """The gradients of weight and bias."""
        bits, spk0, dcurrent = (layer._tape[name] for name in ("bits", "spk0", "dcurrent"))
        first = 0
        if spk0 is not None:  # it need not be zeros and ones
            self._add_gradients(layer, spk0[None], bits[:1], dcurrent[:1], add)
            first = 1
        self._add_gradients(layer, None, bits[first:-1], dcurrent[first:], add or first > 0)

    def _add_gradients(self, layer: Neurons, spk: Array | None, bits: Array, d: Array, add: bool) -> None:
        raise NotImplementedError

    def finish(self, layer: Neurons, add: bool) -> None:
        """Nothing is left to do."""


class LinearFeedback(_Weighted):
    """rec(s) = W s + b."""

    def __init__(self, features: int) -> None:
        self.features = features

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        n = self.features
        return {"recurrent.weight": uniform(rng, (n, n), n), "recurrent.bias": uniform(rng, (n,), n)}

    def check(self, shape: tuple[int, ...]) -> None:
        """RLeaky.in_shape says it all."""

    def forward(self, layer: Neurons) -> tuple[Any, ...]:
        return layer._parameters["recurrent.weight"].value, layer._parameters["recurrent.bias"].value, None, None

    def prepare(self, layer: Neurons) -> None:
        weight = layer._parameters["recurrent.weight"].value
        layer._tape["transposed"] = layer._work.empty("transposed", weight.shape, layer.dtype)
        layer._kernels.transpose(weight, layer._tape["transposed"])

    def backward(self, layer: Neurons) -> tuple[Any, ...]:
        return layer._tape["transposed"], None, None

    def _add_gradients(self, layer: Neurons, spk: Array | None, bits: Array, d: Array, add: bool) -> None:
        dweight, dbias = (layer._parameters[f"recurrent.{name}"].gradient for name in ("weight", "bias"))
        layer._kernels.linear_backward(spk, bits, d, dweight, dbias, add)


class Conv2dFeedback(_Weighted):
    """rec(s) = the correlation of s with a kernel, zeros around the image, and a bias a channel."""

    def __init__(self, channels: int, kernel_size: tuple[int, int]) -> None:
        self.channels = channels
        self.kernel_size = kernel_size

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        c, fan_in = self.channels, self.channels * math.prod(self.kernel_size)
        weight, bias = uniform(rng, (c, c, *self.kernel_size), fan_in), uniform(rng, (c,), fan_in)
        return {"recurrent.weight": weight, "recurrent.bias": bias}

    def check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[0] != self.channels:
            raise ValueError(
                f"conv2d_channels={self.channels} takes inputs of a shape ({self.channels}, H, W); got {shape}"
            )

    def _padded(self, layer: Neurons, name: str, count: int) -> Array:
        """Images of zeros with room around and behind; kernels write to the middle only, and always to all of it."""
        plane = layer._kernels.padded_shape(*layer._tape["shape"][1:], *self.kernel_size, layer.dtype)
        return layer._work.zeros((count, *plane), layer.dtype, name)

    def forward(self, layer: Neurons) -> tuple[Any, ...]:
        tape, shape = layer._tape, layer._tape["shape"]
        bias = layer._work.empty("bias", shape, layer.dtype)
        bias[...] = layer._parameters["recurrent.bias"].value[:, None, None]
        blocks = -(-tape["mem"].shape[1] // layer._kernels.BLOCK)
        padded = self._padded(layer, "padded", blocks * self.channels)
        tape["padded"] = padded.reshape(blocks, self.channels, *padded.shape[1:])
        return layer._parameters["recurrent.weight"].value, bias.reshape(-1), shape[1:], tape["padded"]

    def prepare(self, layer: Neurons) -> None:
        weight = layer._parameters["recurrent.weight"].value
        flipped = layer._work.empty("flipped", weight.shape, layer.dtype)
        flipped[...] = weight[:, ::-1, ::-1].swapaxes(0, 3)
        layer._tape["flipped"] = flipped

    def backward(self, layer: Neurons) -> tuple[Any, ...]:
        return layer._tape["flipped"], layer._tape["shape"][1:], layer._tape["padded"]

    def _add_gradients(self, layer: Neurons, spk: Array | None, bits: Array, d: Array, add: bool) -> None:
        dweight, dbias = (layer._parameters[f"recurrent.{name}"].gradient for name in ("weight", "bias"))
        planes = self._padded(layer, "planes", self.channels * self.kernel_size[0])
        layer._kernels.conv_backward(spk, bits, d, layer._tape["shape"][1:], planes, dweight, dbias, add)
