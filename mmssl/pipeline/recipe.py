"""The schema of ``pipelines/*.yaml``: named stages, and how they refer to each other.

A plain name where a shard set, an encoder or weights are expected is another stage; a path has a slash in it.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, SerializeAsAny, model_validator

from mmssl.config import Config, parse, read_yaml
from mmssl.engine.config import TrainConfig
from mmssl.errors import MmsslError
from mmssl.evaluate import EVALUATIONS, parse_evaluation
from mmssl.evaluate.base import EvaluationConfig
from mmssl.methods import METHODS, parse_method
from mmssl.methods.base import MethodConfig, TwoPart
from mmssl.models.encoder import encoder_configs
from mmssl.models.text import TextEncoderConfig
from mmssl.models.weights import how_to_get
from mmssl.pipeline.figures import StagesFigure, check_figures
from mmssl.stream.config import StreamConfig

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class BuildStage(Config):
    """Raw data to a shard set; the stage's folder is the shard set."""

    kind: Literal["build"]
    recipe: str
    """A shard recipe: a YAML file, or the name of one in ``shards/``."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Keys of that recipe to change, nested as they are there."""
    workers: PositiveInt = 2
    """Processes; the result does not depend on it."""


class TokenizerStage(Config):
    """Learn a vocabulary of WordPieces from captions; leaves ``tokenizer.json``."""

    kind: Literal["tokenizer"]
    shards: str
    """A build stage, or a shard set."""
    split: str = "train"
    """Of which the captions are read."""
    vocabulary: int = Field(4096, ge=64, le=2**17)
    """Pieces, at most; few captions give fewer."""
    field: str = "caption"
    """The samples' field with the captions."""


class TrainStage(Config):
    """Train a method; leaves its encoders."""

    kind: Literal["train"]
    data: StreamConfig
    """``sources`` name build stages or shard sets."""
    method: SerializeAsAny[MethodConfig]
    """``name`` and that method's own keys; ``encoder.weights`` may name an earlier train stage, and
    ``tokenizer`` of a text encoder a tokenizer stage."""
    train: TrainConfig

    @model_validator(mode="after")
    def _can_be_cached(self) -> Self:
        able = [name for name, method in METHODS.items() if issubclass(method, TwoPart)]
        if self.train.cached and self.method.name not in able:
            raise ValueError(f"train.cached: expected one of {', '.join(able)}, found {self.method.name}")
        return self


class EvaluateStage(Config):
    """Question a stage's encoders, and the same networks untrained."""

    kind: Literal["evaluate"]
    encoders: str
    """A train stage, or the path of one encoder's folder."""
    shards: str
    """A build stage, or a shard set."""
    gallery: str = "train"
    """The split that evaluations may fit on."""
    queries: str = "val"
    """The split that is scored."""
    evaluations: dict[Name, SerializeAsAny[EvaluationConfig]] = Field(min_length=1)
    """Evaluation to its settings; ``{}`` takes the defaults. One kind may be asked several times under names
    of one's own: ``knn_both: {name: knn, encoder: L+ab}``, whose scores are then called ``knn_both/…``."""
    seed: int = Field(0, ge=0)
    """Of the untrained networks and of everything an evaluation draws."""
    batch_size: PositiveInt = 128
    workers: int = Field(2, ge=0)
    clips: PositiveInt = 1
    """Clips of a video, evenly spread, whose features are averaged for a clip encoder."""
    frames: PositiveInt = 16
    """Frames of a video, evenly spread, whose features are averaged for an image encoder."""


class ExportStage(Config):
    """Write a stage's encoders in a form that other tools load, each in a subfolder of its name.

    A method between images and texts goes whole into the subfolder ``model``, except to timm, which takes
    encoders of images.
    """

    kind: Literal["export"]
    encoders: str
    """A train stage, or the path of its folder or of one encoder's."""
    format: Literal["timm", "open_clip", "transformers"] = "timm"


class ReportStage(Config):
    """One HTML page about all the other stages. It is refreshed after every run anyway."""

    kind: Literal["report"]
    figures: tuple[StagesFigure, ...] = ()
    """Scores of several stages against a number in which they differ."""


