"""Leaky integrate-and-fire neurons without feedback; what they share with RLeaky is in neurons.py."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag
from ..kernels import rules
from ..quant import StateQuant
from ..surrogate import Surrogate
from .base import Array, Spikes
from .neurons import Neurons
from .spiking import RESETS, check_numbers


class Leaky(Neurons):
    """Leaky integrate-and-fire neurons.

    With membrane u, spike s, input current i, decay beta and threshold theta, by default:

        u[t] = beta u[t-1] + i[t] - theta H(u[t-1] - theta),        s[t] = g H(u[t] - theta)

    Parameters
    ----------
    beta : float or array                  decay of the membrane a step, clipped to [0, 1]
    threshold : float or array             theta
    spike_grad : Surrogate                 the surrogate gradient; default atan(alpha=2)
    surrogate_disable : bool               no gradient through the spike at all
    init_hidden : bool                     calls keep the membranes in the layer: spk = layer(x)
    inhibition : bool                      of each sample only the neuron with the largest u - theta may spike
    learn_beta, learn_threshold : bool     whether these are learnable
    reset_mechanism : str                  "subtract" theta after a spike, set to "zero", or "none"
    state_quant : StateQuant               of functional.quant: membranes held to its levels
    output : bool                          with init_hidden, calls give the membranes too
    reset_delay : bool                     reset at the step after the spike (True), or at the same
    graded_spikes_factor : float or array  g
    learn_graded_spikes_factor : bool      whether it is learnable
    dtype, seed : see Layer

    An array fits the neurons' shape: (N,), or (C, 1, 1) for one per channel. Unlike RLeaky's, the delayed reset to zero
    clears the old membrane only, not the new input. Named arrays: beta, threshold, graded_spikes_factor. Semantics and
    names of snnTorch 1.0's Leaky, which loses the factor g with inhibition. Source: Eshraghian et al. 2023,
    arXiv:2109.12894.

    Raises
    ------
    TypeError, ValueError
        if an argument is out of its range.

    >>> lif = Leaky(beta=0.5)
    >>> spk, mem = lif.forward(np.full((4, 1, 2), 0.75, np.float32))
    >>> mem[:, 0, 0]
    array([0.75   , 1.125  , 0.3125 , 0.90625], dtype=float32)

    Step by step, as in snnTorch:

    >>> mem = lif.init_leaky()
    >>> for step in range(4):
    ...     spk, mem = lif(np.full(2, 0.75), mem)
    >>> mem
    array([0.90625, 0.90625], dtype=float32)
    """

    states = ("mem",)
    resets = RESETS | {"zero": rules.CLEAR}

    def __init__(
        self,
        beta: npt.ArrayLike,
        *,
        threshold: npt.ArrayLike = 1.0,
        spike_grad: Surrogate | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        reset_mechanism: str = "subtract",
        state_quant: StateQuant | bool = False,
        output: bool = False,
        reset_delay: bool = True,
        graded_spikes_factor: npt.ArrayLike = 1.0,
        learn_graded_spikes_factor: bool = False,
        dtype: npt.DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            beta,
            threshold,
            spike_grad,
            surrogate_disable,
            init_hidden,
            inhibition,
            learn_beta,
            learn_threshold,
            reset_mechanism,
            state_quant,
            output,
            reset_delay,
            dtype,
            seed,
        )
        self._graded_spikes_factor = check_numbers("graded_spikes_factor", graded_spikes_factor)
        self.learn_graded_spikes_factor = check_flag("learn_graded_spikes_factor", learn_graded_spikes_factor)
        self._ungraded: bool | None = None  # whether the factor is 1 for all; None: not looked at yet

    def __repr__(self) -> str:
        return f"Leaky(beta={self._beta.tolist()})"

    @property
    def config(self) -> dict[str, Any]:
        return super().config | {
            "graded_spikes_factor": self._graded_spikes_factor.tolist(),
            "learn_graded_spikes_factor": self.learn_graded_spikes_factor,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        graded = self._graded_spikes_factor, self.learn_graded_spikes_factor
        return super()._draw(rng) | {"graded_spikes_factor": graded}

    def _per_neuron(self) -> dict[str, Array]:
        return super()._per_neuron() | {"graded_spikes_factor": self._graded_spikes_factor}

    def forward(self, current: Array, mem0: Array | None = None) -> tuple[Array, Array]:
        """Spikes and membranes at all steps.

        Parameters
        ----------
        current : (T, B, N) or (T, B, C, H, W); or the same without B
        mem0 : shaped as a step of current       the membranes before the first step; default: zeros

        Returns
        -------
        spk, mem : shaped as current

        Raises
        ------
        TypeError, ValueError
            if an argument is not an array of the layer's dtype and such a shape.
        """
        return self._forward(current, None, mem0)

    def __call__(self, x: npt.ArrayLike, mem: npt.ArrayLike | None = None) -> Any:
        """One step: spikes and membranes, shaped as x; with init_hidden the spikes, and the membranes if output.

        x is (N,) or (C, H, W), or has a batch axis before these; numbers of another type are converted. mem are the
        membranes of the step before; left out, those that the last call left, or zeros where they have another shape.

        Raises
        ------
        TypeError, ValueError
            if mem is given to a layer with init_hidden, or an argument has another shape.
        """
        return self._call(x, mem)

    def init_leaky(self) -> Array:
        """Membranes before the first step: a zero that fits any shape; reset_mem by snnTorch's older name."""
        mem: Array = self.reset_mem()
        return mem

    def _steps(self, x: Array, *state: Array) -> tuple[Array, ...]:
        return self._forward(x, None, *state)

    def _end(self) -> tuple[Array | None, ...]:
        return None, self._tape["mem"][-1]  # nothing feeds back

    def _assign(self, state: dict[str, Array]) -> None:
        super()._assign(state)
        self._ungraded = None

    def _graded(self) -> Array | None:
        """The factor of each neuron (N,), or None if it is 1 for all and is to stay so."""
        factor, shape = self._parameters["graded_spikes_factor"], self._tape["shape"]
        if factor.gradient is None:
            if self._ungraded is None:
                self._ungraded = bool((self._kernels.to_host(factor.value) == 1).all())
            if self._ungraded:
                return None
        return self._row("graded_spikes_factor", shape)

    def _outputs(self, spikes: Spikes) -> Array | Spikes:
        graded = self._tape["graded"] = self._graded()
        return spikes if graded is None else self._as_floats(spikes, graded)

    def _back_over_time(self, dspk: Array | None, dmem: Array | None, initial: bool) -> Array:
        graded = self._tape["graded"]
        if graded is None or dspk is None:
            self._tape["dgraded"] = None
        else:
            partial = self._partial("dgraded", self._blocks(dspk.shape[1]), dspk.shape[2])
            self._kernels.one_to_one_backward(None, self._tape["bits"][1:], dspk, partial, self._window.more)
            scaled = self._work.empty("scaled", dspk.shape, self.dtype)
            self._kernels.scale_neurons(dspk, graded, scaled)
            dspk = scaled
        return super()._back_over_time(dspk, dmem, initial)

    def _finish_back(self, add: bool = False) -> None:
        super()._finish_back(add)
        self._learn("graded_spikes_factor", "dgraded", add)
