"""Tables for ``real_actions`` and ``real_words``: splits, labels and phases of real clips in a folder.

    MMSSL_REAL_DATA=FOLDER python benchmarks/real_tables.py data/real

Splits are by recording for the overhead actions (in each room the last third of the recordings in time is
val), and by clip for GRID, which has one speaker (a hash of the name decides). Tables are JSON lines; nothing
is copied.
"""

import argparse
import csv
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ACTIONS = ("walk", "standup", "sitdown", "sit")
"""The classes with enough clips; ``standup`` is ``sitdown`` with time running backwards."""
WORDS = ("command", "colour", "preposition", "letter", "digit", "adverb")
FPS = 25.0
"""Of all videos here."""


def overhead(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Trimmed clips of four actions, and whole recordings with their labelled stretches."""
    clips = [row for row in _rows(folder / "labels.csv") if row["label"] in ACTIONS]
    rooms = defaultdict(set)
    for row in _rows(folder / "labels.csv"):
        rooms[row["recording"].split("_")[3]].add(row["recording"])
    late = {name for room in rooms.values() for name in sorted(room)[-(len(room) // 3) :]}
    phases = defaultdict(list)
    for row in _rows(folder / "timeline.csv"):
        start, end = (int(row[key]) / FPS for key in ("start_frame", "end_frame"))
        phases[row["recording"]].append({"start": start, "end": end, "name": row["label"]})
    tables: dict[str, list[dict[str, Any]]] = {}
    for split in ("train", "val"):
        tables[f"overhead_{split}"] = [
            {"file": row["file"], "action": row["label"], "recording": row["recording"]}
            for row in clips
            if (row["recording"] in late) == (split == "val")
        ]
        tables[f"recordings_{split}"] = [
            {"file": f"{name}.mp4", "recording": name, "phases": phases[f"{name}.mp4"]}
            for name in sorted(set().union(*rooms.values()))
            if (name in late) == (split == "val")
        ]
    return tables


def grid(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Sentences with the times of their six words; a phase is a word's place in the sentence."""
    tables: dict[str, list[dict[str, Any]]] = {"grid_train": [], "grid_val": []}
    for row in _rows(folder / "labels.csv"):
        spans = [part.partition(":") for part in row["word_frames"].split()]
        spoken = [span.split("-") for span, _, word in spans if word not in ("sil", "sp")]
        phases = [
            {"start": int(a) / FPS, "end": int(b) / FPS, "name": name}
            for name, (a, b) in zip(WORDS, spoken, strict=False)
        ]
        val = hashlib.sha1(row["file"].encode()).digest()[0] < 256 // 3
        about = {"file": row["file"], "phases": phases} | {name: row[name] for name in WORDS}
        tables["grid_val" if val else "grid_train"].append(about)
    return tables


def _rows(path: Path) -> Iterable[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the tables")
    out = parser.parse_args().out
    real = os.environ.get("MMSSL_REAL_DATA")
    if not real:
        parser.error("MMSSL_REAL_DATA is not set; expected the folder with actions/")
    out.mkdir(parents=True, exist_ok=True)
    actions = Path(real, "actions")
    for name, rows in {**overhead(actions / "overhead_actions"), **grid(actions / "grid_s1")}.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}: {len(rows)}")


if __name__ == "__main__":
    main()
