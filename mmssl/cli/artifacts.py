"""``mmssl report`` and ``export``: for a finished run, or a trained encoder."""

from pathlib import Path
from typing import Annotated

import typer

Encoder = Annotated[
    Path,
    typer.Argument(
        help="Folder with encoder.safetensors: runs/PIPELINE/STAGE/encoders/NAME; of a CLIP the stage's own."
    ),
]


def report(
    run: Annotated[Path, typer.Argument(help="A pipeline's run folder: runs/PIPELINE.")],
) -> None:
    """Write a run's report.html again: one page that opens offline.

    Example: `mmssl report runs/quickstart`
    """
    from mmssl.report import write_report

    print(write_report(run))


def export(
    encoder: Encoder,
    out: Annotated[Path, typer.Option(help="Folder to write; must not hold anything else.")],
    format: Annotated[
        str,
        typer.Option(help="What shall load it: timm (images), open_clip (CLIP), transformers (CLIP, BERT)."),
    ] = "timm",
) -> None:
    """Write an encoder, or a whole CLIP, in a form that other tools load.

    Example: `mmssl export runs/cifar10/simclr/encoders/image --out my_resnet18`

    Example: `mmssl export runs/clip/clip --format open_clip --out my_clip`
    """
    from mmssl.methods.language.exchange import export

    print(export(encoder, out, format))
