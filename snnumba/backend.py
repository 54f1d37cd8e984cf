"""Where the work is done: a device's name -> the module with its kernels; the number of CPU threads."""

from types import ModuleType
from typing import Any

from .checks import check_choice
from .kernels import cpu

DEVICES = ("cpu", "cuda")
PRECISIONS = ("fp32", "tf32")
MISSING = (
    'device "cuda" is not available: {}; use device "cpu", or see `pip install "snnumba[cuda]"` and NVIDIA\'s driver'
)


def load(device: str, precision: str = "fp32") -> ModuleType:
    """The kernels for a device, "cpu" or "cuda".

    With precision "tf32", on "cuda" alone, those that round the factors of large products to 10 bits after the point,
    as tensor cores take them.

    Raises
    ------
    ValueError
        for another name, or where the device is not to be had.

    >>> load("cpu").__name__
    'snnumba.kernels.cpu'
    """
    check_choice("precision", precision, PRECISIONS)
    if check_choice("device", device, DEVICES) == "cpu":
        if precision != "fp32":
            raise ValueError(f'precision must be "fp32" on the CPU; got {precision!r}')
        return cpu
    try:
        from .kernels import cuda
    except ImportError as error:
        raise ValueError(MISSING.format(f"a package is missing ({error})")) from None
    missing = cuda.what_is_missing()
    if missing:
        raise ValueError(MISSING.format(missing))
    if precision == "tf32":
        from .kernels.cuda import tf32

        return tf32
    return cuda


def of(x: Any) -> ModuleType:
    """The kernels for the device that an array lies on; NumPy's, and what is no array, for the CPU."""
    on_device = hasattr(x, "__cuda_array_interface__") or hasattr(x, "copy_to_host")
    return load("cuda" if on_device else "cpu")


def set_num_threads(threads: int) -> None:
    """Use this many CPU threads from now on; results do not depend on it.

    The default is the number of cores this process may use, or the environment variable SNNUMBA_NUM_THREADS.

    Raises
    ------
    ValueError
        unless threads is an integer from 1 to 1024.

    >>> set_num_threads(2)
    >>> get_num_threads()
    2
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= cpu.MOST_THREADS:
        raise ValueError(f"threads must be an integer from 1 to {cpu.MOST_THREADS}; got {threads!r}")
    cpu.team.resize(threads)


def get_num_threads() -> int:
    """The number of CPU threads in use."""
    return cpu.team.threads
