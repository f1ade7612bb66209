"""What an evaluation is: something that asks a question of trained encoders and names its protocol."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmssl.config import Config

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject


class EvaluationConfig(Config):
    """Base of every evaluation's settings; ``name`` selects it in a recipe."""

    name: str


@dataclass(frozen=True)
class Score:
    """One number and everything needed to read it."""

    evaluation: str
    """Which question, with its target: ``knn/shape``."""
    metric: str
    value: float
    unit: str
    """``%`` or the physical unit; fractions are given as percentages."""
    protocol: str
    """One line that lets somebody else repeat it: splits, counts, hyper-parameters, how they were chosen."""
    chance: float | None = None
    """What guessing scores."""
    ceiling: float | None = None
    """What a perfect answer scores, where that is not obvious."""
    better: Literal["higher", "lower"] = "higher"
    """Errors are better lower."""
    interval: tuple[float, float] | None = None
    """95 % confidence interval of the value; the protocol says over what was resampled."""
    headline: bool = True
    """May stand in the report's table of results: the first such metric of an evaluation does."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Evaluation(ABC):
    """Asks one question of a subject: encoders, and the shard sets to question them on."""

    Config: ClassVar[type[EvaluationConfig]]

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def run(self, subject: "Subject") -> list[Score]:
        """Evaluate. Figures for the report are written into ``subject.folder``."""
