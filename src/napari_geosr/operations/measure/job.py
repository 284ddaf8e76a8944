"""A measurement as a job: what its folder says, and its run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import (
    BlockDone,
    PartDone,
    ShouldStop,
    Step,
    StepIterator,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs import InputConfig, open_volume
from napari_geosr.operations.measure import MeasureConfig, measure_several_steps
from napari_geosr.operations.measure import files as report_files
from napari_geosr.operations.measure.journal import MeasureJournal

OPERATION = "measure"


class MeasureInput(Config):
    """A volume of a measurement: its file, and how that is opened."""

    volume: Path
    """The file."""
    reading: InputConfig = InputConfig()
    """How it is opened."""
    title: str = ""
    """What the volume is called; by default as its file."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> MeasureInput:
        """Validate what ``config.yaml`` held."""
        reading = InputConfig.from_mapping(values.get("reading") or {})
        return cls.from_mapping({**values, "reading": reading})

    def open(self) -> Volume:
        """Open it lazily.

        Raises
        ------
        FileError, VolumeError
            If the file cannot be opened, or a channel or time point must be chosen.
        """
        volume = open_volume(self.volume, self.reading)
        return volume.replace(name=self.title) if self.title else volume


class MeasureJob(Config):
    """All that a measurement needs to be done, here or elsewhere."""

    name: str
    """Of the measurement."""
    data: MeasureInput
    """The volume that is measured."""
    reference: MeasureInput | None = None
    """One to compare it with, measured alike."""
    mask: MeasureInput | None = None
    """The sample: voxels other than zero."""
    deviation: MeasureInput | None = None
    """Standard deviations of the volume, for the band of its porosity."""
    settings: MeasureConfig = MeasureConfig()

    @classmethod
    def from_values(cls, values: AnyMapping) -> MeasureJob:
        """Validate what ``config.yaml`` held."""
        values = {key: value for key, value in values.items() if key != "method"}
        roles = ("data", "reference", "mask", "deviation")
        inputs = {
            role: MeasureInput.from_values(values[role])
            for role in roles
            if values.get(role) is not None
        }
        settings = MeasureConfig.from_mapping(values.get("settings") or {})
        return cls.from_mapping({**values, **inputs, "settings": settings})

    def to_values(self) -> AnyDict:
        """What `from_values` reads."""
        return {
            "operation": OPERATION,
            "method": str(self.settings.threshold),
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a process is started.

        Raises
        ------
        GeoSRError
            With one sentence.
        """
        for given in (self.data, self.reference, self.mask, self.deviation):
            if given is not None:
                given.open()


def measure_job_steps(
    job: MeasureJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Measure in the folder of a job; of a large volume, a stopped one is resumed.

    Parameters
    ----------
    folder : Path
        Gets ``result/`` with the report and a volume of labels.
    keep_unfinished : callable
        Not asked: pores at the edge of what was measured would be cut.

    Yields
    ------
    Step
        `PartDone` in place of `BlockDone`.

    Returns
    -------
    Path or None
        Of the report; None if `should_stop` ended it early.

    Raises
    ------
    GeoSRError
        With one sentence.
    """
    names = ["input"] if job.reference is None else ["input", "reference"]
    files = report_files.plan(folder / "result", names, labels=True)
    volumes = {"input": job.data.open()}
    if job.reference is not None:
        volumes["reference"] = job.reference.open()
    mask, deviation = (
        None if given is None else given.open() for given in (job.mask, job.deviation)
    )
    given = {"mask": mask, "deviation": deviation}
    companions = {name: one for name, one in given.items() if one is not None}
    journal = MeasureJournal(folder / "result", volumes, companions, job.settings)
    steps = measure_several_steps(
        volumes,
        job.settings,
        mask,
        deviation=deviation,
        journal=journal.of,
        should_stop=should_stop,
    )
    try:
        with StepIterator(steps) as iterator:
            for step in iterator:
                if isinstance(step, BlockDone):
                    step = PartDone(step.done, step.total)
                yield step
    except Cancelled:
        return None
    # What a job that was killed has written is its own.
    report_files.write(files, volumes, iterator.result, job.settings)
    journal.remove()
    return files["html"]


def labels_file(report: Path) -> Path:
    """The volume of labels that belongs to the report of a job."""
    return report_files.plan(report.parent, ["input"], labels=True)["labels"]
