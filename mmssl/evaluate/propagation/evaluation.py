"""Label propagation as an evaluation: what do the features of any stage know about what moves where?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from rich import get_console
from rich.progress import track

from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.looks import seeing_colours
from mmssl.evaluate.propagation.davis import DavisConfig
from mmssl.evaluate.propagation.files import write_index
from mmssl.evaluate.propagation.jhmdb import JhmdbConfig
from mmssl.evaluate.propagation.maps import Maps, Size
from mmssl.evaluate.propagation.pictures import Film, film_of, sheet
from mmssl.evaluate.propagation.propagate import PRESETS, Rule, propagate
from mmssl.evaluate.propagation.shard_set import ShardSetConfig
from mmssl.evaluate.propagation.task import Answers, Masks, Task, Value, Video
from mmssl.evaluate.propagation.vip import VipConfig
from mmssl.files import write_bytes, write_json
from mmssl.models.feature_map import frame_encoder

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

AnyData = Annotated[DavisConfig | JhmdbConfig | VipConfig | ShardSetConfig, Field(discriminator="kind")]
"""The data of any benchmark, as the type of a field."""


class PropagationConfig(EvaluationConfig):
    """Labels of a first frame carried on by the similarity of features."""

    name: Literal["propagation"] = "propagation"
    encoder: str | None = None
    """By the name of the view it reads; by default the only one there is."""
    data: AnyData = ShardSetConfig()
    """Benchmark; by default the boxes of the clips that the stage evaluates on."""
    stages: tuple[NonNegativeInt | None, ...] = Field((None,), min_length=1)
    """Whose maps are asked, each by itself: see ``FeatureMap``; null is the last one."""
    preset: Literal["dino", "crw"] = "dino"
    """The paper whose rule is followed, see ``PRESETS``; what is given below departs from it."""
    previous: NonNegativeInt | None = None
    k: PositiveInt | None = None
    radius: NonNegativeInt | None = None
    temperature: PositiveFloat | None = None
    masks: bool = False
    """Keep what was found as palette PNGs, ``masks/BENCHMARK_STAGE/VIDEO/FRAME.png`` in DAVIS's layout."""
    shown: NonNegativeInt = 8
    """Videos in the picture of film strips, the first ones."""

    @property
    def rule(self) -> Rule:
        given = {name: getattr(self, name) for name in ("previous", "k", "radius", "temperature")}
        changes = {name: value for name, value in given.items() if value is not None}
        return PRESETS[self.preset].model_copy(update=changes)


@dataclass
class _Asked:
    """What was found with one stage's maps, and what is possible on their grid."""

    maps: Maps
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Video to what the task says of it."""
    possible: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The same of the truth that went through the cells."""
    sizes: set[tuple[Size, Size]] = field(default_factory=set)
    """Of resized frames, and of their maps."""
    strips: list[Film] = field(default_factory=list)


