"""Benchmarks of a few tiny frames in their official layouts, irregularities included."""

import io

import numpy as np
from PIL import Image


def picture(suffix="jpg"):
    """An encoded frame of 8 × 6 pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), 90, np.uint8)).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix))
    return buffer.getvalue()


JPEG = picture()


def frames(folder, numbers, digits=4, suffix="jpg"):
    """Frames with these numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    data = JPEG if suffix == "jpg" else picture(suffix)
    for number in numbers:
        (folder / f"{number:0{digits}d}.{suffix}").write_bytes(data)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def numbered_boxes(count, first=1):
    """(count, 4): box t is (10 + t, 20 + t, 30, 40) for t = first …: a row says which line it came from."""
    t = np.arange(first, first + count)
    return np.stack([10 + t, 20 + t, np.full(count, 30), np.full(count, 40)], axis=1).astype(float)


def lines(rows, separator=","):
    return "".join(separator.join(f"{value:g}" for value in row) + "\n" for row in rows)


def otb(root, name, numbers, boxes, truth="groundtruth_rect.txt", separator=",", **frame):
    frames(root / name / "img", numbers, **frame)
    text(root / name / truth, lines(boxes, separator))
