"""JSON Schemas of what people write, for editors that complete and check YAML."""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mmssl.evaluate import EVALUATIONS
from mmssl.methods import METHODS
from mmssl.pipeline.recipe import Pipeline
from mmssl.shards.recipe import ShardRecipe
from mmssl.shards.sources import SOURCES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema() -> dict[str, Any]:
    """Of ``pipelines/*.yaml``, with the settings of every method and evaluation."""
    methods = [method.Config for method in METHODS.values()]
    evaluations = {name: evaluation.Config for name, evaluation in EVALUATIONS.items()}
    schema, references = _with(Pipeline, [*methods, *evaluations.values()])
    definitions = schema["$defs"]
    definitions["TrainStage"]["properties"]["method"] = {
        "oneOf": [_named(references[method.Config], "name", name) for name, method in METHODS.items()]
    }
    definitions["EvaluateStage"]["properties"]["evaluations"] = {
        "type": "object",
        "properties": {
            name: {"anyOf": [references[config], {"type": "null"}]} for name, config in evaluations.items()
        },
        "additionalProperties": {
            "oneOf": [_named(references[config], "name", name) for name, config in evaluations.items()]
        },
        "minProperties": 1,
    }
    return schema


def shards_schema() -> dict[str, Any]:
    """Of ``shards/*.yaml``, with the keys of every kind of source."""
    schema, references = _with(ShardRecipe, SOURCES.values())
    schema["properties"]["source"] = {
        "oneOf": [_named(references[source], "kind", kind) for kind, source in SOURCES.items()]
    }
    return schema


SCHEMAS: dict[str, Callable[[], dict[str, Any]]] = {"pipeline": pipeline_schema, "shards": shards_schema}


def _with(
    model: type[BaseModel], parts: Iterable[type[BaseModel]]
) -> tuple[dict[str, Any], dict[type[BaseModel], dict[str, Any]]]:
    """The model's schema with the definitions of ``parts``, and a reference to each of these."""
    parts = list(parts)
    found, definitions = models_json_schema([(one, "validation") for one in [model, *parts]])
    name = found[model, "validation"]["$ref"].rpartition("/")[2]
    own = dict(definitions["$defs"][name])
    schema = {"$schema": DIALECT, **own, "$defs": dict(definitions["$defs"])}
    return schema, {part: found[part, "validation"] for part in parts}


def _named(reference: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    """The referred schema, chosen by ``key: name``, which has to be written."""
    return {"allOf": [reference], "properties": {key: {"const": name}}, "required": [key]}
