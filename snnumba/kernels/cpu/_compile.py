"""How CPU kernels are compiled, and how a kernel is spread over threads.

A kernel is a serial loop nest over a range of samples or rows. A call of it is written down (_program.py), cut into
ranges and run without the interpreter lock by the threads of _threads.py. _cache.py keeps the machine code.
"""

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from types import FunctionType, SimpleNamespace
from typing import Any

import numba
import numpy as np
from numba.core import config

from .. import rules as scalar_rules
from ._cache import kept
from ._program import append
from ._threads import team

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "_nrt": False,  # else a view of a row, of which there are many, costs two atomic instructions
}


def _compile(function: Callable[..., Any], keep: bool = True, **options: bool) -> Any:
    """njit without interpreter lock, division checks or reference counts, a*b+c fused; cached in our folder if kept."""
    compiled = numba.njit(**OPTIONS | options)(function)
    return kept(compiled) if keep else compiled


# A loop nest that kernels call, compiled into each of them: a call would cost as much as a short row.
part = partial(_compile, forceinline=True)


class Kernel:
    """A loop nest `function(begin, end, *args)` over items, called as `kernel(*args)` and run on all threads.

    Parameters
    ----------
    function : compiled by Numba; its first two arguments are the range of items it is to do
    items : how many items there are, from the arguments
    grain : ranges begin at multiples of it
    keep : whether its machine code is kept between runs
    """

    def __init__(self, function: Callable[..., Any], items: Callable[..., int], grain: int, keep: bool = True) -> None:
        update_wrapper(self, function)
        self.source = function
        signature = inspect.signature(function)
        self.__signature__ = signature.replace(parameters=list(signature.parameters.values())[2:])
        self.write = _compile(_writer(function), keep, nogil=False)
        self.items = items
        self.grain = grain

    def __call__(self, *args: Any) -> None:
        items = self.items(*args)
        if not config.DISABLE_JIT:
            team.call(self.write, items, self.grain, args)
        elif items > 0:
            self.source(0, items, *args)

    def with_names(self, names: dict[str, Any]) -> "Kernel":
        """The same loop nest where these names stand for other functions; not kept between runs."""
        return Kernel(copied(self.source, names), self.items, self.grain, keep=False)


def copied(function: Any, names: dict[str, Any]) -> FunctionType:
    """A function's plain source, with these global names."""
    plain = getattr(function, "py_func", function)
    return FunctionType(plain.__code__, names, plain.__name__)


loop_nest: Any = None  # stands for the function that _writer gives


def _write(program, where, items, grain, *args):  # pragma: no cover - machine code is not traced
    """Write a call of loop_nest down, see _program.py."""
    return append(loop_nest, program, where, items, grain, args)


def _writer(function: Any) -> FunctionType:
    """_write for a function, whose place in the folder of machine code it takes."""
    made = copied(_write, {"append": append, "loop_nest": _compile(function, keep=False)})
    place = {name: getattr(function.__code__, name) for name in ("co_filename", "co_firstlineno", "co_name")}
    made.__code__ = made.__code__.replace(**place)
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    return made


def kernel(items: Callable[..., int], grain: int = 1) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a kernel of a loop nest; see Kernel."""
    return lambda function: Kernel(function, items, grain)


def _compile_rules() -> SimpleNamespace:
    """The rules of rules.py, each compiled and calling the compiled others."""
    names = dict(vars(scalar_rules))
    if config.DISABLE_JIT:
        names["math"] = np  # which takes vectors
    for name, function in vars(scalar_rules).items():
        if isinstance(function, FunctionType):
            names[name] = numba.njit(copied(function, names), inline="always", error_model="numpy")
    return SimpleNamespace(**names)


rules = _compile_rules()
