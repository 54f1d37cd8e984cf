"""Data sets in HDF5 files, laid out as data/README.md says."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import hdf5
from .datasets import Array, Dataset, _whole, check_shapes
from .memory import default_memory
from .streaming import PER_IMAGE, StreamedDataset, whole_nbytes


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


def read(
    path: str | os.PathLike[str], splits: Sequence[str], memory: int | None, transforms: Mapping[str, Any]
) -> list[Dataset]:
    """Splits of an HDF5 file, which is checked once; streamed where they do not fit into memory together."""
    memory = default_memory() if memory is None else _whole("memory", memory, least=1)
    if not hdf5.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file")
    split, made, found, needed = splits[0], [], {}, 0
    try:
        with hdf5.opened(path) as file:
            for split in splits:
                found[split] = _contents(file, split)
                needed += whole_nbytes(found[split][0], transforms)
            samples = sum(len(labels) for _, labels, _ in found.values())
            for split in splits:
                images, labels, names = found[split]
                if needed <= memory:
                    made.append(Dataset(hdf5.read(images), labels, **names, **transforms))
                else:
                    beside = PER_IMAGE * (samples - len(labels))
                    made.append(StreamedDataset(path, images, labels, memory, beside, **names, **transforms))
    except ValueError as error:
        raise ValueError(f"{path}, {split}: {error}") from None
    return made


def _contents(file: Any, split: str) -> tuple[Any, Array, dict[str, Any]]:
    """Images, not yet read, labels, and name and class names in a file."""
    with hdf5.told():
        images, labels = _member(file, f"{split}/images"), _member(file, f"{split}/labels")
        check_shapes(images, labels)
        name, classes = hdf5.attribute(file, "name"), hdf5.attribute(file, "classes")
        names = {
            "name": hdf5.text("" if name is None else name) or Path(file.filename).stem,
            "classes": None if classes is None else [hdf5.text(label) for label in np.atleast_1d(classes)],
        }
        return images, hdf5.read(labels), names


def _member(file: Any, name: str) -> Any:
    """The HDF5 dataset of that name."""
    found = file.get(name)
    if isinstance(found, h5py.Dataset):
        return found
    there: list[str] = []
    file.visititems(lambda key, item: there.append(f"/{key}") if isinstance(item, h5py.Dataset) else None)
    raise ValueError(f"no dataset /{name}; there is {', '.join(there[:8]) or 'none at all'}")
