"""Recurrent leaky integrate-and-fire neurons; what they share with Leaky is in neurons.py."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..surrogate import Surrogate
from .base import Array, check_size
from .linear import uniform
from .neurons import Neurons, check_numbers


class RLeaky(Neurons):
    """Recurrent leaky integrate-and-fire neurons: each step, the spikes of the step before are fed back.

    With membrane u, spike s, input current i, decay beta and threshold theta, by default:

        u[t] = beta u[t-1] + i[t] + rec(s[t-1]) - theta H(u[t-1] - theta),        s[t] = H(u[t] - theta)

    where rec(s) is V s, each neuron to itself, with all_to_all=False, or W s + b with linear_features.

    Parameters
    ----------
    beta : float or array                  decay of the membrane a step, clipped to [0, 1]
    V : float or array                     weight of the one-to-one feedback
    all_to_all : bool                      False: one-to-one feedback, for neurons of any shape
    linear_features : int                  the number of neurons N of a linear feedback; W is (N, N), b (N,)
    threshold : float or array             theta
    spike_grad : Surrogate                 the surrogate gradient; default atan(alpha=2)
    surrogate_disable : bool               no gradient through the spike at all
    learn_beta, learn_threshold : bool     whether these are learnable
    learn_recurrent : bool                 whether V, or W and b, are
    reset_mechanism : str                  "subtract" theta after a spike, set to "zero", or "none"
    reset_delay : bool                     reset at the step after the spike (True), or at the same
    dtype, seed : see Layer

    An array for beta, V or threshold fits the neurons' shape: (N,), or (C, 1, 1) for one per channel. Named arrays:
    beta, threshold, and V, or recurrent.weight (N, N) and recurrent.bias (N,), drawn from U(-k, k), k = 1/sqrt(N).
    Semantics and names of snnTorch 1.0's RLeaky. Source: Eshraghian et al. 2023, arXiv:2109.12894.

    Raises
    ------
    TypeError, ValueError
        if an argument is out of its range, or arguments contradict each other.

    >>> rlif = RLeaky(beta=0.9, linear_features=4, seed=0)
    >>> spk, mem = rlif.forward(np.full((10, 2, 4), 0.5, np.float32))
    >>> spk.shape, mem.shape
    ((10, 2, 4), (10, 2, 4))
    >>> dcurrent = rlif.backward(dspk=np.ones_like(spk))
    >>> sorted(rlif.gradients)
    ['recurrent.bias', 'recurrent.weight']

    Step by step, as in snnTorch:

    >>> rlif = RLeaky(beta=0.9, all_to_all=False)
    >>> spk, mem = rlif.init_rleaky()
    >>> for step in range(10):
    ...     spk, mem = rlif(np.full(4, 0.5), spk, mem)
    >>> spk.shape
    (4,)
    """

    def __init__(
        self,
        beta: npt.ArrayLike,
        V: npt.ArrayLike = 1.0,
        all_to_all: bool = True,
        linear_features: int | None = None,
        *,
        threshold: npt.ArrayLike = 1.0,
        spike_grad: Surrogate | None = None,
        surrogate_disable: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        learn_recurrent: bool = True,
        reset_mechanism: str = "subtract",
        reset_delay: bool = True,
        dtype: npt.DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            beta,
            threshold,
            spike_grad,
            surrogate_disable,
            learn_beta,
            learn_threshold,
            reset_mechanism,
            reset_delay,
            dtype,
            seed,
        )
        self.all_to_all = bool(all_to_all)
        self._V = check_numbers("V", V)
        if not all_to_all and linear_features is not None:
            raise ValueError(f"all_to_all=False and linear_features={linear_features} contradict each other")
        if all_to_all and linear_features is None:
            raise ValueError("linear_features must be given, or all_to_all=False; got neither")
        self.linear_features = None
        if linear_features is not None:
            self.linear_features = check_size("linear_features", linear_features)
            self.in_shape = (self.linear_features,)
            self.out_shape(self.in_shape)
        self.learn_recurrent = bool(learn_recurrent)

    def __repr__(self) -> str:
        feedback = f"linear_features={self.linear_features}" if self.all_to_all else "all_to_all=False"
        return f"RLeaky(beta={self._beta.tolist()}, {feedback})"

    @property
    def config(self) -> dict[str, Any]:
        return super().config | {
            "V": self._V.tolist(),
            "all_to_all": self.all_to_all,
            "linear_features": self.linear_features,
            "learn_recurrent": self.learn_recurrent,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        learn, n = self.learn_recurrent, self.linear_features
        if n is None:
            return super()._draw(rng) | {"V": (self._V, learn)}
        weight, bias = uniform(rng, (n, n), n), uniform(rng, (n,), n)
        return super()._draw(rng) | {"recurrent.weight": (weight, learn), "recurrent.bias": (bias, learn)}

    @property
    def V(self) -> Array:
        """The weight of the one-to-one feedback; setting it takes effect from the next step on.

        Raises
        ------
        AttributeError
            if the feedback is another.
        ValueError
            where it is set to what does not have its shape.
        """
        self._build()
        if "V" not in self._parameters:
            raise AttributeError(f"{self!r} has no V: its feedback is linear")
        return self._parameters["V"].value

    @V.setter
    def V(self, value: npt.ArrayLike) -> None:
        array, own = check_numbers("V", value), self.V
        if array.shape not in ((), own.shape):
            raise ValueError(f"V must be a number or have the shape {own.shape}; got {array.shape}")
        own[...] = array

    def _per_neuron(self) -> dict[str, Array]:
        return super()._per_neuron() | ({} if self.all_to_all else {"V": self._V})

    def forward(self, current: Array, spk0: Array | None = None, mem0: Array | None = None) -> tuple[Array, Array]:
        """Spikes and membranes at all steps.

        Parameters
        ----------
        current : (T, B, N) or (T, N); with all_to_all=False also (T, B, C, H, W) or (T, C, H, W)
        spk0, mem0 : shaped as a step of current       the state before the first step; default: zeros

        Returns
        -------
        spk, mem : shaped as current

        Raises
        ------
        TypeError, ValueError
            if an argument is not an array of the layer's dtype and such a shape.
        """
        return self._forward(current, spk0, mem0)

    def __call__(self, x: npt.ArrayLike, spk: npt.ArrayLike, mem: npt.ArrayLike) -> tuple[Array, Array]:
        """One step, from the state of the step before: spikes and membranes, shaped as x.

        x is (N,) or (C, H, W), or has a batch axis before these; numbers of another type are converted.
        """
        return self._call(x, spk, mem)

    def init_rleaky(self) -> tuple[Array, Array]:
        """Spikes and membranes before the first step: zeros that fit any shape."""
        return np.zeros((), self.dtype), np.zeros((), self.dtype)

    def _feedback(self) -> tuple[Array | None, Array | None]:
        if self.all_to_all:
            return self._parameters["recurrent.weight"].value, self._parameters["recurrent.bias"].value
        shape = self._tape["shape"]
        row = self._work.empty("V", shape, self.dtype)
        row[...] = self._parameters["V"].value
        self._tape["V"] = row.reshape(-1)
        return self._tape["V"], None

    def _feedback_back(self) -> Array | None:
        weight: Array = self._tape["transposed" if self.all_to_all else "V"]
        return weight

    def _prepare_back(self, input_gradient: bool) -> None:
        if self.all_to_all:
            weight = self._parameters["recurrent.weight"].value
            self._tape["transposed"] = self._work.empty("transposed", weight.shape, self.dtype)
            self._kernels.transpose(weight, self._tape["transposed"])

    def _learn_weights(self) -> None:
        if not self.learn_recurrent:
            return
        bits, spk0, dcurrent = self._tape["bits"], self._tape["spk0"], self._tape["dcurrent"]
        if not self.all_to_all:
            partial = self._work.empty("dV", self._tape["dbeta"].shape, self.dtype)
            self._kernels.one_to_one_backward(spk0, bits, dcurrent, partial)
            self._tape["dV"] = partial
            return
        dweight, dbias = self._parameters["recurrent.weight"].gradient, self._parameters["recurrent.bias"].gradient
        first = 0
        if spk0 is not None:  # it need not be zeros and ones
            self._kernels.linear_backward(spk0[None], bits[:1], dcurrent[:1], dweight, dbias, False)
            first = 1
        self._kernels.linear_backward(None, bits[first:-1], dcurrent[first:], dweight, dbias, first > 0)

    def _finish_back(self) -> None:
        super()._finish_back()
        V = self._parameters.get("V")
        if V is not None and V.gradient is not None:
            V.gradient[...] = self._total("dV", V.value.shape)
