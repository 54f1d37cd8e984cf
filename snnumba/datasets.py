"""Labelled images: kept in HDF5, checked and transformed once, handed out in shuffled batches.

A uint8 image stays one byte a pixel in memory and becomes floats as a batch is gathered. What a file holds is
described in data/README.md; images that do not fit into memory stay there (streaming.py).
"""

import math
import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .checks import as_array, check_flag, check_number
from .kernels.cpu import batch as kernels
from .layers.base import MOST, check_dtype

Array = npt.NDArray[Any]

MNIST = Path("data/mnist.h5")
MAX_UNNAMED = 1000  # classes; a larger label in a set without class names is taken for an error
LUMA = np.array([19595, 38470, 7471], np.float32) / 65536  # ITU-R 601, in the fixed point of PIL and torchvision
CHUNK = 1024  # images transformed or checked at a time


Layout = tuple[tuple[int, ...], npt.DTypeLike]  # the shape and the type of an array
Batches = Generator[tuple[Array, Array], None, None]


@runtime_checkable
class Samples(Protocol):
    """What a Loader hands out in batches: a Dataset, or a RegressionDataset of another kind of target.

    Where nothing else is said, `stored` lies in memory.
    """

    name: str
    dtype: np.dtype[Any]
    sample_shape: tuple[int, ...]

    @property
    def stored(self) -> tuple[Array, Array]: ...

    def __len__(self) -> int: ...

    def layout(self, batch: int) -> tuple[Layout, Layout]: ...

    def batch(self, indices: npt.ArrayLike, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]: ...

    def order(self, rng: np.random.Generator) -> Array:
        """Indices (N,) int64 of all samples, in an order drawn for an epoch."""
        return rng.permutation(len(self)).astype(np.int64, copy=False)

    def batches(self, order: Array, size: int, out: tuple[Array, Array] | None = None) -> Batches:
        """The samples at `order` (N,) int64, so many at a time, each time in `out`, of so many, or in new arrays."""
        for begin in range(0, len(order), size):
            indices = order[begin : begin + size]
            yield self.batch(indices, out and beginning(out, self.layout(len(indices))))

    def parts(self) -> Batches:
        """All that is stored, part by part."""
        yield self.stored


def beginning(arrays: tuple[Array, Array], layouts: tuple[Layout, Layout]) -> tuple[Array, Array]:
    """Arrays that are laid out so, in the memory of others."""
    pairs = zip(arrays, layouts, strict=True)
    x, y = (array.reshape(-1)[: math.prod(shape)].reshape(shape) for array, (shape, _) in pairs)
    return x, y


def fingerprint(samples: Samples) -> str:
    """What tells samples from others, 16 hexadecimal digits; no proof against forgery."""
    sums = [0, 0]
    for part in samples.parts():
        sums = [zlib.crc32(x.data, before) for x, before in zip(part, sums, strict=True)]
    return "".join(f"{x:08x}" for x in sums)


