"""Files of benchmarks: lists, index images, and messages that say which one is not what it should be."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mmssl.errors import MmsslError
from mmssl.files import write_bytes


def images(folder: Path, *suffixes: str) -> list[Path]:
    """Files with these endings (``.jpg``), by number where their names are numbers, else by name.

    Raises:
        MmsslError: no such folder, or none in it.
    """
    if not folder.is_dir():
        raise MmsslError(f"{folder}: no such folder; expected images {' or '.join(suffixes)}")
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes]
    if not found:
        raise MmsslError(f"{folder}: expected images {' or '.join(suffixes)}, found none")
    return sorted(found, key=lambda path: (int(path.stem) if path.stem.isdigit() else 0, path.stem))


def read_index(path: Path) -> NDArray[np.uint8]:
    """(H, W) uint8 of a grey or palette PNG.

    Raises:
        MmsslError: missing, damaged, or an image of colours.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                raise MmsslError(
                    f"{path}: mode {image.mode}; expected an 8-bit grey or palette image of labels"
                )
            return np.array(image.convert("L") if image.mode == "1" else image)
    except FileNotFoundError as error:
        raise MmsslError(f"{path}: no such file; expected an index image of labels") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MmsslError(f"{path}: not readable as an image: {error}") from error


def read_masks(folder: Path, frames: Sequence[Path]) -> NDArray[np.uint8]:
    """(T, H, W) uint8: the index image of each frame, which has the frame's name.

    Raises:
        MmsslError: one is missing, damaged, or of another size than the first.
    """
    paths = [folder / f"{frame.stem}.png" for frame in frames]
    masks = [read_index(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if mask.shape != masks[0].shape:
            found, wanted = (f"{w}x{h}" for h, w in (mask.shape, masks[0].shape))
            raise MmsslError(f"{path}: {found} pixels; expected {wanted} as in the first")
    return np.stack(masks)


def write_index(path: Path, labels: NDArray[np.uint8]) -> None:
    """A palette PNG of (H, W) labels in DAVIS's colours, as its own tools read it."""
    image = Image.fromarray(labels)
    image.putpalette(palette().tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def palette() -> NDArray[np.uint8]:
    """(256, 3) colours of PASCAL VOC, and so of DAVIS: bit 7 − i of channel c is a label's bit 3 i + c."""
    i, channel = np.arange(3)[:, None], np.arange(3)
    bits = (np.arange(256)[:, None, None] >> (3 * i + channel)) & 1
    return (bits << (7 - i)).sum(axis=1).astype(np.uint8)


def chosen(listed: Sequence[str], wanted: Sequence[str], where: Path) -> list[str]:
    """``wanted`` in the order of ``listed``; all of them where nothing is wanted.

    Raises:
        MmsslError: one that is not listed.
    """
    for name in wanted:
        if name not in listed:
            raise MmsslError(
                f"{where}: sequences: there is no {name!r}; expected among {', '.join(listed[:8])} …"
            )
    return [name for name in listed if not wanted or name in wanted]
