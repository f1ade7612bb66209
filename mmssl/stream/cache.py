"""Remote files: read with patience, and kept as local copies that are whole or absent."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

import fsspec

from mmssl import files
from mmssl.errors import MmsslError

ATTEMPTS = 4
FIRST_PAUSE = 0.5
"""Seconds before the second attempt; doubled before each further one."""
_PIECE = 8 << 20
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError)
"""Errors that no repetition mends."""

Result = TypeVar("Result")


class Unreachable(Exception):
    """A remote file could not be had, or is not the one that was expected; the message says which and why."""


def is_remote(root: str) -> bool:
    """Whether ``root`` is a URL of something other than the local file system."""
    return "://" in root and not root.startswith(("file://", "local://"))


def local_path(root: str) -> str:
    """The path of a local root, given as a path or as ``file://``."""
    return root.partition("://")[2] if "://" in root else root


def default_folder() -> Path:
    """``$XDG_CACHE_HOME/mmssl``, or ``~/.cache/mmssl``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmssl"


def read(url: str) -> bytes:
    """The whole of a small remote file.

    Raises:
        Unreachable: missing, not allowed, or still failing after all attempts.
    """

    def attempt() -> bytes:
        with fsspec.open(url, "rb") as source:
            return bytes(source.read())

    return _patiently(url, attempt)


def fetch(url: str, size: int, folder: Path) -> Path:
    """A local copy of ``url``, which must have ``size`` bytes; downloaded once, however many processes ask.

    The copy's name is a hash of URL and size, so files of the same name elsewhere, or a file that was
    replaced by one of another size, never meet. Nothing is removed from the folder.

    Raises:
        Unreachable: missing, not allowed, of another size, or still failing after all attempts.
        MmsslError: the copy cannot be written (disk full).
    """
    name = hashlib.sha256(f"{url}\n{size}".encode()).hexdigest()[:32]
    path = folder / name[:2] / f"{name}{Path(url).suffix}"
    if _has_size(path, size):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _has_size(path, size):

            def attempt() -> None:
                with files.atomic(path) as copy:
                    _copy(url, size, copy)

            _patiently(url, attempt)
    return path


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


class _Broken(Exception):
    """Reading failed. Not an OSError, so that it is not taken for a failure to write the copy."""


def _copy(url: str, size: int, copy: IO[bytes]) -> None:
    for piece in _pieces(url):
        copy.write(piece)
    if copy.tell() != size:
        raise _Broken(f"{copy.tell()} bytes, expected {size}")


def _pieces(url: str) -> Iterator[bytes]:
    try:
        with fsspec.open(url, "rb") as source:
            while piece := source.read(_PIECE):
                yield piece
    except _FINAL as error:
        raise Unreachable(f"{url}: {_words(error)}") from error
    except Exception as error:  # each fsspec backend raises its own library's errors
        raise _Broken(_words(error)) from error


def _patiently(url: str, attempt: Callable[[], Result]) -> Result:
    """Call until it works, with growing pauses."""
    pause = FIRST_PAUSE
    for number in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except (Unreachable, MmsslError):
            raise
        except _FINAL as error:
            raise Unreachable(f"{url}: {_words(error)}") from error
        except Exception as error:  # each fsspec backend raises its own library's errors
            if number == ATTEMPTS:
                raise Unreachable(f"{url}: {_words(error)} ({ATTEMPTS} attempts)") from error
        time.sleep(pause)
        pause *= 2
    raise AssertionError("unreachable")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if not isinstance(error, _Broken) else str(error)
