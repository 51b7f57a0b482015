"""Resources: the pipeline with its settings, and one API per source, under the source's name.

An API is opened by the step that asks it, so a missing variable fails the assets of its source alone, even in
a run that holds others.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from etl_assets.extract import Api
from etl_assets.pipeline import Pipeline
from etl_assets.settings import Settings
from etl_assets.spec import Source


class PipelineResource(dg.ConfigurableResource[Pipeline]):
    """The steps of every stream, with the settings of the environment."""

    def create_resource(self, context: dg.InitResourceContext) -> Pipeline:
        """The pipeline of the current environment."""
        return Pipeline.from_environment()


class SourceApi(dg.ConfigurableResource["SourceApi"]):
    """The API of one source. Credentials come from the environment and appear in no configuration."""

    source: str

    @contextmanager
    def open(self) -> Iterator[Api]:
        """The API for the length of a step. Raises SettingError when a variable of the source is missing."""
        pipeline = Pipeline.from_environment()
        api = pipeline.api(pipeline.sources[self.source])
        try:
            yield api
        finally:
            api.client.close()


def google(settings: Settings) -> dict[str, Any]:
    """`bigquery` and `gcs` for assets of your own, where the warehouse is BigQuery.

    The pipeline has clients of its own: these resources know neither deadlines nor emulators.
    """
    if settings.warehouse != "bigquery":
        return {}
    from dagster_gcp import BigQueryResource, GCSResource

    project, location = settings.google.project, settings.google.location
    return {"bigquery": BigQueryResource(project=project, location=location), "gcs": GCSResource(project=project)}


def resources(sources: Iterable[Source]) -> dg.Definitions:
    """`pipeline`, one API per source, and Google's own where they are used."""
    apis = {source.source: SourceApi(source=source.source) for source in sources}
    return dg.Definitions(resources={"pipeline": PipelineResource(), **google(Settings.read()), **apis})
