"""Turn a run of the Shapes dock into a job; does not import Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility import undivided
from napari_geosr.jobs.handover import LayerVolume, file_steps, plain_name
from napari_geosr.operations.inputs.job_input import JobInput
from napari_geosr.operations.shapes.models import absolute_shape_model
from napari_geosr.operations.shapes.runs import ShapeJob, ShapeRunConfig


@dataclass(frozen=True)
class StoppedShape:
    """A run on a shape that a job starts from the beginning.

    Attributes
    ----------
    method : str
        The task: ``"refine"``, ``"complete"`` or ``"segment"``.
    input : LayerVolume
        The shape or, for a segmentation, the scan.
    settings : ShapeRunConfig
    mask : LayerVolume or None
        Mask of a segmentation.
    """

    method: str
    input: LayerVolume
    settings: ShapeRunConfig
    mask: LayerVolume | None = None

    @property
    def name(self) -> str:
        """Name of the job."""
        return plain_name(f"{self.input.volume.name}_{self.method}")

    @property
    def source(self) -> Path | None:
        """File of the input, if there is one."""
        return self.input.volume.source

    def describe_time(self, _profile: Profile) -> str:
        """State that the time of the run on a node is not known."""
        return undivided.describe_shape_time(self.method)

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, ShapeJob]:
        """Write the files that the job needs into `folder`, and validate the job.

        Raises
        ------
        GeoSRError
            If a file cannot be written, or an input is invalid.
        """
        inputs = {}
        for role, layer in (("data", self.input), ("mask", self.mask)):
            if layer is None:
                continue
            # Messages identify a volume by its file name.
            name = plain_name(layer.volume.name)
            target = folder / "data" / role / f"{name}.ome.zarr"
            path, reading = yield from file_steps(layer, target, should_stop)
            title = layer.volume.name
            inputs[role] = JobInput(volume=path, reading=reading, title=title)
        models = {
            name: absolute_shape_model(getattr(self.settings, name))
            for name in ("model", "refine_model")
            if hasattr(self.settings, name)
        }
        job = ShapeJob.create(
            name=self.name,
            method=self.method,
            settings=self.settings.model_copy(update=models),
            **inputs,
        )
        job.check()
        return job
