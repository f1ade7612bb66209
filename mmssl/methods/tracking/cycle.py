"""What UDT and LUDT share: crops of a few frames, maps of them, and a trajectory there and back."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator
from torch import Tensor
from torch.nn.functional import cosine_similarity

from mmssl.distributed import gather, rank, world_size
from mmssl.errors import MmsslError
from mmssl.methods.base import Answers, DataInfo, Method, MethodConfig
from mmssl.models.correlation_filter import Band, Size, cut_off, gaussian, peaks, rolled
from mmssl.models.dcfnet import PIXELS
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.models.feature_map import FeatureMap
from mmssl.stream.batch import Batch
from mmssl.stream.clips.following import Following
from mmssl.stream.views.base import View
from mmssl.stream.views.tracked_crops import Start, TrackedCrops

NEAR = 2.0
"""Cells: a cycle that ends this close to its start has come back."""


class CycleConfig(MethodConfig):
    """The settings of both methods; those without a reference are the same in both papers."""

    encoder: EncoderConfig = EncoderConfig(name="dcfnet", image_size=125, std=PIXELS)
    """What sees the crops; ``image_size`` is their side."""
    stage: NonNegativeInt | None = None
    """Of which stage of the backbone the map is (see ``FeatureMap``); the last by default."""
    margin: NonNegativeInt = 2
    """Cells cut off every side of the map, because padding was seen there: 125 leaves 121."""
    padding: NonNegativeFloat = 2.0
    """Context around the box in its widths: the crop is 1 + padding as wide."""
    lam: PositiveFloat = 1e-4
    """λ of the ridge regression."""
    sigma: PositiveFloat = 0.1
    """Width of the label y, as a share of the box."""
    drop: float = Field(ge=0, lt=1)
    """Share of the samples, those of the largest losses, that is left out."""
    within: PositiveInt
    """Frames after the template that search frames are drawn from, at the video's own rate."""
    field: str = "video"
    """The video, or one camera of several."""

    @field_validator("encoder", mode="before")
    @classmethod
    def _on_top_of_dcfnet(cls, value: object) -> object:
        """A recipe that names no other network keeps DCFNet, its size and its statistics."""
        if isinstance(value, dict) and value.get("name", "dcfnet") == "dcfnet":
            return cls.model_fields["encoder"].default.model_dump() | value
        return value


class Forward(NamedTuple):
    """What B templates led to in the n search frames; nothing of it has a gradient."""

    responses: Tensor
    """R (B, n, H, W) float32."""
    labels: Tensor
    """(B, n, H, W): y with its peak moved to the response's: what the way back starts from."""


