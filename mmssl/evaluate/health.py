"""Health of a representation, without labels: has it collapsed, and how well does it fill its space?"""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.models.spectrum import effective_rank, rankme, spread, uniformity

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class HealthConfig(EvaluationConfig):
    """Rank, spread and uniformity of the features of the query split."""

    name: Literal["health"] = "health"
    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    samples: PositiveInt = 4096
    """At most so many samples, evenly spaced over the split; uniformity compares all pairs of 2048."""


class Health(Evaluation):
    """RankMe, effective rank of the covariance, per-dimension spread, uniformity."""

    Config = HealthConfig

    def run(self, subject: "Subject") -> list[Score]:
        features = subject.features(subject.queries, self.config.encoder)
        x = spaced(features.x, self.config.samples)
        images = subject.about(subject.queries, encoder=self.config.encoder)
        about = f"{len(x)} of {subject.queries}, dimension {x.shape[1]}; {images}"
        most = float(min(x.shape))
        return [
            Score(
                "health/rankme", "rank", rankme(x), "dimensions",
                f"exp of the entropy of normalised singular values; {about}", 1.0, most,
                headline=False,
            ),
            Score(
                "health/effective_rank", "rank", effective_rank(x), "dimensions",
                f"exp of the entropy of normalised covariance eigenvalues; {about}", 1.0, most,
                headline=False,
            ),
            Score(
                "health/spread", "std × √d", spread(x), "",
                f"mean std of a dimension of unit features, × √d; 0 = collapsed, 1 = isotropic; {about}",
                0.0, 1.0, headline=False,
            ),
            Score(
                "health/uniformity", "log potential", uniformity(spaced(x, 2048)), "",
                f"log mean exp(-2 ‖a − b‖²) over pairs of unit features; lower is more uniform; {about}",
                0.0, -4.0, better="lower", headline=False,
            ),
        ]  # fmt: skip


def spaced(x: Tensor, most: int) -> Tensor:
    """At most ``most`` rows, evenly spaced: the same rows every time."""
    return x if len(x) <= most else x[torch.linspace(0, len(x) - 1, most).round().long()]
