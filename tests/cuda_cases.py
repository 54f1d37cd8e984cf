"""Calls of every kernel, on toy arrays: what the simulator runs beside the CPU, and what is compiled without a GPU."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np

from snnumba.kernels import cpu, rules


class Host:
    """What kernels do that have no CPU kernel beside them."""

    @staticmethod
    def begin_step(k, order, size, picked, table, factors):
        picked[:] = order[k[0] * size : k[0] * size + len(picked)]
        factors[:] = table[k[0]]

    @staticmethod
    def record(values, k, column, out):
        out[k[0], column] = values.sum()

    @staticmethod
    def count_right(x, labels, k, column, out):
        out[k[0], column] = (x[0].argmax(1) == labels).sum()

    @staticmethod
    def end_step(k):
        k += 1


Value = Any  # an argument, or a function that makes it from a module of kernels


@dataclass
class Case:
    """A call of a kernel.

    `given` are its arguments by name; a function among them makes the argument from the module of kernels. `unread`
    are arrays that a kernel may leave as it likes; of the `partial` ones, so many sums over the first axis are results.
    `sizes` are constants of the CUDA files, "lif.MOST_SHARED" for one, that choose between the forms of a kernel.
    """

    kernel: str
    label: str
    given: dict[str, Value]
    unread: tuple[str, ...] = ()
    partial: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    surrogate: Callable[[float], float] | None = None  # for a kernel that is made with one
    precision: str = "fp32"  # on CUDA, of products

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
            module = getattr(kernels, self.precision, kernels)
            function = getattr(module, self.kernel, None) or getattr(Host, self.kernel)
            if self.surrogate is not None:
                function = function(self.surrogate)
            return function(*arguments.values())

    def results(self, arguments: dict[str, Any]) -> dict[str, np.ndarray]:
        """The arrays to compare after the call."""
        arrays = {name: x for name, x in arguments.items() if isinstance(x, np.ndarray) and name not in self.unread}
        return {name: x.sum(axis=0)[: self.partial[name]] if name in self.partial else x for name, x in arrays.items()}


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


def partial(batch: int, n: int) -> Callable[[ModuleType], np.ndarray]:
    """Sums of each block of samples, to be written in full, or added to: together they are 77."""

    def make(kernels: ModuleType) -> np.ndarray:
        sums = np.zeros((-(-batch // kernels.BLOCK), n), np.float32)
        sums[0] = 77
        return sums

    return make


def optimizer_cases(rng: np.random.Generator) -> Iterator[Case]:
    f = np.float32
    for size in (8, 24):
        p, g, m, v = (rng.normal(size=size).astype(f) for _ in range(4))
        factors = np.array([1e-2, 0.999, 0.1, 1e-3, 1e-8, 0.99, 0.01], f)  # step, beta2, rest1, rest2, eps, keep, decay
        bounds = np.array([0, size])
        given = {"parameters": p, "gradients": g, "m": m, "v": v * v, "factors": factors, "bounds": bounds}
        yield Case("adam", f"P{size}", given)
        for nesterov in (False, True):
            factors = np.array([0.1, 0.9, 0.01], f)  # lr, momentum, decay
            given = {"buffer": m, "factors": factors, "bounds": bounds, "nesterov": nesterov}
            yield Case("sgd", f"P{size}-{nesterov}", {"parameters": p, "gradients": g, **given})
        yield Case("clip", f"P{size}", {"x": p, "limit": f(0.3)})
        for limit in (0.3, 1e6):
            yield Case("clip_norm", f"P{size}-{limit}", {"x": p, "limit": limit, "norm": empty(1, dtype=np.float64)})
        for bad in ([], [np.inf], [np.nan, 1, -np.inf]):
            for parts in ((p[len(bad) :], bad), (bad, p[len(bad) :])):
                x = np.concatenate(parts).astype(f)
                given = {"x": x, "bounds": bounds, "place": empty(1, dtype=np.int64)}
                yield Case("last_not_finite", f"P{size}-{bad}-{parts[0] is bad}", given)


def batch_cases(rng: np.random.Generator) -> Iterator[Case]:
    f = np.float32
    labels, indices = rng.integers(0, 9, 7), np.array([6, 0, 6])
    scaling = {"unit": f(255), "mean": f(0.13), "std": f(0.31)}
    for images in (rng.integers(0, 256, (7, 5), np.uint8), rng.random((7, 5), f)):
        given = {"images": images, "labels": labels, "indices": indices, **scaling}
        yield Case("gather", images.dtype.name, {**given, "x": empty(3, 5), "y": empty(3, dtype=np.int64)})


def fill_cases(rng: np.random.Generator) -> Iterator[Case]:
    yield Case("fill", "", {"x": empty(3, 2, 5), "value": np.float32(0.3)})
    yield Case("copy", "", {"x": dyadic(rng, (3, 2, 5)), "out": empty(3, 2, 5)})
    yield Case("copy", "bits", {"x": packed(spikes(rng, (3, 2, 70))), "out": empty(3, 2, 2, dtype=np.uint64)})


def step_cases(rng: np.random.Generator) -> Iterator[Case]:
    f, k = np.float32, np.array([2])
    given = {"k": k, "order": rng.permutation(12), "size": 4, "picked": empty(3, dtype=np.int64)}
    yield Case("begin_step", "", given | {"table": rng.random((3, 7), f), "factors": empty(7)})
    for values in (dyadic(rng, (5, 3)), rng.integers(0, 9, 11)):
        given = {"values": values, "k": k, "column": 1, "out": empty(3, 2, dtype=values.dtype)}
        yield Case("record", values.dtype.name, given)
    x, labels = rng.integers(0, 3, (1, 70, 4)).astype(f), rng.integers(0, 4, 70)
    yield Case("count_right", "", {"x": x, "labels": labels, "k": k, "column": 0, "out": empty(3, 2, dtype=np.int64)})
    yield Case("end_step", "", {"k": k})


def bits_cases(rng: np.random.Generator) -> Iterator[Case]:
    for n in (3, 70):
        x = dyadic(rng, (2, 3, n))
        bits, factor = packed(spikes(rng, x.shape)), dyadic(rng, (n,))
        yield Case("unpack", f"N{n}", {"bits": bits, "factor": None, "out": empty(*x.shape)})
        yield Case("unpack", f"N{n}-factor", {"bits": bits, "factor": factor, "out": empty(*x.shape)})
        yield Case("scale_neurons", f"N{n}", {"x": x, "factor": factor, "out": empty(*x.shape)})
        yield Case("count_bits", f"N{n}", {"bits": bits, "counts": empty(3, dtype=np.int64)})
        yield Case("count_spikes", f"N{n}", {"bits": bits, "counts": empty(3, n)})


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
    for case, x in {"": None, "reciprocal": mem[1:2]}.items():
        yield Case("at_step_backward", case, {"dx": mem[:1], "step": step, "x": x, "doutput": empty(*mem.shape)})
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
    gradients = {"dweight": empty(1, inputs, outputs), "dbias": empty(1, outputs)}
    given = {
        "find_active": {"x": x, "active": empty(*packed(x).shape, dtype=np.uint64)},
        "linear_forward": {
            **source,
            "weight": weight,
            "bias": dyadic(rng, (outputs,)),
            "parts": None,
            "out": empty(*d.shape),
        },
        "linear_backward": {**source, "d": d, **gradients, "add": False},
        "linear_backward_input": {"d": d, "weight": weight.T.copy(), "dx": empty(*x.shape)},
        "sum_over_time": {"d": d, "out": empty(batch, outputs), "add": False},
        "add": {"x": d, "y": d[::-1].copy(), "out": empty(*d.shape)},
        "transpose": {"a": weight, "out": empty(outputs, inputs)},
    }[kernel]
    dtype, precision, constants = more.pop("dtype", np.float32), more.pop("precision", "fp32"), more.pop("form", {})
    if dtype != np.float32:
        given = {name: x.astype(dtype) if getattr(x, "dtype", None) == np.float32 else x for name, x in given.items()}
    form = "".join(f"-{name.split('.')[1]}" for name in constants) + f"-{precision}-{np.dtype(dtype).name}"
    label = "T{}B{}I{}O{}".format(*sizes) + ("-bits" if bits else "") + "".join(f"-{name}" for name in more) + form
    return Case(kernel, label, given | more, sizes=constants, precision=precision)


SPLIT = {"dense.LEAST_SMALL": 1, "dense.ENOUGH": 1000}  # several blocks for the terms of a tile
LARGE = {"dense.MANY": 0, "dense.MOSTLY": 10**9}  # large tiles
LARGE_SPLIT = LARGE | {"dense.LEAST": 8}


def dense_cases(rng: np.random.Generator) -> Iterator[Case]:
    for sizes in ((1, 2, 3, 4), (2, 5, 9, 5), (3, 3, 70, 1), (2, 1, 40, 11)):
        for bits in (False, True):
            yield dense_case("linear_forward", rng, sizes, bits)
            yield dense_case("linear_backward", rng, sizes, bits)
            yield dense_case("linear_backward", rng, sizes, bits, add=True)
        for kernel in ("find_active", "linear_backward_input", "sum_over_time", "add", "transpose"):
            yield dense_case(kernel, rng, sizes, bits=False)
        yield dense_case("sum_over_time", rng, sizes, bits=False, add=True)
    for bits in (False, True):
        yield dense_case("linear_forward", rng, (1, 2, 70, 5), bits, form=SPLIT)
        yield dense_case("linear_backward", rng, (7, 5, 5, 6), bits, form=SPLIT)
        yield dense_case("linear_backward", rng, (7, 5, 5, 6), bits, form=SPLIT, add=True)
    yield dense_case("linear_backward_input", rng, (1, 2, 3, 33), False, form=SPLIT)
    for precision in ("fp32", "tf32"):
        for sizes in ((1, 13, 21, 14), (3, 11, 12, 31), (1, 16, 72, 16)):
            for form in (LARGE, LARGE_SPLIT):
                for bits in (False, True):
                    for kernel in ("linear_forward", "linear_backward"):
                        yield dense_case(kernel, rng, sizes, bits, form=form, precision=precision)
                yield dense_case("linear_backward_input", rng, sizes, False, form=form, precision=precision)
        yield dense_case("linear_backward", rng, (1, 5, 6, 7), True, form=LARGE, precision=precision, add=True)
        yield dense_case("linear_backward", rng, (1, 5, 16, 12), False, form=LARGE, precision=precision, add=True)
    for kernel in ("linear_forward", "linear_backward"):
        for sizes in ((1, 3, 9, 5), (1, 3, 10, 6), (1, 3, 8, 4)):  # rows of 16 bytes need not be of whole vectors
            yield dense_case(kernel, rng, sizes, False, dtype=np.float64)


def boxcar(x: float) -> float:
    """A surrogate as users write one, in float64."""
    return 0.5 if abs(x) < 1 else 0.0


@dataclass
class Neurons:
    """A run of neurons over time, as cases of lif_forward and lif_backward differ in it."""

    shape: tuple[int, ...] = (9,)
    batch: int = 5
    steps: int = 4
    feedback: str = "none"
    reset: int = rules.SUBTRACT
    delay: bool = True
    inhibition: bool = False
    levels: tuple[float, ...] = ()
    kind: int = rules.ATAN
    still: bool = False
    learn: int = rules.WANTED
    initial: bool = True
    given: str = "both"  # which of dspk and dmem is one for each sample and step
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What differs from the usual."""
        usual = vars(type(self)())
        changed = {name: value for name, value in vars(self).items() if value != usual[name]}
        return " ".join(f"{name}={value}" for name, value in changed.items())

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """A case of the forward kernel, and of the backward kernel with what the forward kernel of the CPU left."""
        n, batch, steps = math.prod(self.shape), self.batch, self.steps
        weight, back, correlation = None, None, {"window": None, "room": None}
        correlation_back = correlation
        if self.feedback == "one-to-one":
            weight = back = dyadic(rng, (n,))
        if self.feedback == "linear":
            weight = dyadic(rng, (n, n), 0.5)
            back = weight.T.copy()
        if self.feedback == "conv2d":
            channels, size = self.shape[0], (3, 5)
            weight = dyadic(rng, (channels, *size, channels), 0.4)
            back = np.empty((channels, *size, channels, 1, 1), np.float32)
            cpu.flip(weight, back)
            where = self.shape, channels, size, (1, 1), (size[0] // 2, size[1] // 2)
            correlation, correlation_back = (window_of(where, batch, k) for k in (0, 1))
        beta, threshold = np.full(n, 0.5, np.float32), 1 + abs(dyadic(rng, (n,), 0.2))
        neurons = {
            "beta": beta,
            "threshold": threshold,
        }
        inhibition = {"winner": self.winner if self.inhibition else None}
        mem, potential = empty(steps, batch, n), empty(steps, batch, n)
        spk0, mem0 = dyadic(rng, (batch, n)) * spikes(rng, (batch, n)), dyadic(rng, (batch, n))
        forward = {
            "current": 0.75 + dyadic(rng, (1 if self.still else steps, batch, n)),
            "weight": weight,
            "bias": None if self.feedback in ("none", "one-to-one") else dyadic(rng, (n,), 0.2),
            **correlation,
            **neurons,
            "levels": np.array(self.levels, np.float32) if self.levels else None,
            **inhibition,
            "spk0": spk0,
            "mem0": mem0,
            "reset": self.reset,
            "delay": self.delay,
            "mem": mem,
            "potential": mem if self.delay else potential,
            "spk": empty(steps + 1, batch, cpu.num_words(n), dtype=np.uint64),
        }
        unread = ["winner", "room", "beta", "threshold"]
        case = Case("lif_forward", self.label, forward, tuple(unread), sizes=self.sizes)
        yield case
        made = case.arguments(cpu)
        case.run(cpu, made)
        one, every = np.zeros((1, 1, n), np.float32), (steps, batch, n)
        unread += ["dspk", "dmem"]
        unread += [] if self.learn & rules.WANTED else ["dbeta", "dthreshold"]
        unread += [] if self.initial else ["dspk0", "dmem0"]

        dcurrent, dspk0 = empty(*every), empty(batch, n)
        if self.learn & rules.MORE:  # the step after, and what it fed back
            later = dyadic(rng, (1, batch, n))
            dcurrent = np.concatenate([dcurrent, later])
            dspk0 = 0 * later[0] if back is None else later[0] * back if back.ndim == 1 else later[0] @ back
        backward = {
            "dspk": one if self.given == "dmem" else dyadic(rng, every),
            "dmem": one if self.given == "dspk" else dyadic(rng, every),
            "weight": back,
            **correlation_back,
            **neurons,
            **inhibition,
            "spk0": spk0,
            "mem0": mem0,
            "mem": made["mem"],
            "potential": made["potential"],
            "spk": made["spk"],
            "kind": self.kind,
            "a": np.float32(1.5),
            "b": np.float32(0.25),
            "reset": self.reset,
            "delay": self.delay,
            "learn": self.learn,
            "initial": self.initial,
            "dcurrent": dcurrent,
            "dspk0": dspk0,
            "dmem0": empty(batch, n),
            "dbeta": partial(batch, n),
            "dthreshold": partial(batch, n),
            "dweight": partial(batch, n) if self.feedback == "one-to-one" else None,
        }
        common = backward, tuple(unread), {"dbeta": n, "dthreshold": n, "dweight": n}, self.sizes
        yield Case("lif_backward", self.label, *common)
        if self.kind == rules.NO_GRADIENT:
            yield Case("lif_backward_with", self.label, *common, boxcar)

    def winner(self, kernels: ModuleType) -> np.ndarray:
        """What the kernels want to work in."""
        n = math.prod(self.shape)
        return np.empty((-(-self.batch // kernels.BLOCK), n), np.float32)


def window_of(where: tuple[Any, ...], batch: int, k: int, outputs: int | None = None) -> dict[str, Value]:
    """The k-th of the windows of a correlation, and room to work in; with outputs, to learn in."""

    def room(kernels: ModuleType) -> np.ndarray:
        window = kernels.conv_windows(*where)[k]
        size = window.forward_room if outputs is None else window.backward_room(outputs)
        return np.zeros((-(-batch // kernels.BLOCK), size), np.float32)

    return {"window": lambda kernels: kernels.conv_windows(*where)[k], "room": room}


STRIDING = {"lif.MOST_TOGETHER": 0}
TILED = {"lif.MOST_SHARED": 0, "_lif_events.MOST_BLOCKS": 0, "_lif_spread.MOST_BLOCKS": 0}
SPREAD = {"lif.MOST_SHARED": 0, "_lif_events.MOST_BLOCKS": 0}
EVENTS = {"lif.MOST_SHARED": 0, "_lif_spread.MOST_BLOCKS": 0}
WIDE = EVENTS | {"_lif_wide.LEAST": 0}  # forward by events


def lif_cases(rng: np.random.Generator) -> Iterator[Case]:
    resets = rules.SUBTRACT, rules.ZERO, rules.CLEAR, rules.NONE
    levels = (-1.0, -0.25, 0.5, 1.25, 2.0)
    image, added = (2, 3, 4), rules.WANTED + rules.MORE
    runs = [Neurons(feedback=f, reset=r) for r in resets for f in ("none", "one-to-one", "linear")]
    runs += [Neurons(feedback=f, reset=r, delay=False) for r in resets[:3] for f in ("none", "one-to-one", "linear")]
    runs += [Neurons(feedback="conv2d", shape=image, batch=2, steps=3, reset=r, delay=r != rules.ZERO) for r in resets]
    runs += [Neurons(feedback="linear", kind=kind, shape=(4,), batch=2) for kind in range(rules.NO_GRADIENT + 1)]
    for feedback in ("none", "one-to-one", "linear", "conv2d"):
        shape = image if feedback == "conv2d" else (7,)
        runs.append(Neurons(feedback=feedback, shape=shape, batch=3, steps=3, inhibition=True, delay=False))
        runs.append(Neurons(feedback=feedback, shape=shape, batch=3, steps=3, levels=levels))
        runs.append(Neurons(feedback=feedback, shape=shape, batch=1, steps=1, still=True))
        runs.append(
            Neurons(feedback=feedback, shape=shape, batch=2, still=True, learn=False, initial=False, given="dspk")
        )
    runs.append(Neurons(feedback="linear", shape=(1,), batch=2, given="dmem"))
    runs.append(Neurons(feedback="linear", shape=(37,), batch=2, steps=3))
    runs.append(Neurons(feedback="one-to-one", shape=(70,), batch=2, steps=2, sizes={"lif.STRETCH": 64}))
    for shape in ((9,), (37,)):
        runs.append(Neurons(shape, 3, 3, feedback="linear", delay=shape == (9,), sizes={"lif.SHARED_OUT": 0}))
    for delay in (False, True):
        runs.append(Neurons(feedback="linear", delay=delay, still=delay, sizes=TILED))
        runs.append(Neurons((7,), feedback="linear", inhibition=True, learn=delay, delay=delay, sizes=STRIDING))
    runs.append(Neurons(feedback="linear", shape=(7,), levels=levels, sizes=TILED, initial=False, given="dmem"))
    runs.append(Neurons(feedback="linear", shape=(7,), batch=2, steps=1, sizes=TILED, learn=False, given="dspk"))
    runs.append(Neurons(feedback="one-to-one", shape=(7,), inhibition=True, sizes=STRIDING))
    runs.append(Neurons(inhibition=True, levels=levels, sizes=STRIDING))
    runs.append(Neurons((4,), 2, feedback="linear", kind=rules.NO_GRADIENT, sizes=TILED))
    for form in (SPREAD, WIDE):
        for delay in (False, True):
            runs.append(Neurons((20,), 3, feedback="linear", delay=delay, still=delay, sizes=form))
        few = {"_lif_spread.MOST_BLOCKS": 10, "_lif_wide.MOST_BLOCKS": 5, "_lif_events.MOST_BLOCKS": 10}
        runs.append(Neurons((37,), 17, 3, feedback="linear", learn=False, sizes=few | form))
        runs.append(Neurons((17,), 1, feedback="linear", levels=levels, sizes=form, initial=False, given="dmem"))
        runs.append(Neurons((7,), 2, 1, feedback="linear", sizes=form, learn=False, given="dspk"))
        runs.append(Neurons((20,), 1, 2, feedback="linear", sizes=form, initial=False, reset=rules.ZERO))
        runs.append(Neurons((4,), 2, feedback="linear", kind=rules.NO_GRADIENT, sizes=form))
    runs.append(Neurons(image, 2, feedback="conv2d", kind=rules.NO_GRADIENT))
    runs += [Neurons(feedback=f, learn=added) for f in ("none", "one-to-one", "linear")]
    runs += [Neurons(feedback="linear", learn=added, sizes=form) for form in (STRIDING, TILED, SPREAD, WIDE)]
    runs.append(Neurons(feedback="one-to-one", learn=rules.MORE))
    for run in runs:
        yield from run.cases(rng)
    for n, batch in ((9, 5), (70, 2)):
        spk0, bits = dyadic(rng, (batch, n)), packed(spikes(rng, (4, batch, n)))
        bits[0] = packed(spk0)
        for first in (None, spk0):
            given = {"spk0": first, "spk": bits, "d": dyadic(rng, (3, batch, n))}
            label = f"N{n}" + ("" if first is None else "-spk0")
            for add in (False, True):
                out = {"dweight": partial(batch, n), "add": add}
                yield Case("one_to_one_backward", f"{label}{'-add' * add}", given | out, partial={"dweight": n})


def conv_cases(rng: np.random.Generator) -> Iterator[Case]:
    batch, steps = 3, 2
    for shape, outputs, size, stride, padding in (
        ((2, 4, 5), 3, (3, 2), (1, 1), (1, 0)),
        ((1, 5, 6), 2, (2, 3), (2, 3), (0, 2)),
        ((3, 5, 4), 1, (3, 3), (2, 1), (1, 1)),
    ):
        label = f"{shape} {outputs} {size} {stride} {padding}".replace(",", "")
        taps, where = shape[0] * math.prod(size), (shape, outputs, size, stride, padding)
        out = [(shape[k + 1] + 2 * padding[k] - size[k]) // stride[k] + 1 for k in (0, 1)]
        events = spikes(rng, (steps, batch, math.prod(shape)))
        weight, d = dyadic(rng, (shape[0], *size, outputs)), dyadic(rng, (steps, batch, outputs * math.prod(out)))
        back = np.empty((outputs, *(-(-size[k] // stride[k]) for k in (0, 1)), shape[0], *stride), np.float32)
        cpu.flip(weight, back)
        for x, bits in ((None, packed(events)), (dyadic(rng, events.shape) * events, packed(events))):
            name = f"{label} {'bits' if x is None else 'floats'}"
            forward = {"x": x, "bits": bits, "weight": weight, "bias": dyadic(rng, (outputs,))}
            forward |= window_of(where, batch, 0) | {"out": empty(*d.shape)}
            yield Case("conv_forward", name, forward, ("room",))
            for add in (False, True):
                gradients = {"x": x, "bits": bits, "d": d} | window_of(where, batch, 0, outputs)
                gradients |= {"dweight": ones_in_front(batch, outputs, taps), "dbias": ones_in_front(batch, outputs)}
                partial = {"dweight": taps * outputs, "dbias": outputs}
                yield Case("conv_backward", f"{name} {add}", gradients | {"add_to": add}, ("room",), partial)
        given = {"x": d, "bits": packed(d), "weight": back, "bias": None} | window_of(where, batch, 1)
        yield Case("conv_forward", f"{label} back", given | {"out": empty(*events.shape)}, ("room",))
    for add in (False, True):
        partial = dyadic(rng, (5, 9))
        yield Case("sum_blocks", str(add), {"partial": partial, "total": empty(7), "add_to": add})


def ones_in_front(batch: int, outputs: int, taps: int | None = None) -> Callable[[ModuleType], np.ndarray]:
    """Gradients of biases, or of the taps of weights: ones for the first block of samples, zeros for the others."""

    def make(kernels: ModuleType) -> np.ndarray:
        size = outputs * (1 if taps is None else -(-taps // kernels.TAPS) * kernels.TAPS)
        array = np.zeros((-(-batch // kernels.BLOCK), size), np.float32)
        array[0] = 1
        return array

    return make


def lstm_cases(rng: np.random.Generator) -> Iterator[Case]:
    usual = {
        "reset": rules.NONE,
        "levels": None,
        "inhibition": False,
        "still": False,
        "learn": rules.WANTED,
        "sizes": {},
    }
    steps_apart = {"sizes": {"lstm.MOST_TOGETHER": 0}}
    for changed in (
        {},
        {"reset": rules.SUBTRACT, "still": True},
        {"reset": rules.ZERO, "learn": 0},
        {"levels": np.array([-0.5, 0, 0.1, 0.25], np.float32)},
        {"inhibition": True},
        {"learn": rules.WANTED + rules.MORE},
        {"learn": rules.WANTED + rules.MORE} | steps_apart,
        steps_apart,
        {"reset": rules.SUBTRACT, "still": True, "levels": np.array([-0.5, 0, 0.1, 0.25], np.float32)} | steps_apart,
        {"reset": rules.ZERO, "learn": 0} | steps_apart,
    ):
        options = usual | changed
        yield from lstm_pair(rng, " ".join(map(str, changed.items())), options, custom=changed == steps_apart)


def lstm_pair(rng: np.random.Generator, label: str, options: dict[str, Any], custom: bool) -> Iterator[Case]:
    """A case of the forward kernel, and of the backward kernel with what the forward kernel of the CPU left."""
    f, (steps, batch, n) = np.float32, (3, 2, 5)
    every = steps, batch, n
    weight = rng.normal(0, 0.5, (n, 4 * n)).astype(f)
    forward = {
        "current": rng.normal(size=(1 if options["still"] else steps, batch, 4 * n)).astype(f),
        "weight": weight,
        "threshold": rng.uniform(0.02, 0.2, n).astype(f),
        "levels": options["levels"],
        "winner": empty(batch, n) if options["inhibition"] else None,
        "syn0": rng.normal(size=(batch, n)).astype(f),
        "mem0": rng.normal(0, 0.3, (batch, n)).astype(f),
        "reset": options["reset"],
        "gates": empty(steps, batch, 4 * n),
        "syn": empty(*every),
        "mem": empty(*every),
        "spk": empty(steps, batch, 1, dtype=np.uint64),
    }
    case = Case("lstm_forward", label, forward, ("winner",), sizes=options["sizes"])
    yield case
    made = case.arguments(cpu)
    case.run(cpu, made)
    none = np.zeros((1, 1, n), f)
    backward = {
        "dspk": rng.normal(size=every).astype(f),
        "dsyn": none if options["still"] else rng.normal(size=every).astype(f),
        "dmem": rng.normal(size=every).astype(f) if options["learn"] else none,
        "weight": weight.T.copy(),
        **{name: made[name] for name in ("threshold", "winner", "syn0", "mem0", "gates", "syn", "mem")},
        "kind": rules.FAST_SIGMOID,
        "a": f(5),
        "b": f(0),
        "reset": options["reset"],
        "learn": options["learn"],
        "surrogates": empty(batch, n),
        "d": empty(steps, batch, 4 * n),
        "dsyn0": empty(batch, n),
        "dmem0": empty(batch, n),
        "dthreshold": partial(batch, n),
    }
    unread = "winner", "surrogates", *(() if options["learn"] & rules.WANTED else ("dthreshold",))
    common = backward, unread, {"dthreshold": n}, options["sizes"]
    yield Case("lstm_backward", label, *common)
    if custom:
        yield Case("lstm_backward_with", label, *common, boxcar)


def pool_cases(rng: np.random.Generator) -> Iterator[Case]:
    batch, steps = 2, 2
    for shape, size, stride, padding in (
        ((2, 4, 5), (2, 2), (2, 2), (0, 0)),
        ((1, 5, 6), (3, 2), (1, 2), (1, 1)),
        ((3, 6, 5), (2, 1), (1, 1), (0, 0)),
    ):
        made = [(shape[k + 1] + 2 * padding[k] - size[k]) // stride[k] + 1 for k in (0, 1)]
        n, outputs = math.prod(shape), shape[0] * math.prod(made)
        label = f"{shape} {size} {stride} {padding}".replace(",", "")
        common = windows_of((shape, size, stride, padding), batch)
        out, which = {"out": empty(steps, batch, outputs)}, {"which": empty(steps, batch, outputs)}
        events = spikes(rng, (steps, batch, n))
        x, d = np.maximum(dyadic(rng, events.shape), 0), dyadic(rng, (steps, batch, outputs))  # zeros are equal
        bits, words = packed(events), {"out": empty(steps, batch, -(-outputs // 64), dtype=np.uint64)}
        back = common | {"dx": empty(steps, batch, n)}
        yield Case("avg_pool_forward", f"{label} floats", {"x": x, "bits": None} | common | out, ("room",))
        yield Case("avg_pool_forward", f"{label} bits", {"x": None, "bits": bits} | common | out, ("room",))
        yield Case("avg_pool_backward", label, {"d": d} | back, ("room",))
        yield Case("max_pool_forward", label, {"x": x} | common | out | which, ("room",))
        yield Case("max_pool_spikes", label, {"bits": bits} | common | words | which, ("room",))
        place = rng.integers(0, math.prod(size), d.shape).astype(np.float32)
        yield Case("max_pool_backward", label, {"d": d, "which": place} | back, ("room",))


def windows_of(where: tuple[Any, ...], batch: int) -> dict[str, Value]:
    """The windows of a pooling, and room to work in."""

    def room(kernels: ModuleType) -> np.ndarray:
        return np.zeros((-(-batch // kernels.BLOCK), kernels.pool_windows(*where).room), np.float32)

    return {"windows": lambda kernels: kernels.pool_windows(*where), "room": room}


def dropout_cases(rng: np.random.Generator) -> Iterator[Case]:
    steps, batch, n = 3, 2, 70
    common = {"key": np.uint64(7), "call": np.array([3], np.uint64)}
    common |= {"limit": np.uint64(2**62), "scale": np.float32(4 / 3), "first": 7}
    x, events = dyadic(rng, (steps, batch, n)), packed(spikes(rng, (steps, batch, n)))
    for first, bits in ((x, None), (x[:1], None), (None, events)):
        label = "bits" if first is None else f"T{len(first)}"
        given = {"x": first, "bits": bits} | common
        yield Case("dropout_forward", label, given | {"out": empty(steps, batch, n)})
    counts = {"counter": np.array([3], np.uint64), "call": np.array([1], np.uint64)}
    yield Case("next_call", "", counts)
    for length, add in ((1, False), (steps, False), (1, True)):
        given = {"d": x} | common | {"dx": empty(length, batch, n), "add": add}
        yield Case("dropout_backward", f"T{length}{'-add' * add}", given)


def all_cases() -> list[Case]:
    """Every case, the same at each call."""
    families = (
        optimizer_cases,
        batch_cases,
        bits_cases,
        parameter_cases,
        loss_cases,
        dense_cases,
        lif_cases,
        lstm_cases,
        conv_cases,
        pool_cases,
        dropout_cases,
        fill_cases,
        step_cases,
    )
    return [case for k, family in enumerate(families) for case in family(np.random.default_rng(k))]
