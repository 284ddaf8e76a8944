"""A segmentation job: its description in the job's folder, and its run.

This module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.file_warnings import file_warnings, notes_of
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.suffixes import sibling_path
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.learning.painting.strokes import check_slice, read_strokes
from napari_geosr.models import zoo
from napari_geosr.operations import segment
from napari_geosr.operations.inputs.job_input import CompanionInput, JobInput
from napari_geosr.operations.inputs.same_grid import FOR_MASKS, check_same_grid
from napari_geosr.operations.segment.config import SegmentConfig
from napari_geosr.operations.storage import is_written

OPERATION = "segment"
#: Suffix that turns the name of the labels file into that of the probabilities file.
_PROBABILITIES = "probabilities"
#: Maximum size, in bytes, of labels that are read before a job is submitted; this takes
#: a second or two.
_MAX_BYTES = 1 << 27


class SegmentJob(Config):
    """Everything that a segmentation needs to run, on this or another computer."""

    name: str
    """File name of the result."""
    data: JobInput
    """The scan."""
    labels: CompanionInput
    """Classes of the painted voxels."""
    settings: SegmentConfig = SegmentConfig()
    out: Path | None = None
    """File to write; by default one in the folder of the job."""
    probabilities: Path | None = None
    """File for the probabilities of the classes; by default, they are not written."""
    keeps_probabilities: bool = False
    """Whether to write the probabilities next to the result if no file is given."""
    replaces: int = 0
    """Modification time, in ns, of the file that the result replaces."""
    probabilities_replaces: int = 0
    """Modification time, in ns, of the file that the probabilities replace."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> SegmentJob:
        """Validate the contents of ``config.yaml``."""
        known: AnyDict = {
            "data": JobInput.from_values(values.get("data") or {}),
            "labels": CompanionInput.from_values(values.get("labels") or {}),
            "settings": SegmentConfig.from_mapping(values.get("settings") or {}),
        }
        given = {key: value for key, value in values.items() if key != "method"}
        return cls.from_mapping({**given, **known})

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": self.settings.model or "strokes",
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def open(self) -> tuple[Volume, Volume, list[str]]:
        """Open the scan and the labels lazily.

        Returns
        -------
        scan, labels : Volume
        notes : list of str
            One sentence for each setting of the scan that was applied to the labels.

        Raises
        ------
        FileError, VolumeError
            As for `JobInput.open`.
        """
        scan = self.data.open()
        labels, notes = self.labels.open_beside(self.data, scan)
        return scan, labels, notes

    def check(self) -> None:
        """Refuse invalid settings and inputs before a process is started.

        Labels of up to `_MAX_BYTES` are read; of larger ones, only the middle slice.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid; for example, if fewer than two classes
            are painted.
        """
        scan, labels, _ = self.open()
        self._check_different()
        check_same_grid(labels, scan, advice=FOR_MASKS)
        if math.prod(labels.shape) * labels.dtype.itemsize <= _MAX_BYTES:
            unpainted, seed = self.settings.unpainted, self.settings.seed
            read_strokes(labels, scan, unpainted, seed=seed)
        else:
            check_slice(labels, labels.shape[0] // 2)
        if self.settings.model is not None:
            zoo.find(self.settings.model)
        if self.out is not None and self.out == self.probabilities:
            raise ConfigError(
                f"Labels and probabilities cannot both be written to {self.out}. "
                "Choose two names."
            )

    def _check_different(self) -> None:
        """Refuse labels that are the scan itself."""
        is_same = self.labels.volume.resolve() == self.data.volume.resolve()
        # Labels with settings of their own may be another dataset of the same file.
        if is_same and (
            self.labels.belongs_to_data or self.labels.reading == self.data.reading
        ):
            raise ConfigError(
                f"{self.data.volume} is both the scan and the labels (--labels). Give "
                "the label image with the painted classes."
            )

    def result(self, folder: Path) -> Path:
        """Return the path of the labels, by default in the folder of the job."""
        return self.out or folder / "result" / f"{self.name}.ome.tif"

    def probabilities_file(self, folder: Path) -> Path | None:
        """Return the path of the probabilities; None if they are not written."""
        if self.probabilities is not None or not self.keeps_probabilities:
            return self.probabilities
        return probabilities_path(self.result(folder))

    def outputs(self) -> tuple[Path, ...]:
        """Return the files that the job writes outside its folder."""
        return tuple(path for path in (self.out, self.probabilities) if path)


def probabilities_path(labels: Path) -> Path:
    """Return the path of the probabilities that a job writes next to its labels."""
    return sibling_path(labels, _PROBABILITIES)


def segment_job_steps(
    job: SegmentJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Segment a scan in the folder of a job.

    After a stop or a crash, the run starts from the beginning; its result is the same.

    Parameters
    ----------
    job : SegmentJob
    folder : Path
        Receives ``result/NAME.ome.tif``, unless the job names another output.
    should_stop : callable
    keep_unfinished : callable
        Not used: a part of a volume could be mistaken for the whole volume.

    Yields
    ------
    Step
        The steps of the operation, the warnings of the reader, and a warning if a file
        is changed during the run.

    Returns
    -------
    Path or None
        Path of the labels; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails.
    """
    out, shares = job.result(folder), job.probabilities_file(folder)
    outputs = {out: job.replaces}
    if shares is not None:
        outputs[shares] = job.probabilities_replaces
    # If the job was killed before it reported its result, the files already exist.
    written = [
        is_written(path, folder, OPERATION, replaces)
        for path, replaces in outputs.items()
    ]
    if all(written):
        return out
    # These files existed at the submission, or an earlier run of the job wrote them.
    replaced = [path for path in outputs if path.exists()]
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    scan, labels, notes = job.open()
    for volume in (scan, labels):
        for text in (*file_warnings(volume.metadata), *notes_of(volume.metadata)):
            yield WarningIssued(message=f"{volume.title}: {text}")
    for note in notes:
        yield WarningIssued(message=note)
    steps = segment.segment_steps(
        scan,
        labels,
        out,
        job.settings,
        probabilities=shares,
        replaced=replaced,
        should_stop=should_stop,
    )
    try:
        yield from FileWatch([scan, labels], only_lazy=True).steps(steps)
    except Cancelled:
        return None
    return out
