"""How long a call takes: many times, warm-up discarded, so often that a clock can tell."""

import math
import time
from collections.abc import Callable
from typing import Any

import report

SHORTEST = 2e-4  # seconds that a clock runs at least: calls that take less are timed several together
MOST = 200  # times
Call = Callable[[], Any]


def on_host(call: Call, together: int) -> float:
    """Seconds of so many calls."""
    begin = time.perf_counter()
    for _ in range(together):
        call()
    return time.perf_counter() - begin


def sampled(call: Call, budget: float, timed: Callable[[Call, int], float] = on_host) -> list[float]:
    """The seconds of a call, time after time, for about `budget` seconds, at least once."""
    call()
    first = timed(call, 1)
    together = max(1, math.ceil(SHORTEST / max(first, 1e-7)))
    seconds: list[float] = []
    begin = time.perf_counter()
    while len(seconds) < MOST and (not seconds or time.perf_counter() - begin < budget):
        seconds.append(timed(call, together) / together)
    return seconds


def measured(call: Call, budget: float, timed: Callable[[Call, int], float] = on_host) -> dict[str, float]:
    """Median and spread of these."""
    return report.spread(sampled(call, budget, timed))
