"""What leaky integrate-and-fire layers share: options, state, and the run over time forward and backward.

The equations are in kernels/rules.py, the time loops in kernels/cpu/lif.py.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels import rules
from ..surrogate import Surrogate, atan
from .base import Array, Layer, Spikes, check_array

RESETS = {"subtract": rules.SUBTRACT, "zero": rules.ZERO, "none": rules.NONE}


class Neurons(Layer):
    """Leaky integrate-and-fire neurons of a shape (N,) or (C, H, W); the arguments are those of Leaky and RLeaky."""

    resets = RESETS

    def __init__(
        self,
        beta: npt.ArrayLike,
        threshold: npt.ArrayLike,
        spike_grad: Surrogate | None,
        surrogate_disable: bool,
        learn_beta: bool,
        learn_threshold: bool,
        reset_mechanism: str,
        reset_delay: bool,
        dtype: npt.DTypeLike | None,
        seed: int | None,
    ) -> None:
        super().__init__(dtype, seed)
        self._beta = check_numbers("beta", beta)
        self._threshold = check_numbers("threshold", threshold)
        if spike_grad is not None and not isinstance(spike_grad, Surrogate):
            raise TypeError(f"spike_grad must be a surrogate, such as surrogate.atan(); got {spike_grad!r}")
        if spike_grad is not None and surrogate_disable:
            raise ValueError(f"spike_grad={spike_grad.name} and surrogate_disable=True contradict each other")
        if not isinstance(reset_mechanism, str) or reset_mechanism not in RESETS:
            raise ValueError(f"reset_mechanism must be one of {', '.join(RESETS)}; got {reset_mechanism!r}")
        self.spike_grad = spike_grad or atan()
        self.surrogate_disable = bool(surrogate_disable)
        self.learn_beta = bool(learn_beta)
        self.learn_threshold = bool(learn_threshold)
        self.reset_mechanism = reset_mechanism
        self.reset_delay = bool(reset_delay)
        self.dspk0: Array | None = None
        self.dmem0: Array | None = None

    @property
    def config(self) -> dict[str, Any]:
        surrogate = self.spike_grad
        if surrogate.function is not None:
            raise TypeError(f"spike_grad of {self!r} is a function, which cannot be written down; use one with a name")
        return {
            "layer": type(self).__name__,
            "beta": self._beta.tolist(),
            "threshold": self._threshold.tolist(),
            "spike_grad": {"name": surrogate.name, "a": surrogate.a, "b": surrogate.b},
            "surrogate_disable": self.surrogate_disable,
            "learn_beta": self.learn_beta,
            "learn_threshold": self.learn_threshold,
            "reset_mechanism": self.reset_mechanism,
            "reset_delay": self.reset_delay,
            "dtype": None if self._dtype is None else self._dtype.name,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        return {"beta": (self._beta, self.learn_beta), "threshold": (self._threshold, self.learn_threshold)}

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the neurons, which is that of their input."""
        super().out_shape(shape)
        if len(shape) not in (1, 3):
            raise ValueError(f"{self!r} takes inputs of a shape (N,) or (C, H, W); got {shape}")
        for name, array in self._per_neuron().items():
            try:
                fits = np.broadcast_shapes(array.shape, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"{name} of shape {array.shape} does not fit neurons of shape {shape}")
        return shape

    def _per_neuron(self) -> dict[str, Array]:
        """The arrays that may have a number for each neuron, or for some together, as they were given."""
        return {"beta": self._beta, "threshold": self._threshold}

    def _outputs(self, spikes: Spikes) -> Array | Spikes:
        """What the layer gives for its spikes."""
        return spikes

    def _feedback(self) -> tuple[Any, ...]:
        """Weight, bias, image and padded of the feedback, as lif_forward takes them."""
        return None, None, None, None

    def _feedback_back(self) -> tuple[Any, ...]:
        """Weight, image and padded of the feedback, as lif_backward takes them."""
        return None, None, None

    def _forward(self, current: Array, spk0: Array | None, mem0: Array | None) -> tuple[Array, Array]:
        """Spikes and membranes at all steps, from checked arrays; shapes as in forward of the layers."""
        self._build()
        if not isinstance(current, np.ndarray):
            raise TypeError(f"current must be a NumPy array; got {type(current).__name__}")
        batched = current.ndim in (3, 5)
        sample = self.in_shape or current.shape[1 + batched :]
        current = check_array("current", current, self.dtype, ("T", "B", *sample) if batched else ("T", *sample))
        shape, state = self.out_shape(sample), current.shape[1:]
        whole = (len(current), -1, *shape)
        given = {"spk0": spk0, "mem0": mem0}
        for name, x in given.items():
            given[name] = None if x is None else check_array(name, x, self.dtype, state).reshape(whole[1:])
        spikes, mem = self._over_time(current.reshape(whole), len(current), **given)
        self._tape["given shape"] = current.shape
        spk = self._as_floats(self._outputs(spikes))
        return spk.reshape(current.shape), mem.reshape(current.shape)

    def backward(self, dspk: Array | None = None, dmem: Array | None = None) -> Array:
        """dL/dcurrent from dL/dspk and dL/dmem, either of which may be left out; shapes as in forward.

        Fills gradients, and dspk0 and dmem0, the gradients of the initial state.

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        TypeError, ValueError
            if an argument is not an array of the layer's dtype and forward's shape.
        """
        if "given shape" not in self._tape:
            raise RuntimeError("backward needs a forward pass before it")
        shape, whole = self._tape["given shape"], self._tape["mem"].shape
        given = {"dspk": dspk, "dmem": dmem}
        for name, x in given.items():
            given[name] = None if x is None else check_array(name, x, self.dtype, shape).reshape(whole)
        self._prepare_back(True)
        dcurrent = self._back_over_time(**given, initial=True)
        self._learn_weights()
        self._finish_back()
        if self.dspk0 is not None and self.dmem0 is not None:
            self.dspk0, self.dmem0 = self.dspk0.reshape(shape[1:]), self.dmem0.reshape(shape[1:])
        return dcurrent.reshape(shape)

    def _call(self, x: npt.ArrayLike, spk: npt.ArrayLike, mem: npt.ArrayLike) -> tuple[Array, Array]:
        """One step: spikes and membranes, shaped as x, which is (N,) or (C, H, W), or has a batch axis before."""
        x = np.asarray(x, self.dtype)
        state = [np.broadcast_to(np.asarray(s, self.dtype), x.shape).copy() for s in (spk, mem)]
        spk, mem = self._forward(x[None], *state)
        return spk[0], mem[0]

    def firing_rate(self) -> float:
        """The share of neurons and steps that spiked in the last forward pass, in [0, 1].

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        """
        if not self._tape:
            raise RuntimeError("firing_rate needs a forward pass before it")
        bits = self._tape["bits"][1:]
        counts = self._work.empty("counts", bits.shape[1:2], np.int64)
        self._kernels.count_bits(bits, counts)
        spikes: int = counts.sum()
        return float(spikes / self._tape["mem"].size)

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

    def _run(self, x: Array | Spikes, steps: int) -> Array | Spikes:
        x = self._as_floats(x)
        spikes, _ = self._over_time(x, len(x) if len(x) > 1 else steps)
        return self._outputs(spikes)

    def _run_back(self, dy: Array | None, input_gradient: bool, dmem: Array | None = None) -> Array | None:
        tape = self._tape
        whole = tape["mem"].shape
        dspk, dmem = (None if d is None else d.reshape(whole) for d in (dy, dmem))
        dcurrent = self._back_over_time(dspk, dmem, initial=False)
        if not input_gradient:
            return None
        if tape["still"]:
            total = self._work.empty("dcurrent sum", (1, *whole[1:]), self.dtype)
            self._kernels.sum_over_time(dcurrent, total[0])
            dcurrent = total
        return dcurrent.reshape(len(dcurrent), whole[1], *tape["shape"])

    def _over_time(
        self, current: Array, steps: int, spk0: Array | None = None, mem0: Array | None = None
    ) -> tuple[Spikes, Array]:
        """All steps of current (T or 1, B, *shape): the spikes, and the membranes (T, B, *shape)."""
        self._build()
        self._tape = {}  # lets go of its arrays
        batch, shape = current.shape[1], current.shape[2:]
        n = math.prod(shape)
        work, dtype, kernels = self._work, self.dtype, self._kernels
        mem = work.empty("mem", (steps, batch, n), dtype)
        potential = mem if self.reset_delay else work.empty("potential", mem.shape, dtype)
        bits = work.empty("spk", (steps + 1, batch, kernels.num_words(n)), np.uint64)
        together = kernels.rows_together(n)
        beta, threshold = (work.empty(name, (together * n,), dtype) for name in ("beta", "threshold"))
        np.maximum(self._parameters["beta"].value, 0, out=beta.reshape(together, *shape))
        np.minimum(beta, 1, out=beta)
        threshold.reshape(together, *shape)[:] = self._parameters["threshold"].value
        still, zeros = len(current) < steps, work.zeros((batch, n), dtype)
        spk0, mem0 = (None if x is None else x.reshape(batch, n) for x in (spk0, mem0))
        self._tape = {
            "shape": shape,
            "mem": mem,
            "potential": potential,
            "bits": bits,
            "beta": beta,
            "threshold": threshold,
            "spk0": spk0,
            "mem0": zeros if mem0 is None else mem0,
            "still": still,
        }
        kernels.lif_forward(
            current.reshape(len(current), batch, n),
            *self._feedback(),
            beta,
            threshold,
            zeros if spk0 is None else spk0,
            self._tape["mem0"],
            self.resets[self.reset_mechanism],
            self.reset_delay,
            mem,
            potential,
            bits,
        )
        return Spikes(bits[1:], shape), mem.reshape(steps, batch, *shape)

    def _back_over_time(self, dspk: Array | None, dmem: Array | None, initial: bool) -> Array:
        """dL/dcurrent (T, B, N) at every step from arrays like it, and, if wanted, dspk0 and dmem0."""
        tape, work, dtype = self._tape, self._work, self.dtype
        self.dspk0 = self.dmem0 = None
        tape.pop("dcurrent", None)
        steps, batch, n = tape["mem"].shape
        partial = -(-batch // self._kernels.BLOCK), n
        dbeta, dthreshold = work.empty("dbeta", partial, dtype), work.empty("dthreshold", partial, dtype)
        dcurrent = work.empty("dcurrent", (steps, batch, n), dtype)
        dspk0, dmem0 = work.empty("dspk0", (batch, n), dtype), work.empty("dmem0", (batch, n), dtype)
        tape |= {"dbeta": dbeta, "dthreshold": dthreshold, "dcurrent": dcurrent}
        none = work.zeros((1, len(tape["beta"]) // n, n), dtype)
        function = self.spike_grad.function
        backward = self._kernels.lif_backward if function is None else self._kernels.lif_backward_with(function)
        backward(
            none if dspk is None else dspk,
            none if dmem is None else dmem,
            *self._feedback_back(),
            tape["beta"],
            tape["threshold"],
            tape["mem0"],
            tape["mem"],
            tape["potential"],
            rules.NO_GRADIENT if self.surrogate_disable else self.spike_grad.kind,
            dtype.type(self.spike_grad.a),
            dtype.type(self.spike_grad.b),
            self.resets[self.reset_mechanism],
            self.reset_delay,
            self.learn_beta or self.learn_threshold,
            initial,
            dcurrent,
            dspk0,
            dmem0,
            dbeta,
            dthreshold,
        )
        if initial:
            self.dspk0, self.dmem0 = dspk0, dmem0
        return dcurrent

    def _finish_back(self, add: bool = False) -> None:
        beta = self._parameters["beta"]
        self._learn("beta", "dbeta", add, (beta.value >= 0) & (beta.value <= 1))
        self._learn("threshold", "dthreshold", add)

    def _learn(self, name: str, partial: str, add: bool, factor: Array | int = 1) -> None:
        """The gradient of a parameter, if it learns: the total of an array of the tape times a factor."""
        parameter = self._parameters[name]
        if parameter.gradient is not None:
            if not add:
                parameter.gradient[...] = 0
            if self._tape[partial] is not None:
                parameter.gradient += self._total(partial, parameter.value.shape) * factor

    def _total(self, name: str, shape: tuple[int, ...]) -> Array:
        """The sum of an array (blocks, N) of the tape over blocks, and over the neurons that share a parameter."""
        total: Array = self._tape[name].sum(axis=0).reshape(self._tape["shape"])
        total = np.asarray(total.sum(axis=tuple(range(total.ndim - len(shape)))))
        shared = tuple(k for k, size in enumerate(shape) if size == 1)
        return np.asarray(total.sum(axis=shared, keepdims=True)).reshape(shape)


def check_numbers(name: str, value: npt.ArrayLike) -> Array:
    """A finite number, or an array of them, as float64."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or an array of numbers; got {value!r}") from None
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got {value!r}")
    return array
