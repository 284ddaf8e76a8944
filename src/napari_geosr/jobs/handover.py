"""From a run in napari to a job that another process resumes. No Qt here."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import Cancelled, ConfigError, FileError, VolumeError
from napari_geosr.core.provenance import array_checksum
from napari_geosr.core.questions import AXES_GIVEN
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.jobs import index, local
from napari_geosr.jobs.data import (
    new_folder,
    removed_on_failure,
    same_voxels,
    write_into_job,
)
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import Job
from napari_geosr.operations import storage
from napari_geosr.operations.inputs import InputConfig, open_series, open_volume
from napari_geosr.operations.measure.job import MeasureInput, MeasureJob
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput
from napari_geosr.operations.reconstruct.job import ReconstructJob
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob

#: Letters of a layer's name that a job's name has.
_LONGEST_NAME = 40

MakeJob = Callable[[Path, ShouldStop], Generator[Step, None, Job]]


@dataclass(frozen=True)
class LayerVolume:
    """A volume as a layer has it, and what it is of its file.

    Attributes
    ----------
    volume : Volume
        Its ``source`` is the file, if there is one.
    position : mapping of str to int
        Time point and channel that it is of the file.
    whole : bool
        Whether it has the other time points and channels.
    """

    volume: Volume
    position: Mapping[str, int] = field(default_factory=dict)
    whole: bool = False

    def reading(self) -> InputConfig:
        """How its file is opened so that the same comes out.

        Raises
        ------
        ConfigError
            If that cannot be said.
        """
        volume = self.volume
        said: dict[str, Any] = {k: int(v) for k, v in self.position.items()}
        if volume.has_physical_size:
            said |= {"voxel_size": volume.voxel_size, "unit": volume.unit}
        for key, name in (("dataset", "dataset"), (AXES_GIVEN, "axes")):
            if key in volume.metadata:
                said[name] = str(volume.metadata[key])
        return InputConfig.create(**said)

    def is_in_file(self) -> bool:
        """Whether the file holds what the layer shows, by a sample of its planes."""
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
            if not (same and np.allclose(file.origin, volume.origin)):
                return False
            if isinstance(volume.data, np.ndarray):  # a person may have painted in it
                return same_voxels(file.data, volume.data)
            return array_checksum(file.data) == array_checksum(volume.data)
        except (FileError, VolumeError, ConfigError):
            return False


@dataclass(frozen=True)
class StoppedRestoration:
    """A restoration that was stopped, and what it has finished.

    Attributes
    ----------
    of : LayerVolume
        What is restored.
    known_by_voxels : bool
        Whether the run knew it by its voxels, and not by a file.
    left, left_deviation : Volume or None
        What is finished, and the standard deviations of it.
    """

    of: LayerVolume
    settings: RestoreConfig
    known_by_voxels: bool
    left: Volume | None = None
    left_deviation: Volume | None = None

    @property
    def name(self) -> str:
        """Of the job."""
        return plain_name(f"{self.of.volume.name}_{Path(self.settings.model).stem}")

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, RestoreJob]:
        """Put into `folder` what the job needs.

        Raises
        ------
        GeoSRError
            If something cannot be written.
        """
        path, reading = yield from _file_steps(
            self.of, folder / "data" / "scan.ome.zarr", should_stop
        )
        left, left_deviation = self.left, self.left_deviation
        is_written = path != self.of.volume.source and path.is_relative_to(folder)
        data = RestoreInput(
            volume=path,
            reading=reading,
            title=self.of.volume.name,
            whole=self.of.whole,
            known_by_voxels=self.known_by_voxels or is_written,
        )
        if is_written:  # its voxels may be of another type than in the layer
            known = array_checksum(data.open().data)
            left, left_deviation = (
                None if each is None else _of_input(each, known)
                for each in (left, left_deviation)
            )
        part = yield from _part_steps(left, folder / "data" / "part.zarr")
        deviation = None
        if part is not None and self.settings.uncertainty != "none":
            deviation = yield from _part_steps(
                left_deviation, folder / "data" / "deviation.zarr"
            )
        return RestoreJob(
            name=self.name,
            data=data,
            settings=self.settings,
            part=part,
            part_deviation=deviation,
        )


@dataclass(frozen=True)
class StoppedReconstruction:
    """A reconstruction that was stopped, and what it has finished.

    Attributes
    ----------
    projections : Path
        The file of the scan.
    reading : mapping
        Fields of `ProjectionsInput`.
    left : Volume or None
        What is finished.
    """

    title: str
    projections: Path
    reading: Mapping[str, Any]
    settings: ReconstructConfig
    left: Volume | None = None

    @property
    def name(self) -> str:
        """Of the job."""
        return plain_name(f"{self.title}_{self.settings.algorithm}")

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, ReconstructJob]:
        """Put into `folder` what the job needs.

        Raises
        ------
        GeoSRError
            If something cannot be written.
        """
        part = yield from _part_steps(self.left, folder / "data" / "part.zarr")
        return ReconstructJob(
            name=self.name,
            projections=self.projections.resolve(),
            reading=ProjectionsInput.create(**self.reading),
            settings=self.settings,
            part=part,
        )


@dataclass(frozen=True)
class StoppedMeasurement:
    """A measurement that was stopped: nothing of it can be kept.

    Attributes
    ----------
    volumes : mapping of str to LayerVolume
        By role: ``"data"``, and where they are given ``"reference"``, ``"mask"`` and
        ``"deviation"``.
    """

    volumes: Mapping[str, LayerVolume]
    settings: Any

    @property
    def name(self) -> str:
        """Of the job."""
        return plain_name(f"{self.volumes['data'].volume.name}_pores")

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, MeasureJob]:
        """Put into `folder` what the job needs.

        Raises
        ------
        GeoSRError
            If something cannot be written.
        """
        inputs = {}
        for role, given in self.volumes.items():
            # Messages call a volume as its file.
            name = plain_name(given.volume.name)
            target = folder / "data" / role / f"{name}.ome.zarr"
            path, reading = yield from _file_steps(given, target, should_stop)
            inputs[role] = MeasureInput(
                volume=path, reading=reading, title=given.volume.name
            )
        return MeasureJob(name=self.name, settings=self.settings, **inputs)


def job_from_run_steps(
    run: StoppedRestoration | StoppedReconstruction | StoppedMeasurement,
    parent: Path,
    *,
    start: bool,
    progress: tuple[int, int] = (0, 0),
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Path]:
    """Make a job of a run that was stopped, in a new folder of `parent`.

    Parameters
    ----------
    run : StoppedRestoration, StoppedReconstruction or StoppedMeasurement
        What was run, and what it has finished. Nobody may use its arrays any more.
    parent : Path
        Is made if it does not exist; the folder is named after the run.
    start : bool
        Whether a process begins to work on it, or it is paused.
    progress : tuple of int
        Units of work done, and in all.
    should_stop : callable
        Asked while files are written.

    Yields
    ------
    Step
        A stage for each file that is written.

    Returns
    -------
    Path
        The job's folder.

    Raises
    ------
    Cancelled
        If `should_stop` says so; the folder is removed.
    GeoSRError
        With one sentence, if something cannot be written; the folder is removed. After
        the job was made, it stays, also if its process cannot be started.
    """
    with removed_on_failure(new_folder(parent, run.name)) as folder:
        made = yield from run.job_steps(folder, should_stop)
        if should_stop():  # the last moment: from now on there is a job
            raise Cancelled("Cancelled.")
        job = JobFolder.create(folder, made.to_values(), name=run.name, is_mine=True)
        job.set_state("paused", done=progress[0], total=progress[1])
        index.register(job)
    if start:
        local.start(job)
    return folder


def plain_name(text: str) -> str:
    """A name for a folder, a file and the command line."""
    words = re.sub(r"[^\w.-]+", "_", text).strip("_.")
    return words[:_LONGEST_NAME].strip("_.") or "run"


def _file_steps(
    given: LayerVolume, path: Path, should_stop: ShouldStop
) -> Generator[Step, None, tuple[Path, InputConfig]]:
    """The file that holds a volume, its own or one that is written; how to open it."""
    volume = given.volume
    if volume.source is not None and given.is_in_file():
        return volume.source.resolve(), given.reading()
    yield StageStarted(message=f"Writing {volume.name!r} into the job")
    # Every type of voxels is kept as it is: masks as 0 and 1, labels of 64 bits too.
    written = write_into_job(volume.replace(source=None), path, should_stop)
    return written, InputConfig()


def _of_input(left: Volume, checksum: str) -> Volume:
    """A part whose record knows its input by the voxels that the job has."""
    *earlier, last = left.provenance
    inputs = dict(last.get("inputs") or {})
    inputs["input"] = {**(inputs.get("input") or {}), "checksum": checksum}
    return left.replace(provenance=(*earlier, {**last, "inputs": inputs}))


def _part_steps(left: Volume | None, path: Path) -> Generator[Step, None, Path | None]:
    if left is None:
        return None
    yield StageStarted(message="Keeping what is finished")
    return storage.keep_part(left, path)
