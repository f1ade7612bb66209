"""The only view of a view of several: its tensor without the axis of views."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mmssl.stream.sample import Sample
from mmssl.stream.views.base import View
from mmssl.stream.views.contrastive import ContrastiveViews
from mmssl.stream.views.draws import Draws


class Single(View):
    """(B, 3, size, size) float32, normalised: what ``views``, of one augmentation, makes of each sample."""

    def __init__(self, views: ContrastiveViews) -> None:
        self.views = views
        self.fields, self.optional = views.fields, views.optional

    def read(self, sample: Sample, draws: Draws) -> Tensor:
        return self.views.read(sample, draws)

    def prepare(self, items: Sequence[Tensor], draws: Draws) -> Tensor:
        return self.views.prepare(items, draws)

    def finish(self, x: Any, draws: Draws) -> Tensor:
        (alone,) = self.views.finish(x, draws).unbind(dim=1)
        return alone
