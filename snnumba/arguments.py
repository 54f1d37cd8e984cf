"""What arguments of the command line are: kinds of numbers, and options of which it is known that they were given."""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

DEFAULT = "(default: %(default)s)"  # in the help of an option


def option(name: str) -> str:
    """A setting's name as it is given."""
    return f"--{name.replace('_', '-')}"


class Given(argparse.Action):
    """Keep a value, and that it was given: only then is an option of another task refused."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = namespace.given | {self.dest}


class Parser(argparse.ArgumentParser):
    """Errors in one line, as all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"snnumba: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def _number(kind: type, good: Callable[[Any], bool], what: str, text: str) -> Any:
    """The number in an argument, if it is a good one."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not good(value):
        raise argparse.ArgumentTypeError(f"must be {what}; got {text!r}")
    return value


COUNT = partial(_number, int, lambda x: x >= 1, "a whole number of at least 1")
SEED = partial(_number, int, lambda x: x >= 0, "a whole number of at least 0")
SHARE = partial(_number, float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
POSITIVE = partial(_number, float, lambda x: 0 < x < math.inf, "a number above 0")
NOT_NEGATIVE = partial(_number, float, lambda x: 0 <= x < math.inf, "a number of at least 0")
FINITE = partial(_number, float, math.isfinite, "a finite number")
