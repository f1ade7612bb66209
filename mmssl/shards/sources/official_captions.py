"""The JSON files in which data sets with captions were published, as one row a file with all its captions."""

from collections.abc import Iterator
from typing import Any

from mmssl.errors import MmsslError

Row = dict[str, Any]

CATEGORIES = (
    "music", "people", "gaming", "sports/actions", "news/events/politics", "education", "tv shows",
    "movie/comedy", "animation", "vehicles/autos", "howto", "travel", "science/technology", "animals/pets",
    "kids/family", "documentary", "food/drink", "cooking", "beauty/fashion", "advertisement",
)  # fmt: skip
"""Of MSR-VTT, by number (Xu et al., CVPR 2016)."""


def official_rows(path: str, content: Any) -> Iterator[Row]:
    """Rows of whichever of these it is; ``caption`` is a list in all of them:

    - COCO (Chen et al., 2015), ``images`` and ``annotations``: image, id, caption;
    - Karpathy's splits of Flickr8k, Flickr30k and COCO, ``images`` with ``sentences``: image, split, caption;
    - MSR-VTT (Xu et al., CVPR 2016), ``videos`` and ``sentences``: video, split, category, caption.

    Raises:
        MmsslError: none of them, an entry that lacks something, or a caption of a file that is not listed.
    """
    has = set(content) if isinstance(content, dict) else set()
    try:
        if {"videos", "sentences"} <= has:
            yield from _msr_vtt(path, content)
        elif {"images", "annotations"} <= has:
            yield from _coco(path, content)
        elif "images" in has:
            yield from map(_karpathy, content["images"])
        else:
            raise MmsslError(
                f"{path}: neither COCO (images, annotations) nor Karpathy's splits (images) nor MSR-VTT "
                f"(videos, sentences); found {', '.join(sorted(has)) or type(content).__name__}"
            )
    except KeyError as error:
        raise MmsslError(f"{path}: an entry has no {error}; expected the file as it was published") from error
    except (TypeError, AttributeError, IndexError) as error:
        raise MmsslError(f"{path}: {error}; expected the file as it was published") from error


def _coco(path: str, content: dict[str, Any]) -> list[Row]:
    rows = {
        entry["id"]: {"image": entry["file_name"], "id": entry["id"], "caption": []}
        for entry in content["images"]
    }
    for note in content["annotations"]:
        _add(rows, note["image_id"], note["caption"], f"{path}: annotation {note['id']}: image")
    return list(rows.values())


def _karpathy(entry: dict[str, Any]) -> Row:
    folder = entry.get("filepath")
    return {
        "image": f"{folder}/{entry['filename']}" if folder else entry["filename"],
        "split": entry["split"],
        "caption": [sentence["raw"] for sentence in entry["sentences"]],
    }


def _msr_vtt(path: str, content: dict[str, Any]) -> list[Row]:
    rows = {
        entry["video_id"]: {
            "video": entry["video_id"],
            "split": entry["split"],
            "category": CATEGORIES[entry["category"]],
            "caption": [],
        }
        for entry in content["videos"]
    }
    for sentence in content["sentences"]:
        where = f"{path}: sentence {sentence['sen_id']}: video"
        _add(rows, sentence["video_id"], sentence["caption"], where)
    return list(rows.values())


def _add(rows: dict[Any, Row], name: Any, caption: str, where: str) -> None:
    if name not in rows:
        raise MmsslError(f"{where} {name!r} is not listed in this file")
    rows[name]["caption"].append(caption)
