"""Images as rows."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .base import Array, Spikes, Stateless


class Flatten(Stateless):
    """Samples (C, H, W) as rows (C H W,), such as Linear takes; nothing is copied.

    Parameters
    ----------
    dtype : see Layer

    >>> Flatten().forward(np.zeros((2, 3, 4, 5), np.float32)).shape
    (2, 60)
    """

    def __init__(self, *, dtype: npt.DTypeLike | None = None) -> None:
        super().__init__(dtype)

    def __repr__(self) -> str:
        return "Flatten()"

    @property
    def config(self) -> dict[str, Any]:
        return {"layer": "Flatten", "dtype": None if self._dtype is None else self._dtype.name}

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C H W,), for a sample (C, H, W)."""
        return (math.prod(shape),)

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        return {}

    def _run(self, x: Array | Spikes, steps: int) -> Array | Spikes:
        self._build()
        if isinstance(x, Spikes):
            self._tape = {"shape": x.shape}
            return Spikes(x.bits, self.out_shape(x.shape))
        self._tape = {"shape": x.shape[2:]}
        return x.reshape(*x.shape[:2], -1)

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        return dy.reshape(*dy.shape[:2], *self._tape["shape"]) if input_gradient else None
