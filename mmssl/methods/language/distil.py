"""Distillation of CLIP: a small one learns what a larger one says of all pairs of a batch.

The loss is open_clip's (``DistillClipLoss``), after Hinton, Vinyals and Dean, "Distilling the Knowledge in a
Neural Network" (2015); CLIP-KD (Yang et al., CVPR 2024, section 3) calls it contrastive relational
distillation.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.losses.clip import Alignment, clip_loss
from mmssl.losses.distil import distil_loss
from mmssl.methods.base import DataInfo, Loss
from mmssl.methods.language.towers import ImageText, ImageTextConfig
from mmssl.models.encoder import StartConfig
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View
from mmssl.stream.views.same_draws import SameDraws


class TeacherConfig(StartConfig):
    weights: str | None
    """The whole method that an earlier stage left: ``STAGE:method``, or the folder that has its
    ``method.json``. A student that has been trained needs it no more."""


class DistilConfig(ImageTextConfig):
    name: Literal["distil"] = "distil"
    teacher: TeacherConfig
    """Any method between images and captions: ``clip``, ``siglip``, ``ms_clip``, ``distil``."""
    contrast: NonNegativeFloat = 1.0
    """Weight of the student's own loss on the captions, that of ``clip``; with 0 only the teacher teaches."""


class Distil(ImageText):
    """The student's similarities between all images and captions of the global batch follow the teacher's.

    batch.image, batch.text                   what the student is shown, see ``ImageText``
    batch.teacher_image, batch.teacher_text   the same crop and caption, in the teacher's size and tokens
    total                                     contrast · CLIP + ½ (CE(p_I, q_I) + CE(p_T, q_T)),
                                              p = softmax of the teacher's s·I·Tᵀ by rows and columns, q ours

    The teacher rests: it has no gradient, is in no checkpoint, and is not left behind. Where its vocabulary
    spells a caption of which ours knows no word, it may be shown another caption of the same image.
    """

    Config = DistilConfig
    config: DistilConfig

    def __init__(self, config: DistilConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        weights = config.teacher.weights
        # in a tuple, because it is neither this module's state nor its parameters
        self._teacher = () if weights is None else (self._resting(Path(weights)),)

    def _resting(self, folder: Path) -> ImageText:
        from mmssl.methods.artifact import load_method  # knows all methods, this one among them

        with torch.random.fork_rng(devices=[]):  # the student's first weights do not depend on the teacher
            found = load_method(folder)
        if not isinstance(found, ImageText):
            what = "no method" if found is None else f"a {found.config.name}"
            raise MmsslError(
                f"distil: teacher.weights: {folder} has {what}; expected what a stage of clip, siglip, "
                "ms_clip or distil leaves"
            )
        ours = self.config
        shown = {"augmentation": ours.augmentation, "field": ours.field, "captions": ours.captions}
        found.config = found.config.model_copy(update=shown)
        found.data = self.data
        return found.requires_grad_(False).eval()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for teacher in self._teacher:  # it goes where the student goes
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @property
    def teacher(self) -> ImageText:
        """Raises: MmsslError if this student was loaded without."""
        if not self._teacher:
            raise MmsslError(
                "distil: teacher.weights: missing; expected STAGE:method, or a folder with method.json"
            )
        return self._teacher[0]

    @property
    def views(self) -> Mapping[str, View]:
        views = dict(super().views)
        for teacher in self._teacher:
            views |= {f"teacher_{name}": SameDraws(view, name) for name, view in teacher.views.items()}
        return views

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors (B, d) of ``image`` and ``text``; and the teacher's, (B, D) without gradient."""
        z = super().embed(batch)
        for teacher in self._teacher:
            seen: dict[str, Any] = {name: batch[f"teacher_{name}"] for name in ("image", "text")}
            with torch.no_grad():
                theirs = teacher.embed(Batch(batch | seen))
            z |= {f"teacher_{name}": theirs[name] for name in ("image", "text")}
        return z

    def align(self, image: Tensor, text: Tensor, keys: Tensor) -> Alignment:
        return clip_loss(image, text, self.logit_scale.exp(), keys)

    def loss_of(self, embeddings: Mapping[str, Tensor], batch: Batch) -> Loss:
        z, scales = embeddings, (self.logit_scale.exp(), self.teacher.logit_scale.exp())
        contrast = super().loss_of(z, batch)
        taught = distil_loss(
            z["image"], z["text"], scales[0], z["teacher_image"], z["teacher_text"], scales[1]
        )
        total = self.config.contrast * contrast.total + taught
        parts = {"contrast": contrast.total.detach(), "taught": taught.detach()}
        return Loss(total, contrast.parts | parts, contrast.embedding)
