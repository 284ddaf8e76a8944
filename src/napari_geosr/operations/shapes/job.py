"""A training run for shapes: its settings, checks and volumes.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

from napari_geosr import io
from napari_geosr.core.config import Config
from napari_geosr.core.steps import (
    ShouldStop,
    Step,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.formats import format_of, format_that_reads, known_suffix
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.learning.shapes.data import ShapeConfig, ShapeSet
from napari_geosr.learning.shapes.filled_cells import surface_cells
from napari_geosr.learning.shapes.sparse_segmentation import (
    Config as SegmentationConfig,
)
from napari_geosr.learning.shapes.sparse_segmentation import (
    grey_scales_steps,
)
from napari_geosr.operations.inputs import InputConfig, open_volume
from napari_geosr.operations.inputs.same_grid import FOR_MASKS, check_same_grid
from napari_geosr.operations.shapes.masks import (
    read_labels_steps,
    read_shape_steps,
)
from napari_geosr.operations.shapes.models import absolute_shape_model
from napari_geosr.operations.shapes.simulation import COMPLETE, INCOMPLETE
from napari_geosr.operations.shapes.voxels import (
    check_equal_voxels,
    check_training_voxels,
)

#: Operation of jobs that train on shapes, as written in their ``config.yaml``.
OPERATION = "train shapes"
#: Maximum number of missing labels that a warning lists.
_MAX_LISTED = 10


def shape_needs() -> dict[str, str]:
    """Return, by method name, one line on the data that each shape method needs."""
    names = SHAPE_METHODS.names()
    return {name: str(SHAPE_METHODS.load(name).NEEDS) for name in names}


def shape_purposes() -> dict[str, str]:
    """Return the purpose of the models of each shape method, by method name."""
    names = SHAPE_METHODS.names()
    return {name: str(SHAPE_METHODS.load(name).PURPOSE) for name in names}


def shape_config_class(method: str) -> type[ShapeConfig]:
    """Return the config class of a method for shapes."""
    kind: type[ShapeConfig] = SHAPE_METHODS.load(method).Config
    return kind


class ShapeTrainJob(Config):
    """Complete description of a training run for shapes."""

    method: str
    training: ShapeConfig

    @classmethod
    def from_values(cls, values: AnyMapping) -> ShapeTrainJob:
        """Validate the contents of ``config.yaml`` with the method's config class.

        A folder of volumes is replaced by its files, each of which is one shape.
        """
        method = SHAPE_METHODS.key(str(values.get("method", "")))
        kind = SHAPE_METHODS.load(method).Config
        training = kind.from_mapping(values.get("training") or {})
        if "target" in kind.unused_settings:  # the method learns from shapes
            source = tuple(
                file for path in training.source for file in _shapes_of(path)
            )
            training = training.model_copy(update={"source": source})
        return cls(method=method, training=training)

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` reads."""
        return {
            "operation": OPERATION,
            "method": self.method,
            "training": self.training.model_dump(mode="json"),
        }

    def with_absolute_paths(self) -> ShapeTrainJob:
        """Return the job with absolute paths."""
        source = tuple(path.expanduser().resolve() for path in self.training.source)
        target = tuple(path.expanduser().resolve() for path in self.training.target)
        changes: AnyDict = {"source": source, "target": target}
        if start := self.training.from_model:
            changes["from_model"] = absolute_shape_model(start)
        training = self.training.model_copy(update=changes)
        return self.model_copy(update={"training": training})

    def check(self) -> None:
        """Refuse invalid settings and inputs before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        run_to_end(self.check_steps())

    def check_steps(
        self, should_stop: ShouldStop = never_stop, opened: ShapeSet | None = None
    ) -> Generator[Step, None, ShapeSet]:
        """Check settings and inputs; return the shapes to learn from.

        All voxels are checked, because a network would also learn from an image, from
        the wrong labels or from a scan with invalid voxels.

        Parameters
        ----------
        should_stop : callable
        opened : ShapeSet, optional
            Result of `shapes`, if it is already known.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        Cancelled
            If `should_stop` returns True.
        """
        method = SHAPE_METHODS.load(self.method).Method
        method.check(self.training)
        shapes = self.shapes() if opened is None else opened
        if shapes.targets:
            yield from _check_labels_steps(self.training, shapes, should_stop)
            yield from grey_scales_steps(shapes, should_stop)
            if note := check_equal_voxels(shapes.volumes):
                yield WarningIssued(message=note)
        for volume in () if shapes.targets else shapes.volumes:
            if method.needs_cubic and (note := check_training_voxels(volume)):
                yield WarningIssued(message=note)
            inside = yield from read_shape_steps(
                volume, self.training.label, should_stop
            )
            shapes.set_filled(inside)
            if method.draws_blocks:
                shapes.cells[shapes.number_of(volume)] = surface_cells(inside)
            method.check_shape(shapes, volume, inside)
        if method.draws_blocks and (note := shapes.held_out_note):
            yield WarningIssued(message=note)
        return shapes

    def shapes(self) -> ShapeSet:
        """Open the shapes, or the scans and their labels, to learn from.

        Raises
        ------
        VolumeError
            If labels and scan are not on the same grid.
        """
        reading = InputConfig()
        volumes, targets = (
            [open_volume(path, reading) for path in paths]
            for paths in (self.training.source, self.training.target)
        )
        for volume, target in zip(volumes, targets, strict=False):
            check_same_grid(target, volume, advice=FOR_MASKS)
        return ShapeSet(self.training, volumes, targets)


def _shapes_of(path: Path) -> list[Path]:
    """Return the files of a folder of volumes; return any other path unchanged.

    Folders of slices and formats that are folders, such as OME-Zarr, are one volume. An
    incomplete skull written by ``simulate skulls`` is left out if its complete version
    is in the folder.
    """
    folder = path.expanduser()
    if not folder.is_dir() or format_that_reads(folder) is not None:
        return [path]
    by_suffix: dict[str, list[str]] = {}
    for each in sorted(folder.iterdir()):
        found = format_of(each)
        if found is not None and found.states_shape and not each.name.startswith("."):
            by_suffix.setdefault(known_suffix(each.name) or "", []).append(each.name)
    # The first file shows whether files of this kind are volumes or slices.
    names = [
        name
        for kind in by_suffix.values()
        if "Z" in io.read(folder / kind[0]).axes
        for name in kind
    ]
    whole = {name.removeprefix(COMPLETE) for name in names if name.startswith(COMPLETE)}
    shapes = [
        path / name
        for name in sorted(names)
        if not (name.startswith(INCOMPLETE) and name.removeprefix(INCOMPLETE) in whole)
    ]
    return shapes or [path]


def _check_labels_steps(
    config: ShapeConfig, shapes: ShapeSet, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Check the labels of all scans; warn if fewer labels occur than are stated."""
    assert isinstance(config, SegmentationConfig)
    found: set[int] = set()
    for number, target in enumerate(shapes.targets):
        present, cells = yield from read_labels_steps(
            target, config.labels, should_stop
        )
        found |= present
        shapes.cells[number] = cells
        shapes.set_filled(cells.planes)
    missing = sorted(set(range(1, config.labels + 1)) - found)
    if missing:
        listed = ", ".join(map(str, missing[:_MAX_LISTED]))
        more = ", …" if len(missing) > _MAX_LISTED else ""
        noun = "label" if len(missing) == 1 else "labels"
        yield WarningIssued(
            message=f"No voxel has the {noun} {listed}{more}, which the model "
            "therefore cannot predict. Check --n-labels and the labels."
        )
