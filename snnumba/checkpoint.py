"""A run in one HDF5 file: the net, its optimizer, what was measured, and with which settings.

    /              attributes: format "snnumba run", version 2; JSON texts net, optimizer, settings, versions and,
                   where there is one, schedule
    /weights       each array of the net under its name, in torch's layout: 0.weight, 1.recurrent.weight, ...
    /optimizer     the optimizer's arrays
    /random        what Dropout's next numbers follow from, of each such layer (2,) uint64
    /history       loss (steps,), seconds, accuracy, ... (epochs,), or empty; rates/1, ... (epochs,) of each spiking
                   layer, metrics/<name>, ... (epochs,) of each metric
    /begun         where an epoch has begun: its losses (steps,), and sums over its samples

The file has a checksum of all its bytes (see hdf5). Nothing in it is ever executed: names are looked up in fixed
tables. Nothing is made larger than the file can hold.
"""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import h5py
import numba
import numpy as np

from . import hdf5
from .history import History, Tally
from .layers.base import Array
from .network import Network
from .optim import SGD, Adam, AdamW, CosineAnnealingLR, Optimizer, Schedule, StepLR

FORMAT, VERSION = "snnumba run", 2
OPTIMIZERS: dict[str, type[Optimizer]] = {kind.__name__: kind for kind in (Adam, AdamW, SGD)}
UNREADABLE = (OSError, KeyError, RuntimeError, TypeError, ValueError)  # what is raised where bytes make no sense
GROUPS = ("rates", "metrics", "validation_metrics")  # what of a history is a list for each of some names
SUMS = ("measures", "fired")  # what of a tally is a number for each of some names
SCHEDULES: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (StepLR, CosineAnnealingLR)}


@dataclass(frozen=True)
class Run:
    """What a file holds; versions are those of the packages that wrote it."""

    net: Network
    optimizer: Optimizer
    history: History
    settings: dict[str, Any]
    versions: dict[str, str]
    schedule: Schedule | None = None


def save(
    path: str | os.PathLike[str],
    net: Network,
    optimizer: Optimizer,
    history: History,
    settings: Mapping[str, Any],
    schedule: Schedule | None = None,
) -> None:
    """Write a run, whole or not at all: what had the name before stays until all of the new file is on the disk.

    Parameters
    ----------
    path : its folder is made where there is none
    settings : what else is to be kept, fit for JSON
    schedule : of the optimizer's learning rate, if there is one

    What fit hands to on_step and on_epoch can be saved there: a later fit goes on from it to the same bits.

    Raises
    ------
    TypeError, ValueError
        if the settings cannot be JSON, or a number of the net or the optimizer is not finite, before anything is
        written.
    OSError
        if the file cannot be written.

    >>> import tempfile, snnumba as snn
    >>> net = snn.Network(snn.RLeaky(beta=0.9, linear_features=3), num_steps=5, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/run.h5", net, Adam(net, lr=0.01), History(), {"note": "untrained"})
    ...     run = load(f"{folder}/run.h5")
    >>> run.net, run.optimizer.lr, run.settings
    (Network(RLeaky(beta=0.9, linear_features=3), num_steps=5), 0.01, {'note': 'untrained'})
    """
    texts = {
        "net": net.config,
        "optimizer": optimizer.config,
        "settings": dict(settings),
        "versions": versions(),
    }
    if schedule is not None:
        texts["schedule"] = schedule.config | {"state": schedule.state_dict()}
    attributes = {name: json.dumps(value, allow_nan=False) for name, value in texts.items()}
    arrays = {f"weights/{name}": x for name, x in net.state_dict().items()}
    arrays |= {f"optimizer/{name}": x for name, x in optimizer.state_dict().items()}
    for name, x in arrays.items():
        if not np.isfinite(x).all():
            raise ValueError(f"the run is not saved: {name} is not finite any more")
    arrays |= {f"random/{name}": x for name, x in net.random_state().items()}
    arrays |= {f"history/{name}": x for name, x in _history_arrays(history).items()}
    if history.begun is not None:
        arrays |= {f"begun/{name}": x for name, x in _tally_arrays(history.begun).items()}
    with hdf5.whole_file(path) as file:
        for group in ("weights", "optimizer", "random", "history"):
            file.create_group(group)
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        file.attrs.update(attributes)
        for name, array in arrays.items():
            file[name] = array


def load(path: str | os.PathLike[str], device: str = "cpu") -> Run:
    """Read a run that save wrote; the net and the optimizer have the bits that they had.

    Raises
    ------
    OSError
        if the file cannot be opened, FileNotFoundError if there is none.
    ValueError
        if it is not a run, not of this version, or damaged, saying what was seen.
    """
    if not hdf5.is_hdf5(path):
        raise ValueError(f"{path} is not a run: it is not an HDF5 file")
    try:
        with hdf5.opened(path) as file:
            _check_format(file)
            if not hdf5.is_sealed(path):
                raise ValueError("damaged: it does not say what its checksum is")
            texts = {name: _json(file, name) for name in ("net", "optimizer", "settings", "versions")}
            net = Network.from_config(texts["net"], device, state=_arrays(file, "weights"))
            optimizer = _made("optimizer", OPTIMIZERS, texts["optimizer"], net)
            optimizer.load_state_dict(_arrays(file, "optimizer"))
            schedule = _schedule(_json(file, "schedule"), optimizer) if "schedule" in file.attrs else None
            net.load_random_state(_arrays(file, "random"))
            history = _history(_arrays(file, "history"))
            history.begun = _tally(_arrays(file, "begun")) if "begun" in file else None
    except UNREADABLE as error:
        raise ValueError(f"{path}: {error.args[0] if isinstance(error, KeyError) else error}") from None
    return Run(net, optimizer, history, texts["settings"], texts["versions"], schedule)


