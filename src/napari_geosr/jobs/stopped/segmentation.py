"""Turn a run of the Segment dock into a job; does not import Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility import undivided
from napari_geosr.jobs.handover import LayerVolume, file_steps, plain_name
from napari_geosr.learning.painting.strokes import read_strokes
from napari_geosr.models import zoo
from napari_geosr.operations.inputs.job_input import CompanionInput, JobInput
from napari_geosr.operations.segment.config import SegmentConfig
from napari_geosr.operations.segment.job import SegmentJob


@dataclass(frozen=True)
class StoppedSegmentation:
    """A segmentation that a job starts from the beginning.

    Attributes
    ----------
    input, strokes : LayerVolume
        The scan, and the painted classes.
    settings : SegmentConfig
    keeps_probabilities : bool
        Whether the job also writes the probability of each class.
    """

    input: LayerVolume
    strokes: LayerVolume
    settings: SegmentConfig
    keeps_probabilities: bool = False

    @property
    def name(self) -> str:
        """Name of the job."""
        return plain_name(f"{self.input.volume.name}_segmented")

    @property
    def source(self) -> Path | None:
        """File of the scan, if there is one."""
        return self.input.volume.source

    def describe_time(self, profile: Profile) -> str:
        """Describe the time of the run on a node; only a lower limit is known."""
        return undivided.describe_time(self.settings, self.input.volume.shape, profile)

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, SegmentJob]:
        """Write the files that the job needs into `folder`, and validate the job.

        Raises
        ------
        Cancelled
            If `should_stop` returns True.
        GeoSRError
            If a file cannot be written, or an input is invalid; for example, if fewer
            than two classes are painted.
        """
        # Check the labels before anything is written; those in memory are read at once.
        yield StageStarted(message="Reading the painted labels")
        read_strokes(
            self.strokes.volume,
            self.input.volume,
            self.settings.unpainted,
            seed=self.settings.seed,
            should_stop=should_stop,
        )
        found = {}
        for role, layer in (("data", self.input), ("labels", self.strokes)):
            # Messages identify a volume by its file name.
            name = plain_name(layer.volume.name)
            target = folder / "data" / role / f"{name}.ome.zarr"
            path, reading = yield from file_steps(layer, target, should_stop)
            title = layer.volume.name
            found[role] = {"volume": path, "reading": reading, "title": title}
        settings = self.settings
        if settings.model is not None:
            model = _absolute_model(settings.model)
            settings = settings.model_copy(update={"model": model})
        job = SegmentJob(
            name=self.name,
            data=JobInput(**found["data"]),
            labels=CompanionInput(**found["labels"]),
            settings=settings,
            keeps_probabilities=self.keeps_probabilities,
        )
        job.check()
        return job


def _absolute_model(name: str) -> str:
    """Make the path of a model absolute; the name of a model in the zoo is kept."""
    path = Path(name).expanduser()
    if not path.exists() or name in {entry.name for entry in zoo.list_models()}:
        return name
    return str(path.absolute())
