"""Turn a run in napari into a job that another process resumes; does not import Qt."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from napari_geosr.core.errors import Cancelled, ConfigError, FileError, VolumeError
from napari_geosr.core.noise import known_noise_values
from napari_geosr.core.provenance import array_checksum
from napari_geosr.core.questions import AXES_GIVEN
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import same_position
from napari_geosr.core.volume import Volume
from napari_geosr.jobs import feasibility, index, local
from napari_geosr.jobs.cluster import profiles, submission
from napari_geosr.jobs.data import (
    new_folder,
    removed_on_failure,
    same_voxels,
    write_into_job,
)
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import Job, read_job
from napari_geosr.operations import storage
from napari_geosr.operations.inputs import InputConfig, open_series, open_volume
from napari_geosr.operations.inputs.job_input import CompanionInput, JobInput
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.measure.job import MeasureJob
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput
from napari_geosr.operations.reconstruct.job import ReconstructJob
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob

#: Maximum number of characters of a layer's name used in a job's name.
_MAX_NAME_LENGTH = 40

MakeJob = Callable[[Path, ShouldStop], Generator[Step, None, Job]]


class Run(Protocol):
    """A run, started in a dock, that another process or computer can take over."""

    @property
    def name(self) -> str:
        """Name of the job."""

    @property
    def source(self) -> Path | None:
        """File of the input, if there is one."""

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, Job]:
        """Write all data that the job needs into `folder`."""


@runtime_checkable
class UndividedRun(Run, Protocol):
    """A run that must end within one walltime: if it is stopped, nothing is kept."""

    def describe_time(self, profile: profiles.Profile) -> str:
        """Describe the time of the run on a node, as a clause."""


@dataclass(frozen=True)
class LayerVolume:
    """A layer's volume, and the position of this volume in its file.

    Attributes
    ----------
    volume : Volume
        The volume; its ``source`` is the file, if any.
    position : mapping of str to int
        Time point and channel within the file.
    whole : bool
        Whether the volume has all time points and channels along the axes that
        `position` does not give.
    """

    volume: Volume
    position: Mapping[str, int] = field(default_factory=dict)
    whole: bool = False

    def reading(self) -> InputConfig:
        """Return the settings for reading this volume from its file.

        Raises
        ------
        ConfigError
            If there are no such settings.
        """
        volume = self.volume
        values: AnyDict = {k: int(v) for k, v in self.position.items()}
        if volume.has_physical_size:
            values |= {"voxel_size": volume.voxel_size, "unit": volume.unit}
        for key, name in (("dataset", "dataset"), (AXES_GIVEN, "axes")):
            if key in volume.metadata:
                values[name] = str(volume.metadata[key])
        return InputConfig.create(**values)

    def is_in_file(self) -> bool:
        """Return whether the file holds the layer's data (lazy data are sampled)."""
        volume = self.volume
        if volume.source is None:
            return False
        opener = open_series if self.whole else open_volume
        try:
            file = opener(volume.source, self.reading())
            same = (file.axes, file.shape, file.dtype, file.unit) == (
                volume.axes,
                volume.shape,
                volume.dtype,
                volume.unit,
            )
            if not (
                same and same_position(file.origin, volume.origin, volume.voxel_size)
            ):
                return False
            if isinstance(volume.data, np.ndarray):  # may have been edited by the user
                return same_voxels(file.data, volume.data)
            return array_checksum(file.data) == array_checksum(volume.data)
        except (FileError, VolumeError, ConfigError):
            return False


