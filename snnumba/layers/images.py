"""What layers of images share: their arguments, each one integer or two, and the shapes that follow."""

from typing import Any

import numpy as np

from .base import Array, Spikes

Pair = tuple[int, int]


def check_pair(name: str, value: Any, least: int = 1) -> Pair:
    """(height, width) from one integer for both, or from a pair.

    Raises
    ------
    ValueError
        if value is neither, or an integer is less than `least`.
    """
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) for k in pair)
    if len(pair) != 2 or not whole or min(pair) < least:
        raise ValueError(f"{name} must be an integer of at least {least} or a pair of them; got {value!r}")
    return int(pair[0]), int(pair[1])


def brief(pair: Pair) -> str:
    """A pair as one would write it."""
    return str(pair[0] if pair[0] == pair[1] else pair)


def check_image(layer: Any, shape: tuple[int, ...]) -> None:
    """Refuse what is not (C, H, W)."""
    if len(shape) != 3:
        raise ValueError(f"{layer!r} takes images (C, H, W); got {shape}")


def count_windows(layer: Any, shape: tuple[int, ...], kernel_size: Pair, stride: Pair, padding: Pair) -> Pair:
    """How many windows of a layer fit into an image (C, H, W), one below and one beside the other.

    Raises
    ------
    ValueError
        if none does.
    """
    room = shape[1] + 2 * padding[0] - kernel_size[0], shape[2] + 2 * padding[1] - kernel_size[1]
    if min(room) < 0:
        raise ValueError(f"{layer!r} takes images that its kernel fits into, padding included; got {shape}")
    return room[0] // stride[0] + 1, room[1] // stride[1] + 1


def as_rows(x: Array | Spikes) -> tuple[tuple[int, ...], tuple[int, int], Array | None, Array | None]:
    """The shape of a sample, (T, B), and the samples as rows, (T, B, C H W) of numbers or else as bits."""
    if isinstance(x, Spikes):
        return x.shape, (x.bits.shape[0], x.bits.shape[1]), None, x.bits
    return x.shape[2:], (x.shape[0], x.shape[1]), x.reshape(*x.shape[:2], -1), None
