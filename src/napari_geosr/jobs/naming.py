"""Names already used by other models and training runs."""

from __future__ import annotations

from napari_geosr.jobs import index
from napari_geosr.operations.models import catalogue


def taken_names() -> set[str]:
    """Return the names of all available models and known jobs.

    Reads the cards of the models and the folders of the jobs.
    """
    models = {entry.name for entry in catalogue.list_models()}
    return models | {status.name for status in index.list_jobs()}
