"""Which way does the surface look that a pixel shows? Angles between predicted and true normals."""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from mmssl.evaluate.base import Score
from mmssl.evaluate.dense.heads import Fitted, Gallery, ridge
from mmssl.evaluate.dense.measures import ANGLES, Angles, degrees
from mmssl.evaluate.dense.probe import Dense, DenseConfig
from mmssl.evaluate.dense.view import Truth
from mmssl.evaluate.resample import bootstrap

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class NormalsConfig(DenseConfig):
    """Surface normals by a head on frozen feature maps."""

    name: Literal["normals"] = "normals"
    field: str = "normals"
    l2: tuple[NonNegativeFloat, ...] = Field((1e-3, 1e-2, 0.1, 1.0, 10.0), min_length=1)
    """Penalties λ of the linear head's least squares, on standardised features."""


class Normals(Dense):
    """Mean and median angle, and the shares of pixels below 11.25°, 22.5° and 30°, of all known pixels.

    A linear head is fitted to the vectors by least squares, a decoder to the cosine; of both only the
    direction of an answer counts.
    """

    Config = NormalsConfig
    outputs = 3

    def truth(self, subject: "Subject") -> Truth:
        return Truth(self.config.field)

    def linear(self, gallery: Gallery, train: Tensor, held_out: Tensor, generator: torch.Generator) -> Fitted:
        return ridge(gallery, train, held_out, self.config.l2, self.judge)

    def loss(self, answers: Tensor, truth: Tensor) -> Tensor:
        return (1 - cosine_similarity(answers, truth, dim=1)).mean()

    def judge(self, answers: Tensor, truth: Tensor) -> float:
        return float(degrees(answers, truth).mean())

    def blind(self, truth: Tensor) -> Tensor:
        """The mean direction."""
        return normalize(truth.mean(0), dim=0)

    def begin(self, gallery: Gallery) -> None:
        self.typical = self.blind(gallery.truth.flatten(0, 1)).cpu()
        self.angles, self.guessed = Angles(), Angles()

    def compare(self, answers: Tensor, truth: Tensor) -> None:
        self.angles.add(answers.T, truth.T)
        self.guessed.add(self.typical.expand(truth.shape[1], 3), truth.T)

    def drawn(self, answers: Tensor) -> Tensor:
        return normalize(answers, dim=0).cpu()

    def scores(self, subject: "Subject", evaluation: str, protocol: str) -> list[Score]:
        x, y, z = self.typical.tolist()
        protocol = (
            f"{protocol}; angles over all {int(self.angles.images[:, -1].sum())} known pixels; chance says "
            f"({x:.2f}, {y:.2f}, {z:.2f}) everywhere, the gallery's mean direction; 95 % over pictures"
        )
        images, guessed = self.angles.images, self.guessed.images.sum(0)
        found = []
        for number, metric in enumerate(("mean", *(f"<{angle:g}°" for angle in ANGLES))):
            share = number > 0
            factor = 100.0 if share else 1.0

            def of(sums: Tensor, number: int = number, factor: float = factor) -> Tensor:
                return factor * sums[..., number] / sums[..., -1]

            resampled = bootstrap(images, of, subject.seed)
            found.append(
                Score(
                    evaluation,
                    metric,
                    float(of(images.sum(0))),
                    "%" if share else "°",
                    protocol,
                    chance=float(of(guessed)),
                    ceiling=100.0 if share else 0.0,
                    better="higher" if share else "lower",
                    interval=None if resampled is None else resampled.interval,
                )
            )
        median = Score(
            evaluation,
            "median",
            self.angles.median,
            "°",
            protocol,
            chance=self.guessed.median,
            ceiling=0.0,
            better="lower",
        )
        return [found[0], median, *found[1:]]
