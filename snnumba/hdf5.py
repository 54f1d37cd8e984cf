"""HDF5 files as this package keeps them: written whole or not at all, with a checksum beside each array."""

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
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w") as file:
            yield file
        with open(part, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
