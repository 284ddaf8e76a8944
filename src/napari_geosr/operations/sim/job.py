"""A reconstruction job for structured illumination: its description and its run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.documents import dump_yaml, load_yaml, read_document
from napari_geosr.core.errors import Cancelled, ConfigError, FileError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.atomic import explained, write_text
from napari_geosr.io.unfinished_files.finished import has_record, is_recorded
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.inputs import open_frames, transfer_function
from napari_geosr.operations.sim.report import FILES, write_report
from napari_geosr.operations.sim.run import run_steps
from napari_geosr.operations.storage import is_written

OPERATION = "sim"


class SimJob(Config):
    """Everything needed to run a reconstruction, on this or another computer.

    Patterns corrected by hand are passed as a file: `SimConfig.patterns` for a single
    time point and channel, `near` for several.
    """

    name: str
    """File name of the result."""
    frames: Path
    """The file with the raw frames."""
    reading: InputConfig = InputConfig()
    """Information about the frames that is missing from the file."""
    settings: SimConfig = SimConfig()
    near: Path | None = None
    """Patterns of the first time point and channel, corrected by the user."""
    out: Path | None = None
    """File to write; by default one in the folder of the job."""
    replaces: int = 0
    """Modification time, in ns, of the file that the result replaces."""
    report: Path | None = None
    """Folder for the checks of the result; by default, they are not written."""
    report_replaces: int = 0
    """Latest modification time, in ns, of the files that the report replaces."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> SimJob:
        """Validate the contents of ``config.yaml``."""
        values = {key: value for key, value in values.items() if key != "method"}
        reading = InputConfig.from_mapping(values.get("reading") or {})
        settings = SimConfig.from_mapping(values.get("settings") or {})
        return cls.from_mapping({**values, "reading": reading, "settings": settings})

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": self.settings.method,
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def check(self) -> None:
        """Refuse invalid settings before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        transfer_function(
            open_frames(self.frames, self.settings, self.reading), self.settings
        )

    def open_input(self) -> Volume:
        """Open the frames lazily."""
        return open_frames(self.frames, self.settings, self.reading).volume

    def outputs(self) -> tuple[Path, ...]:
        """Return the files, and the folder, that the job writes outside its folder."""
        result = () if self.out is None else (self.out,)
        if self.report is None:
            return result
        return (*result, self.report, *self.report_files().values())

    def report_files(self) -> dict[str, Path]:
        """Return the paths of the files of the report, if there is one."""
        folder = self.report
        return {} if folder is None else {k: folder / n for k, n in FILES.items()}

    def result(self, folder: Path) -> Path:
        """Return the path of the result, by default in the folder of the job."""
        return self.out or folder / "result" / f"{self.name}.ome.tif"


def write_patterns(path: Path, patterns: PatternSet | None) -> Path | None:
    """Write patterns into the folder of a job.

    Returns
    -------
    Path or None
        The file; None if there are no patterns, or they are images.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    if patterns is None or patterns.images is not None:
        return None
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, dump_yaml(patterns.to_dict()), overwrite=True)
    return path


def sim_job_steps(
    job: SimJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Reconstruct the frames of a job in the folder of the job.

    After a stop or a crash, the run starts from the beginning. A plane takes only
    a few seconds.

    Parameters
    ----------
    job : SimJob
    folder : Path
        Receives ``result/NAME.ome.tif``, unless the job names another output.
    should_stop : callable
    keep_unfinished : callable
        Not used: an incomplete set of planes could be mistaken for the whole volume.

    Yields
    ------
    Step
        The steps of `napari_geosr.operations.sim.run_steps`.

    Returns
    -------
    Path or None
        Path of the result; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails.
    """
    out = job.result(folder)
    if foreign := _foreign_files(job, folder):
        raise FileError(
            f"{job.report} contains {', '.join(foreign)}, written by another program "
            "after this job was created, so nothing was replaced. Move these files to "
            f"another folder and resume the job (napari-geosr jobs resume {folder}), "
            "or start a new job with another --report."
        )
    # If the job was killed before it reported its result, the file already exists.
    done = is_written(out, folder, OPERATION, job.replaces)
    if done and not _lacks_report(job, out):
        return out
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        result = yield from run_steps(
            open_frames(job.frames, job.settings, job.reading),
            job.settings,
            near=_read_near(job.near),
            out=out,
            overwrite=bool(job.replaces) or done,
            should_stop=should_stop,
        )
    except Cancelled:
        return None
    if job.report is not None:
        if result.checks is None:
            yield WarningIssued(
                message="Nothing could be checked, so no report was written."
            )
        else:
            # An earlier run of the job may have left some of the files.
            is_own = not _foreign_files(job, folder)
            if note := write_report(job.report, result, overwrite=is_own):
                yield WarningIssued(message=note)
    return result.path


def _foreign_files(job: SimJob, folder: Path) -> list[str]:
    """Return the names of files of the report that other programs have written.

    For jobs of earlier releases, which have no record of their files, none are
    returned.
    """
    if not has_record(folder):
        return []
    return [
        path.name
        for path in job.report_files().values()
        if path.exists()
        and path.stat().st_mtime_ns > job.report_replaces
        and not is_recorded(path, folder)
    ]


def _lacks_report(job: SimJob, out: Path) -> bool:
    """Return whether the job has yet to write files of its report.

    Files that are older than the result belong to an earlier result.
    """
    made = out.stat().st_mtime_ns
    files = job.report_files().values()
    return not all(f.exists() and f.stat().st_mtime_ns >= made for f in files)


def _read_near(path: Path | None) -> PatternSet | None:
    """Read the patterns that `write_patterns` wrote.

    Raises
    ------
    FileError, ConfigError
        If the file has been deleted or changed.
    """
    if path is None:
        return None
    try:
        values = load_yaml(read_document(path))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise FileError(
            f"{path} cannot be read: {str(error).rstrip('.')}. Start the run again "
            "from the SIM dock."
        ) from error
    return PatternSet.from_dict(values if isinstance(values, dict) else {}, path.name)
