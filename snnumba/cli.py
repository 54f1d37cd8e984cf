"""The command line: arguments in, messages out.

Exit status 0; 2 with one line on stderr that says what was wrong; 130 where the user stopped it.
"""

import argparse
import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from numba.core import event
from tqdm import tqdm

from . import __version__, backend, checkpoint, datasets, optim
from . import functional as SF
from .kernels import cpu
from .layers import Linear, RLeaky
from .network import Network
from .training import History, Loss, evaluate, fit

# The losses by their names here: what makes one, and its options with the tutorial's values.
LOSSES: dict[str, tuple[Callable[..., Loss], dict[str, float]]] = {
    "count": (SF.mse_count_loss, {"correct_rate": 0.8, "incorrect_rate": 0.2}),
    "membrane": (SF.mse_membrane_loss, {"on_target": 1.05, "off_target": 0.2}),
}
GET_MNIST = "`snnumba data mnist` downloads MNIST, `snnumba data mnist --from DIR` makes it from the four IDX files"
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
    return " ".join(text.split()) or type(error).__name__


def _row(label: str, text: object) -> None:
    print(f"{label:<11}{text}", flush=True)


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
    loss_options = _loss_options(args)
    _check_out(args.out)
    _use_threads(args.threads)
    data = ("mnist" if datasets.MNIST.exists() else "digits") if args.data is None else args.data
    train, test = datasets.open_data(data, dtype=args.dtype)
    loader = datasets.Loader(train, args.batch_size, seed=args.seed)
    if data not in ("mnist", "digits"):
        data = str(Path(data).absolute())  # so that `evaluate` finds it from any folder
    settings = {"data": data, "loss": args.loss} | loss_options
    settings |= {name: getattr(args, name) for name in ("epochs", "batch_size", "lr", "seed", "dtype")}

    net = Network(
        Linear(math.prod(train.sample_shape), args.hidden),
        RLeaky(beta=args.beta, linear_features=args.hidden),
        Linear(args.hidden, train.num_classes),
        RLeaky(beta=args.beta, linear_features=train.num_classes),
        num_steps=args.num_steps,
        device=args.device,
        dtype=args.dtype,
        seed=args.seed,
    )
    loss_fn, optimizer = _loss(settings), optim.Adam(net, lr=args.lr)
    _row("data", f"{_described(train)}, and {len(test)} to test")
    if args.data is None:
        there = f"{datasets.MNIST} is there" if data == "mnist" else f"there is no {datasets.MNIST}; {GET_MNIST}"
        _row("", f"no --data given, and {there}")
    _row("net", _described_net(net))
    _row("loss", f"{loss_fn!r}")
    _row("training", f"Adam, lr {args.lr}, batch {args.batch_size}, epochs {args.epochs}, seed {args.seed}")
    _row("on", _resources(net))
    print()

    saved = "nothing is saved"

    def on_epoch(epoch: int, history: History) -> None:
        nonlocal saved
        checkpoint.save(args.out, net, optimizer, history, settings)
        saved = f"{args.out} is as it was after epoch {epoch}"
        if epoch == 1:
            print("\n".join(_header(history)))
        print(_epoch_row(history), flush=True)

    try:
        history = fit(net, loader, loss_fn, optimizer, args.epochs, test, on_epoch=on_epoch)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(saved) from None
    print()
    _row("accuracy", f"{history.validation_accuracy[-1]:.2%} of the test images")
    _row("saved", f"{args.out}; `snnumba evaluate {args.out}` tests it again")


def _header(history: History) -> list[str]:
    width = 9 * len(history.rates)
    layers = "".join(f"{f'layer {name}':>9}" for name in history.rates)
    return [
        f"{'':14}{'accuracy':>16}{'firing rate':>{width + 2}}",
        f"epoch     loss   train    test  {layers}   seconds",
    ]


def _epoch_row(history: History) -> str:
    """The last epoch, in the columns of _header."""
    rates = "".join(f"{rates[-1]:>9.1%}" for rates in history.rates.values())
    return (
        f"{history.epochs:>5}{history.epoch_loss[-1]:>9.5f}{history.accuracy[-1]:>8.2%}"
        f"{history.validation_accuracy[-1]:>8.2%}  {rates}{history.seconds[-1]:>10.2f}"
    )


def _evaluate(args: argparse.Namespace) -> None:
    run = checkpoint.load(args.run_file)
    _use_threads(args.threads)
    data = run.settings.get("data") if args.data is None else args.data
    if not isinstance(data, str):
        raise ValueError(f"{args.run_file} does not name the data that it was trained on; give --data")
    batch_size = args.batch_size or run.settings.get("batch_size", 128)
    _, test = datasets.open_data(data, dtype=run.net.dtype)
    loss_fn = _loss(run.settings) if "loss" in run.settings else None
    result = evaluate(run.net, test, loss_fn, batch_size)
    _row("run", f"{args.run_file}, {run.history.epochs} epochs, of snnumba {run.versions.get('snnumba', '?')}")
    _row("net", f"{_described_net(run.net)}, {_resources(run.net)}")
    _row("data", f"{_described(test)}, to test")
    _row("accuracy", f"{result.accuracy:.2%}")
    if result.loss is not None:
        _row("loss", f"{result.loss:.5f}, {loss_fn!r}")
    _row("firing", ", ".join(f"layer {layer} {rate:.1%}" for layer, rate in result.rates.items()))


def _data(args: argparse.Namespace) -> None:
    from . import mnist  # for the web it needs modules that are slow to import

    _check_to(args.to)
    path = mnist.download(args.to) if args.source is None else mnist.convert(args.source, args.to)
    train, test = datasets.open_data(str(path))
    _row("data", f"{_described(train)}, and {len(test)} to test")
    _row("saved", f"{path}; `snnumba train --data {path}` trains on it")


