"""Files that are whole or absent: atomic writes, and a lock so that a folder has one writer."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mmssl.errors import MmsslError


@contextmanager
def atomic(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path``; on success it is flushed to disk and renamed to ``path``.

    Whatever goes wrong inside the block (a full disk included), ``path`` is left as it was and no
    temporary file remains. A process killed in between leaves only ``.NAME.PID.part``.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MmsslError(f"{path}: could not be written: {error.strerror or error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path | str, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic(path) as file:
        file.write(content)


def write_json(path: Path | str, content: Any) -> None:
    """Write ``content`` as indented JSON with sorted keys, atomically."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: Path | str, expected: str) -> Any:
    """Read JSON; ``expected`` says what the file should have been, for the error message.

    Raises:
        MmsslError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MmsslError(f"{path}: no such file; expected {expected}") from error
    except (ValueError, OSError) as error:
        raise MmsslError(f"{path}: not readable as JSON ({error}); expected {expected}") from error


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def only_writer(folder: Path | str) -> Iterator[None]:
    """Hold an advisory lock on ``folder``; a second holder is refused. The system frees it if we die.

    Raises:
        MmsslError: another process already writes to the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise MmsslError(
                f"{folder}: another run (process {owner}) is writing here; wait for it, or use another folder"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def join_crew(folder: Path) -> None:
    """Hold a shared lock on ``folder`` until this process ends: see ``wait_for_crew``."""
    fcntl.flock(os.open(folder / ".crew", os.O_RDWR | os.O_CREAT), fcntl.LOCK_SH)


def wait_for_crew(folder: Path) -> None:
    """Wait until every process that joined is gone; those of a killed parent outlive it by a moment."""
    with open(folder / ".crew", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
