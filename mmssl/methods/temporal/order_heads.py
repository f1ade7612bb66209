"""What answers a question of order: features at their places (N, places, d) to classes (N, classes)."""

from itertools import combinations, pairwise

import torch
from torch import Tensor, nn


class Concatenated(nn.Module):
    """Shuffle & Learn: the features side by side, then linear layers with ReLU between them.

    Without hidden layers, as in the paper, a logit is a sum of one term for each place: whether the middle
    lies between the ends, when the ends are equal, is then no question about the ends at all. Hidden layers
    let the places be compared.
    """

    def __init__(
        self, dim: int, places: int, classes: int, hidden: tuple[int, ...] = (), dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths = (places * dim, *hidden, classes)
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        for into, out in pairwise(widths):
            layers += [nn.Linear(into, out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z.flatten(1))


class Pairwise(nn.Module):
    """OPN and VCOP: one layer looks at every pair of places i < j, the next at all pairs side by side."""

    def __init__(self, dim: int, places: int, classes: int, width: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.first, self.second = (list(side) for side in zip(*combinations(range(places), 2), strict=True))
        self.pair = nn.Sequential(nn.Linear(2 * dim, width), nn.ReLU())  # shared by all pairs
        self.classes = nn.Sequential(nn.Dropout(dropout), nn.Linear(len(self.first) * width, classes))

    def forward(self, z: Tensor) -> Tensor:
        pairs = self.pair(torch.cat([z[:, self.first], z[:, self.second]], dim=2))
        return self.classes(pairs.flatten(1))
