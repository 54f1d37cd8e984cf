"""The command line: what it prints and saves, and what it says in one line where something is wrong."""

import itertools
import os
import re
import signal

import h5py
import numba
import numpy as np
import pytest
from processes import begun, python

import snnumba as snn
from snnumba import checkpoint, cli, cli_train, datasets, train_options
from snnumba.kernels.cpu import available_threads
from snnumba.memory import default_memory

SMALL = ["--hidden", "8", "--num-steps", "3", "--epochs", "2", "--batch-size", "32"]


def process(*args, **options):
    """`snnumba *args` in a process of its own."""
    return python("-m", "snnumba", *args, **options)


def number(label, text):
    """What follows a label in a report."""
    return re.search(rf"^{label} +(\S+)", text, re.MULTILINE).group(1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def sigint():
    """Handles SIGINT as Python does, even where the tests were begun in the background, by a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def threads():
    """Puts back the number of threads."""
    before = snn.get_num_threads()
    yield
    snn.set_num_threads(before)


def images(seed, samples):
    """Bright left or bright right halves, and noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 2
    pixels = rng.integers(0, 100, (samples, 4, 4))
    pixels[labels == 0, :, :2] += 100
    pixels[labels == 1, :, 2:] += 100
    return pixels.astype(np.uint8), labels


@pytest.fixture
def halves(folder):
    """A small data set, halves.h5."""
    datasets.save("halves.h5", train=images(0, 200), test=images(1, 50), name="halves", classes=["left", "right"])
    return "halves.h5"


@pytest.fixture
def run_file(halves, capsys):
    """A run on it, run.h5."""
    assert cli.main(["train", "--data", halves, *SMALL]) == 0
    capsys.readouterr()
    return "run.h5"


@pytest.mark.compiled
def test_a_run_on_digits_in_processes_is_evaluated_to_the_accuracy_it_printed(tmp_path):
    train = process("train", "--data", "digits", *SMALL, cwd=tmp_path)
    assert train.returncode == 0, train.stderr
    evaluate = process("evaluate", "run.h5", cwd=tmp_path)
    assert evaluate.returncode == 0, evaluate.stderr
    assert "digits (synthetic)" in train.stdout
    assert number("accuracy", train.stdout) == number("accuracy", evaluate.stdout)
    assert not evaluate.stderr


def test_the_report_has_a_row_an_epoch(halves, capsys):
    assert cli.main(["train", "--data", halves, *SMALL]) == 0
    rows = re.findall(r"^ +(\d+) +\d\.\d{5}( +[\d.]+%){4} +[\d.]+$", capsys.readouterr().out, re.MULTILINE)
    assert [epoch for epoch, _ in rows] == ["1", "2"]


def test_the_report_counts_the_parameters_and_names_the_settings(halves, capsys):
    cli.main(["train", "--data", halves, *SMALL, "--lr", "0.01"])
    out = capsys.readouterr().out
    assert "halves: 200 images of 4x4 pixels in 2 classes, and 50 to test" in out
    parameters = (16 * 8 + 8) + (8 * 8 + 8) + (8 * 2 + 2) + (2 * 2 + 2)
    assert f"3 steps, {parameters} parameters" in out
    assert "lr 0.01, batch 32, epochs 2, seed 0" in out


def test_the_defaults_are_the_tutorials():
    args = cli._parser().parse_args(["train"])
    assert (args.hidden, args.num_steps, args.beta, args.epochs, args.batch_size) == (128, 10, 0.9, 5, 128)
    assert (args.lr, args.seed, args.dtype, args.device, args.loss) == (1e-3, 0, "float32", "cpu", "count")
    assert train_options._loss_options(args) == {"correct_rate": 0.8, "incorrect_rate": 0.2}
    args = cli._parser().parse_args(["train", "--loss", "membrane"])
    assert train_options._loss_options(args) == {"on_target": 1.05, "off_target": 0.2}


def test_a_saved_run_holds_settings_weights_and_history(run_file, halves, folder):
    run = checkpoint.load(run_file)
    assert run.settings == {
        "data": str(folder / "halves.h5"),
        "memory": default_memory() // 10**6,
        "loss": "count",
        "correct_rate": 0.8,
        "incorrect_rate": 0.2,
        "epochs": 2,
        "batch_size": 32,
        "lr": 0.001,
        "seed": 0,
        "dtype": "float32",
        "samples_crc32": datasets.fingerprint(datasets.load(halves)),
    }
    assert run.history.epochs == 2
    assert run.optimizer.steps == len(run.history.loss) == 2 * 6


def test_the_same_command_saves_the_same_bits(halves, threads):
    for out, threads in (("a.h5", "1"), ("b.h5", "2")):
        cli.main(["train", "--data", halves, *SMALL, "--out", out, "--threads", threads])
    a, b = checkpoint.load("a.h5"), checkpoint.load("b.h5")
    np.testing.assert_array_equal(a.net.vector, b.net.vector)
    np.testing.assert_array_equal(a.history.loss, b.history.loss)


TASKS = {  # options that make a task small, and the label of what is said of the net at the end
    "trajectory": (["--samples", "64", "--hidden", "8", "--num-steps", "5", "--epochs", "2"], "error"),
    "spike-time": (["--samples", "64", "--hidden", "8", "--num-steps", "5", "--epochs", "2"], "on time"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_run_without_files_and_evaluated_to_the_same_figures(folder, capsys, task):
    options, label = TASKS[task]
    assert cli.main(["train", "--task", task, *options, "--seed", "3"]) == 0
    trained = capsys.readouterr().out
    assert "(synthetic): 64 " in trained
    assert len(re.findall(r"^ +\d+ +\d\.\d{5} .*\d$", trained, re.MULTILINE)) == 2  # a row an epoch
    assert cli.main(["evaluate", "run.h5", "--batch-size", "7"]) == 0
    evaluated = capsys.readouterr().out
    assert number(label, evaluated) == number(label, trained)
    run = checkpoint.load("run.h5")
    assert run.settings["task"] == task
    assert (run.settings["seed"], run.settings["samples"]) == (3, 64)
    assert run.history.validation_metrics.keys() == run.history.metrics.keys()


@pytest.mark.parametrize("task", TASKS)
def test_a_task_gives_the_same_bits_again(folder, threads, task):
    for out, threads in (("a.h5", "1"), ("b.h5", "2")):
        cli.main(["train", "--task", task, *TASKS[task][0], "--out", out, "--threads", threads])
    np.testing.assert_array_equal(checkpoint.load("a.h5").net.vector, checkpoint.load("b.h5").net.vector)


@pytest.mark.parametrize("options", [["--loss", "membrane"], ["--dtype", "float64"], ["--correct-rate", "1"]])
def test_a_run_is_evaluated_with_its_own_loss_and_dtype(halves, capsys, options):
    assert cli.main(["train", "--data", halves, *SMALL, *options]) == 0
    trained = capsys.readouterr().out
    assert cli.main(["evaluate", "run.h5", "--batch-size", "7"]) == 0
    out = capsys.readouterr().out
    assert number("accuracy", out) == number("accuracy", trained)
    expected = checkpoint.load("run.h5").history.validation_loss[-1]
    assert float(number("loss", out).rstrip(",")) == pytest.approx(expected, abs=1e-5)  # five digits are printed


PLANS = {  # options, what the report says, the optimizer, and the schedule
    "adamw": (["--optimizer", "adamw"], "AdamW, lr 0.001, .*, weight decay 0.01", "AdamW(", None),
    "decay": (["--weight-decay", "0.5"], "Adam, .*, weight decay 0.5", "Adam(", None),
    "sgd": (["--optimizer", "sgd", "--momentum", "0.9"], "SGD, .*, momentum 0.9", "SGD(lr=0.001, momentum=0.9", None),
    "step": (["--schedule", "step"], r"StepLR\(step_size=1, gamma=0.1\)", "Adam(lr=1.00000", "StepLR("),
    "steps": (
        ["--schedule", "step", "--step-size", "2", "--gamma", "0.5"],
        r"StepLR\(step_size=2, gamma=0.5\)",
        "Adam(lr=0.0005",
        "StepLR(",
    ),
    "cosine": (["--schedule", "cosine"], r"CosineAnnealingLR\(T_max=2", "Adam(lr=0.0,", "CosineAnnealingLR(T_max=2"),
    "clip": (["--clip", "0.001"], "Adam, .*, clip 0.001", "Adam(", None),
}


@pytest.mark.parametrize("case", PLANS)
def test_how_to_train_is_reported_and_saved(halves, capsys, case):
    options, told, optimizer, schedule = PLANS[case]
    assert cli.main(["train", "--data", halves, *SMALL, *options]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"^training   .*{told}", out, re.MULTILINE)
    run = checkpoint.load("run.h5")
    assert repr(run.optimizer).startswith(optimizer)
    assert repr(run.schedule).startswith(str(schedule))
    for option, value in zip(options[::2], options[1::2], strict=True):
        assert str(run.settings[option[2:].replace("-", "_")]) == value


def test_gradients_are_clipped_to_the_norm_given(halves):
    args = cli._parser().parse_args(["train", "--data", halves, *SMALL])
    task = cli.TASKS["classification"](train_options.settings_of(args))
    drawn = snn.Network(*task.layers(), num_steps=3, seed=0).vector
    for more, far in (["--clip", "1e-6"], False), ([], True):
        cli.main(["train", "--data", halves, *SMALL, "--optimizer", "sgd", "--lr", "1", *more])
        moved = np.linalg.norm(checkpoint.load("run.h5").net.vector - drawn)
        assert (moved > 12 * 1e-6) == far  # 2 epochs of 6 steps, each of at most lr * 1e-6


def test_evaluate_finds_the_data_from_another_folder(run_file, folder, monkeypatch):
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert cli.main(["evaluate", f"../{run_file}"]) == 0


def test_evaluate_uses_the_threads_that_are_asked_for(run_file, threads):
    assert cli.main(["evaluate", run_file, "--threads", "3"]) == 0
    assert snn.get_num_threads() == 3


def test_a_run_that_names_no_data_is_evaluated_on_what_is_given(run_file, halves, capsys):
    run = checkpoint.load(run_file)
    del run.settings["data"]
    checkpoint.save(run_file, run.net, run.optimizer, run.history, run.settings)
    assert "does not name the data that it was trained on; give --data" in refused(capsys, "evaluate", run_file)
    assert cli.main(["evaluate", run_file, "--data", halves]) == 0


def test_evaluate_takes_other_data(run_file, capsys):
    datasets.save("other.h5", train=images(2, 20), test=images(3, 30), name="other")
    assert cli.main(["evaluate", run_file, "--data", "other.h5"]) == 0
    assert "other: 30 images" in capsys.readouterr().out


@pytest.mark.compiled
def test_without_data_and_mnist_it_trains_on_digits_and_says_how_to_get_mnist(folder, capsys):
    assert cli.main(["train", *SMALL]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert "digits (synthetic)" in first
    assert "no data/mnist.h5" in second
    assert "`snnumba data mnist`" in second


def test_without_data_it_trains_on_mnist_where_that_is(halves, folder, capsys):
    (folder / "data").mkdir()
    os.rename(halves, "data/mnist.h5")
    assert cli.main(["train", *SMALL]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert "halves" in first
    assert "no --data given, and data/mnist.h5 is there" in second
    assert checkpoint.load("run.h5").settings["data"] == "mnist"


def test_mnist_is_converted_from_its_four_files(tmp_path):
    source = os.environ.get("SNNUMBA_MNIST")
    if source is None:
        pytest.skip("SNNUMBA_MNIST names no folder with the four IDX files of MNIST")
    done = process("data", "mnist", "--from", os.path.abspath(source), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60000 images of 28x28 pixels in 10 classes, and 10000 to test" in done.stdout
    assert len(datasets.load(tmp_path / "data/mnist.h5", "test")) == 10000


def test_info_tells_versions_threads_devices_and_the_cache(tmp_path):
    done = process("info", cwd=tmp_path, SNNUMBA_NUM_THREADS="3", SNNUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert number("snnumba", done.stdout) == snn.__version__
    assert number("numba", done.stdout) == numba.__version__
    assert number("threads", done.stdout) == "3,"
    assert number("kernels", done.stdout).startswith(str(tmp_path / "cache"))
    assert "cpu: available" in done.stdout
    assert "cuda" in done.stdout


@pytest.mark.compiled
@pytest.mark.parametrize("more", [[], ["--loss", "membrane", "--optimizer", "sgd", "--clip", "1"]])
def test_nothing_is_left_to_compile_after_a_warmup(tmp_path_factory, more):
    cache = tmp_path_factory.getbasetemp() / "warm"
    if not cache.exists():
        done = process("info", "--warmup", cwd=tmp_path_factory.mktemp("warmup"), SNNUMBA_CACHE_DIR=str(cache))
        assert done.returncode == 0, done.stderr
        assert "what `snnumba train` needs is compiled" in done.stdout
    folder = tmp_path_factory.mktemp("train")
    done = process("train", "--data", "digits", "--epochs", "1", *more, cwd=folder, SNNUMBA_CACHE_DIR=str(cache))
    assert done.returncode == 0, done.stderr
    assert "compiling" not in done.stderr


@pytest.mark.parametrize("wrong", ["0", "two", "1025"])
def test_a_wrong_number_of_threads_in_the_environment_is_told(wrong):
    done = python("-c", "import snnumba; print(snnumba.get_num_threads())", SNNUMBA_NUM_THREADS=wrong)
    assert int(done.stdout) == available_threads()
    assert f"SNNUMBA_NUM_THREADS must be an integer from 1 to 1024; got {wrong!r}: all cores are used" in done.stderr


def test_info_says_so_where_no_kernel_can_be_kept(tmp_path):
    (tmp_path / "file").touch()
    done = process("info", cwd=tmp_path, SNNUMBA_CACHE_DIR=str(tmp_path / "file"))
    assert done.returncode == 0
    assert "kernels    not kept between runs: the cache folder cannot be written" in done.stdout


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"snnumba {snn.__version__}\n")


def test_help_tells_of_each_option_and_of_each_task(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = capsys.readouterr().out
    for task, kind in cli.TASKS.items():
        assert re.search(rf"^options of .*--task {task}\b", text, re.MULTILINE)
        for name in kind.options:
            assert re.search(rf"^  --{name.replace('_', '-')} ", text, re.MULTILINE)


def test_a_default_that_tasks_do_not_share_is_told_of_each(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    assert re.search(r"--num-steps T +time steps of a sample \(default: 10; 50 for trajectory", capsys.readouterr().out)


@pytest.mark.parametrize("command", ["train", "evaluate", "data", "info"])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"examples:\n  snnumba {command}" in capsys.readouterr().out


GATHER = """
import numpy as np
from numba.core import event
from snnumba import cli
from snnumba.datasets import Dataset
with event.install_listener("numba:compile", cli._CompileNotice()):
    Dataset(np.zeros((2, 2, 2), np.uint8), [0, 1]).batch([0])
"""


@pytest.mark.compiled
def test_compiling_is_told_in_the_first_run_only(tmp_path):
    def told(cache):
        return python("-c", GATHER, SNNUMBA_CACHE_DIR=cache).stderr

    (tmp_path / "file").touch()
    assert told(tmp_path / "cache") == "compiling kernels (first run only)\n"
    assert told(tmp_path / "cache") == ""
    assert told(tmp_path / "file") == "compiling kernels (the cache folder cannot be written)\n"


def refused(capsys, *args):
    """What a command says on stderr, once it has failed in the way that they are to fail."""
    before = set(os.listdir())
    try:
        status = cli.main([str(arg) for arg in args])
    except SystemExit as stop:
        status = stop.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert err.startswith("snnumba: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert set(os.listdir()) == before
    return err


def write(images, labels, split="train"):
    """bad.h5, whose other split is as it should be."""
    with h5py.File("bad.h5", "w") as file:
        file["train/images"] = file["test/images"] = np.zeros((40, 4, 4), np.uint8)
        file["train/labels"] = file["test/labels"] = np.arange(40) % 2
        del file[f"{split}/images"], file[f"{split}/labels"]
        file[f"{split}/images"], file[f"{split}/labels"] = images, labels


IMAGES, LABELS = images(0, 40)
NAN = np.where(np.arange(40 * 16).reshape(40, 4, 4) == 37, np.nan, 0).astype(np.float32)
BAD_DATA = {  # images, labels, and what is said
    "of different length": (IMAGES, LABELS[:39], "got 40 images and 39 labels"),
    "with a label below 0": (IMAGES, LABELS - 1, r"labels\[0\] must be from 0"),
    "with a NaN pixel": (NAN, LABELS, r"images\[2, 1, 1\] must be finite; got nan"),
    "of a wrong shape": (IMAGES[0], LABELS, r"images must be .*; got \(4, 4\)"),
    "of a wrong dtype": (IMAGES.astype(np.int32), LABELS, "images must be uint8 or floating; got int32"),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("case", BAD_DATA)
def test_data_are_refused(folder, capsys, case, split):
    pixels, labels, message = BAD_DATA[case]
    write(pixels, labels, split)
    assert re.search(f"bad.h5, {split}: .*{message}", refused(capsys, "train", "--data", "bad.h5"))


def test_a_file_without_the_datasets_is_refused(folder, capsys):
    with h5py.File("bad.h5", "w") as file:
        file["pictures"] = IMAGES
    err = refused(capsys, "train", "--data", "bad.h5")
    assert "no dataset /train/images; there is /pictures" in err


def test_a_file_that_is_not_hdf5_is_refused(folder, capsys):
    (folder / "bad.h5").write_text("hello")
    assert "bad.h5 is not an HDF5 file" in refused(capsys, "train", "--data", "bad.h5")
    assert "bad.h5 is not a run" in refused(capsys, "evaluate", "bad.h5")


def test_a_missing_file_is_refused(folder, capsys):
    for args in (["train", "--data", "no.h5"], ["evaluate", "no.h5"]):
        assert refused(capsys, *args) == "snnumba: error: no.h5: No such file or directory\n"


def test_fewer_images_than_a_batch_are_refused(halves, capsys):
    err = refused(capsys, "train", "--data", halves, "--batch-size", "201")
    assert "batch_size 201 is more than the 200 samples" in err


def test_mnist_is_refused_where_it_is_not_there_with_the_way_to_get_it(folder, capsys):
    assert "`snnumba data mnist`" in refused(capsys, "train", "--data", "mnist")


def test_a_data_set_is_not_evaluated_as_a_run(halves, capsys):
    assert "halves.h5: not a run: it holds test, train" in refused(capsys, "evaluate", halves)


def test_a_run_is_not_trained_on_as_a_data_set(run_file, capsys):
    assert "run.h5, train: no dataset /train/images" in refused(capsys, "train", "--data", run_file, "--out", "b.h5")


def test_data_of_another_shape_than_the_nets_are_refused(run_file, capsys):
    write(np.zeros((40, 3, 3), np.uint8), LABELS, "train")
    with h5py.File("bad.h5", "r+") as file:
        del file["test/images"]
        file["test/images"] = np.zeros((40, 3, 3), np.uint8)
    assert "(16,), the net's input; got (9,)" in refused(capsys, "evaluate", run_file, "--data", "bad.h5")


def test_idx_files_that_are_not_there_are_named(folder, capsys):
    assert "no such folder: idx" in refused(capsys, "data", "mnist", "--from", "idx")
    assert "has no train-images-idx3-ubyte" in refused(capsys, "data", "mnist", "--from", ".")


CONTRADICTIONS = [
    (["--momentum", "0.9"], "--momentum", "--optimizer adam"),
    (["--step-size", "2", "--schedule", "cosine"], "--step-size", "--schedule cosine"),
    (["--gamma", "0.1"], "--gamma", "--schedule none"),
    (["--loss", "membrane", "--correct-rate", "0.8"], "--correct-rate", "--loss membrane"),
    (["--loss", "membrane", "--incorrect-rate", "0"], "--incorrect-rate", "--loss membrane"),
    (["--on-target", "1"], "--on-target", "--loss count"),
    (["--loss", "count", "--off-target", "0"], "--off-target", "--loss count"),
]


OF_TASKS = {  # an option of one task only
    "classification": [("--data", "mnist"), ("--beta", "0.9"), ("--loss", "count"), ("--correct-rate", "1")],
    "trajectory": [("--mode", "sqrt")],
    "spike-time": [],  # has none that trajectory has not
}


@pytest.mark.parametrize("task", OF_TASKS)
def test_the_options_of_another_task_are_refused_even_with_their_defaults(folder, capsys, task):
    for other in OF_TASKS.keys() - {task}:
        for option, value in OF_TASKS[other]:
            err = refused(capsys, "train", "--task", task, option, value)
            assert f"{option} is of --task {other} and cannot be given with --task {task}" in err


def test_an_option_of_two_tasks_is_refused_with_both(folder, capsys):
    err = refused(capsys, "train", "--samples", "64")
    assert "--samples is of --task trajectory and --task spike-time and cannot be given with --task class" in err


def test_the_data_of_a_task_without_files_cannot_be_replaced(folder, capsys):
    assert cli.main(["train", "--task", "trajectory", *TASKS["trajectory"][0]]) == 0
    capsys.readouterr()
    err = refused(capsys, "evaluate", "run.h5", "--data", "digits")
    assert "--data is of --task classification, and run.h5 is of --task trajectory" in err


def test_a_run_of_an_unknown_task_is_refused(run_file, capsys):
    run = checkpoint.load(run_file)
    checkpoint.save(run_file, run.net, run.optimizer, run.history, {"task": "chess"})
    assert "task must be one of classification, trajectory" in refused(capsys, "evaluate", run_file)
    checkpoint.save(run_file, run.net, run.optimizer, run.history, {"task": "trajectory"})
    assert "the settings must have samples; they have task" in refused(capsys, "evaluate", run_file)


@pytest.mark.parametrize(("options", "one", "other"), CONTRADICTIONS)
def test_options_that_contradict_each_other_are_both_named(folder, capsys, options, one, other):
    err = refused(capsys, "train", *options)
    assert one in err
    assert other in err


TOO_LARGE = [
    ("classification", "--hidden", "100000000", "the net would take about .* GiB of memory, .*a smaller --hidden"),
    ("classification", "--num-steps", "10000000000", "the net would take about .* --num-steps"),
    ("trajectory", "--hidden", "100000000", "the net would take about .* GiB of memory, .*a smaller --hidden"),
    ("spike-time", "--hidden", "100000000", "the net would take about .* GiB of memory, .*a smaller --hidden"),
    ("spike-time", "--num-steps", "10000000000", "the samples would take about .* GiB of memory, .*--num-steps"),
    ("trajectory", "--samples", "10000000000", "the samples would take about .* GiB of memory, .*--samples"),
]


@pytest.mark.parametrize(("task", "option", "value", "message"), TOO_LARGE)
def test_what_does_not_fit_into_memory_is_refused(halves, capsys, task, option, value, message):
    data = ["--data", halves, "--batch-size", "32"] if task == "classification" else []
    assert re.search(message, refused(capsys, "train", "--task", task, *data, option, value))


def test_what_a_terminal_would_obey_is_written_as_an_escape(folder, capsys):
    name = "\x1b[31mred\n\tµ"
    datasets.save("red.h5", train=images(0, 64), test=images(1, 50), name=name)
    assert cli.main(["train", "--data", "red.h5", *SMALL]) == 0
    assert cli.main(["evaluate", "run.h5"]) == 0
    out = capsys.readouterr().out
    assert out.count(r"\x1b[31mred\n\tµ: ") == 2
    assert "\x1b" not in out
    run = checkpoint.load("run.h5")
    checkpoint.save("run.h5", run.net, run.optimizer, run.history, {"task": name})
    assert "\x1b" not in refused(capsys, "evaluate", "run.h5")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--hidden", "0"),
        ("--hidden", "many"),
        ("--num-steps", "2.5"),
        ("--beta", "1.1"),
        ("--beta", "nan"),
        ("--correct-rate", "-0.1"),
        ("--on-target", "inf"),
        ("--epochs", "-1"),
        ("--batch-size", "0"),
        ("--lr", "0"),
        ("--seed", "-1"),
        ("--optimizer", "lion"),
        ("--weight-decay", "-1"),
        ("--momentum", "inf"),
        ("--schedule", "linear"),
        ("--step-size", "0"),
        ("--gamma", "0"),
        ("--clip", "0"),
        ("--dtype", "int8"),
        ("--threads", "0"),
        ("--device", "tpu"),
        ("--precision", "bf16"),
    ],
)
def test_a_wrong_value_is_refused_with_its_option(folder, capsys, option, value):
    err = refused(capsys, "train", option, value)
    assert f"argument {option}: " in err
    assert repr(value) in err


def test_tf32_is_refused_on_the_cpu(folder, capsys):
    assert "precision must be \"fp32\" on the CPU; got 'tf32'" in refused(capsys, "train", "--precision", "tf32")


def test_an_unknown_option_is_refused(folder, capsys):
    assert "unrecognized arguments: --hiden" in refused(capsys, "train", "--hiden", "3")


def test_no_command_is_refused(folder, capsys):
    assert "COMMAND" in refused(capsys)


def test_a_folder_to_save_in_that_is_not_there_is_refused_before_training(halves, capsys, monkeypatch):
    monkeypatch.setattr(cli_train, "fit", None)
    err = refused(capsys, "train", "--data", halves, "--out", "runs/a.h5")
    assert "--out runs/a.h5: there is no folder runs" in err


def test_a_file_that_is_not_a_run_is_not_overwritten(halves, folder, capsys):
    before = (folder / halves).read_bytes()
    err = refused(capsys, "train", "--data", "digits", "--out", halves)
    assert "--out halves.h5 exists and is not a run" in err
    assert (folder / halves).read_bytes() == before


def test_a_file_that_is_not_a_data_set_is_not_overwritten(run_file, folder, capsys):
    before = (folder / run_file).read_bytes()
    assert "exists and is not a data set" in refused(capsys, "data", "mnist", "--from", ".", "--to", run_file)
    assert (folder / run_file).read_bytes() == before
    assert "is a folder; name a file" in refused(capsys, "data", "mnist", "--from", ".", "--to", str(folder))


def test_an_empty_name_is_not_taken_for_none(halves, run_file, capsys):
    assert refused(capsys, "train", "--data", "")
    assert refused(capsys, "evaluate", run_file, "--data", "")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lr", ["1e30", "1e300"])
def test_a_run_that_diverges_is_refused_and_the_last_good_one_kept(run_file, halves, folder, capsys, lr):
    before = (folder / run_file).read_bytes()
    options = ["--hidden", "4", "--batch-size", "8", "--lr", lr, "--loss", "membrane", "--out", run_file]
    assert cli.main(["train", "--data", halves, *options]) == 2
    err = capsys.readouterr().err.splitlines()
    assert re.match(r"snnumba: error: epoch 1, step \d+: the .*(nan|inf).*; the training diverged", err[-1])
    assert err[-1].endswith("nothing of this run is saved")
    assert (folder / run_file).read_bytes() == before


def test_an_error_in_a_process_is_one_line_and_no_traceback(tmp_path):
    done = process("train", "--data", "no.h5", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "snnumba: error: no.h5: No such file or directory\n"
    assert not list(tmp_path.iterdir())


def test_an_interrupt_says_what_is_saved(halves, capsys, monkeypatch):
    before_step(monkeypatch, {8: [signal.SIGINT]})
    assert cli.main(["train", "--data", halves, *SMALL]) == 130
    said = "run.h5 is as it was in epoch 2, after step 2; `snnumba train --resume run.h5` goes on"
    assert capsys.readouterr().err.endswith(f"snnumba: stopped; {said}\n")


def test_an_interrupt_outside_of_training_ends_with_a_word(run_file, capsys, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "evaluate", interrupted)
    assert cli.main(["evaluate", run_file]) == 130
    assert capsys.readouterr().err == "snnumba: stopped\n"


def test_output_that_nobody_reads_ends_a_command_without_a_word(tmp_path):
    running = begun("-c", "input()\nfrom snnumba import cli\nraise SystemExit(cli.main(['info']))", cwd=tmp_path)
    running.stdout.close()
    running.stdin.write("\n")
    running.stdin.flush()
    assert running.wait(60) == 2
    assert running.stderr.read() == ""


def test_a_signal_that_comes_while_an_epoch_is_tested_stops_after_it(halves, capsys, monkeypatch):
    fit = cli_train.fit

    def with_signal(*args, on_epoch, **options):
        def first(epoch, history):
            signal.raise_signal(signal.SIGTERM)
            on_epoch(epoch, history)

        return fit(*args, on_epoch=first, **options)

    monkeypatch.setattr(cli_train, "fit", with_signal)
    assert cli.main(["train", "--data", halves, *SMALL]) == 143
    assert "stopped; run.h5 is as it was after epoch 1; " in capsys.readouterr().err


def before_step(monkeypatch, signals):
    """Let signals come to training, by the number of a step, before the command line is told that it was done."""
    fit, steps = cli_train.fit, itertools.count(1)

    def with_signals(*args, on_step, **options):
        def first(history):
            for number in signals.get(next(steps), ()):
                signal.raise_signal(number)
            on_step(history)

        return fit(*args, on_step=first, **options)

    monkeypatch.setattr(cli_train, "fit", with_signals)


def same_run(one, other):
    """Whether two files hold the same run, seconds and devices aside."""
    a, b = (checkpoint.load(path) for path in (one, other))
    arrays = [{"loss": run.history.loss, **run.optimizer.state_dict(), **run.net.state_dict()} for run in (a, b)]
    texts = [vars(run.history) | {"loss": None, "seconds": None} for run in (a, b)]
    return texts[0] == texts[1] and all(np.array_equal(x, arrays[1][name]) for name, x in arrays[0].items())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [["--optimizer", "sgd", "--momentum", "0.9"], ["--schedule", "cosine"]])
def test_a_run_stopped_by_a_signal_goes_on_to_the_same_bits(halves, capsys, monkeypatch, number, status, options):
    assert cli.main(["train", "--data", halves, *SMALL, *options, "--out", "whole.h5", "--clip", "1"]) == 0
    with monkeypatch.context() as patched:
        before_step(patched, {9: [number]})
        assert cli.main(["train", "--data", halves, *SMALL, *options, "--clip", "1"]) == status
    assert checkpoint.load("run.h5").optimizer.steps == 9
    capsys.readouterr()
    assert cli.main(["train", "--resume", "run.h5", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "goes on    from run.h5, in epoch 2, after step 3\n" in out
    assert re.search("^epoch     loss .*\n +2 ", out, re.MULTILINE)  # and no row of epoch 1
    assert same_run("run.h5", "whole.h5")


def test_a_save_that_fails_says_what_is_saved(halves, capsys, monkeypatch):
    save, saves = checkpoint.save, itertools.count()

    def second_fails(*args):
        if next(saves):
            raise OSError(28, "No space left on device", "run.h5")
        save(*args)

    monkeypatch.setattr(checkpoint, "save", second_fails)
    assert cli.main(["train", "--data", halves, *SMALL]) == 2
    said = "run.h5 cannot be saved: No space left on device; run.h5 is as it was after epoch 1; `snnumba train --resume"
    assert said in capsys.readouterr().err
    assert checkpoint.load("run.h5").history.epochs == 1


def test_a_second_signal_stops_at_once_and_saves_nothing(halves, capsys, monkeypatch):
    before_step(monkeypatch, {8: [signal.SIGTERM, signal.SIGINT]})
    assert cli.main(["train", "--data", halves, *SMALL]) == 130
    assert "stopped; run.h5 is as it was after epoch 1; " in capsys.readouterr().err
    assert checkpoint.load("run.h5").optimizer.steps == 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_so(halves, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        before_step(monkeypatch, {1: [signal.SIGINT]})
        assert cli.main(["train", "--data", halves, *SMALL]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_goes_on_to_the_same_bits(folder, monkeypatch, task):
    assert cli.main(["train", "--task", task, *TASKS[task][0], "--out", "whole.h5"]) == 0
    with monkeypatch.context() as patched:
        before_step(patched, {1: [signal.SIGINT]})
        assert cli.main(["train", "--task", task, *TASKS[task][0]]) == 130
    assert cli.main(["train", "--resume", "run.h5", "--out", "more.h5"]) == 0
    assert same_run("more.h5", "whole.h5")
    assert checkpoint.load("run.h5").optimizer.steps == 1  # as it was


def test_a_run_is_saved_amid_an_epoch_too(halves, monkeypatch):
    save, places = checkpoint.save, []
    monkeypatch.setattr(checkpoint, "save", lambda *args: (places.append(args[3].place), save(*args)))
    cli.main(["train", "--data", halves, *SMALL, "--epochs", "1", "--save-every", "1e-9"])
    assert places == [*(f"in epoch 1, after step {k}" for k in range(1, 7)), "after epoch 1"]


def test_a_run_that_has_ended_goes_on_with_more_epochs(halves, capsys):
    cli.main(["train", "--data", halves, *SMALL, "--epochs", "3", "--out", "whole.h5"])
    cli.main(["train", "--data", halves, *SMALL])
    capsys.readouterr()
    assert "run.h5 has done its 2 epochs; --epochs, with more," in refused(capsys, "train", "--resume", "run.h5")
    assert cli.main(["train", "--resume", "run.h5", "--epochs", "3"]) == 0
    assert same_run("run.h5", "whole.h5")


def test_a_run_in_windows_is_the_run_and_goes_on_in_others(halves, capsys):
    cli.main(["train", "--data", halves, *SMALL, "--epochs", "3", "--out", "whole.h5"])
    assert cli.main(["train", "--data", halves, *SMALL, "--checkpoint-every", "1"]) == 0
    assert "threads, states kept every 1 steps" in capsys.readouterr().out
    assert cli.main(["train", "--resume", "run.h5", "--epochs", "3", "--checkpoint-every", "2"]) == 0
    assert "threads, states kept every 2 steps" in capsys.readouterr().out
    assert same_run("run.h5", "whole.h5")


@pytest.mark.parametrize("given", [("--lr", "0.1"), ("--task", "trajectory"), ("--seed", "0"), ("--data", "digits")])
def test_a_resumed_run_has_its_own_settings(run_file, capsys, given):
    err = refused(capsys, "train", "--resume", run_file, *given)
    assert f"{given[0]} is the run's own and cannot be given with --resume" in err


def test_a_run_does_not_go_on_on_other_samples(run_file, capsys):
    datasets.save("halves.h5", train=images(5, 200), test=images(1, 50), name="halves")
    err = refused(capsys, "train", "--resume", run_file, "--epochs", "3")
    assert "run.h5 was trained on other samples than those of halves now" in err


def test_what_goes_on_with_other_versions_is_told(run_file, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(numba, "__version__", "0.1")
        run = checkpoint.load(run_file)
        checkpoint.save(run_file, run.net, run.optimizer, run.history, run.settings)
    assert cli.main(["train", "--resume", run_file, "--epochs", "3"]) == 0
    assert "saved by numba 0.1: its bits may not be those of a run never stopped" in capsys.readouterr().out
