"""Kinetics and whatever has its lists: a CSV of YouTube ids with times, and files named after them."""

from typing import Literal

from pydantic import Field

from mmssl.errors import MmsslError
from mmssl.shards.sources.base import Listing
from mmssl.shards.sources.official import Listed, OfficialVideos
from mmssl.shards.sources.rows import read_table


class Kinetics(OfficialVideos):
    """Kinetics-400/600/700 (Kay et al., 2017): clips of 10 s, of which some per cent have left YouTube.

    A file is called ID_SSSSSS_EEEEEE (seconds at which it starts and ends), or ID alone.
    """

    kind: Literal["kinetics"] = "kinetics"
    tables: dict[str, str] = Field(min_length=1)
    """Split name to its CSV: columns youtube_id, time_start, time_end and, where there are labels, label."""

    def list_items(self) -> Listing:
        tables = {split: list(read_table(path)) for split, path in self.tables.items()}
        classes = sorted(
            {str(row["label"]) for rows in tables.values() for _, row in rows if row.get("label")}
        )
        number = {name: at for at, name in enumerate(classes)}
        have = self._by_stem()
        splits: dict[str, list[Listed]] = {}
        for split, rows in tables.items():
            named: dict[str, Listed] = {}
            for line, row in rows:
                video = row.get("youtube_id")
                try:
                    start, end = float(row["time_start"]), float(row["time_end"])
                except (KeyError, TypeError, ValueError):
                    video = None
                if not video:
                    raise MmsslError(
                        f"{self.tables[split]}: line {line}: expected columns youtube_id, time_start and "
                        f"time_end (seconds), found {row}"
                    )
                full = f"{video}_{start:06.0f}_{end:06.0f}"
                name = video if video in have and full not in have else full
                if name in named:
                    raise MmsslError(f"{self.tables[split]}: line {line}: {name!r} is listed twice")
                label = row.get("label")
                named[name] = Listed(name, number[label] if label else None, (), {"youtube_id": video})
            splits[split] = list(named.values())
        return self.found(dict(splits), classes)
