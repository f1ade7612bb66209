"""The flow of a video: any of its fields by number, and the times of the frames that they start from."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.shards.flow.matroska import read_packets
from mmssl.stream.decode import EncodedFlow, decode_flow


def open_flow(flow: EncodedFlow) -> "FlowReader":
    """Open the flow of a sample: ``with open_flow(sample["flow"]) as fields: ...``.

    Raises:
        ValueError: no Matroska file of fields, or one that is cut short.
    """
    return FlowReader(flow)


class FlowReader:
    """Opening finds the packets, ``read`` decodes those that are asked for.

    Raises:
        ValueError: no Matroska file of fields, or one that is cut short.
    """

    times: NDArray[np.float64]
    """(n,) seconds at which the frames are shown that the fields start from, ascending."""

    def __init__(self, flow: EncodedFlow) -> None:
        self.times, self._packets = read_packets(flow.data)

    def __len__(self) -> int:
        """n, the number of fields."""
        return len(self._packets)

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """(k, 2, H, W) float32 pixels a gap, NaN where unknown: the fields with these numbers.

        In any order and with repetitions.

        Raises:
            ValueError: a number outside 0..n-1, a field that does not decode, or fields of different sizes.
        """
        numbers = np.asarray(numbers, np.int64).reshape(-1)
        if not len(numbers):
            raise ValueError("no numbers of fields; expected at least one")
        if numbers.min() < 0 or numbers.max() >= len(self):
            raise ValueError(f"fields {numbers.min()} to {numbers.max()}; the flow has {len(self)}")
        out: NDArray[np.float32] | None = None
        for row, number in enumerate(numbers.tolist()):
            packet = self._packets[number]
            kind = "jpg" if bytes(packet[:2]) == b"\xff\xd8" else "png"
            if out is None:
                first = decode_flow(packet, kind)
                out = np.empty((len(numbers), *first.shape), np.float32)
                out[0] = first
            else:
                decode_flow(packet, kind, out[row])
        return torch.from_numpy(out)

    def close(self) -> None:
        """Let go of the packets."""
        self._packets = []

    def __enter__(self) -> "FlowReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
