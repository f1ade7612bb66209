"""What a stage is: its kind, its configuration, and what it takes in. The fingerprint of that decides all."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import fsspec

from mmssl import files
from mmssl.config import fingerprint
from mmssl.errors import MmsslError
from mmssl.methods.artifact import WEIGHTS as METHOD_FILE
from mmssl.models.text.tokenizer import FILE as TOKENIZER_FILE
from mmssl.models.weights import how_to_get, weights_path
from mmssl.pipeline.recipe import BuildStage, Pipeline, Stage, references
from mmssl.shards.manifest import FILE_NAME, load_manifest
from mmssl.shards.recipe import load_recipe

HARMLESS = frozenset(
    {
        "workers",
        "data.workers",
        "data.cache",
        "data.verify",
        "train.checkpoint_every",
        "train.keep",
        "train.log_every",
        "evaluations.*.lanes",
        "shard_recipe.max_bad_share",
    }
)
"""Keys of a stage's configuration that change how it is done and not what comes out; * is any name."""


@dataclass(frozen=True)
class Identity:
    """Everything that a stage's result depends on."""

    kind: str
    config: dict[str, Any]
    """JSON-like, without the keys in HARMLESS; for a build with the shard recipe under ``shard_recipe``."""
    inputs: dict[str, str]
    """Input stage → its fingerprint; path outside the pipeline → ``sha256:…`` of what identifies it."""

    @property
    def fingerprint(self) -> str:
        return fingerprint({"kind": self.kind, "config": self.config, "inputs": self.inputs})


def identities(pipeline: Pipeline) -> dict[str, Identity]:
    """The identity of every stage, inputs first.

    Raw files behind a build are not looked at (there may be millions): when they change, run ``--from`` it.

    Raises:
        MmsslError: a shard recipe, shard set, encoder or tokenizer outside the pipeline is missing or wrong.
    """
    found: dict[str, Identity] = {}
    for name in pipeline.order():
        stage = pipeline.stages[name]
        inputs = {other: found[other].fingerprint for other in pipeline.inputs(name).values()}
        for key, value, kind in references(stage):
            if value not in pipeline.stages:
                inputs[value] = _of_path(value, kind, f"stages.{name}.{key}")
        found[name] = Identity(stage.kind, _content(stage), dict(sorted(inputs.items())))
    return found


def _content(stage: Stage) -> dict[str, Any]:
    content = stage.model_dump(mode="json", exclude={"kind"})
    if isinstance(stage, BuildStage):
        content["shard_recipe"] = load_recipe(stage.recipe, shard_overrides(stage)).model_dump(mode="json")
    kept: dict[str, Any] = _without(content, "")
    return kept


def shard_overrides(stage: BuildStage) -> list[str]:
    """``set`` as the ``key=value`` overrides that shard recipes take; JSON is YAML, so types stay."""
    return [f"{key}={json.dumps(value)}" for key, value in flat(stage.set).items()]


def _without(content: Any, at: str) -> Any:
    if not isinstance(content, dict):
        return content
    keys = {key: f"{at}.{key}" if at else key for key in content}
    kept = [key for key in content if not any(fnmatchcase(keys[key], harmless) for harmless in HARMLESS)]
    return {key: _without(content[key], keys[key]) for key in kept}


def _of_path(value: str, kind: str, where: str) -> str:
    """What identifies something outside the pipeline: a manifest, an encoder's weights, a vocabulary."""
    try:
        if kind == "build":
            load_manifest(value)  # says what is wrong better than a checksum could
            with fsspec.open(f"{value.rstrip('/')}/{FILE_NAME}", "rb") as file:
                return f"sha256:{hashlib.sha256(file.read()).hexdigest()}"
        name, expected = (
            (weights_path(value).name, "a folder with weights, or weights")
            if kind == "train"
            else (TOKENIZER_FILE, f"a {TOKENIZER_FILE} or a folder that has one")
        )
        if kind == "train" and (Path(value) / METHOD_FILE).is_file():
            name = METHOD_FILE  # a whole method's folder
        path = Path(value) / name if Path(value).is_dir() else Path(value)
        if not path.is_file():
            raise MmsslError(f"{path}: no such file; expected {expected}; {how_to_get(value)}")
        with open(path, "rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except MmsslError as error:
        raise MmsslError(f"{where}: {error}") from error


def differences(before: Mapping[str, Any], now: Identity) -> Iterator[str]:
    """What changed since ``stage.json`` was written, such as ``train.passes: 5 → 10`` or ``input shards``."""
    old, new = flat(before.get("config", {})), flat(now.config)
    for key in sorted(old.keys() | new.keys()):
        if _show(old, key) != _show(new, key):
            yield f"{key}: {_show(old, key)} → {_show(new, key)}"
    was = before.get("inputs", {})
    for name in sorted(was.keys() | now.inputs.keys()):
        if was.get(name) != now.inputs.get(name):
            yield f"input {name}"


def flat(content: Any, at: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} → {"a.b": 1}; empty mappings and lists are values."""
    if not isinstance(content, Mapping) or not content:
        return {at: content} if at else {}
    return {
        key: value
        for name, inner in content.items()
        for key, value in flat(inner, f"{at}.{name}" if at else str(name)).items()
    }


def _show(content: Mapping[str, Any], key: str) -> str:
    return json.dumps(content[key], ensure_ascii=False) if key in content else "absent"


def read_stage(folder: Path) -> dict[str, Any] | None:
    """``stage.json`` of a stage's folder, or None where no run has been."""
    path = folder / "stage.json"
    if not path.exists():
        return None
    content = files.read_json(path, "the record of a stage")
    if not isinstance(content, dict) or not {"fingerprint", "status"} <= content.keys():
        raise MmsslError(f"{path}: expected the record of a stage, with fingerprint and status")
    return content
