"""The JSON schema of stream files, for editors: `streams/schema.json`, made from the model."""

import json
from typing import Any

from etl_assets.spec import Column, Source, Stream


def stream_file_schema() -> dict[str, Any]:
    """The schema. It is as strict as the model, and also knows the short forms that the model accepts."""
    schema = Source.model_json_schema(by_alias=True)
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
    ways = schema["properties"]["auth"]
    ways["anyOf"] = [ways["items"], {name: ways.pop(name) for name in ("type", "items", "minItems")}]
    definitions["Rate"] = {"type": "string", "pattern": r"^\d+/\d+s$", "description": "Such as 5/1s or 100/60s."}
    # What `defaults` provides need not stand in each stream.
    definitions["Stream"]["required"] = ["name"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def schema_text() -> str:
    """The schema file's content."""
    return json.dumps(stream_file_schema(), indent=2, ensure_ascii=False) + "\n"


def _also_single(field: dict[str, Any]) -> None:
    for option in field.get("anyOf", []):
        if option.get("type") == "array" and option.get("items") == {"type": "string"}:
            field["anyOf"].append({"type": "string"})
            return
