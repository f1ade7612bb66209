"""MAE: Masked Autoencoders Are Scalable Vision Learners (He et al., CVPR 2022)."""

from collections.abc import Mapping
from typing import Any, Literal

import timm
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import linear

from mmssl.errors import MmsslError
from mmssl.losses.masked_patches import masked_patch_loss, normalise_patches
from mmssl.methods.base import DataInfo, Loss, MethodConfig
from mmssl.methods.masked import MaskedAutoencoder, check_decoder, rows_to_compare
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.models.patches import patchify, take, unpatchify
from mmssl.models.positions import sincos_positions, use_sincos_positions
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.masked import RandomCrop


class MAEConfig(MethodConfig):
    name: Literal["mae"] = "mae"
    encoder: EncoderConfig = EncoderConfig(name="vit_base_patch16_224")
    """Any timm VisionTransformer."""
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    """Share of patches that the encoder does not see (figure 5)."""
    decoder_width: PositiveInt = 512
    """Table 1b; a multiple of 4 and of ``decoder_heads``."""
    decoder_depth: PositiveInt = 8
    """Transformer blocks, table 1a."""
    decoder_heads: PositiveInt = 16
    normalise_targets: bool = True
    """Predict each patch with its own mean and variance taken out (table 1d)."""
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Share of the image's area that a crop covers (appendix A.1)."""


class MaskedView(RandomCrop):
    """``pixels`` (B, 3, S, S) and ``noise`` (B, L) in 0..1, whose order says what is hidden; both float32."""

    def __init__(self, config: MAEConfig, patches: int) -> None:
        encoder = config.encoder
        super().__init__(encoder.image_size, encoder.mean, encoder.std, config.crop_scale)
        self.patches = patches

    def finish(self, x: Tensor, draws: Draws) -> dict[str, Tensor]:  # type: ignore[override]
        noise = torch.from_numpy(draws.uniform("mask", self.patches))
        return {"pixels": super().finish(x, draws), "noise": noise.to(x.device)}


class MAE(MaskedAutoencoder):
    """The encoder sees a quarter of the patches; a light decoder paints the pixels of the others.

    batch.image   {"pixels": (B, 3, S, S) float32, "noise": (B, L) float32}
    total         mean squared error over the hidden patches only (section 3)
    """

    Config = MAEConfig
    config: MAEConfig

    def __init__(self, config: MAEConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        _check(self.encoder.backbone, config)
        rows, columns = self.vit.patch_embed.grid_size
        self.patch = int(self.vit.patch_embed.patch_size[0])
        self.patches = int(rows * columns)
        self.visible = max(1, round(self.patches * (1 - config.mask_ratio)))
        self.prefix = int(self.vit.num_prefix_tokens)
        positions = sincos_positions(rows, columns, config.decoder_width)
        self.add_decoder(
            self.vit.embed_dim, positions, config.decoder_depth, config.decoder_heads, self.patch**2 * 3
        )
        self._initialise()

    @property
    def vit(self) -> Any:
        """The encoder's timm VisionTransformer."""
        return self.encoder.backbone

    def forward(self, batch: Batch) -> Loss:
        patches = patchify(batch.image["pixels"], self.patch)
        order = batch.image["noise"].argsort(dim=1, stable=True)
        visible, hidden = order[:, : self.visible], order[:, self.visible :]
        latent = self.encode(take(patches, visible), visible)
        prediction = self.decode(latent, visible, hidden)
        target = take(patches, hidden)
        if self.config.normalise_targets:
            target = normalise_patches(target)
        loss = masked_patch_loss(prediction, target)
        parts = {
            "explained": (1.0 - loss / (target.square().mean() - target.mean().square())).detach(),
            "hidden_patches": loss.new_tensor(float(hidden.shape[1])),
        }
        return Loss(loss, parts, latent[:, self.prefix :].detach().mean(dim=1))

    def encode(self, patches: Tensor, where: Tensor) -> Tensor:
        """Patches (B, n, 3·p²) at ``where`` (B, n) to tokens (B, prefix + n, width).

        The patch convolution has stride p, so it is a linear map of each patch: hidden ones cost nothing.
        """
        vit = self.vit
        projection, positions = vit.patch_embed.proj, vit.pos_embed
        x = vit.patch_embed.norm(linear(patches, projection.weight.flatten(1), projection.bias))
        of_patches = positions[0, positions.shape[1] - self.patches :]
        x = x + of_patches[where]
        prefix = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
        if prefix:
            tokens = torch.cat(prefix, dim=1)
            if not vit.no_embed_class:
                tokens = tokens + positions[:, : self.prefix]
            x = torch.cat([tokens.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        # one of the two norms is the identity: timm puts it behind the pooling where tokens are averaged
        return vit.fc_norm(vit.norm(vit.blocks(vit.norm_pre(x))))

    def _initialise(self) -> None:
        """Appendix A.1; an encoder that starts from weights keeps them."""
        if self.config.encoder.weights is not None:
            self.start()
            return
        nn.init.xavier_uniform_(self.vit.patch_embed.proj.weight.data.flatten(1))
        use_sincos_positions(self.vit)
        self.start(self.vit.blocks)

    @property
    def views(self) -> Mapping[str, View]:
        return {"image": MaskedView(self.config, self.patches)}

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Rows to compare: the image, what the encoder saw of it (the rest grey), what was painted in."""
        images = batch.image["pixels"]
        patches = patchify(images, self.patch)
        order = batch.image["noise"].argsort(dim=1, stable=True)
        visible, hidden = order[:, : self.visible], order[:, self.visible :]
        latent = self.encode(take(patches, visible), visible)
        painted = self.decode(latent, visible, hidden).float()
        if self.config.normalise_targets:
            true = take(patches, hidden)
            spread = (true.var(dim=-1, keepdim=True) + 1e-6).sqrt()
            painted = painted * spread + true.mean(dim=-1, keepdim=True)
        rows = rows_to_compare(patches, hidden, painted)
        mean = images.new_tensor(self.encoder.mean).view(3, 1, 1)
        std = images.new_tensor(self.encoder.std).view(3, 1, 1)
        side = images.shape[2] // self.patch
        return {
            name: (unpatchify(row, self.patch, side) * std + mean).clamp(0, 1) for name, row in rows.items()
        }


def _check(vit: Any, config: MAEConfig) -> None:
    name = config.encoder.name
    if not isinstance(vit, timm.models.VisionTransformer) or vit.pos_embed is None:
        raise MmsslError(f"encoder.name: MAE masks patches, so it needs a VisionTransformer; found {name}")
    if vit.attn_pool is not None:
        raise MmsslError(
            "encoder.kwargs.global_pool: MAE leaves no attention pooling; expected token, avg, max or avgmax"
        )
    check_decoder(config.decoder_width, config.decoder_heads, 4)
