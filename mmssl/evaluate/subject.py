"""What evaluations question: encoders and a shard set, with features extracted once and shared."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from rich import get_console
from rich.progress import track
from torch import Tensor

from mmssl.errors import MmsslError
from mmssl.models.encoder import Encoder, EncoderConfig, build_encoder
from mmssl.shards.manifest import load_manifest
from mmssl.stream import Source, StreamConfig, scan
from mmssl.stream.views.centre import CentreCrop

UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and standard deviation that leave pixels in 0..1, for thumbnails."""


@dataclass(frozen=True)
class Features:
    """Pooled features of one split, in the order of the shards."""

    x: Tensor
    """(N, d) float32."""
    labels: dict[str, Tensor]
    """Label name to (N,) int64; -1 = the sample has no such label."""
    ids: Tensor
    """(N,) int64 stable sample ids."""
    keys: list[str]
    unreadable: int = 0
    """Samples of the split that could not be read and are in none of the arrays."""

    def __len__(self) -> int:
        return len(self.x)

    def labelled(self, name: str) -> tuple[Tensor, Tensor, int]:
        """Features (M, d) and labels (M,) of the samples that have the label, and how many have none."""
        labels = self.labels[name]
        has = labels >= 0
        return self.x[has], labels[has], int((~has).sum())


class Subject:
    """Trained encoders by view name, and the shard set they are questioned on.

    ``gallery`` is the split that may be fitted on, ``queries`` the one that is scored. ``folder`` takes the
    data of figures; with ``None`` (the untrained encoder beside the trained one) no figure is made. Encoders
    run in evaluation mode in float32, whatever they were trained in.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        shards: str | Path,
        *,
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
        self.manifest = load_manifest(shards)
        self.config = StreamConfig(
            sources=(Source(shards=str(shards), split=queries),),
            workers=workers,
        )
        self.gallery, self.queries = gallery, queries
        self.folder, self.seed, self.batch_size = folder, seed, batch_size
        self._features: dict[tuple[str, str], Features] = {}

    @property
    def classes(self) -> dict[str, list[str]]:
        """Label name to class names."""
        return self.manifest.classes

    def encoder(self, name: str = "image") -> Encoder:
        """The encoder of a view.

        Raises:
            MmsslError: the trained stage left no encoder of that name.
        """
        if name not in self.encoders:
            raise MmsslError(
                f"evaluation: encoder {name!r} does not exist; there is {', '.join(self.encoders)}"
            )
        return self.encoders[name]

    def view(self, name: str = "image") -> CentreCrop:
        """How images are brought to the encoder of that name: the centre crop, its size and statistics."""
        encoder = self.encoder(name)
        return CentreCrop(encoder.config.image_size, encoder.mean, encoder.std)

    def features(self, split: str, encoder: str = "image") -> Features:
        """Pooled features of every readable sample of ``split``; computed once, then remembered."""
        if (split, encoder) not in self._features:
            self._features[split, encoder] = self._extract(split, encoder)
        return self._features[split, encoder]

    @torch.inference_mode()
    def _extract(self, split: str, name: str) -> Features:
        encoder = self.encoder(name)
        view = self.view(name)
        total = self.manifest.split(split).samples
        batches = scan(self.config, {"image": view}, split=split, batch_size=self.batch_size)
        x: list[Tensor] = []
        ids: list[Tensor] = []
        keys: list[str] = []
        labels: list[Mapping[str, Tensor]] = []
        steps, quiet = -(-total // self.batch_size), not get_console().is_terminal
        for batch in track(batches, f"features of {split}", steps, transient=True, disable=quiet):
            images = batch.image.to(self.device).contiguous(memory_format=torch.channels_last)
            x.append(encoder(images).float().cpu())
            ids.append(batch.id)
            keys.extend(batch.key)
            labels.append(batch.label)
        if not x:
            raise MmsslError(f"shard set {self.manifest.name!r}: split {split!r} has no readable sample")
        return Features(torch.cat(x), _join(labels, ids), torch.cat(ids), keys, total - len(keys))

    def thumbnails(self, split: str, ids: Sequence[int], size: int) -> list[Image.Image]:
        """RGB pictures of ``size`` × ``size`` pixels of the samples with the given ids, in that order."""
        view = CentreCrop(size, *UNCHANGED, resize=size)
        wanted, found = set(ids), {}
        for batch in scan(self.config, {"image": view}, split=split, batch_size=self.batch_size):
            for row, id_ in enumerate(batch.id.tolist()):
                if id_ in wanted:
                    pixels = batch.image[row].clamp(0, 1).mul(255).round().to(torch.uint8)
                    found[id_] = Image.fromarray(pixels.permute(1, 2, 0).numpy())
            if len(found) == len(wanted):
                break
        return [found[id_] for id_ in ids]

    def about(self, *splits: str, encoder: str = "image") -> str:
        """What all protocols share: image size, and samples left out because they are unreadable."""
        view = self.view(encoder)
        words = [f"{view.size} px centre crop of {view.resize} px, {view.kernel}"]
        for split in splits:
            features = self.features(split, encoder)
            if features.unreadable:
                words.append(f"{features.unreadable} of {split} unreadable and left out")
        return "; ".join(words)


def untrained(configs: Mapping[str, EncoderConfig], seed: int = 0) -> dict[str, Encoder]:
    """The same architectures with random weights, drawn from a fixed seed: what a score is compared with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {
            name: build_encoder(config.model_copy(update={"weights": None}))
            for name, config in configs.items()
        }


def sprite(tiles: Sequence[Image.Image], columns: int) -> bytes:
    """One JPEG with all ``tiles`` (of equal size) in rows of ``columns``."""
    width, height = tiles[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height))
    for index, tile in enumerate(tiles):
        sheet.paste(tile, (index % columns * width, index // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=78)
    return buffer.getvalue()


def _join(labels: Sequence[Mapping[str, Tensor]], ids: Sequence[Tensor]) -> dict[str, Tensor]:
    """Concatenate the labels of all batches; a batch without a label name counts as having none (-1)."""
    names = sorted({name for batch in labels for name in batch})
    return {
        name: torch.cat(
            [
                batch[name] if name in batch else torch.full_like(rows, -1)
                for batch, rows in zip(labels, ids, strict=True)
            ]
        )
        for name in names
    }
