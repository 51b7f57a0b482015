"""The JSON schemas of stream and push files, for editors: `schema.json` beside them, made from the models."""

import json
from typing import Any

from etl_assets.push.spec import Target
from etl_assets.spec import Column, Service, Source, Stream


def stream_file_schema() -> dict[str, Any]:
    """The schema. It is as strict as the model, and also knows the short forms that the model accepts."""
    schema = _schema(Source)
    definitions = schema["$defs"]
    definitions["Stream"]["properties"]["columns"]["additionalProperties"] = {
        "anyOf": [{"type": "string"}, {"$ref": "#/$defs/Column"}]
    }
    parameters = definitions["Query"]["properties"]["eq"]["patternProperties"]
    for pattern, parameter in parameters.items():
        parameters[pattern] = {"anyOf": [{"type": "string"}, parameter]}
    for model in (Column, Stream):
        for field in definitions[model.__name__]["properties"].values():
            _also_single(field)
    # What `defaults` provides need not stand in each stream.
    definitions["Stream"]["required"] = ["name"]
    return schema


def push_file_schema() -> dict[str, Any]:
    """The schema of push files, in the same way."""
    schema = _schema(Target)
    push = schema["$defs"]["Push"]
    push["required"] = ["name"]
    for field in (push["properties"]["fields"]["additionalProperties"], push["properties"]["removed"]):
        field["anyOf"] = [{"$ref": field.pop("$ref")}, {"type": "string"}]
    return schema


def schema_text() -> str:
    """The content of the schema file of stream files."""
    return _text(stream_file_schema())


def push_schema_text() -> str:
    """The content of the schema file of push files."""
    return _text(push_file_schema())


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _schema(model: type[Service]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True)
    ways = schema["properties"]["auth"]
    ways["anyOf"] = [ways["items"], {name: ways.pop(name) for name in ("type", "items", "minItems")}]
    schema["$defs"]["Rate"] = {"type": "string", "pattern": r"^\d+/\d+s$", "description": "Such as 5/1s or 100/60s."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _also_single(field: dict[str, Any]) -> None:
    for option in field.get("anyOf", []):
        if option.get("type") == "array" and option.get("items") == {"type": "string"}:
            field["anyOf"].append({"type": "string"})
            return
