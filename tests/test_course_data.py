"""Bundled data without a network; downloads against a server on the loopback."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib.util
import re
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from course.data import digits, fashion, fashion_mnist, read_idx, spirals
from course.data.download import ChecksumError, fetch, file_sha256


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_digits(no_network):
    data = digits()
    assert [len(part) for part in data] == [1197, 1197, 300, 300, 300, 300]
    for x, y in zip(data[::2], data[1::2], strict=True):
        assert x.shape == (len(y), 64)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert (x.min(), x.max()) == (0, 1)
    assert data.valid_y.bincount().tolist() == data.test_y.bincount().tolist() == [30] * 10


def test_digits_are_those_of_scikit_learn():
    # Its file, because importing scikit-learn takes seconds.
    found = importlib.util.find_spec("sklearn")
    assert found is not None and found.origin is not None
    table = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    theirs = np.loadtxt(table, delimiter=",")
    data = digits()
    ours = torch.cat([torch.cat(data[::2]) * 16, torch.cat(data[1::2])[:, None]], dim=1)
    assert sorted(ours.tolist()) == sorted(theirs.tolist())


def test_spirals(no_network):
    x, y = spirals(50, classes=3, noise=0.1, seed=1)
    assert (x.shape, x.dtype, y.dtype) == ((150, 2), torch.float32, torch.int64)
    assert y.bincount().tolist() == [50, 50, 50]
    assert y[:50].unique().numel() == 3  # in random order
    again, _ = spirals(50, classes=3, noise=0.1, seed=1)
    other, _ = spirals(50, classes=3, noise=0.1, seed=2)
    assert x.equal(again)
    assert not x.equal(other)
    radius = x.norm(dim=1)
    assert radius.min() >= 0.1 - 1e-6
    assert radius.max() <= 1 + 1e-6


def test_spirals_without_noise_follow_the_docstring():
    x, y = spirals(11, classes=2, noise=0.0)
    along = (x.double().norm(dim=1) - 0.1) / 0.9
    angle = torch.pi * y + 1.5 * torch.pi * along
    expected = (0.1 + 0.9 * along)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    assert torch.allclose(x.double(), expected, atol=1e-5)


@pytest.mark.parametrize("arguments", [(0, 2), (5, 1)])
def test_spirals_of_nothing(arguments):
    with pytest.raises(ValueError, match="spirals needs"):
        spirals(*arguments)


# ---- downloads


class Server(http.server.ThreadingHTTPServer):
    """Serves bytes; understands ranges; breaks off a connection after `stop_after` bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.stop_after: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(re.findall(r"bytes=(\d+)-", wanted)[0]) if wanted and self.server.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.stop_after])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    # The loop looks for the end every 10 ms, else each test would wait half a second.
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_fetch(server, tmp_path, capsys):
    server.files["a.bin"] = CONTENT
    target = tmp_path / "deep" / "a.bin"
    assert fetch(server.url + "a.bin", SHA256, target) == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["a.bin"]
    fetch(server.url + "a.bin", SHA256, target)
    assert server.asked == [None]  # the second time nobody was asked
    assert capsys.readouterr() == ("", "")


def test_fetch_resumes(server, tmp_path):
    server.files["a.bin"] = CONTENT
    server.stop_after = 100_000
    target = tmp_path / "a.bin"
    with pytest.raises(OSError, match=r"a\.bin: the connection broke after 100000 of 300000 bytes"):
        fetch(server.url + "a.bin", SHA256, target)
    assert not target.exists()
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:100_000]
    server.stop_after = None
    fetch(server.url + "a.bin", SHA256, target)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-"]
    assert not (tmp_path / "a.bin.part").exists()