class Propagation(Evaluation):
    """``propagation/BENCHMARK/STAGE``; each video's values, and what the benchmark says of its single frames
    or objects, in ``propagation/BENCHMARK_STAGE.json``.

    Chance is the first frame's answer for all frames; the ceiling is what the truth scores after it went
    through the cells of the map. For masks there is ``pictures/propagation_BENCHMARK_STAGE.png``.
    """

    Config = PropagationConfig

    def run(self, subject: "Subject") -> list[Score]:
        config: PropagationConfig = self.config
        encoder = frame_encoder(
            seeing_colours(subject.encoder(config.encoder)), "evaluation propagation: encoder"
        )
        task = config.data.task(subject)
        asked = {
            stage: _Asked(Maps(encoder, stage, config.data.cell, subject.device)) for stage in config.stages
        }
        still: dict[str, dict[str, Any]] = {}
        quiet = not get_console().is_terminal
        for video in track(task, f"propagation: {task.name}", None, transient=True, disable=quiet):
            still[video.name] = task.judge(np.repeat(video.truth[:1], len(video.truth), axis=0), video)
            for stage, one in asked.items():
                self._ask(subject, task, video, one, _tag(stage))
        if not still:
            raise MmsslError(
                f"evaluation propagation: {task.name}: no readable video with an object; expected one"
            )
        scores = []
        for stage, one in asked.items():
            scores += self._scores(task, one, still, _tag(stage))
            self._write(subject, task, one, _tag(stage))
        return scores

    def _ask(self, subject: "Subject", task: Task, video: Video, one: _Asked, tag: str) -> None:
        config: PropagationConfig = self.config
        size = one.maps.size(video.size, config.data.side, config.data.square)
        grid = one.maps.grid(size)
        one.sizes.add((size, grid))
        answers = carry(task, video, one.maps, size, config.rule)
        one.found[video.name] = task.judge(answers, video)
        ideal = [video.truth[0]]
        for true in video.truth[1:]:
            ideal.append(task.answer(task.maps(true, video, grid, config.rule), video, size, config.rule))
        one.possible[video.name] = task.judge(np.stack(ideal), video)
        if subject.folder is None or not isinstance(task, Masks):
            return
        if len(one.strips) < config.shown:
            one.strips.append(film_of(video, answers))
        if config.masks:
            folder = subject.folder / "masks" / f"{task.name}_{tag}" / video.name
            for name, mask in zip(video.names, answers, strict=True):
                write_index(folder / f"{name}.png", mask)

    def _scores(self, task: Task, one: _Asked, still: Mapping[str, Any], tag: str) -> list[Score]:
        chance, ceiling = (_known(task.combine(judged)) for judged in (still, one.possible))
        protocol = f"{task.about}; {self._words(one, tag)}"
        return [
            Score(
                evaluation=f"propagation/{task.name}/{tag}",
                metric=value.metric,
                value=value.value,
                unit="%",
                protocol=protocol,
                chance=chance.get(value.metric),
                ceiling=ceiling.get(value.metric),
                better=value.better,
                headline=value.headline,
            )
            for value in task.combine(one.found)
            if value.metric in _known([value])
        ]

    def _words(self, one: _Asked, tag: str) -> str:
        rule = self.config.rule
        (height, width), (rows, columns) = max(one.sizes)
        largest = "" if len(one.sizes) == 1 else " (largest video)"
        first = "the first frame, anywhere," if rule.first_anywhere else "the first frame"
        return (
            f"{len(one.found)} videos; features of {tag}, frames at {width}x{height}, {columns}x{rows} cells "
            f"of {one.maps.cell} px{largest}; labels from {first} and the {rule.previous} before, "
            f"{rule.k} most similar cells, {rule.window} of radius {rule.radius}, T {rule.temperature:g} "
            f"(preset {self.config.preset}); chance: the first frame's answer unmoved; ceiling: the truth "
            "through the cells"
        )

    def _write(self, subject: "Subject", task: Task, one: _Asked, tag: str) -> None:
        if subject.folder is None:
            return
        name = f"{task.name}_{tag}"
        videos = {
            video: {"values": _known(task.combine({video: judged})), "judged": judged}
            for video, judged in one.found.items()
        }
        path = subject.folder / "propagation" / f"{name}.json"
        write_json(path, {"about": task.about, "videos": videos})
        if one.strips:
            path = subject.folder / "pictures" / f"propagation_{name}.png"
            write_bytes(path, sheet(one.strips))


@torch.inference_mode()
def carry(task: Task, video: Video, maps: Maps, size: Size, rule: Rule) -> Answers:
    """The answers of every frame; the first is the truth."""
    labels = task.maps(video.truth[0], video, maps.grid(size), rule).to(maps.device)
    carried = propagate(maps(video.frames, video.size, size), labels, rule)
    return np.stack([video.truth[0], *(task.answer(soft, video, size, rule) for soft in carried)])


def _known(values: Sequence[Value]) -> dict[str, float]:
    """Metric to value, without those that are undefined here."""
    return {value.metric: value.value for value in values if not math.isnan(value.value)}


def _tag(stage: int | None) -> str:
    return "last" if stage is None else f"stage{stage}"
