"""What estimates optical flow between two frames, and what checks it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from threading import Lock
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.shards.bad_input import BadInput
from mmssl.shards.flow.options import FlowOptions

Pixels = NDArray[np.uint8]
Flow = NDArray[np.float32]
"""(H, W, 2) pixels, x right and y down: what lies at p in the first frame lies at p + flow(p) in the next."""

SMALLEST = 16
"""Pixels a side that every estimator takes; DIS needs patches of 8 at its finest scale."""


class Estimator(ABC):
    """``between(prepare(a), prepare(b))``: what is needed of a frame is made once for all its pairs."""

    def prepare(self, rgb: Pixels) -> Any:
        """What ``between`` takes of a frame (H, W, 3) uint8: by default its luma (H, W) uint8."""
        return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)

    @abstractmethod
    def between(self, before: Any, after: Any) -> Flow:
        """Flow from the first prepared frame to the second."""


class Dis(Estimator):
    """Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, by OpenCV."""

    _PRESETS: ClassVar = {
        "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
        "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
        "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    }

    def __init__(self, preset: str) -> None:
        self._dis = cv2.DISOpticalFlow.create(self._PRESETS[preset])

    def between(self, before: Pixels, after: Pixels) -> Flow:
        with _one_thread:
            return np.asarray(
                self._dis.calc(before, after, np.zeros((*before.shape, 2), np.float32)), np.float32
            )


class Farneback(Estimator):
    """Farnebäck, "Two-Frame Motion Estimation Based on Polynomial Expansion", SCIA 2003, by OpenCV, with the
    parameters of its documentation."""

    def between(self, before: Pixels, after: Pixels) -> Flow:
        start = np.zeros((*before.shape, 2), np.float32)
        with _one_thread:
            flow = cv2.calcOpticalFlowFarneback(
                before, after, start, pyr_scale=0.5, levels=5, winsize=15, iterations=3, poly_n=5,
                poly_sigma=1.2, flags=0,
            )  # fmt: skip
        return np.asarray(flow, np.float32)


class _OneThread:
    """OpenCV works on one thread while anyone is inside, of however many threads of ours.

    Builds run in as many processes as there are cores, and the stripes that OpenCV cuts for several threads
    change what DIS finds. Its number of threads is one for the whole process, so whoever leaves last puts it
    back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._usual = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._usual = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.setNumThreads(self._usual)


_one_thread = _OneThread()


def make_estimator(options: FlowOptions) -> Estimator:
    """The one that the options name.

    Raises:
        MmsslError: weights are missing, or are not of this network.
    """
    if options.estimator == "raft":
        from mmssl.shards.flow.raft import Raft  # brings torch, which building needs for nothing else

        return Raft(options.chosen or "small", options.weights or "")
    return Farneback() if options.estimator == "farneback" else Dis(options.chosen or "medium")


def fit(rgb: Pixels, options: FlowOptions) -> Pixels:
    """The frame at the size at which flow is computed and stored."""
    height, width = rgb.shape[:2]
    scale = min(1.0, (options.short_side or min(height, width)) / min(height, width))
    size = max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale))
    if size == (width, height):
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


class Fields:
    """Flow there, and back where the options ask for it, between prepared frames; checked."""

    def __init__(self, options: FlowOptions) -> None:
        self._options = options
        self._estimator = make_estimator(options)

    def prepare(self, rgb: Pixels) -> Any:
        """Of a frame (H, W, 3) uint8 as it is stored; may be used in any number of pairs."""
        return self._estimator.prepare(fit(rgb, self._options))

    def between(self, before: Any, after: Any) -> tuple[Flow, Flow | None]:
        """Flow of prepared frames from the first to the second, and back; NaN where it is unknown.

        Raises:
            BadInput: the estimate is not finite, or the estimator fails.
        """
        try:
            there = self._estimator.between(before, after)
            back = None
            if self._options.backward or self._options.consistency:
                back = self._estimator.between(after, before)
        except cv2.error as error:
            raise BadInput(f"{self._options.estimator}: {error.err}") from error
        for flow in (there, back):
            if flow is not None and not np.isfinite(flow).all():
                raise BadInput(f"flow of {self._options.estimator} is not finite")
        if self._options.consistency and back is not None:
            wrong = ~consistent(there, back), ~consistent(back, there)
            there[wrong[0]], back[wrong[1]] = np.nan, np.nan
        return there, back if self._options.backward else None


def consistent(there: Flow, back: Flow) -> NDArray[np.bool_]:
    """(H, W) whether flow w at p and flow w' at p + w bring p home: |w + w'|² < 0.01 (|w|² + |w'|²) + 0.5.

    The criterion is that of Sundaram, Brox and Keutzer, ECCV 2010 (section 4), and of UnFlow (Meister, Hur
    and Roth, AAAI 2018). What leaves the image cannot be checked, and is not consistent.
    """
    height, width = there.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float32)
    x, y = columns + there[..., 0], rows + there[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    found = cv2.remap(back, x, y, cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE)
    error = np.square(there + found).sum(axis=2)
    return inside & (error < 0.01 * (np.square(there).sum(axis=2) + np.square(found).sum(axis=2)) + 0.5)


def estimate_flow(options: FlowOptions) -> Callable[[Pixels, Pixels], Flow]:
    """A function of two frames (H, W, 3) uint8 sRGB of one size that gives flow from the first to the second.

    It is (h, w, 2) float32 in pixels of its own size: that of the frames, or with the options' short side.
    NaN where the options ask for consistency and it fails. Flow that is not finite raises BadInput.

    Raises:
        MmsslError: weights are missing, or are not of this network.
    """
    fields = Fields(options)

    def between(before: Pixels, after: Pixels) -> Flow:
        return fields.between(fields.prepare(before), fields.prepare(after))[0]

    return between
