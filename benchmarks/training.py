"""The tutorial net in snnumba beside the peers that are installed: a training step, and 10,000 images classified.

    python benchmarks/training.py [--threads 1 2] [--rounds 15] [--out benchmarks/results/training.json]
    python benchmarks/training.py --hidden 1024 --steps 100 --tasks step --times 1 [--out ...]

What is computed is in peers/__init__.py: a step is forward, loss, backward and Adam, on images with MNIST's share of
dark pixels; images are classified 128 at a time. Each candidate is a process of its own, and all take turns (race.py).
Peers: requirements-peers.txt.
"""

import argparse
import itertools

import peers
import race
import report
from peers import BATCH, CANDIDATES, HIDDEN, IMAGES, INPUTS, OUTPUTS, STEPS, runs

TASKS = {"step": "training step", "inference": f"{IMAGES:,} images"}
PACKAGES = "snnumba", "numpy", "numba", "torch", "snntorch", "spikingjelly", "norse", "spyx", "jax", "jaxlib"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads of each candidate")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of steps and all images")
    parser.add_argument("--times", type=int, default=20, help="steps of a round, after as many that are not measured")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="what is measured")
    parser.add_argument("--hidden", type=int, default=HIDDEN, help="hidden neurons")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of time")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, help="these candidates alone")
    parser.add_argument("--out", help="write the result to this JSON file")
    parser.add_argument("--serve", choices=CANDIDATES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = {name: getattr(arguments, name) for name in ("hidden", "steps", "times")}
    if arguments.serve:
        peers.resize(arguments.hidden, arguments.steps)
        made = runs(arguments.serve, arguments.threads[0])
        step = race.Task(made["step"], warm_up=max(3, 3 * arguments.times // 2), times=arguments.times)
        tasks = {"step": step, "inference": race.Task(made["inference"], warm_up=2, times=1)}
        race.serve({name: tasks[name] for name in arguments.tasks})
        return
    packages = {name: x.package for name, x in CANDIDATES.items() if not arguments.only or name in arguments.only}
    passed_on = ["--tasks", *arguments.tasks, *(word for name, n in size.items() for word in (f"--{name}", str(n)))]
    candidates, tasks = race.installed(packages), arguments.tasks
    found = race.measure(__file__, candidates, tasks, arguments.threads, arguments.rounds, passed_on)
    print(f"{INPUTS}-{arguments.hidden}-{OUTPUTS}, batch {BATCH}, {arguments.steps} steps, float32")
    for (threads, measured), task in itertools.product(found.items(), tasks):
        results = measured[task]
        rows = [[f"{TASKS[task]}, {threads} threads", "median", "10% to 90%", "against the first", "peak memory"]]
        for row, result in zip(race.rows(results, next(iter(results))), results.values(), strict=True):
            rows.append([*row, f"{result['peak_memory_MB']:.0f} MB"])
        print(f"\n{report.table(rows)}")
    if arguments.out:
        report.write(arguments.out, report.machine(*PACKAGES) | size | {"seconds_by_threads": found})


if __name__ == "__main__":
    main()
