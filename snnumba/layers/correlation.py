"""The convolution that Conv2d and conv2d feedback have in common: its arrays, and what its kernels take and leave."""

import math
from typing import Any

import numpy as np

from .base import Array, Layer
from .linear import begin_sums, finish_sums, uniform

Pair = tuple[int, int]


class Correlation:
    """The correlation of images with a layer's `<prefix>weight`; equations as in kernels/cpu/conv.py."""

    def __init__(
        self, channels: int, outputs: int, kernel_size: Pair, stride: Pair, padding: Pair, prefix: str = ""
    ) -> None:
        self.channels = channels
        self.outputs = outputs
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.prefix = prefix

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        """weight (O, C, kh, kw) and bias (O,), the weight first."""
        fan_in = self.channels * math.prod(self.kernel_size)
        weight = uniform(rng, (self.outputs, self.channels, *self.kernel_size), fan_in)
        return {f"{self.prefix}weight": weight, f"{self.prefix}bias": uniform(rng, (self.outputs,), fan_in)}

    def weight(self, layer: Layer) -> Array:
        """The weight as it is stored, (C, kh, kw, O)."""
        return layer._parameters[f"{self.prefix}weight"].value

    def flipped(self, layer: Layer) -> Array:
        """The weight of eq. (2)."""
        weight, (down, across) = self.weight(layer), self.stride
        channels, kh, kw, outputs = weight.shape
        shape = outputs, -(-kh // down), -(-kw // across), channels, down, across
        flipped = layer._work.empty("flipped", shape, layer.dtype)
        layer._kernels.flip(weight, flipped)
        return flipped

    def forward(self, layer: Layer, shape: tuple[int, ...], batch: int) -> tuple[Any, Array]:
        """window and room of eq. (1), for a batch of images of a shape (C, H, W)."""
        window, _ = self._windows(layer, shape)
        return window, self._room(layer, f"room for {shape}", batch, window.forward_room)

    def backward(self, layer: Layer, shape: tuple[int, ...], batch: int) -> tuple[Any, Array]:
        """window and room of eq. (2)."""
        _, window = self._windows(layer, shape)
        return window, self._room(layer, f"room back for {shape}", batch, window.forward_room)

    def learn(
        self, layer: Layer, x: Array | None, bits: Array | None, d: Array, shape: tuple[int, ...], add: bool = False
    ) -> None:
        """Leave eqs. (3) and (4) of each block of samples in the layer's tape, or add them to what is there."""
        window, _ = self._windows(layer, shape)
        tape, batch = layer._tape, d.shape[1]
        if not add:
            together: int = layer._kernels.TAPS
            taps = -(-self.channels * math.prod(self.kernel_size) // together) * together
            begin_sums(layer, layer._blocks(batch), taps * self.outputs, self.outputs)
        room = self._room(layer, f"room to learn for {shape}", batch, window.backward_room(self.outputs))
        layer._kernels.conv_backward(x, bits, d, window, room, tape["dweight"], tape["dbias"], add)

    def finish(self, layer: Layer, add: bool) -> None:
        """The gradients, as the sums of what learn left: written in full, or added."""
        finish_sums(layer, self.prefix, add)

    def _windows(self, layer: Layer, shape: tuple[int, ...]) -> tuple[Any, Any]:
        """What eqs. (1) and (2) do with an image, beside its numbers."""
        windows: tuple[Any, Any] = layer._kernels.conv_windows(
            shape, self.outputs, self.kernel_size, self.stride, self.padding
        )
        return windows

    def _room(self, layer: Layer, name: str, batch: int, size: int) -> Array:
        """Zeros for kernels to work in, a row a block of samples; kernels with another window have others."""
        return layer._work.zeros((layer._blocks(batch), size), layer.dtype, name)
