"""What segmentation, depth and normals share: a head fitted on the gallery, asked once on the queries."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn.functional import interpolate

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.dense.heads import DecoderFit, Fitted, Gallery, decode, hold_out_runs
from mmssl.evaluate.dense.maps import Maps, gather
from mmssl.evaluate.dense.pictures import Compared, write_pictures
from mmssl.evaluate.dense.view import DenseView, Region, Truth

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class DenseConfig(EvaluationConfig):
    """A head on frozen feature maps."""

    encoder: str | None = None
    """By the name of the view it reads, by default the only one there is; ``A+B`` puts maps side by side."""
    field: str
    """What is predicted."""
    region: Region = "centre"
    """The largest square in the centre; or the ``whole`` picture, pressed into the encoder's square."""
    stages: tuple[NonNegativeInt | None, ...] = Field((None,), min_length=1)
    """Whose maps are seen, side by side on the finest grid: see ``FeatureMap``; null is the last one."""
    head: Literal["linear", "decoder"] = "linear"
    """One 1×1 convolution, or a few convolutions: ``heads.Decoder``."""
    decoder: DecoderFit = DecoderFit()
    """How a decoder is fitted."""
    points: PositiveInt = 65536
    """Known pixels of the gallery that a head is fitted to, the same number of every picture."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the gallery's pictures that is held out to choose hyper-parameters."""
    shown: NonNegativeInt = 8
    """Pictures of the queries in the report, evenly spread."""


