"""Arrays of this target: what is taken for one, and memory for those of a step, made once and used again."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._threads import recordable

Array = npt.NDArray[Any]


def as_array(name: str, x: Any) -> Array:
    """x, if it is an array of this target.

    Raises
    ------
    TypeError
        if it is not.
    """
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):  # a kernel would not see the mask
        raise TypeError(f"{name} must be a NumPy array; got {type(x).__name__}")
    return x


def check_array(name: str, x: Any, dtype: np.dtype[Any], shape: Sequence[int | str]) -> Array:
    """x as a C-contiguous array that a kernel may take; a letter in shape stands for any size.

    Raises
    ------
    TypeError
        if x is not an array of this dtype. It is not converted: that would cost an array a step.
    ValueError
        if it has another shape.
    """
    array = as_array(name, x)
    check_kind(name, array, dtype, shape)
    flags = array.flags
    if flags.c_contiguous and flags.aligned and flags.writeable:
        return array
    return np.require(array, requirements=["C", "A", "W"])  # a kernel is compiled for arrays like this


def check_kind(name: str, x: Any, dtype: np.dtype[Any], shape: Sequence[int | str]) -> None:
    """Refuse an array, of any target, of another dtype or shape; see check_array."""
    if x.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, the dtype of the layer; got {x.dtype}")
    if x.ndim != len(shape) or any(
        isinstance(want, int) and got != want for got, want in zip(x.shape, shape, strict=True)
    ):
        raise ValueError(f"{name} must be ({', '.join(map(str, shape))}); got {x.shape}")
    if 0 in x.shape:
        raise ValueError(f"{name} must not be empty; got {x.shape}")


def from_host(x: Array) -> Array:
    """A host array as one of this target."""
    return x


def to_host(x: Array) -> Array:
    """An array of this target as a host array."""
    return x


@recordable
def write(x: Array, out: Array) -> None:
    """out = x, a host array."""
    out[...] = x


@recordable
def fill(x: Array, value: Any) -> None:
    """x = value, a number of its type."""
    x.fill(value)


@recordable
def copy(x: Array, out: Array) -> None:
    """out = x, both of this target, and of one shape and type."""
    out[...] = x


def outputs_first(x: Array) -> Array:
    """The view of an array whose last axis comes first."""
    view: Array = np.moveaxis(x, -1, 0)
    return view


LINE = 64  # bytes of a cache line, and of a vector: one that begins on a line lies in one


def aligned(size: int, dtype: npt.DTypeLike) -> Array:
    """A row of zeros that begins on a cache line."""
    return _on_line(np.zeros(size * np.dtype(dtype).itemsize + LINE, np.uint8), (size,), dtype)


def _on_line(memory: Array, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
    """An array in memory, from the first cache line that begins there."""
    begin = -memory.ctypes.data % LINE
    return memory[begin : begin + math.prod(shape) * np.dtype(dtype).itemsize].view(dtype).reshape(shape)


class Workspace:
    """Arrays that are made once and used again: a training step allocates none."""

    def __init__(self) -> None:
        # Bytes, the array last given out in them, and its shape and dtype.
        self._memory: dict[str, list[tuple[Any, Array, tuple[Any, Any]]]] = {}
        self._constants: dict[str, Array] = {}
        self._zeros: dict[tuple[str, tuple[int, ...]], Array] = {}

    @property
    def kernels(self) -> Any:
        """The kernels for these arrays."""
        return sys.modules[__package__]

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array, contents undefined, in memory of this name that nobody holds an array of any more.

        So an array given out stays as it is for as long as its user keeps it, or a view of it.
        """
        places = self._memory.setdefault(name, [])
        for k in range(len(places)):
            memory, array, kept = places[k]
            if sys.getrefcount(array) > FREE[0] or sys.getrefcount(memory) > FREE[1]:  # somebody holds it, or a view
                continue
            if kept != (shape, dtype):
                array = self._fit(memory, shape, dtype)
                places[k] = array.base, array, (shape, dtype)
            return array
        array = self._fit(np.empty(0, np.uint8), shape, dtype)
        places.append((array.base, array, (shape, dtype)))
        return array

    @staticmethod
    def _fit(memory: Array, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array in memory, or in more of it if it is too small."""
        size = math.prod(shape) * np.dtype(dtype).itemsize + LINE
        return _on_line(memory if memory.size >= size else np.empty(size, np.uint8), shape, dtype)

    def constant(self, name: str, values: Sequence[float], dtype: npt.DTypeLike) -> Array:
        """Numbers that are always the same for a name."""
        array = self._constants.get(name)
        if array is None:
            array = self._constants[name] = np.array(values, dtype)
        return array

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike, name: str = "") -> Array:
        """Zeros, for reading only; with a name, to be written to where that name's users agree."""
        array = self._zeros.get((name, shape))
        if array is None or array.dtype != dtype:
            array = self._zeros[name, shape] = aligned(math.prod(shape), dtype).reshape(shape)
        return array


def _references_when_free() -> tuple[int, int]:
    """How many references an array of a Workspace and its memory have where nobody else has one."""
    places = [(memory := np.zeros(1, np.uint8), memory[:], ())]
    del memory
    memory, array, _ = places[0]
    return sys.getrefcount(array), sys.getrefcount(memory)


FREE = _references_when_free()


__all__ = [
    "Workspace",
    "aligned",
    "as_array",
    "check_array",
    "copy",
    "fill",
    "from_host",
    "outputs_first",
    "to_host",
    "write",
]
