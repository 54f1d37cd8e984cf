"""HDF5 files as this package keeps them: written whole or not at all, with checksums, and read with suspicion.

A file that this package wrote begins with a user block, of BLOCK bytes that HDF5 leaves to others:

    "snnumba sha256 ", the sha256 of all that comes after the block in 64 hexadecimal digits, zeros

It is checked before HDF5 sees the file, so that damage is told as such, wherever it is. Without a block, the sha256
that datasets may have as attributes are. Any file is refused that has links to other places, in it or out of it, or
datasets that lie in other files or are more than its bytes can hold, or that somebody writes meanwhile.
"""

import glob
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from .memory import check_memory

Array = npt.NDArray[Any]

CACHE = 1 << 20  # bytes of chunks that HDF5 keeps of a dataset; they are read one after the other
BLOCK, SEAL = 512, b"snnumba sha256 "
PACKED = 1100  # bytes that a byte of a file can stand for: deflate packs zeros 1032 to 1


class Version(NamedTuple):
    """What is not the same any more once a file was written to, or another has its name."""

    inode: int
    size: int
    changed: int


def text(value: Any) -> str:
    """An attribute that is a text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def sha256(array: Array) -> str:
    """The checksum that is stored beside an array."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def read(stored: Any) -> Array:
    """The array, once it is known to be the one that was written; of a sealed file, all is known to be."""
    if stored.dtype.kind not in "biuf":
        raise ValueError(f"{stored.name} must hold numbers; got {stored.dtype}")
    check_memory(stored.name, stored.nbytes)
    array = part(stored)
    check(stored, [array])
    return array.astype(array.dtype.newbyteorder("="), copy=False)  # another machine may have written the bytes


def part(stored: Any, selection: Any = ...) -> Array:
    """What a dataset has there."""
    with told():
        array: Array = stored[selection]
    return array


@contextmanager
def told() -> Iterator[None]:
    """What h5py raises where the bytes make no sense is told as damage."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"the file is damaged: {error}") from None


def check(stored: Any, parts: Iterable[Array]) -> None:
    """Refuse an array, given part by part, that is not the one that was written, where the dataset alone tells."""
    written = None if is_sealed(stored.file.filename) else attribute(stored, "sha256")
    if written is None:
        return
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    if written != (seen := digest.hexdigest()):
        raise ValueError(f"{stored.name} is damaged: sha256 is {seen}, the file says {written}")


def attribute(item: Any, name: str) -> Any:
    """An attribute, of at most as many bytes as its file; None where there is none."""
    if name not in item.attrs:
        return None
    size = item.attrs.get_id(name).get_storage_size()
    if size > item.file.id.get_filesize():  # pragma: no cover - HDF5 1.14 and later refuse it themselves
        raise ValueError(f"attribute {name} of {item.name} is larger than the file")
    return item.attrs[name]


def is_hdf5(path: str | os.PathLike[str]) -> bool:
    """Whether a file is such; errors say what is missing, a folder or not to be read, more plainly than HDF5 does."""
    if stat.S_ISFIFO(os.stat(path).st_mode):  # which would be waited for
        return False
    with open(path, "rb"):
        return bool(h5py.is_hdf5(path))


@contextmanager
def opened(path: str | os.PathLike[str], known: Version | None = None) -> Iterator[Any]:
    """An HDF5 file to read, once it is known to be as it was written, where it says how that was, and all inside.

    Parameters
    ----------
    known : the version that was checked before, and is not again

    Raises
    ------
    OSError
        if it cannot be opened.
    ValueError
        if it is damaged, is written meanwhile, or has something in it that is not followed, saying what was seen.
    """
    seen = version(path)
    if known not in (None, seen):
        raise ValueError("the file was changed, or replaced, since it was first opened")
    _check_unlocked(path)
    if known is None and (written := _sealed_digest(path)):
        digest = _digest(path)
        if digest != written:
            raise ValueError(f"damaged, or changed since it was written: sha256 is {digest}, the file says {written}")
    with _file(path) as file:
        if known is None:
            with told():
                _check_inside(file, seen.size)
        try:
            yield file
        except ValueError:
            check_unchanged(path, seen)  # which would be the reason
            raise
        check_unchanged(path, seen)


def version(path: str | os.PathLike[str]) -> Version:
    """That of a file."""
    seen = os.stat(path)
    return Version(seen.st_ino, seen.st_size, seen.st_mtime_ns)


def check_unchanged(path: str | os.PathLike[str], known: Version) -> None:
    """Refuse what was read from a file that was then written to: HDF5 reads zeros beyond its end.

    One that lost its name, or has another's, is still there for who has it open.
    """
    try:
        seen = version(path)
    except FileNotFoundError:
        return
    if seen.inode == known.inode and seen != known:
        raise ValueError("the file was changed while it was read")


def _check_unlocked(path: str | os.PathLike[str]) -> None:
    """Refuse a file that HDF5 has locked to write, which could look damaged."""
    if os.name != "posix":  # pragma: no cover - Windows, where HDF5 alone can tell
        return
    import fcntl

    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError("the file is open to write, here or in another program") from None
        except OSError:  # no place for locks; HDF5 goes without there, too
            pass


def _file(path: str | os.PathLike[str]) -> Any:
    """The file, open to read."""
    with told():
        try:
            return h5py.File(path, "r", rdcc_nbytes=CACHE)
        except OSError as error:
            if "already open for" not in str(error):
                raise
            text = "the file says that it is open to write; where it is not any more, `h5clear -s` makes it say so"
            raise ValueError(text) from None


def is_sealed(path: str | os.PathLike[str]) -> bool:
    """Whether a file says what the checksum of all of it is."""
    return _sealed_digest(path) is not None


def seal(path: str | os.PathLike[str]) -> None:
    """Write a file's checksum into its user block."""
    with open(path, "rb+") as file:
        file.write(SEAL + _digest(path).encode())