def _info(args: argparse.Namespace) -> None:
    _row("snnumba", __version__)
    _row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in ("numpy", "numba", "llvmlite", "scipy", "h5py"):
        _row(package, metadata.version(package))
    _row("threads", f"{backend.get_num_threads()}, with {cpu.available_threads()} cores; SNNUMBA_NUM_THREADS sets them")
    for device in backend.DEVICES:
        try:
            backend.load(device)
            _row("device", f"{device}: available")
        except ValueError as error:
            _row("device", f"{device}: {error}")
    _row("kernels", cpu.cache_folder or "not kept between runs: the cache folder cannot be written")


def _described(dataset: datasets.Dataset) -> str:
    shape = "x".join(map(str, dataset.images.shape[1:]))
    return f"{dataset.name}: {len(dataset)} images of {shape} pixels in {dataset.num_classes} classes"


def _described_net(net: Network) -> str:
    inputs, *outputs = ("x".join(map(str, shape or "?")) for shape in net.shapes)
    layers = " > ".join(f"{type(layer).__name__} {shape}" for layer, shape in zip(net.layers, outputs, strict=True))
    size = sum(x.size for x in net.parameters.values())
    return f"{inputs} inputs > {layers}; {net.num_steps} steps, {size} parameters"


def _resources(net: Network) -> str:
    return f"{net.dtype}, {net.device}, {backend.get_num_threads()} threads"


def _loss_options(args: argparse.Namespace) -> dict[str, float]:
    """The options of the loss that was chosen; refuse those of another."""
    chosen = dict(LOSSES[args.loss][1])
    for loss, (_, options) in LOSSES.items():
        for name in options:
            given = getattr(args, name)
            if given is None:
                continue
            if loss != args.loss:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} is of --loss {loss} and cannot be given with --loss {args.loss}")
            chosen[name] = given
    return chosen


def _loss(settings: Mapping[str, Any]) -> Loss:
    """The loss of a run."""
    name = settings["loss"]
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {name!r}")
    make, options = LOSSES[name]
    return make(**{option: settings[option] for option in options})


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

    add = command(
        "train",
        _train,
        "train a recurrent spiking net on labelled images",
        "snnumba train --data digits --epochs 2",
        "snnumba train --data data/mnist.h5 --hidden 256 --out big.run.h5",
        "snnumba train --loss membrane --on-target 1.05 --off-target 0.2",
    ).add_argument
    default = "(default: %(default)s)"
    add("--data", metavar="DATA", help="an HDF5 file, `mnist` for data/mnist.h5, or `digits`, drawn from a seed "
        "(default: mnist where data/mnist.h5 exists, else digits)")  # fmt: skip
    add("--hidden", type=COUNT, default=128, metavar="N", help=f"hidden neurons {default}")
    add("--num-steps", type=COUNT, default=10, metavar="T", help=f"time steps each image is shown {default}")
    add("--beta", type=SHARE, default=0.9, metavar="X", help=f"decay of the membranes a step, 0 to 1 {default}")
    add("--loss", choices=tuple(LOSSES), default="count", help="mean squared error of spike counts, or of membranes "
        f"{default}")  # fmt: skip
    for name, kind, text in (
        ("correct_rate", SHARE, "share of the steps in which the right neuron is to fire, 0 to 1; --loss count"),
        ("incorrect_rate", SHARE, "the same for the other neurons; --loss count"),
        ("on_target", FINITE, "level the right neuron's membrane is to have, in thresholds; --loss membrane"),
        ("off_target", FINITE, "the same for the other neurons; --loss membrane"),
    ):
        (value,) = (options[name] for _, options in LOSSES.values() if name in options)
        add(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=f"{text} (default: {value})")
    add("--epochs", type=COUNT, default=5, metavar="N", help=f"passes over the training images {default}")
    add("--batch-size", type=COUNT, default=128, metavar="N", help=f"images in a step of training {default}")
    add("--lr", type=POSITIVE, default=1e-3, metavar="X", help=f"Adam's learning rate {default}")
    add("--seed", type=SEED, default=0, metavar="N", help=f"draws the weights and the order of the images {default}")
    add("--dtype", choices=("float32", "float64"), default="float32", help=f"type of all numbers {default}")
    add("--device", choices=backend.DEVICES, default="cpu", help=f"where to compute {default}")
    add("--threads", type=COUNT, metavar="N", help="CPU threads; results do not depend on it (default: all cores)")
    add("--out", type=Path, default=Path("run.h5"), metavar="FILE", help="where the run is saved after each epoch, in "
        f"place of a run already there {default}")  # fmt: skip

    add = command(
        "evaluate", _evaluate, "test a saved run", "snnumba evaluate run.h5", "snnumba evaluate run.h5 --data mnist"
    ).add_argument
    add("run_file", metavar="RUN", help="a file that `snnumba train` saved")
    add("--data", metavar="DATA", help="as in `snnumba train` (default: what the run was trained on)")
    add("--batch-size", type=COUNT, metavar="N", help="images at a time (default: the run's)")
    add("--threads", type=COUNT, metavar="N", help="CPU threads; results do not depend on it (default: all cores)")

    add = command(
        "data", _data, "get a data set", "snnumba data mnist", "snnumba data mnist --from ~/Downloads/mnist"
    ).add_argument
    add("set", choices=("mnist",), help="the set to get")
    add("--from", dest="source", metavar="DIR", help="folder with the four IDX files, packed with gzip or not "
        "(default: they are downloaded)")  # fmt: skip
    add("--to", default=datasets.MNIST, type=Path, metavar="FILE", help=f"HDF5 file to write {default}")

    command("info", _info, "tell versions, threads, devices and where kernels are kept", "snnumba info")
    return parser
