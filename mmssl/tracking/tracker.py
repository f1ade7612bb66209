"""The online tracker of DCFNet (Wang et al., 2017) and UDT (Wang et al., CVPR 2019), many targets at once.

In every frame the filter looks at a few scales of a window around the target's last place, the highest
response says where it is and how large, and the filter learns a little of what lies there now.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.models.correlation_filter import Band, peaks
from mmssl.models.feature_map import FeatureMap
from mmssl.stream.views.photometric import normalise
from mmssl.tracking.boxes import Boxes, around, centres, inside
from mmssl.tracking.crops import cut_out


class TrackerConfig(Config):
    """How a target is followed. The defaults are DCFNet's and those of UDT's PyTorch version."""

    padding: NonNegativeFloat = 2.0
    """A search window is 1 + ``padding`` times as wide and as high as its target."""
    crop: PositiveInt | None = None
    """Side in pixels to which search windows are brought; None is the encoder's ``image_size``."""
    scales: PositiveInt = 3
    """How many sizes of the target are tried: ``scale_step`` to the powers … −1, 0, 1 …; odd."""
    scale_step: float = Field(default=1.0275, gt=1)
    """Between neighbouring sizes."""
    scale_penalty: PositiveFloat = 0.9925
    """The response of every size but the present one counts this often. Above 1 it is no penalty: it favours
    change, as in UDT's original code (1.2)."""
    rate: float = Field(default=0.01, ge=0, le=1)
    """Of learning: filter = (1 − rate) · filter + rate · filter of this frame."""
    lam: PositiveFloat = 1e-4
    """λ of the ridge regression."""
    sigma: PositiveFloat = 0.1
    """Width of the label: this share of the target's size in the crop."""
    smallest: float = Field(default=0.2, gt=0, le=1)
    """A target shrinks to this share of its first size at most, and to no less than 4 pixels."""
    largest: float = Field(default=5.0, ge=1)
    """A target grows to this many times its first size at most, and to no more than its first frame."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the features; the filter is always single precision."""

    @model_validator(mode="after")
    def _odd(self) -> "TrackerConfig":
        if self.scales % 2 == 0:
            raise ValueError(f"{self.scales} scales; expected an odd number: the present size is one of them")
        return self


PRESETS: dict[str, TrackerConfig] = {
    "dcfnet": TrackerConfig(),
    "udt": TrackerConfig(padding=1.8, scale_step=1.015, scale_penalty=1.2),
}
"""Settings by the name of the code they come from."""

LEAST = 4.0
"""Pixels; a target that is smaller to begin with may stay as small."""