@dataclass(frozen=True)
class StoppedRestoration:
    """A stopped restoration and its finished part.

    Attributes
    ----------
    input : LayerVolume
        The volume to restore.
    known_by_voxels : bool
        Whether the run identified the volume by its voxels rather than by a file.
    finished_part, part_deviation : Volume or None
        The finished part and its standard deviations.
    look : bool
        Whether the job first predicts the effect of the run and reports it.
    """

    input: LayerVolume
    settings: RestoreConfig
    known_by_voxels: bool
    finished_part: Volume | None = None
    part_deviation: Volume | None = None
    look: bool = False

    @property
    def name(self) -> str:
        """Name of the job."""
        return plain_name(f"{self.input.volume.name}_{Path(self.settings.model).stem}")

    @property
    def source(self) -> Path | None:
        """File of the input, if there is one."""
        return self.input.volume.source

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, RestoreJob]:
        """Write the files that the job needs into `folder`.

        Raises
        ------
        GeoSRError
            If a file cannot be written.
        """
        steps = file_steps(self.input, folder / "data" / "scan.ome.zarr", should_stop)
        path, reading = yield from steps
        finished_part, part_deviation = self.finished_part, self.part_deviation
        is_written = path != self.input.volume.source and path.is_relative_to(folder)
        data = RestoreInput(
            volume=path,
            reading=reading,
            title=self.input.volume.name,
            whole=self.input.whole,
            known_by_voxels=self.known_by_voxels or is_written,
            known_noise=known_noise_values(self.input.volume.metadata),
        )
        if is_written:  # the file's data type may differ from the layer's
            known = array_checksum(data.open().data)
            finished_part, part_deviation = (
                None if each is None else _with_input_checksum(each, known)
                for each in (finished_part, part_deviation)
            )
        part = yield from _part_steps(finished_part, folder / "data" / "part.zarr")
        deviation = None
        if part is not None and self.settings.uncertainty != "none":
            deviation_path = folder / "data" / "deviation.zarr"
            deviation = yield from _part_steps(part_deviation, deviation_path)
        return RestoreJob(
            name=self.name,
            data=data,
            settings=self.settings,
            part=part,
            part_deviation=deviation,
            look=self.look,
        )


@dataclass(frozen=True)
class StoppedReconstruction:
    """A stopped reconstruction and its finished part.

    Attributes
    ----------
    projections : Path
        File of the scan.
    reading : mapping
        Fields of `ProjectionsInput`.
    finished_part : Volume or None
        The finished part.
    """

    title: str
    projections: Path
    reading: AnyMapping
    settings: ReconstructConfig
    finished_part: Volume | None = None

    @property
    def name(self) -> str:
        """Name of the job."""
        return plain_name(f"{self.title}_{self.settings.algorithm}")

    @property
    def source(self) -> Path | None:
        """File of the input, if there is one."""
        return self.projections

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, ReconstructJob]:
        """Write the files that the job needs into `folder`.

        Raises
        ------
        GeoSRError
            If a file cannot be written.
        """
        part = yield from _part_steps(self.finished_part, folder / "data" / "part.zarr")
        return ReconstructJob(
            name=self.name,
            projections=self.projections.resolve(),
            reading=ProjectionsInput.create(**self.reading),
            settings=self.settings,
            part=part,
        )


@dataclass(frozen=True)
class StoppedMeasurement:
    """A stopped measurement, which has no partial result to keep.

    Attributes
    ----------
    volumes : mapping of str to LayerVolume
        Volumes by role: ``"data"`` and, if given, ``"reference"``, ``"mask"`` and
        ``"deviation"``.
    """

    volumes: Mapping[str, LayerVolume]
    settings: MeasureConfig

    @property
    def name(self) -> str:
        """Name of the job."""
        return plain_name(f"{self.volumes['data'].volume.name}_pores")

    @property
    def source(self) -> Path | None:
        """File of the input, if there is one."""
        return self.volumes["data"].volume.source

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, MeasureJob]:
        """Write the files that the job needs into `folder`.

        Raises
        ------
        GeoSRError
            If a file cannot be written.
        """
        inputs: AnyDict = {}
        for role, layer in self.volumes.items():
            # Messages identify a volume by its file name.
            name = plain_name(layer.volume.name)
            target = folder / "data" / role / f"{name}.ome.zarr"
            path, reading = yield from file_steps(layer, target, should_stop)
            kind = JobInput if role == "data" else CompanionInput
            inputs[role] = kind(volume=path, reading=reading, title=layer.volume.name)
        return MeasureJob(name=self.name, settings=self.settings, **inputs)


