"""CPC on images: Representation Learning with Contrastive Predictive Coding (van den Oord et al., 2018)."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from torch.nn.functional import pad

from mmssl.errors import MmsslError
from mmssl.losses.predictive import Pool
from mmssl.methods.base import Answers, DataInfo, Loss, Method
from mmssl.methods.predictive import Ahead, PredictiveConfig, ask_ahead, build_pool, parts
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.models.heads import step_predictors
from mmssl.models.row_context import RowContext
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View
from mmssl.stream.views.contrastive import ContrastiveAugmentation, ContrastiveViews
from mmssl.stream.views.draws import Draws


class CPCImageConfig(PredictiveConfig):
    name: Literal["cpc_image"] = "cpc_image"
    encoder: EncoderConfig = EncoderConfig(
        name="resnet18", image_size=256, kwargs={"norm_layer": "groupnorm"}
    )
    """A network that takes images of any size. GroupNorm or LayerNorm: statistics that the patches of an
    image share would tell which belong together. In small networks prefer ``groupnorm1``, one group: of a
    patch that has become one cell, 32 groups of two channels keep nothing but signs."""
    grid: int = Field(default=7, ge=3)
    """Patches a side. They overlap by half: their side is 2 / (grid + 1) of the image's."""
    steps: PositiveInt = 5
    """How many rows are predicted; the first is the next one that does not overlap, k = 2."""
    context_width: PositiveInt = 256
    context_depth: PositiveInt = 5
    """Blocks of g_ar, each of which sees one row further up."""
    patch_crop: float = Field(default=60 / 64, gt=0, le=1)
    """Share of a patch's side that a crop of its own shows, amid zeros (the mean colour); 60² of 64²."""
    augmentation: ContrastiveAugmentation = ContrastiveAugmentation(
        scale=(0.3, 1.0), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=0.0
    )
    """Of the whole image, before it is cut; what a recipe leaves out keeps these values."""

    @model_validator(mode="after")
    def _fits(self) -> "CPCImageConfig":
        if self.encoder.image_size % (self.grid + 1):
            raise ValueError(f"encoder.image_size: expected a multiple of grid + 1 = {self.grid + 1}")
        if self.steps > self.grid - _FIRST:
            raise ValueError(f"steps: expected at most grid - {_FIRST} rows below the first")
        return self


_FIRST = 2
"""Half overlap: the row below shares pixels with a row, the one after it does not."""


class CPCImage(Method):
    """What the rows down to r show has to tell the patch k rows below from other patches, column by column.

    batch.image   {"pixels": (B, 3, S, S) float32, "offsets": (B, G², 2) int64}
    z             (B, G², d): each patch alone through the encoder;  c (B, d, G, G): g_ar, row by row
    total         mean over k of the InfoNCE of W_k c(r, column) and z(r + k, column), over all of them and B

    The encoder that is left sees whole images as any other does: the mean is over all places of its last map,
    not over patches that are cut out first.
    """

    Config = CPCImageConfig
    config: CPCImageConfig

    def __init__(self, config: CPCImageConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.encoder = build_encoder(config.encoder)
        self.stride = config.encoder.image_size // (config.grid + 1)
        self.patch = 2 * self.stride
        self._try_a_patch()
        d = self.encoder.dim
        self.g_ar = RowContext(d, config.context_width, config.context_depth)
        self.W = step_predictors(d, d, config.steps)

    def _try_a_patch(self) -> None:
        training = self.encoder.training
        try:
            with torch.no_grad():
                self.encoder.eval()(torch.zeros(1, 3, self.patch, self.patch))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise MmsslError(
                f"encoder.name: {self.config.encoder.name} takes no patches of {self.patch} px; "
                f"expected a network for images of any size: {error}"
            ) from error
        self.encoder.train(training)

    @property
    def views(self) -> Mapping[str, View]:
        return {"image": PatchView(self.config, self.patch)}

    def forward(self, batch: Batch) -> Loss:
        c, pool = self.encode(batch)
        steps = [(k, self.config.nce(predicted, below, pool)) for k, predicted, below in self.predict(c)]
        total = torch.stack([step.loss for _, step in steps]).mean()
        own = pool.z[pool.own].detach()
        return Loss(total, parts(steps), own.mean(dim=1))

    def encode(self, batch: Batch) -> tuple[Tensor, Pool]:
        """c (B, d, G, G), and all z as candidates."""
        grid = self.config.grid
        patches = cut(batch.image["pixels"], self.patch, self.stride)
        patches = crop_each(patches, batch.image["offsets"], crop_side(self.config, self.patch))
        z = self.encoder(patches.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        z = z.unflatten(0, (-1, grid**2))
        c = self.g_ar(z.transpose(1, 2).unflatten(2, (grid, grid)))
        return c, build_pool(z, batch.id)  # negatives cross ranks

    def predict(self, c: Tensor) -> list[Ahead]:
        """W_k c (B, (G − k)·G, d) for each k, and which patch, k rows below, it is about."""
        grid = self.config.grid
        rows = c.flatten(2).transpose(1, 2)  # row after row
        patches = torch.arange(grid**2, device=c.device)
        return [
            Ahead(k, W(rows[:, : (grid - k) * grid]), patches[k * grid :])
            for k, W in enumerate(self.W, _FIRST)
        ]

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.encoder}

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        c, pool = self.encode(batch)
        grid = self.config.grid
        words = f"one of {grid}×{grid} patches of {self.patch} px, k rows below, augmented as in training"
        return ask_ahead(self.config, self.predict(c), pool, batch.id, words, "rows below")


class PatchView(ContrastiveViews):
    """``pixels`` (B, 3, S, S) float32, and ``offsets`` (B, G², 2) int64: where each patch is cropped."""

    def __init__(self, config: CPCImageConfig, patch: int) -> None:
        encoder = config.encoder
        super().__init__(encoder.image_size, (config.augmentation,), encoder.mean, encoder.std)
        self.patches = config.grid**2
        self.room = patch - crop_side(config, patch)

    def finish(self, x: Tensor, draws: Draws) -> dict[str, Tensor]:  # type: ignore[override]
        offsets = draws.integers("offsets", 2 * self.patches, 0, self.room + 1)
        where = torch.from_numpy(offsets).unflatten(1, (self.patches, 2)).to(x.device)
        return {"pixels": super().finish(x, draws)[:, 0], "offsets": where}


def crop_side(config: CPCImageConfig, patch: int) -> int:
    """Side in pixels of what is shown of a patch."""
    return max(1, round(config.patch_crop * patch))


def cut(images: Tensor, patch: int, stride: int) -> Tensor:
    """Images (B, 3, S, S) to patches (B, G², 3, patch, patch), row after row; nothing has seen them yet."""
    tiles = images.unfold(2, patch, stride).unfold(3, patch, stride)
    return tiles.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


def crop_each(patches: Tensor, offsets: Tensor, side: int) -> Tensor:
    """A crop of ``side`` pixels of each patch (B, G², 3, p, p) at its offset, amid zeros: the same shape."""
    p = patches.shape[-1]
    reach = torch.arange(side, device=patches.device)
    rows = (offsets[..., :1] + reach)[:, :, None, :, None].expand(*patches.shape[:3], side, p)
    columns = (offsets[..., 1:] + reach)[:, :, None, None, :].expand(*patches.shape[:3], side, side)
    crops = patches.gather(3, rows).gather(4, columns)
    before = (p - side) // 2
    after = p - side - before
    return pad(crops, (before, after, before, after))
