"""A restoration job: its description in the job's folder, and its run.

This module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pydantic import Field

from napari_geosr.core.addresses import METADATA_CHECKSUM
from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.machine.file_state import state_when_opened
from napari_geosr.core.noise import known_noise
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.version import __version__
from napari_geosr.core.volume import Volume
from napari_geosr.inference.members import NONE
from napari_geosr.io import read_back
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.io.unfinished_files.finished import has_record
from napari_geosr.io.unfinished_files.hidden import leftovers
from napari_geosr.io.unfinished_files.journal import remove_with_journal
from napari_geosr.io.unfinished_files.unfinished import usable_unfinished_steps
from napari_geosr.models import zoo
from napari_geosr.operations.inputs import InputConfig, open_series, open_volume
from napari_geosr.operations.inputs.noise_source import (
    NoiseSource,
    known_from_values,
    with_known_noise,
    with_noise_steps,
)
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.consistency import (
    consistency_steps,
    residual_path,
)
from napari_geosr.operations.restore.measurements import FILE, MeasurementStore
from napari_geosr.operations.restore.ranking.config import AUTO
from napari_geosr.operations.restore.resume import (
    deviation_path,
    find_unfinished_deviation,
)
from napari_geosr.operations.restore.series.plan import refuse_series_check
from napari_geosr.operations.storage import is_written, open_part, remove_parts

if TYPE_CHECKING:
    from napari_geosr.operations.restore.run import RestorationResult

OPERATION = "restore"
#: Operation in the record of a residual.
_CHECK = "check"
#: Size of a float32 voxel, in bytes.
_FLOAT_BYTES = 4


class RestoreInput(Config):
    """The input of a restoration job."""

    volume: Path
    """The file."""
    reading: InputConfig = InputConfig()
    """Settings for opening the file."""
    title: str = ""
    """Name of the volume; by default, the name of its file."""
    whole: bool = False
    """Whether all time points and channels are restored unless one is chosen."""
    known_by_voxels: bool = False
    """Whether the record identifies the volume by its voxels instead of its file, as
    for a layer that was not saved when its restoration began."""
    noise: NoiseSource = NoiseSource()
    """Where the noise is measured, if not in the volume alone."""
    known_noise: AnyDict = Field(default_factory=dict)
    """The noise of the volume, if it was measured before the job was created."""

    def open(self) -> Volume:
        """Open the file lazily.

        Raises
        ------
        FileError, VolumeError
            If the file cannot be opened, or a channel or time point must be chosen.
        """
        opener = open_series if self.whole else open_volume
        volume = opener(self.volume, self.reading)
        if self.title:
            volume = volume.replace(name=self.title)
        if self.known_noise:
            volume = with_known_noise(volume, known_from_values(self.known_noise))
        return volume.replace(source=None) if self.known_by_voxels else volume


class RestoreJob(Config):
    """Everything that another process needs to run or resume a restoration."""

    name: str
    """File name of the result."""
    data: RestoreInput
    settings: RestoreConfig = RestoreConfig()
    part: Path | None = None
    """Unfinished result of another process: see `napari_geosr.operations.storage`."""
    part_deviation: Path | None = None
    """The standard deviations that belong to the unfinished result."""
    out: Path | None = None
    """File to write; by default one in the folder of the job."""
    replaces: int = 0
    """Modification time, in ns, of the file that the result replaces."""
    deviation_replaces: int = 0
    """Modification time, in ns, of the file that the standard deviations replace."""
    residual_replaces: int = 0
    """Modification time, in ns, of the file that the residual replaces."""
    look: bool = False
    """Whether to predict the effect of the run first, and to report it."""
    strict: bool = False
    """Whether to refuse a run that would do more harm than good."""
    workers: int | None = None
    """Number of processes that share the work; by default, there is one process."""
    check_consistency: bool = False
    """Whether to check the result against the scan, and to write the residual next to
    it."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> RestoreJob:
        """Validate the contents of ``config.yaml``."""
        values = {key: value for key, value in values.items() if key != "method"}
        data = dict(values.get("data") or {})
        reading = InputConfig.from_mapping(data.pop("reading", None) or {})
        noise = NoiseSource.from_mapping(data.pop("noise", None) or {})
        settings = RestoreConfig.from_mapping(values.get("settings") or {})
        known = RestoreInput.from_mapping({**data, "reading": reading, "noise": noise})
        return cls.from_mapping({**values, "data": known, "settings": settings})

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": self.settings.model,
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def check(self) -> None:
        """Refuse invalid settings before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        if self.workers is not None:
            _steps().check_workers_for(self.data.open(), self.workers)
        if self.check_consistency:
            refuse_series_check(self.data.open())

    def open_input(self) -> Volume:
        """Open the scan lazily; see `RestoreInput.open`."""
        return self.data.open()

    def output_bytes(self) -> int:
        """Return the uncompressed size of the result and its deviations in bytes.

        Raises
        ------
        ModelError
            If the model is unknown.
        """
        volume, settings = self.data.open(), self.settings
        factor = labels = 1
        n_axes = sum(axis in "ZYX" for axis in volume.axes)
        if settings.model != AUTO:
            card = zoo.find(settings.model).card
            factor, labels = card.upscale_factor, card.labels
            n_axes = min(n_axes, len(card.axes))
        # The setting is used with the model "auto" and for sampling.
        factor = max(factor, settings.upscale_factor)
        keeps = settings.output_dtype == "input" and volume.dtype.kind in "iu"
        itemsize = volume.dtype.itemsize if keeps else _FLOAT_BYTES
        itemsize = 1 if labels > 1 else itemsize
        if settings.uncertainty != NONE:
            itemsize += _FLOAT_BYTES
        return math.prod(volume.shape) * int(factor**n_axes) * itemsize

    def outputs(self) -> tuple[Path, ...]:
        """Return the files that the job writes outside its folder."""
        if self.out is None:
            return ()
        return (self.out, *self.companions(self.out))

    def companions(self, out: Path) -> dict[Path, int]:
        """Return the files that the job writes in addition to the result `out`.

        Each value is the modification time of the file that is replaced.
        """
        found = {}
        if self.settings.uncertainty != NONE:
            found[deviation_path(out)] = self.deviation_replaces
        if self.check_consistency:
            found[residual_path(out)] = self.residual_replaces
        return found

    def result(self, folder: Path) -> Path:
        """Return the path of the result, by default in the folder of the job."""
        return self.out or folder / "result" / f"{self.name}.ome.tif"


def restore_job_steps(
    job: RestoreJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Restore a volume in the folder of a job, or resume an interrupted run.

    Parameters
    ----------
    folder : Path
        Receives ``result/NAME.ome.tif``, unless the job names another output.
    keep_unfinished : callable
        Not used: a part of a volume could be mistaken for the whole volume.

    Yields
    ------
    Step
        The same as for `napari_geosr.operations.restore.restore_steps`.

    Returns
    -------
    Path or None
        Path of the restored volume; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails; finished tiles are kept.
    """
    out = job.result(folder)
    # Refuse, before the run, to replace files that other programs have written.
    for path, replaces in job.companions(out).items():
        made_by = _CHECK if path == residual_path(out) else OPERATION
        is_written(path, folder, made_by, replaces)
    # A run that was killed before it reported its result may already have written the
    # file.
    if is_written(out, folder, OPERATION, job.replaces):
        if has_record(folder):  # otherwise, it may be the result of another run
            remove_parts(folder, job.part, job.part_deviation)
        return (yield from _checked(job, out, folder, should_stop))
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    unfinished, deviation = yield from _unfinished_parts_steps(job, out)
    volume = job.data.open()
    reference = job.data.noise.open(volume, job.data.reading)
    try:
        volume = yield from with_noise_steps(volume, reference, should_stop)
        done: RestorationResult = yield from _steps().restore_steps(
            volume,
            job.settings,
            out=out,
            # A file of deviations may be left over from an earlier, removed result.
            overwrite=bool(
                job.replaces or (job.deviation_replaces and unfinished is None)
            ),
            unfinished=unfinished,
            unfinished_deviation=deviation,
            look=job.look,
            strict=job.strict,
            may_look_late=True,
            workers=job.workers,
            kept=_measurements(job, folder, volume),
            should_stop=should_stop,
        )
    except Cancelled:
        return None
    if not done.complete:
        return None
    remove_parts(folder, job.part, job.part_deviation)
    return (yield from _checked(job, out, folder, should_stop))


