"""Dropout; its kernels and their equations are in kernels/cpu/dropout.py."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Array, Spikes, Stateless
from .images import as_rows


class Dropout(Stateless):
    """Leaves numbers out at random while a net is trained, others for every step and sample.

    In training each number is 0 with probability p, else multiplied by 1/(1 - p), so that its mean stays; after
    net.eval(), the output is the input. The same seed gives the same numbers, on any number of threads.

    Parameters
    ----------
    p : float                    from 0 to 1
    dtype, seed : see Layer

    Semantics of torch.nn.Dropout, called at each step. Source: Srivastava et al. 2014, JMLR 15, 1929-1958.

    Raises
    ------
    ValueError
        if p is out of its range.

    >>> Dropout(0.5, seed=0).forward(np.ones((1, 8), np.float32))
    array([[0., 2., 2., 0., 0., 0., 0., 0.]], dtype=float32)
    """

    def __init__(self, p: float = 0.5, *, dtype: npt.DTypeLike | None = None, seed: int | None = None) -> None:
        super().__init__(dtype, seed)
        if isinstance(p, bool) or not isinstance(p, int | float | np.number) or not 0 <= p <= 1:
            raise ValueError(f"p must be a number from 0 to 1; got {p!r}")
        self.p = float(p)
        self._calls = np.zeros(1, np.uint64)  # in training; where the layer is
        self._call: Array | None = None  # number of the run that the layer is at

    def __repr__(self) -> str:
        return f"Dropout({self.p})"

    @property
    def config(self) -> dict[str, Any]:
        return {"layer": "Dropout", "p": self.p, "dtype": None if self._dtype is None else self._dtype.name}

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        self._key = rng.integers(1 << 64, dtype=np.uint64)
        return {}

    def _random(self) -> Array:
        self._build()
        return np.array([self._key, self._kernels.to_host(self._calls)[0]], np.uint64)

    def _set_random(self, state: Array) -> None:
        self._key = state[0]
        self._changes += 1
        self._kernels.write(state[1:], self._calls)

    def _move(self, kernels: Any) -> None:
        self._calls = kernels.from_host(self._kernels.to_host(self._calls))
        super()._move(kernels)

    @property
    def _whole_batch(self) -> bool:
        return self._moves

    @property
    def _moves(self) -> bool:
        return self.training and self.p > 0

    @property
    def _state(self) -> tuple[Array | None, ...]:
        return (self._calls,)

    @_state.setter
    def _state(self, state: tuple[Array | None, ...]) -> None:
        (calls,) = state
        assert calls is not None
        self._kernels.copy(calls, self._calls)

    def _run(self, x: Array | Spikes, steps: int) -> Array | Spikes:
        self._build()
        self._tape = {}  # lets go of its arrays
        if not self._window.again:
            self._dropping = self._moves
        if not self._dropping:
            return x
        limit, scale = min(int(self.p * 2**64), 2**64 - 1), 1 / (1 - self.p) if self.p < 1 else 0
        shape, (times, batch), rows, bits = as_rows(x)
        first = self._window.first
        if first == 0 and not self._window.again:
            self._call = self._work.empty("call", (1,), np.uint64)
            self._kernels.next_call(self._calls, self._call)
        arguments = self._key, self._call, np.uint64(limit), self.dtype.type(scale), first
        self._tape = {"x shape": (times, batch, *shape), "arguments": arguments}
        y: Array = self._work.empty("y", (steps, batch, *shape), self.dtype)
        self._kernels.dropout_forward(rows, bits, *arguments, y.reshape(steps, batch, -1))
        return y

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        if not input_gradient or "arguments" not in self._tape:
            return dy if input_gradient else None
        shape = self._tape["x shape"]
        still = self._window.still or shape[0] < len(dy)
        dx = self._partial("total", *shape) if still else self._work.empty("dx", shape, self.dtype)
        whole, add = (dy.shape[1], -1), still and self._window.more
        self._kernels.dropout_backward(
            dy.reshape(len(dy), *whole), *self._tape["arguments"], dx.reshape(len(dx), *whole), add
        )
        return dx
