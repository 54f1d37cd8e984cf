"""A call of a kernel: its arguments, the bytes it must move, the operations it must do."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from snnumba.kernels import cpu
from snnumba.kernels.cpu.bits import ENOUGH, FAR
from snnumba.kernels.cpu.dense import forward_samples

f4 = np.float32
EXPONENTIAL, TANGENT, LOGISTIC = 10, 15, 12
RANDOM = 10  # as many on 64 bits, of integers: a core may do two in the time of a multiply-add
LIF_FORWARD = 4  # beta u + i; u - theta > 0; - theta; m - theta > 0
LIF_BACKWARD = 9  # m - theta, atan' with its division, beta d + dmem, dspk + carry, h a_s + a_u
DENSITY = 0.19  # of the pixels of MNIST that are not zero
RATE = 0.14  # of the spikes of the tutorial net

Arguments = dict[str, Any]


@dataclass
class Entry:
    """A call of a kernel; `make` gives its arguments for a module of kernels, in order, arrays on the host."""

    kernel: str
    about: str
    size: str
    make: Callable[[ModuleType], Arguments]
    operations: float
    work: tuple[str, ...] = ("room", "winner", "surrogates", "parts")  # arrays to work in
    twice: tuple[str, ...] = ()
    parts: dict[str, int] | None = None  # arrays of which only so many bytes are touched
    launches_alone: bool = True  # on a GPU, nothing is copied to or from the host
    has_products: bool = False  # that a GPU may do with tf32 factors
    memory: int = 0  # bytes of the arrays, as the CPU lays them out; known when arguments for it were made
    bytes: int = 0  # to be read or written
    table: str | None = None  # of which rows are added, those of active inputs, as they lie in memory
    table_bytes: int = 0
    at_once: bool = False  # too few items for a second thread of the CPU

    @property
    def name(self) -> str:
        return f"{self.kernel} {self.about}".strip()

    def arguments(self, kernels: ModuleType) -> Arguments:
        """The arguments for a module of kernels; for the CPU on cache lines, as layers lay them out."""
        made = self.make(kernels)
        if kernels is cpu:
            laid = {id(x): on_line(x) for x in made.values()}
            made = {name: laid[id(x)] for name, x in made.items()}
            arrays = {name: x for name, x in made.items() if isinstance(x, np.ndarray) and name not in self.work}
            once = {id(x): (self.parts or {}).get(name, x.nbytes) for name, x in arrays.items()}
            self.memory = sum(once.values())
            self.bytes = self.memory + sum(arrays[name].nbytes for name in self.twice)
            self.table_bytes = arrays[self.table].nbytes if self.table else 0
            kernel = forward_samples if self.kernel == "linear_forward" else getattr(cpu, self.kernel)
            self.at_once = kernel.items(*made.values()) <= kernel.grain
        return made


def on_line(x: Any) -> Any:
    """An array from the beginning of a cache line on; what is none as it is."""
    if not isinstance(x, np.ndarray):
        return x
    laid = cpu.aligned(x.size, x.dtype).reshape(x.shape)
    laid[...] = x
    return laid


def noise(*shape: int, mean: float = 0.0, std: float = 1.0, seed: int = 0) -> np.ndarray:
    """Normal numbers, which repeat after the first million."""
    size = math.prod(shape)
    some = np.random.default_rng(seed).normal(mean, std, min(size, 1_000_003)).astype(f4)
    return np.resize(some, shape)


def events(*shape: int, share: float, seed: int = 1) -> np.ndarray:
    """Zeros, and this share of ones."""
    size = math.prod(shape)
    return np.resize(np.random.default_rng(seed).random(min(size, 1_000_003)) < share, shape).astype(f4)


def packed(x: np.ndarray) -> np.ndarray:
    """Where x (T, B, N) is not zero, as bits."""
    active = np.empty((*x.shape[:-1], cpu.num_words(x.shape[-1])), np.uint64)
    cpu.find_active(x, active)
    return active


def empty(*shape: int, dtype: Any = f4) -> np.ndarray:
    """An array for a kernel to write, its memory there."""
    return np.zeros(shape, dtype) + dtype(0)


def rows_from(name: str, numbers: int, samples: int) -> str | None:
    """Whether rows of a table are added where it lies, and not brought near: Entry.table."""
    return name if numbers < FAR or samples < ENOUGH else None


def blocks(kernels: ModuleType, batch: int) -> int:
    return -(-batch // kernels.BLOCK)
