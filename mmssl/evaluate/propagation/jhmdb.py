"""JHMDB: 15 joints of a person carried through the video, PCK.

Jhuang et al., "Towards Understanding Action Recognition" (ICCV 2013); as a test of correspondence since Wang
et al., "Learning Correspondence from the Cycle-Consistency of Time" (CVPR 2019).
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from scipy.io import loadmat
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.propagation.files import chosen, images
from mmssl.evaluate.propagation.maps import Size
from mmssl.evaluate.propagation.propagate import Rule
from mmssl.evaluate.propagation.task import Answers, DataConfig, Task, Value, Video
from mmssl.evaluate.tracking.text import read_names
from mmssl.stream.decode import decode_image
from mmssl.tracking.frames import ImageFiles

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

JOINTS = 15
SIGMA = 0.5
"""Width in cells of the Gaussian that a joint is in the first frame's maps; it ends at 3 sigma."""
BEST = 3
"""Cells whose mean, weighted by their values, is where a joint has gone."""
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
DIAGONAL = 0.6
"""Of the diagonal of the box around the visible joints: the length that errors are measured in."""


class JhmdbConfig(DataConfig):
    """``Rename_Images/ACTION/VIDEO/00001.png``, ``joint_positions/ACTION/VIDEO/joint_positions.mat`` and
    ``splits/ACTION_test_splitN.txt`` under ``root``."""

    kind: Literal["jhmdb"] = "jhmdb"
    root: str
    split: Literal[1, 2, 3] = 1
    """Videos that the official split's lists call test (``VIDEO.avi 2``)."""
    sequences: tuple[str, ...] = ()
    """Some of them as ``ACTION/VIDEO``; empty = all."""
    side: PositiveInt | None = 320
    square: ClassVar[bool] = True

    def task(self, subject: "Subject") -> "Jhmdb":
        return Jhmdb(self)