class Dataset(Samples):
    """Images and labels of one split, in memory, with the transforms of the snnTorch tutorials.

    Parameters
    ----------
    images : (N, H, W) or (N, H, W, C) uint8 or floating    uint8 is not copied where it is contiguous
    labels : (N,) integers in [0, num_classes)
    name : what to call the set
    classes : names of the classes; without them there are as many as the largest label says
    resize : int or (height, width) in pixels: bilinear, antialiased, as PIL; an int is the shorter side
    grayscale : one channel out of three, by the luma weights of ITU-R 601
    scale : uint8 to [0, 1]; floats are left as they are
    mean, std : x becomes (x - mean) / std, after scaling
    flatten : a sample is (C H W,), else (C, H, W)
    dtype : "float32" or "float64", of the batches

    Raises: ValueError or TypeError naming the argument and what was seen.
    Source: transforms Resize, Grayscale, ToTensor, Normalize of torchvision, in this order.

    >>> data = Dataset(np.full((6, 2, 2), 51, np.uint8), np.arange(6) % 3, name="grey", mean=0.5)
    >>> data
    Dataset(grey: 6 images, 2x2, 3 classes)
    >>> x, y = data.batch([1, 5])
    >>> x.shape, y, float(x[0, 0])
    ((2, 4), array([1, 2]), -0.30000001192092896)
    """

    streamed = False  # whether images stay in their file

    def __init__(
        self,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        name: str = "",
        classes: Sequence[str] | None = None,
        resize: int | tuple[int, int] | None = None,
        grayscale: bool = False,
        scale: bool = True,
        mean: float = 0.0,
        std: float = 1.0,
        flatten: bool = True,
        dtype: npt.DTypeLike = "float32",
    ) -> None:
        images, labels = as_array("images", images), as_array("labels", labels)
        check_shapes(images, labels)
        self.name = name
        self.dtype = check_dtype(dtype) or np.dtype("float32")
        self.classes = class_names(classes, labels)
        self.num_classes = len(self.classes)
        self.labels = np.ascontiguousarray(labels, np.int64)

        unit = 255 if check_flag("scale", scale) and images.dtype == np.uint8 else 1
        shift = {"mean": mean, "std": std}
        self.normal = tuple(map(self.dtype.type, (unit, *(check_number(k, x, self.dtype) for k, x in shift.items()))))
        if self.normal[2] <= 0:
            raise ValueError(f"std must be above 0; got {std}")

        self._planes = transformed(images, self.dtype, resize, check_flag("grayscale", grayscale))
        self._rows: Array = self._planes.reshape(len(images), -1)
        rows = check_flag("flatten", flatten)
        self.sample_shape: tuple[int, ...] = self._rows.shape[1:] if rows else self._planes.shape[1:]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        kind, shape = type(self).__name__, "x".join(map(str, self.image_shape))
        return f"{kind}({self.name or 'unnamed'}: {len(self)} images, {shape}, {self.num_classes} classes)"

    def __getitem__(self, index: Any) -> tuple[Array, Any]:
        """Sample `index`, (P,) and its label; or the batch that a slice, mask or index array picks."""
        picked = np.arange(len(self))[index]
        x, y = self.batch(np.atleast_1d(picked))
        return (x, y) if np.ndim(picked) else (x[0], int(y[0]))

    @property
    def images(self) -> Array:
        """(N, H, W) or (N, H, W, C), after resize and grayscale."""
        return self._planes[:, 0] if self._planes.shape[1] == 1 else np.moveaxis(self._planes, 1, -1)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C), the same."""
        channels, *size = self._planes.shape[1:]
        return (*size,) if channels == 1 else (*size, channels)

    @property
    def stored(self) -> tuple[Array, Array]:
        """Images (N, P) as they lie in memory, before (1) of kernels/cpu/batch.py by `normal`, and labels (N,)."""
        return self._rows, self.labels

    def layout(self, batch: int) -> tuple[Layout, Layout]:
        """Shape and type of x and of y, of a batch of so many samples."""
        return ((batch, *self.sample_shape), self.dtype), ((batch,), self.labels.dtype)

    def batch(self, indices: npt.ArrayLike, out: tuple[Array, Array] | None = None) -> tuple[Array, Array]:
        """Gather the samples at `indices`.

        Parameters
        ----------
        indices : (B,) integers in [0, N)
        out : x (B, *sample_shape) of the set's dtype and y (B,) int64, contiguous; then nothing is allocated

        Returns: x, y. Raises: IndexError, ValueError, TypeError.
        """
        picked = check_indices(indices, len(self))
        x, y = check_out(out, self.layout(len(picked)))
        rows = x.reshape(len(picked), self._rows.shape[1])
        kernels.gather(self._rows, self.labels, picked, *self.normal, rows, y)
        return x, y


class Loader:
    """Batches of a dataset, in an order drawn anew for each epoch.

    Parameters
    ----------
    dataset : Dataset or RegressionDataset
    batch_size : samples in a batch
    shuffle : whether to permute; the permutation depends on `seed` and the epoch alone
    drop_last : whether to leave out the last batch where it is short

    Raises: ValueError or TypeError naming the argument and what was seen.

    >>> data = Dataset(np.zeros((5, 2, 2), np.uint8), [0, 1, 2, 3, 4])
    >>> loader = Loader(data, 2, drop_last=False, seed=1)
    >>> [y.tolist() for x, y in loader], loader.epoch
    ([[4, 0], [1, 2], [3]], 1)
    """

    def __init__(
        self,
        dataset: Samples,
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = True,
    ) -> None:
        if Samples not in type(dataset).__mro__ and not isinstance(dataset, Samples):  # which looks at all it has
            raise TypeError(f"dataset must be a Dataset or a RegressionDataset; got {dataset!r}")
        self.dataset = dataset
        self.batch_size = _whole("batch_size", batch_size, least=1)
        self.shuffle = check_flag("shuffle", shuffle)
        self.seed = _whole("seed", seed, least=0)
        self.drop_last = check_flag("drop_last", drop_last)
        self.epoch = 0  # passes begun
        if drop_last and batch_size > len(dataset):
            raise ValueError(
                f"batch_size {batch_size} is more than the {len(dataset)} samples: no batch with drop_last"
            )

    def __len__(self) -> int:
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> Array:
        """Indices (N,) int64 of all samples in the order of an epoch, the same at each call."""
        if not self.shuffle:
            return np.arange(len(self.dataset), dtype=np.int64)
        return self.dataset.order(np.random.default_rng([self.seed, _whole("epoch", epoch, least=0)]))

    def indices(self, epoch: int) -> Iterator[Array]:
        """Indices (B,) int64 of each batch of an epoch, for a loop that gathers into its own arrays."""
        order = self.order(epoch)
        for batch in range(len(self)):
            yield order[batch * self.batch_size : (batch + 1) * self.batch_size]

    def __iter__(self) -> Batches:
        """The batches (x, y) of the next epoch, in new arrays."""
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self.dataset.batches(self.order(epoch)[: len(self) * self.batch_size], self.batch_size)


def load(
    path: str | os.PathLike[str], split: str = "train", *, memory: int | None = None, **transforms: Any
) -> Dataset:
    """Read one split of an HDF5 file, described in data/README.md.

    Parameters
    ----------
    path : the file
    split : "train" or "test"
    memory : bytes; a split that would take more is a StreamedDataset, and takes no more; default half of the machine's
    transforms : keywords of Dataset: resize, grayscale, scale, mean, std, flatten, dtype

    Raises: OSError where the file cannot be opened (FileNotFoundError where there is none), ValueError naming
    what in it is wrong.

    >>> import tempfile
    >>> pair = np.zeros((4, 2, 2), np.uint8), [0, 1, 0, 1]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/tiny.h5", train=pair, test=pair, name="tiny", classes=["a", "b"])
    ...     load(f"{folder}/tiny.h5", "test")
    Dataset(tiny: 4 images, 2x2, 2 classes)
    """
    from .stored import read  # with h5py, which `import snnumba` need not wait for

    (data,) = read(path, (split,), memory, transforms)
    return data


def save(
    path: str | os.PathLike[str],
    *,
    train: Dataset | tuple[npt.ArrayLike, npt.ArrayLike],
    test: Dataset | tuple[npt.ArrayLike, npt.ArrayLike],
    name: str,
    classes: Sequence[str] | None = None,
    source: str = "",
) -> None:
    """Write both splits to an HDF5 file, whole or not at all; its folder is made where there is none.

    Parameters
    ----------
    train, test : Dataset, or images and labels as Dataset takes them
    name, classes, source : what the set is called, the names of its classes, where it is from

    Raises: ValueError as Dataset does, before anything is written; OSError where it cannot be.
    Arrays are stored as they are: MNIST reads in 0.01 s, against 0.14 s from gzip at a fifth of the size.
    """
    splits = {}
    for split, pair in {"train": train, "test": test}.items():
        try:
            splits[split] = _as_dataset(pair, classes)
        except ValueError as error:
            raise ValueError(f"{split}: {error}") from None
    _check_alike(**splits)
    from .stored import write

    write(path, splits, name, source)


def open_data(data: str | None = None, *, memory: int | None = None, **transforms: Any) -> tuple[Dataset, Dataset]:
    """Training and test split of what the command line calls `data`.

    Parameters
    ----------
    data : "digits", "mnist", or an HDF5 file; None is data/mnist.h5 where that exists, else "digits"
    memory : bytes; a file whose splits would take more together gives StreamedDatasets, of which one at a time can be
        read within that bound; default half of the machine's
    transforms : keywords of Dataset

    Raises: as load does.

    >>> train, test = open_data("digits")
    >>> train
    Dataset(digits (synthetic): 12000 images, 28x28, 10 classes)
    """
    if data is None:
        data = "mnist" if MNIST.exists() else "digits"
    if data == "digits":
        from .digits import generate  # which needs Dataset

        return generate(**transforms)
    if data == "mnist":
        data = str(MNIST)
        if not MNIST.exists():
            raise FileNotFoundError(
                f"no {MNIST} here: `snnumba data mnist` downloads it, "
                "`snnumba data mnist --from DIR` makes it from the four IDX files"
            )
    from .stored import read

    train, test = read(data, ("train", "test"), memory, transforms)
    _check_alike(train, test)
    return train, test


def check_shapes(images: Any, labels: Any) -> None:
    """Refuse arrays, or HDF5 datasets not yet read, that cannot be images with labels."""
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(f"images must be uint8 or floating; got {images.dtype}")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"images must be (N, H, W) or (N, H, W, C), not empty; got {images.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers; got {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"labels must be (N,); got {labels.shape}")
    if len(images) != len(labels):
        raise ValueError(f"each image must have one label; got {len(images)} images and {len(labels)} labels")


def _check_alike(train: Dataset, test: Dataset) -> None:
    """Refuse two splits that one net cannot take."""
    ours, theirs = (f"{data._rows.dtype} {data.image_shape}" for data in (train, test))
    if ours != theirs:
        raise ValueError(f"train and test images must be alike; got {ours} and {theirs}")
    if test.num_classes > train.num_classes:
        raise ValueError(f"test has {test.num_classes} classes; train has only {train.num_classes}")


def class_names(classes: Sequence[str] | None, labels: Array) -> tuple[str, ...]:
    """Names of the classes, made up where there are none, once every label is known to have one."""
    try:
        names = None if classes is None else () if isinstance(classes, str) else tuple(map(str, classes))
    except TypeError:
        names = ()
    if names == ():
        raise ValueError(f"classes must be a sequence of names; got {classes!r}")
    most = MAX_UNNAMED if names is None else len(names)
    wrong = np.flatnonzero((labels < 0) | (labels >= most))
    if wrong.size:
        raise ValueError(f"labels[{wrong[0]}] must be from 0 to {most - 1}; got {labels[wrong[0]]} of {most} classes")
    return tuple(map(str, range(int(labels.max()) + 1))) if names is None else names


def transformed(
    images: Array, dtype: np.dtype[Any], resize: int | tuple[int, int] | None, grayscale: bool, first: int = 0
) -> Array:
    """Images (N, H, W) or (N, H, W, C) as (N, C, H, W) uint8 or `dtype`, contiguous; errors count from `first`."""
    planes = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
    if planes.dtype != np.uint8:
        _check_finite(images, dtype, first)
        planes = planes.astype(dtype)
    if resize is not None:
        planes = _resized(planes, resize)
    if grayscale:
        planes = _luma(planes)
    return np.ascontiguousarray(planes)


def _check_finite(images: Array, dtype: np.dtype[Any], first: int) -> None:
    """Refuse a pixel that is not a number, or not a finite one in `dtype`."""
    for start in range(0, len(images), CHUNK):
        wrong = np.argwhere(~(np.abs(images[start : start + CHUNK]) <= np.finfo(dtype).max))
        if len(wrong):
            n, *pixel = wrong[0]
            where = ", ".join(map(str, (first + start + n, *pixel)))
            raise ValueError(f"images[{where}] must be finite; got {images[(start + n, *pixel)]}")


def check_indices(indices: npt.ArrayLike, samples: int) -> npt.NDArray[np.int64]:
    """indices as (B,) int64 in [0, samples)."""
    picked = as_array("indices", indices)
    if picked.ndim != 1 or picked.dtype.kind not in "iu":
        raise TypeError(f"indices must be (B,) integers; got {picked.dtype} {picked.shape}")
    if picked.size and not (picked.min() >= 0 and picked.max() < samples):
        raise IndexError(f"indices must be from 0 to {samples - 1}; got {picked.min()} to {picked.max()}")
    return picked.astype(np.int64, order="C", copy=False)


def check_out(out: tuple[Array, Array] | None, layouts: tuple[Layout, Layout]) -> tuple[Array, Array]:
    """x and y of a batch: `out`, if it is laid out so, or new arrays."""
    if out is None:
        x, y = (np.empty(shape, dtype) for shape, dtype in layouts)
        return x, y
    for name, array, (shape, dtype) in zip("xy", out, layouts, strict=True):
        if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
            order = "" if array.flags.c_contiguous else ", not contiguous"
            raise ValueError(f"out {name} must be {dtype} {shape}; got {array.dtype} {array.shape}{order}")
    return out


def _whole(name: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number; got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}")
    if value > MOST:
        raise ValueError(f"{name} must be at most {MOST}; got {value}")
    return int(value)


def _resized(planes: Array, size: int | tuple[int, int]) -> Array:
    """(N, C, H, W) to another height and width."""
    height, width = planes.shape[2:]
    if isinstance(size, tuple | list):
        if len(size) != 2:
            raise ValueError(f"resize must be a size or (height, width); got {size}")
        new = tuple(_whole("resize", side, least=1) for side in size)
    else:
        short = _whole("resize", size, least=1)
        new = (short * height // min(height, width), short * width // min(height, width))
    if new == (height, width):
        return planes
    rows, columns = (_triangles(*sides) for sides in zip(planes.shape[2:], new, strict=True))
    return _by_chunks(lambda part: rows @ part @ columns.T, planes, (planes.shape[1], *new))


def _triangles(old: int, new: int) -> Array:
    """Weights (new, old) of the bilinear filter, as wide as a new pixel where it shrinks."""
    centre = (np.arange(new)[:, None] + 0.5) * (old / new)
    distance = np.abs(np.arange(old) + 0.5 - centre) / max(old / new, 1)
    weight: Array = np.maximum(1 - distance, 0)
    weight /= weight.sum(1, keepdims=True)
    return weight.astype(np.float32)


def _luma(planes: Array) -> Array:
    """(N, C, H, W) to one channel."""
    channels, *size = planes.shape[1:]
    if channels == 1:
        return planes
    if channels != len(LUMA):
        raise ValueError(f"grayscale takes images of 1 or 3 channels; got {channels}")
    return _by_chunks(lambda part: np.einsum("nchw,c->nhw", part, LUMA)[:, None], planes, (1, *size))


def _by_chunks(function: Callable[[Array], Array], planes: Array, shape: tuple[int, ...]) -> Array:
    """`function` of some images at a time, in floats; bytes are rounded half up, as PIL does."""
    out = np.empty((len(planes), *shape), planes.dtype)
    for start in range(0, len(planes), CHUNK):
        part = planes[start : start + CHUNK]
        if planes.dtype == np.uint8:
            out[start : start + CHUNK] = np.floor(function(part.astype(np.float32)) + 0.5)
        else:
            out[start : start + CHUNK] = function(part)
    return out


def _as_dataset(pair: Any, classes: Sequence[str] | None) -> Dataset:
    """The arrays of save, checked and not converted."""
    if isinstance(pair, Dataset):
        return Dataset(pair.images, pair.labels, classes=classes or pair.classes, dtype=pair.dtype)
    images, labels = map(np.asarray, pair)
    dtype = np.float64 if images.dtype == np.float64 else np.float32
    return Dataset(images, labels, classes=classes, dtype=dtype)
