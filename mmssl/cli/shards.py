"""``mmssl shards``: build, index, inspect and verify shard sets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mmssl.errors import EXIT_BAD_INPUT
from mmssl.progress import progress_bar
from mmssl.shards.build import build_shards
from mmssl.shards.foreign import index_tars
from mmssl.shards.inspect import summary, write_html, write_png
from mmssl.shards.recipe import load_recipe
from mmssl.shards.verify import Decoder, verify

app = typer.Typer(
    name="shards",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Turn raw data into shards (tar files with an index), and check what is in them.",
)
console = Console(stderr=True)

Root = Annotated[Path, typer.Argument(help="Folder of the shard set: the one that holds manifest.json.")]


@app.command()
def build(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of one in shards/ (cifar10).")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Change keys of the recipe.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to.", show_default="data/shards/NAME")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on it.")] = 1,
) -> None:
    """Build a shard set from raw data.

    Run the same command again after an interruption: finished shards are kept. The same raw data give the
    same bytes. Unreadable inputs are skipped and listed in skipped.jsonl; more than max_bad_share of them
    is an error.

    Examples:

    - `mmssl shards build miniworld`

    - `mmssl shards build cifar10 source.root=cifar10.zip --workers 4`

    - `mmssl shards build my.yaml --out /data/my_shards shard_mb=512`
    """
    loaded = load_recipe(recipe, overrides or [])
    folder = out or Path("data", "shards", loaded.name)
    with progress_bar(loaded.name, "inputs", console) as progress:
        manifest = build_shards(loaded, folder, workers=workers, progress=progress)
    console.print(summary(folder))
    skipped = sum(manifest.built["skipped"].values())
    if skipped:
        console.print(
            f"[yellow]{skipped} unreadable inputs were left out: {folder / 'skipped.jsonl'}[/yellow]"
        )
    print(folder)


@app.command()
def index(
    tars: Annotated[
        list[Path], typer.Argument(help="Tars of one folder, or the folder (subfolders are splits).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write here, with links to the tars.", show_default="beside the tars")
    ] = None,
    split: Annotated[str, typer.Option(help="What to call tars that lie in no subfolder.")] = "train",
    name: Annotated[
        str | None, typer.Option(help="What to call the set.", show_default="folder name")
    ] = None,
) -> None:
    """Make a shard set of anybody's webdataset tars, without copying them.

    Each tar is read once. Keys that are interleaved, repeated or dotted would be grouped wrongly: they are
    listed and nothing is written. Pickled members are left out and never opened.

    Examples:

    - `mmssl shards index /data/laion/*.tar --out laion_index`

    - `mmssl shards index /data/flickr` (with train/*.tar and val/*.tar in it)
    """
    with progress_bar("index", "tars", console) as progress:
        report = index_tars(tars, out=out, split=split, name=name, progress=progress)
    folder = out or (tars[0] if tars[0].is_dir() else tars[0].parent)
    console.print(summary(folder))
    for field, share in report.manifest.fields.items():
        if share < 1:
            console.print(f"[yellow]{1 - share:.1%} of the samples have no {field}[/yellow]")
    for extension, count in sorted(report.ignored.items()):
        console.print(f"[yellow]{count} members .{extension} ignored: no known modality[/yellow]")
    if report.pickled:
        shown = ", ".join(report.pickled[:5])
        console.print(f"[yellow]{len(report.pickled)} pickled members left out, such as {shown}[/yellow]")
    print(folder)


@app.command()
def inspect(
    root: Root,
    html: Annotated[Path | None, typer.Option(help="Also write a contact sheet as one HTML page.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also write a contact sheet as a picture.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.", show_default="all")] = None,
    count: Annotated[int, typer.Option(min=1, help="Samples of each split on a contact sheet.")] = 64,
) -> None:
    """Show what a shard set holds: splits, fields, encodings, sizes, classes.

    Example: `mmssl shards inspect data/shards/cifar10 --html cifar10.html`
    """
    Console().print(summary(root))
    if html is not None:
        write_html(root, html, split=split, count=count)
    if png is not None:
        write_png(root, png, split=split, count=count)


def _decoder() -> Decoder:
    """Decoding as for training, and every frame of every video, every field of every flow."""
    from mmssl.shards.sources.videos import check_video
    from mmssl.stream.decode import (
        EncodedFlow,
        EncodedVideo,
        decode,
    )  # brings torch, which only --decode needs
    from mmssl.stream.flow import check_flow

    def check(field: str, extension: str, data: bytes) -> None:
        decoded = decode(field, extension, data)
        if isinstance(decoded, EncodedVideo):
            check_video(data)
        elif isinstance(decoded, EncodedFlow):
            check_flow(decoded)

    return check


@app.command(name="verify")
def verify_command(
    root: Root,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every field as well; much slower.")
    ] = False,
) -> None:
    """Check every byte of a shard set against its checksums, and its indexes against its tars.

    Lists what is wrong by shard, key and field, and exits with 2 if anything is.

    Example: `mmssl shards verify data/shards/cifar10 --decode`
    """
    with progress_bar("verify", "shards", console) as progress:
        problems = verify(root, decode=_decoder() if decode else None, progress=progress)
    for problem in problems:
        print(problem)
    if problems:
        console.print(f"[red]{len(problems)} problems in {root}[/red]")
        raise typer.Exit(EXIT_BAD_INPUT)
    console.print(f"[green]{root}: all is well[/green]")
