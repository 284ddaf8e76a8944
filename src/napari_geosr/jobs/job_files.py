"""The files that belong to a job; a job never writes or deletes other files."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol, cast

from napari_geosr.core import provenance
from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.unfinished import (
    unfinished_of_job,
    unfinished_record,
)
from napari_geosr.jobs.facts import is_absolute
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import OUTPUTS, read_job
from napari_geosr.models import zoo
from napari_geosr.operations import restore
from napari_geosr.operations.restore.ranking.config import AUTO

#: Relative paths of the files that jobs of all kinds write; ``*`` matches part of a
#: name, and ``**`` matches anything below.
_PATTERNS = (
    "config.yaml",
    "job.json",
    "job.json.damaged",
    "origin.json",
    "events.jsonl",
    "request",
    "seen",
    "lock",
    "log.txt",
    "submit.sh",
    "queue.json",
    "queue_state.json",
    "inputs.json",
    "output.json",
    "discarded.json",
    "measurements.json",
    "energy.json",
    "angles.txt",
    "denoised.ome.tif",
    "checkpoints/*.pt",
    "previews/latest.tif",
    "processor_time/*.json",
    "slices/*.npy",
    "inputs/*.ome.tif",
    "data/*.zarr/**",
    "data/*/*.zarr/**",
    "data/*.zarr.journal.json",
    "result/*/*.yaml",
    "result/*/weights.safetensors",
    "result/*/similarity.safetensors",
)
_VOLUMES = ("result/*.ome.tif",)
_REPORT = (
    "result/*.ome.tif",  # labels
    "result/report.json",
    "result/report.html",
    "result/histogram.png",
    "result/pores*.csv",
    "result/values.csv",
    "result/network*.csv",
    "result/cortical*.csv",
    "result/overview*.npz",
)
_STUDY = (
    "result/study.json",
    "result/study.csv",
    "result/report.html",
    "result/.study.lock",
    "result/cells/**",
    "result/models/**",
    "result/work/**",
)
#: Additional files of some kinds of jobs, keyed by operation.
_MORE = {
    "train from projections": _VOLUMES,
    "ganrec": _VOLUMES,
    "pinn-sim": _VOLUMES,
    "restore": _VOLUMES,
    "reconstruct": _VOLUMES,
    "sim": (*_VOLUMES, "data/patterns.yaml", "data/near.yaml"),
    "shapes": _VOLUMES,
    "segment": _VOLUMES,
    "measure": _REPORT,
    "study projections": _STUDY,
}
#: Incomplete files and folders, and locks, left by a killed process
#: (`io.unfinished_files`).
_TEMPORARY = re.compile(r"\..+\.(?:(?:[0-9a-f]{8}){1,2}\.partial.*|lock)")

#: Settings that are outputs, names or finished parts, or may name a dataset in a file.
_NOT_INPUTS = (
    *OUTPUTS,
    "restore",
    "name",
    "title",
    "part",
    "part_deviation",
    "dataset",
    "angles",
    "flats",
    "darks",
)


def check_is_job(job: JobFolder) -> None:
    """Reject a folder with only ``config.yaml``, which other programs also write.

    Raises
    ------
    JobError
        If there is no ``job.json``, valid or damaged.
    """
    if not (job.path / "job.json").exists():
        raise JobError(
            f"{job.path} is not a job folder, because it has a config.yaml but no "
            "job.json. Nothing was changed in it. `napari-geosr jobs list` shows the "
            "known jobs."
        )


def missing_inputs(values: object) -> list[str]:
    """Return the absolute paths of input files in a job's settings that do not exist.

    Parameters
    ----------
    values : object
        Contents of a ``config.yaml``: mappings, lists and plain values.
    """
    if isinstance(values, dict):
        kept = (each for name, each in values.items() if name not in _NOT_INPUTS)
        return [path for each in kept for path in missing_inputs(each)]
    if isinstance(values, list):
        return [path for each in values for path in missing_inputs(each)]
    if not isinstance(values, str) or not is_absolute(values):
        return []
    try:
        # Only the last part of a path may be a pattern (of a series), not its folders.
        path = Path(values)
        is_pattern = any(character in path.name for character in "*?[")
        found = path.parent.glob(path.name) if is_pattern else iter(())
        is_missing = not os.path.lexists(values) and next(found, None) is None
    except ValueError:  # invalid characters
        return []
    return [values] if is_missing else []


def advice_on_inputs(job: JobFolder) -> str:
    """Explain what to do if input files no longer exist; empty if all exist."""
    missing: list[str] = []
    with suppress(GeoSRError):
        missing = missing_inputs(job.values())
    if not missing:
        return ""
    return (
        f"The job needs {missing[0]}, which no longer exists. Put the same "
        "file back (or connect its drive), and resume the job (napari-geosr jobs "
        f"resume {job.path}); if it is lost, start a new job with another file."
    )


def check_inputs(job: JobFolder) -> None:
    """Check that the files and the model that a job needs still exist.

    Raises
    ------
    JobError
        If an input file no longer exists.
    ModelError
        If the model of a restoration no longer exists.
    """
    if advice := advice_on_inputs(job):
        raise JobError(advice)
    values = job.values()
    if values.get("operation") != "restore":
        return
    settings = values.get("settings")
    if isinstance(settings, dict):
        more = settings.get("ensemble_with")
        names = (settings.get("model"), *(more if isinstance(more, list) else ()))
        for name in names:
            if isinstance(name, str) and name != AUTO:
                zoo.find(name)


class _ResumableJob(Protocol):
    """Settings of a job that completes an unfinished volume."""

    def result(self, folder: Path) -> Path:
        """Return the path of the result."""

    def open_input(self) -> Volume:
        """Open the input lazily."""


def check_same_input_steps(
    job: JobFolder, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Check that a job would resume its unfinished volume with the same input.

    The checksum of the input is computed only if there is an unfinished volume.

    Raises
    ------
    JobError
        If the input was replaced; the message names the file.
    GeoSRError
        If the input cannot be opened or read.
    """
    values = job.values()
    if values.get("operation") not in ("restore", "reconstruct"):
        return
    try:
        spec = cast("_ResumableJob", read_job(values, job.path)[0])
    except GeoSRError:  # the run itself reports invalid settings
        return
    out = spec.result(job.path)
    before = (unfinished_record(out).get("inputs") or {}).get("input") or {}
    if not before.get("checksum"):
        return
    volume = spec.open_input()
    if volume.source is None:  # the volume is in the folder of the job
        return
    now = yield from provenance.describe_steps(volume, should_stop)
    if now["checksum"] != before["checksum"]:
        raise JobError(
            f"The finished part of {out.name} was made with "
            f"{provenance.describe_other_input(before, now)}. Put the original file "
            "back, or start a new job with another output."
        )


