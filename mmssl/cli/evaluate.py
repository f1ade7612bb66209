"""``mmssl evaluate``: an encoder on a shard set, or as the eyes of a tracker on a tracking benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

if TYPE_CHECKING:
    from mmssl.evaluate.tracking.presentation import Shown


DESCRIPTION = "encoder.json"
"""What tells an encoder's folder from that of a train stage, without loading what reads it."""


class _EncoderFirst(TyperGroup):
    """What names no sub-command is an encoder's folder: ``evaluate FOLDER`` means ``evaluate encoder``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help", "-h"}:
            args = ["encoder", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="evaluate",
    cls=_EncoderFirst,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Score a trained encoder, with the same network untrained beside it.

`mmssl evaluate FOLDER --shards SHARDS` asks it about a shard set and is short for `mmssl evaluate encoder`.
""",
)


@app.command()
def encoder(
    encoder: Annotated[
        Path,
        typer.Argument(
            help="Folder with encoder.safetensors: runs/PIPELINE/STAGE/encoders/NAME; "
            "or runs/PIPELINE/STAGE: all its encoders, and its objective."
        ),
    ],
    shards: Annotated[str, typer.Option(help="Shard set: a folder or URL with manifest.json.")],
    evaluation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]EVALUATION",
            help="Which questions to ask, under a name of one's own or that of the evaluation; "
            "repeat the option for several.",
            show_default="knn, linear",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME.KEY=VALUE", help="A setting of a question; repeat it for several."
        ),
    ] = None,
    gallery: Annotated[str, typer.Option(help="Split that evaluations may fit on.")] = "train",
    queries: Annotated[str, typer.Option(help="Split that is scored.")] = "val",
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json and the data of figures.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read and decode.")] = 2,
) -> None:
    """Score an encoder on a shard set (this is what `mmssl evaluate FOLDER` does).

    Examples:

    - `mmssl evaluate runs/cifar10/simclr/encoders/image --shards runs/cifar10/images`

    - `mmssl evaluate runs/views/cmc --shards runs/views/images --evaluation both=knn --set both.encoder=L+ab`
    """
    from mmssl.config import overridden
    from mmssl.files import write_json
    from mmssl.models.artifact import load_encoder
    from mmssl.pipeline.questions import Question, ask
    from mmssl.pipeline.recipe import parse_evaluations
    from mmssl.pipeline.stages import encoder_folders

    asked = [_question(one) for one in evaluation or ("knn", "linear")]
    settings = overridden({name: {"name": kind} for name, kind in asked}, set_ or (), "--set")
    question = Question(
        shards, parse_evaluations(settings, "--evaluation"), gallery, queries, workers=workers
    )
    single = (encoder / DESCRIPTION).is_file()
    folders = {"image": encoder} if single else encoder_folders(encoder)
    encoders = {name: load_encoder(folder) for name, folder in folders.items()}
    rows = ask(encoders, question, folder=out, trained_in=None if single else encoder)
    if out is not None:
        write_json(out / "scores.json", {"scores": rows})
    table = Table("evaluation", "metric", "score", "untrained", "chance")
    for row in rows:
        numbers = [_number(row[name], row["unit"]) for name in ("value", "untrained", "chance")]
        table.add_row(row["evaluation"], row["metric"], *numbers)
    console = Console()
    console.print(table)
    headlines = {row["evaluation"]: row["protocol"] for row in reversed(rows)}
    for name, protocol in reversed(headlines.items()):
        console.print(f"{name}: {protocol}", style="dim", highlight=False)


