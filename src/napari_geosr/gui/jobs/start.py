"""Create a job folder from the user's choices, without Qt.

Layers that are identical to their files are read from these files; other layers are
written into the job's folder, so that training can continue without napari.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core.config import Config
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.jobs import local
from napari_geosr.jobs.data import (
    equals_file,
    new_folder,
    removed_on_failure,
    write_into_job,
)
from napari_geosr.jobs.estimate import TrainingEstimate, estimate_steps
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.train import TrainingConfig, TrainJob, config_class
from napari_geosr.operations.train.in_memory import entry_for

#: Minimum edge length, in voxels, of the part of a layer that is written for an
#: estimate.
_ESTIMATE_EDGE = 256
Data = Mapping[str, tuple[Path | Volume, ...]]


@dataclass(frozen=True)
class TrainingPlan:
    """A training run that can be started.

    Attributes
    ----------
    method : str
    settings : mapping
        Fields of the method's config, without the data.
    data : mapping of str to tuple of Path or Volume
        Input of each role: files, or volumes of layers.
    """

    method: str
    settings: AnyMapping
    data: Data

    @property
    def operation(self) -> str:
        """Operation of the job, which determines how a queue's script starts it."""
        return "train"

    @property
    def name(self) -> str:
        """Name of the job and of the model."""
        return str(self.settings["name"])

    @property
    def source(self) -> Path | None:
        """First file of the data, if there is one."""
        for part in chain.from_iterable(self.data.values()):
            path = part if isinstance(part, Path) else part.source
            if path is not None:
                return path
        return None

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, TrainJob]:
        """Write all data that the job needs into `folder`.

        Raises
        ------
        GeoSRError
            If settings or data are invalid, or a file cannot be written.
        """
        plan, _ = self.on_shared_regions()
        plan.check()
        yield StageStarted(message="Inspecting the data")
        paths = yield from _on_disk(plan, folder / "data", should_stop)
        job = TrainJob.from_values(
            {"method": self.method, "training": _plain(plan, paths)}
        ).with_absolute_paths()
        job.check()
        return job

    def training(self, paths: Mapping[str, tuple[Path, ...]]) -> Config:
        """Validate the settings together with the data's paths.

        Raises
        ------
        ConfigError
            If a setting is invalid.
        """
        return config_class(self.method).create(**(dict(self.settings) | dict(paths)))

    def check(self) -> None:
        """Reject invalid settings or data before any layer is written to a file.

        Messages name layers, not the files that would be written for them.

        The check must run in a worker, because some learning methods load PyTorch or a
        network during the check.

        Raises
        ------
        GeoSRError
            If the settings or the data are invalid.
        """
        job, in_memory = self._job_in_memory()
        job.check(in_memory)

    def _job_in_memory(self) -> tuple[TrainJob, dict[Path, Volume]]:
        """Return the job, and its layers' volumes by their path in the settings."""
        in_memory: dict[Path, Volume] = {}
        paths = {
            role: tuple(_entry(part, in_memory) for part in parts)
            for role, parts in self.data.items()
        }
        training = self.training(paths)
        assert isinstance(training, TrainingConfig)
        return TrainJob(method=self.method, training=training), in_memory

    def on_shared_regions(self) -> tuple[TrainingPlan, tuple[str, ...]]:
        """Crop layers and files that are shifted relative to each other.

        The viewer shows the position of every layer, but the layer's file might not
        state it, so the cropping cannot be left to the job. Like `check`, this method
        must be called in a worker.

        Returns
        -------
        plan : TrainingPlan
            The plan with the cropped volumes; this plan if nothing was cropped.
        notes : tuple of str
            A sentence for each group of volumes that was cropped.

        Raises
        ------
        GeoSRError
            If the settings or the data are invalid.
        """
        job, in_memory = self._job_in_memory()
        parts = [part for group in self.data.values() for part in group]
        shown = all(isinstance(part, Volume) for part in parts)
        opened, shared = job.open_regions(in_memory, shown=shown)
        if not shared.notes:
            return self, ()
        data = {
            role: tuple(
                part if used.shape == whole.shape else used.replace(source=None)
                for part, used, whole in zip(
                    group, shared.volumes[role], opened[role], strict=True
                )
            )
            for role, group in self.data.items()
        }
        index = shared.used_slice(self.settings.get("preview_slice"))
        settings = dict(self.settings) | {"preview_slice": index}
        return replace(self, data=data, settings=settings), shared.notes


def _entry(part: Path | Volume, in_memory: dict[Path, Volume]) -> Path:
    """Return the path that stands for a file or layer; add a layer to `in_memory`."""
    if isinstance(part, Path):
        return part
    entry = entry_for(part, in_memory)
    # Layers may show different parts of one file, so each has its own name.
    in_memory[entry] = part.replace(source=None)
    return entry


