"""BERT: Pre-training of Deep Bidirectional Transformers (Devlin et al., NAACL 2019), on captions."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmssl.distributed import mean, world_size
from mmssl.methods.base import Answers, DataInfo, Loss, Method, MethodConfig
from mmssl.models.text import BertText, BertTextConfig, build_text_encoder
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View
from mmssl.stream.views.masked_text import NOT_ASKED, MaskedTextView


class BERTConfig(MethodConfig):
    name: Literal["bert"] = "bert"
    text: BertTextConfig = BertTextConfig(context=64)
    """The encoder. ``tokenizer`` names a tokenizer stage; ``context`` has room for two captions, and a tower
    with a shorter one that starts from these weights takes its first positions."""
    field: str = "caption"
    share: float = Field(0.15, gt=0, lt=1)
    """Of the tokens that are asked for."""


class BERT(Method):
    """Tells hidden words, and whether a second sentence is about the same sample as the first.

    batch.text    ``tokens``, ``targets``, ``segments`` (B, context), ``other`` (B,): see ``MaskedTextView``
    total         masked language modelling + next sentence prediction (section 3.1), each a mean
                  cross-entropy over what is asked of the global batch (with micro-batches, a mean of means)

    The heads are those of transformers' ``BertForPreTraining``; words are told by their own embeddings.
    """

    Config = BERTConfig
    config: BERTConfig
    encoder: BertText

    def __init__(self, config: BERTConfig, data: DataInfo) -> None:
        from transformers import BertForPreTraining  # slow to import, and few runs need it

        super().__init__(config, data)
        encoder = build_text_encoder(config.text)
        assert isinstance(encoder, BertText)
        self.encoder = encoder
        whole: Any = BertForPreTraining(encoder.bert.config)
        self.pooler, self.heads = whole.bert.pooler, whole.cls
        words = self.heads.predictions
        words.decoder.weight = encoder.bert.embeddings.word_embeddings.weight
        words.decoder.bias = words.bias
        self._view = MaskedTextView(encoder.tokenizer, encoder.context, config.field, config.share)

    @property
    def views(self) -> Mapping[str, View]:
        return {"text": self._view}

    def forward(self, batch: Batch) -> Loss:
        text = batch.text
        h = self.encoder.states(text["tokens"], text["segments"])
        words, target = self.words(h, text["targets"])
        other = self.other(h)
        mlm, nsp = _mean_entropy(words, target), _mean_entropy(other, text["other"])
        parts = {
            "mlm": mlm.detach(),
            "nsp": nsp.detach(),
            "mlm_accuracy": _accuracy(words, target),
            "nsp_accuracy": _accuracy(other, text["other"]),
        }
        return Loss(mlm + nsp, parts, self.encoder.pooled(h, text["tokens"]).detach())

    def words(self, h: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of the m tokens that are asked for: scores (m, vocabulary) float32, and what they were, (m,)."""
        asked = targets != NOT_ASKED
        return self.heads.predictions(h[asked]).float(), targets[asked]

    def other(self, h: Tensor) -> Tensor:
        """(B, 2) float32: scores of "the second sentence belongs to the first" and of "it does not"."""
        return self.heads.seq_relationship(self.pooler(h)).float()

    def encoders(self) -> Mapping[str, BertText]:
        return {"text": self.encoder}

    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """Which word was hidden, and is the second sentence of the same sample?"""
        text = batch.text
        h = self.encoder.states(text["tokens"], text["segments"])
        words, target = self.words(h, text["targets"])
        answers = {}
        if len(target):
            answers["word"] = Answers(
                (words.argmax(dim=1) == target).float(),
                f"tokens hidden, exchanged or left, {100 * self.config.share:g} % of all, told among "
                f"{words.shape[1]}; guessing says the most frequent one of the batch's",
                chance=float(target.bincount().max()) / len(target),
            )
        asked = text["other"] != NOT_ASKED
        if asked.any():
            right = self.other(h).argmax(dim=1)[asked] == text["other"][asked]
            answers["next_sentence"] = Answers(
                right.float(),
                "are two captions of one sample, or is the second of another one of the batch (half of them)",
                chance=0.5,
            )
        return answers


def _mean_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy summed over what is asked, divided by the mean number that ranks are asked."""
    with torch.autocast(scores.device.type, enabled=False):
        total = cross_entropy(scores, target, ignore_index=NOT_ASKED, reduction="sum")
    asked = mean((target != NOT_ASKED).sum().float())
    return total / asked.clamp_min(1 / world_size())


def _accuracy(scores: Tensor, target: Tensor) -> Tensor:
    asked = target != NOT_ASKED
    right = (scores.argmax(dim=1) == target) & asked
    return right.sum() / asked.sum().clamp_min(1)
