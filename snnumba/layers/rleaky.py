"""Recurrent leaky integrate-and-fire neurons: equations in kernels/rules.py, time loops in kernels/cpu/lif.py."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..kernels import rules
from ..surrogate import Surrogate, atan
from .base import Array, Layer, Spikes, check_array, check_size
from .linear import uniform

RESETS = {"subtract": rules.SUBTRACT, "zero": rules.ZERO, "none": rules.NONE}


class RLeaky(Layer):
    """Recurrent leaky integrate-and-fire neurons, their spikes fed back through a linear layer.

    With membrane u, spike s, input current i, decay beta and threshold theta, by default:

        u[t] = beta u[t-1] + i[t] + W s[t-1] + b - theta H(u[t-1] - theta),        s[t] = H(u[t] - theta)

    Parameters
    ----------
    beta : float or array                  decay of the membrane a step, clipped to [0, 1]; an array: one per neuron
    linear_features : int                  the number of neurons N; W is (N, N), b (N,)
    threshold : float or array             theta
    spike_grad : Surrogate                 the surrogate gradient; default atan(alpha=2)
    learn_beta, learn_threshold : bool     whether these are learnable
    learn_recurrent : bool                 whether W and b are
    reset_mechanism : str                  "subtract" theta after a spike, set to "zero", or "none"
    reset_delay : bool                     reset at the step after the spike (True), or at the same
    dtype, seed : see Layer

    Named arrays: beta, threshold, recurrent.weight (N, N), recurrent.bias (N,); W and b are drawn from U(-k, k),
    k = 1/sqrt(N). Semantics and names of snnTorch 1.0's RLeaky. Source: Eshraghian et al. 2023, arXiv:2109.12894.

    >>> rlif = RLeaky(beta=0.9, linear_features=4, seed=0)
    >>> spk, mem = rlif.forward(np.full((10, 2, 4), 0.5, np.float32))
    >>> spk.shape, mem.shape
    ((10, 2, 4), (10, 2, 4))
    >>> dcurrent = rlif.backward(dspk=np.ones_like(spk))
    >>> sorted(rlif.gradients)
    ['recurrent.bias', 'recurrent.weight']
    """

    def __init__(
        self,
        beta: npt.ArrayLike,
        *,
        linear_features: int,
        threshold: npt.ArrayLike = 1.0,
        spike_grad: Surrogate | None = None,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        learn_recurrent: bool = True,
        reset_mechanism: str = "subtract",
        reset_delay: bool = True,
        dtype: npt.DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(dtype, seed)
        self.in_features = self.out_features = check_size("linear_features", linear_features)
        self._beta = _per_neuron("beta", beta, self.in_features)
        self._threshold = _per_neuron("threshold", threshold, self.in_features)
        if spike_grad is not None and not isinstance(spike_grad, Surrogate):
            raise TypeError(f"spike_grad must be a surrogate, such as surrogate.atan(); got {spike_grad!r}")
        if reset_mechanism not in RESETS:
            raise ValueError(f"reset_mechanism must be one of {', '.join(RESETS)}; got {reset_mechanism!r}")
        self.spike_grad = spike_grad or atan()
        self.learn_beta = bool(learn_beta)
        self.learn_threshold = bool(learn_threshold)
        self.learn_recurrent = bool(learn_recurrent)
        self.reset_mechanism = reset_mechanism
        self.reset_delay = bool(reset_delay)
        self.dspk0: Array | None = None
        self.dmem0: Array | None = None
        self._tape: dict[str, Any] = {}  # what forward leaves for backward

    def __repr__(self) -> str:
        return f"RLeaky(beta={self._beta.tolist()}, linear_features={self.in_features})"

    @property
    def config(self) -> dict[str, Any]:
        """What rebuilds the layer but for its arrays, fit for JSON."""
        surrogate = self.spike_grad
        return {
            "layer": "RLeaky",
            "beta": self._beta.tolist(),
            "linear_features": self.in_features,
            "threshold": self._threshold.tolist(),
            "spike_grad": {"name": surrogate.name, "a": surrogate.a, "b": surrogate.b},
            "learn_beta": self.learn_beta,
            "learn_threshold": self.learn_threshold,
            "learn_recurrent": self.learn_recurrent,
            "reset_mechanism": self.reset_mechanism,
            "reset_delay": self.reset_delay,
            "dtype": None if self._dtype is None else self._dtype.name,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        n = self.in_features
        return {
            "beta": (self._beta, self.learn_beta),
            "threshold": (self._threshold, self.learn_threshold),
            "recurrent.weight": (uniform(rng, (n, n), n), self.learn_recurrent),
            "recurrent.bias": (uniform(rng, (n,), n), self.learn_recurrent),
        }

    def forward(self, current: Array, spk0: Array | None = None, mem0: Array | None = None) -> tuple[Array, Array]:
        """Spikes and membranes at all steps.

        Parameters
        ----------
        current : (T, B, N) or (T, N)
        spk0, mem0 : (B, N) or (N,)       the state before the first step; default: zeros

        Returns
        -------
        spk, mem : shaped as current

        Raises
        ------
        TypeError, ValueError
            if an argument is not an array of the layer's dtype and such a shape.
        """
        batched = np.ndim(current) != 2
        current = check_array(
            "current", current, self.dtype, ("T", "B", self.in_features) if batched else ("T", self.in_features)
        )
        shape = current.shape[1:]
        spk0 = None if spk0 is None else check_array("spk0", spk0, self.dtype, shape)
        mem0 = None if mem0 is None else check_array("mem0", mem0, self.dtype, shape)
        whole = current.reshape(len(current), -1, self.in_features)
        batch = whole.shape[1:]
        spikes, mem = self._over_time(
            whole,
            len(whole),
            None if spk0 is None else spk0.reshape(batch),
            None if mem0 is None else mem0.reshape(batch),
        )
        self._tape["shape"] = current.shape
        return self._unpacked(spikes).reshape(current.shape), mem.reshape(current.shape)

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
        if "shape" not in self._tape:
            raise RuntimeError("backward needs a forward pass before it")
        shape = self._tape["shape"]
        given = {}
        for name, d in (("dspk", dspk), ("dmem", dmem)):
            given[name] = None if d is None else check_array(name, d, self.dtype, shape)
        whole = self._tape["mem"].shape
        self._prepare_back(True)
        dcurrent = self._back_over_time(
            **{name: None if d is None else d.reshape(whole) for name, d in given.items()}, initial=True
        )
        self._learn_weights()
        self._finish_back()
        if self.dspk0 is not None and self.dmem0 is not None and len(shape) == 2:
            self.dspk0, self.dmem0 = self.dspk0[0], self.dmem0[0]
        return dcurrent.reshape(shape)

    def _run(self, x: Array | Spikes, steps: int) -> Spikes:
        assert isinstance(x, np.ndarray)
        spikes, _ = self._over_time(x, len(x) if len(x) > 1 else steps)
        return spikes

    def _run_back(self, dy: Array | None, input_gradient: bool, dmem: Array | None = None) -> Array | None:
        dcurrent = self._back_over_time(dy, dmem, initial=False)
        if not input_gradient:
            return None
        if not self._tape["still"]:
            return dcurrent
        total = self._work.empty("dcurrent sum", (1, *dcurrent.shape[1:]), self.dtype)
        self._kernels.sum_over_time(dcurrent, total[0])
        return total

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
        return float(counts.sum()) / (len(bits) * len(counts) * self.in_features)

    @property
    def mem(self) -> Array:
        """The membranes (T, B, N) of the last forward pass.

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        """
        if not self._tape:
            raise RuntimeError("mem needs a forward pass before it")
        mem: Array = self._tape["mem"]
        return mem

    def _over_time(
        self, current: Array, steps: int, spk0: Array | None = None, mem0: Array | None = None
    ) -> tuple[Spikes, Array]:
        """All steps of current (T or 1, B, N)."""
        self._build()
        self._tape = {}  # lets go of its arrays
        batch, n = current.shape[1:]
        work, dtype = self._work, self.dtype
        mem = work.empty("mem", (steps, batch, n), dtype)
        potential = mem if self.reset_delay else work.empty("potential", mem.shape, dtype)
        bits = work.empty("spk", (steps + 1, batch, self._kernels.num_words(n)), np.uint64)
        together = self._kernels.rows_together(n)
        beta, threshold = (work.empty(name, (together * n,), dtype) for name in ("beta", "threshold"))
        np.maximum(self._parameters["beta"].value, 0, out=beta.reshape(together, n))
        np.minimum(beta, 1, out=beta)
        threshold.reshape(together, n)[:] = self._parameters["threshold"].value
        mem0 = work.zeros((batch, n), dtype) if mem0 is None else mem0
        self._kernels.rleaky_linear_forward(
            current,
            self._parameters["recurrent.weight"].value,
            self._parameters["recurrent.bias"].value,
            beta,
            threshold,
            work.zeros((batch, n), dtype) if spk0 is None else spk0,
            mem0,
            RESETS[self.reset_mechanism],
            self.reset_delay,
            mem,
            potential,
            bits,
        )
        self._tape = {
            "mem": mem,
            "potential": potential,
            "bits": bits,
            "beta": beta,
            "threshold": threshold,
            "spk0": spk0,
            "mem0": mem0,
            "still": len(current) < steps,
        }
        return Spikes(bits[1:], n), mem

    def _prepare_back(self, input_gradient: bool) -> None:
        weight = self._parameters["recurrent.weight"].value
        self._tape["transposed"] = self._work.empty("transposed", weight.shape, self.dtype)
        self._kernels.transpose(weight, self._tape["transposed"])

    def _back_over_time(self, dspk: Array | None, dmem: Array | None, initial: bool) -> Array:
        """dL/dcurrent at every step, and dspk0 and dmem0."""
        tape, work, dtype = self._tape, self._work, self.dtype
        self.dspk0 = self.dmem0 = None
        tape.pop("dcurrent", None)
        steps, batch, n = tape["mem"].shape
        partial = -(-batch // self._kernels.BLOCK), n
        tape["dbeta"], tape["dthreshold"] = (
            work.empty("dbeta", partial, dtype),
            work.empty("dthreshold", partial, dtype),
        )
        dcurrent = tape["dcurrent"] = work.empty("dcurrent", (steps, batch, n), dtype)
        dspk0, dmem0 = work.empty("dspk0", (batch, n), dtype), work.empty("dmem0", (batch, n), dtype)
        none = work.zeros((1, len(tape["beta"]) // n, n), dtype)
        self._kernels.rleaky_linear_backward(
            none if dspk is None else dspk,
            none if dmem is None else dmem,
            tape["transposed"],
            tape["beta"],
            tape["threshold"],
            tape["mem0"],
            tape["mem"],
            tape["potential"],
            self.spike_grad.kind,
            dtype.type(self.spike_grad.a),
            dtype.type(self.spike_grad.b),
            RESETS[self.reset_mechanism],
            self.reset_delay,
            self.learn_beta or self.learn_threshold,
            initial,
            dcurrent,
            dspk0,
            dmem0,
            tape["dbeta"],
            tape["dthreshold"],
        )
        if initial:
            self.dspk0, self.dmem0 = dspk0, dmem0
        return dcurrent

    def _learn_weights(self) -> None:
        weight, bias = self._parameters["recurrent.weight"], self._parameters["recurrent.bias"]
        if weight.gradient is None:
            return
        bits, spk0, dcurrent = self._tape["bits"], self._tape["spk0"], self._tape["dcurrent"]
        first = 0
        if spk0 is not None:  # it need not be zeros and ones
            self._kernels.linear_backward(spk0[None], bits[:1], dcurrent[:1], weight.gradient, bias.gradient, False)
            first = 1
        self._kernels.linear_backward(None, bits[first:-1], dcurrent[first:], weight.gradient, bias.gradient, first > 0)

    def _finish_back(self) -> None:
        beta, threshold = self._parameters["beta"], self._parameters["threshold"]
        if beta.gradient is not None:
            inside = (beta.value >= 0) & (beta.value <= 1)
            beta.gradient[...] = _sum_to(self._tape["dbeta"], beta.value.shape) * inside
        if threshold.gradient is not None:
            threshold.gradient[...] = _sum_to(self._tape["dthreshold"], threshold.value.shape)

    def _unpacked(self, spikes: Spikes) -> Array:
        """The spikes as zeros and ones (T, B, N)."""
        bits = spikes.bits
        spk = self._work.empty("float spk", (*bits.shape[:2], spikes.size), self.dtype)
        self._kernels.unpack(bits, spk)
        return spk


def _per_neuron(name: str, value: npt.ArrayLike, size: int) -> Array:
    """A finite number, or one per neuron, as float64."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or an array of {size}; got {value!r}") from None
    if array.shape not in ((), (1,), (size,)):
        raise ValueError(f"{name} must be a number or have the shape ({size},); got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got {value!r}")
    return array


def _sum_to(partial: Array, shape: tuple[int, ...]) -> Array:
    """The sum of partial (blocks, N) in the shape of a parameter: (), (1,) or (N,)."""
    per_neuron: Array = partial.sum(axis=0)
    return per_neuron if shape == per_neuron.shape else per_neuron.sum(keepdims=True).reshape(shape)
