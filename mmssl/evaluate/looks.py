"""How an encoder is shown a sample: which crop of an image, which frames of a video, what is averaged."""

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.modalities import are_videos
from mmssl.models.artifact import AnyEncoder, VisualEncoder
from mmssl.models.clip import ClipEncoder, averaging
from mmssl.models.encoder import Encoder
from mmssl.models.text import TextEncoder
from mmssl.stream.clips.spread import Spread, SpreadClips
from mmssl.stream.views.aligned import SightView
from mmssl.stream.views.aligned_clips import SightClips
from mmssl.stream.views.base import View
from mmssl.stream.views.centre import CentreCrop
from mmssl.stream.views.clip import ClipView
from mmssl.stream.views.clip_crops import CropsView
from mmssl.stream.views.shown import Shown

UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and standard deviation that leave pixels in 0..1, for pictures."""


@dataclass(frozen=True)
class Look:
    """A view, the encoder that it is for, and the words that describe it in a protocol."""

    encoder: VisualEncoder
    view: View
    words: str
    views: int = 1
    """V, the clips of a sample times the crops of each."""

    @property
    def clip_encoder(self) -> ClipEncoder:
        """The encoder, of clips.

        Raises:
            MmsslError: an image encoder that is shown images.
        """
        if isinstance(self.encoder, Encoder):
            raise MmsslError("evaluation: shards: expected videos, found images")
        return self.encoder

    def features(self, seen: Any, device: torch.device) -> Tensor:
        """(B, dim) float32 of what the view made of B samples; the mean over a video's clips and crops."""
        if isinstance(self.encoder, Encoder):
            return self.encoder(seen.to(device).contiguous(memory_format=torch.channels_last)).float()
        return self.each(seen, device, self.encoder).mean(dim=1)

    def each(self, seen: Any, device: torch.device, read: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, V, …) float32: ``read``, which takes clips (N, T, 3, S, S), of every clip and crop by itself.

        Raises:
            MmsslError: the samples are images.
        """
        clips = seen["frames"].to(device).unflatten(1, (-1, self.clip_encoder.frames))
        return read(clips.flatten(0, 1)).float().unflatten(0, clips.shape[:2])


def look_at(
    encoder: AnyEncoder,
    fields: Set[str],
    *,
    clips: int,
    frames: int,
    crops: int = 1,
    field: str | None = None,
) -> Look:
    """An image encoder sees images, and the single frames of a video where there are no images.

    What an encoder ``sees`` besides colour images is made of the sample's other modalities.

    Args:
        fields: that samples have.
        clips: of a video, for clip encoders.
        frames: of a video, for image encoders.
        crops: those of ``CropsView``; images, and sights other than rgb, are always seen in one crop.
        field: that the encoder looks at, where it is not called like the modality.

    Raises:
        MmsslError: several crops of a sight other than rgb, or an encoder of texts.
    """
    encoder = seeing(encoder)
    sees = sees_of(encoder)
    if sees != "rgb":
        if crops != 1:
            raise MmsslError(f"evaluation: crops: {crops} of an encoder that sees {sees}; expected 1")
        return _sight(encoder, fields, clips, frames, field)
    if isinstance(encoder, Encoder) and not are_videos(fields):
        crop = CentreCrop(encoder.image_size, encoder.mean, encoder.std, field=field or "image")
        return Look(encoder, crop, f"{crop.size} px centre crop of {crop.resize} px, {crop.kernel}")
    if isinstance(encoder, Encoder):
        encoder = averaging(encoder, frames, stride=1.0).eval()  # the stride plays no part: frames are spread
        sampler: Any = Spread(frames)
        views = 1
        what = f"mean over {frames} frames, evenly spread over the video"
    else:
        sampler = SpreadClips(clips, encoder.frames, encoder.stride)
        views = clips
        many = "1 clip in the middle" if clips == 1 else f"mean over {clips} clips, evenly spread"
        rate = f"every {encoder.stride:.4g} s ({1 / encoder.stride:.4g} frames/s)"
        what = f"{many}, of {encoder.frames} frames {rate}"
    if crops == 1:
        view = ClipView(sampler, encoder.image_size, encoder.mean, encoder.std, field=field or "video")
        return Look(encoder, view, f"{what}; {encoder.image_size} px centre crop", views)
    view = CropsView(sampler, encoder.image_size, encoder.mean, encoder.std, crops=crops)
    where = "along the longer side" if crops == 3 else "(corners and centre, mirrored too)"
    return Look(encoder, view, f"{what} × {crops} crops of {encoder.image_size} px {where}", views * crops)


def _sight(encoder: VisualEncoder, fields: Set[str], clips: int, frames: int, field: str | None) -> Look:
    video = are_videos(fields)
    shown = Shown.to(encoder, video=video, field=field)
    what = f"{sees_of(encoder)} of {shown.field}, largest square in the centre, {shown.size} px"
    if not video:
        return Look(encoder, SightView(shown), what)
    if isinstance(encoder, Encoder):
        fed = averaging(encoder, frames, stride=1.0).eval()  # the stride plays no part: moments are spread
        words = f"mean over {frames} moments, evenly spread over the video; {what}"
        return Look(fed, SightClips(shown, frames), words)
    many = "1 clip in the middle" if clips == 1 else f"mean over {clips} clips, evenly spread"
    rate = f"{encoder.frames} frames every {encoder.stride:.4g} s"
    return Look(encoder, SightClips(shown, clips), f"{many}, of {rate}; {what}", clips)


def seeing(encoder: AnyEncoder) -> VisualEncoder:
    """The encoder, of images or clips.

    Raises:
        MmsslError: it is one of texts.
    """
    if isinstance(encoder, TextEncoder):
        raise MmsslError("evaluation: encoder: expected an encoder of images or clips, found one of texts")
    return encoder


def seeing_colours(encoder: AnyEncoder) -> VisualEncoder:
    """The encoder, for evaluations that show frames of colours and nothing else.

    Raises:
        MmsslError: an encoder of texts, or one that sees something else.
    """
    encoder = seeing(encoder)
    if (sees := sees_of(encoder)) != "rgb":
        raise MmsslError(f"evaluation: encoder: it sees {sees}; expected one that sees rgb")
    return encoder


def sees_of(encoder: AnyEncoder) -> str:
    """What an encoder is shown of a sample, a name of ``mmssl.sights``."""
    return str(getattr(encoder.config, "sees", "rgb"))


def pixels(size: int, fields: Set[str], frames: int = 1) -> View:
    """Pictures in 0..1 for people: the image, or ``frames`` frames, evenly spread over the video."""
    if not are_videos(fields):
        return CentreCrop(size, *UNCHANGED, resize=size)
    return ClipView(Spread(frames), size, *UNCHANGED)
