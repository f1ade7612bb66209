"""Do an encoder's features track? A benchmark of trackers as an evaluation of encoders."""

from collections.abc import Mapping
from collections.abc import Sequence as Many
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from mmssl.config import parse
from mmssl.errors import MmsslError
from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.looks import seeing_colours
from mmssl.evaluate.tracking.experiments import WORDS, Experiment, anchored
from mmssl.evaluate.tracking.presentation import Shown, write_films, write_shown
from mmssl.evaluate.tracking.protocols import BETTER_LOWER
from mmssl.evaluate.tracking.raw import Followed
from mmssl.evaluate.tracking.readers import AnyBenchmark, read_benchmark
from mmssl.evaluate.tracking.readers.shard_set import ShardSetConfig
from mmssl.evaluate.tracking.results import LAYOUTS
from mmssl.evaluate.tracking.runs import follow_all
from mmssl.evaluate.tracking.scoring import ANCHORED, interval, outcome, read_results, rule
from mmssl.evaluate.tracking.sequence import Sequence
from mmssl.models.feature_map import FeatureMap, frame_encoder
from mmssl.tracking.tracker import PRESETS, TrackerConfig

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

OWN = {"lasot": "lasot", "got10k": "got10k", "trackingnet": "trackingnet"}
"""Benchmarks whose one-pass protocol is their own; the others are scored as OTB is."""


class TrackingConfig(EvaluationConfig):
    """A correlation filter on the encoder's feature map follows targets through a benchmark."""

    name: Literal["tracking"] = "tracking"
    encoder: str | None = None
    """Which one, where a method leaves several."""
    stage: int | None = None
    """Of the backbone, whose map the tracker looks through; None is the last."""
    benchmark: AnyBenchmark | None = None
    """``kind`` and ``root`` of a benchmark on disk; by default the query split of the stage's shard set."""
    experiment: Experiment = "ope"
    """One pass (OTB's OPE), 20 starts (TRE), 12 disturbed first boxes (SRE), or VOT's two."""
    protocols: tuple[str, ...] = ()
    """How boxes become numbers; by default the benchmark's own protocol, else OTB's."""
    preset: str = "udt"
    """Settings of the tracker by name."""
    tracker: dict[str, Any] = Field(default_factory=dict)
    """Settings that differ from the preset."""
    lanes: PositiveInt = 4
    """Sequences that advance together; the boxes do not depend on it."""
    compare: dict[str, str] = Field(default_factory=dict)
    """Name to folder of other trackers' result files, to stand beside."""
    films: int = Field(8, ge=0)
    """Film strips in the report, spread from the best sequence to the worst."""

    @model_validator(mode="after")
    def _known(self) -> "TrackingConfig":
        if own := {"trained", "untrained"} & self.compare.keys():
            raise ValueError(f"compare: {own.pop()!r} is what our own are called; expected other names")
        for name in self.asked:
            try:
                rule(name, self.experiment)
            except MmsslError as error:
                raise ValueError(str(error)) from error
        if self.preset not in PRESETS:
            raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, found {self.preset!r}")
        TrackerConfig.model_validate(PRESETS[self.preset].model_dump() | self.tracker)
        return self

    @property
    def settings(self) -> TrackerConfig:
        """The preset with its changes."""
        return parse(
            TrackerConfig, PRESETS[self.preset].model_dump() | self.tracker, "evaluation tracking", "tracker"
        )

    @property
    def asked(self) -> tuple[str, ...]:
        """The protocols."""
        own = OWN.get(self.benchmark.kind, "otb") if self.benchmark is not None else "otb"
        default = {"vot_reset": "vot2018", "vot_anchor": ANCHORED}.get(self.experiment, own)
        return self.protocols or (default,)


class Tracking(Evaluation):
    """Leaves result files, plots, tables and film strips beside its scores."""

    Config = TrackingConfig

    def run(self, subject: "Subject") -> list[Score]:
        config: TrackingConfig = self.config
        encoder = frame_encoder(
            seeing_colours(subject.encoder(config.encoder)), "evaluation tracking: encoder"
        )
        if config.benchmark is None:
            called = subject.manifest.name
            root = subject.config.sources[0].shards
            own = ShardSetConfig(root=root, split=subject.queries)
            config = config.model_copy(update={"benchmark": own})
        else:
            called = config.benchmark.kind
        if subject.folder is None:
            config = config.model_copy(update={"compare": {}})
        features = FeatureMap(encoder, config.stage)
        shown = track(config, called, {"trained": features}, subject.folder)
        return [score for one in shown for score in scores(one, "trained", subject.seed)]


