"""An exported folder: whole or absent, replacing an earlier export and nothing else."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmssl.errors import MmsslError

CARD = "README.md"


@contextmanager
def new_folder(folder: Path, names: frozenset[str]) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``folder`` when the block ends well.

    Args:
        names: files that an export of this format may hold; a folder with a card and no others is replaced.

    Raises:
        MmsslError: ``folder`` holds something else, or could not be written.
    """
    if folder.exists() and not _is_export(folder, names):
        raise MmsslError(f"{folder}: already exists and is not an exported encoder; expected a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        new.chmod(0o755)
        yield new
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)
    except OSError as error:
        raise MmsslError(f"{folder}: could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def told(provenance: Mapping[str, Any]) -> str:
    """Provenance as a card shows it."""
    return json.dumps(provenance, indent=2, sort_keys=True, ensure_ascii=False)


def _is_export(folder: Path, names: frozenset[str]) -> bool:
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {"a file"}
    return not found or (CARD in found and found <= names)
