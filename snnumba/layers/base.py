"""What all layers share: named arrays, which of them are learnable, work arrays, argument checks."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import backend
from ..checks import Watched, as_array
from ..kernels import cpu
from ..kernels.cpu import Workspace

Array = npt.NDArray[Any]
MOST = np.iinfo(np.intp).max  # of a size: more has no array


@dataclass
class Spikes:
    """Spikes on their way between layers: one bit each.

    bits (T, B, ceil(N/64)) uint64; bit k of word w is neuron 64 w + k of the N of `shape`, (N,) or (C, H, W).
    """

    bits: Array
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """Which of the steps of a run a pass is over, where a net goes through them a few at a time (windows.py).

    first : int      the number of its first step
    longest : int    the steps of the longest of them; 0: there is but one
    still : bool     whether the layer's input is constant over all steps
    again : bool     whether the steps are run a second time, for their tape
    more : bool      whether the gradients of later steps are there, to be added to
    """

    first: int = 0
    longest: int = 0
    still: bool = False
    again: bool = False
    more: bool = False


@dataclass
class Parameter:
    """A named array of a layer, as the kernels store it.

    A weight is stored with its outputs last, so that an input's event adds one contiguous row; users see torch's
    layout, outputs first.
    """

    value: Array
    gradient: Array | None  # None: not learnable
    outputs_last: bool = False

    def seen(self, stored: Array, outputs_first: Callable[[Array], Array]) -> Array:
        """The view of a stored array that users see."""
        return outputs_first(stored) if self.outputs_last else stored


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
    if size > MOST:
        raise ValueError(f"{name} must be at most {MOST}; got {size}")
    return int(size)


def check_seed(seed: Any) -> int | None:
    """A seed of random numbers, or None."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0):
        raise ValueError(f"seed must be an integer of at least 0, or None; got {seed!r}")
    return None if seed is None else int(seed)


def check_finite(name: str, x: Array, dtype: npt.DTypeLike) -> Array:
    """x as an array of dtype, if it holds numbers that are finite there."""
    if x.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold numbers; got {x.dtype}")
    with np.errstate(over="ignore"):
        converted = x.astype(dtype)
    if not np.isfinite(converted).all():
        at = tuple(int(k) for k in np.argwhere(~np.isfinite(converted))[0])
        raise ValueError(f"{name} must hold finite numbers; got {x[at]!r} at {at}")
    return converted


def as_numbers(name: str, x: npt.ArrayLike, dtype: np.dtype[Any]) -> Array:
    """Real numbers as an array of this dtype."""
    array = as_array(name, x)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be real numbers; got {array.dtype}")
    return array.astype(dtype, copy=False)


