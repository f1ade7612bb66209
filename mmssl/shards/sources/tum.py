"""The TUM RGB-D layout (Sturm et al., IROS 2012): lists of timestamps that are matched to each other."""

from collections.abc import Container

import numpy as np

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import BadInput
from mmssl.shards.sources.files import Files
from mmssl.shards.sources.frames import Folders, Frame
from mmssl.shards.sources.sequences import numbers

CAMERA_FILES = ("camera-intrinsics.txt", "intrinsics.txt", "intrinsics.K.txt")
"""Names under which a 3×3 matrix lies beside the frames."""


def read_sequence(tree: Files, folder: str, folders: Folders, max_gap: float) -> list[Frame]:
    """Images with the depth maps (and poses, where groundtruth.txt is there) nearest in time, by time.

    An image without a depth map within ``max_gap`` seconds is a frame with a problem.

    Raises:
        MmsslError: a list is missing or does not parse, or nothing matches.
    """
    colour = sorted(_list(tree, f"{folder}/rgb.txt"))
    depth = _list(tree, f"{folder}/depth.txt")
    trajectory = _trajectory(tree, folder) if "groundtruth.txt" in folders[folder] else np.zeros((0, 8))
    times = [time for time, _ in depth]
    matches = dict(associate([time for time, _ in colour], times, max_gap))
    if not matches:
        raise MmsslError(
            f"{tree.root}/{folder}: no image and depth map within {max_gap} seconds of each other"
        )
    frames = []
    for i, (time, path) in enumerate(colour):
        problem = None
        if i not in matches:
            problem = unmatched(time, times, max_gap)
        frames.append(
            Frame(
                sequence=folder,
                name=f"{time:.6f}",
                timestamp=time,
                image=_existing(folder, path, folders),
                depth=None if problem else _existing(folder, depth[matches[i]][1], folders),
                pose=_pose_at(trajectory, time, max_gap),
                camera_file=camera_file(folder, folders[folder]),
                problem=problem,
            )
        )
    return frames


def camera_file(folder: str, files: Container[str]) -> str | None:
    """The file with the intrinsics of a folder of frames."""
    return next((f"{folder}/{name}" for name in CAMERA_FILES if name in files), None)


def unmatched(time: float, others: list[float], max_gap: float) -> str:
    """What is told of an image at ``time`` that no depth map at any of ``others`` belongs to."""
    nearest = min(abs(time - other) for other in others)
    return f"no depth map of its own within max_gap {max_gap} s; the nearest is {nearest:.4f} s away"


def associate(first: list[float], second: list[float], max_gap: float) -> list[tuple[int, int]]:
    """Pairs of indices, each used once, closest pairs first; sorted by the first index."""
    pairs = []
    order = np.argsort(second, kind="stable")
    times = np.asarray(second, np.float64)[order]
    for i, time in enumerate(first):
        low, high = np.searchsorted(times, [time - max_gap, time + max_gap])
        pairs += [(abs(time - times[at]), i, int(order[at])) for at in range(low, high)]
    used_first: set[int] = set()
    used_second: set[int] = set()
    matches = []
    for _, i, j in sorted(pairs):
        if i not in used_first and j not in used_second:
            used_first.add(i)
            used_second.add(j)
            matches.append((i, j))
    return sorted(matches)


def _list(tree: Files, path: str) -> list[tuple[float, str]]:
    """Lines of a timestamp and a path."""
    rows = []
    for number, line in enumerate(tree.read_text(path).splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            time, name = words
            rows.append((float(time), name))
        except ValueError as error:
            raise MmsslError(
                f"{tree.root}/{path}: line {number}: {line!r}; expected a timestamp and a path"
            ) from error
    return rows


def _existing(folder: str, path: str, folders: Folders) -> str:
    """The listed file, or its only namesake with another extension (lists say .png where copies are .jpg).

    A file that does not exist at all is found out when it is loaded, and counts as an unreadable input.
    """
    parent, _, name = f"{folder}/{path}".removeprefix("./").rpartition("/")
    files = folders.get(parent or ".", {})
    if name not in files:
        stem = name.rpartition(".")[0]
        namesakes = [file for file in files if file.rpartition(".")[0] == stem]
        name = namesakes[0] if len(namesakes) == 1 else name
    return f"{parent}/{name}" if parent else name


def _trajectory(tree: Files, folder: str) -> np.ndarray:
    """(n, 8): timestamp, position in metres, quaternion x, y, z, w; sorted by time."""
    path = f"{folder}/groundtruth.txt"
    try:
        rows = numbers(tree.read_text(path), path)
    except BadInput as error:
        raise MmsslError(f"{tree.root}/{error}") from error
    if any(len(row) != 8 for row in rows):
        raise MmsslError(f"{tree.root}/{path}: expected lines of timestamp tx ty tz qx qy qz qw")
    table = np.asarray(rows, np.float64).reshape(-1, 8)
    return table[np.argsort(table[:, 0], kind="stable")]


def _pose_at(trajectory: np.ndarray, time: float, max_gap: float) -> list[list[float]] | None:
    """The pose nearest in time as a 4×4 matrix, or None where none is near."""
    if not len(trajectory):
        return None
    row = trajectory[np.argmin(np.abs(trajectory[:, 0] - time))]
    if abs(row[0] - time) > max_gap:
        return None
    x, y, z, w = row[4:] / np.linalg.norm(row[4:])
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), float(row[1])],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), float(row[2])],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), float(row[3])],
        [0.0, 0.0, 0.0, 1.0],
    ]
