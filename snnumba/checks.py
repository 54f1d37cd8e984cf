"""Checks of arguments that are alike everywhere: each returns what is wanted, or says what was seen."""

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt


def is_finite(value: Any) -> bool:
    """Whether it is a finite number, True and False being none."""
    try:
        return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    except OverflowError:  # an int beyond all floats
        return False


def check_number(name: str, value: Any, dtype: npt.DTypeLike = np.float64) -> float:
    """A number that is finite, in a type too."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number; got {value!r}")
    if not is_finite(value):
        raise ValueError(f"{name} must be finite; got {value!r}")
    number = float(value)
    if abs(number) > np.finfo(np.dtype(dtype)).max.item():
        raise ValueError(f"{name} must be finite in {np.dtype(dtype)}; got {value!r}")
    return number


def check_flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """One of these words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
    return value


def as_array(name: str, x: npt.ArrayLike) -> npt.NDArray[Any]:
    """Numbers, or lists of them as long as each other, as an array."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} must be an array without a mask; got {type(x).__name__}")
    try:
        return np.asarray(x)
    except ValueError:
        raise ValueError(f"{name} must be an array; got {x!r}") from None


class Watched:
    """Something that counts how often its settings are changed: its attributes whose names begin with a letter."""

    results: ClassVar[tuple[str, ...]] = ()  # those that are no settings
    _changes = 0

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_" and name not in self.results and vars(self).get(name, self) is not value:
            self._changes += 1
        super().__setattr__(name, value)

    @property
    def _all_changes(self) -> int:
        """_changes, and those of what is among its attributes."""
        return self._changes + sum(x._all_changes for x in vars(self).values() if isinstance(x, Watched))
