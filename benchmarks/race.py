"""Candidates measured side by side: each a process of its own, one after the other in every round.

So the machine's moods meet all alike. A candidate answers on stdout: "ready" once it has warmed up, then for each task
that is named on stdin its peak memory in MB and the seconds of each time it did the task.
"""

import importlib.util
import itertools
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import report

PAUSE = 0.05  # seconds until the threads of the candidate before have gone to sleep


class Task(NamedTuple):
    """What a candidate does: so many times to warm up, and then so many times in every round."""

    run: Callable[[], None]
    warm_up: int
    times: int


def serve(tasks: Mapping[str, Task]) -> None:
    """In a candidate's process: warm up, and do a task whenever it is named, twice as often as it is timed."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for task in tasks.values():
        for _ in range(task.warm_up):
            task.run()
    print("ready", file=answers, flush=True)
    for name in map(str.strip, sys.stdin):
        run, _, times = tasks[name]
        for _ in range(times):  # brings its arrays, and those of all batches, back into the caches
            run()
        seconds = []
        for _ in range(times):
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(peak, *seconds, file=answers, flush=True)


Measured = dict[str, dict[str, dict[str, float]]]  # by task and candidate


def measure(
    script: str,
    candidates: Sequence[str],
    tasks: Sequence[str],
    threads: Sequence[int],
    rounds: int,
    passed_on: Sequence[str] = (),
) -> dict[int, Measured]:
    """Seconds of each task and peak memory until then, for each number of threads, of each candidate.

    A candidate is served by `script --serve candidate --threads threads`, and what else is passed on.
    """
    processes: dict[tuple[int, str], Any] = {}
    for count, name in itertools.product(threads, candidates):
        environment = os.environ | {name: str(count) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        command = [sys.executable, script, "--serve", name, "--threads", str(count), *passed_on]
        processes[count, name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    seconds: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    peaks: dict[tuple[str, int, str], float] = {}
    try:
        for key in list(processes):
            if processes[key].stdout.readline().strip() != "ready":
                print(f"{key[1]} did not start, so it is not measured; its message is above")
                processes.pop(key).kill()
        for _, task in itertools.product(range(rounds), tasks):
            for key, process in processes.items():
                time.sleep(PAUSE)
                process.stdin.write(f"{task}\n")
                process.stdin.flush()
                peaks[task, *key], *times = map(float, process.stdout.readline().split())
                seconds[task, *key] += times
    finally:
        for process in processes.values():
            process.kill()
    found: dict[int, Measured] = {count: {task: {} for task in tasks} for count in threads}
    for (task, count, name), times in seconds.items():
        found[count][task][name] = report.spread(times) | {"peak_memory_MB": peaks[task, count, name]}
    return found


def installed(packages: Mapping[str, str]) -> list[str]:
    """The candidates whose package is installed; those whose is not are named on stdout."""
    found = {name: importlib.util.find_spec(package) is not None for name, package in packages.items()}
    if not all(found.values()):
        print(f"not installed, so not measured: {', '.join(name for name in found if not found[name])}")
    if not any(found.values()):
        raise SystemExit("nothing to measure")
    return [name for name in found if found[name]]


def rows(measured: Mapping[str, Mapping[str, float]], first: str) -> list[list[str]]:
    """A row for each candidate: median, spread, and how many times the median of `first`."""
    made = []
    for name, result in measured.items():
        low, median, high = (result[key] * 1e3 for key in ("p10", "median", "p90"))
        ratio = result["median"] / measured[first]["median"]
        made.append([name, f"{median:.2f} ms", f"{low:.2f} to {high:.2f} ms", f"{ratio:.1f} x"])
    return made
