"""Convolutional layer; its kernels and their equations are in kernels/cpu/conv.py."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_flag
from .base import Array, Spikes, Stateless, check_size
from .correlation import Correlation
from .images import Pair, as_rows, brief, check_image, check_pair, count_windows


class Conv2d(Stateless):
    """A convolution, that is cross-correlation, of images (C, H, W) with learnable kernels.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or pair of int           height and width
    stride : int or pair of int                pixels from one window to the next
    padding : int, pair of int, or "same"      zeros around the image, fewer than kernel_size a side; "same": as many as
                                               let it keep its size, with an odd kernel and stride 1
    bias : bool                                whether there is a bias
    dtype, seed : see Layer

    Its parameters are weight (out_channels, in_channels, kh, kw) and bias (out_channels,), drawn from U(-k, k) with
    k = 1/sqrt(in_channels kh kw), the weight first. Semantics of torch.nn.Conv2d.

    Raises
    ------
    ValueError
        if an argument is out of its range.

    >>> conv = Conv2d(1, 4, 3, padding=1, seed=0)
    >>> conv.forward(np.ones((2, 1, 5, 6), np.float32)).shape
    (2, 4, 5, 6)
    >>> conv.backward(np.ones((2, 4, 5, 6), np.float32)).shape, conv.gradients["bias"]
    ((2, 1, 5, 6), array([60., 60., 60., 60.], dtype=float32))
    """

    sample_axes = 3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        *,
        bias: bool = True,
        dtype: npt.DTypeLike | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(dtype, seed)
        self.in_channels = check_size("in_channels", in_channels)
        self.out_channels = check_size("out_channels", out_channels)
        self.kernel_size = check_pair("kernel_size", kernel_size)
        self.stride = check_pair("stride", stride)
        self.padding = self._check_padding(padding)
        self.bias = check_flag("bias", bias)
        self._correlation = Correlation(
            self.in_channels, self.out_channels, self.kernel_size, self.stride, self.padding
        )

    def _check_padding(self, padding: Any) -> Pair:
        height, width = self.kernel_size
        if isinstance(padding, str) and padding == "same":
            if self.stride != (1, 1) or height % 2 == 0 or width % 2 == 0:
                raise ValueError(
                    'padding="same" needs stride 1 and an odd kernel_size; '
                    f"got {brief(self.stride)} and {brief(self.kernel_size)}"
                )
            return height // 2, width // 2
        if isinstance(padding, str):
            raise ValueError(f'padding must be "same" or numbers of pixels; got {padding!r}')
        pair = check_pair("padding", padding, least=0)
        if pair[0] >= height or pair[1] >= width:
            raise ValueError(f"padding must be less than kernel_size, {brief(self.kernel_size)}; got {padding!r}")
        return pair

    def __repr__(self) -> str:
        stride = "" if self.stride == (1, 1) else f", stride={brief(self.stride)}"
        padding = "" if self.padding == (0, 0) else f", padding={brief(self.padding)}"
        sizes = f"{self.in_channels}, {self.out_channels}, {brief(self.kernel_size)}"
        return f"Conv2d({sizes}{stride}{padding}{'' if self.bias else ', bias=False'})"

    @property
    def config(self) -> dict[str, Any]:
        return {
            "layer": "Conv2d",
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": list(self.kernel_size),
            "stride": list(self.stride),
            "padding": list(self.padding),
            "bias": self.bias,
            "dtype": None if self._dtype is None else self._dtype.name,
        }

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(out_channels, H', W'), for an image (in_channels, H, W)."""
        check_image(self, shape)
        if shape[0] != self.in_channels:
            raise ValueError(f"{self!r} takes images of {self.in_channels} channels; got {shape}")
        return (self.out_channels, *count_windows(self, shape, self.kernel_size, self.stride, self.padding))

    def _draw(self, rng: np.random.Generator) -> dict[str, tuple[Array, bool]]:
        drawn = self._correlation.draw(rng)
        return {name: (array, True) for name, array in drawn.items() if self.bias or name != "bias"}

    def _run(self, x: Array | Spikes, steps: int) -> Array:
        self._build()
        self._tape = {}  # lets go of its arrays
        shape, leading, rows, bits = as_rows(x)
        self._tape = {"shape": shape, "x": rows, "bits": bits}
        y: Array = self._work.empty("y", (*leading, *self.out_shape(shape)), self.dtype)
        weight = self._correlation.weight(self)
        bias = self._parameters["bias"].value if self.bias else None
        window, room = self._correlation.forward(self, shape, leading[1])
        self._kernels.conv_forward(rows, bits, weight, bias, window, room, y.reshape(*leading, -1))
        return y

    def _prepare_back(self, input_gradient: bool) -> None:
        if input_gradient:
            self._flipped = self._correlation.flipped(self)

    def _run_back(self, dy: Array, input_gradient: bool) -> Array | None:
        shape, leading = self._tape["shape"], dy.shape[:2]
        self._tape["dy"] = dy = dy.reshape(*leading, -1)
        if not input_gradient:
            return None
        dx: Array = self._work.empty("dx", (*leading, *shape), self.dtype)
        window, room = self._correlation.backward(self, shape, leading[1])
        self._kernels.conv_forward(dy, None, self._flipped, None, window, room, dx.reshape(*leading, -1))
        return dx

    def _learn_weights(self, add: bool = False) -> None:
        tape = self._tape
        self._correlation.learn(self, tape["x"], tape["bits"], tape["dy"], tape["shape"], self._window.more)

    def _finish_back(self, add: bool = False) -> None:
        self._correlation.finish(self, add)
