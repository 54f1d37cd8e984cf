"""MNIST from IDX files: what is accepted, what is refused and how it is said, and the download from mirrors."""

import gzip
import hashlib
import http.server
import os
import struct
import threading

import h5py
import numpy as np
import pytest

from snnumba import cli, datasets, mnist


def idx(array, magic=None):
    """The bytes of an IDX file."""
    magic = 0x0800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


@pytest.fixture
def files(monkeypatch):
    """Four tiny files that mnist takes for the real ones."""
    rng = np.random.default_rng(0)
    contents, parts = {}, []
    for part in mnist.PARTS:
        shape = (20 if part.name.startswith("train") else 10, *part.shape[1:])
        array = rng.integers(0, 256, shape) if len(shape) == 3 else np.arange(shape[0]) % 10
        contents[part.name] = idx(array.astype(np.uint8))
        parts.append(mnist.Part(part.name, shape, hashlib.sha256(contents[part.name]).hexdigest()))
    monkeypatch.setattr(mnist, "PARTS", parts)
    return contents


@pytest.fixture
def folder(files, tmp_path):
    """A folder with the four tiny files, two of them packed."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, content in files.items():
        if "images" in name:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def serve(monkeypatch):
    """Serve a dict of names and bytes on this machine: the address of the mirror."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    servers = []

    def serve(files):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                content = files.get(self.path.rpartition("/")[2])
                self.send_response(200 if content else 404)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/mnist"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def packed(files):
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


def real_folder():
    folder = os.environ.get("SNNUMBA_MNIST")
    if not folder:
        pytest.skip("needs SNNUMBA_MNIST, the folder with the four IDX files of MNIST")
    return folder


def test_convert_keeps_every_pixel_and_label(folder, files, tmp_path):
    path = mnist.convert(folder, tmp_path / "new" / "mnist.h5")
    for split, prefix in [("train", "train"), ("test", "t10k")]:
        data = datasets.load(path, split)
        assert data.images.tobytes() == files[f"{prefix}-images-idx3-ubyte"][16:]
        assert data.labels.astype(np.uint8).tobytes() == files[f"{prefix}-labels-idx1-ubyte"][8:]
    assert data.name == "mnist"
    assert data.classes == tuple("0123456789")


def test_the_command_line_converts_and_says_how_to_go_on(folder, tmp_path, capsys):
    path = tmp_path / "mnist.h5"
    assert cli.main(["data", "mnist", "--from", str(folder), "--to", str(path)]) == 0
    told = capsys.readouterr().out
    assert "20 images of 28x28 pixels in 10 classes, and 10 to test" in told
    assert f"`snnumba train --data {path}`" in told


def test_convert_names_every_missing_file(folder, tmp_path):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    (folder / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match="has no train-images-idx3-ubyte, t10k-labels-idx1-ubyte"):
        mnist.convert(folder, tmp_path / "mnist.h5")


def test_convert_names_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nowhere"):
        mnist.convert(tmp_path / "nowhere", tmp_path / "mnist.h5")


LABELS = "train-labels-idx1-ubyte"
WRONG = {
    "magic": (lambda c: b"\0\0\x08\x03" + c[4:], "magic number must be 0x0801; got 0x0803"),
    "shape": (lambda c: c[:4] + b"\0\0\0\x07" + c[8:], r"array must be \(20,\); got \(7,\)"),
    "short": (lambda c: c[:-1], "must be 28 bytes without gzip; got 27"),
    "long": (lambda c: c + b"\0", "must be 28 bytes without gzip; got more"),
    "empty": (lambda c: b"", "cut short: 0 bytes without gzip"),
    "content": (lambda c: c[:-1] + b"\x05", "sha256 must be [0-9a-f]{64}; got [0-9a-f]{64}"),
    "cut gzip": (lambda c: gzip.compress(c)[:-9], "damaged: Compressed file ended"),
    "bad gzip": (lambda c: gzip.compress(c)[:10] + bytes(20), "damaged: "),
}


