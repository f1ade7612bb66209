"""How fast the miniworld renders on one core: frames with every modality, and what the truth costs.

A frame counts once although two cameras see it: its time holds the left image, the right image, flow,
visibility, depth, normals, segmentation, boxes, captions and labels, in memory, before any encoding.
"""

import cv2
import torch
from harness import figure, interleaved, record

from mmssl.miniworld import MiniworldConfig, clip

CLIPS = 8
BAR = ">= 150"


def main() -> None:
    """Render clips never seen before in every repeat, so that nothing but photographs is cached."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    variants = {
        "default": MiniworldConfig(),
        "two distractors": MiniworldConfig(distractors=2),
        "64 px": MiniworldConfig(size=64),
    }
    rendered = dict.fromkeys(variants, 0)

    def render(name: str) -> None:
        for _ in range(CLIPS):
            clip("train", rendered[name], variants[name])
            rendered[name] += 1

    seconds = interleaved({name: lambda name=name: render(name) for name in variants}, repeats=15)
    figures = []
    for name, config in variants.items():
        protocol = (
            f"{config.size} px, {config.frames} frames a clip, {config.distractors} distractors; both views "
            f"and all truth, one thread; median of 15 interleaved repeats of {CLIPS} new clips"
        )
        rate = CLIPS * config.frames / seconds[name]
        bar = BAR if config.size == 128 else ""
        figures.append(figure(f"rendering, {name}", rate, "frames/s", protocol, bar))
    record("miniworld", figures, packages=("opencv-python-headless", "scikit-image"))


if __name__ == "__main__":
    main()
