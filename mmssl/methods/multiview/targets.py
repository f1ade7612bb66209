"""What one sight of a sample asks of a predictor: which channels, where they are known, how far off it is."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.losses.pixel_prediction import pixel_cross_entropy, pixel_distance
from mmssl.methods.base import Answers
from mmssl.stream.views.shown import Shown

_UNITS = {
    "rgb": "of 1",
    "L": "L*",
    "ab": "a*b*",
    "Y": "of 1",
    "CbCr": "of 1",
    "O3": "of √3",
    "O12": "of 1",
    "depth": "ln m",
    "normals": "°",
    "flow": "px",
    "segmentation": "%",
}
_WHAT = {
    "depth": "|Δ ln depth|",
    "normals": "angle between normals",
    "flow": "end-point error a gap, in pixels of the view,",
    "segmentation": "share of pixels with the right class",
}


class Target:
    """The pixels of one view as a predictor sees them; ``x`` (B, C, S, S) float32 is normalised as shown."""

    def __init__(self, shown: Shown, norm: Literal["l1", "l2"]) -> None:
        self.shown, self.norm = shown, norm
        self.classes = shown.sees == "segmentation"
        self.channels = 1 if shown.sees == "depth" else shown.channels
        """How many are predicted: of depth not the one that says where it is known."""

    def physical(self, x: Tensor) -> Tensor:
        """The channels of ``x`` (B, c, …), c ≤ C, before they were normalised."""
        c = x.shape[1]
        mean, std = (x.new_tensor(values[:c]).view(c, 1, 1) for values in (self.shown.mean, self.shown.std))
        return x * std + mean

    def known(self, x: Tensor) -> Tensor:
        """(B, S, S) bool: where the truth is known, as far as ``x`` says so; of a flow it does not."""
        raw = self.physical(x)
        if self.shown.sees == "depth":
            return raw[:, 1] > 0.5
        if self.shown.sees in ("normals", "segmentation"):
            return raw.square().sum(dim=1) > 0.25
        return torch.ones_like(raw[:, 0], dtype=torch.bool)

    def loss(self, prediction: Tensor, x: Tensor, known: Tensor) -> Tensor:
        """Of a prediction (B, c, S, S): cross-entropy of classes, else a distance in normalised units."""
        if self.classes:
            return pixel_cross_entropy(prediction, x.argmax(dim=1), known)
        return pixel_distance(prediction, x[:, : self.channels], known, self.norm)

    def answers(self, prediction: Tensor, x: Tensor, known: Tensor) -> Answers:
        """Mean error of every sample that knows any pixel, beside that of guessing the batch's mean."""
        guess = self._mean(x[:, : self.channels], known)
        own, guessed = (self._per_sample(self._errors(p, x), known) for p in (prediction, guess))
        sees, unit = self.shown.sees, _UNITS[self.shown.sees]
        what = _WHAT.get(sees, "|Δ|")
        blind = "its most frequent class" if self.classes else "its mean over all known pixels"
        return Answers(
            own,
            f"{what} over the known pixels of {self.shown.size} px views; chance guesses "
            f"{blind}, of the same batch",
            unit=unit,
            chance=float(guessed.mean()) if len(guessed) else 0.0,
            better="higher" if self.classes else "lower",
        )

    def painted(self, prediction: Tensor) -> Tensor:
        """A prediction (B, c, S, S) in the form of ``x``, (B, C, S, S)."""
        if self.classes:
            one_hot = torch.zeros_like(prediction).scatter_(1, prediction.argmax(dim=1, keepdim=True), 1.0)
            mean, std = (
                one_hot.new_tensor(values).view(-1, 1, 1) for values in (self.shown.mean, self.shown.std)
            )
            return (one_hot - mean) / std
        if self.channels < self.shown.channels:
            everywhere = (1.0 - self.shown.mean[-1]) / self.shown.std[-1]
            return torch.cat([prediction, torch.full_like(prediction, everywhere)], dim=1)
        return prediction

    def _errors(self, prediction: Tensor, x: Tensor) -> Tensor:
        """(B, S, S) of each pixel, in the sight's own unit."""
        if self.classes:
            return (prediction.argmax(dim=1) == x.argmax(dim=1)).float()
        guess, truth = (self.physical(part) for part in (prediction.float(), x[:, : self.channels].float()))
        if self.shown.sees == "normals":
            # atan2 stays exact for small angles, where the arc cosine of a rounded product does not
            a, b = normalize(guess, dim=1), normalize(truth, dim=1)
            return torch.atan2(torch.linalg.cross(a, b, dim=1).norm(dim=1), (a * b).sum(dim=1)).rad2deg()
        if self.shown.sees == "flow":
            fields = (guess - truth).unflatten(1, (-1, 2)) * self.shown.size
            return fields.norm(dim=2).mean(dim=1)
        return (guess - truth).abs().mean(dim=1)

    def _mean(self, x: Tensor, known: Tensor) -> Tensor:
        """The best that can be said without looking, in the shape of ``x``."""
        weight = known[:, None].to(x.dtype)
        total = (x.masked_fill(weight == 0, 0.0)).sum(dim=(0, 2, 3), keepdim=True)
        return (total / weight.sum().clamp_min(1)).expand_as(x)

    @staticmethod
    def _per_sample(errors: Tensor, known: Tensor) -> Tensor:
        count = known.sum(dim=(1, 2))
        return (errors.masked_fill(~known, 0.0).sum(dim=(1, 2)) / count.clamp_min(1))[count > 0]
