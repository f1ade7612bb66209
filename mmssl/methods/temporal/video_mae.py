"""VideoMAE: Masked Autoencoders are Data-Efficient Learners … for Video (Tong et al., NeurIPS 2022)."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from torch.nn.functional import pad

from mmssl.losses.masked_patches import masked_patch_loss, normalise_patches
from mmssl.methods.base import Answers, DataInfo, Loss, MethodConfig
from mmssl.methods.masked import MaskedAutoencoder, check_decoder, rows_to_compare
from mmssl.models.clip import build_clip_encoder
from mmssl.models.clip.video_vit import VideoViT, VideoViTConfig
from mmssl.models.patches import take, untubelets
from mmssl.models.positions import sincos_space_time
from mmssl.stream.batch import Batch
from mmssl.stream.clips.blocks import Blocks
from mmssl.stream.views.base import View
from mmssl.stream.views.clip import ClipAugmentation, ClipView
from mmssl.stream.views.draws import Draws

_PICTURED = 4
"""Clips whose strips go into the picture."""
_GAP = 4
"""White rows below each of them."""


class VideoMAEConfig(MethodConfig):
    name: Literal["video_mae"] = "video_mae"
    encoder: VideoViTConfig = VideoViTConfig()
    mask_ratio: float = Field(0.9, gt=0, lt=1)
    """Share of tubes that the encoder does not see (figure 3)."""
    decoder_width: PositiveInt = 384
    """Half the encoder's (section 4); even, and a multiple of ``decoder_heads``."""
    decoder_depth: PositiveInt = 4
    """Transformer blocks, table 1a."""
    decoder_heads: PositiveInt = 6
    normalise_targets: bool = True
    """Predict each colour of each tubelet with its own mean and variance taken out."""
    augmentation: ClipAugmentation | None = ClipAugmentation(
        scale=(0.4, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0
    )
    """A crop, colours untouched; what a recipe leaves out keeps these values."""

    @model_validator(mode="after")
    def _hides(self) -> "VideoMAEConfig":
        if self.visible >= self.tubes:
            raise ValueError(f"mask_ratio: {self.mask_ratio} hides none of {self.tubes} tubes")
        return self

    @property
    def tubes(self) -> int:
        """h·w, patches of a frame."""
        return self.encoder.grid[1] * self.encoder.grid[2]

    @property
    def visible(self) -> int:
        """How many of them the encoder sees."""
        return max(1, round(self.tubes * (1 - self.mask_ratio)))


class TubeView(ClipView):
    """One clip and ``noise`` (B, h·w) in 0..1 float32, whose order says which tubes are hidden."""

    def __init__(self, config: VideoMAEConfig) -> None:
        e = config.encoder
        sampler = Blocks(1, e.frames, e.stride)
        super().__init__(sampler, e.image_size, e.mean, e.std, config.augmentation)
        self.tubes = config.tubes

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        noise = torch.from_numpy(draws.uniform("mask", self.tubes))
        return super().finish(x, draws) | {"noise": noise.to(x["frames"].device)}


class VideoMAE(MaskedAutoencoder):
    """The encoder sees a tenth of the tubes; a light decoder paints the pixels of the others.

    A tube is one patch at all times: what is hidden stays hidden, so it cannot be copied from another time.

    batch.clip    {"frames": (B, T, 3, S, S) float32, "noise": (B, h·w) float32, "times": …}
    total         mean squared error over the hidden tubelets only (equation 1)
    """

    Config = VideoMAEConfig
    config: VideoMAEConfig

    def __init__(self, config: VideoMAEConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        check_decoder(config.decoder_width, config.decoder_heads, 2)
        encoder = build_clip_encoder(config.encoder)
        assert isinstance(encoder, VideoViT)
        self.encoder = encoder
        e = config.encoder
        positions = sincos_space_time(e.grid, config.decoder_width)
        pixels = 3 * e.tubelet * e.patch**2
        self.add_decoder(e.width, positions, config.decoder_depth, config.decoder_heads, pixels)
        self.start()

    def forward(self, batch: Batch) -> Loss:
        target, prediction, latent = self.paint(batch)
        loss = masked_patch_loss(prediction, target)
        parts = {
            "explained": (1.0 - loss / (target.square().mean() - target.mean().square())).detach(),
            "hidden_tubelets": loss.new_tensor(float(target.shape[1])),
        }
        return Loss(loss, parts, latent.detach().mean(dim=1))

    def paint(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Target and prediction (B, m, 3·s·p²) of the hidden tubelets, tokens (B, n, width) of the others."""
        rows = self.encoder.rows(batch.clip["frames"])
        visible, hidden = self.tubes(batch.clip["noise"])
        latent = self.encoder.norm(self.encoder.encode(take(rows, visible), visible))
        target = take(rows, hidden)
        if self.config.normalise_targets:
            target = normalise_patches(target.unflatten(2, (3, -1))).flatten(2)
        return target, self.decode(latent, visible, hidden), latent

    def tubes(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Tubelets (B, n) that the encoder sees, and (B, m) that it does not: the same cells at all times."""
        cells = noise.argsort(dim=1, stable=True)
        seen = self.config.visible
        times = torch.arange(self.config.encoder.grid[0], device=noise.device)
        first = times[:, None] * self.config.tubes
        visible, hidden = cells[:, None, :seen] + first, cells[:, None, seen:] + first
        return visible.flatten(1), hidden.flatten(1)

    @property
    def views(self) -> Mapping[str, View]:
        return {"clip": TubeView(self.config)}

    def encoders(self) -> Mapping[str, VideoViT]:
        return {"clip": self.encoder}

    def pretext(self, batch: Batch) -> dict[str, Answers]:
        target, prediction, _ = self.paint(batch)
        error = (prediction.float() - target).square().flatten(1).sum(dim=1)
        centred = target - target.mean(dim=(1, 2), keepdim=True)
        explained = 1 - error / centred.square().flatten(1).sum(dim=1).clamp(min=1e-6)
        what = "each tubelet's own mean and variance taken out" if self.config.normalise_targets else "pixels"
        protocol = (
            f"variance explained of the hidden tubelets of a clip ({what}); "
            f"{self.config.mask_ratio:.0%} of the tubes hidden"
        )
        return {"hidden tubelets": Answers(explained, protocol, chance=0.0)}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """``reconstruction`` (1, 3, ·, ·): four clips, each as it is, as it was seen, and as painted in.

        Every strip shows the first frames of the tubelets. Where targets are normalised, what is painted is
        given each tubelet's true mean and spread: only what is in it is the decoder's.
        """
        few = Batch(clip={name: x[:_PICTURED] for name, x in batch.clip.items()})
        e = self.config.encoder
        rows = self.encoder.rows(few.clip["frames"])
        _, hidden = self.tubes(few.clip["noise"])
        painted = self.paint(few)[1].float()
        if self.config.normalise_targets:
            true = take(rows, hidden).unflatten(2, (3, -1))
            spread = (true.var(dim=-1, keepdim=True) + 1e-6).sqrt()
            painted = (painted.unflatten(2, (3, -1)) * spread + true.mean(dim=-1, keepdim=True)).flatten(2)
        mean, std = (rows.new_tensor(values).view(3, 1, 1) for values in (e.mean, e.std))
        films = []
        for strip in rows_to_compare(rows, hidden, painted).values():
            frames = untubelets(strip, e.tubelet, e.patch, e.grid)[:, :: e.tubelet]
            films.append((frames * std + mean).clamp(0, 1).permute(0, 2, 3, 1, 4).flatten(3))
        clips = pad(torch.cat(films, dim=2), (0, 0, 0, _GAP), value=1.0)
        return {"reconstruction": torch.cat(list(clips), dim=1)[None]}
