"""Retrieval between pictures and words: does a picture find one of its captions, and a caption its picture?

R@k is the any-hit rate: with several captions a sample, one of them among the first k is enough (Karpathy &
Fei-Fei, CVPR 2015); the reverse way every caption asks for the one sample it was written for.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.health import spaced
from mmssl.evaluate.language.gallery import draw_gallery
from mmssl.evaluate.language.ranking import CHUNK, Chance, Truth, first_hits
from mmssl.evaluate.language.space import Pairs, image_text, pairs_of
from mmssl.evaluate.resample import bootstrap, mean
from mmssl.modalities import are_videos

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class TextRetrievalConfig(EvaluationConfig):
    """Retrieval of captions by pictures or videos, and the reverse."""

    name: Literal["text_retrieval"] = "text_retrieval"
    samples: PositiveInt = 5000
    """At most so many of the query split, with all their captions: evenly spaced in the order of ids."""
    k: tuple[PositiveInt, ...] = (1, 5, 10)
    shown: NonNegativeInt = 6
    """Queries in the picture of each direction, evenly spaced too; 0 = no pictures."""


@dataclass(frozen=True)
class Found:
    """One direction, over all queries."""

    rank: Tensor
    """(q,) int64 of the first right answer, from 1."""
    sample: Tensor
    """(q,) int64: the sample that each query is, or was written for."""
    chance: Chance


class TextRetrieval(Evaluation):
    """``text_retrieval/image_to_text`` and ``…/text_to_image`` (or ``video``): R@k, median and mean rank.

    Pictures of the same names show queries and what they find, ``text_retrieval_matrix.png`` cosines.
    """

    Config = TextRetrievalConfig

    def run(self, subject: "Subject") -> list[Score]:
        config: TextRetrievalConfig = self.config
        method = image_text(subject.method, "text_retrieval")
        pairs = pairs_of(subject, method, config.samples)
        truth = Truth(pairs.of, pairs.same, len(pairs.seen))
        seen = "video" if are_videos(subject.manifest.fields.keys()) else "image"
        found = {f"{seen}_to_text": by_sample(pairs, truth), f"text_to_{seen}": by_caption(pairs, truth)}
        scores = []
        for name, one in found.items():
            scores += self._scores(name, seen, one, pairs, subject.seed)
        if subject.folder is not None and config.shown:
            rows = spaced(torch.arange(len(pairs.seen)), config.shown)
            draw_gallery(subject, method.text.tokenizer, pairs, truth, rows, *found)
        return scores

    def _scores(self, name: str, seen: str, found: Found, pairs: Pairs, seed: int) -> list[Score]:
        to_text, candidates = name.endswith("text"), found.chance.candidates
        who, whom = (f"{seen}s", "different captions") if to_text else ("captions", f"{seen}s")
        right = "at least one of its own captions" if to_text else f"the {seen} it was written for"
        about = (
            f"{len(found.rank)} {who} rank {candidates} {whom} by cosine, right is {right}; "
            f"what is as similar counts as more so; {pairs.words}"
        )
        if pairs.shared:
            about += (
                f"; {pairs.shared} captions say the same of several {seen}s, each of which is right for them"
            )
        about += "; chance is the expectation of a random order"

        def score(metric: str, value: float, chance: float, words: str, **more: Any) -> Score:
            return Score(
                f"text_retrieval/{name}", metric, value, protocol=f"{words}; {about}", chance=chance, **more
            )

        scores = []
        for k, chance in zip(self.config.k, found.chance.hits(self.config.k), strict=True):
            hit = (found.rank <= k).double()
            spread = bootstrap(per_sample(hit, found.sample, len(pairs.seen)), mean, seed)
            words = f"share that find a right one among the first {k}"
            if spread is not None:
                words += f"; 95 % interval by bootstrap over {seen}s"
            interval = None if spread is None else spread.percent
            shown: dict[str, Any] = {"unit": "%", "ceiling": 100.0, "headline": k == self.config.k[0]}
            value = 100 * float(hit.mean())
            scores.append(score(f"R@{k}", value, 100 * chance, words, interval=interval, **shown))
        ranks, where = found.rank.double(), "rank of the first right one, from 1"
        shown = {"unit": "", "ceiling": 1.0, "better": "lower", "headline": False}
        return [
            *scores,
            score("median rank", float(ranks.quantile(0.5)), found.chance.median, where, **shown),
            score("mean rank", float(ranks.mean()), found.chance.mean, where, **shown),
        ]


def by_sample(pairs: Pairs, truth: Truth) -> Found:
    """Every sample ranks all texts; one that several captions have is one candidate."""
    ranks, counts, said = [], [], pairs.said[truth.caption].double()
    for rows in torch.arange(len(pairs.seen)).split(CHUNK):
        right = truth.texts_of(rows)
        ranks.append(first_hits(pairs.seen[rows].double() @ said.T, right))
        counts.append(right.sum(dim=1))
    return Found(torch.cat(ranks), torch.arange(len(pairs.seen)), Chance(torch.cat(counts), truth.texts))


def by_caption(pairs: Pairs, truth: Truth) -> Found:
    """Every caption ranks all samples."""
    ranks, counts = [], []
    for rows in torch.arange(len(pairs.said)).split(CHUNK):
        right = truth.samples_of(rows)
        ranks.append(first_hits(pairs.said[rows].double() @ pairs.seen.double().T, right))
        counts.append(right.sum(dim=1))
    return Found(torch.cat(ranks), pairs.of, Chance(torch.cat(counts), len(pairs.seen)))


def per_sample(values: Tensor, sample: Tensor, samples: int) -> Tensor:
    """(n, 2) float64: the sum of the values of each sample, and how many they are."""
    both = torch.stack([values, torch.ones_like(values)], dim=1)
    return torch.zeros(samples, 2, dtype=torch.float64).index_add_(0, sample, both)
