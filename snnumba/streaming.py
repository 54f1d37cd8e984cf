"""Labelled images that do not fit into memory: read from their file in blocks, shuffled, while a net computes.

A block is some consecutive images, whole chunks of the file's. There are two buffers, of as many blocks as a bound of
memory lets them have; a thread fills one while the other is in use. An epoch is shuffled at two levels:
    (1) the blocks are permuted,
    (2) the images of the blocks that are in a buffer together are permuted.
So each is read once, in whole chunks, and which come together depends on the generator alone, not on the thread.

Source: Xu et al. 2022, Stochastic gradient descent without full data shuffle, arXiv:2206.05830.
"""

import math
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import cycle
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt

from . import hdf5
from .datasets import Array, Batches, Dataset, beginning, check_indices, check_out, class_names, transformed
from .kernels.cpu import batch as kernels

Part = tuple[Array, Array, Array]  # images (n, P), labels (n,), and which of them come next, (m,) int64

BUFFERS = 1 << 30  # bytes of both buffers, at most: more would take longer to fill, and shuffle little better
PER_CHUNK, INDEX = 100, 1 << 25  # bytes of the index of chunks, of which HDF5 keeps so many at most
BLOCK, SHARE = 1 << 20, 64  # bytes of a block, about, or a share of the memory, but for a larger chunk
PIECE = 1 << 17  # bytes of the images that are transformed at a time
PER_IMAGE = 16  # bytes: its label, and its place in the order
PER_PLACE = 64  # bytes: what it takes to find an image in a buffer
WORK = 16  # times a piece, or an image that is larger: what transforms make on the way
SPARE = 6 << 20  # bytes: HDF5's caches, and what a thread has


