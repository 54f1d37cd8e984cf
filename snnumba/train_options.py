"""The options of `snnumba train`, and the settings that they make; what of them goes with what."""

import argparse
from pathlib import Path
from typing import Any

from . import backend, checkpoint
from .arguments import COUNT, DEFAULT, FINITE, NOT_NEGATIVE, POSITIVE, SEED, SHARE, option
from .tasks import TASKS, Task
from .tasks.classification import LOSSES
from .tasks.trajectory import MODES

CLASSIFICATION = "classification"  # the task where none is named
OPTIMIZERS = "adam", "adamw", "sgd"
OF_CHOICES = {  # options that go with one choice of another
    "momentum": ("optimizer", "sgd"),
    "step_size": ("schedule", "step"),
    "gamma": ("schedule", "step"),
}
# Options that go with --resume.
OF_RESUME = "epochs", "on_nan", "device", "precision", "checkpoint_every", "threads", "out", "save_every"


def add_options(parser: argparse.ArgumentParser) -> None:
    groups: dict[str, Any] = {" and ".join(f"--task {task}" for task in TASKS): parser}

    def add(name: str, text: str, told: str = "", **options: Any) -> None:
        """Add an option of one or more tasks; the default is each task's own, told so or as it is."""
        values = {task: kind.options[name] for task, kind in TASKS.items() if name in kind.options}
        first = next(iter(values.values()))
        others = "".join(f"; {value} for {task}" for task, value in values.items() if value != first)
        of = " and ".join(f"--task {task}" for task in values)
        if of not in groups:
            groups[of] = parser.add_argument_group(f"options of {of}")
        text = f"{text} (default: {told or first}{others})"
        groups[of].add_argument(option(name), default=first, help=text, **options)

    parser.add_argument(
        "--task",
        choices=tuple(TASKS),
        default=CLASSIFICATION,
        help=f"learn classes of images, a trajectory of a membrane over time, or when to spike {DEFAULT}",
    )
    add("hidden", "neurons in a hidden layer", type=COUNT, metavar="N")
    add("num_steps", "time steps of a sample", type=COUNT, metavar="T")
    add("epochs", "passes over the training samples", type=COUNT, metavar="N")
    add("batch_size", "samples in a step of training", type=COUNT, metavar="N")
    add("lr", "learning rate", type=POSITIVE, metavar="X")
    add_common = parser.add_argument
    add_common("--optimizer", choices=tuple(OPTIMIZERS), default="adam", help=f"what changes the weights {DEFAULT}")
    add_common("--momentum", type=NOT_NEGATIVE, metavar="X", help="decay of the sum of gradients; --optimizer sgd "
               "(default: 0)")  # fmt: skip
    add_common("--weight-decay", type=NOT_NEGATIVE, metavar="X", help="times the weights, added to their gradients, or "
               "with adamw taken from them (default: 0; 0.01 for adamw)")  # fmt: skip
    add("schedule", "of the learning rate: fall by steps, or along a cosine to 0 after the last epoch",
        choices=("none", "step", "cosine"))  # fmt: skip
    add_common("--step-size", type=COUNT, metavar="N", help="epochs from one fall to the next; --schedule step "
               "(default: a third of all)")  # fmt: skip
    add_common("--gamma", type=POSITIVE, default=0.1, metavar="X", help="what each fall multiplies the learning rate "
               f"by; --schedule step {DEFAULT}")  # fmt: skip
    add_common("--clip", type=POSITIVE, metavar="X", help="largest norm of all gradients together (default: none)")
    add_common("--on-nan", choices=("stop", "skip"), default="stop", help="where loss or gradients are not finite: "
               f"stop, or leave that step out {DEFAULT}")  # fmt: skip
    add_common("--seed", type=SEED, default=0, metavar="N", help="draws the weights, the order of the samples and, but "
               f"for images, the samples {DEFAULT}")  # fmt: skip
    add_common("--dtype", choices=("float32", "float64"), default="float32", help=f"type of all numbers {DEFAULT}")
    add_common("--device", choices=backend.DEVICES, default="cpu", help=f"where to compute {DEFAULT}")
    add_common("--precision", choices=backend.PRECISIONS, default="fp32", help="of large products; tf32, faster and "
               f"with 10 bits after the point, is for --device cuda {DEFAULT}")  # fmt: skip
    add_common("--checkpoint-every", type=COUNT, metavar="K", help="keep the state of every K-th step alone, and run "
               "the others again: less memory, the same result (default: keep all)")  # fmt: skip
    add_common("--threads", type=COUNT, metavar="N", help="CPU threads; results do not depend on it (default: all "
               "cores)")  # fmt: skip
    add_common("--out", type=Path, default=Path("run.h5"), metavar="FILE", help="where the run is saved after each "
               f"epoch, in place of a run already there {DEFAULT}")  # fmt: skip
    add_common("--save-every", type=POSITIVE, default=10, metavar="X", help="minutes after which the run is saved amid "
               f"an epoch, too {DEFAULT}")  # fmt: skip
    add_common("--resume", type=Path, metavar="RUN", help="go on with a saved run, with its settings; with it go only "
               f"{', '.join(map(option, OF_RESUME))}; --out is then RUN where it is not given")  # fmt: skip

    add("data", "an HDF5 file, `mnist` for data/mnist.h5, or `digits`, drawn from a seed", "mnist where data/mnist.h5 "
        "exists, else digits", metavar="DATA")  # fmt: skip
    add("memory", "megabytes that images may take; more are streamed from their file", "half of the machine's",
        type=COUNT, metavar="MB")  # fmt: skip
    add("beta", "decay of the membranes a step, 0 to 1", type=SHARE, metavar="X")
    add("loss", "mean squared error of spike counts, or of membranes", choices=tuple(LOSSES))
    for name, kind, text in (
        ("correct_rate", SHARE, "share of the steps in which the right neuron is to fire, 0 to 1; --loss count"),
        ("incorrect_rate", SHARE, "the same for the other neurons; --loss count"),
        ("on_target", FINITE, "level the right neuron's membrane is to have, in thresholds; --loss membrane"),
        ("off_target", FINITE, "the same for the other neurons; --loss membrane"),
    ):
        (value,) = (options[name] for _, options in LOSSES.values() if name in options)
        add(name, text, str(value), type=kind, metavar="X")
    add("mode", "the membrane is to follow the input, a ramp, or its square root", choices=MODES)
    add("samples", "samples to train with", type=COUNT, metavar="N")


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the task that was chosen; refuse the options of others."""
    options = TASKS[args.task].options
    for name in sorted(args.given - options.keys()):
        others = [task for task, kind in TASKS.items() if name in kind.options]
        if others:
            of = " and ".join(f"--task {task}" for task in others)
            raise ValueError(f"{option(name)} is of {of} and cannot be given with --task {args.task}")
    settings = {name: getattr(args, name) if name in args.given else value for name, value in options.items()}
    for name, (other, choice) in OF_CHOICES.items():
        chosen = settings.get(other, getattr(args, other))
        if name in args.given and chosen != choice:
            raise ValueError(f"{option(name)} is of --{other} {choice} and cannot be given with --{other} {chosen}")
    settings |= {"seed": args.seed, "dtype": args.dtype}
    if args.task != CLASSIFICATION:
        return {"task": args.task} | settings
    of_losses = {name for _, named in LOSSES.values() for name in named}
    return {name: value for name, value in settings.items() if name not in of_losses} | _loss_options(args)


def _loss_options(args: argparse.Namespace) -> dict[str, float]:
    """The options of the loss that was chosen; refuse those of another."""
    chosen = dict(LOSSES[args.loss][1])
    for loss, (_, options) in LOSSES.items():
        for name in options:
            given = getattr(args, name)
            if given is None:
                continue
            if loss != args.loss:
                raise ValueError(f"{option(name)} is of --loss {loss} and cannot be given with --loss {args.loss}")
            chosen[name] = given
    return chosen


def check_resume(args: argparse.Namespace) -> None:
    """Refuse what a resumed run has settings of its own for."""
    if others := sorted(args.given - {"resume", *OF_RESUME}):
        raise ValueError(f"{option(others[0])} is the run's own and cannot be given with --resume")


def task_of(run: checkpoint.Run, path: Path | str, **changed: Any) -> Task:
    """The task of a saved run, with changed settings."""
    name = run.settings.get("task", CLASSIFICATION)
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"{path}: task must be one of {', '.join(TASKS)}; got {name!r}")
    settings = run.settings | {"num_steps": run.net.num_steps, "dtype": run.net.dtype.name} | changed
    for of_images in ("data", "memory"):
        if changed.get(of_images) is not None and name != CLASSIFICATION:
            raise ValueError(f"--{of_images} is of --task {CLASSIFICATION}, and {path} is of --task {name}")
    if name == CLASSIFICATION and not isinstance(settings.get("data"), str):
        raise ValueError(f"{path} does not name the data that it was trained on; give --data")
    task = TASKS[name](settings)
    task.check_net(run.net)
    return task
