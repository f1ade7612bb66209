"""Look at a shard set: a table for the terminal, a contact sheet as PNG or as one HTML file."""

import base64
import html
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from mmssl import files
from mmssl.shards.captions import describe_facts
from mmssl.shards.index import ShardIndex
from mmssl.shards.local import LocalShards
from mmssl.shards.manifest import Manifest, load_manifest
from mmssl.shards.pictures import PICTURED, describe, thumbnail
from mmssl.shards.writer import RawSample


def summary(root: Path | str) -> RenderableType:
    """What the set holds: splits, fields with encodings and sizes, classes.

    Raises:
        MmsslError: no manifest, or an index is missing.
    """
    manifest = load_manifest(root)
    title = f"[bold]{manifest.name}[/bold]: {manifest.samples:,} samples, {_size(manifest.bytes)}"
    splits = Table()
    for heading in ("split", "samples", "shards", "size"):
        splits.add_column(heading, justify="left" if heading == "split" else "right")
    for name, split in manifest.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        splits.add_row(name, f"{split.samples:,}", str(len(split.shards)), _size(size))
    parts: list[RenderableType] = [title, splits, _fields(Path(root), manifest)]
    for label, names in manifest.classes.items():
        shown = ", ".join(names[:12]) + (f", … ({len(names)} classes)" if len(names) > 12 else "")
        parts.append(f"[bold]{label}[/bold]: {shown}")
    if manifest.built.get("captions"):
        told = describe_facts(manifest.built["captions"], manifest.samples)
        parts.append(f"[bold]caption[/bold]: {escape(told)}")
    if manifest.built.get("skipped"):
        parts.append(f"unreadable inputs left out, see skipped.jsonl: {manifest.built['skipped']}")
    return Group(*parts)


def _fields(root: Path, manifest: Manifest) -> Table:
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for split in manifest.splits.values():
        for shard in split.shards:
            index = ShardIndex.load(root / shard.index)
            for at, column in enumerate(index.columns):
                count[column] += int((index.offset[:, at] >= 0).sum())
                size[column] += int(index.size[:, at].sum())
    table = Table()
    for heading in ("field", "encoding", "samples", "share", "mean size"):
        table.add_column(heading, justify="left" if heading in ("field", "encoding") else "right")
    for column in sorted(count):
        field, _, extension = column.partition(".")
        mean = size[column] / max(count[column], 1)
        share = count[column] / max(manifest.samples, 1)
        table.add_row(field, extension, f"{count[column]:,}", f"{share:.1%}", _size(mean))
    return table


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _evenly(root: Path | str, split: str | None, count: int) -> Iterator[tuple[str, int, RawSample]]:
    """``count`` samples of each split (or of one), evenly spread over its ids."""
    shards = LocalShards(root)
    for name in [split] if split else list(shards.manifest.splits):
        samples = shards.manifest.split(name).samples
        shown = min(count, samples)
        for position in range(shown):
            id_ = position * samples // shown
            yield name, id_, shards.sample(name, id_)


def _pictures(sample: RawSample, size: int) -> Iterator[tuple[str, Image.Image]]:
    for column in sorted(
        sample.members, key=lambda column: (not column.startswith(("image", "video")), column)
    ):
        field = column.partition(".")[0]
        if field.partition("_")[0] in PICTURED:
            try:
                yield field, thumbnail(field, sample.members[column], size)
            except (ValueError, OSError):
                yield f"{field}: unreadable", Image.new("RGB", (size, size), (90, 0, 0))


def _words(sample: RawSample, classes: dict[str, list[str]]) -> list[str]:
    """Labels before captions."""
    columns = [column for column in sample.members if column.startswith(("label", "caption"))]
    return [
        describe(column.partition(".")[0], sample.members[column], classes)
        for column in sorted(columns, reverse=True)
    ]


def write_png(root: Path | str, path: Path | str, *, split: str | None = None, count: int = 64) -> None:
    """A contact sheet: one row of pictures a sample where there are several modalities, else a grid."""
    size, caption = 128, 16
    classes = load_manifest(root).classes
    cells = [
        (list(_pictures(sample, size)), (_words(sample, classes) or [sample.key])[0])
        for _, _, sample in _evenly(root, split, count)
    ]
    width = max(1, *(len(pictures) for pictures, _ in cells))
    columns = max(1, 8 // width)
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (columns * width * (size + 4), max(1, rows) * (size + caption + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (pictures, words) in enumerate(cells):
        x, y = number % columns * width * (size + 4), number // columns * (size + caption + 4)
        for at, (_, picture) in enumerate(pictures):
            sheet.paste(picture, (x + at * (size + 4), y))
        draw.text((x, y + size), words[: 20 * width], fill="black")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    files.write_bytes(path, buffer.getvalue())


def write_html(root: Path | str, path: Path | str, *, split: str | None = None, count: int = 64) -> None:
    """One page that opens offline: every picture, label and caption of ``count`` samples of each split."""
    manifest = load_manifest(root)
    cards = []
    for name, id_, sample in _evenly(root, split, count):
        pictures = "".join(
            f'<img src="data:image/jpeg;base64,{_jpeg(picture)}" title="{html.escape(field)}">'
            for field, picture in _pictures(sample, 160)
        )
        words = "".join(f"<p>{html.escape(text)}</p>" for text in _words(sample, manifest.classes))
        title = f"<p><b>{html.escape(name)} {id_}</b> {html.escape(sample.key)}</p>"
        cards.append(f"<div>{pictures}{title}{words}</div>")
    page = _PAGE.format(
        name=html.escape(manifest.name), samples=f"{manifest.samples:,}", cards="\n".join(cards)
    )
    files.write_bytes(path, page.encode("utf-8", "replace"))


def _jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>
body {{ font: 14px system-ui, sans-serif; margin: 2em; color: #222 }}
main {{ display: flex; flex-wrap: wrap; gap: 16px }}
div {{ border: 1px solid #ddd; border-radius: 6px; padding: 8px; max-width: 700px }}
img {{ margin-right: 4px }} p {{ margin: 4px 0; overflow-wrap: anywhere }}
</style></head><body><h1>{name}</h1><p>{samples} samples</p><main>
{cards}
</main></body></html>
"""
