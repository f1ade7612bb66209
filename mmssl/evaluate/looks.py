"""How an encoder is shown a sample: which crop of an image, which frames of a video, what is averaged."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmssl.models.artifact import AnyEncoder
from mmssl.models.clip import averaging
from mmssl.models.encoder import Encoder
from mmssl.stream.clips.spread import Spread, SpreadClips
from mmssl.stream.views.base import View
from mmssl.stream.views.centre import CentreCrop
from mmssl.stream.views.clip import ClipView

UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and standard deviation that leave pixels in 0..1, for pictures."""


@dataclass(frozen=True)
class Look:
    """A view, the encoder that it is for, and the words that describe it in a protocol."""

    encoder: AnyEncoder
    view: View
    words: str

    def features(self, seen: Any, device: torch.device) -> Tensor:
        """(B, dim) float32 of what the view made of B samples; the mean over a video's clips."""
        if isinstance(self.encoder, Encoder):
            return self.encoder(seen.to(device).contiguous(memory_format=torch.channels_last)).float()
        frames = seen["frames"].to(device)
        clips = frames.unflatten(1, (-1, self.encoder.frames))
        return self.encoder(clips.flatten(0, 1)).float().unflatten(0, clips.shape[:2]).mean(dim=1)


def look_at(encoder: AnyEncoder, fields: Set[str], *, clips: int, frames: int) -> Look:
    """An image encoder sees images, and the single frames of a video where there are no images."""
    if isinstance(encoder, Encoder) and ("image" in fields or "video" not in fields):
        crop = CentreCrop(encoder.image_size, encoder.mean, encoder.std)
        return Look(encoder, crop, f"{crop.size} px centre crop of {crop.resize} px, {crop.kernel}")
    if isinstance(encoder, Encoder):
        encoder = averaging(encoder, frames, stride=1.0).eval()  # the stride plays no part: frames are spread
        sampler: Any = Spread(frames)
        what = f"mean over {frames} frames, evenly spread over the video"
    else:
        sampler = SpreadClips(clips, encoder.frames, encoder.stride)
        many = "1 clip in the middle" if clips == 1 else f"mean over {clips} clips, evenly spread"
        what = f"{many}, of {encoder.frames} frames every {encoder.stride:g} s"
    view = ClipView(sampler, encoder.image_size, encoder.mean, encoder.std)
    return Look(encoder, view, f"{what}; {encoder.image_size} px centre crop")


def pixels(size: int, fields: Set[str]) -> View:
    """Pictures in 0..1 for people: the image, or the frame in the middle of the video."""
    if "image" in fields or "video" not in fields:
        return CentreCrop(size, *UNCHANGED, resize=size)
    return ClipView(Spread(1), size, *UNCHANGED)
