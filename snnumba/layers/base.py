"""What all layers share: named arrays, which of them are learnable, work arrays, argument checks."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backend

Array = npt.NDArray[Any]


@dataclass
class Spikes:
    """Spikes on their way between layers: one bit each.

    bits (T, B, ceil(N/64)) uint64; bit k of word w is neuron 64 w + k of `size` N.
    """

    bits: Array
    size: int


@dataclass
class Parameter:
    """A named array of a layer, as the kernels store it.

    A weight is stored with its outputs last, so that an input's event adds one contiguous row; users see torch's
    layout, outputs first.
    """

    value: Array
    gradient: Array | None  # None: not learnable
    outputs_last: bool = False

    def seen(self, stored: Array) -> Array:
        """The view of a stored array that users see."""
        return np.moveaxis(stored, -1, 0) if self.outputs_last else stored


def check_dtype(dtype: npt.DTypeLike | None) -> np.dtype[Any] | None:
    """float32 or float64; None stays None."""
    if dtype is None:
        return None
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = None
    if found not in (np.dtype("float32"), np.dtype("float64")):
        raise ValueError(f'dtype must be "float32" or "float64"; got {dtype!r}')
    return found


def check_size(name: str, size: Any) -> int:
    """A positive integer."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"{name} must be a positive integer; got {size!r}")
    return int(size)


def check_array(name: str, x: Any, dtype: np.dtype[Any], shape: Sequence[int | str]) -> Array:
    """x as a C-contiguous array that a kernel may take; a letter in shape stands for any size.

    Raises
    ------
    TypeError
        if x is not an array of this dtype. It is not converted: that would cost an array a step.
    ValueError
        if it has another shape.
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array; got {type(x).__name__}")
    if x.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, the dtype of the layer; got {x.dtype}")
    if x.ndim != len(shape) or any(
        isinstance(want, int) and got != want for got, want in zip(x.shape, shape, strict=True)
    ):
        raise ValueError(f"{name} must be ({', '.join(map(str, shape))}); got {x.shape}")
    if 0 in x.shape:
        raise ValueError(f"{name} must not be empty; got {x.shape}")
    return np.require(x, requirements=["C", "A", "W"])


class Workspace:
    """Arrays that are made once and used again: a training step allocates none."""

    def __init__(self) -> None:
        self._buffers: dict[str, list[Array]] = {}

    def empty(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """An array, contents undefined, in memory of this name that nobody holds an array of any more.

        So an array given out stays as it is for as long as its user keeps it.
        """
        size = math.prod(shape)
        buffers = self._buffers.setdefault(name, [])
        for k in range(len(buffers)):
            # A free buffer has two references, the list's and getrefcount's own; an array given out is a third.
            if sys.getrefcount(buffers[k]) <= 2:
                break
        else:
            k = len(buffers)
            buffers.append(np.empty(0, dtype))
        if buffers[k].dtype != dtype or buffers[k].size < size:
            buffers[k] = np.empty(size, dtype)
        return buffers[k][:size].reshape(shape)

    def zeros(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """Zeros, for reading only."""
        size = math.prod(shape)
        buffers = self._buffers.setdefault("zeros", [np.zeros(0, dtype)])
        if buffers[0].dtype != dtype or buffers[0].size < size:
            buffers[0] = np.zeros(size, dtype)
        return buffers[0][:size].reshape(shape)


class Layer:
    """A layer of a net: named arrays, some learnable, and a pass over time forward and backward.

    Parameters
    ----------
    dtype : "float32" or "float64"; None takes the net's, or float32 outside a net
    seed : int; None takes the net's random numbers, or fresh ones outside a net
    """

    in_features: int
    out_features: int

    def __init__(self, dtype: npt.DTypeLike | None = None, seed: int | None = None) -> None:
        self._dtype = check_dtype(dtype)
        self._rng = None if seed is None else np.random.default_rng(seed)
        self._parameters: dict[str, Parameter] = {}
        self._work = Workspace()
        self._kernels: Any = backend.load("cpu")

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        """The layer's arrays in torch's layout, float64, each with whether it is learnable."""
        raise NotImplementedError

    def _run(self, x: Array | Spikes, steps: int) -> Array | Spikes:
        """Forward over time: x (T or 1, B, ...), 1 where it is constant over the steps."""
        raise NotImplementedError

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        """Backward from dL/d(output); dL/d(input) if wanted, with the time axis of the input."""
        raise NotImplementedError

    def _build(self, dtype: np.dtype[Any] | None = None, rng: np.random.Generator | None = None) -> None:
        """Make the arrays, if they are not there yet."""
        if self._parameters:
            return
        self._dtype = self._dtype or dtype or np.dtype("float32")
        self._rng = self._rng or rng or np.random.default_rng()
        for name, (drawn, learnable) in self._draw(self._rng).items():
            outputs_last = name.endswith("weight")
            stored = np.moveaxis(drawn, 0, -1) if outputs_last else drawn
            value = np.array(stored, self._dtype, order="C")
            self._parameters[name] = Parameter(value, np.zeros_like(value) if learnable else None, outputs_last)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the layer's numbers."""
        self._build()
        assert self._dtype is not None
        return self._dtype

    @property
    def parameters(self) -> dict[str, Array]:
        """What is learnable: views, in torch's layout; writing to them changes the layer."""
        self._build()
        return {name: p.seen(p.value) for name, p in self._parameters.items() if p.gradient is not None}

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradients that the last backward pass left, named and laid out as the parameters."""
        self._build()
        return {name: p.seen(p.gradient) for name, p in self._parameters.items() if p.gradient is not None}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all arrays, learnable or not, with torch's names and layouts."""
        self._build()
        return {name: np.array(p.seen(p.value), order="C") for name, p in self._parameters.items()}

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Take over arrays by name, such as state_dict gives, or torch's as NumPy arrays.

        Raises
        ------
        KeyError
            if a name is missing or not known, before anything is changed.
        ValueError
            if an array has another shape, or holds NaN or infinity, before anything is changed.
        """
        self._build()
        self._assign(self._checked_state(state, ""))

    def _checked_state(self, state: Mapping[str, npt.ArrayLike], prefix: str) -> dict[str, Array]:
        """The arrays of this layer out of a state whose names begin with prefix; keys without it."""
        ours = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
        unknown = ours.keys() - self._parameters.keys() - SNNTORCH_CONSTANTS
        if unknown:
            raise KeyError(f"state has {prefix}{min(unknown)}, which the layer {self!r} does not")
        checked = {}
        for name, parameter in self._parameters.items():
            if name not in ours:
                raise KeyError(f"state lacks {prefix}{name}; it has {', '.join(sorted(state)) or 'nothing'}")
            x = np.asarray(ours[name])
            expected = parameter.seen(parameter.value).shape
            if x.shape != expected:
                raise ValueError(f"{prefix}{name} must be {expected}; got {x.shape}")
            if x.dtype.kind not in "fiu" or not np.isfinite(x).all():
                raise ValueError(f"{prefix}{name} must hold finite numbers; got {x.dtype} with others")
            checked[name] = x
        return checked

    def _assign(self, state: dict[str, Array]) -> None:
        for name, x in state.items():
            parameter = self._parameters[name]
            parameter.seen(parameter.value)[...] = x


# Names that snnTorch's state_dict has beside the arrays: constants here.
SNNTORCH_CONSTANTS = {"graded_spikes_factor", "reset_mechanism_val"}
