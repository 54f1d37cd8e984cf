"""Calls of every kernel, on toy arrays: what the simulator runs beside the CPU, and what is compiled without a GPU."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

Value = Any  # an argument, or a function that makes it from a module of kernels


@dataclass
class Case:
    """A call of a kernel.

    `given` are its arguments by name; a function among them makes the argument from the module of kernels. `unread`
    are arrays that a kernel may leave as it likes; of the `partial` ones, the sum over the first axis is its result.
    `sizes` are constants of the CUDA files, "lif.MOST_SHARED" for one, that choose between the forms of a kernel.
    """

    kernel: str
    label: str
    given: dict[str, Value]
    unread: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.label}" if self.label else self.kernel

    def arguments(self, kernels: ModuleType) -> dict[str, Any]:
        """The arguments for a module of kernels, arrays among them copied; arrays that are the same stay the same."""
        made = {name: x(kernels) if isinstance(x, Callable) else x for name, x in self.given.items()}
        copies = {id(x): x.copy() for x in made.values() if isinstance(x, np.ndarray)}
        return {name: copies.get(id(x), x) for name, x in made.items()}

    def run(self, kernels: ModuleType, arguments: dict[str, Any]) -> Any:
        """Call the kernel of this module."""
        with ExitStack() as stack:
            for name, size in self.sizes.items():
                file, constant = name.split(".")
                module = getattr(kernels, file, None)
                if hasattr(module, constant):
                    stack.enter_context(patch.object(module, constant, size))
            return getattr(kernels, self.kernel)(*arguments.values())

    def results(self, arguments: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays to compare after the call."""
        arrays = {name: x for name, x in arguments.items() if isinstance(x, np.ndarray) and name not in self.unread}
        return {name: x.sum(axis=0) if name in self.partial else x for name, x in arrays.items()}


