"""What every text encoder promises; how words become tokens comes with it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from mmssl.models.encoder import StartConfig
from mmssl.models.text.tokenizer import Tokenizer


class TextEncoderConfig(StartConfig):
    """Base of the configurations in ``mmssl.models.text``; ``kind`` selects one."""

    kind: str
    tokenizer: str = "clip"
    """``clip``: the byte-pair vocabulary that comes with open_clip; or a ``tokenizer.json``, a folder that
    has one, or in a pipeline a stage that leaves one."""


class TextEncoder(nn.Module, ABC):
    """Tokens (B, context) int64, as ``tokenizer`` gives them, to features (B, dim)."""

    config: TextEncoderConfig
    tokenizer: Tokenizer
    dim: int
    context: int
    """Tokens that are read; longer texts are cut, and counted where they are."""

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor: ...

    def own_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict from a file under this module's names; here they are the same."""
        return dict(state)


def positions_cut(state: Mapping[str, Tensor], table: str, context: int) -> dict[str, Tensor]:
    """A state dict whose position table (positions, width) of that name keeps its first ``context`` rows.

    Pre-training on pairs of captions has more positions than a tower that reads single ones.
    """
    state = dict(state)
    if table in state:
        state[table] = state[table][:context]
    return state
