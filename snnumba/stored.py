"""Data sets in HDF5 files, laid out as data/README.md says."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import hdf5
from .datasets import Array, Dataset, check_shapes


def write(path: str | os.PathLike[str], splits: Mapping[str, Dataset], name: str, source: str) -> None:
    """Write splits of the same classes, whole or not at all."""
    with hdf5.whole_file(path) as file:
        file.attrs["name"], file.attrs["source"] = name, source
        file.attrs["classes"] = list(splits["train"].classes)
        for split, data in splits.items():
            labels = data.labels.astype(np.min_scalar_type(data.num_classes - 1))
            for part, array in {"images": data.images, "labels": labels}.items():
                stored = file.create_dataset(f"{split}/{part}", data=array)
                stored.attrs["sha256"] = hdf5.sha256(array)


def read(path: str | os.PathLike[str], splits: Sequence[str], transforms: Mapping[str, Any]) -> list[Dataset]:
    """Splits of a file, which is checked once."""
    if not hdf5.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file")
    split, made = splits[0], []
    try:
        with hdf5.opened(path) as file:
            for split in splits:
                images, labels, name, classes = _contents(file, split)
                made.append(Dataset(images, labels, name=name or Path(path).stem, classes=classes, **transforms))
    except (OSError, ValueError) as error:
        damaged = "the file is damaged: " if isinstance(error, OSError) else ""
        raise ValueError(f"{path}, {split}: {damaged}{error}") from None
    return made


def _contents(file: Any, split: str) -> tuple[Array, Array, str | None, list[str] | None]:
    """Images, labels, name and class names in a file."""
    try:
        images, labels = _member(file, f"{split}/images"), _member(file, f"{split}/labels")
        check_shapes(images, labels)
        name, classes = hdf5.attribute(file, "name"), hdf5.attribute(file, "classes")
        names = None if classes is None else [hdf5.text(label) for label in np.atleast_1d(classes)]
        return hdf5.read(images), hdf5.read(labels), None if name is None else hdf5.text(name), names
    except (OSError, KeyError, RuntimeError, TypeError) as error:  # what h5py raises where the bytes make no sense
        raise ValueError(f"the file is damaged: {error}") from None


def _member(file: Any, name: str) -> Any:
    """The HDF5 dataset of that name."""
    found = file.get(name)
    if isinstance(found, h5py.Dataset):
        return found
    there: list[str] = []
    file.visititems(lambda key, item: there.append(f"/{key}") if isinstance(item, h5py.Dataset) else None)
    raise ValueError(f"no dataset /{name}; there is {', '.join(there[:8]) or 'none at all'}")
