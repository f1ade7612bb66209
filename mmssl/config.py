"""Configuration: YAML in, checked pydantic models out, with errors that name file, path and expectation."""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError

from mmssl.errors import MmsslError


class Config(BaseModel):
    """Base of every configuration: frozen, unknown keys refused, attribute docstrings become descriptions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )


ConfigT = TypeVar("ConfigT", bound=BaseModel)


def read_yaml(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file, apply dotted ``key=value`` overrides, resolve ``${...}`` references.

    ``${oc.env:NAME}`` reads an environment variable and ``${oc.env:NAME,default}`` falls back to a default.

    Raises:
        MmsslError: file missing, not YAML, not a mapping, an override without ``=``, or an unknown reference.
    """
    path = Path(path)
    if not path.is_file():
        raise MmsslError(f"{path}: no such file; expected a YAML file")
    try:
        loaded = OmegaConf.load(path)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise MmsslError(f"{path}: not readable as YAML: {error}") from error
    if not OmegaConf.is_dict(loaded):
        raise MmsslError(f"{path}: expected a mapping of keys to values at the top level")
    return overridden(loaded, overrides, path)


def overridden(data: Any, overrides: Sequence[str], source: Path | str) -> dict[str, Any]:
    """A mapping with dotted ``key=value`` overrides applied and ``${...}`` references resolved.

    Raises:
        MmsslError: an override without ``=``, or an unknown reference; ``source`` says in what.
    """
    for item in overrides:
        if "=" not in item:
            raise MmsslError(f"override {item!r}: expected key=value with a dotted key")
    try:
        merged = OmegaConf.merge(data, OmegaConf.from_dotlist(list(overrides)))
        resolved = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise MmsslError(f"{source}: {str(error).splitlines()[0]}") from error
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def parse(model: type[ConfigT], data: Mapping[str, Any], source: Path | str, at: str = "") -> ConfigT:
    """Validate ``data`` against ``model``; ``source`` and ``at`` (a dotted path) locate the data in messages.

    Raises:
        MmsslError: one line for each problem: file, dotted path, what was found, what was expected.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(problem, model, source, at) for problem in error.errors()]
        raise MmsslError("\n".join(lines)) from error


def _explain(problem: Any, model: type[BaseModel], source: Path | str, at: str) -> str:
    where = ".".join([at, *map(str, problem["loc"])] if at else map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        key = str(problem["loc"][-1])
        known = _known_keys(model)
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"{source}: {where}: unknown key{hint}"
    if problem["type"] == "missing":
        return f"{source}: {where}: missing; expected a value"
    return f"{source}: {where}: {problem['msg']}, found {problem['input']!r}"


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Every key that the model or a model nested in it knows, to suggest the one that was meant."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})})


def fingerprint(content: Any) -> str:
    """A short stable hash (16 hex digits of SHA-256) of JSON-like content or a pydantic model."""
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
