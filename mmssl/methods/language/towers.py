"""What the methods over images and their captions share: two towers and one space for both."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmssl.losses.clip import Alignment
from mmssl.methods.base import Answers, DataInfo, Loss, Method, MethodConfig
from mmssl.methods.language.start import start_from
from mmssl.methods.multiview.views import TowerConfig
from mmssl.modalities import modality_of
from mmssl.models.artifact import AnyEncoder, build_any
from mmssl.models.clip import ClipEncoder
from mmssl.models.encoder import Encoder, EncoderConfig, StartConfig
from mmssl.models.layers import freeze, rest_frozen
from mmssl.models.text import ClipTextConfig, TextConfig, TextEncoder, build_text_encoder
from mmssl.stream.batch import Batch
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.views.base import View
from mmssl.stream.views.caption import CaptionView
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.contrastive import ContrastiveViews
from mmssl.stream.views.frame_views import FrameViews
from mmssl.stream.views.single import Single

LARGEST_SCALE = 100.0
"""Logits are never scaled by more (Radford et al. 2021, section 2.5)."""


class ImageTextConfig(MethodConfig):
    image: TowerConfig = EncoderConfig()
    """An image encoder, or with a ``kind`` a clip encoder: ``frames`` takes the mean over frames, or with
    ``fuse: attention`` attends to them."""
    text: TextConfig = ClipTextConfig()
    dim: PositiveInt = 256
    """Of the space that both towers are led to, by a linear map each, without bias."""
    start: StartConfig = StartConfig()
    """``weights`` of a whole CLIP for both towers, the linear maps and the scale: a folder or file of
    open_clip or transformers, or ``STAGE:method``."""
    temperature: PositiveFloat = 0.07
    """1/s at the beginning; learned."""
    image_training: Literal["train", "frozen"] | PositiveInt = "train"
    """``frozen``: the image tower stays as it starts (LiT, Zhai et al., CVPR 2022), only its linear map
    learns; a number: so many of its last layers are trained."""
    field: str | None = None
    """What the image tower looks at: by default ``image``, and ``video`` where it takes clips or samples have
    no image. Of a video an image encoder sees one frame, another in every pass."""
    captions: str = "caption"
    """The field that the text is in."""
    augmentation: ClipAugmentation = ClipAugmentation(
        scale=(0.5, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0
    )
    """Of the image: a gentle crop. No mirror and no colours, because captions tell left, right and red. What
    a recipe leaves out stays."""


class ImageText(Method):
    """An image tower and a text tower, and linear maps from both to one space of unit vectors.

    batch.image   (B, 3, S, S) float32, normalised; for a clip encoder {"frames": (B, T, 3, S, S), …}
    batch.text    what ``CaptionView`` gives: tokens (B, context) int64, same (B,) int64, …

    The forward pass is in two parts, so that batches beyond memory can be embedded piece by piece
    (``train: {cached: true}``): ``embed`` knows nothing of other samples, ``loss_of`` all about them.
    """

    config: Any
    image: Any
    text: Any

    def __init__(self, config: Any, data: DataInfo) -> None:
        super().__init__(config, data)
        self.build_towers()
        self.image_head = _projection(self.image.dim, config.dim)
        self.text_head = _projection(self.text.dim, config.dim)
        self.logit_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.started = {} if config.start.weights is None else start_from(self, Path(config.start.weights))
        if config.image_training != "train":
            freeze(self.image, 0 if config.image_training == "frozen" else config.image_training)

    def build_towers(self) -> None:
        """Set ``image`` and ``text``, modules that have a ``dim``."""
        self.image: AnyEncoder = build_any(self.config.image)
        self.text: TextEncoder = build_text_encoder(self.config.text)

    def train(self, mode: bool = True) -> "ImageText":
        super().train(mode)
        rest_frozen(self.image)
        return self

    @property
    def views(self) -> Mapping[str, View]:
        text = CaptionView(self.text.tokenizer, self.text.context, self.config.captions)
        return {"image": self._image_view(), "text": text}

    def _image_view(self) -> View:
        tower, augmentation, field = self.image, self.config.augmentation, self.config.field
        if isinstance(tower, ClipEncoder):
            sampler = Blocks(1, tower.frames, tower.stride)
            shown = tower.image_size, tower.mean, tower.std
            return ClipView(sampler, *shown, augmentation, field or "video")
        field = field or ("video" if self.data.video else "image")
        kind = FrameViews if modality_of(field).name == "video" else ContrastiveViews
        return Single(kind(tower.image_size, (augmentation,), tower.mean, tower.std, field))

    def encode_image(self, x: Any) -> Tensor:
        """Unit vectors (B, d) float32 of images (B, 3, S, S) or clips (B, T, 3, S, S), as ``batch.image``.

        An image encoder's features of a clip are averaged over its frames.
        """
        x = x["frames"] if isinstance(x, Mapping) else x
        if x.ndim == 5 and isinstance(self.image, Encoder):
            return self.project_image(self.image(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(dim=1))
        return self.project_image(self.image(x))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Unit vectors (B, d) float32 of tokens (B, context) int64."""
        return self.project_text(self.text(tokens))

    def project_image(self, h: Tensor) -> Tensor:
        """The unit vectors of the image tower's features (B, dim)."""
        return _unit(self.image_head(h))

    def project_text(self, h: Tensor) -> Tensor:
        """The unit vectors of the text tower's features (B, dim)."""
        return _unit(self.text_head(h))

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors (B, d) of ``image`` and ``text``, with gradient."""
        return {"image": self.encode_image(batch.image), "text": self.encode_text(batch.text["tokens"])}

    @abstractmethod
    def align(self, image: Tensor, text: Tensor, keys: Tensor) -> Alignment:
        """The loss between the unit vectors of this rank; ``keys`` as in ``mmssl.losses.clip``."""

    def loss_of(self, embeddings: Mapping[str, Tensor], batch: Batch) -> Loss:
        """The objective, from the embeddings of the whole batch of this rank.

        Two samples are alike if they are one, which a batch across two passes may hold twice, or if their
        captions are.
        """
        keys = torch.stack([batch.text["same"], batch.id], dim=1)
        alignment = self.align(embeddings["image"], embeddings["text"], keys)
        captions = {"cut": batch.text["cut"].float().mean(), "unknown": batch.text["unknown"].mean()}
        scale = {"logit_scale": self.logit_scale.detach().exp()}
        return Loss(alignment.loss, alignment.parts() | captions | scale, embeddings["image"].detach())

    def forward(self, batch: Batch) -> Loss:
        return self.loss_of(self.embed(batch), batch)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.logit_scale.clamp_(max=math.log(LARGEST_SCALE))

    def encoders(self) -> Mapping[str, AnyEncoder]:
        return {"image": self.image, "text": self.text}

    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """In-batch R@1 both ways: is the nearest caption the image's own, and the reverse?

        Captions that are the same count as each other.
        """
        z = self.embed(batch)
        similarity = z["image"] @ z["text"].T
        same = (batch.text["same"][:, None] == batch.text["same"]).float()
        chance = same.mean().item()
        nearest = {"image_to_text": similarity.argmax(dim=1), "text_to_image": similarity.argmax(dim=0)}
        asked = {"image_to_text": "own caption", "text_to_image": "own image"}
        return {
            name: Answers(
                same.gather(1, found[:, None])[:, 0],
                f"{asked[name]} nearest by cosine among the batch's",
                chance=chance,
            )
            for name, found in nearest.items()
        }


def _projection(into: int, out: int) -> nn.Linear:
    """A linear map without bias that keeps lengths on average, as CLIP's begin."""
    linear = nn.Linear(into, out, bias=False)
    nn.init.normal_(linear.weight, std=into**-0.5)
    return linear


def _unit(x: Tensor) -> Tensor:
    return normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)
