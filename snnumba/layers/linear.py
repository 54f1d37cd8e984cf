"""Linear layer: y = x W^T + b, with W (out_features, in_features) as in torch; products in kernels/cpu/dense.py."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Array, Layer, Spikes, check_array, check_size


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> Array:
    """Draw from U(-k, k), k = 1/sqrt(fan_in), torch's initialisation of weights and biases alike."""
    k = 1 / math.sqrt(fan_in)
    return rng.uniform(-k, k, shape)


class Linear(Layer):
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
        self.bias = bool(bias)
        self._x: Any = None  # what forward saw, for backward
        self._active: Array | None = None  # and where it was not zero

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}{'' if self.bias else ', bias=False'})"

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        arrays = {"weight": (uniform(rng, (self.out_features, self.in_features), self.in_features), True)}
        if self.bias:
            arrays["bias"] = (uniform(rng, (self.out_features,), self.in_features), True)
        return arrays

    def forward(self, x: Array) -> Array:
        """y = x W^T + b for x (B, in_features) or (T, B, in_features).

        Raises
        ------
        TypeError, ValueError
            if x is not an array of the layer's dtype and such a shape.
        """
        leading = ("B",) if np.ndim(x) < 3 else ("T", "B")
        x = check_array("x", x, self.dtype, (*leading, self.in_features))
        y = self._run(x.reshape(-1, *x.shape[-2:]), 0)
        return y.reshape(*x.shape[:-1], self.out_features)

    def backward(self, dy: Array, input_gradient: bool = True) -> Array | None:
        """dL/dx from dL/dy, in the shapes of forward; fills gradients.

        Raises
        ------
        RuntimeError
            if there was no forward pass.
        TypeError, ValueError
            if dy is not an array of the layer's dtype and forward's output shape.
        """
        if self._x is None:
            raise RuntimeError("backward needs a forward pass before it")
        steps, batch = (self._x.bits if isinstance(self._x, Spikes) else self._x).shape[:2]
        shape = (batch, self.out_features) if np.ndim(dy) == 2 and steps == 1 else (steps, batch, self.out_features)
        dy = check_array("dy", dy, self.dtype, shape)
        dx = self._run_back(dy.reshape(steps, batch, -1), input_gradient)
        return None if dx is None else dx.reshape(*dy.shape[:-1], self.in_features)

    def _run(self, x: Array | Spikes, steps: int) -> Array:
        self._build()
        kernels, weight = self._kernels, self._parameters["weight"].value
        bias = self._parameters["bias"].value if self.bias else self._work.zeros(weight.shape[1:], self.dtype)
        self._x = x
        values = x.bits if isinstance(x, Spikes) else x
        rows = values.reshape(-1, values.shape[-1])
        y = self._work.empty("y", (*values.shape[:2], self.out_features), self.dtype)
        out = y.reshape(-1, self.out_features)
        if isinstance(x, Spikes):
            kernels.linear_forward_spikes(rows, weight, bias, out)
        else:
            words = kernels.num_words(self.in_features)
            self._active = None
            self._active = self._work.empty("active", (len(rows), words), np.uint64)
            kernels.linear_forward(rows, weight, bias, out, self._active)
        return y

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        kernels, weight = self._kernels, self._parameters["weight"]
        d = dy.reshape(-1, self.out_features)
        dweight = weight.gradient
        dbias = self._parameters["bias"].gradient if self.bias else self._work.empty("dbias", d.shape[1:], self.dtype)
        if isinstance(self._x, Spikes):
            bits = self._x.bits
            kernels.linear_backward_spikes(bits.reshape(len(d), -1), d, dweight, dbias, False)
        else:
            kernels.linear_backward(self._x.reshape(len(d), -1), self._active, d, dweight, dbias, False)
        if not input_gradient:
            return None
        transposed = self._work.empty("transposed", weight.value.shape[::-1], self.dtype)
        kernels.transpose(weight.value, transposed)
        dx = self._work.empty("dx", (*dy.shape[:2], self.in_features), self.dtype)
        kernels.linear_backward_input(d, transposed, dx.reshape(-1, self.in_features))
        return dx
