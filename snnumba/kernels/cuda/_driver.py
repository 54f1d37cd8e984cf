"""What the kernels need of numba.cuda, which no other file imports: compiling, launching, shared and scratch memory.

A kernel is a function of one thread, launched over a grid of blocks. The shape of the grid follows from the sizes of
the problem alone, never from the device, so that sums are cut, and their bits fall, in the same way everywhere.

Under NUMBA_ENABLE_CUDASIM=1 numba's simulator runs the same kernels as plain Python, each thread of a block a thread of
Python's, for tests without a GPU. Nothing here touches a device before the first launch.
"""

import sys
import warnings
from collections.abc import Callable
from functools import update_wrapper
from importlib.util import find_spec
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np

if not hasattr(np, "row_stack"):  # pragma: no cover - NumPy 2.5 has it no more; numba-cuda 0.30 asks for it
    np.row_stack = np.vstack  # noqa: NPY201

from numba import cuda as numba_cuda
from numba import types
from numba.core import config
from numba.core.errors import NumbaPerformanceWarning

from .. import rules as scalar_rules
from ..cpu._compile import copied

SIMULATED = bool(config.ENABLE_CUDASIM)
THREADS = 4 if SIMULATED else 128  # of a block, where a kernel has no reason for another number
ALWAYS_SHARED = 48 << 10  # bytes of shared memory that a block gets for the asking

registry: list["Kernel"] = []  # every kernel, for the check that compiles them all

if SIMULATED:
    from numba.cuda.simulator import kernel as simulator

    class _Cuda:
        """numba.cuda as a simulated thread sees it, in whichever file its code is."""

        def __getattr__(self, name):
            return getattr(simulator._get_kernel_context() or numba_cuda, name)

    cuda: Any = _Cuda()

    def part(function):
        """Make a function of a thread that kernels call: it stays as it is."""
        return function

    def sync_warp():
        """Wait for the threads of the warp; here, of the block."""
        cuda.syncthreads()

    OPTIONS: dict[str, Any] = {}
    intrinsic: Any = None  # needs a compiler
else:
    from numba.cuda.extending import intrinsic as intrinsic

    cuda = numba_cuda

    def part(function):
        """Make a function of a thread that kernels call, compiled into each of them."""
        return cuda.jit(device=True, forceinline=True)(function)

    @part
    def sync_warp():  # pragma: no cover - runs on a GPU alone
        """Wait for the threads of the warp."""
        cuda.syncwarp()

    class _Nones:
        """None among a kernel's arguments: a type of its own. What is passed is a pointer that nobody reads.

        `if x is None` is decided at compile time where x is None; where it is not, both branches must compile.
        """

        @staticmethod
        def prepare_args(ty, value, **_):  # pragma: no cover - needs a GPU
            return (types.CPointer(types.uint8), 0) if value is None else (ty, value)

    OPTIONS = {"extensions": [_Nones]}


def bindings() -> Any:  # pragma: no cover - needs a GPU
    """CUDA's driver, function by function."""
    from cuda.bindings import driver

    return driver


launches = SimpleNamespace(stream=0)  # where they go: to another stream while a graph is recorded


class Kernel:
    """A kernel, compiled once for each combination of argument types."""

    def __init__(self, function: Callable[..., Any], bounds: tuple[int, int] | None = None) -> None:
        self.__name__ = function.__name__
        self.source = function
        self.bounds = bounds
        self.compiled = cuda.jit(**OPTIONS, **({} if SIMULATED else {"launch_bounds": bounds}))(function)
        self._allowed: dict[Any, int] = {}
        self._configured: dict[Any, Callable[..., None]] = {}

    def launch(self, grid: Any, block: Any, *args: Any, shared: int = 0, together: bool = False) -> None:
        """Run a grid of blocks, each with so many bytes of shared memory whose size the kernel does not know.

        together: the blocks wait for each other, so all must be on the device at once, or none.
        """
        if SIMULATED:
            self.compiled[grid, block, 0, shared](*args)
        else:  # pragma: no cover - needs a GPU
            if shared > ALWAYS_SHARED or together:
                self._allow(args, shared, together)
            key = grid, block, launches.stream, shared
            if key not in self._configured:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NumbaPerformanceWarning)  # that a small problem has few blocks
                    self._configured[key] = self.compiled[key]
            self._configured[key](*args)

    def _allow(self, args: tuple[Any, ...], shared: int, together: bool) -> None:  # pragma: no cover - needs a GPU
        """Let blocks have more shared memory than they get for the asking, and run together or not at all."""
        signature = tuple(self.compiled.typeof_pyval(x) for x in args)
        if shared <= self._allowed.get(signature, 0):
            return
        self.compiled.compile(signature)
        self.compiled.overloads[signature].cooperative = together
        function = self.compiled.overloads[signature]._codelibrary.get_cufunc()
        attribute = bindings().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        numba_cuda.cudadrv.driver.driver.cuKernelSetAttribute(attribute, shared, function.handle, function.device.id)
        self._allowed[signature] = shared

    def with_names(self, names: dict[str, Any]) -> "Kernel":
        """The same kernel where these names stand for other functions."""
        return Kernel(copied(self.source, self.source.__globals__ | names), self.bounds)


