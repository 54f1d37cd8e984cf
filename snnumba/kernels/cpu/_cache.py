"""Where the machine code of CPU kernels is kept between runs, and what may happen to it there.

It lies in <user cache>/snnumba/<hash of the kernel sources>: Numba's own cache does not see an edit in a rule that a
kernel imports from another file, the hash does. Where that folder cannot be written, nothing is kept. Nothing that
happens to a file in it stops a run: what cannot be read is compiled again, what cannot be written is not kept.
"""

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.misc.appdirs import user_cache_dir


def _source_hash() -> str:
    """Hash of every file that ends up in a kernel."""
    digest = hashlib.sha256(numba.__version__.encode())
    root = Path(__file__).parents[1]
    for path in [root / "rules.py", *sorted(root.glob("cpu/*.py"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _cache_folder() -> Path | None:
    """The folder for compiled kernels, made if need be; None where it cannot be written.

    SNNUMBA_CACHE_DIR, or else NUMBA_CACHE_DIR, takes the place of the user's cache folder.
    """
    base = os.environ.get("SNNUMBA_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR") or user_cache_dir() or "~/.cache"
    try:
        folder = Path(base).expanduser().absolute() / "snnumba" / _source_hash()
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: "~" without a home folder
        return None
    return folder


cache_folder = _cache_folder()


class _Files(IndexDataCacheFile):
    """A file for a function and the types of its arguments, named after both, whole before it has that name.

    Numba numbers such files in an index, where two processes at once can give one number to two types.
    """

    def _name(self, key: Any) -> str:
        return str(self._data_name(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8])))

    def save(self, key: Any, data: Any) -> None:
        with suppress(OSError):
            self._save_data(self._name(key), (key, data))

    def load(self, key: Any) -> Any:
        with suppress(Exception):  # bytes that make no sense can raise any
            written, data = self._load_data(self._name(key))
            if written == key:
                return data
        return None


class _Kept(FunctionCache):
    """What Numba keeps of a function."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, None)

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # there may be no folder any more
            super().save_overload(sig, data)


def kept(compiled: Any) -> Any:
    """A function that Numba compiles, to be kept between runs."""
    if cache_folder is None or config.DISABLE_JIT:
        return compiled
    numba_cache_dir = config.CACHE_DIR
    config.CACHE_DIR = str(cache_folder)
    try:
        compiled._cache = _Kept(compiled.py_func)
    finally:
        config.CACHE_DIR = numba_cache_dir
    return compiled
