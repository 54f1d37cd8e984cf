"""Python in processes of their own, with the packages that this one has."""

import os
import subprocess
import sys
from typing import Any

# Root need not heed permissions; without these capabilities (DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER) it must.
OBEDIENT = """
import ctypes, os, sys
if os.getuid() == 0:
    for capability in 1, 2, 3:
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def search_path() -> str:
    """PYTHONPATH for a Python that finds what this one does."""
    return os.pathsep.join(filter(None, sys.path))


def begun(*arguments: object, cwd: Any = None, obedient: bool = False, **environment: Any) -> subprocess.Popen[str]:
    """`python *arguments`, with these variables, or without those that are None; `obedient` to permissions."""
    same = {"PYTHONPATH": search_path(), "PYTHONSAFEPATH": "1"}  # 1: nothing from the working folder
    wanted = os.environ | same | environment
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *(["-c", OBEDIENT] if obedient else []), *map(str, arguments)],
        cwd=cwd,
        env={name: str(value) for name, value in wanted.items() if value is not None},
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The same, at its end."""
    process = begun(*arguments, **options)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
