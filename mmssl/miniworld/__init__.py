"""A procedural video world with exact truth for every modality; it needs no download and no data folder.

``clip(split, index, config)`` renders one clip. Everything follows from geometry: objects and background
are planes in metres, seen by two pinhole cameras, so flow, depth, normals, masks and the second view are
computed from homographies and never estimated. Reading order: ``vocabulary`` → ``scene`` → ``render``.
"""

from mmssl.miniworld.render import Clip, clip, render
from mmssl.miniworld.scene import MiniworldConfig, Scene, draw_scene
from mmssl.miniworld.vocabulary import CLASSES, REVERSED, SPLITS

__all__ = [
    "CLASSES",
    "REVERSED",
    "SPLITS",
    "Clip",
    "MiniworldConfig",
    "Scene",
    "clip",
    "draw_scene",
    "render",
]