class Cycle(Method):
    """Forward through the search frames without gradient, and back to the template with it.

    batch.crops   (B, 1 + S, 3, side, side) float32, normalised with the encoder's statistics: T, S1, S2 …
    """

    config: CycleConfig
    search: int
    """S, how many frames follow the template."""
    y: Tensor
    """(H, W) float32: the label of a target that has not moved, its peak at (0, 0)."""

    def __init__(self, config: CycleConfig, data: DataInfo) -> None:
        super().__init__(config, data)
        self.map = FeatureMap(build_encoder(config.encoder), config.stage)
        side = config.encoder.image_size
        with torch.no_grad():
            height, width = cut_off(self.look(torch.zeros(1, 3, side, side)), config.margin).shape[-2:]
        if min(height, width) < 3:
            raise MmsslError(
                f"{config.name}: margin: {config.margin} cells off every side leave a map of {height} × "
                f"{width}; expected at least 3 × 3"
            )
        self.stride = side / (height + 2 * config.margin)
        self.size: Size = (height, width)
        box = side / (1 + config.padding) / self.stride
        self.register_buffer("y", gaussian(self.size, config.sigma * box), persistent=False)
        self.band = Band(self.size, config.sigma * box, margin=config.margin)

    @property
    @abstractmethod
    def start(self) -> Start:
        """Where the box is."""

    def look(self, crops: Tensor) -> Tensor:
        """Maps (B, C, h, w) of crops (B, 3, side, side), with their margins; ``band`` leaves those out."""
        return self.map(crops.contiguous(memory_format=torch.channels_last))

    def embedding(self, maps: Tensor) -> Tensor:
        """(B, C) the means of maps without their margins, for the health of the run."""
        return cut_off(maps.detach(), self.config.margin).float().mean(dim=(2, 3))

    @property
    def views(self) -> Mapping[str, View]:
        c, e = self.config, self.config.encoder
        sampler = Following(self.search, c.within)
        return {"crops": TrackedCrops(sampler, e.image_size, e.mean, e.std, c.padding, self.start, c.field)}

    def encoders(self) -> Mapping[str, Encoder]:
        return {"image": self.map.encoder}

    def forward_pass(self, spectra: Sequence[Tensor]) -> Forward:
        """T → S1 → … → Sn, of the spectra (B, 2, R, K, C) of their n + 1 maps."""
        label, responses, labels = self.y, [], []
        with torch.no_grad():
            for here, there in pairwise(spectra):
                response = self.follow(here, label, there)
                label = rolled(self.y, peaks(response))
                responses.append(response)
                labels.append(label)
        return Forward(torch.stack(responses, dim=1), torch.stack(labels, dim=1))

    def follow(self, x: Tensor, label: Tensor, z: Tensor) -> Tensor:
        """R (B, H, W): where the filter of frames of spectra ``x`` and a label finds it in those of ``z``."""
        alpha = self.band.fit(x, self.band.spectrum_of_label(label), self.config.lam)
        return self.band.answer(alpha, x, z)

    def weighted(self, returned: Tensor, responses: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ_i w_i ‖R̃_T − y‖²_i of one trajectory, and what to log of it.

        The norm counts each cell exp(y)-fold. w_i is 0 for the ``drop`` worst samples of all ranks (rounded
        down), and else how much sample i moved, ‖R_S1 − y‖² + ‖R_S1 − R_S2‖² + …, over their sum.

        Args:
            returned: R̃_T (B, H, W).
            responses: R (B, n, H, W) of the frames on the way.
        """
        y = self.y
        losses = ((returned - y).square() * y.exp()).sum(dim=(1, 2))
        steps = torch.cat([y.expand_as(responses[:, :1]), responses], dim=1).diff(dim=1)
        motion = steps.square().sum(dim=(1, 2, 3))
        of_all, motions = gather(torch.stack([losses.detach(), motion], dim=1), gradient=False).unbind(1)
        worst = of_all.argsort(descending=True)[: int(self.config.drop * len(of_all))]
        w = motions.index_fill(0, worst, 0.0)
        w = w / w.sum().clamp(min=torch.finfo(w.dtype).tiny) * world_size()  # ranks are averaged
        mine = w[rank() * len(losses) : (rank() + 1) * len(losses)]
        return (mine * losses).sum(), {
            "dropped": (w == 0).float().mean(),
            "effective_samples": w.sum().square() / w.square().sum(),
            "squared_error": of_all.mean(),
        }

    def report(self, returned: Tensor, passed: Forward) -> dict[str, Tensor]:
        """How far cycles end from their start (pixels); likeness of responses and pseudo-labels (cosine)."""
        error = self.stride * distances(returned)
        likeness = cosine_similarity(passed.responses.flatten(2), passed.labels.flatten(2), dim=2)
        return {
            "cycle_error": error.mean(),
            "returned": (error <= NEAR * self.stride).float().mean(),
            "agreement": likeness.mean(),
        }

    @torch.no_grad()
    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """Does the longest cycle through frames of unseen videos end where it began?"""
        spectra = [self.band.spectrum(self.look(crops)) for crops in batch.crops.unbind(1)]
        labels = self.forward_pass(spectra).labels
        error = distances(self.follow(spectra[-1], labels[:, -1], spectra[0]))
        anywhere = distances(torch.eye(self.y.numel(), device=error.device).view(-1, *self.size))
        way = " → ".join(["T", *(f"S{n + 1}" for n in range(self.search)), "T"])
        about = (
            f"{way}, search frames from the next {self.config.within}; a map of {self.size[0]} × "
            f"{self.size[1]} cells, {self.stride:g} pixels of the crop each"
        )
        return {
            "cycles that return": Answers(
                (error <= NEAR).float(),
                f"within {NEAR:g} cells of the start; {about}",
                chance=float((anywhere <= NEAR).float().mean()),
            ),
            "cycle error": Answers(
                error,
                f"cells from the start; {about}; chance: anywhere on the map",
                unit="cells",
                better="lower",
                chance=float(anywhere.mean()),
            ),
        }


def distances(response: Tensor) -> Tensor:
    """(B,) cells from no movement to the peak of R (B, H, W)."""
    return peaks(response).float().norm(dim=-1)
