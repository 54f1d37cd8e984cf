"""HDF5 files as this package keeps them: written whole or not at all, with a checksum beside each array."""

import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def text(value: Any) -> str:
    """An attribute that is a text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def sha256(array: Array) -> str:
    """The checksum that is stored beside an array."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def read(stored: Any) -> Array:
    """The array, once it is known to be the one that was written."""
    array: Array = stored[...]
    seen, written = sha256(array), stored.attrs.get("sha256")
    if written not in (None, seen):
        raise ValueError(f"{stored.name} is damaged: sha256 is {seen}, the file says {written}")
    return array


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An HDF5 file to write, which takes its name only once all of it is on the disk."""
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w") as file:
            yield file
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
        _sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """See to it that a new name in a folder is on the disk."""
    if os.name != "posix":  # nothing else opens a folder
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _remove_left(target: Path) -> None:
    """Remove what processes that were killed while they wrote this file have left behind."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        pid = left.name.split(".")[-2]
        if os.name == "posix" and pid.isdecimal() and not _runs(int(pid)):
            left.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's, or no such number can be one
        return True
    return True