def _sealed_digest(path: str | os.PathLike[str]) -> str | None:
    """What the user block says."""
    with open(path, "rb") as file:
        head = file.read(len(SEAL) + 64)
    return head[len(SEAL) :].decode("ascii", "replace") if head.startswith(SEAL) else None


def _digest(path: str | os.PathLike[str]) -> str:
    """The checksum of what comes after the user block."""
    with open(path, "rb") as file:
        file.seek(BLOCK)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_inside(file: Any, size: int) -> None:
    """Refuse links, numbers that lie in other files, and more of them than `size` bytes can hold."""
    groups, seen, held = [file], set(), 0
    while groups:
        group = groups.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{where} is a link to elsewhere; links are not followed")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    raise ValueError(f"the numbers of {where} lie in another file; it is not opened")
                held += item.nbytes
                if held > PACKED * size:
                    raise ValueError(f"{where} would have {item.nbytes} bytes, more than a file of {size} can hold")


class _Written(io.FileIO):
    """A file that keeps what went wrong to itself: where HDF5 cannot write, it cannot close, and kills the process."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and self.error is None:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An HDF5 file to write, which takes its name only once all of it is on the disk.

    Raises
    ------
    OSError
        with the file's name, if it cannot be written.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(target)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with _Written(part, "w+") as written:
            with h5py.File(written, "w", userblock_size=BLOCK) as file:
                yield file
            if written.error is not None:
                raise written.error
        seal(part)
        with open(part, "rb+") as sealed:
            os.fsync(sealed.fileno())
        os.replace(part, target)
        _sync_folder(target.parent)
    except OSError as error:  # HDF5 tells more than anybody wants to know
        raise OSError(error.errno, os.strerror(error.errno), str(path)) if error.errno else error from None
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """See to it that a new name in a folder is on the disk."""
    if os.name != "posix":  # pragma: no cover - Windows, which opens no folder
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
