"""``mmssl schema``: JSON Schemas for editors."""

import json
from enum import StrEnum
from typing import Annotated

import typer


class What(StrEnum):
    """The recipes that have a schema."""

    pipeline = "pipeline"
    shards = "shards"


def schema(
    what: Annotated[
        What, typer.Argument(help="Recipes in pipelines/, or recipes in shards/.")
    ] = What.pipeline,
) -> None:
    """Print the JSON Schema of recipes, with which editors complete and check YAML.

    Example: `mmssl schema pipeline > pipeline.schema.json`, and as first line of a recipe
    `# yaml-language-server: $schema=pipeline.schema.json`
    """
    from mmssl.pipeline.schema import SCHEMAS

    print(json.dumps(SCHEMAS[what](), indent=2))
