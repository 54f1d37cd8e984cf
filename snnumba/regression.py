"""Samples whose targets are numbers, not classes: a membrane for each step, the time of a spike."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import as_array
from .datasets import Layout, Samples, check_indices, check_out
from .layers.base import Array, check_dtype, check_finite


class RegressionDataset(Samples):
    """Features and targets, in memory; a net is trained on them as on a Dataset.

    Parameters
    ----------
    features : (N, F) or (N, C, H, W)            shown at each step
        or (T, N, F) or (T, N, C, H, W)          time first
    targets : (N, K), one for each sample, or (T, N, K), one for each step of it
    name : what to call the set
    dtype : "float32" or "float64", of the batches

    Raises
    ------
    ValueError
        if they are not such arrays of finite numbers, do not have as many samples, or not as many steps.

    >>> time = np.linspace(0, 1, 50)[:, None, None]
    >>> data = RegressionDataset(time * [[0.5], [1.0]], time * [[0.25], [1.0]], name="squares")
    >>> data
    RegressionDataset(squares: 2 samples, 50 steps of 1, targets 50 steps of 1)
    >>> x, y = data.batch([1, 0, 1])
    >>> x.shape, y[-1, :, 0]
    ((50, 3, 1), array([1.  , 0.25, 1.  ], dtype=float32))
    """

    def __init__(
        self,
        features: npt.ArrayLike,
        targets: npt.ArrayLike,
        *,
        name: str = "",
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        self.dtype = check_dtype(dtype) or np.dtype("float32")
        self.name = name
        self.features = _numbers("features", features, self.dtype, (2, 3, 4, 5), "(N, F), (T, N, F) or with (C, H, W)")
        self.targets = _numbers("targets", targets, self.dtype, (2, 3), "(N, K) or (T, N, K)")
        self._axes = int(self.features.ndim in (3, 5)), int(self.targets.ndim == 3)  # of the samples
        self.sample_shape: tuple[int, ...] = self.features.shape[1 + self._axes[0] :]
        samples, wanted = (array.shape[axis] for array, axis in zip(self.stored, self._axes, strict=True))
        if samples != wanted:
            raise ValueError(f"features and targets must have as many samples; got {samples} and {wanted}")
        steps = {len(array) for array, axis in zip(self.stored, self._axes, strict=True) if axis}
        if len(steps) > 1:
            raise ValueError(
                f"features and targets must have as many steps; got {len(self.features)} and {len(self.targets)}"
            )
        self.num_steps = min(steps, default=None)  # None: they say nothing of how many there are

    @property
    def stored(self) -> tuple[Array, Array]:
        """Features and targets."""
        return self.features, self.targets

    def __len__(self) -> int:
        return int(self.features.shape[self._axes[0]])

    def __repr__(self) -> str:
        shapes = []
        for array, axis in zip(self.stored, self._axes, strict=True):
            sample = "x".join(map(str, array.shape[1 + axis :]))
            shapes.append(f"{len(array)} steps of {sample}" if axis else sample)
        return f"RegressionDataset({self.name or 'unnamed'}: {len(self)} samples, {shapes[0]}, targets {shapes[1]})"

    def layout(self, batch: int) -> tuple[Layout, Layout]:
        """Shape and type of x and of y, of a batch of so many samples."""
        x, y = (
            ((*array.shape[:axis], batch, *array.shape[1 + axis :]), self.dtype)
            for array, axis in zip(self.stored, self._axes, strict=True)
        )
        return x, y

    def batch(self, indices: npt.ArrayLike, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Gather the samples at `indices`.

        Parameters
        ----------
        indices : (B,) integers in [0, N)
        out : x and y as `layout` tells, contiguous; then nothing is allocated

        Returns
        -------
        x (B, ...) or (T, B, ...), y (B, K) or (T, B, K)

        Raises
        ------
        IndexError, TypeError, ValueError
            if an argument is not such.
        """
        picked = check_indices(indices, len(self))
        made = check_out(out, self.layout(len(picked)))
        for array, axis, to in zip(self.stored, self._axes, made, strict=True):
            array.take(picked, axis=axis, out=to, mode="clip")  # "raise" would make an array
        return made


def _numbers(name: str, x: Any, dtype: np.dtype[Any], axes: Sequence[int], wanted: str) -> Array:
    array = as_array(name, x)
    if array.ndim not in axes or array.size == 0:
        raise ValueError(f"{name} must be {wanted}, not empty; got {array.shape}")
    return np.ascontiguousarray(check_finite(name, array, dtype))