def test_fetch_starts_afresh_without_ranges(server, tmp_path):
    server.files["a.bin"] = CONTENT
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:1000])
    fetch(server.url + "a.bin", SHA256, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_fetch_after_a_crash_before_the_last_step(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    fetch(server.url + "a.bin", SHA256, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == []


def test_fetch_drops_a_part_that_is_too_long(server, tmp_path):
    server.files["a.bin"] = CONTENT
    (tmp_path / "a.bin.part").write_bytes(b"x" * 400_000)
    fetch(server.url + "a.bin", SHA256, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-", None]


def test_fetch_refuses_a_wrong_checksum(server, tmp_path):
    server.files["a.bin"] = CONTENT[:-1] + b"?"
    with pytest.raises(ChecksumError, match=f"expected {SHA256}"):
        fetch(server.url + "a.bin", SHA256, tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


def test_fetch_replaces_a_damaged_target_only_by_the_right_file(server, tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"damaged")
    with pytest.raises(OSError, match="404"):
        fetch(server.url + "a.bin", SHA256, target)
    assert target.read_bytes() == b"damaged"
    server.files["a.bin"] = CONTENT
    fetch(server.url + "a.bin", SHA256, target)
    assert file_sha256(target) == SHA256


# ---- Fashion-MNIST


def idx(values: np.ndarray, compress: bool = True) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    raw = header + values.astype(np.uint8).tobytes()
    return gzip.compress(raw, mtime=0) if compress else raw


@pytest.mark.parametrize("compress", [True, False])
def test_read_idx(tmp_path, compress):
    values = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    (tmp_path / "x").write_bytes(idx(values, compress))
    read = read_idx(tmp_path / "x")
    assert read.dtype == np.uint8
    assert (read == values).all()
    read += 1  # not a read-only view of the file's bytes


GOOD = idx(np.arange(6).reshape(2, 3), compress=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"<html>",
        b"\0\0\x09\1" + GOOD[4:],
        GOOD[:-1],
        GOOD + b"\0",
        GOOD[:7],
        gzip.compress(GOOD, mtime=0)[:-9],
        gzip.compress(GOOD, mtime=0)[:12] + b"\xff" * 20,
    ],
)
def test_read_idx_refuses_damage(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises((ValueError, gzip.BadGzipFile)):
        read_idx(tmp_path / "x")


@pytest.fixture
def small_fashion(server, monkeypatch):
    """A Fashion-MNIST of 5,010 training images of 2x2 pixels on the loopback."""
    generator = np.random.default_rng(0)
    arrays = {
        "train-images-idx3": generator.integers(0, 256, (5010, 2, 2)),
        "train-labels-idx1": generator.integers(0, 10, 5010),
        "t10k-images-idx3": generator.integers(0, 256, (7, 2, 2)),
        "t10k-labels-idx1": generator.integers(0, 10, 7),
    }
    sums = {}
    for name, values in arrays.items():
        server.files[f"{name}-ubyte.gz"] = idx(values)
        sums[name] = hashlib.sha256(idx(values)).hexdigest()
    monkeypatch.setattr(fashion, "FASHION_MNIST_FILES", sums)
    return arrays


def test_fashion_mnist(server, small_fashion, tmp_path, capsys):
    data = fashion_mnist(tmp_path, mirrors=[server.url + "missing/", server.url])
    assert [tuple(part.shape) for part in data] == [
        (10, 4),
        (10,),
        (5000, 4),
        (5000,),
        (7, 4),
        (7,),
    ]
    assert np.allclose(data.test_x * 255, small_fashion["t10k-images-idx3"].reshape(7, 4))
    assert data.valid_y.tolist() == small_fashion["train-labels-idx1"][10:].tolist()
    assert data.train_x.dtype == torch.float32
    asked = len(server.asked)
    fashion_mnist(tmp_path, mirrors=[server.url])
    assert len(server.asked) == asked
    assert capsys.readouterr() == ("", "")


def test_fashion_mnist_falls_back(server, tmp_path, capsys):
    data = fashion_mnist(tmp_path, mirrors=[server.url])
    assert data.train_x.equal(digits().train_x)
    out, err = capsys.readouterr()
    assert out.startswith("Fashion-MNIST could not be loaded (HTTP Error 404")
    assert out.endswith("using the bundled digits instead\n")
    assert (out.count("\n"), err) == (1, "")


def test_fashion_mnist_falls_back_without_a_connection(tmp_path, capsys, monkeypatch):
    def refuse(*args):
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    data = fashion_mnist(tmp_path, mirrors=["http://127.0.0.1:9/"])
    assert data.train_x.shape[1] == 64
    assert "using the bundled digits" in capsys.readouterr().out