def settings_steps(
    run: Run, folder: Path, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Write the files of a job into its folder, and return the settings of the job.

    Raises
    ------
    Cancelled
        If `should_stop` returns True; it is checked once more at the end.
    GeoSRError
        If a file cannot be written.
    """
    made = yield from run.job_steps(folder, should_stop)
    if should_stop():
        raise Cancelled("Cancelled.")
    return made.to_values()


def job_from_run_steps(
    run: Run,
    parent: Path,
    *,
    start: bool,
    progress: tuple[int, int] = (0, 0),
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Path]:
    """Create a job from a stopped run, in a new folder of `parent`.

    Parameters
    ----------
    run : Run
        The run and its finished part. The arrays of this part must no longer be used
        elsewhere.
    parent : Path
        Created if missing; the new folder is named after the run.
    start : bool
        Whether to start the job's process; otherwise, the job is paused.
    progress : tuple of int
        Units of work done, and the total.
    should_stop : callable
        Called while files are written.

    Yields
    ------
    Step
        A stage for each file written.

    Returns
    -------
    Path
        The job's folder.

    Raises
    ------
    Cancelled
        If `should_stop` returns True; the folder is removed.
    GeoSRError
        If a file cannot be written; the folder is removed. Once created, the job is
        kept even if its process cannot be started.
    """
    with removed_on_failure(new_folder(parent, run.name)) as folder:
        values = yield from settings_steps(run, folder, should_stop)
        job = JobFolder.create(folder, values, name=run.name, allow_existing=True)
        job.set_state("paused", done=progress[0], total=progress[1])
        index.register(job)
    if start:
        local.start(job)
    return folder


def submit_run_steps(
    run: Run,
    parent: Path,
    profile: profiles.Profile,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, tuple[Path, str]]:
    """Create a job from a run that has not begun, and submit it to a queue.

    Parameters
    ----------
    run : Run
        A run that has not finished any part.
    parent : Path
        Folder that all nodes can access; created if missing. The job's new folder in
        it is named after the run.
    profile : Profile
        Queue and resources.
    should_stop : callable
        Called while files are written.

    Yields
    ------
    Step
        A stage for each file written, and one for the queue.

    Returns
    -------
    folder : Path
    number : str
        The number of the job in the queue.

    Raises
    ------
    Cancelled
        If `should_stop` returns True; the folder is removed.
    GeoSRError
        If a file cannot be written, walltime or memory is too small, or the queue
        refuses the job; the folder is removed, unless the queue may have accepted the
        job.
    """
    submission.check_profile(profile)
    with removed_on_failure(new_folder(parent, run.name)) as folder:
        values = yield from settings_steps(run, folder, should_stop)
        yield from feasibility.check_steps(read_job(values, folder)[0], profile)
        yield StageStarted(message="Submitting the job")
        job = JobFolder.create(folder, values, name=run.name, allow_existing=True)
        number = submission.submit(job, profile)
    return folder, number


def plain_name(text: str) -> str:
    """Return a name that is safe for folders, files and the command line."""
    words = re.sub(r"[^\w.-]+", "_", text).strip("_.")
    return words[:_MAX_NAME_LENGTH].strip("_.") or "run"


def file_steps(
    layer: LayerVolume, path: Path, should_stop: ShouldStop
) -> Generator[Step, None, tuple[Path, InputConfig]]:
    """Return the file of a volume and the settings to open it.

    The volume is written to a file if it has none.
    """
    volume = layer.volume
    if volume.source is not None and layer.is_in_file():
        return volume.source.resolve(), layer.reading()
    yield StageStarted(message=f"Writing {volume.name!r} into the job")
    # All data types are preserved: masks as 0 and 1, and 64-bit labels.
    written = write_into_job(volume.replace(source=None), path, should_stop)
    return written, InputConfig()


def _with_input_checksum(finished_part: Volume, checksum: str) -> Volume:
    """Add the checksum of the job's input to the provenance of the finished part."""
    *earlier, last = finished_part.provenance
    inputs = dict(last.get("inputs") or {})
    inputs["input"] = {**(inputs.get("input") or {}), "checksum": checksum}
    return finished_part.replace(provenance=(*earlier, {**last, "inputs": inputs}))


def _part_steps(
    finished_part: Volume | None, path: Path
) -> Generator[Step, None, Path | None]:
    if finished_part is None:
        return None
    yield StageStarted(message="Saving the finished part")
    return storage.keep_part(finished_part, path)