@app.command()
def tracking(
    root: Annotated[str, typer.Option(help="Folder that the benchmark was unpacked to.")],
    out: Annotated[
        Path,
        typer.Option(help="Folder for result files, tables, plots and pictures; go on there after a stop."),
    ],
    benchmark: Annotated[
        str,
        typer.Option(
            help="Its layout: otb, vot, tc128, uav123, lasot, got10k, trackingnet, nfs, tlp or shard_set."
        ),
    ] = "otb",
    encoder: Annotated[
        Path | None, typer.Option(help="Folder of the encoder that the tracker looks through.")
    ] = None,
    sequences: Annotated[
        str, typer.Option(help="Names of sequences, with commas between them.", show_default="all")
    ] = "",
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="How boxes become numbers (otb, pysot, lasot, got10k, vot2018 …); repeat it for several.",
            show_default="the benchmark's own",
        ),
    ] = None,
    experiment: Annotated[
        str, typer.Option(help="ope: one pass; tre, sre: OTB's robustness; vot_reset or vot_anchor.")
    ] = "ope",
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER", help="Other trackers' result files to stand beside; repeat for several."
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="Settings of the tracker: udt or dcfnet.")] = "udt",
    stage: Annotated[
        int | None,
        typer.Option(help="Stage of the backbone to look through, from 0.", show_default="the last"),
    ] = None,
    lanes: Annotated[
        int, typer.Option(min=1, help="Sequences that advance together; boxes do not depend on it.")
    ] = 4,
    untrained: Annotated[
        bool, typer.Option(help="Run the same network with random weights, too; takes as long again.")
    ] = True,
) -> None:
    """Track a benchmark's targets through an encoder's features, and score it as the benchmark does.

    Each sequence's boxes are written when it is done: run the same command again after a stop. Without an
    encoder only the result files of `--compare` are scored.

    Examples:

    - `mmssl evaluate tracking --encoder runs/tracker/udt/encoders/image --root OTB100 --out runs/otb`

    - `mmssl evaluate tracking --root OTB100 --compare KCF=results/KCF --compare CSRT=results/CSRT --out kcf`
    """
    from mmssl.errors import MmsslError
    from mmssl.evaluate import parse_evaluation
    from mmssl.evaluate.tracking.evaluation import TrackingConfig, track

    settings = {
        "name": "tracking",
        "benchmark": {
            "kind": benchmark,
            "root": root,
            "sequences": [name.strip() for name in sequences.split(",") if name.strip()],
        },
        "protocols": protocol or [],
        "experiment": experiment,
        "compare": _named(compare or []),
        "preset": preset,
        "stage": stage,
        "lanes": lanes,
    }
    config = parse_evaluation(settings, "mmssl evaluate tracking")
    assert isinstance(config, TrackingConfig)
    if encoder is None and not config.compare:
        raise MmsslError("mmssl evaluate tracking: expected --encoder, --compare, or both")
    trackers = {} if encoder is None else _eyes(encoder, stage, untrained)
    console = Console()
    for shown in track(config, benchmark, trackers, out):
        console.print(_summary(shown))
        console.print(_by_sequence(shown))
        console.print(shown.protocol, style="dim", highlight=False)
    console.print(f"result files, tables, plots and pictures: {out}", highlight=False, markup=False)


def _question(asked: str) -> tuple[str, str]:
    """``knn`` → knn, knn; ``both=knn`` → both, knn."""
    name, equals, kind = asked.partition("=")
    return (name, kind) if equals else (name, name)


def _named(pairs: Sequence[str]) -> dict[str, str]:
    from mmssl.errors import MmsslError

    found = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not (name and equals and folder) or name in found:
            raise MmsslError(f"--compare {pair}: expected NAME=FOLDER, each name once")
        found[name] = folder
    return found


def _eyes(folder: Path, stage: int | None, both: bool) -> dict[str, Any]:
    """The feature maps to track through: of the encoder, and of the same network untrained."""
    from mmssl.engine.setup import pick_device
    from mmssl.evaluate import untrained
    from mmssl.models.artifact import load_encoder
    from mmssl.models.feature_map import FeatureMap, frame_encoder

    trained = frame_encoder(load_encoder(folder), f"--encoder {folder}")
    encoders = {"trained": trained} | (untrained({"untrained": trained.config}) if both else {})
    return {name: FeatureMap(one, stage).to(pick_device()) for name, one in encoders.items()}  # type: ignore[arg-type]


def _summary(shown: "Shown") -> Table:
    """Metrics by tracker, the ceiling in the last column."""
    table = Table("metric", *shown.outcomes, "ceiling", title=shown.title)
    for metric, best in shown.ceiling.values.items():
        scored = [its.total.values.get(metric) for its in shown.outcomes.values()]
        table.add_row(metric, *map(_number, [*scored, best]))
    speeds = [its.frames / its.seconds if its.seconds else None for its in shown.outcomes.values()]
    if any(speeds):
        table.add_row("frames/s", *map(_number, speeds), "")
    return table


def _by_sequence(shown: "Shown") -> Table:
    """The headline by sequence, then by attribute."""
    metric = next(iter(shown.ceiling.values))
    table = Table("sequence", "frames", *shown.outcomes, title=f"{metric} by sequence")
    for sequence in shown.sequences:
        each = [its.each[sequence.name].values.get(metric) for its in shown.outcomes.values()]
        table.add_row(sequence.name, str(len(sequence)), *map(_number, each))
    table.add_section()
    for name in next(iter(shown.outcomes.values())).attributes:
        having = [its.attributes[name].values.get(metric) for its in shown.outcomes.values()]
        count = sum(name in sequence.attributes for sequence in shown.sequences)
        table.add_row(f"attribute {name}", f"{count} sequences", *map(_number, having))
    return table


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.2f} {unit}".rstrip()
