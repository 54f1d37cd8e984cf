"""JAX takes as many threads as the process may use cores."""

import os


def keep_to(threads: int) -> None:
    """Use so many cores; before jax is imported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
