"""The flow of a video: any of its fields by number, and the times of the frames that they start from."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.shards.flow.jpeg import flow_jpeg_size
from mmssl.shards.flow.matroska import read_packets
from mmssl.stream.decode import EncodedFlow, decode_flow, png_size


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

    packets: list[memoryview]
    """The encoded fields."""
    height: int
    """Of the first field, and so of all."""
    width: int

    def __init__(self, flow: EncodedFlow) -> None:
        self.times, self.packets = read_packets(flow.data)
        first = self.packets[0]
        self.height, self.width = flow_jpeg_size(first) if is_jpeg(first) else png_size(first)

    def __len__(self) -> int:
        """n, the number of fields."""
        return len(self.packets)

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
        out = np.empty((len(numbers), 2, self.height, self.width), np.float32)
        for number, field in zip(numbers.tolist(), out, strict=True):
            packet = self.packets[number]
            decode_flow(packet, "jpg" if is_jpeg(packet) else "png", field)
        return torch.from_numpy(out)

    def close(self) -> None:
        """Let go of the packets."""
        self.packets = []

    def __enter__(self) -> "FlowReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_flow(flow: EncodedFlow) -> None:
    """Decode every field.

    Raises:
        ValueError: it cannot be read, or not all of it; names the field by its number.
    """
    with open_flow(flow) as fields:
        for number in range(len(fields)):
            try:
                fields.read(np.array([number]))
            except ValueError as error:
                raise ValueError(f"field {number} of {len(fields)}: {error}") from error


def is_jpeg(field: memoryview) -> bool:
    """Whether an encoded field is a JPEG; otherwise it is a PNG."""
    return bytes(field[:2]) == b"\xff\xd8"
