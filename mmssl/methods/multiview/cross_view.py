"""Cross-view prediction: what Contrastive Multiview Coding (Tian et al., ECCV 2020) is compared with.

The paper's "predictive learning vs. contrastive learning": an encoder and a decoder paint the other views
from one of them.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mmssl.errors import MmsslError
from mmssl.methods.base import Answers, DataInfo, Loss
from mmssl.methods.multiview.targets import Target
from mmssl.methods.multiview.views import MultiView, MultiViewConfig
from mmssl.models.encoder import Encoder, EncoderConfig
from mmssl.models.pixel_decoder import PixelDecoder
from mmssl.pictures import sight_picture
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View
from mmssl.stream.views.known_flow import KnownFlow
from mmssl.stream.views.shown import Shown, field_of


class CrossViewConfig(MultiViewConfig):
    """The ``views`` of CMC serve as they are: of all but the core only what they see is used."""

    name: Literal["cross_view"] = "cross_view"
    core: str
    """The view that is looked at; all others are predicted from it."""
    target_size: PositiveInt | None = None
    """Side of the predicted pictures in pixels; by default each view's own ``image_size``."""
    norm: Literal["l1", "l2"] = "l1"
    """Distance of pixels in normalised units; classes of a segmentation have their cross-entropy."""
    decoder_width: PositiveInt = 256
    """Channels of a decoder's first layer; every doubling of the resolution halves them, down to 32."""

    @model_validator(mode="after")
    def _pictures(self) -> "CrossViewConfig":
        if self.core not in self.views:
            raise ValueError(f"core: expected one of {', '.join(self.views)}, found {self.core!r}")
        for name, view in self.views.items():
            if not isinstance(view.encoder, EncoderConfig):
                raise ValueError(f"views.{name}.encoder: pictures are predicted from pictures, found a clip")
        if self.views[self.core].optional:
            raise ValueError(
                f"core: {self.core!r} is optional; every sample needs the view that is looked at"
            )
        return self


class CrossView(MultiView):
    """From the feature map of the core view a decoder each paints the other views.

    batch.views   as ``MultiView``, and of flow ``NAME.known`` (B, S, S) bool
    total         Σ_v mean over the known pixels of |x̂_v − x_v|, (x̂_v − x_v)², or for classes −log p(x_v)
    """

    Config = CrossViewConfig
    config: CrossViewConfig

    def __init__(self, config: CrossViewConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.targets = {
            name: Target(self.shown(name), config.norm) for name in self.names if name != config.core
        }
        self.decoders = nn.ModuleDict(
            {
                name: PixelDecoder(
                    self.tower.dim, self._grid(), target.channels, target.shown.size, config.decoder_width
                )
                for name, target in self.targets.items()
            }
        )

    @property
    def looking(self) -> tuple[str, ...]:
        return (self.config.core,)

    @property
    def tower(self) -> Encoder:
        """The core's encoder."""
        return self.towers[self.config.core]  # type: ignore[return-value]

    @torch.no_grad()
    def _grid(self) -> int:
        """Rows, and columns, of the core's feature map."""
        training, size = self.tower.training, self.tower.image_size
        blank = next(self.tower.parameters()).new_zeros(1, len(self.tower.mean), size, size)
        features = self.tower.eval().feature_map(blank)
        self.tower.train(training)
        if features.shape[2] != features.shape[3]:
            raise MmsslError(
                f"cross_view: views.{self.config.core}.encoder: expected a square feature map, found "
                f"{tuple(features.shape[2:])}"
            )
        return int(features.shape[2])

    def shown(self, name: str) -> Shown:
        if name == self.config.core:
            return super().shown(name)
        view = self.config.views[name]
        encoder: Any = view.encoder
        return Shown(
            sees=encoder.sees,
            field=view.field or field_of(encoder.sees, video=self.data.video),
            size=self.config.target_size or encoder.image_size,
            channels=len(encoder.mean),
            mean=encoder.mean,
            std=encoder.std,
            after=view.after,
            optional=view.optional,
        )

    @property
    def views(self) -> Mapping[str, View]:
        return {name: KnownFlow(look) for name, look in super().views.items()}  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> Loss:
        features = self.tower.feature_map(batch.views[self.config.core])
        losses = {
            name: target.loss(self.decoders[name](features), batch.views[name], self.known(batch, name))
            for name, target in self.targets.items()
        }
        total = torch.stack(list(losses.values())).sum()
        parts = {name: loss.detach() for name, loss in losses.items()}
        return Loss(total, parts, features.detach().mean(dim=(2, 3)))

    def known(self, batch: Batch, name: str) -> Tensor:
        """(B, S, S) bool: which pixels of a view there are to predict."""
        views = batch.views
        known = views.get(f"{name}.known", self.targets[name].known(views[name]))
        return known & self.present(batch, name)[:, None, None]

    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """How far the painted views of a batch are from the true ones, in units of the sight."""
        features = self.tower.feature_map(batch.views[self.config.core])
        return {
            name: target.answers(self.decoders[name](features), batch.views[name], self.known(batch, name))
            for name, target in self.targets.items()
        }

    @torch.no_grad()
    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Of every predicted view three rows: the core, the true view, the painted one."""
        seen = batch.views[self.config.core][:8]
        features = self.tower.feature_map(seen)
        core = sight_picture(self.shown(self.config.core), seen)
        sheets = {}
        for name, target in self.targets.items():
            side = (target.shown.size, target.shown.size)
            true = sight_picture(target.shown, batch.views[name][:8])
            painted = sight_picture(target.shown, target.painted(self.decoders[name](features).float()))
            sheets[name] = torch.cat([interpolate(core, side, mode="area"), true, painted])
        return sheets