def check_output_paths(job: JobFolder) -> None:
    """Reject a copied job that would write outside its folder.

    The creator of a job may choose any output path, but whoever receives a copy of the
    folder has not agreed to that path.

    Raises
    ------
    JobError
        If one of the job's folders is a link, if the job names a result or finished
        part outside its folder, or if the job was created elsewhere and names any other
        file outside its folder.
    """
    for name in sorted({pattern.partition("/")[0] for pattern in _PATTERNS}):
        if (job.path / name).is_symlink():
            raise JobError(
                f"{job.path / name} is a link, so the job would write outside its "
                "folder. Replace it with a real folder or file."
            )
    values = job.values()
    if values.get("operation") in (
        "restore",
        "reconstruct",
        "sim",
        "shapes",
        "segment",
    ):
        _check_result_paths(job, values)
    for name in OUTPUTS:
        _check_output(job, name, values.get(name))
    scans = values.get("scans")
    named = scans.get("restore") if isinstance(scans, dict) else None
    if named is None or job.was_created_here:
        return
    path = job.path / str(named)
    if not path.resolve().is_relative_to(job.path):
        raise JobError(
            f"{job.path / 'config.yaml'} names a volume outside the job folder "
            f"({named}), but the job was created elsewhere. Remove `restore` from "
            "this file, and restore the volume with the model in a separate run."
        )


