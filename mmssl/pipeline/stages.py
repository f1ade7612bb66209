"""What each kind of stage does; ``RUN`` is the table. Each leaves its result in the stage's folder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mmssl import distributed, files
from mmssl.engine.setup import pick_device
from mmssl.engine.train import train
from mmssl.errors import MmsslError
from mmssl.methods import build_method
from mmssl.methods.base import DataInfo
from mmssl.methods.language.exchange import export, has_both_towers
from mmssl.models.artifact import DESCRIPTION_FILE, load_encoder, reads_text
from mmssl.models.encoder import with_tokenizers, with_weights
from mmssl.pipeline.identity import shard_overrides
from mmssl.pipeline.questions import Question, ask
from mmssl.pipeline.recipe import (
    BuildStage,
    EvaluateStage,
    ExportStage,
    Pipeline,
    ReportStage,
    TokenizerStage,
    TrainStage,
    split_weights,
)
from mmssl.pipeline.tokenizer import make_tokenizer
from mmssl.progress import progress_bar
from mmssl.shards.build import build_shards
from mmssl.shards.manifest import load_manifest
from mmssl.shards.recipe import load_recipe
from mmssl.stream import Stream, StreamConfig


@dataclass(frozen=True)
class Place:
    """Where a stage runs, and how what it names is found."""

    pipeline: Pipeline
    root: Path
    """The pipeline's run folder."""
    name: str
    provenance: Mapping[str, Any]
    workers: int | None = None
    """Worker processes, whatever the recipe says."""

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def shards(self, value: str) -> str:
        """A shard set's root: a build stage's folder, or the path itself."""
        return str(self.root / value) if value in self.pipeline.stages else value

    def tokenizer(self, value: str) -> str:
        """``clip``, a tokenizer stage's folder, or the path itself."""
        return value if value == "clip" else self.shards(value)

    def encoders(self, value: str) -> dict[str, Path]:
        """Encoder folders by name: those a train stage left, or the one at a path (as ``image``)."""
        if value not in self.pipeline.stages:
            return {"image": Path(value)}
        return encoder_folders(self.root / value)

    def weights(self, value: str) -> str:
        """``encoder.weights`` as the encoder takes it: a stage becomes its encoder's folder.

        ``STAGE:method`` is the whole method that the stage left, heads and all: the stage's own folder.
        """
        stage, wanted = split_weights(value)
        if stage not in self.pipeline.stages:
            return value
        if wanted == "method":
            return str(self.root / stage)
        found = self.encoders(stage)
        if wanted is None and len(found) == 1:
            return str(next(iter(found.values())))
        if wanted not in found:
            raise MmsslError(
                f"stage {self.name!r}: encoder.weights: {value!r} is not one encoder; "
                f"expected one of {', '.join(f'{stage}:{name}' for name in found)}"
            )
        return str(found[wanted])


def encoder_folders(stage: Path) -> dict[str, Path]:
    """The folders of the encoders that a train stage left in its own, by name.

    Raises:
        MmsslError: there is none.
    """
    folder = stage / "encoders"
    found = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{DESCRIPTION_FILE}"))}
    if not found:
        raise MmsslError(f"{folder}: no encoder; expected what stage {stage.name!r} leaves when it is done")
    return found


def run_build(stage: BuildStage, place: Place) -> None:
    recipe = load_recipe(stage.recipe, shard_overrides(stage))
    console = Console(stderr=True)
    with progress_bar(place.name, "inputs", console, transient=True) as progress:
        build_shards(
            recipe,
            place.folder,
            workers=stage.workers if place.workers is None else max(1, place.workers),
            progress=progress,
        )


def run_tokenizer(stage: TokenizerStage, place: Place) -> None:
    make_tokenizer(place.shards(stage.shards), stage.split, stage.field, stage.vocabulary, place.folder)


def run_train(stage: TrainStage, place: Place) -> None:
    sources = tuple(
        source.model_copy(update={"shards": place.shards(source.shards)}) for source in stage.data.sources
    )
    workers = stage.data.workers if place.workers is None else place.workers
    data = stage.data.model_copy(update={"sources": sources, "workers": workers})
    torch.manual_seed(stage.train.seed)  # first weights are the seed's, whatever this process did before
    config = with_tokenizers(with_weights(stage.method, place.weights), place.tokenizer)
    method = build_method(config, data_info(data), f"stage {place.name!r}")
    stream = Stream(
        data,
        method.views,
        batch_size=stage.train.batch_size,
        seed=stage.train.seed,
        rank=distributed.rank(),
        world=distributed.world_size(),
        finish_on="device" if pick_device().type == "cuda" else "worker",
    )
    train(method, stream, stage.train, place.folder, provenance=place.provenance)


def data_info(config: StreamConfig) -> DataInfo:
    """What a method may know of the data: how many samples, and the fields that all or some of them have."""
    manifests = [load_manifest(source.shards) for source in config.sources]
    samples = sum(
        manifest.split(source.split).samples
        for manifest, source in zip(manifests, config.sources, strict=True)
    )
    every = set.intersection(*[{name for name, x in each.fields.items() if x == 1} for each in manifests])
    some = set.union(*[{name for name, x in each.fields.items() if x > 0} for each in manifests]) - every
    return DataInfo(samples, frozenset(every), frozenset(some))


def run_evaluate(stage: EvaluateStage, place: Place) -> None:
    """Leaves ``scores.json``: every score with the stage it is of, and the untrained networks' beside it."""
    encoders = {name: load_encoder(path) for name, path in place.encoders(stage.encoders).items()}
    question = Question(
        place.shards(stage.shards),
        stage.evaluations,
        stage.gallery,
        stage.queries,
        stage.seed,
        stage.batch_size,
        stage.workers if place.workers is None else place.workers,
        stage.clips,
        stage.frames,
    )
    whose = {"stage": stage.encoders, "evaluated_by": place.name}
    trained_in = place.root / stage.encoders if stage.encoders in place.pipeline.stages else None
    rows = [whose | row for row in ask(encoders, question, place.folder, trained_in)]
    files.write_json(place.folder / "scores.json", {"scores": rows})


def run_export(stage: ExportStage, place: Place) -> None:
    whole = place.root / stage.encoders if stage.encoders in place.pipeline.stages else Path(stage.encoders)
    if stage.format != "timm" and has_both_towers(whole):
        export(whole, place.folder / "model", stage.format)
        return
    found = place.encoders(stage.encoders)
    pictured = {name: folder for name, folder in found.items() if not reads_text(folder)}
    for name, folder in (pictured or found if stage.format == "timm" else found).items():
        export(folder, place.folder / name, stage.format)


def run_report(stage: ReportStage, place: Place) -> None:
    from mmssl.report import write_report  # brings Plotly, which only reports need

    write_report(place.root)


RUN: dict[str, Callable[[Any, Place], None]] = {
    "build": run_build,
    "tokenizer": run_tokenizer,
    "train": run_train,
    "evaluate": run_evaluate,
    "export": run_export,
    "report": run_report,
}
