"""What leaky integrate-and-fire layers share: options, and the run over time forward and backward.

The equations are in kernels/rules.py, the time loops in kernels/cpu/lif.py.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag
from ..kernels import rules
from ..quant import StateQuant
from ..surrogate import Surrogate
from .base import Array, Spikes
from .spiking import Spiking, check_numbers


class Neurons(Spiking):
    """Leaky integrate-and-fire neurons of a shape (N,) or (C, H, W); the arguments are those of Leaky and RLeaky."""

    results = "dspk0", "dmem0"

    def __init__(
        self,
        beta: npt.ArrayLike,
        threshold: npt.ArrayLike,
        spike_grad: Surrogate | None,
        surrogate_disable: bool,
        init_hidden: bool,
        inhibition: bool,
        learn_beta: bool,
        learn_threshold: bool,
        reset_mechanism: str,
        state_quant: StateQuant | bool,
        output: bool,
        reset_delay: bool,
        dtype: npt.DTypeLike | None,
        seed: int | None,
    ) -> None:
        super().__init__(
            threshold,
            spike_grad,
            surrogate_disable,
            init_hidden,
            inhibition,
            learn_threshold,
            reset_mechanism,
            state_quant,
            output,
            dtype,
            seed,
        )
        self._beta = check_numbers("beta", beta)
        self.learn_beta = check_flag("learn_beta", learn_beta)
        self.reset_delay = check_flag("reset_delay", reset_delay)
        self._shape: tuple[int, ...] | None = None  # of the neurons, when it was last known
        self.dspk0: Array | None = None
        self.dmem0: Array | None = None

    @property
    def config(self) -> dict[str, Any]:
        return super().config | {
            "beta": self._beta.tolist(),
            "learn_beta": self.learn_beta,
            "reset_delay": self.reset_delay,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        return {"beta": (self._beta, self.learn_beta)} | super()._draw(rng)

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the neurons, which is that of their input."""
        super().out_shape(shape)
        if len(shape) not in (1, 3):
            raise ValueError(f"{self!r} takes inputs of a shape (N,) or (C, H, W); got {shape}")
        self._fits(self._per_neuron(), shape)
        self._shape = shape
        return shape

    def _per_neuron(self) -> dict[str, Array]:
        """The arrays that may have a number for each neuron, or for some together, as they were given."""
        return {"beta": self._beta, "threshold": self._threshold}

    def _outputs(self, spikes: Spikes) -> Array | Spikes:
        """What the layer gives for its spikes."""
        return spikes

    def _forward(self, current: Array, spk0: Array | None, mem0: Array | None) -> tuple[Array, Array]:
        """Spikes and membranes at all steps, from checked arrays; shapes as in forward of the layers."""
        self._build()
        current = self._kernels.as_array("current", current)
        if self.in_shape is None and not 2 <= current.ndim <= 5:
            raise ValueError(f"current must be (T, B, N) or (T, B, C, H, W), or without B; got {current.shape}")
        batched = current.ndim in (3, 5)
        sample = self.in_shape or current.shape[1 + batched :]
        leading = ("T", "B") if batched else ("T",)
        current = self._checked("current", current, *leading, *sample)
        shape, state = self.out_shape(sample), current.shape[1:]
        whole = (len(current), -1, *shape)
        given = {"spk0": spk0, "mem0": mem0}
        for name, x in given.items():
            given[name] = None if x is None else self._checked(name, x, *state).reshape(whole[1:])
        with self._kernels.team.together():  # over samples
            spikes, mem = self._over_time(current.reshape(whole), len(current), **given)
            spk = self._as_floats(self._outputs(spikes))
        self._tape["given shape"] = current.shape
        return spk.reshape(current.shape), mem.reshape(current.shape)

    def backward(self, dspk: Array | None = None, dmem: Array | None = None) -> Array:
        """dL/dcurrent from dL/dspk and dL/dmem, either of which may be left out; shapes as in forward.

        Fills gradients, and dspk0 and dmem0, the gradients of the initial state. A call of one step is a run of T = 1.

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
            given[name] = None if x is None else self._checked(name, x, *shape).reshape(whole)
        self._prepare_back(True)
        dcurrent = self._back_over_time(**given, initial=True)
        self._learn_weights()
        self._finish_back()
        if self.dspk0 is not None and self.dmem0 is not None:
            self.dspk0, self.dmem0 = self.dspk0.reshape(shape[1:]), self.dmem0.reshape(shape[1:])
        return dcurrent.reshape(shape)

    def _run(self, x: Array | Spikes, steps: int) -> Array | Spikes:
        x = self._as_floats(x)
        start, self._start = self._start, ()
        if not start:
            self._rest()
        bits, mem0 = start or (None, None)
        spk0 = None if bits is None else self._as_floats(Spikes(bits.reshape(1, *bits.shape), x.shape[2:]))
        spikes, _ = self._over_time(x, len(x) if len(x) > 1 else steps, spk0, mem0)
        self._tape["spk0"] = None  # of a state that a run left: its spikes are in the bits
        if self._chained:
            self._start = self._end()
        return self._outputs(spikes)

    def _run_back(self, dy: Array | None, input_gradient: bool, dmem: Array | None = None) -> Array | None:
        tape = self._tape
        whole = tape["mem"].shape
        dspk, dmem = (None if d is None else d.reshape(whole) for d in (dy, dmem))
        if self._later and not self._window.more:  # of a run of one step
            dspk, dmem = self._sum(dspk, self._later[0]), self._sum(dmem, self._later[1])
        dcurrent = self._back_over_time(dspk, dmem, initial=self._chained)
        self._later = (self.dspk0, self.dmem0) if self._chained else ()
        if not input_gradient:
            return None
        if tape["still"] or self._window.still:
            total = self._partial("total", 1, *whole[1:])
            self._kernels.sum_over_time(dcurrent, total[0], self._window.more)
            dcurrent = total
        return dcurrent.reshape(len(dcurrent), whole[1], *tape["shape"])

    def _end(self) -> tuple[Array | None, ...]:
        """The state after the last step, of a run that goes on there: the bits of spk0, and mem0."""
        return self._tape["bits"][-1], self._tape["mem"][-1]

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
        bits = work.empty("spk", (steps + 1, batch, kernels.num_words(n)), np.uint64)
        beta = self._row("beta", shape, clipped=True)
        threshold = self._row("threshold", shape)
        zeros = work.zeros((batch, n), dtype)
        spk0, mem0 = (None if x is None else x.reshape(batch, n) for x in (spk0, mem0))
        winner = self._blocks(batch), n
        self._tape = {
            "shape": shape,
            "mem": mem,
            "potential": mem if self.reset_delay else work.empty("potential", mem.shape, dtype),
            "bits": bits,
            "spikes": Spikes(bits[1:], shape),
            "beta": beta,
            "threshold": threshold,
            "levels": self._levels(),
            "winner": work.empty("winner", winner, dtype) if self.inhibition else None,
            "spk0": spk0,
            "mem0": zeros if mem0 is None else mem0,
            "still": len(current) < steps,
        }
        self._lif_forward(current.reshape(len(current), batch, n), zeros if spk0 is None else spk0)
        return self._tape["spikes"], mem.reshape(steps, batch, *shape)

    def _lif_forward(self, current: Array, spk0: Array) -> None:
        """Write mem, potential and bits of the tape, from current (T or 1, B, N)."""
        self._kernel_forward(current, (None, None, None, None), spk0, slice(None))

    def _kernel_forward(self, current: Array, feedback: tuple[Any, ...], spk0: Array, steps: slice) -> None:
        """Run lif_forward over some of the steps; feedback: weight, bias, window and room."""
        tape = self._tape
        begin, end, _ = steps.indices(len(tape["mem"]))
        self._kernels.lif_forward(
            current,
            *feedback,
            tape["beta"],
            tape["threshold"],
            tape["levels"],
            tape["winner"],
            spk0,
            tape["mem"][begin - 1] if begin else tape["mem0"],
            self.resets[self.reset_mechanism],
            self.reset_delay,
            tape["mem"][begin:end],
            tape["potential"][begin:end],
            tape["bits"][begin : end + 1],
        )

    def _back_over_time(self, dspk: Array | None, dmem: Array | None, initial: bool) -> Array:
        """dL/dcurrent (T, B, N) at every step from arrays like it, and, if wanted, dspk0 and dmem0."""
        tape = self._tape
        self.dspk0 = self.dmem0 = None
        steps, batch, n = tape["mem"].shape
        tape.pop("dcurrent", None)
        whole = self._partial("back", self._window.longest + 1 if self._window.longest else steps, batch, n)
        if self._window.more:
            self._kernels.copy(whole[:1], whole[-1:])  # the step after the last
        tape["dcurrent"] = whole[:steps]
        dspk0, dmem0 = self._lif_backward(dspk, dmem, initial)
        if initial:
            self.dspk0, self.dmem0 = dspk0, dmem0
        dcurrent: Array = tape["dcurrent"]
        return dcurrent

    def _lif_backward(self, dspk: Array | None, dmem: Array | None, initial: bool) -> tuple[Array | None, Array]:
        """Write dcurrent, dbeta and dthreshold of the tape, from dspk and dmem (T, B, N); give dspk0 and dmem0."""
        return self._whole_backward(dspk, dmem, (None, None, None), initial)

    def _whole_backward(
        self, dspk: Array | None, dmem: Array | None, feedback: tuple[Any, ...], initial: bool
    ) -> tuple[Array, Array]:
        """_lif_backward in one call."""
        batch, n = self._tape["mem"].shape[1:]
        partial = self._blocks(batch), n
        dspk0, dmem0 = self._partial("dspk0", batch, n), self._work.empty("dmem0", (batch, n), self.dtype)
        learned = self._partial("dbeta", *partial), self._partial("dthreshold", *partial)
        self._kernel_backward(dspk, dmem, feedback, initial, slice(None), dspk0, dmem0, *learned)
        return dspk0, dmem0

    def _kernel_backward(
        self,
        dspk: Array | None,
        dmem: Array | None,
        feedback: tuple[Any, ...],
        initial: bool,
        steps: slice,
        dspk0: Array,
        dmem0: Array,
        dbeta: Array,
        dthreshold: Array,
    ) -> None:
        """Run lif_backward over some of the steps; feedback: weight, window and room."""
        tape, dtype = self._tape, self.dtype
        begin, end, _ = steps.indices(len(tape["mem"]))
        function = self.spike_grad.function
        backward = self._kernels.lif_backward if function is None else self._kernels.lif_backward_with(function)
        none = self._work.zeros((1, 1, tape["mem"].shape[2]), dtype)
        dV = tape.get("dV")
        backward(
            none if dspk is None else dspk,
            none if dmem is None else dmem,
            *feedback,
            tape["beta"],
            tape["threshold"],
            tape["winner"],
            None if dV is None else tape["spk0"],
            tape["mem"][begin - 1] if begin else tape["mem0"],
            tape["mem"][begin:end],
            tape["potential"][begin:end],
            tape["bits"][begin : end + 1],
            rules.NO_GRADIENT if self.surrogate_disable else self.spike_grad.kind,
            dtype.type(self.spike_grad.a),
            dtype.type(self.spike_grad.b),
            self.resets[self.reset_mechanism],
            self.reset_delay,
            self._more + rules.WANTED * (self.learn_beta or self.learn_threshold),
            initial,
            tape["back"][begin : end + (self._more > 0)],
            dspk0,
            dmem0,
            dbeta,
            dthreshold,
            dV,
        )

    def _finish_back(self, add: bool = False) -> None:
        self._learn("beta", "dbeta", add, clipped=True)
        self._learn("threshold", "dthreshold", add)