def dyadic(rng: np.random.Generator, shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
    """Multiples of 1/128, with which a few steps of float32 arithmetic are exact."""
    return (np.round(rng.normal(0, scale, shape) * 128) / 128).astype(np.float32)


def spikes(rng: np.random.Generator, shape: tuple[int, ...], share: float = 0.4) -> np.ndarray:
    """Zeros and ones."""
    return (rng.random(shape) < share).astype(np.float32)


def packed(x: np.ndarray) -> np.ndarray:
    """Where x (..., N) is not zero, as bits."""
    words = -(-x.shape[-1] // 64)
    room = np.zeros((*x.shape[:-1], 64 * words), np.uint8)
    room[..., : x.shape[-1]] = x != 0
    return np.packbits(room, axis=-1, bitorder="little").view(np.uint64)


def empty(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """An array that a kernel is to write in full."""
    return np.full(shape, 77, dtype)


def optimizer_cases(rng: np.random.Generator) -> Iterator[Case]:
    f = np.float32
    for size in (8, 24):
        p, g, m, v = (rng.normal(size=size).astype(f) for _ in range(4))
        rest = {"step": f(1e-2), "beta2": f(0.999), "rest1": f(0.1), "rest2": f(1e-3), "eps": f(1e-8)}
        rest |= {"keep": f(0.99), "decay": f(0.01)}
        yield Case("adam", f"P{size}", {"parameters": p, "gradients": g, "m": m, "v": v * v, **rest})
        for nesterov in (False, True):
            rest = {"lr": f(0.1), "momentum": f(0.9), "decay": f(0.01), "nesterov": nesterov}
            yield Case("sgd", f"P{size}-{nesterov}", {"parameters": p, "gradients": g, "buffer": m, **rest})
        yield Case("scale", f"P{size}", {"x": p, "factor": f(0.3)})
        yield Case("clip", f"P{size}", {"x": p, "limit": f(0.3)})
        yield Case("sum_of_squares", f"P{size}", {"x": p})


def batch_cases(rng: np.random.Generator) -> Iterator[Case]:
    f = np.float32
    labels, indices = rng.integers(0, 9, 7), np.array([6, 0, 6])
    scaling = {"unit": f(255), "mean": f(0.13), "std": f(0.31)}
    for images in (rng.integers(0, 256, (7, 5), np.uint8), rng.random((7, 5), f)):
        given = {"images": images, "labels": labels, "indices": indices, **scaling}
        yield Case("gather", images.dtype.name, {**given, "x": empty(3, 5), "y": empty(3, dtype=np.int64)})


def bits_cases(rng: np.random.Generator) -> Iterator[Case]:
    for n in (3, 70):
        x = dyadic(rng, (2, 3, n))
        bits, factor = packed(spikes(rng, x.shape)), dyadic(rng, (n,))
        yield Case("unpack", f"N{n}", {"bits": bits, "factor": None, "out": empty(*x.shape)})
        yield Case("unpack", f"N{n}-factor", {"bits": bits, "factor": factor, "out": empty(*x.shape)})
        yield Case("scale_neurons", f"N{n}", {"x": x, "factor": factor, "out": empty(*x.shape)})
        yield Case("count_bits", f"N{n}", {"bits": bits, "counts": empty(3, dtype=np.int64)})


def parameter_cases(rng: np.random.Generator) -> Iterator[Case]:
    f, shape = np.float32, (3, 2, 4)
    for sizes in ((), (1,), (3, 1, 1), (2, 4), (3, 2, 4)):
        value = rng.normal(0.5, 0.7, sizes).astype(f)
        for clipped in (False, True):
            given = {"value": value, "shape": shape, "out": empty(2 * 24), "clipped": clipped}
            yield Case("spread", f"{sizes}-{clipped}", given)
            partial, gradient = rng.normal(size=(5, 24)).astype(f), np.full(sizes, 3, f)
            given = {"partial": partial, "shape": shape, "value": value, "clipped": clipped}
            yield Case("sum_shared", f"{sizes}-{clipped}", given | {"add": clipped, "gradient": gradient})
    given = {"partial": rng.normal(size=(3, 5)).astype(f), "shape": (5,), "value": np.ones((), f), "clipped": True}
    yield Case("sum_shared", "N5", given | {"add": False, "gradient": empty()})
    yield Case("flip", "", {"weight": dyadic(rng, (3, 5, 1, 2)), "out": empty(2, 3, 1, 3, 2, 1)})
    yield Case("add_rows_of", "", {"x": dyadic(rng, (9,)), "y": dyadic(rng, (9,)), "out": empty(9)})


def loss_cases(rng: np.random.Generator) -> Iterator[Case]:
    f = np.float32
    steps, batch, outputs = 5, 3, 6
    spk, mem = spikes(rng, (steps, batch, outputs), 0.2), rng.normal(size=(steps, batch, outputs)).astype(f)
    mem[3] = mem[1]  # peaks come first, of equals
    labels = rng.integers(0, outputs, batch)
    place = {"step": empty(batch, outputs, dtype=np.int64)}
    for classes in (2, outputs):
        x = rng.normal(size=(1, batch, classes)).astype(f)
        yield Case("count_forward", f"K{classes}", {"spk": spk, "x": empty(1, batch, classes)})
        yield Case("count_backward", f"K{classes}", {"dx": x, "dspk": empty(*spk.shape)})
    yield Case("peak_forward", "", {"mem": mem, "x": empty(1, batch, outputs), **place})
    for reciprocal in (False, True):
        given = {"spk": spk, "reciprocal": reciprocal, "x": empty(1, batch, outputs), **place}
        yield Case("first_spike_forward", str(reciprocal), given)
    step = rng.integers(0, steps, (batch, outputs))
    yield Case("at_step_backward", "", {"dx": mem[:1], "step": step, "doutput": empty(*mem.shape)})
    yield Case("class_targets", "", {"labels": labels, "on": f(1.05), "off": f(0.2), "target": empty(*mem[:1].shape)})
    weight = rng.random(outputs, f)
    for s, targets in ((1, 1), (steps, 1), (steps, steps)):
        target = rng.normal(size=(targets, batch, outputs)).astype(f)
        given = {"x": mem[:s], "target": target, "weight": weight, "tolerance": f(0.3), "factor": f(0.7)}
        out = {"dx": empty(s, batch, outputs), "loss": empty(batch, outputs)}
        yield Case("squared_error", f"S{s}-{targets}", given | out)
    for s in (1, steps):
        given = {"x": mem[:s], "labels": labels, "weight": weight, "factor": f(0.7)}
        yield Case("cross_entropy", f"S{s}", given | {"dx": empty(s, batch, outputs), "loss": empty(batch)})


def dense_case(kernel: str, rng: np.random.Generator, sizes: tuple[int, ...], bits: bool, **more: Any) -> Case:
    """A call of a kernel of dense.py; sizes: T, B, I, O."""
    steps, batch, inputs, outputs = sizes
    events = spikes(rng, (steps, batch, inputs))
    d, weight = dyadic(rng, (steps, batch, outputs)), dyadic(rng, (inputs, outputs))
    x = dyadic(rng, events.shape) * events
    source = {"x": None, "active": packed(events)} if bits else {"x": x, "active": packed(x)}
    given = {
        "find_active": {"x": x, "active": empty(*packed(x).shape, dtype=np.uint64)},
        "linear_forward": {**source, "weight": weight, "bias": dyadic(rng, (outputs,)), "out": empty(*d.shape)},
        "linear_backward": {**source, "d": d, "dweight": empty(inputs, outputs), "dbias": empty(outputs), "add": False},
        "linear_backward_input": {"d": d, "weight": weight.T.copy(), "dx": empty(*x.shape)},
        "sum_over_time": {"d": d, "out": empty(batch, outputs)},
        "add": {"x": d, "y": d[::-1].copy(), "out": empty(*d.shape)},
        "transpose": {"a": weight, "out": empty(outputs, inputs)},
    }[kernel]
    label = "T{}B{}I{}O{}".format(*sizes) + ("-bits" if bits else "") + "".join(f"-{name}" for name in more)
    constants = more.pop("split", {})
    return Case(kernel, label, given | more, sizes=constants)


SPLIT = {"dense.LEAST": 1, "dense.ENOUGH": 1000}  # several blocks for the terms of a tile


def dense_cases(rng: np.random.Generator) -> Iterator[Case]:
    for sizes in ((1, 2, 3, 4), (2, 5, 9, 5), (3, 3, 70, 1), (2, 1, 40, 11)):
        for bits in (False, True):
            yield dense_case("linear_forward", rng, sizes, bits)
            yield dense_case("linear_backward", rng, sizes, bits)
            yield dense_case("linear_backward", rng, sizes, bits, add=True)
        for kernel in ("find_active", "linear_backward_input", "sum_over_time", "add", "transpose"):
            yield dense_case(kernel, rng, sizes, bits=False)
    for bits in (False, True):
        yield dense_case("linear_forward", rng, (1, 2, 70, 5), bits, split=SPLIT)
        yield dense_case("linear_backward", rng, (7, 5, 5, 6), bits, split=SPLIT)
        yield dense_case("linear_backward", rng, (7, 5, 5, 6), bits, split=SPLIT, add=True)
    yield dense_case("linear_backward_input", rng, (1, 2, 3, 33), False, split=SPLIT)


def all_cases() -> list[Case]:
    """Every case, the same at each call."""
    families = optimizer_cases, batch_cases, bits_cases, parameter_cases, loss_cases, dense_cases
    return [case for k, family in enumerate(families) for case in family(np.random.default_rng(k))]
