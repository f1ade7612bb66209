"""What the tests of the views share: random streams by sample, and the statistics of ImageNet."""

import numpy as np

from mmssl.stream.views.draws import Draws

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_draws(ids, passes=None, seed: int = 7, name: str = "image") -> Draws:
    ids = np.asarray(ids, dtype=np.int64)
    passes = np.zeros_like(ids) if passes is None else np.broadcast_to(np.int64(passes), ids.shape).copy()
    return Draws(seed, name, ids, passes)
