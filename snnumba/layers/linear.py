"""Linear layer: y = x W^T + b, with W (out_features, in_features) as in torch; products in kernels/cpu/dense.py."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag
from .base import Array, Layer, Spikes, Stateless, check_size


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> Array:
    """Draw from U(-k, k), k = 1/sqrt(fan_in), torch's initialisation of weights and biases alike."""
    k = 1 / math.sqrt(fan_in)
    return rng.uniform(-k, k, shape)


def learn_product(layer: Layer, prefix: str, x: Array | None, bits: Array, d: Array, spikes: bool, add: bool) -> None:
    """The gradients of `<prefix>weight` and, if there is one, bias: eqs. (2) and (3) of kernels/cpu/dense.py.

    They are written in full, or added. Where spikes of many samples are summed in parts, that is done to those sums,
    in the layer's tape, and finish_sums makes the gradients of them.
    """
    kernels, work, tape = layer._kernels, layer._work, layer._tape
    weight, bias = layer._parameters[f"{prefix}weight"], layer._parameters.get(f"{prefix}bias")
    inputs, outputs = weight.value.shape
    dweight: Any = weight.gradient
    parts = kernels.num_parts(d.shape[1]) if spikes and not layer._stepped else 1
    if parts == 1:
        dbias: Any = work.empty("unused", (outputs,), layer.dtype) if bias is None else bias.gradient
    else:
        if not add:
            begin_sums(layer, parts, inputs * outputs, outputs)
        dweight, dbias = tape["dweight"], tape["dbias"]
    kernels.linear_backward(x, bits, d, dweight.reshape(parts, inputs, outputs), dbias.reshape(parts, outputs), add)


def begin_sums(layer: Layer, parts: int, weight: int, bias: int) -> None:
    """Have the layer's tape hold arrays for gradients of so many numbers, a row for each part of the samples."""
    for name, size in (("dweight", weight), ("dbias", bias)):
        layer._tape.pop(name, None)
        layer._tape[name] = layer._work.empty(name, (parts, size), layer.dtype)


def finish_sums(layer: Layer, prefix: str, add: bool) -> None:
    """The gradients, as the sums of such rows if there are any: written in full, or added."""
    for name in ("weight", "bias"):
        parameter, sums = layer._parameters.get(prefix + name), layer._tape.get(f"d{name}")
        if sums is not None and parameter is not None and parameter.gradient is not None:
            layer._kernels.sum_blocks(sums, parameter.gradient.reshape(-1), add)


class Linear(Stateless):
    """A fully connected layer.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool                        whether there is a bias
    dtype, seed : see Layer

    Its parameters are weight (out_features, in_features) and bias (out_features,), drawn from U(-k, k) with
    k = 1/sqrt(in_features), the weight first.

    >>> fc = Linear(3, 2, seed=0)
    >>> fc.forward(np.ones((4, 3), np.float32)).shape
    (4, 2)
    >>> fc.backward(np.ones((4, 2), np.float32)).shape, fc.gradients["bias"]
    ((4, 3), array([4., 4.], dtype=float32))
    """

    sample_axes = 1

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: npt.DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(dtype, seed)
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.bias = check_flag("bias", bias)
        self.in_shape = (self.in_features,)

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if self.bias else ', bias=False'})"

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(out_features,), for an input (in_features,)."""
        super().out_shape(shape)
        return (self.out_features,)

    @property
    def config(self) -> dict[str, Any]:
        return {
            "layer": "Linear",
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
            "dtype": None if self._dtype is None else self._dtype.name,
        }

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        arrays = {"weight": (uniform(rng, (self.out_features, self.in_features), self.in_features), True)}
        if self.bias:
            arrays["bias"] = (uniform(rng, (self.out_features,), self.in_features), True)
        return arrays

    def _run(self, x: Array | Spikes, steps: int) -> Array:
        self._build()
        self._tape = {}  # lets go of its arrays
        if isinstance(x, Spikes):
            active = x.bits
        else:
            words = self._kernels.num_words(self.in_features)
            active = self._work.empty("active", (*x.shape[:2], words), np.uint64)
            self._kernels.find_active(x, active)
        self._tape = {"x": None if isinstance(x, Spikes) else x, "active": active}
        y = self._work.empty("y", (*active.shape[:2], self.out_features), self.dtype)
        still = len(active) == 1 and not (self._window.longest or self._stepped or isinstance(x, Spikes))
        count = self._kernels.num_input_parts(self.in_features, self.out_features) if still else 1
        parts = self._work.empty("parts", (count, *y.shape), self.dtype) if count > 1 else None
        self._kernels.linear_forward(self._tape["x"], active, self._parameters["weight"].value, self._bias(), parts, y)
        return y

    def _prepare_back(self, input_gradient: bool) -> None:
        if input_gradient:
            weight = self._parameters["weight"].value
            self._transposed = self._work.empty("transposed", weight.shape[::-1], self.dtype)
            self._kernels.transpose(weight, self._transposed)

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        self._tape["dy"] = dy
        if not input_gradient:
            return None
        dx = self._work.empty("dx", (*dy.shape[:2], self.in_features), self.dtype)
        self._kernels.linear_backward_input(dy, self._transposed, dx)
        return dx

    def _learn_weights(self, add: bool = False) -> None:
        x = self._tape["x"]
        learn_product(self, "", x, self._tape["active"], self._tape["dy"], x is None, add)

    def _finish_back(self, add: bool = False) -> None:
        finish_sums(self, "", add)

    def _bias(self) -> Array:
        """The bias, or zeros in its place."""
        return self._parameters["bias"].value if self.bias else self._work.zeros((self.out_features,), self.dtype)