def is_run(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a run, of whatever version."""
    try:
        with hdf5.opened(path) as file:
            return hdf5.text(hdf5.attribute(file, "format")) == FORMAT
    except UNREADABLE:
        return False


def versions() -> dict[str, str]:
    """Those of what takes part in a run's numbers, as they are here."""
    from . import __version__  # which is not there yet while the package is imported

    return {
        "snnumba": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
    }


def _check_format(file: Any) -> None:
    if hdf5.text(hdf5.attribute(file, "format")) != FORMAT:
        raise ValueError(f"not a run: it holds {', '.join(file) or 'nothing'} and no attribute format {FORMAT!r}")
    version = hdf5.attribute(file, "version")
    if version != VERSION:
        raise ValueError(f"a run of format version {version}; this snnumba reads version {VERSION}")


def _json(file: Any, name: str) -> dict[str, Any]:
    """The JSON object in an attribute."""
    stored = hdf5.attribute(file, name)
    if stored is None:
        raise ValueError(f"damaged: no attribute {name}")
    value = json.loads(hdf5.text(stored))
    if not isinstance(value, dict):
        raise ValueError(f"damaged: {name} must be a JSON object; got {value!r}")
    return value


def _made(what: str, kinds: Mapping[str, Any], config: Mapping[str, Any], of: Network | Optimizer) -> Any:
    """What `config` names and sets, one of `kinds`, made of its first argument."""
    kind = kinds.get(str(config.get("name")))
    if kind is None:
        raise ValueError(f"{what} must be one of {', '.join(kinds)}; got {config!r}")
    if config.keys() != {"name", *kind.settings}:
        raise ValueError(f"{what} must be {kind.__name__} with {', '.join(kind.settings)}; got {config!r}")
    return kind(of, **{name: config[name] for name in kind.settings})


def _schedule(config: dict[str, Any], optimizer: Optimizer) -> Any:
    """The schedule of an optimizer, as far as it had come."""
    state = config.pop("state", {})
    schedule = _made("schedule", SCHEDULES, config, optimizer)
    schedule.load_state_dict(state)
    return schedule


def _arrays(file: Any, group: str) -> dict[str, Array]:
    """The arrays below a group, by their names in it, once each is known to be the one that was written."""
    found: dict[str, Array] = {}

    def read(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = hdf5.read(item)

    if not isinstance(file.get(group), h5py.Group):
        raise ValueError(f"damaged: no group /{group}")
    file[group].visititems(read)
    return found


def _history_arrays(history: History) -> dict[str, Array]:
    names = {field.name for field in fields(History)} - {"begun", *GROUPS}
    lists = {name: getattr(history, name) for name in names}
    for group in GROUPS:
        lists |= {f"{group}/{name}": x for name, x in getattr(history, group).items()}
    return {name: np.asarray(x, np.float64) for name, x in lists.items()}


def _history(arrays: dict[str, Array]) -> History:
    names = {field.name for field in fields(History)} - {"begun", *GROUPS}
    if missing := names - arrays.keys():
        raise ValueError(f"damaged: no history/{min(missing)}")
    for name, x in arrays.items():
        if x.ndim != 1 or x.dtype != np.float64:
            raise ValueError(f"damaged: history/{name} must be one row of float64; got {x.dtype} {x.shape}")
    lists: dict[str, Any] = {name: arrays[name].tolist() for name in names - {"loss"}}
    lists |= {group: _below(group, arrays) for group in GROUPS}
    return History(loss=arrays["loss"], **lists)


def _tally_arrays(tally: Tally) -> dict[str, Array]:
    numbers = asdict(tally)
    for group in SUMS:
        numbers |= {f"{group}/{name}": x for name, x in numbers.pop(group).items()}
    return {name: np.asarray(x, np.float64) for name, x in numbers.items()}


def _tally(arrays: dict[str, Array]) -> Tally:
    names = {field.name for field in fields(Tally)} - set(SUMS)
    if missing := names - arrays.keys():
        raise ValueError(f"damaged: no begun/{min(missing)}")
    for name, x in arrays.items():
        if x.ndim != (name == "losses") or x.dtype != np.float64:
            raise ValueError(f"damaged: begun/{name} must be float64; got {x.dtype} {x.shape}")
    numbers: dict[str, Any] = {name: arrays[name].tolist() for name in names}
    numbers |= {name: int(numbers[name]) for name in ("samples", "watched")}
    return Tally(**numbers | {group: _below(group, arrays) for group in SUMS})


def _below(group: str, arrays: dict[str, Array]) -> dict[str, Any]:
    """The arrays of a group, by their names in it, as lists and numbers; layer 2 comes before layer 10."""
    begin = f"{group}/"
    names = sorted((name for name in arrays if name.startswith(begin)), key=lambda name: (len(name), name))
    return {name.removeprefix(begin): arrays[name].tolist() for name in names}
