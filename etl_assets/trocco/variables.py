"""Giving a workflow its variables by changing its definition before a run, because the API takes none with the run.

Two runs share the definition, so whoever uses this runs one at a time (run.py sees to it).
"""

from collections.abc import Mapping

from etl_assets.errors import FinalError
from etl_assets.trocco.api import Row, Trocco, workflow_body


def change_loop(trocco: Trocco, workflow: int, values: Mapping[str, str]) -> None:
    """Set the values that the workflow's tasks loop over to one each.

    Raises FinalError when no task loops over a variable of that name.
    """
    detail = trocco.pipeline_definitions.get(workflow)
    used: set[str] = set()
    tasks = [_with_loop(task, values, used) for task in detail.get("tasks") or []]
    _refuse_unused(workflow, values, used, "no task of it has a custom variable loop over texts with")
    trocco.pipeline_definitions.update(workflow, workflow_body(detail, tasks))


def change_defaults(trocco: Trocco, workflow: int, values: Mapping[str, str]) -> None:
    """Set the default values in the definitions of the workflow's transfers and datamarts.

    Raises FinalError when none of them declares a text variable of that name.
    """
    used: set[str] = set()
    for task in trocco.pipeline_definitions.get(workflow).get("tasks") or []:
        definition: int = _config(task).get("definition_id", 0)
        if task["type"] == "trocco_transfer":
            collection = trocco.job_definitions
        elif task["type"].endswith("_datamart"):
            collection = trocco.datamart_definitions
        else:
            continue
        settings = collection.get(definition).get("custom_variable_settings") or []
        changed = [
            {**one, "value": values[one["name"]]} if one["name"] in values and one["type"] == "string" else one
            for one in settings
        ]
        used |= {one["name"] for one in settings if one["name"] in values and one["type"] == "string"}
        if changed != settings:
            collection.update(definition, {"custom_variable_settings": changed})
    _refuse_unused(workflow, values, used, "none of its definitions declares the text variable")


def _with_loop(task: Row, values: Mapping[str, str], used: set[str]) -> Row:
    config = _config(task)
    loop = config.get("custom_variable_loop") or {}
    texts = loop.get("string_config") or {}
    if loop.get("type") != "string" or not {item["name"] for item in texts.get("variables", ())} & values.keys():
        return task
    used |= {item["name"] for item in texts["variables"]} & values.keys()
    variables = [
        {**item, "values": [values[item["name"]]] if item["name"] in values else item["values"][:1]}
        for item in texts["variables"]
    ]
    changed = {**config, "custom_variable_loop": {**loop, "string_config": {**texts, "variables": variables}}}
    return {**task, f"{task['type']}_config": changed}


def _config(task: Row) -> Row:
    config: Row = task.get(f"{task['type']}_config") or {}
    return config


def _refuse_unused(workflow: int, values: Mapping[str, str], used: set[str], why: str) -> None:
    unused = sorted(values.keys() - used)
    if unused:
        raise FinalError(f"workflow {workflow}: {why} {', '.join(unused)}; the value would be ignored")