@pytest.mark.parametrize("how", WRONG)
def test_convert_names_the_wrong_file_and_what_was_seen(how, folder, files, tmp_path):
    change, message = WRONG[how]
    (folder / LABELS).write_bytes(change(files[LABELS]))
    with pytest.raises(ValueError, match=f"{LABELS}: {message}") as error:
        mnist.convert(folder, tmp_path / "new" / "mnist.h5")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_download_gives_the_same_file_as_convert(folder, files, serve, tmp_path):
    one = mnist.download(tmp_path / "one.h5", mirrors=[serve(packed(files))])
    two = mnist.convert(folder, tmp_path / "two.h5")
    for split in ("train", "test"):
        got, expected = datasets.load(one, split), datasets.load(two, split)
        assert np.array_equal(got.images, expected.images)
        assert np.array_equal(got.labels, expected.labels)


@pytest.mark.parametrize("fault", ["absent", "wrong", "cut", "endless"])
def test_download_goes_on_to_the_next_mirror(fault, files, serve, tmp_path):
    bad = packed(files)
    name = f"{LABELS}.gz"
    bad[name] = {
        "absent": b"",
        "wrong": gzip.compress(files[LABELS][:-1] + b"\x05"),
        "cut": bad[name][:-9],
        "endless": bytes(1 << 20),
    }[fault]
    path = mnist.download(tmp_path / "mnist.h5", mirrors=[serve(bad), serve(packed(files))])
    assert datasets.load(path).labels.astype(np.uint8).tobytes() == files[LABELS][8:]


def test_download_says_what_it_tried_and_what_else_to_do(files, serve, tmp_path):
    mirrors = [serve({}), "http://127.0.0.1:1/closed/"]
    with pytest.raises(ConnectionError) as error:
        mnist.download(tmp_path / "new" / "mnist.h5", mirrors=mirrors)
    message = str(error.value)
    assert "\n" not in message
    assert f"{mirrors[0]}/train-images-idx3-ubyte.gz: HTTP Error 404" in message
    assert "http://127.0.0.1:1/closed/train-images-idx3-ubyte.gz: " in message
    assert "snnumba data mnist --from DIR" in message
    assert not (tmp_path / "new").exists()


def test_download_stops_reading_a_file_that_is_too_long(files, serve):
    url = serve({"train-labels-idx1-ubyte.gz": bytes(1 << 20)})
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        mnist._fetch(f"{url}/train-labels-idx1-ubyte.gz", limit=1000)


def test_unpacking_stops_at_the_size_of_the_file(folder, files, tmp_path):
    (folder / LABELS).write_bytes(gzip.compress(files[LABELS] + bytes(1 << 24)))
    with pytest.raises(ValueError, match="must be 28 bytes without gzip; got more"):
        mnist.convert(folder, tmp_path / "mnist.h5")


@pytest.mark.compiled
def test_mnist_is_mnist(tmp_path):
    path = mnist.convert(real_folder(), tmp_path / "mnist.h5")
    train, test = datasets.open_data(str(path))
    assert (len(train), len(test), train.sample_shape) == (60000, 10000, (784,))
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    x, _ = train.batch(np.arange(len(train)))
    assert x.mean() == pytest.approx(0.1307, abs=1e-4)  # the mean and deviation every MNIST tutorial quotes
    assert x.std() == pytest.approx(0.3081, abs=1e-4)


def test_the_file_of_mnist_names_its_source_and_sums(tmp_path):
    path = mnist.convert(real_folder(), tmp_path / "mnist.h5")
    with h5py.File(path) as file:
        assert file.attrs["name"] == "mnist"
        assert "LeCun" in file.attrs["source"]
        for name in ("train/images", "train/labels", "test/images", "test/labels"):
            assert file[name].dtype == np.uint8
            assert file[name].attrs["sha256"] == hashlib.sha256(file[name][...]).hexdigest()


def test_mnist_downloads_from_a_mirror_that_has_it(serve, tmp_path):
    folder = real_folder()
    files = {}
    for part in mnist.PARTS:
        plain = os.path.join(folder, part.name)
        if os.path.exists(plain):
            with open(plain, "rb") as file:
                files[f"{part.name}.gz"] = gzip.compress(file.read(), 1)
        else:
            with open(f"{plain}.gz", "rb") as file:
                files[f"{part.name}.gz"] = file.read()
    path = mnist.download(tmp_path / "mnist.h5", mirrors=[serve(files)])
    assert datasets.load(path).labels[:5].tolist() == [5, 0, 4, 1, 9]
