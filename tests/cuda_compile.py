"""Compile every CUDA kernel to machine code, for sm_90a and sm_80, and hold it to what a GPU needs; no GPU is needed.

    python tests/cuda_compile.py

Prints registers, local and shared memory of each kernel, for each combination of argument types of cuda_cases.py, and
fails on a spill to local memory, on float64 in a float32 kernel, on more registers than the largest block has, on a
kernel that no case launches, and on one that does not assemble. Needs numba-cuda[cu13] with the parts of a CUDA toolkit
that it installs, and nvidia-cuda-cuobjdump.
"""

import re
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import snnumba.kernels.cuda._driver as driver  # isort: skip  # it makes numba.cuda fit for this NumPy
from cuda_cases import all_cases
from numba import float64
from numba.core.errors import NumbaError
from numba.cuda import dispatcher
from numba.cuda.cudadrv import devices

from snnumba.kernels import cuda
from snnumba.kernels.cuda import _lif_events, _lif_spread, _lif_wide, dense, lif
from snnumba.kernels.cuda import tf32 as tf32  # a case may ask for it

ARCHITECTURES = {"sm_90a": (9, 0, "a"), "sm_80": (8, 0)}
FLOAT64 = {
    "add_squares": "sums squares in float64, as on the CPU",
    "scale_to_norm": "takes the root of that sum",
}
ALL_REGISTERS = 65536  # for the threads of a block
USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")


def launches() -> dict[tuple[Any, Any], int]:
    """The kernels that the cases launch, with the types of their arguments; and their most dynamic shared memory."""
    seen: dict[tuple[Any, Any], int] = {}

    def record(kernel: Any, grid: Any, block: Any, *args: Any, shared: int = 0, together: bool = False) -> None:
        key = kernel, tuple(kernel.compiled.typeof_pyval(x) for x in args)
        seen[key] = max(shared, seen.get(key, 0))

    driver.Kernel.launch = record
    driver.numba_cuda.device_array = np.zeros
    _lif_events.holds_together = _lif_spread.holds_together = _lif_wide.holds_together = lambda *_: True
    dense.address = lambda array: 0
    for case in all_cases():
        case.run(cuda, case.arguments(cuda))
    return seen


def cuobjdump() -> Path:
    """The program that reads machine code."""
    package = distribution("nvidia-cuda-cuobjdump")
    return next(Path(package.locate_file(f)) for f in package.files or () if f.name == "cuobjdump")


def usage(cubin: bytes) -> tuple[int, int, int]:
    """Registers, bytes of local memory and of shared memory, of a kernel's machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [cuobjdump(), "--dump-resource-usage", file.name]
        found = USAGE.search(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found is not None
    registers, stack, shared, local = map(int, found.groups())
    return registers, stack + local, shared


def main() -> int:
    device = SimpleNamespace(compute_capability=(9, 0), id=0)  # as far as compiling asks for one
    dispatcher.get_current_device = lambda: device
    devices.get_context = lambda devnum=None: SimpleNamespace(device=device)
    faults = []
    seen = launches()
    for kernel in driver.registry:
        if not any(kernel is launched for launched, _ in seen):
            faults.append(f"{kernel.__name__}: no case launches it")
    print(f"{'kernel':24}{'arch':8}{'registers':>10}{'local B':>10}{'shared B':>10}{'dynamic B':>10}  arguments")
    for (kernel, types), dynamic in seen.items():
        name = kernel.__name__
        try:
            compiled = dispatcher._Kernel(kernel.compiled.py_func, types, **kernel.compiled.targetoptions)
        except NumbaError as error:
            faults.append(f"{name} does not compile for {short(types)}: {error}")
            continue
        library = compiled._codelibrary
        asked = any(getattr(kind, "dtype", kind) == float64 for kind in types)
        if ".f64" in library.get_asm_str(cc=(9, 0)) and not asked and name not in FLOAT64:
            faults.append(f"{name}: float64")
        for architecture, cc in ARCHITECTURES.items():
            registers, local, shared = usage(bytes(library.get_cubin(cc=cc).code))
            print(f"{name:24}{architecture:8}{registers:10}{local:10}{shared:10}{dynamic:10}  {short(types)}")
            if registers * (kernel.bounds[0] if kernel.bounds else lif.MOST_TOGETHER) > ALL_REGISTERS:
                faults.append(f"{name} on {architecture}: {registers} registers, too many for the largest block")
            if local:
                faults.append(f"{name} on {architecture}: {local} bytes of local memory")
    for fault in faults:
        print("FAULT:", fault)
    print(f"{len(driver.registry)} kernels, {len(seen)} combinations of types, {len(faults)} faults")
    return 1 if faults else 0


def short(types: tuple[Any, ...]) -> str:
    """Argument types, as f4[3] for a float32 array with three axes."""
    names = []
    for kind in types:
        array = hasattr(kind, "ndim")
        name = re.sub(r"(\w)[a-z]*?(\d+)", lambda m: f"{m[1]}{int(m[2]) // 8}", str(kind.dtype if array else kind))
        names.append(f"{name}[{kind.ndim}]" if array else name)
    return " ".join(names)


if __name__ == "__main__":
    sys.exit(main())
