"""What the methods that predict ahead share: settings, the pool of candidates, and the paper's question."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from pydantic import Field, PositiveFloat, model_validator
from torch import Tensor

from mmssl.distributed import gather, rank
from mmssl.errors import MmsslError
from mmssl.losses.predictive import Negatives, Pool, Prediction, Scoring, admit, predictive_nce, scores
from mmssl.methods.base import Answers, MethodConfig


class PredictiveConfig(MethodConfig):
    score: Scoring = "none"
    """What the dot product of prediction and candidate is divided by."""
    temperature: PositiveFloat | None = None
    """Of ``cosine`` scores, which need one."""
    negatives: Negatives = "all"
    """Which candidates of the global batch a target is told from; their number is logged."""
    candidates: int = Field(default=33, ge=2)
    """N of the held-out accuracy: the target and N - 1 others. From the same sequence there may be fewer."""

    @model_validator(mode="after")
    def _temperature_of_cosine(self) -> "PredictiveConfig":
        if (self.score == "cosine") != (self.temperature is not None):
            raise ValueError("temperature: expected a number with score: cosine, and only there")
        return self

    def nce(self, predicted: Tensor, target: Tensor, pool: Pool) -> Prediction:
        """``predictive_nce`` with these settings."""
        return predictive_nce(
            predicted,
            target,
            pool,
            negatives=self.negatives,
            scoring=self.score,
            temperature=self.temperature or 1.0,
        )


def build_pool(z: Tensor, ids: Tensor, spans: Tensor | None = None, places: int = 1) -> Pool:
    """All ranks' candidates, with gradient, and which of them show the same thing.

    Args:
        z: (B, P, d) this rank's candidates; positions are moments × ``places``, places last.
        ids: (B,) int64 stable sample ids.
        spans: (B, P / places, 2) float64 first and last time in seconds that a moment shows. Candidates of
            one sample whose spans touch are twins where the place is equal: short videos repeat their last
            frame, and a batch that straddles two passes may hold a sample twice. Without spans (images),
            all candidates of the sample's other appearances are.
    """
    everyone, all_ids = gather(z), gather(ids, gradient=False)
    own = torch.arange(len(z), device=z.device) + rank() * len(z)
    related = ids[:, None] == all_ids
    itself = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
    if spans is None:
        again = related & (torch.arange(len(everyone), device=z.device) != own[:, None])
        return Pool(
            everyone, own, related, again[:, None, :, None] | (related[:, None, :, None] & itself[:, None])
        )
    others = gather(spans, gradient=False)
    first, last = spans[:, :, None, None].unbind(-1)
    touch = (first <= others[..., 1]) & (last >= others[..., 0]) & related[:, None, :, None]
    same = touch.repeat_interleave(places, dim=1).repeat_interleave(places, dim=3)
    place = torch.arange(z.shape[1], device=z.device) % places
    return Pool(everyone, own, related, same & (place[:, None] == place)[:, None])


class Ahead(NamedTuple):
    """Predictions one step apart from those of another ``Ahead`` in nothing but how far they reach."""

    steps: int
    """How far: the k of the paper."""
    predicted: Tensor
    """(B, A, d)."""
    target: Tensor
    """(A,) int64 positions."""


def parts(predictions: Sequence[tuple[int, Prediction]]) -> dict[str, Tensor]:
    """What is logged for each k."""
    return {
        f"{name}_{k}": getattr(prediction, name)
        for k, prediction in predictions
        for name in ("accuracy", "negatives", "bound")
    }


def ask_ahead(
    config: PredictiveConfig, aheads: Sequence[Ahead], pool: Pool, ids: Tensor, words: str, axis: str
) -> dict[str, Answers]:
    """Accuracy and reciprocal rank of predicting k steps ahead, with a fixed number of candidates (figure 6).

    Asked twice: with N - 1 candidates from other samples, and with N - 1 positions of the same sequence, or
    all of them where a sequence has fewer. An anchor that finds fewer, in a video that is padded, is left
    out. The candidates are those with the smallest hashes of (sample, position, candidate's sample,
    candidate's position): no generator has a say.

    Args:
        pool: of held-out sequences, of one process.
        ids: (B,) their stable sample ids.
        words: what a step and a candidate are, for the protocol.
        axis: what k counts.

    Raises:
        MmsslError: the batch holds too few samples for N.
    """
    answers: dict[str, Answers] = {}
    policies: tuple[tuple[Negatives, int, str], ...] = (
        ("other_sequences", config.candidates, "other samples"),
        ("same_sequence", min(config.candidates, pool.z.shape[1]), "other positions of the same sequence"),
    )
    for k, predicted, target in aheads:
        score = scores(predicted, pool.z, config.score, config.temperature or 1.0).flatten(2)
        positive = score.gather(2, (pool.own[:, None] * pool.z.shape[1] + target)[:, :, None])
        lot = lots(ids, target, pool)
        for policy, n, where in policies:
            admitted = admit(pool, target, policy).flatten(2)
            asked = admitted.sum(dim=2) >= n - 1
            if not asked.any():
                if policy == "same_sequence":
                    continue  # every video of the batch is padded
                raise MmsslError(
                    f"candidates: {n} are more than {len(ids)} samples of {pool.z.shape[1]} positions offer; "
                    f"expected at most {int(admitted.sum(dim=2).max()) + 1}, or more samples at once"
                )
            drawn = lot.masked_fill(~admitted, _LAST).topk(n - 1, dim=2, largest=False).indices
            # a tie is lost: a representation that says the same of everything knows nothing
            standing = 1 + (score.gather(2, drawn) >= positive).sum(dim=2)[asked]
            protocol = f"{words}; the target among {n}, the others drawn from {where}, fixed by their ids"
            harmonic = sum(1 / r for r in range(1, n + 1)) / n
            told = partial(Answers, protocol=protocol, at=float(k), axis=axis)
            answers |= {
                f"accuracy_{policy}_{k}": told(
                    (standing == 1).float(), chance=1 / n, curve=f"accuracy_{policy}"
                ),
                f"reciprocal_rank_{policy}_{k}": told(
                    1 / standing.float(), chance=harmonic, curve=f"reciprocal_rank_{policy}"
                ),
            }
    return answers


_LAST = torch.iinfo(torch.int64).max


def lots(ids: Tensor, target: Tensor, pool: Pool) -> Tensor:
    """(B, A, M·P) int64: a number for each anchor and candidate, which depends on who they are alone."""
    positions = torch.arange(pool.z.shape[1], device=ids.device)
    candidate = _mixed(_mixed(ids)[:, None] + positions).flatten()
    anchor = _mixed(_mixed(ids)[:, None] + target)
    return _mixed(anchor[:, :, None] * 3 + candidate)


def _mixed(x: Tensor) -> Tensor:
    """Two rounds of multiply and shift (64-bit, wrapping), below the value that stands for none."""
    x = (x + 0x9E3779B97F4A7C1) * 0x2545F4914F6CDD1D
    x = (x ^ (x >> 32)) * 0x369DEA0F31A53F85
    return (x ^ (x >> 29)) % _LAST
