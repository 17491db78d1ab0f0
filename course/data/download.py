"""Downloads with a progress bar that can be resumed and are checked before anyone sees the file."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from course.session import notebook_shell

_BLOCK = 1 << 16


class ChecksumError(OSError):
    """What arrived is not the file that was asked for."""


def fetch(url: str, sha256: str, target: str | os.PathLike[str], *, timeout: float = 30.0) -> Path:
    """Download a file unless it is there already.

    What has arrived is kept beside the target as `NAME.part`. A later call goes on where it ends,
    if the server understands HTTP ranges, and starts afresh if not. The target appears at once,
    whole and checked, or not at all.

    Args:
        url: where the file is.
        sha256: its checksum, 64 hexadecimal digits.
        target: the file's path; its folder is made.
        timeout: seconds without an answer after which to give up.

    Returns:
        The target.

    Raises:
        ChecksumError: the file has another checksum; what was downloaded is deleted.
        OSError: there is no connection, it broke, or the server refused; what has arrived is kept.
    """
    target = Path(target)
    if target.exists() and file_sha256(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    if not (part.exists() and file_sha256(part) == sha256):  # else only the last step is missing
        _download(url, part, target.name, timeout)
    found = file_sha256(part)
    if found != sha256:
        part.unlink()
        raise ChecksumError(f"{url} has the SHA-256 {found}, expected {sha256}")
    os.replace(part, target)
    return target


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, part: Path, name: str, timeout: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    # Without "identity" a proxy may compress, and the ranges would be those of something else.
    headers = {"User-Agent": "dlcourse", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with urlopen(Request(url, headers=headers), timeout=timeout) as response:
            resumed = response.status == 206 and _starts_at(response, have)
            with part.open("ab" if resumed else "wb") as file:
                _copy(response, file, name, have if resumed else 0)
    except HTTPError as error:
        if error.code != 416:
            raise
        # The part is longer than the file: it is not this file's beginning.
        part.unlink()
        _download(url, part, name, timeout)
    except http.client.HTTPException as error:  # not an OSError: a broken connection, mostly
        raise OSError(f"{url}: the connection broke ({error!r})") from error


def _starts_at(response: http.client.HTTPResponse, have: int) -> bool:
    return (response.headers.get("Content-Range") or "").startswith(f"bytes {have}-")


def _copy(response: http.client.HTTPResponse, file: BinaryIO, name: str, have: int) -> None:
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    quiet = not sys.stderr.isatty() and notebook_shell() is None
    with tqdm(
        total=total, initial=have, desc=name, unit="B", unit_scale=True, leave=False, disable=quiet
    ) as bar:
        while block := response.read(_BLOCK):
            file.write(block)
            have += len(block)
            bar.update(len(block))
    if total is not None and have < total:
        raise OSError(f"{name}: the connection broke after {have} of {total} bytes")