def track(
    config: TrackingConfig, called: str, trackers: Mapping[str, FeatureMap], folder: Path | None
) -> list[Shown]:
    """Run trackers over a benchmark and score them, beside those of ``config.compare``.

    Args:
        called: the benchmark's name.
        trackers: name to what a tracker looks through.
        folder: takes ``results/BENCHMARK/EXPERIMENT/TRACKER``, where a run that was stopped goes on, and what
            is shown; None keeps nothing.

    Returns:
        All trackers under each protocol.

    Raises:
        MmsslError: the benchmark, a frame, a box to start from or a result file is missing or wrong.
    """
    assert config.benchmark is not None
    sequences = read_benchmark(config.benchmark)
    if config.experiment == "vot_anchor":
        sequences = [anchored(one) for one in sequences]
    layout = LAYOUTS.get(config.benchmark.kind, LAYOUTS["otb"])
    results = {
        name: follow_all(
            features,
            config.settings,
            sequences,
            config.experiment,
            folder=None if folder is None else folder / "results" / called / config.experiment / name,
            layout=layout,
            lanes=config.lanes,
            what=f"{called}, {name}",
        )
        for name, features in trackers.items()
    }
    for name, others in config.compare.items():
        results[name] = read_results(Path(others), sequences, config.experiment, layout)
    encoders = {features.encoder.config.name for features in trackers.values()}
    shown = judge(config, called, sequences, results, f"on features of {' and '.join(sorted(encoders))}")
    if folder is not None:
        for one in shown:
            write_shown(folder, one)
        each = next(iter(shown[0].outcomes.values())).each
        ranks = {name: next(iter(its.values.values())) for name, its in each.items()}
        write_films(folder, sequences, results, ranks, config.experiment, config.films)
    return shown


def judge(
    config: TrackingConfig,
    called: str,
    sequences: Many[Sequence],
    results: Mapping[str, Mapping[str, Followed]],
    words: str,
) -> list[Shown]:
    """All trackers under each protocol that is asked for.

    Raises:
        MmsslError: results that do not fit the sequences, or sequences whose truth is not public.
    """
    changed = "".join(f", {key} {value}" for key, value in config.tracker.items())
    names = ": " + ", ".join(one.name for one in sequences) if len(sequences) <= 10 else ""
    many = "1 sequence" if len(sequences) == 1 else f"{len(sequences)} sequences"
    counted = f"{many}, {sum(map(len, sequences))} frames{names}"
    found = []
    for name in config.asked:
        by = rule(name, config.experiment)
        outcomes = {tracker: outcome(by, sequences, its) for tracker, its in results.items()}
        about = (
            f"protocol {name}: {by.about}; {WORDS[config.experiment]}; {counted}; "
            f"tracker {config.preset}{changed}, {words}"
        )
        best = by.ceiling(sequences)
        found.append(Shown(called, config.experiment, name, about, sequences, outcomes, best))
    return found


def scores(shown: Shown, tracker: str, seed: int) -> list[Score]:
    """Every metric of one tracker, the ceiling beside it, and how fast it was.

    Raises:
        MmsslError: nothing is defined, as where a benchmark keeps its truth to itself.
    """
    its = shown.outcomes[tracker]
    defined = {metric: value for metric, value in its.total.values.items() if not np.isnan(value)}
    if not defined:
        raise MmsslError(
            f"{shown.title}: no frame counts; expected public truth beyond the first boxes (hand the result "
            "files in where it is not)"
        )
    first = next(iter(defined))
    spread = interval(rule(shown.rule, shown.experiment), its.each, shown.sequences, first, seed)
    sure = {} if spread is None else {first: spread.interval}
    found = [
        Score(
            shown.evaluation,
            metric,
            value,
            "" if metric in BETTER_LOWER else "%",
            shown.protocol + ("; 95 % interval by bootstrap over sequences" if metric in sure else ""),
            ceiling=shown.ceiling.values[metric],
            better="lower" if metric in BETTER_LOWER else "higher",
            interval=sure.get(metric),
        )
        for metric, value in defined.items()
    ]
    if its.seconds:
        words = f"frames of all runs over the time they took; {shown.protocol}"
        found.append(
            Score(shown.evaluation, "speed", its.frames / its.seconds, "frames/s", words, headline=False)
        )
    return found
