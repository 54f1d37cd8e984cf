"""The tutorial net in snnumba beside the peers that are installed: a training step, and 10,000 images classified.

    python benchmarks/training.py [--threads 1 2] [--rounds 15] [--out benchmarks/results/training.json]

What is computed is in peers/__init__.py: a step is forward, loss, backward and Adam, on images with MNIST's share of
dark pixels; images are classified 128 at a time. Each candidate is a process of its own, and all take turns (race.py).
Peers: requirements-peers.txt.
"""

import argparse
import itertools

import race
import report
from peers import BATCH, CANDIDATES, HIDDEN, IMAGES, INPUTS, OUTPUTS, STEPS, runs

TASKS = {"step": "training step", "inference": f"{IMAGES:,} images"}
STEPS_A_ROUND = 20
PACKAGES = "snnumba", "numpy", "numba", "torch", "snntorch", "spikingjelly", "norse", "spyx", "jax", "jaxlib"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads of each candidate")
    parser.add_argument("--rounds", type=int, default=15, help=f"rounds of {STEPS_A_ROUND} steps and all images")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, help="these candidates alone")
    parser.add_argument("--out", help="write the result to this JSON file")
    parser.add_argument("--serve", choices=CANDIDATES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        made = runs(arguments.serve, arguments.threads[0])
        step = race.Task(made["step"], warm_up=30, times=STEPS_A_ROUND)  # to warm up: compilation, caches, tuning
        race.serve({"step": step, "inference": race.Task(made["inference"], warm_up=2, times=1)})
        return
    packages = {name: x.package for name, x in CANDIDATES.items() if not arguments.only or name in arguments.only}
    found = race.measure(__file__, race.installed(packages), list(TASKS), arguments.threads, arguments.rounds)
    print(f"{INPUTS}-{HIDDEN}-{OUTPUTS}, batch {BATCH}, {STEPS} steps, float32")
    for (threads, measured), (task, title) in itertools.product(found.items(), TASKS.items()):
        results = measured[task]
        rows = [[f"{title}, {threads} threads", "median", "10% to 90%", "against the first", "peak memory"]]
        for row, result in zip(race.rows(results, next(iter(results))), results.values(), strict=True):
            rows.append([*row, f"{result['peak_memory_MB']:.0f} MB"])
        print(f"\n{report.table(rows)}")
    if arguments.out:
        report.write(arguments.out, report.machine(*PACKAGES) | {"seconds_by_threads": found})


if __name__ == "__main__":
    main()
