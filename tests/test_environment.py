"""Where snnumba is run: what an import does, installs that cannot be written, no home, full disks, no compiler."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import python

import snnumba as snn
from snnumba import datasets

NOT_NEEDED = ["h5py", "matplotlib", "numba.cuda", "numba.np.arrayobj", "scipy.ndimage", "torch", "tqdm"]
TINY = ["--hidden", "4", "--num-steps", "3", "--epochs", "1", "--batch-size", "32"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a small data set, dots.h5."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    train, test = ((rng.integers(0, 256, (n, 2, 3)).astype(np.uint8), np.arange(n) % 2) for n in (64, 16))
    datasets.save("dots.h5", train=train, test=test, name="dots")
    return tmp_path


@pytest.fixture
def locked(folder):
    """A folder that cannot be written."""
    made = folder / "locked"
    made.mkdir()
    yield made
    unlock(made)


def lock(path):
    """Take all right to write away from a file, or from a folder and all in it."""
    for each in [path, *path.rglob("*")]:
        each.chmod(0o555 if each.is_dir() else 0o444)
    if python("-c", f"open({str(path / 'new')!r}, 'w')", obedient=True).returncode == 0:
        unlock(path)
        pytest.skip("needs a system where who runs the tests can be kept from writing")


def unlock(path):
    for each in [path, *path.rglob("*")]:
        each.chmod(0o755)


def told(done):
    """The one line in which a command of the command line says what was wrong."""
    assert done.returncode == 2
    assert done.stderr.startswith("snnumba: error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_an_import_is_silent():
    done = python("-W", "error", "-c", "import snnumba")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_import_leaves_out_what_not_every_use_needs():
    done = python("-c", f"import snnumba, sys; print(*[name for name in {NOT_NEEDED} if name in sys.modules])")
    assert (done.stdout, done.stderr) == ("\n", "")


NO_HOME = {
    "a home that cannot be made": "",
    "no home that is known": "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n",
}


@pytest.mark.parametrize("case", NO_HOME)
def test_without_a_home_an_import_is_silent_and_no_code_is_kept(folder, case):
    home = None if NO_HOME[case] else folder / "dots.h5" / "home"
    code = f"{NO_HOME[case]}\nfrom snnumba.kernels import cpu\nprint(cpu.cache_folder)"
    nowhere = dict.fromkeys(("SNNUMBA_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"))
    done = python("-W", "error", "-c", code, HOME=home, **nowhere)
    assert (done.stdout, done.stderr) == ("None\n", "")
    assert [path.name for path in folder.iterdir()] == ["dots.h5"]


def test_an_empty_name_of_the_cache_folder_does_not_stand_for_the_working_folder(folder):
    code = "from snnumba.kernels import cpu\nprint(cpu.cache_folder)"
    done = python("-c", code, HOME=folder, SNNUMBA_CACHE_DIR="", NUMBA_CACHE_DIR="", XDG_CACHE_HOME="")
    assert done.stdout.startswith(str(folder / ".cache" / "snnumba"))


FORWARD = """
import numpy as np
import snnumba as snn
net = snn.Network(snn.Linear(4, 6), snn.RLeaky(beta=0.9, linear_features=6), num_steps=5, seed=0)
print(snn.__file__, net.forward(np.ones((8, 4), np.float32))[1].tobytes().hex())
"""


def test_a_read_only_install_computes_the_same_with_nowhere_to_write(folder, locked):
    shutil.copytree(Path(snn.__file__).parent, locked / "snnumba")
    before = sorted(locked.rglob("*"))
    lock(locked)
    expected = python("-c", FORWARD).stdout.split()[1]
    path = os.pathsep.join([str(locked), *filter(None, sys.path)])
    nowhere = dict.fromkeys(("SNNUMBA_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"))
    options = {"cwd": locked, "obedient": True, "PYTHONDONTWRITEBYTECODE": None, **nowhere}
    done = python("-W", "error", "-c", FORWARD, HOME=locked, PYTHONPATH=path, **options)
    assert done.stderr == ""
    assert done.stdout.split() == [str(locked / "snnumba" / "__init__.py"), expected]
    assert sorted(locked.rglob("*")) == before
