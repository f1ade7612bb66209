"""Flow along a video while it is built: estimated between stored frames, encoded, cut with its segments."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from mmssl.shards import encode
from mmssl.shards.bad_input import BadInput
from mmssl.shards.flow.estimators import Fields, Flow, Pixels
from mmssl.shards.flow.options import FlowOptions

_AHEAD = 8  # frames that may wait for their flow


class FlowTrack:
    """``put`` every stored frame in order; then ``members`` of the whole clip or of its segments.

    A thread estimates, and another one encodes, while the caller decodes the next frames, so that a machine
    with a core to spare builds as fast as the estimator alone. What is held of a video is its encoded fields,
    and what the estimator needs of a few frames.
    """

    def __init__(self, options: FlowOptions) -> None:
        self._options = options
        self._fields = Fields(options)
        self._thread = ThreadPoolExecutor(1)
        self._encoder = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._recent: deque[Any] = deque(maxlen=options.gap)
        self._frames = 0
        self._size = (0, 0)
        self._there: list[Future[bytes]] = []
        self._back: list[Future[bytes]] = []

    def put(self, rgb: Pixels) -> None:
        """(H, W, 3) uint8; all of one size. It must not change afterwards.

        Raises:
            BadInput: flow to an earlier frame is not finite; names the frames.
        """
        self._waiting.append(self._thread.submit(self._follow, rgb))
        if len(self._waiting) > _AHEAD:
            self._waiting.popleft().result()

    def _follow(self, rgb: Pixels) -> None:
        prepared = self._fields.prepare(rgb)
        if len(self._recent) == self._options.gap:
            try:
                there, back = self._fields.between(self._recent[0], prepared)
            except BadInput as error:
                first = self._frames - self._options.gap
                raise BadInput(f"frames {first} and {self._frames}: {error}") from error
            self._size = there.shape[1], there.shape[0]
            for flow, stored in ((there, self._there), (back, self._back)):
                if flow is not None:
                    if stored:
                        stored[-1].result()  # one at most waits
                    stored.append(self._encoder.submit(self._encoded, flow))
        self._recent.append(prepared)
        self._frames += 1

    def _encoded(self, flow: Flow) -> bytes:
        if self._options.encoding == "kitti":
            return encode.flow_png(flow)
        return encode.flow_jpeg(flow, self._options.quality)

    def members(
        self, first: int, times: Sequence[float], cuts: Sequence[int]
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """What a clip stores, and its part of ``meta``; both empty if it has no more frames than the gap.

        A field starts at each frame that has a partner in the clip. Those that cross a cut are unknown
        everywhere, so that fields and frames keep the same numbers.

        Args:
            first: number of the clip's first frame.
            times: seconds in the clip of each of its frames.
            cuts: numbers of the frames, of all that were put in, with which a new shot begins.

        Raises:
            BadInput: as ``put``.
        """
        while self._waiting:
            self._waiting.popleft().result()
        gap = self._options.gap
        count = len(times) - gap
        if count < 1:
            return {}, {}
        width, height = self._size
        unknown = self._encoded(np.full((height, width, 2), np.nan, np.float32))
        crosses = [any(at < cut <= at + gap for cut in cuts) for at in range(first, first + count)]

        def fields(stored: list[Future[bytes]], starts: Sequence[float]) -> bytes:
            own = [field.result() for field in stored[first : first + count]]
            chosen = [unknown if cut else field for field, cut in zip(own, crosses, strict=True)]
            return encode.flow_mkv(chosen, starts, self._size)

        stored = {"flow.mkv": fields(self._there, times[:count])}
        if self._back:
            stored["flow_backward.mkv"] = fields(self._back, times[gap:])
        return stored, {"flow": self._options.about(width, height)}
