"""How time and memory of a training step of the tutorial net grow with its width, its length, its batch, and threads.

    python benchmarks/scaling.py [--threads 1 2] [--rounds 10] [--out benchmarks/results/scaling.json] [--plot FILE]

One of hidden neurons, steps of time and samples is changed, the others stay 128, 10 and 128. Each size is a process of
its own, and all take turns (race.py); its peak memory is that of the whole process, Python and machine code included.
The bytes of a step are those of its arrays alone, as tracemalloc counts them in a first step: what forward leaves, what
backward adds to it, and the most at once, the parameters and their gradients aside; with and without checkpoint_every.
--plot draws it, in any format of matplotlib's (pip install "snnumba[plot]").
"""

import argparse
import math
import tracemalloc
from dataclasses import replace
from typing import Any

import race
import report
from steps import Tutorial

import snnumba as snn
from snnumba import functional as SF

VALUES = {
    "hidden": (128, 256, 512, 1024, 2048),
    "steps": (10, 25, 50, 100, 250, 500),
    "batch": (1, 8, 32, 128, 512, 1024),
}
AXES = {"hidden": "hidden neurons", "steps": "steps of time", "batch": "samples"}
LARGE = Tutorial(hidden=1024, steps=100)
WARM_UP, TIMES = 5, 3


def net_of(name: str) -> Tutorial:
    """The net that "hidden 256" stands for."""
    axis, value = name.split()
    return Tutorial(**{axis: int(value)})


def in_words(threads: int) -> str:
    """So many threads."""
    return f"{threads} thread{'s' * (threads > 1)}"


def table(axis: str, found: dict[int, dict[str, Any]]) -> str:
    """Of one axis: the times for each number of threads, and the memory."""
    first = next(iter(found))
    rows = [[AXES[axis], *map(in_words, found), "10% to 90%", "a sample", "peak memory"]]
    for value in VALUES[axis]:
        results = [measured[f"{axis} {value}"] for measured in found.values()]
        low, median, high = (results[-1][key] * 1e3 for key in ("p10", "median", "p90"))
        samples = value if axis == "batch" else Tutorial().batch
        times = [f"{result['median'] * 1e3:.3g} ms" for result in results]
        memory = f"{found[first][f'{axis} {value}']['peak_memory_MB']:.0f} MB"
        rows.append([str(value), *times, f"{low:.3g} to {high:.3g} ms", f"{median / samples * 1e3:.3g} us", memory])
    return report.table(rows)


def bytes_of(task: Tutorial) -> dict[str, Any]:
    """Bytes of the arrays of a first step, and of the parameters."""
    loss_fn, arrays = SF.mse_count_loss(0.8, 0.2), {}
    for made in (replace(task, hidden=8, batch=2), task):  # the first compiles
        net, (x, y) = made.net("cpu"), made.batches()[0]
        tracemalloc.start()
        spk, _ = net.forward(x)
        arrays["tape"] = tracemalloc.get_traced_memory()[0]
        dspk = loss_fn(spk, y)[1]
        before = tracemalloc.get_traced_memory()[0]
        net.backward(dspk=dspk)
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        arrays |= {"gradients": now - before, "peak": peak}
    parameters = net.vector.nbytes + net.gradient_vector.nbytes
    return {"checkpoint_every": task.checkpoint_every, "parameters": parameters} | arrays


def memory() -> dict[str, list[dict[str, Any]]]:
    """bytes_of each size, whole, and in windows of half the root of its steps."""
    tasks = {f"{axis} {value}": net_of(f"{axis} {value}") for axis, values in VALUES.items() for value in values}
    tasks[f"hidden {LARGE.hidden}, steps {LARGE.steps}"] = LARGE
    found = {}
    for name, task in tasks.items():
        every = max(1, round(math.sqrt(task.steps) / 2))
        found[name] = [bytes_of(replace(task, checkpoint_every=k)) for k in (None, every)]
    return found


def memory_table(found: dict[str, list[dict[str, Any]]]) -> str:
    """In MB."""
    names = "tape", "gradients", "peak"
    rows = [["MB a step", "parameters", *names, "checkpoint_every", *names]]
    for name, (whole, windows) in found.items():
        numbers = ([f"{each[key] / 1e6:.2f}" for key in names] for each in (whole, windows))
        first, second = numbers
        rows.append([name, f"{whole['parameters'] / 1e6:.2f}", *first, str(windows["checkpoint_every"]), *second])
    return report.table(rows)


def plot(path: str, found: dict[int, dict[str, Any]]) -> None:
    """Time above and memory below, a column an axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(2, len(VALUES), sharey="row")
    for column, (axis, values) in enumerate(VALUES.items()):
        above, below = panels[:, column]
        for threads, measured in found.items():
            results = [measured[f"{axis} {value}"] for value in values]
            median, low, high = ([1e3 * result[key] for result in results] for key in ("median", "p10", "p90"))
            (line,) = above.loglog(values, median, "o-", label=in_words(threads))
            above.fill_between(values, low, high, color=line.get_color(), alpha=0.2)
            below.semilogx(values, [result["peak_memory_MB"] for result in results], "o-", color=line.get_color())
        below.set_xlabel(AXES[axis])
        below.set_ylim(bottom=0)
        for panel in (above, below):
            panel.set_xticks(values, map(str, values))
            panel.xaxis.minorticks_off()
            panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("training step, ms")
    panels[1, 0].set_ylabel("peak memory, MB")
    panels[0, 0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads")
    parser.add_argument("--rounds", type=int, default=10, help=f"rounds of {TIMES} steps of each size")
    parser.add_argument("--out", help="write the result to this JSON file")
    parser.add_argument("--plot", metavar="FILE", help="draw it to this file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        snn.set_num_threads(arguments.threads[0])
        race.serve({"step": race.Task(net_of(arguments.serve).on("cpu"), WARM_UP, TIMES)})
        return
    names = [f"{axis} {value}" for axis, values in VALUES.items() for value in values]
    measured = race.measure(__file__, names, ["step"], arguments.threads, arguments.rounds)
    found = {threads: tasks["step"] for threads, tasks in measured.items()}
    for axis in VALUES:
        print(f"\n{table(axis, found)}")
    sizes = memory()
    print(f"\n{memory_table(sizes)}")
    if arguments.plot:
        plot(arguments.plot, found)
    result = {"seconds_by_threads": found, "bytes": sizes}
    if arguments.out:
        report.write(arguments.out, report.machine("snnumba", "numpy", "numba") | result)


if __name__ == "__main__":
    main()