class Jhmdb(Task):
    """PCK under both conventions of what a visible joint is."""

    name = "jhmdb"

    def __init__(self, config: JhmdbConfig) -> None:
        self.root = Path(config.root)
        lists = sorted((self.root / "splits").glob(f"*_test_split{config.split}.txt"))
        if not lists:
            raise MmsslError(
                f"{self.root / 'splits'}: expected ACTION_test_split{config.split}.txt, found none"
            )
        listed = [name for path in lists for name in _tested(path, config.split)]
        self.sequences = chosen(listed, config.sequences, self.root)
        self.about = (
            f"JHMDB split {config.split}, {len(self.sequences)} videos; joint = mean of its {BEST} best "
            f"cells; hit: error ≤ t · {DIAGONAL} · diagonal of the box around the true places of the visible "
            "joints; first frames left out; share over all videos and frames for each of 15 joints, then "
            "their mean, or pooled; visible by prediction: not lost (the common evaluation); by truth: "
            "inside the frame now and in the first frame, a lost one is a miss"
        )

    def __iter__(self) -> Iterator[Video]:
        for name in self.sequences:
            frames = images(self.root / "Rename_Images" / name, ".png", ".jpg")
            path = self.root / "joint_positions" / name / "joint_positions.mat"
            joints = read_joints(path)
            if len(joints) > len(frames):
                raise MmsslError(f"{path}: pos_img: {len(joints)} frames; the video has {len(frames)}")
            shown = ImageFiles(frames[: len(joints)], name)
            height, width = decode_image(frames[0].read_bytes()).shape[1:]
            yield Video(name, shown, (height, width), joints, JOINTS + 1)

    def maps(self, answer: NDArray[Any], video: Video, grid: Size, rule: Rule) -> Tensor:
        """Background where no joint is; joints outside the frame are nowhere."""
        y, x = (np.arange(n) for n in grid)
        at = (answer + 0.5) / video.size[::-1] * grid[::-1] - 0.5
        squares = (x - at[:, 0, None])[:, None] ** 2 + ((y - at[:, 1, None]) ** 2)[:, :, None]
        near = (squares <= (3 * SIGMA) ** 2) & inside(answer, video.size)[:, None, None]
        joints = np.where(near, np.exp(-np.nan_to_num(squares) / (2 * SIGMA**2)), 0)
        background = joints.sum(axis=0, keepdims=True) == 0
        return torch.from_numpy(np.concatenate([background, joints]).astype(np.float32))

    def answer(self, maps: Tensor, video: Video, size: Size, rule: Rule) -> NDArray[Any]:
        """(15, 2) float64; NaN where a joint's map is zero throughout."""
        width = maps.shape[2]
        best, index = maps[1:].flatten(1).double().cpu().topk(min(BEST, maps[0].numel()), dim=1)
        weight = best / best.sum(1, keepdim=True)  # 0 / 0 where lost
        cells = torch.stack([index % width, index // width], dim=-1)
        at = (weight[:, :, None] * cells).sum(1).numpy()
        grid = np.array([width, maps.shape[1]])
        return (at + 0.5) / grid * video.size[::-1] - 0.5

    def judge(self, answers: Answers, video: Video) -> dict[str, Any]:
        """Convention → joint → [joints that count, hits at each threshold]."""
        found, truth = answers[1:], video.truth[1:]
        kept = ~np.isnan(found).any(axis=-1)
        seen = inside(video.truth, video.size)
        visible = {"prediction": kept, "truth": seen[1:] & seen[0]}
        return {by: hits(found, truth, counted).tolist() for by, counted in visible.items()}

    def combine(self, judged: Mapping[str, dict[str, Any]]) -> list[Value]:
        values = []
        for by in ("prediction", "truth"):
            counts = np.sum([video[by] for video in judged.values()], axis=0)
            with np.errstate(invalid="ignore"):
                each = 100 * counts[:, 1:] / counts[:, :1]
                pooled = 100 * counts[:, 1:].sum(0) / counts[:, 0].sum()
            known = each[counts[:, 0] > 0]
            means = known.mean(axis=0) if len(known) else np.full(len(THRESHOLDS), np.nan)
            for at, threshold in enumerate(THRESHOLDS):
                first = by == "prediction" and at == 0
                values.append(Value(f"PCK@{threshold} (visible by {by})", float(means[at]), headline=first))
                values.append(Value(f"PCK@{threshold} pooled (visible by {by})", float(pooled[at])))
        return values


def hits(found: Answers, truth: Answers, visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(J, 1 + thresholds): how many joints are visible, and how many of them are hit at each threshold.

    Args:
        found, truth: (T, J, 2) pixels; ``found`` is NaN where a joint is lost.
        visible: (T, J); the box of a frame is around the true places of its visible joints.
    """
    low = np.where(visible[..., None], truth, np.inf).min(axis=1)
    high = np.where(visible[..., None], truth, -np.inf).max(axis=1)
    box = np.nan_to_num(high - low, neginf=0)  # of no visible joint: −∞
    length = DIAGONAL * np.linalg.norm(box, axis=-1)
    error = np.nan_to_num(np.linalg.norm(found - truth, axis=-1), nan=np.inf)
    hit = visible & (error <= np.multiply.outer(THRESHOLDS, length)[:, :, None])
    return np.concatenate([visible.sum(0)[None], hit.sum(1)]).T


def inside(joints: Answers, size: Size) -> NDArray[np.bool_]:
    """(..., J): whether joints (..., J, 2) lie in a frame of height and width ``size``; NaN does not."""
    within = (joints >= -0.5) & (joints < np.array(size[::-1]) - 0.5)
    return np.asarray(within.all(axis=-1))


def read_joints(path: Path) -> Answers:
    """(T, 15, 2) float64 x, y in pixels from 0, from the file's ``pos_img`` (2, 15, T), which counts from 1.

    Raises:
        MmsslError: missing, not a MATLAB file, or without such an array.
    """
    try:
        found = loadmat(io.BytesIO(path.read_bytes()), variable_names=["pos_img"]).get("pos_img")
    except FileNotFoundError as error:
        raise MmsslError(f"{path}: no such file; expected joint positions") from error
    except Exception as error:  # scipy's reader raises whatever it trips over
        raise MmsslError(f"{path}: not readable as a MATLAB file: {error}") from error
    if found is None or found.ndim not in (2, 3) or found.shape[:2] != (2, JOINTS):
        shape = None if found is None else found.shape
        raise MmsslError(f"{path}: pos_img: expected an array of shape (2, {JOINTS}, frames), found {shape}")
    return found.reshape(2, JOINTS, -1).transpose(2, 1, 0).astype(np.float64) - 1


def _tested(path: Path, split: int) -> list[str]:
    """``ACTION/VIDEO`` of a list's lines that end in 2.

    Raises:
        MmsslError: a line is not ``VIDEO.avi`` and 0, 1 or 2.
    """
    action = path.name.removesuffix(f"_test_split{split}.txt")
    found = []
    for number, line in enumerate(read_names(path, "a list, one entry a line"), 1):
        video, _, part = line.rpartition(" ")
        if part not in ("0", "1", "2") or not video.strip():
            raise MmsslError(f"{path}: line {number}: expected 'VIDEO.avi 2', found {line!r}")
        if part == "2":
            found.append(f"{action}/{Path(video.strip()).stem}")
    return found
