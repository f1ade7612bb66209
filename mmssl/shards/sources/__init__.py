"""Raw layouts, one file each; the table below is all there is to registering one."""

from mmssl.shards.sources.base import BadInput, Item, Listing, Source
from mmssl.shards.sources.image_folder import ImageFolder

SOURCES: dict[str, type[Source]] = {
    "image_folder": ImageFolder,
}
"""``kind`` in a recipe to the layout it names."""

__all__ = ["SOURCES", "BadInput", "Item", "Listing", "Source"]
