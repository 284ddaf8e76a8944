"""A restoration as a job: what its folder says, and its run. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.members import NONE
from napari_geosr.io.atomic import explained
from napari_geosr.io.hidden import leftovers
from napari_geosr.io.journal import remove_with_journal
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.io.unfinished import left_unfinished
from napari_geosr.operations.inputs import InputConfig, open_series, open_volume
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.storage import open_part, remove_parts

OPERATION = "restore"


class RestoreInput(Config):
    """What a job restores."""

    volume: Path
    """The file."""
    reading: InputConfig = InputConfig()
    """How it is opened."""
    title: str = ""
    """What the volume is called; by default as its file."""
    whole: bool = False
    """Whether all time points and channels are restored that are not chosen from."""
    known_by_voxels: bool = False
    """Whether the record knows the volume by its voxels, and not by its file: as a
    layer that was in none when its restoration began."""

    def open(self) -> Volume:
        """Open it lazily.

        Raises
        ------
        FileError, VolumeError
            If the file cannot be opened, or a channel or time point must be chosen.
        """
        opener = open_series if self.whole else open_volume
        volume = opener(self.volume, self.reading)
        if self.title:
            volume = volume.replace(name=self.title)
        return volume.replace(source=None) if self.known_by_voxels else volume


class RestoreJob(Config):
    """All that a restoration needs to be done, or resumed, by another process."""

    name: str
    """Of the result's file."""
    data: RestoreInput
    settings: RestoreConfig = RestoreConfig()
    part: Path | None = None
    """What another process has finished: see `napari_geosr.operations.storage`."""
    part_deviation: Path | None = None
    """The standard deviations that belong to it."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> RestoreJob:
        """Validate what ``config.yaml`` held."""
        values = {key: value for key, value in values.items() if key != "method"}
        data = dict(values.get("data") or {})
        reading = InputConfig.from_mapping(data.pop("reading", None) or {})
        settings = RestoreConfig.from_mapping(values.get("settings") or {})
        known = RestoreInput.from_mapping({**data, "reading": reading})
        return cls.from_mapping({**values, "data": known, "settings": settings})

    def to_values(self) -> AnyDict:
        """What `from_values` reads."""
        return {
            "operation": OPERATION,
            "method": self.settings.model,
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a process is started.

        Raises
        ------
        GeoSRError
            With one sentence.
        """
        self.data.open()

    def result(self, folder: Path) -> Path:
        """Where the restored volume is put in the folder of the job."""
        return folder / "result" / f"{self.name}.ome.tif"


def restore_job_steps(
    job: RestoreJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Restore a volume in the folder of a job, or resume it where it was stopped.

    Parameters
    ----------
    folder : Path
        Gets ``result/NAME.ome.tif``.
    keep_unfinished : callable
        Not asked: a part of a volume would pass for all of it.

    Yields
    ------
    Step
        As `napari_geosr.operations.restore.restore_steps`.

    Returns
    -------
    Path or None
        Of the restored volume; None if `should_stop` ended it early.

    Raises
    ------
    GeoSRError
        With one sentence; finished tiles are kept.
    """
    from napari_geosr.operations.restore.steps import restore_steps

    out = job.result(folder)
    if out.exists():  # it was killed between its last step and saying so
        remove_parts(folder, job.part, job.part_deviation)
        return out
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    unfinished, deviation = _left(job, out)
    try:
        done = yield from restore_steps(
            job.data.open(),
            job.settings,
            out=out,
            unfinished=unfinished,
            unfinished_deviation=deviation,
            should_stop=should_stop,
        )
    except Cancelled:
        return None
    if not done.complete:
        return None
    remove_parts(folder, job.part, job.part_deviation)
    return done.path


def _left(job: RestoreJob, out: Path) -> tuple[Volume | None, Volume | None]:
    """What earlier runs have finished of the result, and of its deviations.

    Once this job has a journal of its own, what it began with is in there as well.
    """
    from napari_geosr.operations.restore.continued import find_unfinished_deviation

    own = left_unfinished(out)
    if job.settings.uncertainty == NONE:
        return own or _part(job.part), None
    if own is not None:
        try:
            return own, find_unfinished_deviation(out)
        except ConfigError:
            # It was killed before the other file had anything: neither is of use.
            for left in leftovers(out, suffix_of(out)):
                remove_with_journal(left)
    part, deviation = _part(job.part), _part(job.part_deviation)
    return (part, deviation) if part and deviation else (None, None)


def _part(path: Path | None) -> Volume | None:
    return None if path is None else open_part(path)
