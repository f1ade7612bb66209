"""The size of a sequence's frames, for protocols that cut regions to the image."""

from mmssl.evaluate.tracking.sequence import Sequence


def frame_size(sequence: Sequence) -> tuple[int, int]:
    """Width and height: as the layout says, else those of the first frame, which is decoded.

    Raises:
        MmsslError: it cannot be read; names the file.
    """
    if sequence.size is not None:
        return sequence.size
    _, height, width = sequence.frames[0].shape
    return width, height
