"""A second look at what another view shows: the same crop and caption, in another size or other tokens."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from mmssl.stream.sample import Sample
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws


class SameDraws(View):
    """What ``view`` gives with the random numbers of the view that is called ``name``."""

    def __init__(self, view: View, name: str) -> None:
        self.view, self.name = view, name
        self.fields, self.optional = view.fields, view.optional

    def read(self, sample: Sample, draws: Draws) -> Any:
        return self.view.read(sample, replace(draws, name=self.name))

    def prepare(self, items: Sequence[Any], draws: Draws) -> Tensor | dict[str, Tensor]:
        return self.view.prepare(items, replace(draws, name=self.name))

    def finish(self, x: Any, draws: Draws) -> Tensor | dict[str, Tensor]:
        return self.view.finish(x, replace(draws, name=self.name))
