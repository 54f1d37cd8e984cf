"""What all spiking layers share: threshold, surrogate, reset, hidden state, and calls step by step."""

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..checks import check_choice, check_flag
from ..kernels import rules
from ..quant import StateQuant
from ..surrogate import Surrogate, atan
from .base import Array, Layer, as_numbers

RESETS = {"subtract": rules.SUBTRACT, "zero": rules.ZERO, "none": rules.NONE}


class Spiking(Layer):
    """A layer with a state that it carries from step to step; the arguments are those of Leaky, RLeaky and SLSTM."""

    states: ClassVar[tuple[str, ...]]  # the names of the state's arrays, as they follow the input of a call
    resets = RESETS

    def __init__(
        self,
        threshold: npt.ArrayLike,
        spike_grad: Surrogate | None,
        surrogate_disable: bool,
        init_hidden: bool,
        inhibition: bool,
        learn_threshold: bool,
        reset_mechanism: str,
        state_quant: StateQuant | bool,
        output: bool,
        dtype: npt.DTypeLike | None,
        seed: int | None,
    ) -> None:
        super().__init__(dtype, seed)
        self._threshold = check_numbers("threshold", threshold)
        if spike_grad is not None and not isinstance(spike_grad, Surrogate):
            raise TypeError(f"spike_grad must be a surrogate, such as surrogate.atan(); got {spike_grad!r}")
        if spike_grad is not None and surrogate_disable:
            raise ValueError(f"spike_grad={spike_grad.name} and surrogate_disable=True contradict each other")
        if state_quant is not False and not isinstance(state_quant, StateQuant):
            raise TypeError(f"state_quant must be made by functional.quant.state_quant, or False; got {state_quant!r}")
        self.spike_grad = spike_grad or atan()
        self.surrogate_disable = check_flag("surrogate_disable", surrogate_disable)
        self.init_hidden = check_flag("init_hidden", init_hidden)
        self.inhibition = check_flag("inhibition", inhibition)
        self.learn_threshold = check_flag("learn_threshold", learn_threshold)
        self.reset_mechanism = check_choice("reset_mechanism", reset_mechanism, tuple(RESETS))
        self.state_quant = state_quant
        self.output = check_flag("output", output)
        self._rows: dict[
            str, tuple[tuple[int, ...], Array]
        ] = {}  # of parameters that do not learn: what _row made, and for what
        self._hidden: tuple[Array, ...] | None = None  # the state after the last call
        self._chained = False  # whether a run goes on where the last one ended, and back: as a feedback's layers do
        self._later: tuple[Array | None, ...] = ()  # the gradient of the state after the steps, from the run after it

    @property
    def config(self) -> dict[str, Any]:
        surrogate = self.spike_grad
        if surrogate.function is not None:
            raise TypeError(f"spike_grad of {self!r} is a function, which cannot be written down; use one with a name")
        return {
            "layer": type(self).__name__,
            "threshold": self._threshold.tolist(),
            "spike_grad": {"name": surrogate.name, "a": surrogate.a, "b": surrogate.b},
            "surrogate_disable": self.surrogate_disable,
            "init_hidden": self.init_hidden,
            "inhibition": self.inhibition,
            "learn_threshold": self.learn_threshold,
            "reset_mechanism": self.reset_mechanism,
            "state_quant": isinstance(self.state_quant, StateQuant) and list(self.state_quant.levels),
            "output": self.output,
            "dtype": None if self._dtype is None else self._dtype.name,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        return {"threshold": (self._threshold, self.learn_threshold)}

    def _fits(self, arrays: dict[str, Array], shape: tuple[int, ...]) -> None:
        """Refuse arrays that do not broadcast to the neurons' shape."""
        for name, array in arrays.items():
            try:
                fits = np.broadcast_shapes(array.shape, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"{name} of shape {array.shape} does not fit neurons of shape {shape}")

    @property
    def _whole_batch(self) -> bool:
        return any(state is not None for state in self._start)  # states carried from a run of all samples

    @property
    def _moves(self) -> bool:
        return True

    @property
    def _state(self) -> tuple[Array | None, ...]:
        return self._start

    @_state.setter
    def _state(self, state: tuple[Array | None, ...]) -> None:
        self._start = state

    @property
    def _more(self) -> int:
        """MORE if a backward kernel is to go on from later steps; with layers inside, each step has its own sums."""
        return rules.MORE if self._window.more and not self._inner else 0

    def _levels(self) -> Array | None:
        """The levels of state_quant, for a kernel."""
        if not isinstance(self.state_quant, StateQuant):
            return None
        levels: Array = self._work.constant("levels", self.state_quant.levels, self.dtype)
        return levels

    def _run_back(self, dy: Array | None, input_gradient: bool, dmem: Array | None = None) -> Array | None:
        """Backward from dL/dspk and dL/dmem."""
        raise NotImplementedError

    def _steps(self, x: Array, *state: Array) -> tuple[Array, ...]:
        """What a call gives, at all steps of x (T, B, ...) or (T, ...), from a state (B, ...) or (...)."""
        raise NotImplementedError

    def _state_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the state for an input of one step."""
        return shape

    def _call(self, x: npt.ArrayLike, *given: npt.ArrayLike | None) -> Any:
        """One step, from the state given or else the one that the last call left."""
        if self.init_hidden and any(s is not None for s in given):
            names = " and ".join(self.states)
            raise TypeError(f"{names} must not be given where init_hidden=True: the layer keeps them itself")
        x = self._checked_step(x)
        shape = self._state_shape(x.shape)
        hidden = self._hidden
        if hidden is None or hidden[0].shape != shape:
            self._rest()
            hidden = tuple(np.zeros(shape, self.dtype) for _ in self.states)
        state = []
        for name, s, kept in zip(self.states, given, hidden, strict=True):
            s = kept if s is None else as_numbers(name, s, self.dtype)
            if s.shape not in ((), shape):
                raise ValueError(f"{name} must be {shape}, or one number; got {s.shape}")
            state.append(np.broadcast_to(s, shape).copy())
        made = tuple(array[0] for array in self._steps(x[None], *state))
        self._hidden = made[-len(state) :]
        return made[0] if self.init_hidden and not self.output else made

    def _sum(self, x: Array | None, y: Array | None) -> Any:
        """x + y of two arrays (T, B, N), or of (B, N) for T = 1; None is zero."""
        if x is None or y is None:
            one = y if x is None else x
            return None if one is None else one.reshape(-1, *one.shape[-2:])
        x, y = (array.reshape(-1, *array.shape[-2:]) for array in (x, y))
        total = self._work.empty("sum", x.shape, self.dtype)
        self._kernels.add(x, y, total)
        return total

    def _row(self, name: str, shape: tuple[int, ...], clipped: bool = False) -> Array:
        """A parameter as one number for each neuron, (N,); of one that does not learn, made once."""
        parameter = self._parameters[name]
        if name in self._rows and self._rows[name][0] == shape:
            return self._rows[name][1]
        row: Array = self._work.empty(name, (math.prod(shape),), self.dtype)
        self._kernels.spread(parameter.value, shape, row, clipped)
        if parameter.gradient is None:
            self._rows[name] = shape, row
        return row

    def _assign(self, state: dict[str, Array]) -> None:
        super()._assign(state)
        self._rows = {}

    def _forget(self) -> None:
        super()._forget()
        self._rows = {}
        self._hidden, self._start, self._later = None, (), ()

    def _rest(self) -> None:
        """Forget what a feedback's layers carry."""

    def _end(self) -> tuple[Array | None, ...]:
        """The state after the last step of a run, for one that goes on there."""
        raise NotImplementedError

    def _checked_step(self, x: npt.ArrayLike) -> Array:
        """The input of one step, of a sample or of a batch of them."""
        x = as_numbers("x", x, self.dtype)
        want = self.in_shape
        if want is not None and (x.shape[-len(want) :] != want or x.ndim > len(want) + 1):
            raise ValueError(f"x must be {want}, or have a batch axis before; got {x.shape}")
        if not 1 <= x.ndim <= 4 or 0 in x.shape:
            raise ValueError(f"x must be (N,) or (C, H, W), or have a batch axis before, none empty; got {x.shape}")
        return x

    def reset_mem(self) -> Any:
        """Forget the state of the last call: the next one without a state begins at rest. Returns it: zeros."""
        self._hidden = None
        rest = tuple(np.zeros((), self.dtype) for _ in self.states)
        return rest if len(rest) > 1 else rest[0]

    def firing_rate(self) -> float:
        """The share of neurons and steps that spiked in the last forward pass, in [0, 1].

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        """
        if not self._tape:
            raise RuntimeError("firing_rate needs a forward pass before it")
        return int(self._kernels.to_host(self._counts()).sum()) / self._places

    @property
    def _places(self) -> int:
        """How many neurons there were at all steps and samples of the last forward pass."""
        steps, batch, neurons = self._tape["mem"].shape
        return int(self._tape.get("steps", steps) * batch * neurons)

    def _counts(self) -> Array:
        """How many spikes there were in the last forward pass, of each sample, or of each in each window."""
        if "counts" in self._tape:
            kept: Array = self._tape["counts"]
            return kept
        bits = self._tape["spikes"].bits
        counts: Array = self._work.empty("counts", bits.shape[1:2], np.int64)
        self._kernels.count_bits(bits, counts)
        return counts

    @property
    def mem(self) -> Array:
        """The membranes (T, B, ...) of the last forward pass.

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        """
        if not self._tape:
            raise RuntimeError("mem needs a forward pass before it")
        mem: Array = self._tape["mem"]
        return mem.reshape(*mem.shape[:2], *self._tape["shape"])

    def _learn(self, name: str, partial: str, add: bool, clipped: bool = False) -> None:
        """The gradient of a parameter, if it learns, from an array (blocks, N) of the tape or a list; None: it is 0."""
        parameter = self._parameters[name]
        if parameter.gradient is None:
            return
        found = self._tape[partial]
        if found is not None:
            for each in found if isinstance(found, list) else [found]:
                shape = self._tape["shape"]
                self._kernels.sum_shared(each, shape, parameter.value, clipped, add, parameter.gradient)
                add = True
        elif not add:
            self._kernels.fill(parameter.gradient, self.dtype.type(0))


def check_numbers(name: str, value: npt.ArrayLike) -> Array:
    """A finite number, or an array of them, as float64."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name} must be a number or an array of numbers; got {value!r}") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got {value!r}")
    return array
