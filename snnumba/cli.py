"""The command line: arguments in, messages out.

Exit status 0; 2 with one line on stderr that says what was wrong; 130 where the user stopped it.
"""

import argparse
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numba.core import event
from tqdm import tqdm

from . import __version__, backend, checkpoint, datasets, optim
from .history import History
from .kernels import cpu
from .network import Network
from .tasks import TASKS, Task
from .tasks.classification import LOSSES
from .tasks.trajectory import MODES
from .training import evaluate, fit

CLASSIFICATION = "classification"  # the task where none is named
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD}
OF_CHOICES = {  # options that go with one choice of another
    "momentum": ("optimizer", "sgd"),
    "step_size": ("schedule", "step"),
    "gamma": ("schedule", "step"),
}
# Settings that a run's net tells, and those that its optimizer and schedule tell: these are kept where they are given.
OF_NET = ("hidden", "num_steps", "beta")
OF_TRAINING = ("optimizer", "momentum", "weight_decay", "schedule", "step_size", "gamma", "clip")
DEFAULT = "(default: %(default)s)"  # in the help of an option
ERRORS = (ValueError, TypeError, KeyError, OSError, MemoryError)  # what bad input raises


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of these arguments, or of the process's: the exit status."""
    args = _parser().parse_args(argv)
    try:
        with event.install_listener("numba:compile", _CompileNotice()):
            args.run(args)
        if sys.stdout is not None:  # it is None where it was closed
            sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        print("snnumba: ", "; ".join(["stopped", *map(str, interrupt.args)]), sep="", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except ERRORS as error:
        print(f"snnumba: error: {_message(error)}", file=sys.stderr)
        return 2
    return 0


def _message(error: BaseException) -> str:
    """What is wrong, in one line."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return _plain(" ".join(text.split())) or type(error).__name__


def _plain(text: str) -> str:
    """The text, with what a terminal would obey written as an escape: a name can come from a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _row(label: str, text: str) -> None:
    print(f"{label:<11}{_plain(text)}", flush=True)


class _CompileNotice(event.Listener):
    """Says once, on stderr, that kernels are being compiled: Numba tells when it does, and not when it loads them."""

    def __init__(self) -> None:
        self._said = False

    def on_start(self, event: Any) -> None:
        kept = event.data["dispatcher"].stats.cache_path is not None
        if self._said or not (kept or cpu.cache_folder is None):
            return
        self._said = True
        why = "first run only" if kept else "the cache folder cannot be written"
        tqdm.write(f"compiling kernels ({why})", file=sys.stderr)  # above a progress bar

    def on_end(self, event: Any) -> None:
        pass


def _train(args: argparse.Namespace) -> None:
    settings = _settings(args)
    _check_out(args.out)
    _use_threads(args.threads)
    task = TASKS[args.task](settings)
    loader = datasets.Loader(task.train, task["batch_size"], seed=args.seed)
    where = {"device": args.device, "precision": args.precision}
    net = Network(*task.layers(), num_steps=task["num_steps"], dtype=args.dtype, seed=args.seed, **where)
    optimizer = _optimizer(net, task["lr"], args)
    schedule = _schedule(optimizer, task, args)
    _row("data", f"{task.described(task.train)}, and {len(task.test)} to test")
    for note in task.notes():
        _row("", note)
    _row("net", _described_net(net))
    _row("loss", f"{task.loss_fn!r}")
    plan = f"lr {task['lr']}, batch {task['batch_size']}, epochs {task['epochs']}, seed {args.seed}"
    _row("training", ", ".join([type(optimizer).__name__, plan, *_extras(optimizer, schedule, args.clip)]))
    _row("on", _resources(net))
    print()

    saved = "nothing is saved"
    kept = {name: value for name, value in task.settings.items() if name not in OF_NET + OF_TRAINING}
    kept |= {name: getattr(args, name) for name in OF_TRAINING if name in args.given}

    def on_epoch(epoch: int, history: History) -> None:
        nonlocal saved
        checkpoint.save(args.out, net, optimizer, history, kept, schedule)
        saved = f"{args.out} is as it was after epoch {epoch}"
        if epoch == 1:
            print("\n".join(_header(task, history)))
        print(_epoch_row(task, history), flush=True)

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # fit says it where the training diverges
            history = fit(
                net,
                loader,
                task.loss_fn,
                optimizer,
                task["epochs"],
                task.test,
                metrics=task.metrics,
                schedule=schedule,
                clip=args.clip,
                on_epoch=on_epoch,
            )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(saved) from None
    print()
    _row(*task.verdict({name: tested[-1] for name, (_, tested) in _figures(history).items()}))
    _row("saved", f"{args.out}; `snnumba evaluate {args.out}` tests it again")


def _optimizer(net: Network, lr: float, args: argparse.Namespace) -> optim.Optimizer:
    """The optimizer that was chosen, with what was given of its options."""
    given = {name: getattr(args, name) for name in ("weight_decay", "momentum") if name in args.given}
    return OPTIMIZERS[args.optimizer](net, lr=lr, **given)


def _schedule(optimizer: optim.Optimizer, task: Task, args: argparse.Namespace) -> optim.Schedule | None:
    """The schedule that was chosen, or the task's."""
    if task["schedule"] == "step":
        return optim.StepLR(optimizer, args.step_size or max(1, task["epochs"] // 3), args.gamma)
    return optim.CosineAnnealingLR(optimizer, task["epochs"]) if task["schedule"] == "cosine" else None


def _extras(optimizer: optim.Optimizer, schedule: optim.Schedule | None, clip: float | None) -> list[str]:
    """What there is to say of the training beside what there always is."""
    given = {name: optimizer.config.get(name) for name in ("momentum", "weight_decay")}
    extras = [f"{name.replace('_', ' ')} {value}" for name, value in given.items() if value]
    if schedule is not None:
        extras.append(f"{schedule!r}")
    if clip is not None:
        extras.append(f"clip {clip}")
    return extras


def _figures(history: History) -> dict[str, tuple[list[float], list[float]]]:
    """What was measured in each epoch, in training and in the test."""
    figures = {"accuracy": (history.accuracy, history.validation_accuracy)} if history.accuracy else {}
    return figures | {name: (values, history.validation_metrics[name]) for name, values in history.metrics.items()}


def _header(task: Task, history: History) -> list[str]:
    width = 9 * len(history.rates)
    layers = "".join(f"{f'layer {name}':>9}" for name in history.rates)
    headings = "".join(f"{heading:>16}" for heading, _ in task.figures.values())
    return [
        f"{'':14}{headings}{'firing rate':>{width + 2}}",
        f"epoch     loss{'   train    test' * len(task.figures)}  {layers}   seconds",
    ]


def _epoch_row(task: Task, history: History) -> str:
    """The last epoch, in the columns of _header."""
    figures = _figures(history)
    pairs = "".join(f"{x[-1]:>8{form}}" for name, (_, form) in task.figures.items() for x in figures[name])
    rates = "".join(f"{rates[-1]:>9.1%}" for rates in history.rates.values())
    return f"{history.epochs:>5}{history.epoch_loss[-1]:>9.5f}{pairs}  {rates}{history.seconds[-1]:>10.2f}"


def _evaluate(args: argparse.Namespace) -> None:
    run = checkpoint.load(args.run_file, args.device)
    _use_threads(args.threads)
    task = _task_of(run, args)
    loss_fn = getattr(task, "loss_fn", None)
    batch_size = args.batch_size or run.settings.get("batch_size", 128)
    result = evaluate(run.net, task.test, loss_fn, batch_size, metrics=task.metrics)
    figures = result.metrics if result.accuracy is None else {"accuracy": result.accuracy}
    _row("run", f"{args.run_file}, {run.history.epochs} epochs, of snnumba {run.versions.get('snnumba', '?')}")
    _row("net", f"{_described_net(run.net)}, {_resources(run.net)}")
    _row("data", f"{task.described(task.test)}, to test")
    _row(*task.verdict(figures))
    if result.loss is not None:
        _row("loss", f"{result.loss:.5f}, {loss_fn!r}")
    _row("firing", ", ".join(f"layer {layer} {rate:.1%}" for layer, rate in result.rates.items()))


def _task_of(run: checkpoint.Run, args: argparse.Namespace) -> Task:
    """The task of a saved run, on the data that is asked for."""
    name = run.settings.get("task", CLASSIFICATION)
    if not isinstance(name, str) or name not in TASKS:
        raise ValueError(f"{args.run_file}: task must be one of {', '.join(TASKS)}; got {name!r}")
    settings = run.settings | {"num_steps": run.net.num_steps, "dtype": run.net.dtype.name}
    if args.data is not None:
        if name != CLASSIFICATION:
            raise ValueError(f"--data is of --task {CLASSIFICATION}, and {args.run_file} is of --task {name}")
        settings["data"] = args.data
    if name == CLASSIFICATION and not isinstance(settings.get("data"), str):
        raise ValueError(f"{args.run_file} does not name the data that it was trained on; give --data")
    return TASKS[name](settings)


def _data(args: argparse.Namespace) -> None:
    from . import mnist  # for the web it needs modules that are slow to import

    _check_to(args.to)
    path = mnist.download(args.to) if args.source is None else mnist.convert(args.source, args.to)
    task = TASKS[CLASSIFICATION]({"data": str(path), "dtype": "float32"})
    _row("data", f"{task.described(task.train)}, and {len(task.test)} to test")
    _row("saved", f"{path}; `snnumba train --data {path}` trains on it")


def _info(args: argparse.Namespace) -> None:
    _row("snnumba", __version__)
    _row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("numpy", "numba", "llvmlite", "scipy", "h5py"):
        _row(package, metadata.version(package))
    _row("threads", f"{backend.get_num_threads()}, with {cpu.available_threads()} cores; SNNUMBA_NUM_THREADS sets them")
    for device in backend.DEVICES:
        try:
            kernels = backend.load(device)
        except ValueError as error:
            _row("device", f"{device}: {error}")
            continue
        _row("device", f"{device}: {'available' if device == 'cpu' else kernels.device_name()}")
        if device == "cuda":
            missing = kernels.graphs_missing()
            _row("graphs", "a training step is one CUDA graph" if missing is None else f"{missing}: plain launches")
    _row("kernels", str(cpu.cache_folder or "not kept between runs: the cache folder cannot be written"))


def _described_net(net: Network) -> str:
    inputs, *outputs = ("x".join(map(str, shape or "?")) for shape in net.shapes)
    layers = " > ".join(f"{type(layer).__name__} {shape}" for layer, shape in zip(net.layers, outputs, strict=True))
    size = sum(x.size for x in net.parameters.values())
    return f"{inputs} {'input' if inputs == '1' else 'inputs'} > {layers}; {net.num_steps} steps, {size} parameters"


def _resources(net: Network) -> str:
    kind = f"{net.dtype}, products in tf32" if net.precision == "tf32" else net.dtype
    if net.device == "cuda":
        return f"{kind}, cuda, {net._kernels.device_name()}"
    return f"{kind}, {net.device}, {backend.get_num_threads()} threads"


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of the task that was chosen; refuse the options of others."""
    options = TASKS[args.task].options
    for name in sorted(args.given - options.keys()):
        others = [task for task, kind in TASKS.items() if name in kind.options]
        if others:
            of = " and ".join(f"--task {task}" for task in others)
            raise ValueError(f"{_option(name)} is of {of} and cannot be given with --task {args.task}")
    settings = {name: getattr(args, name) if name in args.given else value for name, value in options.items()}
    for name, (option, choice) in OF_CHOICES.items():
        chosen = settings.get(option, getattr(args, option))
        if name in args.given and chosen != choice:
            raise ValueError(f"{_option(name)} is of --{option} {choice} and cannot be given with --{option} {chosen}")
    settings |= {"seed": args.seed, "dtype": args.dtype}
    if args.task != CLASSIFICATION:
        return {"task": args.task} | settings
    of_losses = {name for _, named in LOSSES.values() for name in named}
    return {name: value for name, value in settings.items() if name not in of_losses} | _loss_options(args)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _loss_options(args: argparse.Namespace) -> dict[str, float]:
    """The options of the loss that was chosen; refuse those of another."""
    chosen = dict(LOSSES[args.loss][1])
    for loss, (_, options) in LOSSES.items():
        for name in options:
            given = getattr(args, name)
            if given is None:
                continue
            if loss != args.loss:
                raise ValueError(f"{_option(name)} is of --loss {loss} and cannot be given with --loss {args.loss}")
            chosen[name] = given
    return chosen


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


def _check_to(to: Path) -> None:
    """Refuse, before anything is done, to write over what is not a data set."""
    if to.is_dir():
        raise IsADirectoryError(f"--to {to} is a folder; name a file")
    if to.exists():
        try:
            datasets.load(to)
        except (OSError, ValueError):
            raise ValueError(f"--to {to} exists and is not a data set; it is left as it is") from None


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        backend.set_num_threads(threads)


class _Given(argparse.Action):
    """Keep a value, and that it was given: only then is an option of another task refused."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.given = namespace.given | {self.dest}


class _Parser(argparse.ArgumentParser):
    """Errors in one line, as all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"snnumba: error: {' '.join(message.split())} (see {self.prog} --help)\n")


def _number(kind: type, good: Callable[[Any], bool], what: str, text: str) -> Any:
    """The number in an argument, if it is a good one."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not good(value):
        raise argparse.ArgumentTypeError(f"must be {what}; got {text!r}")
    return value


COUNT = partial(_number, int, lambda x: x >= 1, "a whole number of at least 1")
SEED = partial(_number, int, lambda x: x >= 0, "a whole number of at least 0")
SHARE = partial(_number, float, lambda x: 0 <= x <= 1, "a number from 0 to 1")
POSITIVE = partial(_number, float, lambda x: 0 < x < math.inf, "a number above 0")
NOT_NEGATIVE = partial(_number, float, lambda x: 0 <= x < math.inf, "a number of at least 0")
FINITE = partial(_number, float, math.isfinite, "a finite number")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="snnumba", description="Train recurrent spiking neural networks with kernels by Numba.")
    parser.add_argument("--version", action="version", version=f"snnumba {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str, *examples: str) -> _Parser:
        made = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog="\n  ".join(["examples:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.set_defaults(run=run)
        return made

    train = command(
        "train",
        _train,
        "train a spiking net: on labelled images, to follow a trajectory, or to fire at the right time",
        "snnumba train --data digits --epochs 2",
        "snnumba train --data data/mnist.h5 --hidden 256 --out big.run.h5",
        "snnumba train --loss membrane --on-target 1.05 --off-target 0.2",
        "snnumba train --optimizer adamw --schedule cosine --clip 1",
        "snnumba train --task trajectory --mode sqrt",
        "snnumba train --task spike-time",
    )
    train.register("action", None, _Given)
    train.set_defaults(given=frozenset())
    _train_options(train)

    add = command(
        "evaluate", _evaluate, "test a saved run", "snnumba evaluate run.h5", "snnumba evaluate run.h5 --data mnist"
    ).add_argument
    add("run_file", metavar="RUN", help="a file that `snnumba train` saved")
    add("--data", metavar="DATA", help="as in `snnumba train` (default: what the run was trained on)")
    add("--batch-size", type=COUNT, metavar="N", help="images at a time (default: the run's)")
    add("--device", choices=backend.DEVICES, default="cpu", help=f"where to compute {DEFAULT}")
    add("--threads", type=COUNT, metavar="N", help="CPU threads; results do not depend on it (default: all cores)")

    add = command(
        "data", _data, "get a data set", "snnumba data mnist", "snnumba data mnist --from ~/Downloads/mnist"
    ).add_argument
    add("set", choices=("mnist",), help="the set to get")
    add("--from", dest="source", metavar="DIR", help="folder with the four IDX files, packed with gzip or not "
        "(default: they are downloaded)")  # fmt: skip
    add("--to", default=datasets.MNIST, type=Path, metavar="FILE", help=f"HDF5 file to write {DEFAULT}")

    command("info", _info, "tell versions, threads, devices and where kernels are kept", "snnumba info")
    return parser


def _train_options(parser: argparse.ArgumentParser) -> None:
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
        groups[of].add_argument(_option(name), default=first, help=text, **options)

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
    add_common("--seed", type=SEED, default=0, metavar="N", help="draws the weights, the order of the samples and, but "
               f"for images, the samples {DEFAULT}")  # fmt: skip
    add_common("--dtype", choices=("float32", "float64"), default="float32", help=f"type of all numbers {DEFAULT}")
    add_common("--device", choices=backend.DEVICES, default="cpu", help=f"where to compute {DEFAULT}")
    add_common("--precision", choices=backend.PRECISIONS, default="fp32", help="of large products; tf32, faster and "
               f"with 10 bits after the point, is for --device cuda {DEFAULT}")  # fmt: skip
    add_common("--threads", type=COUNT, metavar="N", help="CPU threads; results do not depend on it (default: all "
               "cores)")  # fmt: skip
    add_common("--out", type=Path, default=Path("run.h5"), metavar="FILE", help="where the run is saved after each "
               f"epoch, in place of a run already there {DEFAULT}")  # fmt: skip

    add("data", "an HDF5 file, `mnist` for data/mnist.h5, or `digits`, drawn from a seed", "mnist where data/mnist.h5 "
        "exists, else digits", metavar="DATA")  # fmt: skip
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
