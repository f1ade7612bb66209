"""How far is what a pixel shows? A head on frozen feature maps that predicts the logarithm of metres."""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor
from torch.nn.functional import mse_loss

from mmssl.evaluate.base import Score
from mmssl.evaluate.dense.heads import Fitted, Gallery, ridge
from mmssl.evaluate.dense.measures import DEPTHS, NEAREST, depth_errors
from mmssl.evaluate.dense.probe import Dense, DenseConfig
from mmssl.evaluate.dense.view import Truth
from mmssl.evaluate.resample import bootstrap, mean

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

_UNITS = {"RMSE": "m", "log10": "log10 m", "AbsRel": "", "SILog": "× 100"}


class DepthConfig(DenseConfig):
    """Depth by a head on frozen feature maps. NYU's protocol: ``{region: whole, crop: eigen, cap: 10}``."""

    name: Literal["depth"] = "depth"
    field: str = "depth"
    cap: PositiveFloat | None = None
    """Metres: true depths beyond it are unknown, predicted ones are cut to it."""
    crop: Literal["eigen"] | None = None
    """What is asked of a whole picture: Eigen's crop of NYU, see ``view.EIGEN``; by default all of it."""
    median_scaling: bool = False
    """Multiply each prediction so that its median is the truth's: forgives a wrong scale."""
    l2: tuple[NonNegativeFloat, ...] = Field((1e-3, 1e-2, 0.1, 1.0, 10.0), min_length=1)
    """Penalties λ of the linear head's least squares, on standardised features."""

    @model_validator(mode="after")
    def _whole(self) -> "DepthConfig":
        if self.crop is not None and self.region != "whole":
            raise ValueError(f"crop: {self.crop} is of whole pictures; expected region: whole")
        return self


class Depth(Dense):
    """AbsRel, RMSE, log10, SILog and the shares of pixels within 1.25, 1.25² and 1.25³ of the truth.

    Each is computed of a picture's known pixels, and averaged over pictures.
    """

    Config = DepthConfig
    outputs = 1

    def truth(self, subject: "Subject") -> Truth:
        return Truth(self.config.field, cap=self.config.cap, eigen=self.config.crop == "eigen")

    def linear(self, gallery: Gallery, train: Tensor, held_out: Tensor, generator: torch.Generator) -> Fitted:
        return ridge(_logarithms(gallery), train, held_out, self.config.l2, _squared)

    def loss(self, answers: Tensor, truth: Tensor) -> Tensor:
        return mse_loss(answers, truth.log())

    def judge(self, answers: Tensor, truth: Tensor) -> float:
        return _squared(answers, truth.log())

    def blind(self, truth: Tensor) -> Tensor:
        """The mean logarithm."""
        return truth.log().mean(0)

    def begin(self, gallery: Gallery) -> None:
        self.typical = self.blind(gallery.truth.flatten(0, 1)).cpu()
        self.errors: list[Tensor] = []
        self.guessed: list[Tensor] = []

    def compare(self, answers: Tensor, truth: Tensor) -> None:
        for kept, log in ((self.errors, answers[0]), (self.guessed, self.typical.expand(truth.shape[1]))):
            metres = log.double().exp()
            if self.config.median_scaling:
                metres = metres * (truth[0].double().median() / metres.median())
            kept.append(depth_errors(metres.clamp(NEAREST, self.config.cap), truth[0]))

    def drawn(self, answers: Tensor) -> Tensor:
        return answers.exp().clamp(NEAREST, self.config.cap).cpu()

    def scores(self, subject: "Subject", evaluation: str, protocol: str) -> list[Score]:
        config: DepthConfig = self.config
        options = [
            "Eigen's crop" if config.crop else "no crop",
            f"depths up to {config.cap:g} m" if config.cap else "no cap",
            "scaled by medians" if config.median_scaling else "no median scaling",
        ]
        protocol = (
            f"{protocol}; predicts ln of metres, squared error; errors of each picture's known pixels, mean "
            f"over pictures; {', '.join(options)}; chance says {float(self.typical.exp()):.2f} m everywhere, "
            "the gallery's geometric mean; 95 % over pictures"
        )
        errors, guessed = torch.stack(self.errors), torch.stack(self.guessed)
        found = []
        for number, metric in enumerate(DEPTHS):
            share = metric.startswith("δ")
            factor = 100.0 if share else 1.0
            own = torch.stack([errors[:, number], torch.ones(len(errors), dtype=torch.float64)], dim=1)
            resampled = bootstrap(factor * own * torch.tensor([1.0, 1 / factor]), mean, subject.seed)
            found.append(
                Score(
                    evaluation,
                    metric,
                    factor * float(errors[:, number].mean()),
                    "%" if share else _UNITS[metric],
                    protocol,
                    chance=factor * float(guessed[:, number].mean()),
                    ceiling=100.0 if share else 0.0,
                    better="higher" if share else "lower",
                    interval=None if resampled is None else resampled.interval,
                )
            )
        return found


def _logarithms(gallery: Gallery) -> Gallery:
    return Gallery(gallery.maps, gallery.rows, gallery.at, gallery.truth.log())


def _squared(answers: Tensor, truth: Tensor) -> float:
    return float(mse_loss(answers, truth))
