"""The CPU and the CUDA kernels have the same names and take the same arguments."""

import inspect
import json
import os
import subprocess
import sys

from snnumba.kernels import cpu

ON_THE_HOST = {
    "MOST_THREADS": "threads of the CPU",
    "available_threads": "threads of the CPU",
    "team": "threads of the CPU",
    "cache_folder": "the CPU kernels' machine code",
}
NOT_YET = {
    "Workspace": "memory on the device comes with the layers' move there",
    "aligned": "memory on the device comes with the layers' move there",
    "conv_backward": "comes with Conv2d",
    "padded_shape": "comes with Conv2d",
    "lif_backward": "comes next",
    "lif_backward_with": "comes next",
    "lif_forward": "comes next",
    "one_to_one_backward": "comes next",
    "rows_together": "comes next",
    "lstm_backward": "comes with SLSTM",
    "lstm_backward_with": "comes with SLSTM",
    "lstm_forward": "comes with SLSTM",
}
SCRIPT = """
import inspect, json
from snnumba.kernels import cuda
print(json.dumps({name: str(inspect.signature(getattr(cuda, name))) if callable(getattr(cuda, name)) else ""
                  for name in cuda.__all__}))
"""


def signatures_on_cuda() -> dict[str, str]:
    """The public names of the CUDA kernels, each with its signature; read where the simulator stands for the GPU."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-c", SCRIPT]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(made))


def signature(name: str) -> str:
    """The signature of a CPU kernel without types, which kernels have none of; "" of what is no function."""
    value = getattr(cpu, name)
    if not callable(value):
        return ""
    made = inspect.signature(value)
    bare = [parameter.replace(annotation=parameter.empty) for parameter in made.parameters.values()]
    return str(made.replace(parameters=bare, return_annotation=made.empty))


def test_cpu_and_cuda_export_the_same_signatures() -> None:
    expected = {name: signature(name) for name in cpu.__all__ if name not in ON_THE_HOST | NOT_YET}
    found = signatures_on_cuda()
    found["num_words"] = signature("num_words")  # the same function
    assert found == expected


def test_importing_snnumba_imports_no_cuda() -> None:
    script = "import sys, snnumba; print([m for m in sys.modules if m.startswith(('numba.cuda', 'cuda'))])"
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert made.strip() == "[]"
