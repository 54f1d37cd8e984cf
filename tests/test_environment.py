"""Where snnumba is run: what an import does, installs that cannot be written, no home, full disks, no compiler."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import python, search_path

import snnumba as snn
from snnumba import checkpoint, cli, datasets

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


WHERE = "import snnumba; print(snnumba.__file__)"


def test_the_script_pytest_tests_what_is_installed_and_the_module_what_lies_in_the_working_folder(pytestconfig):
    alone = 1 if Path(sys.argv[0]).stem == "pytest" else os.environ.get("PYTHONSAFEPATH")
    given = {"PYTHONPATH": os.environ.get("PYTHONPATH"), "PYTHONSAFEPATH": alone}
    assert python("-c", WHERE, cwd=pytestconfig.invocation_params.dir, **given).stdout.strip() == snn.__file__


def test_a_child_process_has_the_snnumba_that_is_tested_wherever_it_runs(tmp_path):
    for cwd in Path(__file__).parents[1], tmp_path:
        assert python("-c", WHERE, cwd=cwd).stdout.strip() == snn.__file__


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
    nowhere = dict.fromkeys(("SNNUMBA_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"))
    path = os.pathsep.join([str(locked), search_path()])
    options = {"cwd": locked, "obedient": True, "PYTHONDONTWRITEBYTECODE": None, **nowhere}
    done = python("-W", "error", "-c", FORWARD, HOME=locked, PYTHONPATH=path, **options)
    assert done.stderr == ""
    assert done.stdout.split() == [str(locked / "snnumba" / "__init__.py"), expected]
    assert sorted(locked.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_refused_before_training(folder, locked):
    lock(locked)
    done = python("-m", "snnumba", "train", "--data", "dots.h5", "--out", "locked/run.h5", obedient=True)
    assert told(done).endswith("error: --out locked/run.h5 cannot be written: Permission denied\n")
    assert done.stdout == ""


def test_a_run_in_a_folder_that_cannot_be_written_is_evaluated_and_goes_on_elsewhere(folder, locked):
    assert cli.main(["train", "--data", "dots.h5", *TINY, "--out", "locked/run.h5"]) == 0
    lock(locked)
    assert python("-m", "snnumba", "evaluate", "locked/run.h5", obedient=True).returncode == 0
    more = ["-m", "snnumba", "train", "--resume", "locked/run.h5", "--epochs", "2"]
    assert "--out locked/run.h5 cannot be written: Permission denied" in told(python(*more, obedient=True))
    assert python(*more, "--out", "run.h5", obedient=True).returncode == 0
    assert checkpoint.load("run.h5").history.epochs == 2


def test_a_file_that_cannot_be_read_is_told_of_in_a_line(folder, locked):
    (folder / "dots.h5").chmod(0o200)
    lock(locked)
    done = python("-m", "snnumba", "train", "--data", "dots.h5", obedient=True)
    assert told(done) == "snnumba: error: dots.h5: Permission denied\n"


ON_A_FULL_DISK = """
import resource, sys
from snnumba import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("save_every", ["10", "1e-9"])  # at the end of an epoch, or amid one
def test_a_disk_that_gets_full_leaves_the_last_good_save_which_goes_on_to_the_same_bits(folder, save_every):
    pytest.importorskip("resource", reason="needs limits on the size of files")
    assert cli.main(["train", "--data", "dots.h5", *TINY, "--epochs", "3", "--out", "whole.h5"]) == 0
    assert cli.main(["train", "--data", "dots.h5", *TINY]) == 0
    before = (folder / "run.h5").read_bytes()
    more = ["train", "--resume", "run.h5", "--epochs", "3"]
    untraced = {"COVERAGE_PROCESS_CONFIG": None}  # there is no room for a trace either
    done = python("-c", ON_A_FULL_DISK, *more, "--save-every", save_every, **untraced)
    assert told(done).endswith("run.h5 cannot be saved: File too large; run.h5 is as it was after epoch 1\n")
    assert (folder / "run.h5").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["dots.h5", "run.h5", "whole.h5"]
    assert cli.main(more) == 0
    np.testing.assert_array_equal(checkpoint.load("run.h5").net.vector, checkpoint.load("whole.h5").net.vector)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", [["info"], ["train", "--data", "dots.h5", *TINY]])
def test_output_to_a_full_disk_ends_with_a_line(folder, command):
    code = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\nfrom snnumba import cli\n"
    assert "No space left on device" in told(python("-c", f"{code}raise SystemExit(cli.main({command}))"))


TRAIN = """
import numpy as np
import snnumba as snn
from snnumba import functional as SF, optim
net = snn.Network(
    snn.Linear(6, 12), snn.RLeaky(beta=0.9, linear_features=12, threshold=0.3, learn_beta=True), snn.Linear(12, 2),
    snn.RLeaky(beta=0.8, linear_features=2, threshold=0.3), num_steps=5, seed=0,
)
loss_fn, optimizer = SF.mse_count_loss(0.8, 0.2), optim.Adam(net, lr=0.01)
x = np.random.default_rng(0).random((5, 6), np.float32) * 3
for _ in range(3):
    spk, mem = net.forward(x)
    net.backward(dspk=loss_fn(spk, np.arange(5) % 2)[1])
    optimizer.step()
print(*net.vector, sep="\\n")
"""


@pytest.mark.compiled
def test_a_net_trains_to_the_same_numbers_without_compiling():
    compiled, plain = (np.array(python("-c", TRAIN, NUMBA_DISABLE_JIT=off).stdout.split(), float) for off in ("0", "1"))
    assert compiled.size > 100
    np.testing.assert_allclose(plain, compiled, rtol=1e-4, atol=1e-6)  # sums are in another order, in float32


def test_the_command_line_trains_without_compiling(folder):
    for command in (["train", "--data", "dots.h5", *TINY], ["evaluate", "run.h5"]):
        done = python("-W", "error", "-m", "snnumba", *command, NUMBA_DISABLE_JIT=1)
        assert (done.returncode, done.stderr) == (0, "")
    assert checkpoint.load("run.h5").history.epochs == 1
