"""What the methods over several views share: a tower for each view, and one aligned look at all of them."""

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Discriminator, Field, NonNegativeFloat, PositiveInt, Tag
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.methods.base import Answers, DataInfo, Method, MethodConfig
from mmssl.models.artifact import AnyEncoder, build_any
from mmssl.models.clip import ClipConfig
from mmssl.models.encoder import EncoderConfig
from mmssl.models.heads import mlp
from mmssl.pictures import side_by_side
from mmssl.stream.batch import Batch
from mmssl.stream.views.aligned import AlignedViews, CropFlip
from mmssl.stream.views.aligned_clips import AlignedClips
from mmssl.stream.views.base import View
from mmssl.stream.views.clip_augmentation import ClipAugmentation
from mmssl.stream.views.shown import Shown, field_of

TowerConfig = Annotated[
    Annotated[EncoderConfig, Tag("image")] | Annotated[ClipConfig, Tag("clip")],
    Discriminator(lambda value: "clip" if _has_kind(value) else "image"),
]
"""An image encoder, or with a ``kind`` a clip encoder."""


AlignedAugmentation = Annotated[
    Annotated[CropFlip, Tag("crop")] | Annotated[ClipAugmentation, Tag("colours")],
    Discriminator(lambda value: "crop" if _is_crop(value) else "colours"),
]
"""A crop and a flip, or with any other key also colours of rgb."""


def _is_crop(value: Any) -> bool:
    if isinstance(value, dict):
        return value.keys() <= CropFlip.model_fields.keys()
    return isinstance(value, CropFlip)


def _has_kind(value: Any) -> bool:
    return "kind" in value if isinstance(value, dict) else hasattr(value, "kind")


class ViewConfig(Config):
    """One view of a sample, and the encoder that looks at it."""

    encoder: TowerConfig = EncoderConfig()
    field: str | None = None
    """The sample's field, where it is not called like the modality: ``flow_backward``, ``image_right``."""
    after: NonNegativeFloat = 0.0
    """Of videos: how many seconds later than the others this view looks (the ventral pair, I_t and I_t+k)."""
    optional: bool = False
    """Whether samples may lack it."""


class MultiViewConfig(MethodConfig):
    views: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")], ViewConfig] = Field(min_length=2)
    """Name to view; the names are those of the encoders that training leaves."""
    augmentation: AlignedAugmentation = CropFlip()
    """One crop and flip for all views of a sample. Colours stay, unless ``jitter`` or another key of the
    contrastive methods is given; then those of rgb change, and never those of L, ab and the like."""


class MultiView(Method):
    """Towers f_v that look at aligned views, and heads to a common space of unit vectors.

    batch.views   name of a view to (B, C, S, S) float32, of a clip (B, T, C, S, S); and ``present`` (B, V)
                  bool in the order of the configuration: samples may lack optional views
    """

    any_sight: ClassVar[bool] = True
    config: Any

    def __init__(self, config: Any, data: DataInfo) -> None:
        super().__init__(config, data)
        for name, view in config.views.items():
            self._refuse_missing(name, view)
        self.towers = nn.ModuleDict({name: self._tower(name) for name in self.looking})

    @property
    def names(self) -> tuple[str, ...]:
        """Of the views, in the order of the configuration."""
        return tuple(self.config.views)

    @property
    def looking(self) -> tuple[str, ...]:
        """The views that an encoder looks at: here all of them."""
        return self.names

    def _tower(self, name: str) -> nn.Module:
        return build_any(self.config.views[name].encoder)

    def _refuse_missing(self, name: str, view: ViewConfig) -> None:
        data = self.data
        sees = getattr(view.encoder, "sees", "rgb")
        field = view.field or field_of(sees, video=data.video)
        if field not in data.fields | (data.some if view.optional else frozenset()):
            whom = "some samples" if view.optional else "every sample"
            has = [*sorted(data.fields), *(f"{name} (of some)" for name in sorted(data.some))]
            raise MmsslError(
                f"{self.config.name}: view {name!r} ({sees}) needs {field} of {whom}; the data has "
                f"{', '.join(has)}"
            )

    def shown(self, name: str) -> Shown:
        """What is shown of a view."""
        view, video = self.config.views[name], self.data.video
        tower = self.towers[name]
        return Shown.to(tower, video=video, field=view.field, after=view.after, optional=view.optional)

    @property
    def sights(self) -> Mapping[str, Shown]:
        """What is shown of a sample, in the order of ``present``."""
        return {name: self.shown(name) for name in self.names}

    @property
    def views(self) -> Mapping[str, View]:
        kind = AlignedClips if self.data.video else AlignedViews
        return {"views": kind(self.sights, self.config.augmentation)}

    def features(self, batch: Batch) -> dict[str, Tensor]:
        """(B, dim) of every view, before the heads."""
        return {name: self.towers[name](batch.views[name]) for name in self.looking}

    def present(self, batch: Batch, name: str) -> Tensor:
        """(B,) bool: which samples have the view."""
        return batch.views["present"][:, self.names.index(name)]

    def encoders(self) -> Mapping[str, AnyEncoder]:
        return dict(self.towers.items())  # type: ignore[arg-type]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The first samples of the batch, what is shown of each side by side."""
        first = {name: x[:16] for name, x in batch.views.items()}
        return {"views": side_by_side(self.sights, first)}


class EmbeddingConfig(MultiViewConfig):
    head: tuple[PositiveInt, ...] = (128,)
    """Widths of the layers between a tower and the common space; the last is its dimension."""


class Embedding(MultiView):
    """Multi-view methods whose heads lead into one space, where the views of a sample lie side by side."""

    config: Any

    def __init__(self, config: Any, data: DataInfo) -> None:
        super().__init__(config, data)
        self.heads = nn.ModuleDict(
            {name: mlp((self.towers[name].dim, *config.head)) for name in self.names}  # type: ignore[arg-type]
        )

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors (B, d) float32 of every view; those of absent views mean nothing."""
        return self.project(self.features(batch))

    def project(self, h: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The unit vectors of features (B, dim)."""
        return {name: normalize(self.heads[name](h[name]).float(), dim=1) for name in self.names}

    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """For every pair of views: is a sample's own second view the most similar one of the batch?

        Nothing is asked of views that fewer than two samples of the batch have both of.
        """
        z = self.embed(batch)
        answers = {}
        for a, b in combinations(self.names, 2):
            both = self.present(batch, a) & self.present(batch, b)
            if both.sum() < 2:
                continue
            similarity = z[a][both] @ z[b][both].T
            own = torch.arange(len(similarity), device=similarity.device)
            right = torch.cat([similarity.argmax(1) == own, similarity.argmax(0) == own]).float()
            chance = 1 / len(similarity)
            answers[f"{a}_{b}"] = Answers(
                right, "own view nearest by cosine among the batch's, both ways", chance=chance
            )
        return answers
