"""Where the flow of aligned views is known, for those who predict it: encoders are shown zeros elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mmssl.stream.sample import Sample
from mmssl.stream.views.aligned import AlignedViews
from mmssl.stream.views.aligned_clips import AlignedClips
from mmssl.stream.views.base import View
from mmssl.stream.views.draws import Draws
from mmssl.stream.views.shown import Shown


class KnownFlow(View):
    """What ``look`` shows, and of every flow in it ``NAME.known`` (B, S, S) bool: all fields are known."""

    def __init__(self, look: AlignedViews | AlignedClips) -> None:
        self.look = look
        self.fields, self.optional = look.fields, look.optional
        self.flows: Mapping[str, Shown] = {name: s for name, s in look.shown.items() if s.sees == "flow"}

    def read(self, sample: Sample, draws: Draws) -> Any:
        return self.look.read(sample, draws)

    def prepare(self, items: Sequence[Any], draws: Draws) -> dict[str, Tensor]:
        return self.look.prepare(items, draws)

    def finish(self, x: Any, draws: Draws) -> dict[str, Tensor]:
        known = {}
        for name, s in self.flows.items():
            pixels = x[name] if name in x else x[f"{s.field}.{s.size}"]
            known[f"{name}.known"] = pixels.isfinite().flatten(1, -3).all(dim=1)
        return self.look.finish(x, draws) | known
