"""Which input goes into which shard: decided from names and sizes alone, before anything is read."""

import hashlib
from dataclasses import dataclass

from mmssl.shards.recipe import ShardRecipe
from mmssl.shards.sources import Item, Listing
from mmssl.shards.sources.base import hash01

# What an input costs beyond its own bytes: headers, padding, a small label.
_OVERHEAD = 2048


@dataclass(frozen=True)
class Task:
    """One shard to write."""

    split: str
    number: int
    items: tuple[Item, ...]

    @property
    def name(self) -> str:
        """Path without suffix, relative to the shard set: ``train/000003``."""
        return f"{self.split}/{self.number:06d}"


def plan_shards(listing: Listing, recipe: ShardRecipe) -> list[Task]:
    """Cut every split into shards; depends on the listing and the recipe, not on workers or earlier runs."""
    tasks = []
    for split, items in listing.splits.items():
        if recipe.shuffle_seed is not None:
            # Sorting by a hash is a shuffle that no library version can change.
            items = sorted(
                items, key=lambda item: (hash01(str(recipe.shuffle_seed), split, item.key), item.key)
            )
        tasks += [Task(split, number, tuple(group)) for number, group in enumerate(_cut(items, recipe))]
    return tasks


def _cut(items: list[Item], recipe: ShardRecipe) -> list[list[Item]]:
    limit = recipe.shard_mb * 1e6
    groups: list[list[Item]] = []
    filled = 0.0
    for item in items:
        cost = item.bytes + _OVERHEAD
        full = filled + cost > limit or len(groups[-1]) == recipe.shard_samples if groups else True
        if full:
            groups.append([])
            filled = 0.0
        groups[-1].append(item)
        filled += cost
    return groups


def listing_fingerprint(listing: Listing) -> str:
    """Changes when an input is added, removed, renamed or gets another size."""
    digest = hashlib.sha256()
    for split, items in listing.splits.items():
        for item in items:
            digest.update(
                repr((split, item.key, item.path, item.bytes, item.data)).encode("utf-8", "replace")
            )
    return digest.hexdigest()[:16]
