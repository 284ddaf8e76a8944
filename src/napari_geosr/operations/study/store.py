"""Write and read the files in the folder of a study, and recognise such folders."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.documents import read_json
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.machine import processes
from napari_geosr.core.machine.lock_files import LockFile, LockFileHeldError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.journal import held_job
from napari_geosr.operations.reconstruct.resume import differences, identity_of
from napari_geosr.operations.study.cell import StudyContext
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.report import write_report
from napari_geosr.operations.study.result import (
    StudySummary,
    computing,
    fewest,
    least_light,
    savings,
)
from napari_geosr.operations.study.subset import ScanSubset, effective_settings

if TYPE_CHECKING:
    from filelock import FileLock

SCHEMA_VERSION = 1
#: Names of the files of a study.
FILES = {"json": "study.json", "csv": "study.csv", "html": "report.html"}
#: File that the process running the study keeps locked.
_LOCK_FILE = ".study.lock"
#: File of the process that runs the study, on file systems without locks.
_OWNER_FILE = ".study.owner.lock"
#: Seconds that the system may need to release the lock of a killed process.
_RELEASE_SECONDS = 2.0
#: Columns of the table, with units.
COLUMNS = {
    "projections": "",
    "exposure": "share",
    "algorithm": "",
    "porosity": "",
    "porosity_error": "relative",
    "pores_per_mm3": "1/mm³",
    "pore_count": "",
    "pores_per_mm3_error": "relative",
    "volume_histogram_distance": "Wasserstein-1 of log10 volumes",
    "euler_number": "",
    "euler_error": "relative",
    "connectivity_per_mm3": "1/mm³",
    "dice": "",
    "psnr": "dB",
    "ssim": "",
    "threshold": "",
    "seconds": "s",
    "training_seconds": "s",
    "computing_kilowatt_hours": "kWh",
    "computing_kilograms_co2eq": "kg",
    "failed": "",
}
#: Subset and name under which pictures of the reference are stored.
_REFERENCE = ScanSubset(0), "reference"
Pictures = Mapping[str, npt.NDArray[np.uint8]]


class StudyStore:
    """The folder of a study.

    Parameters
    ----------
    folder : Path
        Contains ``study.json``, ``study.csv``, ``report.html``, ``cells/`` (one file
        per finished cell), ``models/`` and, during a run, ``work/``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cells = folder / "cells"
        self.models = folder / "models"
        self.work = folder / "work"
        self.files = {kind: folder / name for kind, name in FILES.items()}
        self._is_new = self._made_folder = self._made_lock = False
        self._record: AnyMapping = {}
        self._essential: AnyMapping = {}

    def begin(
        self,
        record: AnyMapping,
        essential: AnyMapping,
        *,
        overwrite: bool,
    ) -> None:
        """Create the folder, or resume the study in it.

        Raises
        ------
        ConfigError
            If the folder contains a study of another scan or with other settings, or a
            study that is still running.
        FileError
            If the folder cannot be written to, or has files with these names but no
            study.

        No other process can begin the study until `release` is called.
        """
        with atomic.explained(self.files["json"]):
            if self.folder.exists() and not self.folder.is_dir():
                raise FileError(
                    f"{self.folder} is a file, not a folder. Choose another."
                )
            self._made_folder = not self.folder.exists()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._made_lock = not (self.folder / _LOCK_FILE).exists()
            self._acquire_lock()
        self._essential = {
            **essential,
            "inputs": _checksums(record),
            "scan": identity_of(record["inputs"]["projections"]),
        }
        self._record = record
        try:
            self._check(overwrite)
        except (ConfigError, FileError):
            self.release()
            self._remove_folder()
            raise
        with atomic.explained(self.files["json"]):
            if overwrite and self._is_new:
                for path in self._own_paths:
                    shutil.rmtree(path, ignore_errors=True)
            # Write this file first, because it marks the folder as that of a study.
            if self._is_new:
                self._write_json({"rows": []})
            self.cells.mkdir(exist_ok=True)
            self.work.mkdir(exist_ok=True)

    @property
    def _own_paths(self) -> tuple[Path, ...]:
        return self.cells, self.models, self.work

    def _check(self, overwrite: bool) -> None:
        """Refuse a folder with other contents; note whether the study is new."""
        before = self._before()
        present = [path.name for path in self._own_paths if path.exists()]
        if before is None and present:
            raise FileError(
                f"{self.folder} contains {' and '.join(present)} but no study. A study "
                "creates files or folders with these names, so choose another folder."
            )
        changed = [] if before is None else _changed(before, self._essential)
        if changed and not overwrite:
            raise ConfigError(
                f"{self.folder} contains a study with {' and '.join(changed)}. Choose "
                "another folder, or allow overwriting (--overwrite)."
            )
        self._is_new = before is None or bool(changed)

    def _remove_folder(self) -> None:
        """Remove the lock, and an empty folder that was created for this study."""
        with suppress(OSError):
            if self._made_lock:
                (self.folder / _LOCK_FILE).unlink(missing_ok=True)
            if self._made_folder:
                self.folder.rmdir()

    def _acquire_lock(self) -> None:
        from filelock import Timeout

        try:
            if not processes.acquire_lock(self._lock, _RELEASE_SECONDS):
                self._lock_file.acquire()
        except (Timeout, LockFileHeldError) as error:
            raise ConfigError(
                f"The study in {self.folder} is running. Wait until it has finished, "
                "stop it, or choose another folder."
            ) from error

    def release(self) -> None:
        """Allow other processes to resume the study."""
        self._lock.release()
        self._lock_file.release()

    @cached_property
    def _lock(self) -> FileLock:
        return processes.file_lock(self.folder / _LOCK_FILE)

    @cached_property
    def _lock_file(self) -> LockFile:
        """Lock used on file systems that do not support file locks."""
        return LockFile(self.folder / _OWNER_FILE, held_job())

    def remove_files(self) -> None:
        """Remove the files of a study that failed before it had results."""
        if not self._is_new or any(self.cells.glob("*.json")):
            return
        for path in self._own_paths:
            shutil.rmtree(path, ignore_errors=True)
        atomic.remove(self.files["json"])
        self.release()
        self._remove_folder()

    def _before(self) -> AnyDict | None:
        """Return the values that define the existing study; None if there is none."""
        path = self.files["json"]
        if not path.exists():
            return None
        try:
            values = read_json(path)
            return dict(values["essential"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(
                f"{path} is not a study that can be resumed. Choose another folder, "
                "or remove the file."
            ) from error

    def _write_json(self, values: AnyMapping) -> None:
        everything = {
            "schema_version": SCHEMA_VERSION,
            "essential": dict(self._essential),
            **values,
            "provenance": dict(self._record),
        }
        text = json.dumps(everything, indent=2, ensure_ascii=False, allow_nan=False)
        atomic.write_text(self.files["json"], text + "\n", overwrite=True)

    def row(self, subset: ScanSubset, name: str) -> AnyDict | None:
        """Return the row of a cell; None if the cell is unfinished."""
        path = self.cells / f"{subset.label}-{name}.json"
        try:
            row = dict(read_json(path))
        except (OSError, ValueError):
            return None
        # Cells of earlier releases have no exposure entry, because they used the full
        # exposure.
        return {"exposure": subset.exposure, **row}

    def save_cell(self, row: AnyMapping, pictures: Pictures) -> None:
        """Store a finished cell; the row is written last, to mark it as complete."""
        subset, name = ScanSubset.of(row), str(row["algorithm"])
        self.save_pictures(subset, name, pictures)
        text = json.dumps(row, indent=1, ensure_ascii=False, allow_nan=False)
        path = self.cells / f"{subset.label}-{name}.json"
        atomic.write_text(path, text, overwrite=True)

    def save_pictures(self, subset: ScanSubset, name: str, pictures: Pictures) -> None:
        """Store the pictures of a cell."""
        stream = BytesIO()
        arrays: AnyDict = dict(pictures)
        np.savez_compressed(stream, **arrays)
        path = self.cells / f"{subset.label}-{name}.npz"
        atomic.write_bytes(path, stream.getvalue(), overwrite=True)

    def save_reference(self, pictures: Pictures) -> None:
        """Store the pictures of the reference."""
        self.save_pictures(*_REFERENCE, pictures)

    def pictures(
        self, subset: ScanSubset, name: str
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """Return the pictures of a cell; empty if there are none."""
        path = self.cells / f"{subset.label}-{name}.npz"
        try:
            with np.load(path) as kept:
                return {key: kept[key] for key in kept.files}
        except (OSError, ValueError, KeyError):
            return {}

    def reference_pictures(self) -> dict[str, npt.NDArray[np.uint8]]:
        """Return the pictures of the reference."""
        return self.pictures(*_REFERENCE)

    @property
    def messages(self) -> list[str]:
        """Return the stored messages about the whole scan."""
        try:
            return self._messages_path.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def add_message(self, message: str) -> None:
        """Store a message about the whole scan, unless it is already stored."""
        line, before = " ".join(message.split()), self.messages
        if line not in before:
            text = "\n".join([*before, line])
            atomic.write_text(self._messages_path, text + "\n", overwrite=True)

    @property
    def _messages_path(self) -> Path:
        return self.cells / "warnings.txt"

    def finish(
        self,
        rows: Sequence[AnyDict],
        context: StudyContext,
        reference: AnyMapping,
        truth: Volume | None,
        warnings: Sequence[str] = (),
    ) -> StudySummary:
        """Write the table, the JSON file and the report of a finished study."""
        scan, config = context.scan, context.config
        settings = effective_settings(scan, config)
        first, end = context.evaluated_rows
        judged = (end - first) / scan.n_rows
        rows = [{**row, **computing(row, config, judged)} for row in rows]
        done = StudySummary(
            rows=rows,
            reference={
                "name": "full reconstruction" if truth is None else truth.name,
                "is_truth": truth is not None,
                **reference,
            },
            savings=savings(scan, settings),
            fewest=fewest(rows, settings, scan.n_angles),
            least=least_light(rows, settings, scan.n_angles),
            files=dict(self.files),
            warnings=tuple(dict.fromkeys([*self.messages, *warnings])),
        )
        self._write_json(
            {
                "settings": config.model_dump(mode="json"),
                "reference": done.reference,
                "rows": rows,
                "savings": done.savings,
                "fewest": done.fewest,
                "least": done.least,
                "warnings": list(done.warnings),
            }
        )
        atomic.write_text(self.files["csv"], table_text(rows), overwrite=True)
        write_report(
            done,
            scan,
            settings,
            self._record,
            self.pictures,
            self.reference_pictures(),
        )
        return done


def is_study(folder: Path) -> bool:
    """Return whether a folder contains a study."""
    try:
        return "essential" in read_json(folder / "study.json")
    except (OSError, ValueError, TypeError):
        return False


def table_text(rows: Sequence[AnyMapping]) -> str:
    """Return the table as CSV, with units in the header; unknown values are empty."""
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(f"{key} ({unit})" if unit else key for key, unit in COLUMNS.items())
    for row in rows:
        cells = [row.get(key) for key in COLUMNS]
        writer.writerow("" if cell is None else cell for cell in cells)
    return stream.getvalue()


def _changed(before: AnyMapping, now: AnyMapping) -> list[str]:
    """Describe changes in inputs and settings; missing settings count as defaults."""
    theirs, ours = dict(before.get("inputs", now["inputs"])), dict(now["inputs"])
    known = {"checksum": theirs.pop("projections", ours["projections"])}
    known |= before.get("scan", {})
    found = differences(known, now["scan"])
    names = ("reference", "mask")
    found += [f"a different {n}" for n in names if theirs.get(n) != ours.get(n)]
    usual = StudyConfig().essential()
    settings = [
        key
        for key in now
        if key not in ("inputs", "scan")
        and before.get(key, usual.get(key, now[key])) != now[key]
    ]
    if settings:
        found.append(f"different settings ({', '.join(settings)})")
    return found


def _checksums(record: AnyMapping) -> dict[str, str]:
    return {key: value["checksum"] for key, value in record["inputs"].items()}
