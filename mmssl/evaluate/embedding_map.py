"""A picture of the feature space: t-SNE in two dimensions, with every sample's thumbnail."""

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import normalize

from mmssl.evaluate.base import Evaluation, EvaluationConfig, Score
from mmssl.evaluate.subject import sprite
from mmssl.files import write_bytes, write_json

if TYPE_CHECKING:
    from mmssl.evaluate.subject import Subject

COLUMNS = 40
"""Thumbnails in a row of the sheet."""


class MapConfig(EvaluationConfig):
    """t-SNE of the query split (van der Maaten & Hinton, JMLR 2008); a figure, not a score."""

    name: Literal["map"] = "map"
    encoder: str | None = None
    """By the name of the view it reads, or ``A+B`` for both; by default the only one there is."""
    points: int = Field(default=1000, ge=10, le=2000)
    """At most so many samples, drawn from the subject's seed."""
    perplexity: PositiveFloat = 30.0
    """Effective number of neighbours; lowered for small splits to a quarter of the points."""
    thumbnail: PositiveInt = 40
    """Side in pixels."""


class EmbeddingMap(Evaluation):
    """Writes ``map.json`` (points, labels, keys) and ``map.jpg`` (their thumbnails, in the same order)."""

    Config = MapConfig

    def run(self, subject: "Subject") -> list[Score]:
        if subject.folder is None:
            return []
        config = self.config
        features = subject.features(subject.queries, config.encoder).directions
        generator = torch.Generator().manual_seed(subject.seed)
        rows = torch.randperm(len(features), generator=generator)[: config.points].sort().values
        perplexity = min(config.perplexity, len(rows) / 4)
        places = tsne(features.x[rows], perplexity, subject.seed)
        tiles = subject.thumbnails(subject.queries, features.ids[rows].tolist(), config.thumbnail)
        write_bytes(subject.folder / "map.jpg", sprite(tiles, COLUMNS))
        write_json(
            subject.folder / "map.json",
            {
                "x": [round(v, 3) for v in places[:, 0].tolist()],
                "y": [round(v, 3) for v in places[:, 1].tolist()],
                "labels": {name: values[rows].tolist() for name, values in features.labels.items()},
                "classes": subject.classes,
                "keys": [features.keys[row] for row in rows.tolist()],
                "sprite": {"file": "map.jpg", "tile": config.thumbnail, "columns": COLUMNS},
                "protocol": (
                    f"t-SNE of {len(rows)} of {subject.queries} ({len(features)}), L2-normalised features, "
                    f"50 principal components, perplexity {perplexity:g}, seed {subject.seed}"
                ),
            },
        )
        return []


def tsne(x: Tensor, perplexity: float, seed: int) -> Tensor:
    """Places (N, 2) float32 of (N, d) features, after L2 normalisation and PCA to 50 dimensions."""
    from sklearn.decomposition import PCA  # here, because it takes two seconds and only maps need it
    from sklearn.manifold import TSNE

    unit = normalize(x, dim=1).double().numpy()
    reduced = PCA(min(50, *unit.shape), svd_solver="full").fit_transform(unit)
    placed = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return torch.from_numpy(placed).float()
