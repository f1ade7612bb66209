"""LUDT: Unsupervised Deep Representation Learning for Real-Time Tracking (Wang et al., IJCV 2021)."""

from typing import Literal

from pydantic import Field, PositiveInt

from mmssl.methods.base import Loss
from mmssl.methods.tracking.cycle import Cycle, CycleConfig
from mmssl.stream.batch import Batch
from mmssl.stream.views.tracked_crops import Start


class LUDTConfig(CycleConfig):
    name: Literal["ludt"] = "ludt"
    drop: float = Field(0.2, ge=0, lt=1)
    within: PositiveInt = 20


class LUDT(Cycle):
    """UDT with cycles of three lengths, on something that has texture and stays in the crop.

    batch.crops   (B, 4, 3, side, side) float32, normalised: T, S1, S2, S3, cut out around a tracklet
    total         the sum over n = 1, 2, 3 of Σ_i w_i ‖R̃_T − y‖² of T → S1 → … → Sn → T; each trajectory
                  drops and weighs on its own, see ``Cycle.weighted``
    """

    Config = LUDTConfig
    config: LUDTConfig
    search = 3

    @property
    def start(self) -> Start:
        """The most textured place; from there a tracklet leads on."""
        return "textured"

    def forward(self, batch: Batch) -> Loss:
        maps = self.look(batch.crops.transpose(0, 1).flatten(0, 1))
        t, *searched = self.band.spectrum(maps).chunk(1 + self.search)
        passed = self.forward_pass([t, *searched])
        losses = []
        for n, s in enumerate(searched):
            returned = self.follow(s, passed.labels[:, n], t)
            loss, parts = self.weighted(returned, passed.responses[:, : n + 1])
            losses.append(loss)
        z = self.embedding(maps[: len(batch.crops)])
        by_length = {f"loss_{n + 1}": loss.detach() for n, loss in enumerate(losses)}
        return Loss(sum(losses, start=t.new_zeros(())), by_length | parts | self.report(returned, passed), z)
