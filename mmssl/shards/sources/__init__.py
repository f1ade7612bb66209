"""Raw layouts, one file each; the table below is all there is to registering one."""

from mmssl.shards.sources.action_splits import HMDB51, UCF101
from mmssl.shards.sources.base import BadInput, Item, Listing, Source
from mmssl.shards.sources.binary_images import BinaryImages
from mmssl.shards.sources.frame_folders import FrameFolders
from mmssl.shards.sources.image_folder import ImageFolder
from mmssl.shards.sources.image_text_folder import ImageTextFolder
from mmssl.shards.sources.kinetics import Kinetics
from mmssl.shards.sources.miniworld import Miniworld
from mmssl.shards.sources.miniworld_clips import MiniworldClips
from mmssl.shards.sources.multi_camera import MultiCamera
from mmssl.shards.sources.nyu_labelled import NYULabelled
from mmssl.shards.sources.nyu_raw import NYURaw
from mmssl.shards.sources.rgbd import RGBD
from mmssl.shards.sources.scannet import ScanNet
from mmssl.shards.sources.something import Something
from mmssl.shards.sources.sun_rgbd import SunRGBD
from mmssl.shards.sources.table import Table
from mmssl.shards.sources.video_folder import VideoFolder

SOURCES: dict[str, type[Source]] = {
    "miniworld": Miniworld,
    "miniworld_clips": MiniworldClips,
    "image_folder": ImageFolder,
    "image_text_folder": ImageTextFolder,
    "binary_images": BinaryImages,
    "table": Table,
    "video_folder": VideoFolder,
    "ucf101": UCF101,
    "hmdb51": HMDB51,
    "kinetics": Kinetics,
    "something_v2": Something,
    "multi_camera": MultiCamera,
    "frame_folders": FrameFolders,
    "rgbd": RGBD,
    "nyu_labelled": NYULabelled,
    "nyu_raw": NYURaw,
    "sun_rgbd": SunRGBD,
    "scannet": ScanNet,
}
"""``kind`` in a recipe to the layout it names."""

__all__ = ["SOURCES", "BadInput", "Item", "Listing", "Source"]
