"""The CPU and the CUDA kernels have the same names and take the same arguments."""

import inspect
import json
import sys
from types import ModuleType

import pytest
from processes import python

from snnumba import backend, kernels
from snnumba.kernels import cpu

ON_THE_HOST = {
    "MOST_THREADS": "threads of the CPU",
    "available_threads": "threads of the CPU",
    "cache_folder": "the CPU kernels' machine code",
}
ONLY_THERE = {
    "what_is_missing": "asked before any other",
    "device_name": "the CPU's is no secret",
    "graphs_missing": "on a CPU, none ever is",
    **dict.fromkeys(("begin_step", "count_right", "end_step", "free_memory", "record"), "on a CPU, the host is there"),
}
SCRIPT = """
import json
from test_signatures import signatures
from snnumba.kernels import cuda
print(json.dumps(signatures(cuda)))
"""


def signatures(kernels: ModuleType) -> dict[str, str]:
    """The public names of a module of kernels, each with its signature but for types; "" where it is no function."""
    found = {}
    for name in kernels.__all__:
        found[name] = ""
        if callable(value := getattr(kernels, name)):
            made = inspect.signature(value)
            bare = [parameter.replace(annotation=parameter.empty) for parameter in made.parameters.values()]
            found[name] = str(made.replace(parameters=bare, return_annotation=made.empty))
    return found


def signatures_on_cuda() -> dict[str, str]:
    """Those of the CUDA kernels, read where the simulator stands for the GPU."""
    made = python("-c", SCRIPT, NUMBA_ENABLE_CUDASIM=1)
    assert made.returncode == 0, made.stderr
    return dict(json.loads(made.stdout))


def test_cpu_and_cuda_export_the_same_signatures() -> None:
    expected = {name: text for name, text in signatures(cpu).items() if name not in ON_THE_HOST}
    found = {name: text for name, text in signatures_on_cuda().items() if name not in ONLY_THERE}
    assert found == expected


def test_a_package_that_cuda_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(kernels, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "snnumba.kernels.cuda", None)
    with pytest.raises(ValueError, match=r'device "cuda" is not available: a package is missing .*; use device "cpu"'):
        backend.load("cuda")


def test_importing_snnumba_imports_no_cuda() -> None:
    script = "import sys, snnumba; print([m for m in sys.modules if m.startswith(('numba.cuda', 'cuda'))])"
    assert python("-c", script).stdout == "[]\n"
