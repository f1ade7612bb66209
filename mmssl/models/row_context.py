"""CPC's context on images: convolutions that never look down, as in PixelCNN (Oord et al., ICML 2016)."""

from torch import Tensor, nn
from torch.nn.functional import pad, relu


class RowContext(nn.Module):
    """z (B, d, h, w) to c of the same shape: c of row r has seen the rows r − depth … r of z, none below.

    Residual blocks without normalisation, whose statistics would cross rows.
    """

    def __init__(self, dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(dim, width) for _ in range(depth))

    def forward(self, z: Tensor) -> Tensor:
        for block in self.blocks:
            z = block(z)
        return z


class _Block(nn.Module):
    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(dim, width, 1)
        self.look = nn.Conv2d(width, width, (2, 3))
        self.widen = nn.Conv2d(width, dim, 1)

    def forward(self, z: Tensor) -> Tensor:
        y = relu(self.narrow(relu(z)))
        y = self.look(pad(y, (1, 1, 1, 0)))  # a row above the first: the kernel ends at its own row
        return z + self.widen(relu(y))
