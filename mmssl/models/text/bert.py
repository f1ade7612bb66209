"""BERT's encoder (Devlin et al., NAACL 2019): transformers' ``BertModel`` from a configuration of its own."""

import re
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from mmssl.models.dialects import text_part
from mmssl.models.text.base import TextEncoder, TextEncoderConfig, positions_cut


class BertTextConfig(TextEncoderConfig):
    """A transformer in which every token sees all others, by default a small one."""

    kind: Literal["bert"] = "bert"
    mlp_ratio: PositiveInt = 4
    """Width of the MLPs, relative to ``width``."""
    context: int = Field(32, ge=3)
    """Tokens that are read, [CLS] and [SEP] among them."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of states and of attention, in training."""
    pool: Literal["mean", "cls"] = "mean"
    """The mean of all tokens but the padding, or the state of [CLS]."""


class BertText(TextEncoder):
    """Tokens (B, context) int64 to (B, width); padding is not seen."""

    config: BertTextConfig

    def __init__(self, config: BertTextConfig) -> None:
        from transformers import BertConfig, BertModel  # slow to import, and few runs need it

        super().__init__(config)
        settings = BertConfig(
            vocab_size=self.tokenizer.vocabulary,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_ratio * config.width,
            max_position_embeddings=config.context,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            pad_token_id=self.tokenizer.pad,
        )
        self.bert = BertModel(settings, add_pooling_layer=False)

    def states(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        """(B, n, width): the state of every token; ``segments`` (B, n) int64 are 0 or 1, by default all 0."""
        seen = tokens != self.tokenizer.pad
        out = self.bert(input_ids=tokens, attention_mask=seen.long(), token_type_ids=segments)
        return out.last_hidden_state

    def pooled(self, states: Tensor, tokens: Tensor) -> Tensor:
        """(B, width) of states (B, n, width), as ``config.pool`` says."""
        if self.config.pool == "cls":
            return states[:, 0]
        seen = (tokens != self.tokenizer.pad).to(states.dtype)
        return torch.einsum("bnd,bn->bd", states, seen) / seen.sum(dim=1, keepdim=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.pooled(self.states(tokens), tokens)

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Also of transformers' BERT, with or without ``bert.`` before its names, and of a CLIP with one.

        Heads and pooler are left out; of a longer table of positions the first ``context`` are taken.
        """
        tower = text_part(state)
        bare = {_today(key): value for key, value in (state if tower is None else tower).items()}
        own = {
            f"bert.{key}": value for key, value in bare.items() if key.startswith(("embeddings.", "encoder."))
        }
        own.pop("bert.embeddings.position_ids", None)  # older files hold this table of 0, 1, 2 …
        return positions_cut(own, "bert.embeddings.position_embeddings.weight", self.context)


def _today(key: str) -> str:
    """A name in a file of BERT's weights without what stands before it, and as norms are called today."""
    bare = re.sub(r"^(bert|transformer)\.", "", key)
    return bare.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
