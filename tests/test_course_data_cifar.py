"""CIFAR-10 from a made archive, against a server on the loopback."""

from __future__ import annotations

import hashlib
import io
import pickle
import socket
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from test_course_data import Server, server  # noqa: F401  (a fixture)
from torchvision.datasets import CIFAR10

from course.data import cifar, cifar10, digits

IN_A_BATCH, IN_TEST = 1002, 7
NAMES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
FOLDER = CIFAR10.base_folder


def batch(number: int, count: int) -> dict[str, object]:
    """A batch as the data set has it: rows of 1,024 red, 1,024 green and 1,024 blue bytes."""
    pixels = np.zeros((count, 3, 32, 32), np.uint8)
    pixels[:, 0] = np.arange(32)[:, None]  # red tells the row, green the column
    pixels[:, 1] = np.arange(32)
    pixels[:, 2, 0, 0] = number
    return {"data": pixels.reshape(count, -1), "labels": [i % 10 for i in range(count)]}


def archive(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as file:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{FOLDER}/{name}")
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    """The files of a CIFAR-10 of 5,010 training images."""
    files = {}
    for number, name in enumerate(NAMES):
        values = batch(number, IN_TEST if name == "test_batch" else IN_A_BATCH)
        files[name] = pickle.dumps(values)
    files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    return files


@pytest.fixture(scope="module")
def packed(contents: dict[str, bytes]) -> bytes:
    return archive(contents)


@pytest.fixture
def small_cifar(
    server: Server,  # noqa: F811
    contents: dict[str, bytes],
    packed: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> Server:
    """Serves the archive; the checksums expected are those of the made files."""
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    monkeypatch.setattr(CIFAR10, "train_list", [[name, md5[name]] for name in NAMES[:5]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": md5["batches.meta"]})
    monkeypatch.setattr(cifar, "CIFAR10_SHA256", hashlib.sha256(packed).hexdigest())
    server.files[cifar.CIFAR10_ARCHIVE] = packed
    return server


def test_cifar10(small_cifar: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = cifar10(root=tmp_path, mirrors=[small_cifar.url + "missing/", small_cifar.url])
    sizes = [len(part) for part in data]
    assert sizes == [10, 10, 5000, 5000, 7, 7]
    for x, y in zip(data[::2], data[1::2], strict=True):
        assert x.shape == (len(y), 3, 32, 32)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert x.is_contiguous()
        ramp = (torch.arange(32) / 255).expand(32, 32)
        assert torch.allclose(x[0, 0], ramp.T)
        assert torch.allclose(x[0, 1], ramp)
    number = [(x[:, 2, 0, 0] * 255).round().int().tolist() for x in data[::2]]
    # The last 5,000 training images are for validation.
    every = [i // IN_A_BATCH for i in range(5 * IN_A_BATCH)]
    assert number == [every[:10], every[10:], [5] * 7]
    labels = [i % IN_A_BATCH % 10 for i in range(5 * IN_A_BATCH)]
    assert data.train_y.tolist() + data.valid_y.tolist() == labels
    assert data.test_y.tolist() == list(range(7))
    assert capsys.readouterr() == ("", "")


def test_cifar10_is_fetched_and_unpacked_once(
    small_cifar: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    cifar10(mirrors=[small_cifar.url])
    asked = len(small_cifar.asked)
    one = tmp_path / "cifar10" / FOLDER / "data_batch_3"
    before = one.stat().st_mtime_ns
    cifar10("cpu", mirrors=[small_cifar.url])
    assert len(small_cifar.asked) == asked
    assert one.stat().st_mtime_ns == before


def test_cifar10_goes_on_where_the_connection_broke(
    small_cifar: Server, packed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_cifar.stop_after = 1000
    data = cifar10(root=tmp_path, mirrors=[small_cifar.url])
    assert "the connection broke after 1000 of" in capsys.readouterr().out
    assert data.train_x.equal(cifar._enlarged_digits(None).train_x)
    small_cifar.stop_after = None
    assert len(cifar10(root=tmp_path, mirrors=[small_cifar.url]).test_y) == IN_TEST
    assert small_cifar.asked == [None, "bytes=1000-"]


def test_cifar10_unpacks_again_what_is_damaged(small_cifar: Server, tmp_path: Path) -> None:
    cifar10(root=tmp_path, mirrors=[small_cifar.url])
    one = tmp_path / FOLDER / "data_batch_2"
    one.write_bytes(one.read_bytes()[:-1])
    assert len(cifar10(root=tmp_path, mirrors=[small_cifar.url]).valid_y) == 5000


def test_cifar10_refuses_another_archive(
    small_cifar: Server,
    contents: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evil = contents | {"data_batch_1": b"cos\nsystem\n(S'exit 1'\ntR."}
    small_cifar.files[cifar.CIFAR10_ARCHIVE] = archive(evil)
    assert len(cifar10(root=tmp_path, mirrors=[small_cifar.url]).test_y) == 300
    assert "has the SHA-256" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []  # nothing of it was unpacked


def test_cifar10_believes_torchvisions_sums(
    small_cifar: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", "0" * 32]])
    assert len(cifar10(root=tmp_path, mirrors=[small_cifar.url]).test_y) == 300
    assert "corrupted" in capsys.readouterr().out


def test_cifar10_falls_back(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    def refuse(*args):
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    data, small = cifar10(root=tmp_path, mirrors=["http://127.0.0.1:9/"]), digits()
    out, err = capsys.readouterr()
    assert out.startswith("CIFAR-10 could not be loaded (")
    assert out.endswith("using the bundled digits instead\n")
    assert (out.count("\n"), err) == (1, "")
    for ours, theirs in zip(data[::2], small[::2], strict=True):
        assert ours.shape == (len(theirs), 3, 32, 32)
        for channel in range(3):  # every 4 x 4 block is one pixel
            assert ours[:, channel, 1::4, 2::4].flatten(1).equal(theirs)
            assert ours[:, channel, 3::4, 0::4].flatten(1).equal(theirs)
    assert data.valid_y.equal(small.valid_y)


def test_cifar10_without_torchvision(
    small_cifar: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    assert len(cifar10(root=tmp_path, mirrors=[small_cifar.url]).test_y) == 300
    assert "torchvision" in capsys.readouterr().out


def test_the_published_checksums() -> None:
    assert CIFAR10.url == cifar.CIFAR10_MIRRORS[0] + cifar.CIFAR10_ARCHIVE
    assert (CIFAR10.filename, len(cifar.CIFAR10_SHA256)) == (cifar.CIFAR10_ARCHIVE, 64)
