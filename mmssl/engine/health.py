"""Signs of collapse, measured on the embeddings of the training batch."""

from torch import Tensor

from mmssl.models.spectrum import rankme, spread

ROWS = 512
"""Embeddings looked at: enough for the spectrum of common widths, cheap beside a training step."""


def health(z: Tensor) -> dict[str, float]:
    """RankMe and spread of (N, d) embeddings; only the first ``ROWS`` rows are looked at."""
    z = z.detach()[:ROWS].float().cpu()
    if not bool(z.isfinite().all()):
        return {}
    return {"rankme": rankme(z), "std": spread(z)}
