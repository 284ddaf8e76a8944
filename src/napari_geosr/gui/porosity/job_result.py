"""Result of a measurement job, for the Porosity dock."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import io
from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.gui.jobs.result import JobSource, layer_of
from napari_geosr.gui.layers.contents import checksum_of
from napari_geosr.gui.porosity import pore_layers
from napari_geosr.gui.porosity.measuring import PoreMeasurement, without_voxels
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.inputs.job_input import JobInput
from napari_geosr.operations.measure.files import column_titles
from napari_geosr.operations.measure.job import MeasureJob, labels_file
from napari_geosr.operations.measure.stored import REFERENCE, read_reports

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from napari_geosr.core.volume import Volume


@dataclass(frozen=True)
class JobMeasurement:
    """A measurement made by a job.

    Attributes
    ----------
    sources : mapping of str to JobSource
        Inputs of the measurement, by the key of the report.
    page : Path
        The HTML report.
    """

    measured: PoreMeasurement
    sources: Mapping[str, JobSource]
    page: Path

    def layers(self, viewer: napari.viewer.Viewer) -> dict[str, weakref.ref[Layer]]:
        """Return the layers in the viewer that show the measured inputs, by key."""
        found = {key: layer_of(viewer, of) for key, of in self.sources.items()}
        return {
            key: weakref.ref(layer) for key, layer in found.items() if layer is not None
        }


def job_result_steps(
    path: Path, should_stop: ShouldStop
) -> Generator[Step, None, JobMeasurement]:
    """Read the values, table and labels of the job in the folder `path`.

    Raises
    ------
    GeoSRError
        If a file is missing, or was written by another release.
    """
    folder = JobFolder(path)
    page = folder.status().result
    if page is None:
        raise JobError(f"{folder.path} has no report. Run the job again.")
    yield StageStarted(message=f"Opening {page.name}")
    values = folder.values()
    values.pop("operation", None)
    job = MeasureJob.from_values(values)
    labelled = io.read(labels_file(page))
    reports, record = read_reports(page.parent, labelled.data)
    inputs: dict[str, JobInput] = {"input": job.data}
    if job.reference is not None:
        inputs[REFERENCE] = job.reference
    # The last record is that of the measurement, which made labels of the image.
    image = labelled.replace(
        name=reports["input"].name,
        provenance=labelled.provenance[:-1],
        metadata={k: v for k, v in labelled.metadata.items() if k != "kind"},
    )
    volumes = {"input": image}
    for key in reports.keys() - volumes.keys():
        volumes[key] = _place_of(job, labelled).replace(name=reports[key].name)
    titles = column_titles(volumes)
    checksum = checksum_of(labelled.data, should_stop)
    measured = PoreMeasurement(
        {titles[key]: without_voxels(volume) for key, volume in volumes.items()},
        job.settings,
        {titles[key]: report for key, report in reports.items()},
        record,
        {titles[key]: pore_layers.features(r) for key, r in reports.items()},
        checksums={titles["input"]: checksum},
    )
    sources = {
        titles[key]: JobSource(
            given.volume.resolve(),
            channel=given.reading.channel,
            title=given.title,
            is_of_job=given.volume.resolve().is_relative_to(folder.path),
        )
        for key, given in inputs.items()
    }
    return JobMeasurement(measured, sources, page)


def _place_of(job: MeasureJob, labelled: Volume) -> Volume:
    """Return the job's reference volume, or `labelled` if that cannot be read."""
    try:
        return job.open()[0]["reference"]
    except GeoSRError:
        return labelled
