"""What a method is: a paper as a module, knowing nothing of optimisers, devices, logging or files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import field_validator
from torch import Tensor, nn

from mmssl.config import Config
from mmssl.modalities import are_videos
from mmssl.models.artifact import AnyEncoder
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View


class MethodConfig(Config):
    """Base of every method's settings; ``name`` selects the method in a recipe."""

    name: str

    @field_validator("augmentation", mode="before", check_fields=False)
    @classmethod
    def _on_top_of_the_default(cls, value: Any) -> Any:
        """What a recipe leaves out of ``augmentation`` keeps the method's own value, not the view's."""
        if isinstance(value, dict):
            return cls.model_fields["augmentation"].default.model_dump() | value
        return value


@dataclass(frozen=True)
class DataInfo:
    """What a method may know of the data before training: memory banks and clustering need ``samples``."""

    samples: int
    """Number of distinct stable ids in the stream."""
    fields: frozenset[str] = frozenset({"image"})
    """Fields that every sample has."""
    some: frozenset[str] = frozenset()
    """Fields that only some samples have."""

    @property
    def video(self) -> bool:
        """Whether samples are videos rather than still images."""
        return are_videos(self.fields)


@dataclass
class Loss:
    """``total`` is differentiated; ``parts`` are logged; ``embedding`` feeds the health metrics."""

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars: accuracies, similarities, sizes of negative pools, queue age …"""
    embedding: Tensor | None = None
    """Detached (N, d) representation of this rank's samples, for RankMe and per-dimension spread."""


@dataclass(frozen=True)
class Answers:
    """What one question about the objective was answered with on held-out data, case by case."""

    values: Tensor
    """(n,) float: 1 or 0 for right or wrong, a reciprocal rank, an error …; the score is their mean."""
    protocol: str
    """What was asked: candidates, steps, how cases were drawn."""
    unit: str = "%"
    """``%`` for shares, whose values are in 0..1."""
    chance: float | None = None
    """Mean that guessing would reach, on the scale of ``values``."""
    curve: str = ""
    """Questions that differ in one number only share a name, and become a curve in the report."""
    at: float | None = None
    """That number."""
    axis: str = "steps ahead"
    """What that number counts."""
    better: Literal["higher", "lower"] = "higher"
    """Errors are better lower."""


class Method(nn.Module, ABC):
    """A paper. All state that training changes (momentum encoders, queues, banks) is in the state dict."""

    Config: ClassVar[type[MethodConfig]]
    any_sight: ClassVar[bool] = False
    """Whether its encoders may see something else than colour images."""

    def __init__(self, config: Any, data: DataInfo) -> None:
        super().__init__()
        self.config = config
        self.data = data

    @property
    @abstractmethod
    def views(self) -> Mapping[str, View]:
        """The batch entries that ``forward`` reads, and how each is made."""

    @abstractmethod
    def forward(self, batch: Batch) -> Loss:
        """The objective on this rank's batch."""

    def after_step(self, progress: float) -> None:
        """Update momentum encoders and the like, after the optimiser; ``progress`` runs from 0 to 1."""

    @abstractmethod
    def encoders(self) -> Mapping[str, AnyEncoder]:
        """What training leaves behind, by the name of the view each encoder reads."""

    def pretext(self, batch: Batch) -> dict[str, Answers]:
        """Ask the objective itself about held-out samples (evaluation ``pretext``): question to answers.

        A method that leaves this as it is has nothing to ask; of all others training also leaves the heads.
        """
        return {}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Images worth looking at after training: name to (N, 3, H, W) float32 in 0..1."""
        return {}


@runtime_checkable
class TwoPart(Protocol):
    """A method whose ``forward(batch)`` is ``loss_of(embed(batch), batch)`` can be trained with ``cached``.

    The engine then embeds micro-batches one at a time, compares all of their embeddings at once, and embeds
    again to differentiate (``mmssl.engine.cache``). ``embed`` is called twice with the same random numbers,
    so nothing but running statistics of norms may change in it; queues and the like change in ``loss_of``.
    """

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """All that enters the loss: (rows, …) tensors in the order of the samples, each row from one sample.

        Only floating ones that depend on parameters are differentiated; whole numbers and masks may be among
        them.
        """

    def loss_of(self, embeddings: dict[str, Tensor], batch: Batch) -> Loss:
        """The objective on embeddings of all of this rank's samples; parameters may be used here too.

        Of ``batch`` it reads ids, labels and what else is ready without ``View.finish``, which has been
        applied to micro-batches only.
        """
