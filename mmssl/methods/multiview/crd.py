"""CRD: Contrastive Representation Distillation (Tian, Krishnan and Isola, ICLR 2020), without labels."""

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.methods.base import Answers, DataInfo, Loss
from mmssl.methods.multiview.cmc import CMC, CMCConfig
from mmssl.methods.multiview.views import ViewConfig
from mmssl.models.artifact import AnyEncoder, build_any
from mmssl.stream.batch import Batch
from mmssl.stream.views.shown import Shown

ViewName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


class TeacherConfig(Config):
    views: dict[ViewName, ViewConfig] = Field(min_length=1)
    """What the teacher looks at; every ``encoder.weights`` is an earlier stage's: ``STAGE:NAME``."""


class CRDConfig(CMCConfig):
    """The paper's values are the defaults: linear heads to 128 dimensions, K = 16384, τ = 0.07, m = 0.5."""

    name: Literal["crd"] = "crd"
    views: dict[ViewName, ViewConfig] = Field(min_length=1, max_length=1)
    """The student: one view, whose encoder training leaves."""
    teacher: TeacherConfig
    core: None = None
    """There is one pair only, of student and teacher."""

    @model_validator(mode="after")
    def _two_names(self) -> "CRDConfig":
        if "teacher" in self.views:
            raise ValueError("views.teacher: expected another name for the student")
        return self


class Teacher(nn.Module):
    """Frozen encoders of one or several views; their features side by side are one, (B, dim)."""

    def __init__(self, views: Mapping[str, ViewConfig]) -> None:
        super().__init__()
        self.views = views
        encoders = {name: build_any(view.encoder) for name, view in views.items()}
        self.dim = sum(encoder.dim for encoder in encoders.values())
        self.encoders = nn.ModuleDict(encoders)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        """It stays as it is. Raises: MmsslError if it is to teach and has never been taught itself."""
        without = [name for name, view in self.views.items() if view.encoder.weights is None]
        if mode and without:
            raise MmsslError(
                f"crd: teacher.views.{without[0]}.encoder.weights: missing; expected an encoder that "
                "an earlier stage has trained, STAGE or STAGE:NAME"
            )
        return super().train(False)

    @torch.no_grad()
    def forward(self, views: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([encoder(views[name]) for name, encoder in self.encoders.items()], dim=1)


class CRD(CMC):
    """What the teacher says of a sample is the student's second view of it: CMC between the two.

    batch.views   as ``MultiView``: the student's view, and those of the teacher as ``teacher.NAME``
    total         L(student, teacher) + L(teacher, student) over two memory banks (section 3.2); the teacher's
                  head is trained, its encoders are not

    The paper draws negatives from other classes and adds a supervised loss. No label is used here: negatives
    are other samples of any class, and the contrast is all there is. A sample that lacks one of the teacher's
    views is not learned from.
    """

    Config = CRDConfig
    config: CRDConfig

    def __init__(self, config: CRDConfig, data: DataInfo) -> None:
        super().__init__(config, data)

    @property
    def student(self) -> str:
        """The name of its view."""
        return next(iter(self.config.views))

    @property
    def names(self) -> tuple[str, ...]:
        return (self.student, "teacher")

    @property
    def teacher(self) -> Teacher:
        return self.towers["teacher"]  # type: ignore[return-value]

    def _tower(self, name: str) -> nn.Module:
        if name != "teacher":
            return super()._tower(name)
        views = self.config.teacher.views
        for own, view in views.items():
            self._refuse_missing(f"teacher.{own}", view)
        return Teacher(views)

    @property
    def sights(self) -> Mapping[str, Shown]:
        video, shown = self.data.video, {self.student: self.shown(self.student)}
        for name, view in self.config.teacher.views.items():
            shown[f"teacher.{name}"] = Shown.to(
                self.teacher.encoders[name],
                video=video,
                field=view.field,
                after=view.after,
                optional=view.optional,
            )
        return shown

    def taught(self, batch: Batch) -> Batch:
        """The batch as CMC takes it: two views, of which the second is all that the teacher sees."""
        views = batch.views
        seen = {name: views[f"teacher.{name}"] for name in self.config.teacher.views}
        present = views["present"]
        both = torch.stack([present[:, 0], present[:, 1:].all(dim=1)], dim=1)
        return Batch(batch | {"views": {self.student: views[self.student], "teacher": seen, "present": both}})

    def forward(self, batch: Batch) -> Loss:
        return super().forward(self.taught(batch))

    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """Does the student's embedding find the teacher's of the same sample, and the other way round?"""
        return super().pretext(self.taught(batch))

    def encoders(self) -> Mapping[str, AnyEncoder]:
        return {self.student: self.towers[self.student]}  # type: ignore[dict-item]
