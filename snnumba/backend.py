"""Where the work is done: a device's name -> the module with its kernels; the number of CPU threads."""

from types import ModuleType

from .kernels import cpu

DEVICES = ("cpu", "cuda")


def load(device: str) -> ModuleType:
    """The kernels for a device, "cpu" or "cuda".

    Raises
    ------
    ValueError
        for another name, or where the device is not to be had.

    >>> load("cpu").__name__
    'snnumba.kernels.cpu'
    """
    if device == "cpu":
        return cpu
    if device == "cuda":
        raise ValueError('device "cuda" is not available: this version of snnumba has CPU kernels only; use "cpu"')
    raise ValueError(f"device must be one of {', '.join(DEVICES)}; got {device!r}")


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