def kernel(function: Callable[..., Any]) -> Kernel:
    """Make a kernel of what a thread does; see Kernel."""
    made = Kernel(function)
    registry.append(made)
    return made


def bounded(threads: int, together: int = 1) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a kernel for blocks of so many threads, with registers for so many blocks on a multiprocessor."""

    def make(function: Callable[..., Any]) -> Kernel:
        made = Kernel(function, (threads, together))
        registry.append(made)
        return made

    return make


class Elementwise(Kernel):
    """A kernel with one thread an item, called as `kernel(*args)`."""

    def __init__(self, function: Callable[..., Any], items: Callable[..., int]) -> None:
        super().__init__(function)
        update_wrapper(self, function)
        self.items = items

    def __call__(self, *args: Any) -> None:
        items = self.items(*args)
        if items > 0:
            self.launch(blocks(items, THREADS), THREADS, *args)


def elementwise(items: Callable[..., int]) -> Callable[[Callable[..., Any]], Elementwise]:
    """Make a kernel with one thread an item, as many as `items` makes of the arguments; see Elementwise."""

    def make(function: Callable[..., Any]) -> Elementwise:
        made = Elementwise(function, items)
        registry.append(made)
        return made

    return make


def blocks(items: int, size: int) -> int:
    """How many blocks of a size hold the items."""
    return -(-items // size)


def holds_together(count: int, shared: int) -> bool:
    """Whether so many blocks, each with so many bytes of shared memory, fit on the device at once, one a processor."""
    if SIMULATED:
        return hasattr(simulator.BlockManager, "together")  # numba's own runs one after the other
    else:  # pragma: no cover - needs a GPU
        device = numba_cuda.get_current_device()
        return bool(count <= device.MULTIPROCESSOR_COUNT and shared <= device.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)


_scratch: dict[tuple[Any, ...], Any] = {}


def scratch(name: str, shape: tuple[int, ...], dtype: Any, clear: Callable[[Any], None] | None = None) -> Any:
    """Device memory of this name to work in, kept; kernels run one after the other, so the next may use it again."""
    key = name, shape, np.dtype(dtype)
    if key not in _scratch:
        _scratch[key] = numba_cuda.device_array(shape, dtype)
        if clear is not None:
            clear(_scratch[key])
    return _scratch[key]


def _compile_rules() -> SimpleNamespace:
    """The rules of rules.py, each compiled and calling the compiled others."""
    names = dict(vars(scalar_rules))
    for name, function in vars(scalar_rules).items():
        if isinstance(function, FunctionType):
            names[name] = part(copied(function, names))
    return SimpleNamespace(**names)


rules = _compile_rules()


if SIMULATED:

    def holders(array: Any) -> int:
        """How many references there are to the memory of an array, views of it included."""
        return sys.getrefcount(array._ary)

    def moved(array: Any, axes: tuple[int, ...]) -> Any:
        """The view of an array with its axes in this order."""
        return type(array)(array._ary.transpose(axes))

    def address(array: Any) -> int:
        """Where an array begins."""
        return 0  # a host array is no worse for it

else:  # pragma: no cover - needs a GPU

    def holders(array: Any) -> int:
        """How many references there are to the memory of an array, views of it included."""
        return sys.getrefcount(array.gpu_data) + int(array.gpu_data.refct)

    def moved(array: Any, axes: tuple[int, ...]) -> Any:
        """The view of an array with its axes in this order."""
        shape, strides = ([x[k] for k in axes] for x in (array.shape, array.strides))
        return type(array)(tuple(shape), tuple(strides), array.dtype, gpu_data=array.gpu_data)

    def address(array: Any) -> int:
        """Where an array begins."""
        return int(array.device_ctypes_pointer.value or 0)


def device_name() -> str:
    """What the device calls itself."""
    if SIMULATED:
        return "numba's simulator"
    else:  # pragma: no cover - needs a GPU
        name = numba_cuda.get_current_device().name
        return name.decode() if isinstance(name, bytes) else str(name)


def what_is_missing() -> str | None:
    """What keeps kernels from running here; None: nothing does."""
    if SIMULATED:
        return None
    if find_spec("numba_cuda") is None:
        return "the package numba-cuda is missing"
    try:
        count = len(numba_cuda.gpus)
    except Exception as error:  # whatever the driver makes of not being there
        return f"no CUDA driver works here ({type(error).__name__})"
    return None if count else "the CUDA driver finds no GPU"  # pragma: no cover - needs the driver
