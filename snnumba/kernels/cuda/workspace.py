"""Arrays on a device: what is taken for one, and memory for those of a step, made once and used again."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from ..cpu.workspace import check_kind
from ._driver import cuda, elementwise, holders, moved


def as_array(name: str, x: Any) -> Any:
    """x as an array on the device: a NumPy array is copied there.

    Raises
    ------
    TypeError
        if x is neither a NumPy array nor one with __cuda_array_interface__.
    """
    if isinstance(x, np.ndarray):
        return cuda.to_device(np.asarray(x, order="C"))
    if hasattr(x, "copy_to_host"):
        return x
    if hasattr(x, "__cuda_array_interface__"):  # pragma: no cover - needs a GPU
        return cuda.as_cuda_array(x)
    raise TypeError(f"{name} must be a NumPy array, or one with __cuda_array_interface__; got {type(x).__name__}")


def check_array(name: str, x: Any, dtype: np.dtype[Any], shape: Sequence[int | str]) -> Any:
    """x as a C-contiguous array on the device; a letter in shape stands for any size. Errors as on the CPU."""
    if isinstance(x, np.ndarray):  # before it is copied
        check_kind(name, x, dtype, shape)
    array = as_array(name, x)
    check_kind(name, array, dtype, shape)
    if not array.is_c_contiguous():
        raise ValueError(f"{name} must be C-contiguous on the device; got strides {array.strides}")
    return array


def from_host(x: npt.NDArray[Any]) -> Any:
    """A host array as one on the device."""
    return cuda.to_device(np.asarray(x, order="C"))


def to_host(x: Any) -> npt.NDArray[Any]:
    """An array on the device as a host array."""
    array: npt.NDArray[Any] = as_array("x", x).copy_to_host()
    return array


def write(x: npt.NDArray[Any], out: Any) -> None:
    """out = x, a host array."""
    out.copy_to_device(np.array(np.broadcast_to(x, out.shape), out.dtype, order="C"))


@elementwise(lambda row, value: row.shape[0])
def fill_row(row, value):
    """fill, of a row."""
    i = cuda.grid(1)
    if i < row.shape[0]:
        row[i] = value


def fill(x: Any, value: Any) -> None:
    """x = value, a number of its type."""
    fill_row(x.reshape(x.size), value)


@elementwise(lambda row, out: row.shape[0])
def copy_row(row, out):
    """copy, of a row."""
    i = cuda.grid(1)
    if i < row.shape[0]:
        out[i] = row[i]


def copy(x: Any, out: Any) -> None:
    """out = x, both of this target, and of one shape and type."""
    copy_row(x.reshape(x.size), out.reshape(out.size))


def outputs_first(x: Any) -> Any:
    """The view of an array whose last axis comes first."""
    return moved(x, (x.ndim - 1, *range(x.ndim - 1)))


def aligned(size: int, dtype: npt.DTypeLike) -> Any:
    """A row of zeros."""
    return cuda.to_device(np.zeros(size, dtype))


def free_memory() -> float:
    """How many bytes of the device nobody uses."""
    return float(cuda.current_context().get_memory_info()[0])


class Workspace:
    """Arrays that are made once and used again, as on the CPU; launches come one after the other."""

    def __init__(self) -> None:
        self._arrays: dict[Any, list[Any]] = {}
        self._constants: dict[str, Any] = {}
        self._zeros: dict[Any, Any] = {}

    @property
    def kernels(self) -> Any:
        """The kernels for these arrays."""
        return sys.modules[__package__]

    def empty(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Any:
        """An array, contents undefined, of this name, that nobody holds any more, nor a view of it."""
        places = self._arrays.setdefault((name, shape, np.dtype(dtype)), [])
        for k in range(len(places)):
            array = places[k]
            if sys.getrefcount(array) <= FREE[0] and holders(array) <= FREE[1]:
                return array
        array = cuda.device_array(shape, dtype)
        places.append(array)
        return array

    def constant(self, name: str, values: Sequence[float], dtype: npt.DTypeLike) -> Any:
        """Numbers that are always the same for a name."""
        if name not in self._constants:
            self._constants[name] = cuda.to_device(np.array(values, dtype))
        return self._constants[name]

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike, name: str = "") -> Any:
        """Zeros, for reading only; with a name, to be written to where that name's users agree."""
        key = name, shape, np.dtype(dtype)
        if key not in self._zeros:
            self._zeros[key] = cuda.to_device(np.zeros(shape, dtype))
        return self._zeros[key]


class _Free:
    """How many references an array of a Workspace has, and its memory, where nobody else has one; counted once."""

    def __init__(self) -> None:
        self._counts: tuple[int, int] | None = None

    def __getitem__(self, k: int) -> int:
        if self._counts is None:
            places = [cuda.device_array((1,), np.uint8)]
            for i in range(len(places)):
                array = places[i]
                self._counts = sys.getrefcount(array), holders(array)
        assert self._counts is not None
        return self._counts[k]


FREE = _Free()  # the first look needs a device


class _Team:
    """Kernels on a device run in the order of their launches: there is nothing to put together."""

    def together(self) -> AbstractContextManager[None]:
        """Run the kernels called inside."""
        return nullcontext()


team = _Team()

__all__ = [
    "Workspace",
    "aligned",
    "as_array",
    "check_array",
    "copy",
    "fill",
    "free_memory",
    "from_host",
    "outputs_first",
    "team",
    "to_host",
    "write",
]
