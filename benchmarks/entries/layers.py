"""Layers without a state: products, correlations, pooling, dropout, spikes as numbers."""

import math
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from snnumba.kernels import cpu

from .entry import RANDOM, RATE, Arguments, Entry, blocks, empty, events, f4, noise, packed, rows_from


def linear(bits: bool, steps: int, batch: int, inputs: int, outputs: int, share: float) -> Iterator[Entry]:
    """The product with a weight matrix, of floats or of bits, of which a share is not zero, and back."""
    size = f"T{steps} B{batch} I{inputs} O{outputs} {share:.0%}"
    about, rows = "bits" if bits else "floats", steps * batch

    def source() -> Arguments:
        x = events(steps, batch, inputs, share=share)
        return {"x": None if bits else x * noise(*x.shape, mean=0.5, std=0.1), "active": packed(x)}

    def forward(kernels: ModuleType) -> Arguments:
        count = kernels.num_input_parts(inputs, outputs) if steps == 1 and not bits else 1
        parts = empty(count, steps, batch, outputs) if count > 1 else None
        given = {"weight": noise(inputs, outputs), "bias": noise(outputs), "parts": parts}
        return source() | given | {"out": empty(steps, batch, outputs)}

    def backward(kernels: ModuleType) -> Arguments:
        parts = kernels.num_parts(batch) if bits else 1
        made = {"dweight": empty(parts, inputs, outputs), "dbias": empty(parts, outputs), "add": False}
        return source() | {"d": noise(steps, batch, outputs)} | made

    def back(kernels: ModuleType) -> Arguments:
        given = {"d": noise(steps, batch, outputs), "weight": noise(outputs, inputs)}
        return given | {"dx": empty(steps, batch, inputs)}

    chosen = share * rows * inputs * outputs
    table = rows_from("weight", inputs * outputs, batch)
    yield Entry("linear_forward", about, size, forward, chosen, has_products=True, table=table)
    yield Entry("linear_backward", about, size, backward, chosen + rows * outputs, has_products=True)
    if bits:  # the same after floats
        dense = size.rsplit(" ", 1)[0]
        yield Entry("linear_backward_input", "", dense, back, rows * inputs * outputs, has_products=True)


def conv(bits: bool, steps: int, batch: int, shape: tuple[int, int, int], outputs: int, k: int) -> Iterator[Entry]:
    """A correlation with kernels k x k, zeros around, of floats or of bits; and back."""
    channels, n = shape[0], math.prod(shape)
    pixels, taps = n // channels, channels * k * k
    where = shape, outputs, (k, k), (1, 1), (k // 2, k // 2)
    size = f"T{steps} B{batch} {'x'.join(map(str, shape))} to {outputs}, {k}x{k}"
    about, share = ("bits", RATE) if bits else ("floats", 1.0)
    made = outputs * pixels

    def source() -> Arguments:
        if bits:
            return {"x": None, "bits": packed(events(steps, batch, n, share=RATE))}
        return {"x": noise(steps, batch, n), "bits": None}

    def room(kernels: ModuleType, numbers: int) -> np.ndarray:
        return np.zeros((blocks(kernels, batch), numbers), f4)

    def forward(kernels: ModuleType) -> Arguments:
        window = kernels.conv_windows(*where)[0]
        weight = {"weight": noise(channels, k, k, outputs), "bias": noise(outputs), "window": window}
        return source() | weight | {"room": room(kernels, window.forward_room), "out": empty(steps, batch, made)}

    def backward(kernels: ModuleType) -> Arguments:
        window = kernels.conv_windows(*where)[0]
        padded = -(-taps // kernels.TAPS) * kernels.TAPS * outputs
        given = {"d": noise(steps, batch, made), "window": window}
        work = {"room": room(kernels, window.backward_room(outputs))}
        gradients = {"dweight": room(kernels, padded), "dbias": room(kernels, outputs), "add_to": False}
        return source() | given | work | gradients

    def back(kernels: ModuleType) -> Arguments:
        window = kernels.conv_windows(*where)[1]
        given = {"x": noise(steps, batch, made), "bits": None, "weight": noise(outputs, k, k, channels, 1, 1)}
        work = {"window": window, "room": room(kernels, window.forward_room)}
        return given | {"bias": None} | work | {"out": empty(steps, batch, n)}

    products = steps * batch * made * taps
    yield Entry("conv_forward", about, size, forward, share * products)
    yield Entry("conv_backward", about, size, backward, share * products + steps * batch * made)
    if bits:
        yield Entry("conv_forward", "back to the input", size, back, products)


def pool(steps: int, batch: int, shape: tuple[int, int, int]) -> Iterator[Entry]:
    """Windows of 2 x 2, one beside the other."""
    n = math.prod(shape)
    outputs, size = n // 4, f"T{steps} B{batch} {'x'.join(map(str, shape))}"
    where = shape, (2, 2), (2, 2), (0, 0)

    def call(*order: str) -> Callable[[ModuleType], Arguments]:
        def make(kernels: ModuleType) -> Arguments:
            windows = kernels.pool_windows(*where)
            words = empty(steps, batch, cpu.num_words(outputs), dtype=np.uint64)
            made: dict[str, Callable[[], Any]] = {
                "x": lambda: noise(steps, batch, n),
                "bits": lambda: None if "x" in order else packed(events(steps, batch, n, share=RATE)),
                "windows": lambda: windows,
                "room": lambda: np.zeros((blocks(kernels, batch), windows.room), f4),
                "out": lambda: empty(steps, batch, outputs) if "x" in order else words,
                "which": lambda: np.resize(np.arange(4, dtype=f4), (steps, batch, outputs)),
                "d": lambda: noise(steps, batch, outputs),
                "dx": lambda: empty(steps, batch, n),
            }
            return {name: made[name]() for name in order}

        return make

    numbers = steps * batch * n
    yield Entry("avg_pool_forward", "", size, call("x", "bits", "windows", "room", "out"), numbers)
    yield Entry("avg_pool_backward", "", size, call("d", "windows", "room", "dx"), numbers / 4)
    yield Entry("max_pool_forward", "", size, call("x", "windows", "room", "out", "which"), 2 * numbers)
    yield Entry("max_pool_spikes", "", size, call("bits", "windows", "room", "out", "which"), 2 * numbers)
    yield Entry("max_pool_backward", "", size, call("d", "which", "windows", "room", "dx"), numbers)


def dropout(steps: int, batch: int, n: int) -> Iterator[Entry]:
    every, size = (steps, batch, n), f"T{steps} B{batch} N{n}"
    draw = {"key": np.uint64(7), "call": np.full(1, 3, np.uint64), "limit": np.uint64(2**62), "scale": f4(4 / 3)}
    draw["first"] = 0
    operations = math.prod(every) * (RANDOM + 2)

    def forward(kernels: ModuleType) -> Arguments:
        return {"x": None, "bits": packed(events(*every, share=RATE))} | draw | {"out": empty(*every)}

    def backward(kernels: ModuleType) -> Arguments:
        return {"d": noise(*every)} | draw | {"dx": empty(*every), "add": False}

    yield Entry("dropout_forward", "bits", size, forward, operations)
    yield Entry("dropout_backward", "", size, backward, operations)


def unpack(steps: int, batch: int, n: int) -> Iterator[Entry]:
    def make(kernels: ModuleType) -> Arguments:
        bits = packed(events(steps, batch, n, share=RATE))
        return {"bits": bits, "factor": None, "out": empty(steps, batch, n)}

    yield Entry("unpack", "", f"T{steps} B{batch} N{n}", make, steps * batch * n)
