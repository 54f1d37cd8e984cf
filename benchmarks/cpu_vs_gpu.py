"""Each kernel on the CPU beside itself on the GPU, and whole training steps, each beside its floor on both.

    python benchmarks/cpu_vs_gpu.py [--quick] [--only NAME] [--threads 2] [--out benchmarks/results/cpu_vs_gpu.json]

Floors come from ceilings that are measured in the same run, see ceilings.py; the share is the floor over the median.
GPU times are from when the device begins to when it is done, of many calls in a row: so for a small kernel the time of
its launches, unless they are replayed as a CUDA graph, whose time is given too; with precision "tf32" that one alone,
where there is one. Where no GPU is there, the CPU's side is measured. Where PyTorch and snnTorch are installed, steps
are measured in them too, on the same GPU.
"""

import argparse
import importlib.util
import itertools
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import ceilings
import clock
import report
from entries import entries
from sides import Works, add_floor, compile_all, cpu_side, duration, gpu_side, guarded, ratio, share
from steps import STEPS

import snnumba as snn
from snnumba import backend
from snnumba.kernels import cpu

BUDGET, QUICK_BUDGET = 0.6, 0.12  # seconds to measure a call on a device
PEER_BUDGET = 1.0


def everything(which: str, only: str) -> Works:
    """What to measure: steps first, since they count most."""
    return [work for work in itertools.chain(STEPS[which], entries(which)) if only in work.name]


def measured_ceilings(with_gpu: bool) -> dict[str, ceilings.Ceilings]:
    """Those of both devices."""
    found = {"cpu": ceilings.of_cpu()}
    if with_gpu:
        import gpu

        found["gpu"] = gpu.ceilings()
    return found


def peer_side(work: Any) -> dict[str, Any]:
    """Times of snnTorch on the GPU."""
    import gpu

    return clock.measured(work.snntorch(), PEER_BUDGET, gpu.timed)


def no_gpu() -> str | None:
    """What keeps the GPU's side from being measured here; None: nothing does."""
    try:
        backend.load("cuda")
    except ValueError as error:
        return str(error)
    return None


def no_snntorch() -> str | None:
    """What keeps snnTorch from the GPU here; None: nothing does."""
    for package in ("torch", "snntorch"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed"
    import torch

    return None if torch.cuda.is_available() else "PyTorch finds no GPU"


def lines(rows: list[dict[str, Any]], with_gpu: bool) -> Iterator[list[str]]:
    """The table."""
    heading = ["", "size", "CPU", "floor", "share"]
    more = ["GPU", "floor", "share", "launches", "graph", "share", "tf32", "CPU/GPU", "snnTorch", "snnTorch/GPU"]
    yield heading + (more if with_gpu else [])
    for row in rows:
        left, right, peer = row["cpu"], row.get("gpu", {}), row.get("snntorch_gpu")
        line = [row["name"], row["size"], duration(left), duration(left, "floor"), share(left)]
        if with_gpu:
            graph = right.get("graph")
            line += [duration(right), duration(right, "floor"), share(right), str(right.get("launches", ""))]
            line += [
                duration(graph),
                share(graph),
                duration(right.get("tf32")),
                ratio(left, right),
                duration(peer),
                ratio(peer, right),
            ]
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sizes of each, in about a minute")
    parser.add_argument("--only", default="", metavar="NAME", help="only what has this in its name")
    parser.add_argument("--threads", type=int, default=cpu.available_threads(), help="CPU threads (default: all)")
    parser.add_argument("--each", type=float, metavar="SECONDS", help="to measure a call on a device (default: 0.6)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing more after so many")
    parser.add_argument("--out", help="write the result to this JSON file")
    parser.add_argument("--toy", action="store_true", help=argparse.SUPPRESS)  # what numba's simulator can do
    arguments = parser.parse_args()
    snn.set_num_threads(arguments.threads)
    which = "toy" if arguments.toy else "quick" if arguments.quick else "all"
    budget = arguments.each or (BUDGET if which == "all" else QUICK_BUDGET)
    make = partial(everything, which, arguments.only)
    works, without_gpu = make(), no_gpu()
    without_snntorch = "no GPU" if without_gpu else no_snntorch()
    begin = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - begin:6.1f} s  {what}", file=sys.stderr, flush=True)

    say(f"no GPU, so the CPU alone is measured: {without_gpu}" if without_gpu else "the CPU and the GPU are measured")
    say(f"snnTorch is not: {without_snntorch}" if without_snntorch else "snnTorch is measured on the GPU")
    say("compiling")
    compile_all(make, with_gpu=without_gpu is None)
    limits, rows = measured_ceilings(without_gpu is None), []
    for side, limit in limits.items():
        say(f"{side}: {limit}")
    for k, work in enumerate(works):
        row: dict[str, Any] = {"name": work.name, "size": work.size}
        rows.append(row)
        if time.perf_counter() - begin > arguments.seconds:
            row["cpu"] = {"skipped": f"more than {arguments.seconds:.0f} s had gone by"}
            continue
        say(f"{k + 1}/{len(works)} {work.name}, {work.size}")
        row["cpu"] = guarded(lambda work=work: cpu_side(work, limits["cpu"], budget))
        if without_gpu is None:
            row["gpu"] = guarded(lambda work=work: gpu_side(work, budget))
        if without_snntorch is None and getattr(work, "snntorch", None):
            row["snntorch_gpu"] = guarded(lambda work=work: peer_side(work))
        row |= {"bytes": work.bytes, "operations": work.operations}
    limits = {side: limit.best(limits[side]) for side, limit in measured_ceilings(without_gpu is None).items()}
    for work, row in zip(works, rows, strict=True):
        for side in limits.keys() & row.keys():
            if "bytes" in row:
                add_floor(row[side], work, limits[side])
    print("\n".join(f"{side}: {limit}" for side, limit in limits.items()))
    print(report.table(list(lines(rows, without_gpu is None))))
    for row in rows:
        for side in ("cpu", "gpu", "snntorch_gpu"):
            if "a step" in row.get(side, {}):
                print(f"{row['name']}, {row['size']}, {side}: {duration(row[side], 'a step')} a step")
            for why in {"skipped", "error"} & row.get(side, {}).keys():
                print(f"{row['name']}, {row['size']}, {side}: {why}: {row[side][why]}")
    if without_gpu:
        print(f"\nno GPU, so the CPU alone was measured: {without_gpu}")
    if arguments.out:
        packages = "snnumba", "numpy", "numba", "numba-cuda", "torch", "snntorch"
        about = report.machine(*packages, gpu=without_gpu is None) | {"threads": arguments.threads, "sizes": which}
        about |= {"no_gpu": without_gpu, "no_snntorch": without_snntorch}
        about |= {"ceilings": {name: limit.record() for name, limit in limits.items()}}
        report.write(arguments.out, about | {"rows": rows})


if __name__ == "__main__":
    main()
