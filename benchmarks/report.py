"""What every benchmark shares: the machine it ran on, medians with their spread, a table, a JSON file."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def machine(*packages: str, gpu: bool = False) -> dict[str, Any]:
    """The hardware, the versions of Python and of these packages where installed, and the commit."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": found,
        "commit": _commit(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,  # over 1, 5, 15 minutes, with this run
    } | ({"gpu": _gpu()} if gpu else {})


def _gpu() -> dict[str, Any]:
    """The GPU's name, driver and versions; only where one is there."""
    import gpu

    return gpu.about()


def _cpu() -> str:
    """The processor's name and family, as far as the system says."""
    try:
        lines = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, value in reversed(lines)}
    return (
        f"{facts.get('model name', platform.machine())} (family {facts.get('cpu family')}, model {facts.get('model')})"
    )


def _commit() -> str | None:
    """The checked-out commit, with a + where files have changed since."""
    folder = Path(__file__).parent
    try:
        run = ["git", "-C", str(folder)]
        commit = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*run, "diff", "--quiet", "HEAD", "--", "../snnumba"], capture_output=True).returncode
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if changed else "")


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile, the least, and the number of measurements."""
    low, median, high = map(float, np.percentile(seconds, [10, 50, 90]))
    return {"median": median, "p10": low, "p90": high, "least": min(seconds), "count": len(seconds)}


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns, the first row a heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *rest = (
            text.ljust(w) if k == 0 else text.rjust(w) for k, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def write(path: str, result: dict[str, Any]) -> None:
    """Write a result as JSON, whole or not at all, and say where."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".new")
    temporary.write_text(json.dumps(result, indent=1) + "\n")
    temporary.replace(target)
    print(f"written to {target}", file=sys.stderr)