class Trackers:
    """B targets, each in its own sequence, advance together, one frame a call.

    What is found does not depend on who else is in the batch.

    Args:
        features: what the trackers look through; put into evaluation mode.

    Raises:
        MmsslError: a feature map of fewer than 3 cells a side, which says nothing of where something is; an
            encoder that does not take crops of this size.
    """

    def __init__(self, features: FeatureMap, config: TrackerConfig) -> None:
        self.features = features.eval()
        self.config = config
        self.device = next(features.parameters()).device
        self.crop = config.crop or features.encoder.image_size
        try:
            probe = self._look(torch.zeros(1, 3, self.crop, self.crop, dtype=torch.uint8))
        except (AssertionError, RuntimeError, ValueError) as error:  # transformers are built for one size
            name = features.encoder.config.name
            raise MmsslError(f"tracker.crop: {name} takes no crops of {self.crop} pixels: {error}") from error
        *_, height, width = probe.shape
        if min(height, width) < 3:
            raise MmsslError(
                f"tracker: crops of {self.crop} pixels give maps of {height}x{width} cells; expected 3x3 "
                "at least, of larger crops or an earlier stage"
            )
        self.cells = np.array([width, height], dtype=np.float64)
        """Width and height of a feature map."""
        self._band = Band((height, width), self._sigma(), hann=True).to(self.device)
        exponents = np.arange(config.scales) - config.scales // 2
        self._factors = config.scale_step**exponents
        self._weights = np.where(exponents == 0, 1.0, config.scale_penalty)
        self._forget()

    def _sigma(self) -> float:
        """Of the label, in cells."""
        return self.config.sigma * float(np.sqrt(self.cells.prod())) / (1 + self.config.padding)

    def _forget(self) -> None:
        self.centre, self.size = np.empty((0, 2)), np.empty((0, 2))
        self._limits = np.empty((2, 0, 2))
        self._alpha = torch.empty(0, *self._band.label.shape, device=self.device)
        self._x = torch.empty(0, *self._band.label.shape, 0, device=self.device)

    def __len__(self) -> int:
        """B, how many targets are being followed."""
        return len(self.centre)

    @property
    def boxes(self) -> Boxes:
        """(B, 4) where the targets were last."""
        return around(self.centre, self.size)

    def init(self, frames: Sequence[Tensor], boxes: Boxes) -> None:
        """Start with these targets and no others. As ``add``."""
        self._forget()
        self.add(frames, boxes)

    @torch.inference_mode()
    def add(self, frames: Sequence[Tensor], boxes: Boxes) -> None:
        """More targets join: ``boxes`` (n, 4) in n ``frames`` (3, H, W) uint8, of any sizes.

        Raises:
            MmsslError: a box that has no area, is not finite or lies outside its frame, or no such frame.
        """
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        for frame, box in zip(frames, boxes, strict=True):
            check_start(frame, box)
        if not len(boxes):
            return
        centre, size = centres(boxes), boxes[:, 2:]
        frame_sizes = np.array([[frame.shape[2], frame.shape[1]] for frame in frames], dtype=np.float64)
        high = np.minimum(self.config.largest * size, frame_sizes)
        low = np.minimum(np.minimum(size, np.maximum(self.config.smallest * size, LEAST)), high)
        alpha, x = self._learned(frames, centre, size)
        self._alpha = torch.cat([self._alpha, alpha])
        self._x = torch.cat([self._x, x]) if len(self) else x
        self.centre, self.size = np.concatenate([self.centre, centre]), np.concatenate([self.size, size])
        self._limits = np.concatenate([self._limits, np.stack([low, high])], axis=1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with the targets ``rows`` only, in that order."""
        chosen = np.asarray(rows, dtype=np.int64)
        self.centre, self.size, self._limits = self.centre[chosen], self.size[chosen], self._limits[:, chosen]
        index = torch.from_numpy(chosen).to(self.device)
        self._alpha, self._x = self._alpha[index], self._x[index]

    @torch.inference_mode()
    def update(self, frames: Sequence[Tensor]) -> tuple[Boxes, NDArray[np.float64]]:
        """The next frame of each target: where they are now, (B, 4), and the responses there, (B,).

        A response is 1 where what is seen is exactly what was learned, near 0 where nothing is like it, and
        above 1 where it is the same with more contrast.

        Raises:
            MmsslError: not one frame (3, H, W) uint8 for each target, or features that are not finite.
        """
        if len(frames) != len(self):
            raise MmsslError(f"tracker: {len(frames)} frames for {len(self)} targets; expected one for each")
        for frame in frames:
            _check_frame(frame)
        if not len(self):
            return np.empty((0, 4)), np.empty(0)
        sizes = self.size[:, None] * self._factors[:, None]  # (B, scales, 2)
        z = self._spectra(frames, self.centre[:, None], sizes)  # (B, scales, 2, R, K, C)
        response = self._band.answer(self._alpha[:, None], self._x[:, None], z)  # (B, scales, h, w)
        heights = response.amax(dim=(2, 3)).cpu().double().numpy()
        if not np.isfinite(heights).all():
            raise MmsslError("tracker: the encoder's features are not finite; expected trained weights")
        every, best = np.arange(len(self)), (heights * self._weights).argmax(axis=1)
        moved = peaks(response[every, best]).cpu().numpy()[:, ::-1]  # right, down
        size = sizes[every, best]
        self.centre = self.centre + moved * self._window(size) / self.cells
        self.size = np.clip(size, *self._limits)
        alpha, x = self._learned(frames, self.centre, self.size)
        self._alpha.lerp_(alpha, self.config.rate)
        self._x.lerp_(x, self.config.rate)
        return self.boxes, heights[every, best]

    def _learned(
        self, frames: Sequence[Tensor], centre: NDArray[np.float64], size: NDArray[np.float64]
    ) -> tuple[Tensor, Tensor]:
        """α̂ (B, 2, R, K) and x̂ (B, 2, R, K, C) of the targets where they are."""
        x = self._spectra(frames, centre[:, None], size[:, None])[:, 0]
        return self._band.fit(x, self._band.label, self.config.lam), x

    def _window(self, size: NDArray[np.float64]) -> NDArray[np.float64]:
        return size * (1 + self.config.padding)

    def _spectra(
        self, frames: Sequence[Tensor], centre: NDArray[np.float64], size: NDArray[np.float64]
    ) -> Tensor:
        """(B, n, 2, R, K, C) of the windows around targets of ``size`` (B, n, 2) in B frames."""
        windows = around(np.broadcast_to(centre, size.shape), self._window(size))
        crops = cut_out(frames, windows, self.crop)
        # A crop at a time stays in a processor's cache, which halves the time; accelerators want them all.
        parts = crops.split(1 if self.device.type == "cpu" else max(len(crops), 1))
        spectra = [self._band.spectrum(self._look(part)) for part in parts]
        return torch.cat(spectra).unflatten(0, size.shape[:2])

    @torch.inference_mode()
    def _look(self, crops: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 → (B, C, h, w), channels last wherever the encoder keeps that."""
        encoder = self.features.encoder
        x = normalise(crops.to(self.device, non_blocking=True), encoder.mean, encoder.std)
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.features(x)


class Tracker:
    """One target in one sequence."""

    def __init__(self, features: FeatureMap, config: TrackerConfig) -> None:
        self._trackers = Trackers(features, config)

    def init(self, frame: Tensor, box: Boxes) -> None:
        """Start with the target in ``box`` (4,) of ``frame`` (3, H, W) uint8. Raises as ``Trackers.add``."""
        self._trackers.init([frame], np.asarray(box)[None])

    def update(self, frame: Tensor) -> tuple[Boxes, float]:
        """The next frame: where the target is now, (4,), and the response there. Raises as ``Trackers``."""
        boxes, scores = self._trackers.update([frame])
        return boxes[0], float(scores[0])


def check_start(frame: Tensor, box: Boxes) -> None:
    """Refuse what no tracker can start from.

    Raises:
        MmsslError: says what is wrong with the frame or the box.
    """
    _check_frame(frame)
    words = "box " + ",".join(f"{number:g}" for number in box)
    height, width = frame.shape[1:]
    if not np.isfinite(box).all():
        raise MmsslError(f"{words}: expected four finite numbers: left, top, width, height")
    if min(box[2:]) <= 0:
        raise MmsslError(f"{words}: expected a width and a height above 0")
    if min(inside(box, width, height)[2:]) <= 0:
        raise MmsslError(f"{words}: lies outside the frame of {width}x{height} pixels")


def _check_frame(frame: Tensor) -> None:
    if frame.ndim != 3 or frame.shape[0] != 3 or frame.dtype != torch.uint8 or not frame.numel():
        raise MmsslError(
            f"frame of shape {tuple(frame.shape)} and type {frame.dtype}; expected (3, height, width), uint8"
        )
