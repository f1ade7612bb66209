"""What every text encoder promises; how words become tokens comes with it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import PositiveInt
from torch import Tensor, nn

from mmssl.errors import MmsslError
from mmssl.models.encoder import StartConfig
from mmssl.models.text.tokenizer import Tokenizer, load_tokenizer


class TextEncoderConfig(StartConfig):
    """Base of the configurations in ``mmssl.models.text``; ``kind`` selects one."""

    kind: str
    tokenizer: str = "clip"
    """``clip``: the byte-pair vocabulary that comes with open_clip; or a ``tokenizer.json``, a folder that
    has one, or in a pipeline a stage that leaves one."""
    width: PositiveInt = 256
    heads: PositiveInt = 4
    layers: PositiveInt = 4
    context: PositiveInt = 32
    """Tokens that are read, start and end among them; 77 in CLIP's paper."""


class TextEncoder(nn.Module, ABC):
    """Tokens (B, context) int64, as ``tokenizer`` gives them, to features (B, dim).

    Raises:
        MmsslError: ``heads`` do not divide ``width``, or there is no such tokenizer.
    """

    config: TextEncoderConfig
    tokenizer: Tokenizer
    dim: int
    context: int
    """Tokens that are read; longer texts are cut, and counted where they are."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise MmsslError(f"text.heads: expected a divisor of width {config.width}, found {config.heads}")
        self.config = config
        self.tokenizer = load_tokenizer(config.tokenizer)
        self.dim, self.context = config.width, config.context

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
