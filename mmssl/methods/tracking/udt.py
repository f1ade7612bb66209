"""UDT: Unsupervised Deep Tracking (Wang et al., CVPR 2019)."""

from typing import Literal

import torch
from pydantic import Field, PositiveInt

from mmssl.methods.base import Loss
from mmssl.methods.tracking.cycle import Cycle, CycleConfig
from mmssl.stream.batch import Batch
from mmssl.stream.views.tracked_crops import Start


class UDTConfig(CycleConfig):
    name: Literal["udt"] = "udt"
    drop: float = Field(0.1, ge=0, lt=1)
    within: PositiveInt = 10
    start: Start = "centre"
    """Where the crop lies: in the middle of the frame (section 3.4), on a place drawn for each sample, or on
    something textured that it follows, as LUDT's."""


class UDT(Cycle):
    """What a tracker follows forward through two frames, it should find again on the way back.

    batch.crops   (B, 3, 3, side, side) float32, normalised: T, S1, S2, each cut out around its frame's middle
    total         Σ_i w_i ‖R̃_T − y‖² of T → S1 → S2 → T (sections 3.2 and 3.3); see ``Cycle.weighted``
    """

    Config = UDTConfig
    config: UDTConfig
    search = 2

    @property
    def start(self) -> Start:
        """Where the box is."""
        return self.config.start

    def forward(self, batch: Batch) -> Loss:
        crops = batch.crops
        ends = self.look(crops[:, ::2].transpose(0, 1).flatten(0, 1))  # T and S2 of all samples
        t, s2 = self.band.spectrum(ends).chunk(2)
        with torch.no_grad():
            s1 = self.band.spectrum(self.look(crops[:, 1]))  # only passed through
        passed = self.forward_pass([t, s1, s2])
        returned = self.follow(s2, passed.labels[:, -1], t)
        total, parts = self.weighted(returned, passed.responses)
        z = self.embedding(ends[: len(crops)])
        return Loss(total, parts | self.report(returned, passed), z)
