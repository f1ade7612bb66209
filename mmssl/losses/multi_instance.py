"""InfoNCE with a bag of positives for each anchor, of which any may answer: MIL-NCE, as CoCLR uses it."""

import torch
from torch import Tensor

from mmssl.losses.info_nce import Contrast


def multi_instance_nce(
    q: Tensor, k: Tensor, candidates: Tensor, positive: Tensor, temperature: float
) -> Contrast:
    """−log Σ_{p∈P} exp(q·p/τ) / Σ_{c∈P∪N} exp(q·c/τ), mean over q (Miech et al., CVPR 2020, section 3.2; Han
    et al., NeurIPS 2020, section 3). Where the own key is the only positive, this is ``info_nce``.

    Args:
        q: (B, d) anchors, unit vectors.
        k: (B, d) the own key of each, always a positive.
        candidates: (K, d) shared by all anchors.
        positive: (B, K) bool; all other candidates are negatives.

    Computed in float32 at least.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, candidates = (x if x.dtype == torch.float64 else x.float() for x in (q, k, candidates))
        similarity = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ candidates.T], dim=1)
        bag = torch.cat([torch.ones_like(positive[:, :1]), positive], dim=1)
        logits = similarity / temperature
        loss = (logits.logsumexp(1) - logits.masked_fill(~bag, -torch.inf).logsumexp(1)).mean()
        with torch.no_grad():
            probability = logits.softmax(dim=1)
            share = probability.masked_fill(bag, 0.0)
            share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
            negatives = (~bag).sum(1).to(loss.dtype)
            negative = similarity.masked_fill(bag, 0.0).sum(1) / negatives.clamp_min(1)
            return Contrast(
                loss,
                bag.gather(1, similarity.argmax(1, keepdim=True)).to(loss.dtype).mean(),
                probability.masked_fill(~bag, 0.0).sum(1).mean(),
                (similarity.masked_fill(~bag, 0.0).sum(1) / bag.sum(1)).mean(),
                negative.mean(),
                negatives.mean(),
                torch.special.entr(share).sum(1).exp().mean(),
            )
