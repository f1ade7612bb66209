"""What evaluations question: encoders and a shard set, with features extracted once and shared."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich import get_console
from rich.progress import track
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.evaluate.features import Features, described, join_labels, joined, told, words_of
from mmssl.evaluate.looks import Look, look_at, pixels
from mmssl.evaluate.parts import Chosen, MetaValue, Part, find_part
from mmssl.methods.base import Method
from mmssl.methods.language.towers import ImageText
from mmssl.models.artifact import AnyEncoder, build_any
from mmssl.models.encoder import StartConfig, with_weights
from mmssl.shards.manifest import load_manifest
from mmssl.stream import Source, Stream, StreamConfig, scan
from mmssl.stream.batch import Batch
from mmssl.stream.views.base import View

QUESTIONS = "questions"
"""Inside the folder of an evaluate stage: what questions leave that have names of their own.

Each has a folder there as the stage's own, with figures, tables, pictures and a map."""

__all__ = ["Features", "Subject", "described", "sprite", "untrained"]


class Subject:
    """Trained encoders by view name, and the shard set they are questioned on.

    ``gallery`` is the split that may be fitted on, ``queries`` the one that is scored; wherever a split is
    asked for, ``KEY=VALUE`` means all samples whose metadata says so (``find_part``). ``folder`` takes the
    data of figures; with ``None`` (the untrained encoder beside the trained one) no figure is made. Encoders
    run in evaluation mode in float32, whatever they were trained in. ``method`` is the whole method with its
    heads, where training has left it. On videos, clip encoders see ``clips`` clips spread over each, image
    encoders ``frames`` frames, and their features are averaged.
    """

    def __init__(
        self,
        encoders: Mapping[str, AnyEncoder],
        shards: str | Path,
        *,
        method: Method | None = None,
        clips: int = 1,
        frames: int = 16,
        gallery: str = "train",
        queries: str = "val",
        folder: Path | None = None,
        device: torch.device | str = "cpu",
        seed: int = 0,
        workers: int = 0,
        batch_size: int = 128,
    ) -> None:
        self.device = torch.device(device)
        self.encoders = {name: encoder.eval().to(self.device).float() for name, encoder in encoders.items()}
        self.method = None if method is None else method.eval().to(self.device)
        self.clips, self.frames = clips, frames
        self.manifest = load_manifest(shards)
        self.config = StreamConfig(
            sources=(Source(shards=str(shards), split=queries),),
            workers=workers,
        )
        self.gallery, self.queries = gallery, queries
        self.folder, self.seed, self.batch_size = folder, seed, batch_size
        self._features: dict[tuple[str, str, int], Features] = {}
        self._parts: dict[str, Part] = {}

    @property
    def classes(self) -> dict[str, list[str]]:
        """Label name to class names."""
        return self.manifest.classes

    def names(self, encoder: str | None = None) -> tuple[str, ...]:
        """The encoders that ``A+B`` means; without a name the only one there is.

        Raises:
            MmsslError: the trained stage left no encoder of that name, or several and none was named.
        """
        if encoder is None and len(self.encoders) == 1:
            return tuple(self.encoders)
        names = tuple((encoder or "").split("+"))
        if unknown := [name for name in names if name not in self.encoders]:
            found = repr(encoder if len(names) == 1 else unknown[0])
            some = "" if len(self.encoders) == 1 else ", or several of them with + between"
            raise MmsslError(
                f"evaluation: encoder: expected one of {', '.join(self.encoders)}{some}, found {found}"
            )
        if len(set(names)) < len(names):
            raise MmsslError(f"evaluation: encoder: expected each encoder once, found {encoder!r}")
        return names

    def encoder(self, name: str | None = None) -> AnyEncoder:
        """The encoder of that name; without a name the only one there is.

        Raises:
            MmsslError: the trained stage left no encoder of that name, several and none was named, or several
                were named.
        """
        names = self.names(name)
        if len(names) > 1:
            raise MmsslError(f"evaluation: encoder: expected a single encoder here, found {name!r}")
        return self.encoders[names[0]]

    def look(self, name: str | None = None, *, clips: int | None = None, crops: int = 1) -> Look:
        """How samples are brought to the encoder of that name; ``clips`` is by default the subject's."""
        fields = {field for field, share in self.manifest.fields.items() if share}
        clips = self.clips if clips is None else clips
        encoder, (own,) = self.encoder(name), self.names(name)
        field = view_field(self.method, own)
        return look_at(encoder, fields, clips=clips, frames=self.frames, crops=crops, field=field)

    def looks(self, encoder: str | None, *, clips: int | None = None, crops: int = 1) -> dict[str, Look]:
        """The look of every encoder that ``A+B`` means, by its name."""
        return {name: self.look(name, clips=clips, crops=crops) for name in self.names(encoder)}

    def features(self, split: str, encoder: str | None = None, *, clips: int | None = None) -> Features:
        """Pooled features of every readable sample of ``split``; computed once, then remembered.

        Those of ``A+B`` stand side by side, of the samples that both encoders could be shown.
        """
        clips = self.clips if clips is None else clips
        parts = []
        for name in self.names(encoder):
            key = (split, name, clips)
            if key not in self._features:
                look = self.look(name, clips=clips)
                read = {"pooled": lambda seen, look=look: look.features(seen, self.device)}
                self._features[key] = self.extract(split, look, read)["pooled"]
            parts.append(self._features[key])
        return joined(parts)

    @contextmanager
    def asked_as(self, name: str) -> Iterator[None]:
        """Figures and pictures of a question that has a name of its own go to ``questions/NAME``."""
        folder = self.folder
        self.folder = None if folder is None else folder / QUESTIONS / name
        try:
            yield
        finally:
            self.folder = folder

    def part(self, split: str) -> Part:
        """What to read for a split, or for ``KEY=VALUE``; found once, then remembered."""
        if split not in self._parts:
            self._parts[split] = find_part(self.manifest, self.config, split)
        return self._parts[split]

    def scan(self, split: str, view: View, what: str, batch_size: int | None = None) -> Iterator[Batch]:
        """Every readable sample of ``split`` in order, seen through ``view`` as ``batch.input``."""
        size, part = batch_size or self.batch_size, self.part(split)
        batches = part.own(scan(part.config, {"input": part.view(view)}, batch_size=size, seed=self.seed))
        quiet = not get_console().is_terminal
        return iter(track(batches, what, -(-part.samples // size), transient=True, disable=quiet))

    def shuffled(self, split: str, view: View, batch_size: int, steps: int) -> Iterator[Batch]:
        """Batches of ``split`` in random order, pass after pass as in training, as ``batch.input``.

        Raises:
            MmsslError: too many samples cannot be read.
        """
        part = self.part(split)
        stream = Stream(part.config, {"input": part.view(view)}, batch_size=batch_size, seed=self.seed)
        return part.own(stream.batches(steps=steps))

    @torch.inference_mode()
    def extract(
        self, split: str, look: Look, reads: Mapping[str, Callable[[Any], Tensor]]
    ) -> dict[str, Features]:
        """What each of ``reads`` makes of what ``look`` shows: (B, …) of every readable sample of ``split``.

        Samples are decoded once for all of them; samples of many clips and crops come in smaller batches.

        Raises:
            MmsslError: no sample is readable.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in reads}
        ids: list[Tensor] = []
        keys: list[str] = []
        labels: list[Mapping[str, Tensor]] = []
        size = max(1, self.batch_size // look.views)
        for batch in self.scan(split, look.view, f"features of {split}", size):
            for name, read in reads.items():
                found[name].append(read(batch.input).cpu())
            ids.append(batch.id)
            keys.extend(batch.key)
            labels.append(batch.label)
        if not keys:
            raise MmsslError(f"shard set {self.manifest.name!r}: split {split!r} has no readable sample")
        left_out = self.part(split).samples - len(keys)
        joined, rows = join_labels(labels, ids), torch.cat(ids)
        return {name: Features(torch.cat(x), joined, rows, keys, left_out) for name, x in found.items()}

    def groups(self, split: str, name: str) -> dict[int, int]:
        """Sample id to a number that two samples share when their metadata has the same value of ``name``.

        Raises:
            MmsslError: the metadata of a sample has no such key.
        """
        found: dict[int, int] = {}
        for batch in self.scan(split, MetaValue(name), f"groups of {split}", 1024):
            found.update(zip(batch.id.tolist(), batch.input.tolist(), strict=True))
        if without := sum(number < 0 for number in found.values()):
            raise MmsslError(
                f"shard set {self.manifest.name!r}: {split}: {without} samples have no meta.{name}"
            )
        return found

    def labels(self, split: str) -> Features:
        """The labels of every sample of ``split``, with features of no dimension: nothing is decoded."""
        view = Chosen(self.look(next(iter(self.encoders))).view, ())
        batches = list(self.scan(split, view, f"labels of {split}", 1024))
        ids = [batch.id for batch in batches]
        keys = [key for batch in batches for key in batch.key]
        labels = join_labels([batch.label for batch in batches], ids)
        return Features(torch.empty(len(keys), 0), labels, torch.cat(ids), keys)

    def thumbnails(self, split: str, ids: Sequence[int], size: int) -> list[Image.Image]:
        """RGB pictures of ``size`` × ``size`` pixels of the samples with the given ids, in that order."""
        found = self.film(split, ids, 1, size)
        pixels_of = {id_: shown[0].mul(255).round().to(torch.uint8) for id_, shown in found.items()}
        return [Image.fromarray(pixels_of[id_].permute(1, 2, 0).numpy()) for id_ in ids]

    def film(self, split: str, ids: Sequence[int], frames: int, size: int) -> dict[int, Tensor]:
        """Pictures of the samples with the given ids: (frames, 3, size, size) float32 in 0..1.

        The frames of a video are spread evenly over it; an image is the only frame. No other sample is
        decoded.

        Raises:
            MmsslError: there is no readable sample of such an id.
        """
        view = Chosen(pixels(size, set(self.manifest.fields), frames), ids)
        found: dict[int, Tensor] = {}
        for batch in scan(self.part(split).config, {"input": view}, batch_size=self.batch_size):
            shown = batch.input["frames"] if isinstance(batch.input, dict) else batch.input[:, None]
            chosen = [id_ for id_ in batch.id.tolist() if id_ in view.ids]
            found.update(zip(chosen, shown.clamp(0, 1), strict=True))
            if len(found) == len(view.ids):
                break
        if missing := sorted(view.ids - found.keys()):
            name = self.manifest.name
            raise MmsslError(f"shard set {name!r}: {split}: no readable sample of id {missing[0]}")
        return found

    def about(self, *splits: str, encoder: str | None = None, clips: int | None = None) -> str:
        """What all protocols share: what the encoder sees, and which samples were left out as unreadable."""
        found = {split: self.features(split, encoder, clips=clips) for split in splits}
        return told(words_of(self.looks(encoder, clips=clips)), found)


def view_field(method: Method | None, name: str) -> str | None:
    """The sample's field that a method's view of that name reads, where the method says so."""
    if isinstance(method, ImageText):
        return str(method.config.field) if method.config.field and name == "image" else None
    views = getattr(getattr(method, "config", None), "views", None)
    return getattr(views.get(name), "field", None) if isinstance(views, Mapping) else None


def untrained(configs: Mapping[str, StartConfig], seed: int = 0) -> dict[str, AnyEncoder]:
    """The same architectures with random weights, drawn from a fixed seed: what a score is compared with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {name: build_any(with_weights(config, lambda _: None)) for name, config in configs.items()}


def sprite(tiles: Sequence[Image.Image], columns: int) -> bytes:
    """One JPEG with all ``tiles`` (of equal size) in rows of ``columns``."""
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=78)
    return buffer.getvalue()
