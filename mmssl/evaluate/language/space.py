"""What the evaluations of language share: samples and sentences in the space made for both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.errors import MmsslError
from mmssl.evaluate.health import spaced
from mmssl.evaluate.looks import Look
from mmssl.methods.base import Method
from mmssl.methods.language.towers import ImageText
from mmssl.models.clip import ClipEncoder
from mmssl.stream import scan
from mmssl.stream.batch import Batch
from mmssl.stream.views.caption import CaptionView

if TYPE_CHECKING:
    from mmssl.evaluate.features import Features
    from mmssl.evaluate.subject import Subject

IMAGE = "image"
"""The tower that sees, among a method's encoders."""
_TEXTS = 512
"""Sentences that are embedded at a time."""


def image_text(method: Method | None, evaluation: str) -> ImageText:
    """The method, whose heads lead into a common space.

    Raises:
        MmsslError: there is none beside the encoders, or one without such heads.
    """
    if isinstance(method, ImageText):
        return method
    found = "an encoder alone" if method is None else f"method {method.config.name!r}"
    raise MmsslError(
        f"evaluation {evaluation}: expected `encoders` to name a train stage of a method that brings "
        f"pictures and text into one space, with its heads; found {found}"
    )


def embed_seen(method: ImageText, look: Look, seen: Any, device: torch.device) -> Tensor:
    """(B, d) float32 unit vectors of what ``look`` shows of B samples.

    Of a video the mean of those of its clips; where the tower sees images, that of its features of frames.
    """
    if not isinstance(seen, dict):
        return method.encode_image(seen.to(device).contiguous(memory_format=torch.channels_last)).float()
    frames = seen["frames"].to(device)
    if not isinstance(method.image, ClipEncoder):
        return method.encode_image(frames).float()
    clips = frames.unflatten(1, (-1, method.image.frames))
    z = method.encode_image(clips.flatten(0, 1)).float().unflatten(0, clips.shape[:2])
    return normalize(z.mean(dim=1), dim=1)


def embed_tokens(method: ImageText, tokens: Tensor, device: torch.device) -> Tensor:
    """(n, d) float32 unit vectors of (n, context) tokens, on the CPU."""
    parts = [method.encode_text(part.to(device)).float() for part in tokens.split(_TEXTS)]
    return torch.cat(parts).cpu()


def seen_features(subject: "Subject", method: ImageText, split: str) -> "Features":
    """Unit vectors of every readable sample of ``split`` in the common space, with its labels."""
    look = subject.look(IMAGE)
    read = {"joint": lambda seen: embed_seen(method, look, seen, subject.device)}
    return subject.extract(split, look, read)["joint"]


@dataclass(frozen=True)
class Pairs:
    """n samples and their m captions in the common space, on the CPU."""

    seen: Tensor
    """(n, d) float32 unit vectors."""
    ids: Tensor
    """(n,) int64 sample ids."""
    said: Tensor
    """(m, d) float32 unit vectors of the captions, sample after sample."""
    of: Tensor
    """(m,) int64: the row of the sample that each caption belongs to."""
    tokens: Tensor
    """(m, context) int64."""
    same: Tensor
    """(m,) int64 in 0 .. number of different texts - 1; equal for equal texts."""
    words: str
    """What was shown and read, and what was left out, for protocols."""

    @property
    def shared(self) -> int:
        """Captions whose text some other sample has, too."""
        both = torch.stack([self.same, self.of]).unique(dim=1)
        return int((torch.bincount(both[0])[self.same] > 1).sum())


_remembered: "WeakKeyDictionary[Subject, dict[tuple[str, int], Pairs]]" = WeakKeyDictionary()
"""Embeddings are made once for all evaluations of a subject."""


def pairs_of(subject: "Subject", method: ImageText, samples: int) -> Pairs:
    """At most ``samples`` of the query split, evenly spaced in the order of their ids, with all captions.

    Raises:
        MmsslError: no sample can be read.
    """
    own = _remembered.setdefault(subject, {})
    key = (subject.queries, samples)
    if key not in own:
        own[key] = _pairs(subject, method, samples)
    return own[key]


@torch.inference_mode()
def _pairs(subject: "Subject", method: ImageText, samples: int) -> Pairs:
    look, field = subject.look(IMAGE), method.config.captions
    view = CaptionView(method.text.tokenizer, method.text.context, field, choose="all")
    part = subject.part(subject.queries)
    every = torch.tensor(sorted(part.ids)) if part.ids is not None else torch.arange(part.samples)
    chosen = spaced(every, samples)
    if len(chosen) < part.samples:
        part = replace(part, ids=frozenset(chosen.tolist()), samples=len(chosen))
    batches: Iterator[Batch] = part.own(
        scan(
            part.config,
            {"image": part.view(look.view), "text": part.view(view)},
            batch_size=max(1, subject.batch_size // look.views),
            seed=subject.seed,
        )
    )
    seen, ids, counts = [], [], []
    said: dict[str, list[Tensor]] = {name: [] for name in ("tokens", "same", "cut", "unknown")}
    for batch in batches:
        seen.append(embed_seen(method, look, batch.image, subject.device).cpu())
        ids.append(batch.id)
        counts.append(batch.text["count"])
        real = torch.arange(batch.text["tokens"].shape[1]) < batch.text["count"][:, None]
        for name, rows in said.items():
            rows.append(batch.text[name][real])
    if not ids:
        name = subject.manifest.name
        raise MmsslError(
            f"shard set {name!r}: split {subject.queries!r} has no readable sample with a {field}"
        )
    joined = {name: torch.cat(rows) for name, rows in said.items()}
    each = torch.cat(counts)
    words = [
        f"{len(each)} of {subject.queries} and their {int(each.sum())} captions; {look.words}",
        *_read(len(joined["cut"]), joined["cut"], joined["unknown"] > 0, method.text.context),
    ]
    if left_out := len(chosen) - len(each):
        words.append(f"{left_out} unreadable or without {field} left out")
    return Pairs(
        torch.cat(seen),
        torch.cat(ids),
        embed_tokens(method, joined["tokens"], subject.device),
        torch.arange(len(each)).repeat_interleave(each),
        joined["tokens"],
        joined["same"].unique(return_inverse=True)[1],
        "; ".join(words),
    )


def _read(count: int, cut: Tensor, unknown: Tensor, context: int, what: str = "captions") -> list[str]:
    """How many sentences the text tower could not read whole; nothing where it could all."""
    found = []
    if number := int(cut.sum()):
        found.append(f"{number} of {count} {what} cut at {context} tokens")
    if number := int(unknown.sum()):
        found.append(f"{number} of {count} {what} have words that the tokenizer does not know")
    return found


def tokens_of(method: ImageText, texts: Sequence[str], what: str) -> tuple[Tensor, list[str]]:
    """(n, context) int64 of ``texts``, and words about those that the text tower cannot read whole."""
    tokenizer, context = method.text.tokenizer, method.text.context
    encoded = tokenizer.encode(texts)
    cut = torch.tensor([len(tokens) > context - 2 for tokens in encoded])
    unknown = torch.tensor([tokenizer.unknown in tokens[: context - 2] for tokens in encoded])
    return tokenizer(texts, context), _read(len(texts), cut, unknown, context, what)