def _checked(
    job: RestoreJob, out: Path, folder: Path, should_stop: ShouldStop
) -> Generator[Step, None, Path | None]:
    """Check the result if requested; return None if the check was stopped."""
    if not job.check_consistency:
        return out
    residual = residual_path(out)
    # An existing file is replaced if the user wants this, or if an earlier run of the
    # job has left it; otherwise, this raises an error.
    is_written(residual, folder, _CHECK, job.residual_replaces)
    checked = consistency_steps(
        job.data.open(),
        read_back(out),
        out=residual,
        overwrite=residual.exists(),
        workers=job.workers,
        should_stop=should_stop,
    )
    try:
        yield from checked
    except Cancelled:
        return None
    return out


def _steps() -> ModuleType:
    """Import the module for runs, which is not needed to submit a job."""
    from napari_geosr.operations.restore import steps

    return steps


def _measurements(
    job: RestoreJob, folder: Path, volume: Volume
) -> MeasurementStore | None:
    """Return the measurements of earlier runs, unless the scan has changed since.

    The result is None if changes to the scan cannot be detected.
    """
    opened = state_when_opened(volume)
    state = volume.metadata.get(METADATA_CHECKSUM) if opened is None else opened.digest
    if state is None:
        return None
    depends_on = {
        "version": __version__,
        "scan": state,
        "shape": volume.shape,
        "data": job.data.model_dump(mode="json"),
        "settings": job.settings.model_dump(mode="json"),
    }
    known = known_noise(volume.metadata)
    if known is not None:
        depends_on["noise"] = known.noise.to_json_dict()
    return MeasurementStore(folder / FILE, depends_on)


def _unfinished_parts_steps(
    job: RestoreJob, out: Path
) -> Generator[WarningIssued, None, tuple[Volume | None, Volume | None]]:
    """Return the unfinished result and deviations of earlier runs.

    As soon as this job has its own unfinished result, that result also contains the
    parts finished by earlier jobs.
    """
    own = yield from usable_unfinished_steps(out)
    if job.settings.uncertainty == NONE:
        return own or _part(job.part), None
    if own is not None:
        try:
            return own, find_unfinished_deviation(out)
        except ConfigError:
            # The run was killed before the other file had any data, so neither file can
            # be used.
            for path in (out, deviation_path(out)):
                for left in leftovers(path, suffix_of(path)):
                    remove_with_journal(left)
            yield WarningIssued(
                message=f"The standard deviations of the finished part of {out.name} "
                "are missing or damaged, so it is restored from the beginning."
            )
    part, deviation = _part(job.part), _part(job.part_deviation)
    return (part, deviation) if part and deviation else (None, None)


def _part(path: Path | None) -> Volume | None:
    return None if path is None else open_part(path)
