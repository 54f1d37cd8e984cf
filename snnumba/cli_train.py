"""The command that trains: a run from options or from a file, saved so that it can go on from where it was stopped."""

import argparse
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

import numpy as np

from . import checkpoint, datasets, optim
from .checkpoint import Run
from .guards import Diverged
from .history import History
from .layers.base import check_size
from .network import Network
from .report import described_net, epoch_row, extras, figures_of, header, resources, row, use_threads
from .tasks import TASKS, Task
from .train_options import check_resume, settings_of, task_of
from .training import fit

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD}
# Settings that a run's net tells, and those that its optimizer and schedule tell: these are kept where they are given,
# as is where and how it was trained.
OF_NET = ("hidden", "num_steps", "beta")
OF_TRAINING = ("optimizer", "momentum", "weight_decay", "schedule", "step_size", "gamma", "clip", "on_nan")
WHERE = ("device", "precision")
HOW = (*WHERE, "checkpoint_every")


class Stopped(BaseException):
    """A signal ended the training."""

    def __init__(self, number: int, text: str = "stopped") -> None:
        super().__init__(text)
        self.signal = number


class _Signals:
    """Keeps that SIGINT or SIGTERM came, for whoever can stop then; the second stops at once."""

    def __init__(self) -> None:
        self.came: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.came is not None:
            raise Stopped(number)
        self.came = number


def train(args: argparse.Namespace) -> None:
    """Run `snnumba train`."""
    use_threads(args.threads)
    out, (task, run) = (args.out, _new(args)) if args.resume is None else _resumed(args)
    net, history = run.net, run.history
    loader = datasets.Loader(task.train, task["batch_size"], seed=task["seed"])
    clip = run.settings.get("clip")
    row("data", f"{task.described(task.train)}, and {len(task.test)} to test")
    for note in task.notes():
        row("", note)
    row("net", described_net(net))
    row("loss", f"{task.loss_fn!r}")
    plan = f"lr {task['lr']}, batch {task['batch_size']}, epochs {task['epochs']}, seed {task['seed']}"
    row("training", ", ".join([type(run.optimizer).__name__, plan, *extras(run.optimizer, run.schedule, clip)]))
    row("on", resources(net))
    saved = "nothing of this run is saved"
    if args.resume is not None:
        row("goes on", f"from {args.resume}, {history.place}")
        for note in _notes(run):
            row("", note)
        saved = f"{args.resume} is as it was {history.place}"
    print()
    due = time.monotonic() + 60 * args.save_every

    def save(history: History) -> None:
        nonlocal saved, due
        try:
            checkpoint.save(out, net, run.optimizer, history, run.settings, run.schedule)
        except OSError as error:
            raise OSError(f"{out} cannot be saved: {error.strerror or error}; {saved}") from None
        saved = f"{out} is as it was {history.place}; `snnumba train --resume {out}` goes on"
        due = time.monotonic() + 60 * args.save_every

    def on_step(history: History) -> None:
        if signals.came is not None or time.monotonic() >= due:
            save(history)
        if signals.came is not None:
            raise Stopped(signals.came)

    def on_epoch(epoch: int, history: History) -> None:
        save(history)
        if epoch == first:
            print("\n".join(header(task, history)))
        print(epoch_row(task, history), flush=True)
        if signals.came is not None and epoch < task["epochs"]:
            raise Stopped(signals.came)

    first = history.epochs + 1
    try:
        with _Signals() as signals, np.errstate(over="ignore", invalid="ignore"):  # fit says where training diverges
            fit(
                net,
                loader,
                task.loss_fn,
                run.optimizer,
                task["epochs"],
                task.test,
                metrics=task.metrics,
                schedule=run.schedule,
                clip=clip,
                on_nan=run.settings.get("on_nan", args.on_nan),
                history=history,
                on_step=on_step,
                on_epoch=on_epoch,
            )
    except Diverged as error:
        raise Diverged(f"{error}; {saved}") from None
    except Stopped as stop:
        raise Stopped(stop.signal, f"stopped; {saved}") from None
    print()
    row(*task.verdict({name: tested[-1] for name, (_, tested) in figures_of(history).items()}))
    if history.skipped:
        row("skipped", f"{history.skipped} of {history.loss.size} steps: their loss or gradients were not finite")
    row("saved", f"{out}; `snnumba evaluate {out}` tests it again")


def _new(args: argparse.Namespace) -> tuple[Task, Run]:
    """A run that begins, from the options."""
    settings = settings_of(args)
    _check_out(args.out)
    task = TASKS[args.task](settings)
    how = {name: getattr(args, name) for name in HOW}
    net = Network(*task.layers(), num_steps=task["num_steps"], dtype=args.dtype, seed=args.seed, **how)
    given = {name: getattr(args, name) for name in ("weight_decay", "momentum") if name in args.given}
    optimizer = OPTIMIZERS[args.optimizer](net, lr=task["lr"], **given)
    schedule = _schedule(optimizer, task, args)
    kept = {name: value for name, value in task.settings.items() if name not in OF_NET + OF_TRAINING}
    kept["samples_crc32"] = datasets.fingerprint(task.train)
    kept |= {name: getattr(args, name) for name in OF_TRAINING + HOW if name in args.given}
    return task, Run(net, optimizer, History(), kept, {}, schedule)


def _resumed(args: argparse.Namespace) -> tuple[Path, tuple[Task, Run]]:
    """Where to save a run that goes on, and the run, from its file."""
    check_resume(args)
    out = args.out if "out" in args.given else args.resume
    run = checkpoint.load(args.resume)
    _check_out(out)
    run.settings.update({name: getattr(args, name) for name in ("epochs", "on_nan", *HOW) if name in args.given})
    run.net.to(*(run.settings.get(name, getattr(args, name)) for name in WHERE))
    run.net.checkpoint_every = run.settings.get("checkpoint_every")
    task = task_of(run, args.resume)
    if run.settings.get("samples_crc32") not in (None, datasets.fingerprint(task.train)):
        raise ValueError(f"{args.resume} was trained on other samples than those of {task.train.name} now")
    if run.history.epochs >= check_size("epochs", task["epochs"]):
        raise ValueError(f"{args.resume} has done its {run.history.epochs} epochs; --epochs, with more, lets it go on")
    return out, (task, run)


def _schedule(optimizer: optim.Optimizer, task: Task, args: argparse.Namespace) -> optim.Schedule | None:
    """The schedule that was chosen, or the task's."""
    if task["schedule"] == "step":
        return optim.StepLR(optimizer, args.step_size or max(1, task["epochs"] // 3), args.gamma)
    return optim.CosineAnnealingLR(optimizer, task["epochs"]) if task["schedule"] == "cosine" else None


def _notes(run: Run) -> list[str]:
    """What there is to say where others computed the run so far than will from here on."""
    changed = [name for name, version in checkpoint.versions().items() if run.versions.get(name) != version]
    seen = ", ".join(f"{name} {run.versions.get(name)}" for name in changed)
    return [f"saved by {seen}: its bits may not be those of a run never stopped"] if changed else []


def _check_out(out: Path) -> None:
    """Refuse, before anything is done, a file that cannot be written, or that is something else than a run."""
    if not out.parent.is_dir():
        raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}")
    if out.exists() and not checkpoint.is_run(out):
        raise ValueError(f"--out {out} exists and is not a run; it is left as it is")
    try:
        tempfile.TemporaryFile(dir=out.parent).close()
    except OSError as error:
        raise OSError(f"--out {out} cannot be written: {error.strerror}") from None