Stage = BuildStage | TokenizerStage | TrainStage | EvaluateStage | ExportStage | ReportStage

STAGES: dict[str, type[Stage]] = {
    "build": BuildStage,
    "tokenizer": TokenizerStage,
    "train": TrainStage,
    "evaluate": EvaluateStage,
    "export": ExportStage,
    "report": ReportStage,
}


class Pipeline(Config):
    """A graph of stages. Run folders are ``RUNS/NAME/STAGE``."""

    name: Name
    description: str = ""
    shared: dict[str, Any] = Field(default_factory=dict)
    """Pieces for ``${shared.…}`` to refer to; nothing else reads them."""
    stages: dict[Name, Annotated[Stage, Field(discriminator="kind")]] = Field(min_length=1)

    def inputs(self, stage: str) -> dict[str, str]:
        """Dotted key in the stage's configuration → the stage that it names."""
        named = {key: value for key, value, _ in references(self.stages[stage]) if value in self.stages}
        if self.stages[stage].kind == "report":
            named = {name: name for name, other in self.stages.items() if other.kind != "report"}
        return named

    def order(self) -> list[str]:
        """All stages, each after its inputs, otherwise as they were written down."""
        return list(
            TopologicalSorter({name: self.inputs(name).values() for name in self.stages}).static_order()
        )

    def downstream(self, stage: str) -> set[str]:
        """The stage and every stage that depends on it, directly or not."""
        found = {stage}
        for name in self.order():
            if found & set(self.inputs(name).values()):
                found.add(name)
        return found


def references(stage: Stage) -> Iterator[tuple[str, str, Literal["build", "tokenizer", "train"]]]:
    """(dotted key, value, kind of stage it may name) of all that a stage takes in, stages and paths alike."""
    if isinstance(stage, TokenizerStage):
        yield "shards", stage.shards, "build"
    elif isinstance(stage, TrainStage):
        for index, source in enumerate(stage.data.sources):
            yield f"data.sources.{index}.shards", source.shards, "build"
        for key, encoder in encoder_configs(stage.method, "method"):
            if encoder.weights not in (None, "timm"):
                yield f"{key}.weights", split_weights(str(encoder.weights))[0], "train"
            if isinstance(encoder, TextEncoderConfig) and encoder.tokenizer != "clip":
                yield f"{key}.tokenizer", encoder.tokenizer, "tokenizer"
    elif isinstance(stage, EvaluateStage):
        yield "encoders", stage.encoders, "train"
        yield "shards", stage.shards, "build"
    elif isinstance(stage, ExportStage):
        yield "encoders", stage.encoders, "train"


def split_weights(value: str) -> tuple[str, str | None]:
    """``STAGE``, or ``STAGE:NAME`` where it leaves several encoders, into both; a path is left whole."""
    stage, colon, name = value.partition(":")
    return (stage, name) if colon and "/" not in value else (value, None)


def load_pipeline(path: Path | str, overrides: Sequence[str] = ()) -> Pipeline:
    """Read a pipeline; a bare ``NAME`` is looked up in ``pipelines/``.

    Args:
        overrides: dotted ``key=value``; ``simclr.train.passes=10`` is short for
            ``stages.simclr.train.passes=10``.

    Raises:
        MmsslError: no such file, an unknown key, a wrong type, a stage that does not exist or is of another
            kind than is needed there, or stages that wait for each other; says where and what was expected.
    """
    given = Path(path)
    if not given.suffix and not given.exists():
        given = Path("pipelines", f"{path}.yaml")
        if not given.is_file():
            known = ", ".join(sorted(found.stem for found in Path("pipelines").glob("*.yaml"))) or "none here"
            raise MmsslError(
                f"{given}: no such pipeline; expected a YAML file, or one of pipelines/: {known}"
            )
    return parse_pipeline(read_yaml(given, [_in_full(item) for item in overrides]), given)


def _in_full(override: str) -> str:
    first = override.partition("=")[0].partition(".")[0]
    return override if "." not in override or first in Pipeline.model_fields else f"stages.{override}"


