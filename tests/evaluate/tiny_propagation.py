"""An encoder that sees nothing but colours, small copies of the benchmarks, and shards of boxed videos."""

import json

import numpy as np
import torch
from PIL import Image
from scipy.io import savemat
from torch import nn
from torch.nn.functional import avg_pool2d

from mmssl.models.encoder import Encoder, EncoderConfig
from mmssl.shards import encode
from mmssl.shards.manifest import Manifest, Shard, Split
from mmssl.shards.writer import RawSample, write_shard


class Colours(nn.Module):
    """The mean colour of every square of ``stride`` pixels."""

    num_features = 3

    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward_features(self, x):
        return avg_pool2d(x, self.stride)


def colours(stride=4):
    config = EncoderConfig(name="dcfnet", image_size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return Encoder(config, Colours(stride)).eval()


def moving_block(frames=6, height=48, width=64, side=16, step=4, seed=0):
    """(T, H, W, 3) uint8 and (T, H, W) uint8: a red block that goes right over a blue ground."""
    rng = np.random.default_rng(seed)
    video = np.full((frames, height, width, 3), (20, 40, 200), dtype=np.uint8)
    video += rng.integers(0, 8, video.shape, dtype=np.uint8)
    masks = np.zeros((frames, height, width), dtype=np.uint8)
    for at in range(frames):
        left = 4 + step * at
        video[at, 16 : 16 + side, left : left + side] = (220, 30, 20)
        masks[at, 16 : 16 + side, left : left + side] = 1
    return video, masks


def save_index(path, labels, mode="P"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette(np.arange(768, dtype=np.uint8).tobytes())
    image.save(path)


def save_images(folder, video, suffix="png", first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(video, first):
        Image.fromarray(frame).save(folder / f"{number:05}.{suffix}")


def davis(root, videos, year=2017, lists=True):
    """``videos``: name to frames and masks."""
    for name, (video, masks) in videos.items():
        save_images(root / "JPEGImages/480p" / name, video, "jpg")
        for number, mask in enumerate(masks):
            save_index(
                root / "Annotations/480p" / name / f"{number:05}.png", mask, "P" if year == 2017 else "L"
            )
    if lists:
        (root / f"ImageSets/{year}").mkdir(parents=True)
        (root / f"ImageSets/{year}/val.txt").write_text("\n".join(videos) + "\n")
    return root


def vip(root, videos):
    for name, (video, masks) in videos.items():
        save_images(root / "Images" / name, video, "jpg", 1)
        for number, mask in enumerate(masks, 1):
            save_index(root / "Annotations/Category_ids" / name / f"{number:05}.png", mask)
    (root / "lists").mkdir()
    (root / "lists/val_videos.txt").write_text("\n".join(videos) + "\n")
    return root


def jhmdb(root, videos, action="wave"):
    """``videos``: name to frames and joints (T, 15, 2) in pixels from 0."""
    lines = []
    for name, (video, joints) in videos.items():
        save_images(root / "Rename_Images" / action / name, video, "png", 1)
        folder = root / "joint_positions" / action / name
        folder.mkdir(parents=True)
        savemat(folder / "joint_positions.mat", {"pos_img": joints.transpose(2, 1, 0) + 1.0})
        lines.append(f"{name}.avi 2 ")
    (root / "splits").mkdir()
    (root / f"splits/{action}_test_split1.txt").write_text("\n".join([*lines, "seen.avi 1 "]) + "\n")
    return root


def box_shards(root, clips, frames=6, short=(), absent=()):
    """A shard set whose val split has that many videos of the moving block, with its box.

    Those in ``short`` lack the last frame's box, those in ``absent`` have none in their first frame."""
    samples = []
    for row in range(clips):
        video, masks = moving_block(frames, seed=row)
        boxes = []
        for mask in masks:
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            boxes.append([[float(v) for v in box]])
        if row in short:
            del boxes[-1]
        if row in absent:
            boxes[0] = [None]
        members = {
            "video.mp4": encode.h264(video, 10, crf=5),
            "boxes.json": json.dumps(boxes).encode(),
            "meta.json": json.dumps({"fps": 10, "frames": frames}).encode(),
        }
        samples.append(RawSample(f"clip{row:03}", members))
    written = write_shard(root / "val.tar", samples)
    written.index.at(0).save(root / "val.index")
    shard = Shard(
        file="val.tar", index="val.index", samples=clips, first_id=0,
        bytes=(root / "val.tar").stat().st_size, sha256=written.sha256,
    )  # fmt: skip
    splits = {"val": Split(samples=clips, shards=(shard,))}
    Manifest(name="blocks", splits=splits, fields={"video": 1.0, "boxes": 1.0, "meta": 1.0}).save(root)
    return root


def unit(rng, *shape):
    """Random unit features (C, h, w)."""
    x = torch.from_numpy(rng.normal(size=shape))
    return (x / x.norm(dim=0)).float()
