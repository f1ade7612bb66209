"""Raw files in a folder or inside a zip archive, read in place: nothing is ever extracted to disk."""

import os
import zipfile
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path, PurePosixPath

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import BadInput

LARGEST = 4 << 30
"""No raw file of 4 GiB or more is read into memory; an archive can claim any size."""


class Files(ABC):
    """A tree of files; paths are relative, with forward slashes."""

    root: str

    @abstractmethod
    def list(self, folder: str = ".") -> list[tuple[str, int]]:
        """(path relative to ``folder``, bytes) of every file beneath it, sorted by path.

        Raises:
            MmsslError: there is no such folder.
        """

    @abstractmethod
    def read(self, path: str) -> bytes:
        """The content of one file.

        Raises:
            BadInput: it is missing, damaged or too large.
        """

    def read_text(self, path: str) -> str:
        """A small text file that the configuration names.

        Raises:
            MmsslError: it is missing, damaged or not UTF-8.
        """
        try:
            return self.read(path).decode("utf-8-sig")
        except (BadInput, UnicodeDecodeError) as error:
            raise MmsslError(f"{self.root}/{path}: {error}; expected a text file") from error


class FolderFiles(Files):
    def __init__(self, root: str) -> None:
        self.root = root

    def list(self, folder: str = ".") -> list[tuple[str, int]]:
        top = Path(self.root, folder)
        if not top.is_dir():
            raise MmsslError(f"{top}: no such folder; expected the raw data here")
        found = []
        for parent, folders, names in os.walk(top, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(parent, name)
                if not name.startswith(".") and path.is_file():
                    found.append((path.relative_to(top).as_posix(), path.stat().st_size))
        return sorted(found)

    def read(self, path: str) -> bytes:
        full = Path(self.root, path)
        try:
            if full.stat().st_size >= LARGEST:
                raise BadInput(f"larger than {LARGEST >> 30} GiB")
            return full.read_bytes()
        except OSError as error:
            raise BadInput(error.strerror or str(error)) from error


class ZipFiles(Files):
    """A zip archive, or a folder inside one."""

    def __init__(self, archive: str, inside: str = "") -> None:
        self.root = f"{archive}/{inside}".rstrip("/")
        self._inside = inside
        try:
            self._zip = zipfile.ZipFile(archive)
        except (OSError, zipfile.BadZipFile) as error:
            raise MmsslError(f"{archive}: not readable as a zip archive ({error})") from error

    def _full(self, path: str) -> str:
        joined = PurePosixPath(self._inside, path).as_posix()
        return "" if joined == "." else joined

    def list(self, folder: str = ".") -> list[tuple[str, int]]:
        prefix = self._full(folder)
        prefix = f"{prefix}/" if prefix else ""
        found = [
            (info.filename[len(prefix) :], info.file_size)
            for info in self._zip.infolist()
            if info.filename.startswith(prefix) and not info.is_dir() and not _hidden(info.filename)
        ]
        if not found:
            raise MmsslError(
                f"{self.root}: no folder {folder!r} in this archive; expected the raw data there"
            )
        return sorted(found)

    def read(self, path: str) -> bytes:
        try:
            info = self._zip.getinfo(self._full(path))
            if info.file_size >= LARGEST:
                raise BadInput(f"larger than {LARGEST >> 30} GiB")
            return self._zip.read(info)
        except KeyError as error:
            raise BadInput("no such file in the archive") from error
        except (
            OSError,
            RuntimeError,
            NotImplementedError,
            EOFError,
            ValueError,
            zipfile.BadZipFile,
        ) as error:
            raise BadInput(f"damaged in the archive ({error})") from error
        except Exception as error:  # zlib.error and whatever other decompressors raise
            raise BadInput(f"does not decompress ({error})") from error


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


@lru_cache(maxsize=8)
def open_files(root: str) -> Files:
    """The files of a folder, of ``archive.zip``, or of a folder inside one: ``archive.zip/folder``.

    Raises:
        MmsslError: there is no such folder or archive.
    """
    path = Path(root).expanduser()
    if path.is_dir():
        return FolderFiles(str(path))
    for archive in (path, *path.parents):
        if archive.suffix.lower() == ".zip" and archive.is_file():
            inside = path.relative_to(archive).as_posix()
            return ZipFiles(str(archive), "" if inside == "." else inside)
    raise MmsslError(f"{root}: no such folder or zip archive; expected the raw data here")
