"""The command line: arguments in, messages out.

Exit status 0; 2 with one line on stderr that says what was wrong; 130 and 143 where SIGINT or SIGTERM stopped it.
"""

import argparse
import os
import platform
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from numba.core import event
from tqdm import tqdm

from . import __version__, backend, checkpoint, datasets
from .arguments import COUNT, DEFAULT, Given, Parser
from .cli_train import Stopped, train
from .kernels import cpu
from .report import described_net, plain, resources, row, use_threads
from .tasks import TASKS
from .train_options import CLASSIFICATION, add_options, task_of
from .training import evaluate

ERRORS = (ValueError, TypeError, KeyError, OSError, MemoryError)  # what bad input raises


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of these arguments, or of the process's: the exit status."""
    args = _parser().parse_args(argv)
    try:
        with event.install_listener("numba:compile", _CompileNotice()), warnings.catch_warnings():
            warnings.showwarning = _warn
            args.run(args)
        if sys.stdout is not None:  # it is None where it was closed
            sys.stdout.flush()
    except Stopped as stop:
        print(f"snnumba: {plain(str(stop))}", file=sys.stderr)
        return 128 + stop.signal
    except KeyboardInterrupt:
        print("snnumba: stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except ERRORS as error:
        print(f"snnumba: error: {_message(error)}", file=sys.stderr)
        return 2
    return 0


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    """Tell a warning in one line, above a progress bar."""
    tqdm.write(f"snnumba: warning: {plain(str(message))}", file=sys.stderr)


def _message(error: BaseException) -> str:
    """What is wrong, in one line."""
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return plain(" ".join(text.split())) or type(error).__name__


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


def _evaluate(args: argparse.Namespace) -> None:
    run = checkpoint.load(args.run_file, args.device)
    use_threads(args.threads)
    batch_size = args.batch_size or run.settings.get("batch_size", 128)
    data = run.settings.get("data") if args.data is None else args.data
    task = task_of(run, args.run_file, data=data, memory=args.memory, batch_size=batch_size)
    loss_fn = getattr(task, "loss_fn", None)
    result = evaluate(run.net, task.test, loss_fn, batch_size, metrics=task.metrics)
    figures = result.metrics if result.accuracy is None else {"accuracy": result.accuracy}
    row("run", f"{args.run_file}, {run.history.epochs} epochs, of snnumba {run.versions.get('snnumba', '?')}")
    row("net", f"{described_net(run.net)}, {resources(run.net)}")
    row("data", f"{task.described(task.test)}, to test")
    for note in task.notes():
        row("", note)
    row(*task.verdict(figures))
    if result.loss is not None:
        row("loss", f"{result.loss:.5f}, {loss_fn!r}")
    row("firing", ", ".join(f"layer {layer} {rate:.1%}" for layer, rate in result.rates.items()))


def _data(args: argparse.Namespace) -> None:
    from . import mnist  # for the web it needs modules that are slow to import

    _check_to(args.to)
    path = mnist.download(args.to) if args.source is None else mnist.convert(args.source, args.to)
    task = TASKS[CLASSIFICATION]({"data": str(path), "dtype": "float32"})
    row("data", f"{task.described(task.train)}, and {len(task.test)} to test")
    row("saved", f"{path}; `snnumba train --data {path}` trains on it")


def _info(args: argparse.Namespace) -> None:
    row("snnumba", __version__)
    row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("numpy", "numba", "llvmlite", "scipy", "h5py"):
        row(package, metadata.version(package))
    row("threads", f"{backend.get_num_threads()}, with {cpu.available_threads()} cores; SNNUMBA_NUM_THREADS sets them")
    for device in backend.DEVICES:
        try:
            kernels = backend.load(device)
        except ValueError as error:
            row("device", f"{device}: {error}")
            continue
        row("device", f"{device}: {'available' if device == 'cpu' else kernels.device_name()}")
        if device == "cuda":
            missing = kernels.graphs_missing()
            row("graphs", "a training step is one CUDA graph" if missing is None else f"{missing}: plain launches")
    if args.warmup:
        from .warmup import warm_up

        begun = time.perf_counter()
        warm_up()
        row("warmup", f"{time.perf_counter() - begun:.1f} s: what `snnumba train` needs is compiled")
    row("kernels", str(cpu.cache_folder or "not kept between runs: the cache folder cannot be written"))


def _check_to(to: Path) -> None:
    """Refuse, before anything is done, to write over what is not a data set."""
    if to.is_dir():
        raise IsADirectoryError(f"--to {to} is a folder; name a file")
    if to.exists():
        try:
            datasets.load(to)
        except (OSError, ValueError):
            raise ValueError(f"--to {to} exists and is not a data set; it is left as it is") from None


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="snnumba", description="Train recurrent spiking neural networks with kernels by Numba.")
    parser.add_argument("--version", action="version", version=f"snnumba {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], None], text: str, *examples: str) -> Parser:
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

    made = command(
        "train",
        train,
        "train a spiking net: on labelled images, to follow a trajectory, or to fire at the right time",
        "snnumba train --data digits --epochs 2",
        "snnumba train --data data/mnist.h5 --hidden 256 --out big.run.h5",
        "snnumba train --loss membrane --on-target 1.05 --off-target 0.2",
        "snnumba train --optimizer adamw --schedule cosine --clip 1",
        "snnumba train --task trajectory --mode sqrt",
        "snnumba train --task spike-time",
        "snnumba train --resume run.h5",
    )
    made.register("action", None, Given)
    made.set_defaults(given=frozenset())
    add_options(made)

    add = command(
        "evaluate", _evaluate, "test a saved run", "snnumba evaluate run.h5", "snnumba evaluate run.h5 --data mnist"
    ).add_argument
    add("run_file", metavar="RUN", help="a file that `snnumba train` saved")
    add("--data", metavar="DATA", help="as in `snnumba train` (default: what the run was trained on)")
    add("--memory", type=COUNT, metavar="MB", help="as in `snnumba train`")
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

    add = command(
        "info", _info, "tell versions, threads, devices and where kernels are kept", "snnumba info --warmup"
    ).add_argument
    add("--warmup", action="store_true", help="compile ahead what `snnumba train` needs on the CPU")
    return parser
