"""Health of a representation, without labels: has it collapsed, and how well does it fill its space?"""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import normalize, pdist

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class HealthConfig(EvaluationConfig):
    """Rank, spread and uniformity of the features of the query split."""

    name: Literal["health"] = "health"
    encoder: str = "image"
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
            ),
            Score(
                "health/effective_rank", "rank", effective_rank(x), "dimensions",
                f"exp of the entropy of normalised covariance eigenvalues; {about}", 1.0, most,
            ),
            Score(
                "health/spread", "std × √d", spread(x), "",
                f"mean std of a dimension of unit features, × √d; 0 = collapsed, 1 = isotropic; {about}",
                0.0, 1.0,
            ),
            Score(
                "health/uniformity", "log potential", uniformity(spaced(x, 2048)), "",
                f"log mean exp(-2 ‖a − b‖²) over pairs of unit features; lower is more uniform; {about}",
                0.0, -4.0,
            ),
        ]  # fmt: skip


def rankme(x: Tensor) -> float:
    """RankMe (Garrido et al., ICML 2023, eq. 1): exp H(σ / Σσ) of (N, d) features, in 1..min(N, d)."""
    return _perplexity(torch.linalg.svdvals(x.double()))


def effective_rank(x: Tensor) -> float:
    """exp H(λ / Σλ), λ the covariance's eigenvalues (Roy & Vetterli, EUSIPCO 2007)."""
    centred = x.double() - x.double().mean(0)
    return _perplexity(torch.linalg.svdvals(centred).square())


def spread(x: Tensor) -> float:
    """Mean over dimensions of the std of L2-normalised features, × √d (Chen & He, SimSiam, section 4.1)."""
    return float(normalize(x.double(), dim=1).std(0, correction=0).mean()) * x.shape[1] ** 0.5


def uniformity(x: Tensor) -> float:
    """log E exp(−2‖a − b‖²) over pairs of L2-normalised rows (Wang & Isola, ICML 2020, eq. 7 with t = 2)."""
    squared = pdist(normalize(x.double(), dim=1)).square()
    return float((-2 * squared).exp().mean().log()) if len(squared) else 0.0


def spaced(x: Tensor, most: int) -> Tensor:
    """At most ``most`` rows, evenly spaced: the same rows every time."""
    return x if len(x) <= most else x[torch.linspace(0, len(x) - 1, most).round().long()]


def _perplexity(weights: Tensor) -> float:
    share = weights / weights.sum().clamp_min(1e-12)
    return float(torch.special.entr(share).sum().exp())
