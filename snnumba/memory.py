"""Whether a job fits into the machine: asked before it begins, since the system kills what grows too large."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/memory.max")  # what a container may have, on Linux


def machine_memory() -> int | None:
    """The bytes of memory that a process can have here, or None where the system does not tell."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None
    try:
        return min(total, int(CGROUP.read_text()))
    except (OSError, ValueError):  # none, or "max"
        return total


def default_memory() -> int:
    """The bytes that a data set may take where nobody says: half of what there is, 4 GiB where nobody tells."""
    return (machine_memory() or 2**33) // 2


def check_memory(what: str, size: int, options: str | None = None) -> None:
    """Refuse what takes more bytes than the machine has, naming the options that it grows with, if any."""
    limit = machine_memory()
    if limit is not None and size > limit:
        advice = "" if options is None else f"; choose a smaller {options}"
        sizes = f"{size / 2**30:,.1f} GiB of memory, and there are {limit / 2**30:,.1f}"
        raise ValueError(f"{what} would take about {sizes}{advice}")
