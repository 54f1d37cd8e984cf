"""What a call takes of memory, for the tests that hold that a step allocates nothing."""

import tracemalloc
from collections.abc import Callable


def taken(function: Callable[[], object], times: int = 5) -> int:
    """The bytes that a call of function needs beyond those it found: the least of so many calls, after the first three.

    The least, since what Python keeps for later, or frees when it likes, comes in some calls and not in others; an
    array that each call allocates is in the least of them, too.
    """
    function()
    function()
    tracemalloc.start()
    try:
        function()  # what tracemalloc itself needs
        return min(_above(function) for _ in range(times))
    finally:
        tracemalloc.stop()


def _above(function: Callable[[], object]) -> int:
    tracemalloc.reset_peak()
    begun, _ = tracemalloc.get_traced_memory()
    function()
    return tracemalloc.get_traced_memory()[1] - begun
