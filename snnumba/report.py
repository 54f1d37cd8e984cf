"""What the command line tells of data, nets and runs."""

from . import backend, optim
from .history import History
from .network import Network
from .tasks import Task


def plain(text: str) -> str:
    """The text, with what a terminal would obey written as an escape: a name can come from a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def row(label: str, text: str) -> None:
    """A line of a report."""
    print(f"{label:<11}{plain(text)}", flush=True)


def figures_of(history: History) -> dict[str, tuple[list[float], list[float]]]:
    """What was measured in each epoch, in training and in the test."""
    figures = {"accuracy": (history.accuracy, history.validation_accuracy)} if history.accuracy else {}
    return figures | {name: (values, history.validation_metrics[name]) for name, values in history.metrics.items()}


def header(task: Task, history: History) -> list[str]:
    """Headings of what was measured in an epoch."""
    width = 9 * len(history.rates)
    layers = "".join(f"{f'layer {name}':>9}" for name in history.rates)
    headings = "".join(f"{heading:>16}" for heading, _ in task.figures.values())
    return [
        f"{'':14}{headings}{'firing rate':>{width + 2}}",
        f"epoch     loss{'   train    test' * len(task.figures)}  {layers}   seconds",
    ]


def epoch_row(task: Task, history: History) -> str:
    """The last epoch, in the columns of header."""
    figures = figures_of(history)
    pairs = "".join(f"{x[-1]:>8{form}}" for name, (_, form) in task.figures.items() for x in figures[name])
    rates = "".join(f"{rates[-1]:>9.1%}" for rates in history.rates.values())
    return f"{history.epochs:>5}{history.epoch_loss[-1]:>9.5f}{pairs}  {rates}{history.seconds[-1]:>10.2f}"


def described_net(net: Network) -> str:
    """Layers and sizes."""
    inputs, *outputs = ("x".join(map(str, shape or "?")) for shape in net.shapes)
    layers = " > ".join(f"{type(layer).__name__} {shape}" for layer, shape in zip(net.layers, outputs, strict=True))
    size = sum(x.size for x in net.parameters.values())
    return f"{inputs} {'input' if inputs == '1' else 'inputs'} > {layers}; {net.num_steps} steps, {size} parameters"


def resources(net: Network) -> str:
    """What a net is computed with."""
    kind = f"{net.dtype}, products in tf32" if net.precision == "tf32" else net.dtype
    on = f"cuda, {net._kernels.device_name()}" if net.device == "cuda" else f"cpu, {backend.get_num_threads()} threads"
    return f"{kind}, {on}{f', states kept every {k} steps' if (k := net.checkpoint_every) else ''}"


def extras(optimizer: optim.Optimizer, schedule: optim.Schedule | None, clip: float | None) -> list[str]:
    """What there is to say of the training beside what there always is."""
    given = {name: optimizer.config.get(name) for name in ("momentum", "weight_decay")}
    extras = [f"{name.replace('_', ' ')} {value}" for name, value in given.items() if value]
    if schedule is not None:
        extras.append(f"{schedule!r}")
    if clip is not None:
        extras.append(f"clip {clip}")
    return extras


def use_threads(threads: int | None) -> None:
    """Use this many, if it is said."""
    if threads is not None:
        backend.set_num_threads(threads)
