"""MAE: Masked Autoencoders Are Scalable Vision Learners (He et al., CVPR 2022)."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import timm
import torch
from pydantic import Field, PositiveInt
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from mmssl.errors import MmsslError
from mmssl.losses.masked_patches import masked_patch_loss, normalise_patches
from mmssl.methods.base import DataInfo, Loss, Method, MethodConfig
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
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


class MAE(Method):
    """The encoder sees a quarter of the patches; a light decoder paints the pixels of the others.

    batch.image   {"pixels": (B, 3, S, S) float32, "noise": (B, L) float32}
    total         mean squared error over the hidden patches only (section 3)
    """

    Config = MAEConfig
    config: MAEConfig
    decoder_positions: Tensor

    def __init__(self, config: MAEConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        _check(self.encoder.backbone, config)
        width = config.decoder_width
        rows, columns = self.vit.patch_embed.grid_size
        self.patch = int(self.vit.patch_embed.patch_size[0])
        self.patches = int(rows * columns)
        self.visible = max(1, round(self.patches * (1 - config.mask_ratio)))
        self.decoder_embed = nn.Linear(self.vit.embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("decoder_positions", sincos_positions(rows, columns, width))
        norm_layer: Any = partial(nn.LayerNorm, eps=1e-6)
        blocks = [
            Block(width, config.decoder_heads, qkv_bias=True, norm_layer=norm_layer)
            for _ in range(config.decoder_depth)
        ]
        self.decoder = nn.Sequential(*blocks)
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pixels = nn.Linear(width, self.patch**2 * 3)
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
        return Loss(loss, parts, latent[:, self.vit.num_prefix_tokens :].detach().mean(dim=1))

    def encode(self, patches: Tensor, where: Tensor) -> Tensor:
        """Patches (B, n, 3·p²) at ``where`` (B, n) to tokens (B, prefix + n, width).

        The patch convolution has stride p, so it is a linear map of each patch: hidden ones cost nothing.
        """
        vit, n_prefix = self.vit, self.vit.num_prefix_tokens
        projection, positions = vit.patch_embed.proj, vit.pos_embed
        x = vit.patch_embed.norm(linear(patches, projection.weight.flatten(1), projection.bias))
        of_patches = positions[0, positions.shape[1] - self.patches :]
        x = x + of_patches[where]
        prefix = [token for token in (vit.cls_token, vit.reg_token) if token is not None]
        if prefix:
            tokens = torch.cat(prefix, dim=1)
            if not vit.no_embed_class:
                tokens = tokens + positions[:, :n_prefix]
            x = torch.cat([tokens.expand(len(x), -1, -1).to(x.dtype), x], dim=1)
        # one of the two norms is the identity: timm puts it behind the pooling where tokens are averaged
        return vit.fc_norm(vit.norm(vit.blocks(vit.norm_pre(x))))

    def decode(self, latent: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Tokens (B, prefix + n, width) of the visible patches to pixels (B, hidden, 3·p²) of the others.

        To attention only positions tell order, so the mask tokens simply stand behind the visible ones. Of
        the last block's tokens only the hidden ones are read, so only they are computed.
        """
        x, n_prefix = self.decoder_embed(latent), self.vit.num_prefix_tokens
        masked = self.mask_token.to(x.dtype).expand(len(x), hidden.shape[1], -1)
        patches = torch.cat([x[:, n_prefix:], masked], dim=1)
        patches = patches + self.decoder_positions[torch.cat([visible, hidden], dim=1)]
        x = torch.cat([x[:, :n_prefix], patches], dim=1)
        *blocks, last = self.decoder
        for block in blocks:
            x = block(x)
        return self.decoder_pixels(self.decoder_norm(last_tokens(last, x, hidden.shape[1])))

    def _initialise(self) -> None:
        """Appendix A.1: Xavier uniform; an encoder that starts from weights keeps them."""
        fresh: list[nn.Module] = [self.decoder_embed, self.decoder, self.decoder_pixels]
        nn.init.normal_(self.mask_token, std=0.02)
        if self.config.encoder.weights is None:
            fresh.append(self.vit.blocks)
            nn.init.xavier_uniform_(self.vit.patch_embed.proj.weight.data.flatten(1))
            use_sincos_positions(self.vit)
        for part in fresh:
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

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
        where = hidden[:, :, None].expand(-1, -1, patches.shape[2])
        rows = {
            "original": patches,
            "masked": patches.scatter(1, where, torch.zeros_like(painted)),
            "reconstruction": patches.scatter(1, where, painted),
        }
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
        raise MmsslError("encoder.kwargs.global_pool: MAE leaves no attention pooling; expected token or avg")
    if config.decoder_width % 4 or config.decoder_width % config.decoder_heads:
        raise MmsslError(
            f"decoder_width: expected a multiple of 4 and of decoder_heads ({config.decoder_heads}), "
            f"found {config.decoder_width}"
        )


def patchify(images: Tensor, p: int) -> Tensor:
    """(B, 3, h·p, w·p) to (B, h·w, 3·p²), each patch in the order of a convolution's weights."""
    b, c, height, width = images.shape
    grid = images.reshape(b, c, height // p, p, width // p, p)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)


def unpatchify(patches: Tensor, p: int, rows: int) -> Tensor:
    """The inverse of ``patchify`` for ``rows`` rows of patches."""
    b, n, _ = patches.shape
    grid = patches.reshape(b, rows, n // rows, 3, p, p).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, 3, rows * p, n // rows * p)


def take(x: Tensor, index: Tensor) -> Tensor:
    """Rows ``index`` (B, n) of each sample of ``x`` (B, N, d): (B, n, d)."""
    return x.gather(1, index[:, :, None].expand(-1, -1, x.shape[2]))


def last_tokens(block: Any, x: Tensor, n: int) -> Tensor:
    """What a timm ``Block`` without extras makes of the last ``n`` tokens of ``x`` (B, N, d): (B, n, d)."""
    attention = block.attn
    qkv = attention.qkv(block.norm1(x)).unflatten(2, (3, attention.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, d / heads)
    seen = scaled_dot_product_attention(q[:, :, -n:], k, v).transpose(1, 2).flatten(2)
    x = x[:, -n:] + attention.proj(seen)
    return x + block.mlp(block.norm2(x))
