"""A validation split out of few sequences: stretches of time of each of them."""

from pydantic import Field

from mmssl.config import Config
from mmssl.errors import MmsslError
from mmssl.shards.sources.base import Item

_SLACK = 1e-6
"""Of a stretch: rounding in timestamps must not move a frame into the stretch before it."""


class Stretches(Config):
    """Move every n-th stretch of time of one split's sequences to a new split."""

    split: str = "val"
    """The new split."""
    of: str = "train"
    """The split that gives its frames away."""
    seconds: float = Field(gt=0)
    """Length of a stretch; frames at its ends look like their neighbours in the other split."""
    every: int = Field(default=4, ge=2)
    """The last of so many stretches is moved."""

    def apply(self, splits: dict[str, list[Item]]) -> dict[str, list[Item]]:
        """The splits with the new one added."""
        if self.of not in splits or self.split in splits:
            raise MmsslError(
                f"stretches: expected of one of {', '.join(splits)} and split a new name, "
                f"found {self.of!r} and {self.split!r}"
            )
        begin: dict[str, float] = {}
        for item in splits[self.of]:
            begin.setdefault(item.data.sequence, item.data.timestamp)
        kept: list[Item] = []
        moved: list[Item] = []
        for item in splits[self.of]:
            gone = item.data.timestamp - begin[item.data.sequence]
            number = int(gone / self.seconds + _SLACK)
            (moved if number % self.every == self.every - 1 else kept).append(item)
        return {**splits, self.of: kept, self.split: moved}