def parse_pipeline(data: Mapping[str, Any], source: Path | str) -> Pipeline:
    """Check a pipeline that was read already; ``source`` names its file in messages. Raises as above."""
    raw = data.get("stages")
    if isinstance(raw, Mapping):
        stages = {str(name): _parse_stage(name, stage, raw, source) for name, stage in raw.items()}
        data = {**data, "stages": stages}
    pipeline = parse(Pipeline, data, source)
    _check_references(pipeline, source)
    try:
        pipeline.order()
    except CycleError as error:
        circle = " → ".join(error.args[1])
        raise MmsslError(
            f"{source}: stages: expected an order to run them in, but these wait for each other: {circle}"
        ) from error
    return pipeline


def _parse_stage(name: Any, data: Any, others: Mapping[Any, Any], source: Path | str) -> Stage:
    """Part by part, so that messages speak of the kind, the method and the evaluations that were chosen."""
    at = f"stages.{name}"
    if not isinstance(data, Mapping):
        raise MmsslError(f"{source}: {at}: expected a mapping with a kind, found {data!r}")
    kind = data.get("kind")
    if kind is None:
        written = [
            str(other) for other in others if isinstance(others[other], Mapping) and "kind" in others[other]
        ]
        hint = _did_you_mean(str(name), written) or f"; expected one of {', '.join(STAGES)}"
        raise MmsslError(f"{source}: {at}.kind: missing{hint}")
    if kind not in STAGES:
        hint = _did_you_mean(str(kind), STAGES)
        raise MmsslError(f"{source}: {at}.kind: expected one of {', '.join(STAGES)}, found {kind!r}{hint}")
    data = dict(data)
    if kind == "train" and isinstance(data.get("method"), Mapping):
        data["method"] = parse_method(data["method"], source, f"{at}.method")
    if kind == "evaluate" and isinstance(data.get("evaluations"), Mapping):
        data["evaluations"] = parse_evaluations(data["evaluations"], source, f"{at}.evaluations")
    return parse(STAGES[kind], data, source, at)


def parse_evaluations(
    data: Mapping[str, Any], source: Path | str, at: str = ""
) -> dict[str, EvaluationConfig]:
    """Name to settings, both checked; None and ``{}`` are the defaults.

    What is not the name of an evaluation says in its settings which one it is: ``{name: knn}``.

    Raises:
        MmsslError: an unknown evaluation, settings that do not fit it, or one evaluation called like another.
    """
    parsed = {}
    for name, settings in data.items():
        where = f"{at}.{name}" if at else str(name)
        if settings is not None and not isinstance(settings, Mapping):
            raise MmsslError(f"{source}: {where}: expected a mapping of settings, found {settings!r}")
        parsed[str(name)] = asked = parse_evaluation({"name": str(name), **(settings or {})}, source, where)
        if asked.name != name and name in EVALUATIONS:
            raise MmsslError(
                f"{source}: {where}: a name for evaluation {asked.name} that is an evaluation itself; "
                "expected another one"
            )
    return parsed


def _check_references(pipeline: Pipeline, source: Path | str) -> None:
    for name, stage in pipeline.stages.items():
        if isinstance(stage, ReportStage):
            check_figures(stage.figures, pipeline.stages, f"{source}: stages.{name}.figures")
        for key, value, kind in references(stage):
            where = f"{source}: stages.{name}.{key}"
            if "/" in value:
                continue
            fitting = [other for other, its in pipeline.stages.items() if its.kind == kind]
            expected = (
                f"expected a {kind} stage ({', '.join(fitting) or 'there is none'}) or a path with a slash"
            )
            if value not in pipeline.stages:
                hint = _did_you_mean(value, fitting)
                if not hint and kind != "build":
                    hint = f"; {how_to_get(value)}"
                raise MmsslError(f"{where}: no stage {value!r}; {expected}{hint}")
            if pipeline.stages[value].kind != kind:
                raise MmsslError(
                    f"{where}: {value!r} is a stage of kind {pipeline.stages[value].kind}; {expected}"
                )


def _did_you_mean(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