class Dense(Evaluation):
    """``NAME/HEAD``: predictions at the truth's own resolution, of known pixels.

    Input, truth and prediction stand in ``pictures/NAME.png``.
    """

    config: Any
    outputs: int
    """K, the channels of a prediction."""

    def run(self, subject: "Subject") -> list[Score]:
        config: DenseConfig = self.config
        if not subject.manifest.fields.get(config.field):
            has = ", ".join(sorted(subject.manifest.fields)) or "nothing"
            raise MmsslError(
                f"evaluation {config.name}: field: {config.field!r}, but shard set {subject.manifest.name!r} "
                f"has {has}"
            )
        maps = Maps(subject, config.encoder, config.stages, config.name)
        truth = self.truth(subject)
        decoder = config.head == "decoder"
        gallery = gather(subject, maps, truth, config.region, config.points, keep_maps=decoder)
        fitted = self._fit(gallery, subject.seed)
        self.begin(gallery)
        compared = []
        pictures = subject.part(subject.queries).samples
        wanted = set(torch.linspace(0, pictures - 1, min(config.shown, pictures)).round().int().tolist())
        scored = unknown = number = 0
        grid: tuple[int, ...] = ()
        for seen, answers, true in self._answers(subject, maps, truth, fitted):
            grid = answers.shape[2:]
            for row, one in enumerate(true):
                known = truth.known(one)
                picture = {name: x[row] for name, x in seen.items()}
                if number in wanted and subject.folder is not None:
                    drawn = self.drawn(upsampled(answers[row], known.shape))
                    compared.append(Compared(picture, one, drawn))
                number += 1
                if not known.any():
                    unknown += 1
                    continue
                predicted = upsampled(answers[row], known.shape)[:, known.to(answers.device)]
                self.compare(predicted.cpu(), one[:, known])
                scored += 1
        if not scored:
            raise MmsslError(
                f"shard set {subject.manifest.name!r}: {subject.queries}: {config.field}: no known pixel; "
                "expected some to score"
            )
        words = self._words(subject, maps, gallery, fitted, grid, scored, unknown, pictures - number)
        write_pictures(subject.folder, config.name, maps.shown, truth.modality, compared)
        return self.scores(subject, f"{config.name}/{config.head}", words)

    def _fit(self, gallery: Gallery, seed: int) -> Fitted:
        config: DenseConfig = self.config
        generator = torch.Generator().manual_seed(seed)
        train, held_out = hold_out_runs(len(gallery), config.validation, generator)
        if config.head == "linear":
            return self.linear(gallery, train, held_out, generator)
        bias = self.blind(gallery.truth[train].flatten(0, 1))
        return decode(
            gallery, train, held_out, self.outputs, config.decoder, self.loss, self.judge, bias, generator
        )

    def _answers(
        self, subject: "Subject", maps: Maps, truth: Truth, fitted: Fitted
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, list[Tensor]]]:
        """What the encoders saw, what the head says of it (B, K, h, w), and the truth (C, H, W) of each."""
        view = DenseView(maps.shown, truth, self.config.region)
        head = fitted.head.to(subject.device)
        what = f"{self.config.name} of {subject.queries}"
        with torch.inference_mode():
            for batch in subject.scan(subject.queries, view, what, min(subject.batch_size, 32)):
                seen = {name: batch.input[name] for name in maps.shown}
                sizes = batch.input["_size"].tolist()
                true = [
                    x[:, :height, :width]
                    for x, (height, width) in zip(batch.input["_truth"], sizes, strict=True)
                ]
                yield seen, head(maps(batch.input)), true

    def _words(
        self,
        subject: "Subject",
        maps: Maps,
        gallery: Gallery,
        fitted: Fitted,
        grid: tuple[int, ...],
        scored: int,
        unknown: int,
        unreadable: int,
    ) -> str:
        config: DenseConfig = self.config
        seen = " + ".join(f"{shown.sees} of {shown.size} px" for shown in maps.shown.values())
        where = "largest square in the centre" if config.region == "centre" else "whole picture, as a square"
        stages = "+".join("last" if stage is None else f"stage {stage}" for stage in config.stages)
        left_out = [
            f"{count} {what}"
            for count, what in ((unknown, "without a known pixel"), (unreadable, "unreadable"))
            if count
        ]
        return (
            f"{config.head} head on the frozen map ({stages}, standardised), {seen}, {where}; fitted on "
            f"{gallery.truth.shape[1]} known pixels of each of {len(gallery)} of {subject.gallery}, "
            f"{fitted.words}, chosen on {config.validation:.0%} held out; {scored} of {subject.queries} "
            "scored once"
            + (f" ({', '.join(left_out)} left out)" if left_out else "")
            + f", {grid[1]}x{grid[0]} predictions brought to the truth's resolution bilinearly"
        )

    @abstractmethod
    def truth(self, subject: "Subject") -> Truth:
        """What is asked of the samples; sets ``outputs``."""

    @abstractmethod
    def linear(self, gallery: Gallery, train: Tensor, held_out: Tensor, generator: torch.Generator) -> Fitted:
        """Fit a linear head."""

    @abstractmethod
    def loss(self, answers: Tensor, truth: Tensor) -> Tensor:
        """What a decoder minimises: answers (n, K) float32, truth (n, C)."""

    @abstractmethod
    def judge(self, answers: Tensor, truth: Tensor) -> float:
        """How bad answers are on the held-out points; takes what ``loss`` does."""

    @abstractmethod
    def blind(self, truth: Tensor) -> Tensor:
        """(K,) the answer that ignores the picture, of truth (n, C)."""

    @abstractmethod
    def begin(self, gallery: Gallery) -> None:
        """Before the queries: forget earlier ones, and remember what guessing would answer."""

    @abstractmethod
    def compare(self, answers: Tensor, truth: Tensor) -> None:
        """One picture of the queries: answers (K, n) and truth (C, n) of its known pixels."""

    @abstractmethod
    def drawn(self, answers: Tensor) -> Tensor:
        """The prediction as the truth is stored, (C, H, W), of answers (K, H, W)."""

    @abstractmethod
    def scores(self, subject: "Subject", evaluation: str, protocol: str) -> list[Score]:
        """What was found; leaves tables for the report."""


def upsampled(answers: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """(K, h, w) to (K, H, W), bilinear."""
    return interpolate(answers[None], tuple(size), mode="bilinear", align_corners=False)[0]
