"""MNIST, from its four IDX files to one HDF5 file.

An IDX file is 0x0800 plus the number of axes and the length of each axis, as big-endian 32-bit integers, and then
the bytes. Source: LeCun, Cortes, Burges: the MNIST database of handwritten digits (CC BY-SA 3.0).
"""

import gzip
import hashlib
import http.client
import io
import math
import os
import struct
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from .datasets import MNIST, save

Array = npt.NDArray[Any]


class Part(NamedTuple):
    """What one of the files must hold; the sha256 is of the file without gzip."""

    name: str
    shape: tuple[int, ...]
    sha256: str


PARTS = [
    Part(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    Part(
        "train-labels-idx1-ubyte",
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    Part(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    Part(
        "t10k-labels-idx1-ubyte",
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
]
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
TIMEOUT = 15  # seconds to wait for an answer, or for more of it
BLOCK = 1 << 16


def convert(folder: str | os.PathLike[str], to: str | os.PathLike[str] = MNIST) -> Path:
    """Make the HDF5 file from the four IDX files in a folder.

    Parameters
    ----------
    folder : holds train-images-idx3-ubyte and the three others, each as it is or packed with gzip (.gz)
    to : the HDF5 file to write, whole or not at all

    Returns: `to`. Raises: FileNotFoundError naming the files that are missing, ValueError naming the one
    that is not as it must be and what was seen in it; nothing is written then.

    >>> convert("/nowhere")
    Traceback (most recent call last):
    FileNotFoundError: no such folder: /nowhere
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    paths, missing = {}, []
    for name in (part.name for part in PARTS):
        found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
        if found:
            paths[name] = found[0]
        else:
            missing.append(name)
    if missing:
        raise FileNotFoundError(f"{folder} has no {', '.join(missing)} (nor with .gz)")

    def read(part: Part) -> Array:
        path = paths[part.name]
        try:
            with open(path, "rb") as file:
                return _array(part, file)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    return _save(read, to)


def download(to: str | os.PathLike[str] = MNIST, mirrors: Sequence[str] = MIRRORS) -> Path:
    """Make the HDF5 file from the four IDX files on the web, each from the first mirror that has it intact.

    Parameters
    ----------
    to : the HDF5 file to write, whole or not at all
    mirrors : addresses of folders with the four files, packed with gzip

    Returns: `to`. Raises: ConnectionError naming what was tried and what came of it; nothing is written then.

    >>> download(mirrors=["http://127.0.0.1:1/mnist"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ConnectionError: MNIST could not be downloaded (http://127.0.0.1:1/mnist/train-images-idx3-ubyte.gz: ...
    """
    order = list(mirrors)

    def read(part: Part) -> Array:
        tried = []
        for _ in mirrors:
            url = f"{order[0].rstrip('/')}/{part.name}.gz"
            try:
                return _array(part, _fetch(url, limit=_size(part) + BLOCK))
            except (OSError, ValueError, http.client.HTTPException) as error:
                tried.append(f"{url}: {error}")
                order.append(order.pop(0))  # the other files, too, are asked of the next mirror first
        raise ConnectionError(
            f"MNIST could not be downloaded ({'; '.join(tried)}); "
            "`snnumba data mnist --from DIR` takes the four IDX files from a folder"
        )

    return _save(read, to)


def _save(read: Callable[[Part], Array], to: str | os.PathLike[str]) -> Path:
    """Write what `read` gives for each part."""
    train_images, train_labels, test_images, test_labels = map(read, PARTS)
    save(
        to,
        train=(train_images, train_labels),
        test=(test_images, test_labels),
        name="mnist",
        classes=[str(digit) for digit in range(10)],
        source="LeCun, Cortes, Burges: the MNIST database of handwritten digits (CC BY-SA 3.0)",
    )
    return Path(to)


def _fetch(url: str, limit: int) -> IO[bytes]:
    """What is at the address, with a progress bar; a server that sends more than `limit` bytes is cut off."""
    content = io.BytesIO()
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        name = url.rpartition("/")[2]
        with tqdm(desc=name, total=response.length, unit="B", unit_scale=True, disable=None) as bar:
            while block := response.read(BLOCK):
                bar.update(content.write(block))
                if content.tell() > limit:
                    raise ValueError(f"more than {limit} bytes")
    content.seek(0)
    return content


def _size(part: Part) -> int:
    """Bytes in the file."""
    return 4 + 4 * len(part.shape) + math.prod(part.shape)


def _array(part: Part, file: IO[bytes]) -> Array:
    """The array in an IDX file, packed or not, once it is known to be the one of `part`."""
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    try:
        content = (gzip.GzipFile(fileobj=file) if packed else file).read(_size(part) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from None
    axes = len(part.shape)
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"cut short: {len(content)} bytes without gzip")
    magic, *shape = struct.unpack_from(f">{1 + axes}I", content)
    if magic != 0x0800 + axes:
        raise ValueError(f"magic number must be {0x0800 + axes:#06x}; got {magic:#06x}")
    if tuple(shape) != part.shape:
        raise ValueError(f"array must be {part.shape}; got {tuple(shape)}")
    if len(content) != _size(part):
        more = "more" if len(content) > _size(part) else len(content)
        raise ValueError(f"must be {_size(part)} bytes without gzip; got {more}")
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != part.sha256:
        raise ValueError(f"sha256 must be {part.sha256}; got {sha256}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(part.shape)
