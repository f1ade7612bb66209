"""Contrastive views of single frames: what an image method sees of a video."""

from torch import Tensor

from mmssl.stream.sample import Sample, Unreadable
from mmssl.stream.video import open_video
from mmssl.stream.views.contrastive import ContrastiveViews
from mmssl.stream.views.draws import Draws


class FrameViews(ContrastiveViews):
    """Several views of one frame of a video field; another frame is drawn in every pass."""

    def read(self, sample: Sample, draws: Draws) -> Tensor:
        field = self.fields[0]
        try:
            with open_video(sample[field]) as video:
                return video.read(draws.integers("frame", 1, 0, len(video))[0])[0]
        except ValueError as error:
            raise Unreadable(field, str(error)) from error
