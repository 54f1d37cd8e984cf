"""Recurrent leaky integrate-and-fire neurons; what they share with Leaky is in neurons.py."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag
from ..quant import StateQuant
from ..surrogate import Surrogate
from .base import Array, Layer, check_finite, check_size
from .feedback import Conv2dFeedback, Feedback, LayerFeedback, LinearFeedback, OneToOne
from .images import check_pair
from .neurons import Neurons
from .spiking import check_numbers


class RLeaky(Neurons):
    """Recurrent leaky integrate-and-fire neurons: each step, the spikes of the step before are fed back.

    With membrane u, spike s, input current i, decay beta and threshold theta, by default:

        u[t] = beta u[t-1] + i[t] + rec(s[t-1]) - theta H(u[t-1] - theta),        s[t] = H(u[t] - theta)

    where rec(s) is V s, each neuron to itself, with all_to_all=False; W s + b with linear_features; with
    conv2d_channels, the correlation of s with a kernel, zeros around the image, and a bias; or what `recurrent`, any
    layer or stack of layers, makes of s.

    Parameters
    ----------
    beta : float or array                  decay of the membrane a step, clipped to [0, 1]
    V : float or array                     weight of the one-to-one feedback
    all_to_all : bool                      False: one-to-one feedback, for neurons of any shape
    linear_features : int                  the number of neurons N of a linear feedback; W is (N, N), b (N,)
    conv2d_channels : int                  the channels C of a conv2d feedback, for neurons (C, H, W)
    kernel_size : int or pair of int       of the conv2d feedback, odd
    recurrent : Layer, or list of layers   a feedback of your own, whose output has the shape of its input
    threshold : float or array             theta
    spike_grad : Surrogate                 the surrogate gradient; default atan(alpha=2)
    surrogate_disable : bool               no gradient through the spike at all
    init_hidden : bool                     calls keep the state in the layer: spk = layer(x)
    inhibition : bool                      of each sample only the neuron with the largest u - theta may spike
    learn_beta, learn_threshold : bool     whether these are learnable
    learn_recurrent : bool                 whether V, or W and b, or all that `recurrent` could learn, are
    reset_mechanism : str                  "subtract" theta after a spike, set to "zero", or "none"
    state_quant : StateQuant               of functional.quant: membranes held to its levels
    output : bool                          with init_hidden, calls give the membranes too
    reset_delay : bool                     reset at the step after the spike (True), or at the same
    dtype, seed : see Layer

    An array for beta, V or threshold fits the neurons' shape: (N,), or (C, 1, 1) for one per channel. Named arrays:
    beta, threshold, and V, or recurrent.weight, (N, N) or (C, C, kh, kw), and recurrent.bias, (N,) or (C,), these drawn
    from U(-k, k), k = 1/sqrt(N) or 1/sqrt(C kh kw); those of a layer of yours begin with "recurrent.", those of layer
    k of a stack with "recurrent.k.". Layers of yours that have a state go on from call to call, until reset_mem.
    Semantics and names of snnTorch 1.0's RLeaky, whose inhibition is for neurons (N,) only. Source:
    Eshraghian et al. 2023, arXiv:2109.12894.

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

    A feedback of your own, here one that mixes with few weights:

    >>> from snnumba import Linear
    >>> rlif = RLeaky(beta=0.9, recurrent=[Linear(100, 3), Linear(3, 100)])
    >>> list(rlif.parameters)
    ['recurrent.0.weight', 'recurrent.0.bias', 'recurrent.1.weight', 'recurrent.1.bias']
    """

    states = ("spk", "mem")

    def __init__(
        self,
        beta: npt.ArrayLike,
        V: npt.ArrayLike = 1.0,
        all_to_all: bool = True,
        linear_features: int | None = None,
        conv2d_channels: int | None = None,
        kernel_size: int | tuple[int, int] | None = None,
        *,
        recurrent: Layer | Sequence[Layer] | None = None,
        threshold: npt.ArrayLike = 1.0,
        spike_grad: Surrogate | None = None,
        surrogate_disable: bool = False,
        init_hidden: bool = False,
        inhibition: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        learn_recurrent: bool = True,
        reset_mechanism: str = "subtract",
        state_quant: StateQuant | bool = False,
        output: bool = False,
        reset_delay: bool = True,
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
        self.all_to_all = check_flag("all_to_all", all_to_all)
        self.linear_features = linear_features
        self.conv2d_channels = conv2d_channels
        self.kernel_size = kernel_size
        self.learn_recurrent = check_flag("learn_recurrent", learn_recurrent)
        self._V = check_numbers("V", V)
        self._recurrent = self._make_feedback(recurrent)
        self._inner_hidden: list[Any] = []  # the states of layers in the feedback after the last call
        if self.in_shape is not None:
            self.out_shape(self.in_shape)

    def _make_feedback(self, recurrent: Layer | Sequence[Layer] | None) -> Feedback:
        """The feedback that the arguments ask for, if they do not contradict each other."""
        names = ("linear_features", "conv2d_channels", "kernel_size")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if recurrent is not None:
            given["recurrent"] = recurrent
        if self.all_to_all and (self._V != 1).any():
            given["V"] = self._V.tolist()
        if not self.all_to_all:
            for name, value in given.items():
                raise ValueError(f"all_to_all=False and {name}={value} contradict each other")
            return OneToOne(self._V)
        if "recurrent" in given:
            for name, value in given.items():
                if name != "recurrent":
                    raise ValueError(f"recurrent={recurrent} and {name}={value} contradict each other")
            feedback = LayerFeedback(recurrent)
            self.in_shape = feedback.layers[0].in_shape
            return feedback
        if "linear_features" in given:
            features = check_size("linear_features", given.pop("linear_features"))
            for name, value in given.items():
                raise ValueError(f"linear_features={features} and {name}={value} contradict each other")
            self.in_shape = (features,)
            return LinearFeedback(features)
        if "conv2d_channels" not in given or "kernel_size" not in given:
            wanted = "linear_features, or conv2d_channels and kernel_size, or recurrent must be given"
            raise ValueError(f"{wanted}, or all_to_all=False; got {', '.join(given) or 'none of them'}")
        channels = check_size("conv2d_channels", given["conv2d_channels"])
        if "V" in given:
            raise ValueError(f"conv2d_channels={channels} and V={given['V']} contradict each other")
        size = given["kernel_size"]
        try:
            pair = check_pair("kernel_size", size)
        except ValueError:
            pair = 0, 0
        if not (pair[0] % 2 and pair[1] % 2):
            raise ValueError(f"kernel_size must be an odd int or a pair of them; got {size!r}")
        self.kernel_size = pair[0] if pair[0] == pair[1] else pair
        return Conv2dFeedback(channels, pair)

    def __repr__(self) -> str:
        feedback = "all_to_all=False"
        if isinstance(self._recurrent, LinearFeedback):
            feedback = f"linear_features={self.linear_features}"
        if isinstance(self._recurrent, Conv2dFeedback):
            feedback = f"conv2d_channels={self.conv2d_channels}, kernel_size={self.kernel_size}"
        if isinstance(self._recurrent, LayerFeedback):
            feedback = f"recurrent={self._recurrent.given}"
        return f"RLeaky(beta={self._beta.tolist()}, {feedback})"

    @property
    def config(self) -> dict[str, Any]:
        return super().config | {
            "V": self._V.tolist(),
            "all_to_all": self.all_to_all,
            "linear_features": self.linear_features,
            "conv2d_channels": self.conv2d_channels,
            "kernel_size": self.kernel_size,
            "recurrent": self._recurrent.config,
            "learn_recurrent": self.learn_recurrent,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        drawn = {name: (array, self.learn_recurrent) for name, array in self._recurrent.draw(rng).items()}
        return super()._draw(rng) | drawn

    @property
    def _inner(self) -> tuple[Layer, ...]:
        return self._recurrent.layers

    def _build(self, dtype: np.dtype[Any] | None = None, rng: np.random.Generator | None = None) -> None:
        if self._built:
            return
        dtype = self._dtype or dtype or np.dtype("float32")
        other = self._not_of(dtype)
        if other is not None:
            raise ValueError(f"{other!r} is {other._dtype}; the layer whose feedback it is in is {dtype}")
        super()._build(dtype, rng)
        assert self._dtype is not None
        assert self._rng is not None
        for name, layer in zip(self._recurrent.names, self._inner, strict=True):
            layer._build(self._dtype, self._rng)
            for own, parameter in layer._parameters.items():
                if not self.learn_recurrent:
                    parameter.gradient = None
                self._parameters[f"{name}.{own}"] = parameter

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the neurons, which is that of their input."""
        self._recurrent.check(shape)
        return super().out_shape(shape)

    @property
    def V(self) -> Array:
        """The weight of the one-to-one feedback; it can be set, and is used from the next step on.

        Raises
        ------
        AttributeError
            if the feedback is another.
        ValueError
            where it is set to an array of another shape, and is learnable and in a net: its place there is taken.
        """
        self._build()
        if "V" not in self._parameters:
            raise AttributeError(f"{self!r} has no V: its feedback is not one-to-one")
        return self._parameters["V"].value

    @V.setter
    def V(self, value: npt.ArrayLike) -> None:
        array, own = check_finite("V", check_numbers("V", value), self.dtype), self.V
        parameter = self._parameters["V"]
        if array.shape not in ((), own.shape):
            if self._in_net and parameter.gradient is not None:
                raise ValueError(f"V must be a number or have the shape {own.shape}; got {array.shape}")
            if self._in_net and self._shape is not None:
                self._fits({"V": array}, self._shape)
            if parameter.gradient is not None:
                parameter.gradient = np.zeros(array.shape, self.dtype)
            parameter.value = np.empty(array.shape, self.dtype)
            self._V = array
            self._changes += 1
        parameter.value[...] = array

    def _per_neuron(self) -> dict[str, Array]:
        return super()._per_neuron() | ({} if self.all_to_all else {"V": self._V})

    def forward(self, current: Array, spk0: Array | None = None, mem0: Array | None = None) -> tuple[Array, Array]:
        """Spikes and membranes at all steps.

        Parameters
        ----------
        current : (T, B, N) or (T, B, C, H, W), as the feedback asks; or the same without B
        spk0, mem0 : shaped as a step of current       the state before the first step; default: zeros

        Returns
        -------
        spk, mem : shaped as current

        Raises
        ------
        TypeError, ValueError
            if an argument is not an array of the layer's dtype and such a shape.
        """
        with self._recurrent.starting_at([]):
            return self._forward(current, spk0, mem0)

    def __call__(self, x: npt.ArrayLike, spk: npt.ArrayLike | None = None, mem: npt.ArrayLike | None = None) -> Any:
        """One step: spikes and membranes, shaped as x; with init_hidden the spikes, and the membranes if output.

        x is (N,) or (C, H, W), or has a batch axis before these; numbers of another type are converted. spk and mem are
        the state after the step before; left out, what the last call left, or zeros where that has another shape.

        Raises
        ------
        TypeError, ValueError
            if spk or mem is given to a layer with init_hidden, or an argument has another shape.
        """
        with self._recurrent.starting_at(self._inner_hidden):
            made = self._call(x, spk, mem)
            self._inner_hidden = self._recurrent.starts()
        return made

    def init_rleaky(self) -> tuple[Array, Array]:
        """Spikes and membranes before the first step: zeros that fit any shape; reset_mem by snnTorch's older name."""
        spk, mem = self.reset_mem()
        return spk, mem

    def _rest(self) -> None:
        self._recurrent.rest()

    def _steps(self, x: Array, *state: Array) -> tuple[Array, ...]:
        return self._forward(x, *state)

    def _lif_forward(self, current: Array, spk0: Array) -> None:
        self._recurrent.over_time(self, current, spk0)

    def _lif_backward(self, dspk: Array | None, dmem: Array | None, initial: bool) -> tuple[Array | None, Array]:
        return self._recurrent.back_over_time(self, dspk, dmem, initial)

    def _prepare_back(self, input_gradient: bool) -> None:
        self._recurrent.prepare(self)

    def _learn_weights(self, add: bool = False) -> None:
        if self.learn_recurrent:
            self._recurrent.learn(self, add)

    def _finish_back(self, add: bool = False) -> None:
        super()._finish_back(add)
        if self.learn_recurrent:
            self._recurrent.finish(self, add)
