"""From a scan in a layer to a Noise2Inverse job that runs. No Qt here."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.latest import latest_job_steps
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.jobs import local
from napari_geosr.jobs.data import new_folder
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.preview import contrast
from napari_geosr.operations.train.from_projections import ProjectionsTrainJob
from napari_geosr.operations.train.scans import OF_A_RECONSTRUCTION, ScansConfig

METHOD = "noise2inverse"
#: The denoised volume in the folder of its job.
DENOISED = "denoised.ome.tif"
_ANGLES = "angles.txt"
#: How fields of `ScansConfig` are called in `ProjectionsInput`.
_READING = {
    "angles": "angles",
    "angle_range": "angle_range",
    "pixel_size": "pixel_size",
    "pixel_unit": "unit",
    "scan_dataset": "dataset",
    "flats": "flats",
    "darks": "darks",
    "line_integrals": "line_integrals",
    "geometry": "geometry",
    "source_distance": "source_distance",
    "detector_distance": "detector_distance",
}


def scans_config(
    opened: OpenedScan,
    config: ReconstructConfig,
    column: float | None,
    folder: Path,
    **more: Any,
) -> ScansConfig:
    """Settings of a job's scans: as the dock has them, with what the file needs.

    Parameters
    ----------
    column : float, optional
        The rotation axis, where it is known.
    folder : Path
        Of the job; angles that a file cannot say in one word are written there.
    """
    if opened.path is None:
        raise ConfigError(
            f"{opened.scan.title} is not in a file, which another process could read. "
            "Save the projections first."
        )
    reading = {k: opened.reading.get(v) for k, v in _READING.items()}
    if {"endpoint", "angle_unit"} & set(opened.reading):
        np.savetxt(folder / _ANGLES, opened.scan.angles)
        reading |= {"angles": str(folder / _ANGLES), "angle_range": None}
    settings = {name: getattr(config, name) for name in OF_A_RECONSTRUCTION}
    known = config.centre if config.centre != "auto" else column
    return ScansConfig.create(
        projections=opened.path,
        centre="auto" if known is None else known,
        filter=config.filter or "ramp",
        padding=config.options.get("padding", "zero"),
        **settings,
        **{name: value for name, value in reading.items() if value is not None},
        **more,
    )


def denoise_steps(
    opened: OpenedScan,
    config: ReconstructConfig,
    column: float | None,
    training: AnyMapping,
    splits: int | str,
    parent: Path,
    should_stop: ShouldStop,
) -> Generator[Step, None, Path]:
    """Make the job in a new folder of `parent` and start its process.

    Returns
    -------
    Path
        The job's folder.

    Raises
    ------
    GeoSRError
        With one sentence; nothing is left then.
    """
    yield StageStarted(message="Looking at the projections")
    name = str(training["name"])
    folder = new_folder(parent, name)
    made: JobFolder | None = None
    try:
        scans = scans_config(
            opened, config, column, folder, splits=splits, restore=folder / DENOISED
        )
        job = ProjectionsTrainJob.create_for(METHOD, scans, training)
        job.check()
        made = JobFolder.create(folder, job.to_values(), name=name, is_mine=True)
        local.start(made)
    except BaseException:
        if made is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def find_steps(path: Path) -> Generator[Step, None, JobStatus | None]:
    """Find the newest job that denoises the scan of a file: see `latest_job_steps`."""
    return latest_job_steps(path, lambda job: job.method == METHOD, _scan_denoised)


def _scan_denoised(settings: AnyDict) -> Any:
    scans = settings.get("scans")
    if not isinstance(scans, dict) or not scans.get("restore"):
        return None
    return str(Path(str(scans.get("projections"))))


def denoised_file(job: Path) -> Path:
    """Where a job puts the denoised volume.

    Raises
    ------
    GeoSRError
        If the folder cannot be read.
    """
    return Path(str(JobFolder(job).values()["scans"]["restore"]))


def read_steps(path: Path) -> Generator[Step, None, tuple[Volume, tuple[float, float]]]:
    """Open a denoised volume, and return it with limits of its contrast."""
    yield StageStarted(message=f"Opening {path.name}")
    volume = io.read(path)
    middle = volume.shape[0] // 2
    plane = np.asarray(volume.data[middle : middle + 1])
    return volume, contrast(plane)