class Layer(Watched):
    """A layer of a net: named arrays, some learnable, and a pass over time forward and backward.

    Parameters
    ----------
    dtype : "float32" or "float64"; None takes the net's, or float32 outside a net
    seed : int; None takes the net's random numbers, or fresh ones outside a net
    """

    in_shape: tuple[int, ...] | None = None  # of a sample, where the layer takes but one
    _window = Window()  # of the pass that the layer is at
    _start: tuple[Array | None, ...] = ()  # the state that the next run over time begins at; (): rest
    _stepped = False  # whether each step is a run of its own, as inside feedback
    training = True  # whether a layer that differs while it is trained, such as Dropout, is being trained

    def __init__(self, dtype: npt.DTypeLike | None = None, seed: int | None = None) -> None:
        self._dtype = check_dtype(dtype)
        self._rng = None if check_seed(seed) is None else np.random.default_rng(seed)
        self._parameters: dict[str, Parameter] = {}
        self._built = False
        self._in_net = False
        self._tape: dict[str, Any] = {}  # all that forward leaves for backward
        self._kernels: Any = backend.load("cpu")
        self._work: Workspace = self._kernels.Workspace()

    @property
    def _inner(self) -> tuple["Layer", ...]:
        """The layers that this one has inside."""
        return ()

    def _all(self) -> Iterator["Layer"]:
        """This layer and those inside."""
        yield self
        for layer in self._inner:
            yield from layer._all()

    def _not_of(self, dtype: np.dtype[Any]) -> "Layer | None":
        """The first layer of _all that was given another dtype."""
        return next((part for part in self._all() if part._dtype is not None and part._dtype != dtype), None)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a sample's output, for that of its input.

        Raises
        ------
        ValueError
            if the layer does not take such an input.
        """
        if self.in_shape is not None and shape != self.in_shape:
            raise ValueError(f"{self!r} takes inputs of shape {self.in_shape}; got {shape}")
        return shape

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds the layer but for its arrays, fit for JSON: "layer", its kind, and the arguments."""
        raise NotImplementedError

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        """The layer's arrays in torch's layout, float64, each with whether it is learnable."""
        raise NotImplementedError

    def _run(self, x: Array | Spikes, steps: int) -> Array | Spikes:
        """Forward over time: x (T or 1, B, *shape), 1 where it is constant over the steps."""
        raise NotImplementedError

    def _prepare_back(self, input_gradient: bool) -> None:
        """Make what _run_back needs beside the samples."""

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        """Backward from dL/d(output): dL/d(input) if wanted, with the time axis of the input."""
        raise NotImplementedError

    def _learn_weights(self, add: bool = False) -> None:
        """The gradients of the weights, after _run_back: written in full, or added."""

    def _finish_back(self, add: bool = False) -> None:
        """The gradients that are sums of what _run_back and _learn_weights left: written in full, or added."""

    def _blocks(self, batch: int) -> int:
        """How many blocks of samples a batch has: a kernel leaves its sums over samples block by block."""
        blocks: int = -(-batch // self._kernels.BLOCK)
        return blocks

    @property
    def _whole_batch(self) -> bool:
        """Whether what the layer makes of a sample depends on its place in the batch."""
        return False

    @property
    def _moves(self) -> bool:
        """Whether the output differs from step to step where the input does not."""
        return False

    @property
    def _state(self) -> tuple[Array | None, ...]:
        """What a run over later steps goes on from: arrays that hold their own, each (B, ...) or of no batch."""
        return ()

    @_state.setter
    def _state(self, state: tuple[Array | None, ...]) -> None:
        """Go on from there."""

    def _partial(self, name: str, *shape: int) -> Array:
        """An array of the tape for sums over time; in a window before the last, with those of later steps."""
        if not self._window.more:
            self._tape.pop(name, None)
            self._tape[name] = self._work.empty(name, shape, self.dtype)
        array: Array = self._tape[name]
        return array

    def _count(self, x: Array | Spikes, counts: Array) -> None:
        """counts (B, *shape) = the sum over all steps of an output of the layer."""
        flat = counts.reshape(len(counts), math.prod(counts.shape[1:]))
        if isinstance(x, Spikes):
            self._kernels.count_spikes(x.bits, flat)
        else:
            self._kernels.count_forward(x.reshape(*x.shape[:2], flat.shape[1]), flat.reshape(1, *flat.shape))

    def _as_floats(self, x: Array | Spikes, factor: Array | None = None) -> Array:
        """Spikes as zeros and ones (T, B, *shape), or times a factor for each neuron."""
        if not isinstance(x, Spikes):
            return x
        leading = x.bits.shape[:2]
        spk = self._work.empty("float spk", (*leading, math.prod(x.shape)), self.dtype)
        self._kernels.unpack(x.bits, factor, spk)
        return spk.reshape(*leading, *x.shape)

    def _build(self, dtype: np.dtype[Any] | None = None, rng: np.random.Generator | None = None) -> None:
        """Make the arrays, if they are not there yet."""
        if self._built:
            return
        self._dtype = self._dtype or dtype or np.dtype("float32")
        self._rng = self._rng or rng or np.random.default_rng()
        for name, (drawn, learnable) in self._draw(self._rng).items():
            outputs_last = name.split(".")[-1].startswith("weight")
            stored = np.moveaxis(drawn, 0, -1) if outputs_last else drawn
            value = np.array(check_finite(name, stored, self._dtype), order="C")
            self._parameters[name] = Parameter(value, np.zeros_like(value) if learnable else None, outputs_last)
        self._built = True

    def _random(self) -> Array | None:
        """What numbers follow from that the layer draws as it runs, on the host; None where it draws none."""
        return None

    def _set_random(self, state: Array) -> None:
        """Take over what _random gave."""

    def _to(self, kernels: Any) -> None:
        """Move the arrays, those of layers inside too, to a target, and forget the rest."""
        for parameter in self._parameters.values():
            parameter.value = kernels.from_host(np.array(self._kernels.to_host(parameter.value)))
            if parameter.gradient is not None:
                parameter.gradient = kernels.from_host(np.zeros(parameter.value.shape, self._dtype))
        for part in self._all():
            part._move(kernels)

    def _move(self, kernels: Any) -> None:
        """Work with these kernels from now on, on arrays of their own."""
        self._kernels = kernels
        self._work = kernels.Workspace()
        self._changes += 1
        self._forget()

    def _forget(self) -> None:
        """Forget the last forward pass."""
        self._tape = {}

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
        first = self._kernels.outputs_first
        return {name: p.seen(p.value, first) for name, p in self._parameters.items() if p.gradient is not None}

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradients that the last backward pass left, named and laid out as the parameters."""
        self._build()
        first = self._kernels.outputs_first
        return {name: p.seen(p.gradient, first) for name, p in self._parameters.items() if p.gradient is not None}

    def _checked(self, name: str, x: Any, *shape: int | str) -> Array:
        """x, if it is an array of the layer's target, dtype and this shape; see check_array."""
        checked: Array = self._kernels.check_array(name, x, self.dtype, shape)
        return checked

    def state_dict(self) -> dict[str, Array]:
        """Copies of all arrays, learnable or not, with torch's names and layouts."""
        self._build()
        return {name: np.array(self._seen_on_host(p), order="C") for name, p in self._parameters.items()}

    def _seen_on_host(self, parameter: Parameter) -> Array:
        """What users see of a parameter, as a host array."""
        return parameter.seen(self._kernels.to_host(parameter.value), cpu.outputs_first)

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
            expected = self._seen_on_host(parameter).shape
            if x.shape != expected:
                raise ValueError(f"{prefix}{name} must be {expected}; got {x.shape}")
            checked[name] = check_finite(f"{prefix}{name}", x, parameter.value.dtype)
        return checked

    def _assign(self, state: dict[str, Array]) -> None:
        self._changes += 1
        for name, x in state.items():
            parameter = self._parameters[name]
            self._kernels.write(np.moveaxis(x, 0, -1) if parameter.outputs_last else x, parameter.value)


class Stateless(Layer):
    """A layer that treats every step alike, and carries nothing from one to the next."""

    sample_axes: int | None = None  # of a sample; None: (N,) or (C, H, W), with a batch axis before

    def __call__(self, x: npt.ArrayLike) -> Array:
        """The output of one step, for x (*shape) or (B, *shape); numbers of another type are converted."""
        array = as_numbers("x", x, self.dtype)
        batched = array.ndim in (2, 4)
        y = self.forward(array if batched else array[None])
        return y if batched else y.reshape(y.shape[1:])

    def forward(self, x: Array) -> Array:
        """The output for x (B, *shape) or (T, B, *shape), shape being that of a sample; x is kept for backward.

        Raises
        ------
        TypeError, ValueError
            if x is not an array of the layer's dtype and such a shape.
        """
        self._build()
        x = self._kernels.as_array("x", x)
        axes = self.sample_axes or (3 if x.ndim > 3 else 1)
        leading = ("T", "B") if x.ndim == axes + 2 else ("B",)
        x = self._checked("x", x, *leading, *(self.in_shape or x.shape[-axes:]))
        self.out_shape(x.shape[len(leading) :])
        whole = x if len(leading) == 2 else x.reshape(1, *x.shape)
        y = self._as_floats(self._run(whole, len(whole)))
        self._tape["given shape"] = x.shape
        return y if len(leading) == 2 else y[0]

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """dL/dx from dL/dy, in the shapes of forward; fills gradients.

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        TypeError, ValueError
            if dy is not an array of the layer's dtype and forward's output shape.
        """
        if "given shape" not in self._tape:
            raise RuntimeError("backward needs a forward pass before it")
        given = self._tape["given shape"]
        axes = self.sample_axes or (3 if len(given) > 3 else 1)
        dy = self._checked("dy", dy, *given[:-axes], *self.out_shape(given[-axes:]))
        self._prepare_back(input_gradient)
        dx = self._run_back(dy if len(given) == axes + 2 else dy.reshape(1, *dy.shape), input_gradient)
        self._learn_weights()
        self._finish_back()
        return None if dx is None else dx.reshape(given)


# Names that snnTorch's state_dict has beside the arrays: constants here, and a one-to-one V for the second time.
SNNTORCH_CONSTANTS = {"graded_spikes_factor", "reset_mechanism_val", "recurrent.V"}