def start_steps(
    plan: TrainingPlan, parent: Path, name: str, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, Path]:
    """Create the job in a new folder `name` in `parent` and start its process.

    Parameters
    ----------
    plan : TrainingPlan
    parent : Path
        Folder in which the job's folder is created.
    name : str
    should_stop : callable

    Returns
    -------
    Path
        The job's folder.

    Raises
    ------
    GeoSRError
        If the job cannot be created or started; the folder is then removed.
    """
    with removed_on_failure(new_folder(parent, name)) as folder:
        train_job = yield from plan.job_steps(folder, should_stop)
        job = JobFolder.create(
            folder,
            train_job.to_values(),
            name=train_job.training.name,
            allow_existing=True,
        )
        local.start(job)
    return job.path


def time_steps(
    plan: TrainingPlan, parent: Path, *, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, TrainingEstimate]:
    """Estimate the time and memory for a plan, using temporary files in `parent`.

    If a layer has no file, only a part of each volume is used; the time per step does
    not depend on the volume's size.

    Returns
    -------
    TrainingEstimate
    """
    part = max(_ESTIMATE_EDGE, 3 * int(plan.settings.get("patch") or 64))
    plan, _ = plan.on_shared_regions()
    plan.check()
    folder = new_folder(parent, ".estimate")
    try:
        paths = yield from _on_disk(plan, folder, should_stop, part)
        # The preview slice may lie outside the part.
        training = _plain(plan, paths) | {"preview_slice": None}
        train_job = TrainJob.from_values(
            {"method": plan.method, "training": training}
        ).with_absolute_paths()
        train_job.check()
        values = train_job.to_values()
        return (yield from estimate_steps(values, should_stop=should_stop))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _plain(plan: TrainingPlan, paths: Mapping[str, tuple[Path, ...]]) -> AnyDict:
    return dict(plan.settings) | dict(paths)


def _on_disk(
    plan: TrainingPlan, folder: Path, should_stop: ShouldStop, edge: int | None = None
) -> Generator[Step, None, dict[str, tuple[Path, ...]]]:
    """Give every volume of the data a path; write the volumes that have no file.

    Parameters
    ----------
    edge : int, optional
        Approximate edge length of the box to write, if any volume has no file. All
        volumes that belong together, including those in files, are cropped to the same
        box.
    """
    files = {
        role: [_file_of(part, should_stop) for part in parts]
        for role, parts in plan.data.items()
    }
    if edge is not None and any(None in role_files for role_files in files.values()):
        data = _boxes(plan.data, edge)
        files = {
            role: [part if isinstance(part, Path) else None for part in parts]
            for role, parts in data.items()
        }
    else:
        data = plan.data
    for role, parts in data.items():
        for i, part in enumerate(parts):
            if files[role][i] is None:
                assert isinstance(part, Volume)
                yield StageStarted(message=f"Writing {part.name!r} to the job folder")
                name = re.sub(r"[^\w-]+", "_", part.name).strip("_") or "layer"
                # The last part of the path is the name shown in the log and in
                # messages.
                path = folder / f"{role}_{i + 1}" / f"{name}.ome.zarr"
                files[role][i] = write_into_job(part, path, should_stop)
    return {
        role: tuple(path for path in role_files if path is not None)
        for role, role_files in files.items()
    }


def _file_of(part: Path | Volume, should_stop: ShouldStop) -> Path | None:
    """Return the file from which a volume can be read, or None."""
    if isinstance(part, Path):
        return part
    return part.source if equals_file(part, should_stop) else None


def _boxes(data: Data, edge: int) -> Data:
    """Return central boxes of the volumes, aligned with those of the sources."""
    opened = {
        role: [io.read(p) if isinstance(p, Path) else p for p in parts]
        for role, parts in data.items()
    }
    sources = opened.get("source", [])
    cut: dict[str, tuple[Path | Volume, ...]] = {}
    for role, volumes in opened.items():
        boxes = [
            _box(volume, first, edge)
            for volume, first in zip_longest(volumes, sources[: len(volumes)])
        ]
        cut[role] = tuple(
            # Keep files with time points or channels: the training settings select from
            # them.
            volume.replace(data=np.asarray(volume.data[box]), name=_name(part))
            if volume.axes in ("YX", "ZYX")
            else part
            for volume, box, part in zip(volumes, boxes, data[role], strict=True)
        )
    return cut


def _name(part: Path | Volume) -> str:
    return part.stem if isinstance(part, Path) else part.name


def _box(volume: Volume, source: Volume | None, edge: int) -> tuple[slice, ...]:
    """Return a central box of `volume`, aligned with that of `source` if possible."""
    shape, factors = volume.shape, (1,) * len(volume.shape)
    if source is not None and len(source.shape) == len(shape):
        pairs = list(zip(shape, source.shape, strict=True))
        if all(n >= m > 0 and n % m == 0 for n, m in pairs):
            shape, factors = source.shape, tuple(n // m for n, m in pairs)
    lengths = [min(n, edge) for n in shape]
    starts = [(n - length) // 2 for n, length in zip(shape, lengths, strict=True)]
    return tuple(
        slice(start * f, (start + length) * f)
        for start, length, f in zip(starts, lengths, factors, strict=True)
    )
