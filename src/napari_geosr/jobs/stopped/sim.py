"""Turn a run of the SIM dock into a job; does not import Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility import undivided
from napari_geosr.jobs.handover import LayerVolume, file_steps, plain_name
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.job import SimJob, write_patterns


@dataclass(frozen=True)
class StoppedSim:
    """A structured-illumination reconstruction that a job starts from the beginning.

    Attributes
    ----------
    input : LayerVolume
        The raw frames, with all time points and channels.
    patterns : PatternSet or None
        Patterns already shown to the user; by default, the job estimates them.
    near : PatternSet or None
        Corrected patterns of the first of several slices, time points or channels.
    """

    input: LayerVolume
    settings: SimConfig
    patterns: PatternSet | None = None
    near: PatternSet | None = None

    @property
    def name(self) -> str:
        """Name of the job."""
        return plain_name(f"{self.input.volume.name}_{self.settings.method}")

    @property
    def source(self) -> Path | None:
        """File of the input, if there is one."""
        return self.input.volume.source

    def describe_time(self, profile: Profile) -> str:
        """Describe the time of the run on a node; only a lower limit is known."""
        return undivided.describe_time(self.settings, self.input.volume.shape, profile)

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, SimJob]:
        """Write the files that the job needs into `folder`."""
        path, reading = yield from file_steps(
            self.input, folder / "data" / "frames.ome.zarr", should_stop
        )
        data, settings = folder / "data", self.settings
        if given := write_patterns(data / "patterns.yaml", self.patterns):
            settings = settings.model_copy(update={"patterns": given})
        near = write_patterns(data / "near.yaml", self.near)
        values = {"frames": path, "reading": reading, "settings": settings}
        return SimJob(name=self.name, near=near, **values)