class StreamedDataset(Dataset):
    """Images and labels of one split, the images in their file: what open_data and load give where memory is too small.

    A Dataset in all but that `images` and `stored` are not to be had: fit, evaluate and Loader read ahead what comes
    next; `batch` reads the whole block of each image that it is asked for.

    Parameters
    ----------
    path : the file
    images : its HDF5 dataset, (N, H, W) or (N, H, W, C)
    labels : (N,) integers
    memory : bytes that buffers, labels, order and what reading needs may take together
    beside : bytes that other splits take of them
    transforms : keywords of Dataset; computed anew in each epoch

    block : images in a block
    memory : bytes that are taken, at most

    Raises: ValueError as Dataset does, and where `memory` is too small for a chunk and the labels; while images are
    read, where one is not finite, or the file is damaged, locked or changed.

    >>> import tempfile, snnumba as snn
    >>> pair = np.zeros((16000, 28, 28), np.uint8), np.arange(16000) % 10
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     snn.datasets.save(f"{folder}/large.h5", train=pair, test=pair, name="large")
    ...     data = snn.datasets.load(f"{folder}/large.h5", memory=10_000_000)
    ...     sum(len(y) for x, y in snn.datasets.Loader(data, 100))
    16000
    >>> data, data.memory <= 10_000_000
    (StreamedDataset(large: 16000 images, 28x28, 10 classes), True)
    """

    streamed = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        images: Any,
        labels: Array,
        memory: int,
        beside: int = 0,
        *,
        classes: Sequence[str] | None = None,
        resize: int | tuple[int, int] | None = None,
        grayscale: bool = False,
        **transforms: Any,
    ) -> None:
        names = class_names(classes, labels)
        self._transform: dict[str, Any] = {"resize": resize, "grayscale": grayscale}
        super().__init__(blank(images), [0], classes=names, **self._transform, **transforms)
        self.labels = np.ascontiguousarray(labels, np.int64)
        self.path, self._where, self._version = os.path.abspath(path), images.name, hdf5.version(path)
        self._plan(images, memory, beside + PER_IMAGE * len(self) + SPARE)
        blocks = (slice(begin, begin + self.block) for begin in range(0, len(self), self.block))
        hdf5.check(images, (hdf5.part(images, block) for block in blocks))

    def _plan(self, images: Any, memory: int, fixed: int) -> None:
        """Choose the block, and how many of them a buffer has."""
        raw, row = blank(images).nbytes, self._rows.nbytes
        chunk, work = chunks(images)
        work += WORK * max(PIECE, raw, row)

        def needed(block: int, count: int) -> int:
            return fixed + work + block * raw + count * block * (2 * row + PER_PLACE)

        block = chunk * max(1, min(BLOCK, (memory - fixed) // SHARE) // (chunk * max(raw, row)))
        begun, with_one = needed(block, 0), needed(block, 1)
        if with_one > memory:
            least = f"{needed(chunk, 1) / 1e6:,.1f} MB of memory, and may have {memory / 1e6:,.1f}"
            raise ValueError(f"to stream {len(self)} images in chunks of {chunk} takes at least {least}")
        most = max(1, min(memory - begun, BUFFERS) // (with_one - begun))
        self.block, self._count = block, min(most, -(-len(self) // block))
        self.memory = needed(block, self._count)
        self._piece = max(1, PIECE // max(raw, row))

    @property
    def images(self) -> Array:
        raise TypeError(f"{self.name} is streamed from {self.path}: its images are not in memory")

    def order(self, rng: np.random.Generator) -> Array:
        """Indices (N,) int64 of all samples, in an order drawn for an epoch, by (1) and (2)."""
        order, end = np.empty(len(self), np.int64), 0
        blocks = rng.permutation(-(-len(self) // self.block))  # (1)
        for begin in range(0, len(blocks), self._count):
            picked = (blocks[begin : begin + self._count, None] * self.block + np.arange(self.block)).reshape(-1)
            picked = rng.permutation(picked[picked < len(self)])  # (2)
            order[end : end + len(picked)] = picked
            end += len(picked)
        return order

    def batches(self, order: Array, size: int, out: tuple[Array, Array] | None = None) -> Batches:
        """The samples at `order` (N,) int64, so many at a time, each time in `out`, of so many, or in new arrays.

        A thread reads ahead, and ends with the batches or where they are closed.
        """
        with closing(self._ahead(order)) as parts:
            take = self._taking(parts)
            for begin in range(0, len(order), size):
                layouts = self.layout(min(size, len(order) - begin))
                yield take(*check_out(out and beginning(out, layouts), layouts))

    def batch(self, indices: npt.ArrayLike, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        picked = check_indices(indices, len(self))
        with closing(self._read(picked)) as parts:
            return self._taking(parts)(*check_out(out, self.layout(len(picked))))

    def parts(self) -> Batches:
        with closing(self._ahead(np.arange(len(self)))) as parts:
            for images, labels, places in parts:
                yield images[: len(places)], labels[: len(places)]

    def _taking(self, parts: Iterator[Part]) -> Callable[[Array, Array], tuple[Array, Array]]:
        """What fills batches with the samples that parts hold, one after the other."""
        images, labels, places = self._rows, self.labels, np.empty(0, np.int64)

        def take(x: Array, y: Array) -> tuple[Array, Array]:
            nonlocal images, labels, places
            rows, begin = x.reshape(len(y), self._rows.shape[1]), 0
            while begin < len(y):
                if not len(places):
                    images, labels, places = next(parts)
                end = min(begin + len(places), len(y))
                here, places = places[: end - begin], places[end - begin :]
                kernels.gather(images, labels, here, *self.normal, rows[begin:end], y[begin:end])
                begin = end
            return x, y

        return take

    def _ahead(self, order: Array) -> Generator[Part, None, None]:
        """What _read gives, each part read by a thread while the one before is in use."""
        stop = Event()
        with closing(self._read(order, stop)) as parts, ThreadPoolExecutor(1, "snnumba-read") as reader:
            try:
                coming = reader.submit(next, parts, None)
                while (part := coming.result()) is not None:
                    coming = reader.submit(next, parts, None)
                    yield part
            finally:
                stop.set()

    def _read(self, order: Array, stop: Event | None = None) -> Generator[Part, None, None]:
        """The samples at `order`, as many at a time as lie in the blocks that fit into a buffer, and there are two."""
        size = self._count * self.block
        buffers = [(np.empty((size, self._rows.shape[1]), self._rows.dtype), np.empty(size, np.int64)) for _ in "ab"]
        with self._opened() as stored:
            for images, labels in cycle(buffers):
                if not len(order):
                    return
                near = order[:size] // self.block
                first = np.sort(np.unique(near, return_index=True)[1])
                end = first[self._count] if len(first) > self._count else len(near)
                blocks, slots = np.unique(near[:end], return_inverse=True)
                for slot, begin in zip(range(0, size, self.block), blocks * self.block, strict=False):
                    if stop is not None and stop.is_set():
                        return
                    number = self._read_block(stored, begin, images[slot : slot + self.block])
                    labels[slot : slot + number] = self.labels[begin : begin + number]
                yield images, labels, slots * self.block + order[:end] % self.block
                order = order[end:]

    def _read_block(self, stored: Any, begin: int, rows: Array) -> int:
        """Read the block that begins there into rows (block, P), transformed: how many images it has."""
        raw = hdf5.part(stored, slice(begin, begin + self.block))
        hdf5.check_unchanged(self.path, self._version)
        for at in range(0, len(raw), self._piece):
            planes = transformed(raw[at : at + self._piece], self.dtype, first=begin + at, **self._transform)
            rows[at : at + len(planes)] = planes.reshape(len(planes), -1)
        return len(raw)

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """The images in the file; errors name it."""
        try:
            with hdf5.opened(self.path, self._version) as file:
                yield file[self._where]
        except ValueError as error:
            raise ValueError(f"{self.path}, {self._where}: {error}") from None


def chunks(images: Any) -> tuple[int, int]:
    """How many images, or parts of images, a chunk of an HDF5 dataset has, and the bytes that HDF5 takes to read it."""
    if images.chunks is None:
        return 1, 0
    number = math.prod(-(-size // chunk) for size, chunk in zip(images.shape, images.chunks, strict=True))
    unpacked = math.prod(images.chunks) * images.dtype.itemsize
    return min(images.chunks[0], len(images)), 3 * unpacked + min(PER_CHUNK * number, INDEX)


def blank(images: Any) -> Array:
    """One image as the others, black."""
    return np.zeros((1, *images.shape[1:]), images.dtype)


def whole_nbytes(images: Any, transforms: Mapping[str, Any]) -> int:
    """Bytes that it takes to read all images of an HDF5 dataset and their labels, and to transform them."""
    read = blank(images)
    rows, _ = Dataset(read, [0], **transforms).stored
    return len(images) * (PER_IMAGE + read.nbytes + (0 if np.shares_memory(rows, read) else rows.nbytes))