def _check_output(job: JobFolder, name: str, out: object) -> None:
    """Reject the output `name` of a copied job if it is outside the job's folder."""
    if out is None or job.was_created_here:
        return
    if not (job.path / str(out)).resolve().is_relative_to(job.path):
        then = ", and the result will be written into the job folder"
        then = then if name == "out" else ""
        raise JobError(
            f"{job.path / 'config.yaml'} names an output outside the job folder "
            f"({out}), but the job was created elsewhere. Remove `{name}` from this "
            f"file{then}."
        )


def _check_result_paths(job: JobFolder, values: AnyMapping) -> None:
    """Reject settings that name a result or a finished part outside the folder."""
    name = str(values.get("name", ""))
    parts = (values.get(key) for key in ("part", "part_deviation"))
    outside = [name] if PureWindowsPath(name).name != name else []
    data = (job.path / "data").resolve()
    outside += [
        str(part)
        for part in parts
        if part is not None and (job.path / str(part)).resolve().parent != data
    ]
    if outside:
        raise JobError(
            f"{job.path / 'config.yaml'} names {outside[0]!r}, which is outside the "
            "job folder. Start a new job."
        )


def unfinished_results(job: JobFolder) -> list[Path]:
    """Return the unfinished results of a job that are outside its folder.

    Parameters
    ----------
    job : JobFolder
        A job that no process is running. A finished job has no unfinished results.
    """
    status, values = job.status(), job.values()
    out = values.get("out")
    is_own = isinstance(out, str) and job.was_created_here
    if not is_own or status.state == "done":
        return []
    path = Path(str(out))
    if status.operation == "measure":
        from napari_geosr.operations.measure.journal import states_of_job

        return states_of_job(path, job.own_path)
    if status.operation not in ("restore", "reconstruct"):
        return []
    files = (path, restore.deviation_path(path), restore.residual_path(path))
    own = job.own_path
    return [part for file in files for part in unfinished_of_job(file, own)]


def foreign_files(folder: Path) -> list[Path]:
    """Return relative paths of files and links in a job folder that no job writes."""
    patterns = _patterns(folder)
    return sorted(path for path in _files(folder) if not _is_job_file(path, patterns))


def job_files(folder: Path) -> list[Path]:
    """Return the relative paths of the files that jobs write, the state file last."""
    patterns = _patterns(folder)
    files = [path for path in _files(folder) if _is_job_file(path, patterns)]
    # Delete the state last, so that an interrupted removal can be repeated.
    return sorted(files, key=lambda path: (len(path.parts) == 1, path))


def _files(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder, followlinks=False):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        for name in (*names, *links):
            yield (Path(here) / name).relative_to(folder)


def _patterns(folder: Path) -> tuple[str, ...]:
    """Return the patterns of the files that this kind of job writes.

    If the operation cannot be read, patterns of individual kinds are omitted, so that
    users are asked about more files.
    """
    try:
        operation = str(JobFolder(folder).values().get("operation", ""))
    except JobError:
        operation = ""
    return (*_PATTERNS, *_MORE.get(operation, ()))


def _is_job_file(path: Path, patterns: Sequence[str]) -> bool:
    parts = PurePosixPath(path.as_posix()).parts
    if any(_TEMPORARY.fullmatch(part) for part in parts):
        return True
    return any(_matches(parts, pattern.split("/")) for pattern in patterns)


def _matches(parts: tuple[str, ...], pattern: list[str]) -> bool:
    """Return whether a path matches a pattern."""
    *fixed, last = pattern
    if last == "**":
        below = len(parts) > len(fixed)
        return below and all(map(fnmatchcase, parts, fixed))
    return len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))
