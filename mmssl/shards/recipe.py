"""The schema of ``shards/*.yaml``: one raw data set, and how it is cut into shards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, field_validator

from mmssl.config import Config, parse, read_yaml
from mmssl.errors import MmsslError
from mmssl.shards.sources import SOURCES, Source


class ShardRecipe(Config):
    """One shard set."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """What the shard set is called; also its folder's name unless ``--out`` says otherwise."""
    source: SerializeAsAny[Source]
    """The raw layout: ``kind`` and that kind's own keys."""
    shard_mb: float = Field(default=256, gt=0)
    """Target size of a tar in megabytes (10^6 bytes), estimated from the sizes of the raw files."""
    shard_samples: int | None = Field(default=None, ge=1)
    """At most this many inputs to a tar."""
    shuffle_seed: int | None = 0
    """Mix a split's inputs, so that neighbours in a shard are of different classes; null = keep order."""
    max_bad_share: float = Field(default=0.01, ge=0, le=1)
    """Unreadable inputs are skipped and named in skipped.jsonl; a larger share of them stops the build."""

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: Any) -> Any:
        """Choose the model by ``kind``, so that messages speak of that kind's keys only."""
        if isinstance(value, Source) or not isinstance(value, Mapping):
            return value
        if value.get("kind") not in SOURCES:
            raise ValueError(f"kind {value.get('kind')!r} is unknown; expected one of {', '.join(SOURCES)}")
        return SOURCES[value["kind"]].model_validate(value)


def parse_recipe(data: Mapping[str, Any], source: Path | str) -> ShardRecipe:
    """Check a recipe that was read already; ``source`` names its file in messages.

    Raises:
        MmsslError: an unknown key, a wrong type or an unknown kind of source.
    """
    raw = data.get("source")
    if isinstance(raw, Mapping) and raw.get("kind") in SOURCES:
        # Checked on its own first, so that a problem is located as source.KEY, with the key that was meant.
        parse(SOURCES[raw["kind"]], raw, source, "source")
    return parse(ShardRecipe, data, source)


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> ShardRecipe:
    """Read ``shards/NAME.yaml`` with ``key=value`` overrides; a bare ``NAME`` is looked up in ``shards/``.

    Raises:
        MmsslError: no such file, or a recipe that is wrong; see ``parse_recipe``.
    """
    given = Path(path)
    if not given.suffix and not given.exists():
        given = Path("shards", f"{path}.yaml")
        if not given.is_file():
            known = ", ".join(sorted(found.stem for found in Path("shards").glob("*.yaml"))) or "none here"
            raise MmsslError(f"{given}: no such recipe; expected a YAML file, or one of shards/: {known}")
    return parse_recipe(read_yaml(given, overrides), given)
