"""What a teacher of images and captions says of all their pairs, taught to a student: on open_clip's loss."""

import torch
from open_clip.loss import DistillClipLoss
from torch import Tensor

from mmssl.distributed import rank, world_size


def distil_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    teacher_image: Tensor,
    teacher_text: Tensor,
    teacher_scale: Tensor,
) -> Tensor:
    """½ Σ over both directions of −1/b Σ_ij p_ij log q_ij, p and q the teacher's and the student's softmax.

    Rows are this rank's, candidates those of all ranks; it is an average over rows, so its mean over ranks,
    which DDP differentiates, is the loss of the whole batch. Of captions that are the same the teacher says
    the same, so none of them is a false negative. Computed without autocast, in the precision of the vectors.

    Args:
        image, text: (b, d) unit vectors of the student; row i of both is one sample.
        scale: s, scalar, positive.
        teacher_image, teacher_text: (b, D) unit vectors of the teacher; no gradient flows to them.
        teacher_scale: scalar, positive.
    """
    exact = DistillClipLoss(local_loss=True, gather_with_grad=True, rank=rank(), world_size=world_size())
    with torch.autocast(image.device.type, enabled=False):
        q = exact.get_logits(image, text, scale)
        with torch.no_grad():
            p = exact.get_logits(teacher_image, teacher_text, teacher_scale)
        by_image, by_text = (exact.dist_loss(theirs, ours) for theirs, ours in zip(p, q, strict=True))
        return (by_image + by_text) / 2
