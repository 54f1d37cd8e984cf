"""Each CPU kernel beside its floor, at several sizes and densities of what is not zero.

    python benchmarks/kernels.py [--only NAME] [--threads 2] [--turns 3] [--out benchmarks/results/kernels.json]

All are measured in turn, several times over, so that a busy moment of the machine does not meet one alone. Floors come
from ceilings that are measured in the same run, see ceilings.py, and what they count is in entries/; the share is the
floor over the median, and at best over the least time. The limit is what the floor is made of: bytes, or operations.
For what takes more than twice its floor, the reason stands below the table, see entries/reasons.py.
"""

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import Any

import ceilings
import clock
import report
from entries import Entry, at_densities, entries
from entries.reasons import reason
from sides import Works, add_floor, compile_all, duration, guarded, on_cpu, share, too_long

import snnumba as snn
from snnumba.kernels import cpu

BUDGET = 0.2  # seconds to measure a call in a turn


def everything(which: str, only: str) -> Works:
    """What to measure."""
    return [work for work in itertools.chain(entries(which), at_densities(which)) if only in work.name]


def measure(work: Entry, limits: ceilings.Ceilings, seconds: list[float]) -> dict[str, str]:
    """Add to the seconds of a call; or say why not."""
    call, why = on_cpu(work), too_long(work, limits)
    if why is not None:
        return {"skipped": why}
    seconds += clock.sampled(call, BUDGET)
    return {}


def lines(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """The table."""
    yield ["kernel", "size", "median", "10% to 90%", "floor", "limit", "share", "at best"]
    for row in rows:
        spread = f"{duration(row, 'p10')} to {duration(row, 'p90')}" if "median" in row else ""
        line = [row["name"], row["size"], duration(row), spread, duration(row, "floor"), row["limit"]]
        yield [*line, share(row), share(row, "best share")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAME", help="only kernels with this in their name")
    parser.add_argument("--threads", type=int, default=cpu.available_threads(), help="CPU threads (default: all)")
    parser.add_argument("--turns", type=int, default=3, help="how often to measure one kernel after the other")
    parser.add_argument("--out", help="write the result to this JSON file")
    parser.add_argument("--toy", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    snn.set_num_threads(arguments.threads)
    make = partial(everything, "toy" if arguments.toy else "all", arguments.only)
    compile_all(make, with_gpu=False)
    limits, works = ceilings.of_cpu(), make()
    rows: list[dict[str, Any]] = [{"name": work.name, "size": work.size} for work in works]
    seconds: dict[int, list[float]] = defaultdict(list)
    for turn in range(arguments.turns):
        print(f"turn {turn + 1} of {arguments.turns}", file=sys.stderr, flush=True)
        for k, (work, row) in enumerate(zip(works, rows, strict=True)):
            if not {"skipped", "error"} & row.keys():
                row |= guarded(partial(measure, work, limits, seconds[k]))
        limits = limits.best(ceilings.of_cpu())
    for k, (work, row) in enumerate(zip(works, rows, strict=True)):
        row |= {"bytes": work.bytes, "operations": work.operations, "limit": limits.kind(work)}
        row |= report.spread(seconds[k]) if seconds[k] else {}
        add_floor(row, work, limits)
        if (why := reason(work, row, limits, arguments.threads)) is not None:
            row["reason"] = why
    print(f"{arguments.threads} threads: {limits}")
    print(report.table(list(lines(rows))))
    for row in rows:
        for key in {"skipped", "error", "reason"} & row.keys():
            print(f"{row['name']}, {row['size']}: {key}: {row[key]}")
    if arguments.out:
        about = report.machine("snnumba", "numpy", "numba") | {"threads": arguments.threads}
        report.write(arguments.out, about | {"ceilings": limits.record(), "rows": rows})


if __name__ == "__main__":
    main()
