"""Refine and complete shapes in memory, with surfaces and figures for a viewer.

The files that the commands write and the results in memory come from the same steps.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.interruption import interruptible
from napari_geosr.core.orientation import same_orientation
from napari_geosr.core.steps import (
    NoteIssued,
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.units import shown_unit
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.shapes import (
    plan_refinement_steps,
    refine_steps,
    stage_halos,
)
from napari_geosr.learning.shapes.shape_completion import bounding_box
from napari_geosr.measure.shapes import (
    SurfaceMesh,
    check_surface,
    describe_shape_steps,
    extract_surface,
)
from napari_geosr.operations.shapes.complete import (
    complete_mask_steps,
    completion_record_steps,
    nothing_missing,
    with_refine_model,
)
from napari_geosr.operations.shapes.config import (
    CompleteShapeConfig,
    MeshConfig,
    RefineShapeConfig,
)
from napari_geosr.operations.shapes.masks import read_shape_steps, shape_in
from napari_geosr.operations.shapes.memory import (
    bytes_for_result,
    check_free,
    check_surface_memory,
    count_faces,
)
from napari_geosr.operations.shapes.meshing import MeshResult, write_extracted
from napari_geosr.operations.shapes.models import (
    COMPLETING,
    check_cubic,
    check_voxels,
    find_shape_model,
)
from napari_geosr.operations.shapes.parts import (
    assumed_directions,
    overlap_steps,
    pose_steps,
)
from napari_geosr.operations.shapes.refine import (
    ChangeCounter,
    load_refiner,
    memory_budget,
    nothing_left,
    plan_shape_steps,
    refined_spec,
    refinement_record_steps,
)
from napari_geosr.operations.shapes.snapshots import snapshot

if TYPE_CHECKING:
    from napari_geosr.measure.shapes import ShapeFigures

__all__ = [
    "ShapeLayer",
    "ShapePreview",
    "SurfaceMesh",
    "completed_layer_steps",
    "contents_of",
    "part_surface_steps",
    "preview_steps",
    "refined_layer_steps",
    "surface_file_steps",
]

#: Edge length of the block that a preview refines, in input voxels.
PREVIEW_EDGE = 40
#: Note on the preview of a block of a shape.
PREVIEW_SMOOTHING = (
    "This is the surface of one block. The surface of the whole shape has steps if "
    "smoothing would remove or break thin parts anywhere in the shape."
)


@dataclass(frozen=True)
class ShapeLayer:
    """A refined or completed shape in memory.

    Attributes
    ----------
    volume : Volume
        Labels: 1 inside the shape.
    surface : SurfaceMesh
        Surface of the shape or, for a completion, of the completed part, in the unit of
        the volume.
    before, after : ShapeFigures
    closed : str
        Sentences on whether the surface is closed and shows all parts of the shape.
    part : Volume or None
        Labels of the completed part.
    part_figures : ShapeFigures or None
    n_pieces : int
        Number of separate completed parts.
    n_removed : int
        For a completion: number of voxels of the input that are missing from the
        result, determined by comparing the two.
    reproduced : float
        For a completion: fraction of the input that the model also predicts.
    n_changed : int
        For a refinement: number of input voxels that change completely, because the
        surface moves by a voxel or more.
    n_surface : int
        For a refinement: number of input voxels next to the surface.
    assumed : str
        For a completion: directions that the axes were assumed to have, because their
        orientation is unknown; empty if it is known or has no effect.
    contents : int
        Result of `contents_of` for the labels to which the surface belongs.
    shown_unit : str
        Unit in which lengths are shown: that of the input, or ``"voxel"``.
    """

    volume: Volume
    surface: SurfaceMesh
    before: ShapeFigures
    after: ShapeFigures
    closed: str
    part: Volume | None = None
    part_figures: ShapeFigures | None = None
    n_pieces: int = 0
    n_removed: int = 0
    reproduced: float = 1.0
    n_changed: int = 0
    n_surface: int = 0
    assumed: str = ""
    contents: int = 0
    shown_unit: str = ""


@dataclass(frozen=True)
class ShapePreview:
    """Surface of a completed part, or of a refined block.

    Attributes
    ----------
    surface : SurfaceMesh
    box : tuple of two tuples of float, or None
        For a completed part: opposite corners of the box of the given shape, in the
        coordinates of the surface.
    """

    surface: SurfaceMesh
    box: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def refined_layer_steps(
    volume: Volume, config: RefineShapeConfig, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, ShapeLayer]:
    """Refine a shape in memory, and measure it before and after.

    Raises
    ------
    DeviceMemoryError
        If the result does not fit into memory; raised before anything is computed if
        the number of triangles of its surface can be estimated from the input.
    """
    factor = config.upscale_factor
    # Before reading, check whether the voxels fit; the surface is unknown until then.
    _check_result(volume.shape, 0, factor)
    read = snapshot(volume)
    ready = yield from plan_shape_steps(read, config, should_stop)
    record = yield from refinement_record_steps(read, config, ready, should_stop)
    del read
    plan, inside = ready.plan, ready.inside[:]
    n_faces = count_faces(inside)
    _check_result(volume.shape, n_faces, factor, plan.n_bytes)
    yield StageStarted(
        message=f"Refining {plan.n_active:,} voxels at the surface",
        total=len(plan.blocks),
    )
    fine: AnyArray = np.zeros([factor * n for n in inside.shape], bool)
    changes = ChangeCounter(inside, plan)
    for step in refine_steps(
        inside,
        ready.refiner,
        plan,
        ready.device,
        threads=config.threads,
        should_stop=should_stop,
    ):
        if isinstance(step, TileDone):
            assert step.array is not None
            fine[step.slices] = step.array
            changes.add(step)
        yield step
    changes.check_any_left(volume)
    yield from changes.warning_steps()
    spec = refined_spec(volume, factor, record)
    made = volume.replace(
        data=fine.view(np.uint8),
        voxel_size=spec.voxel_size,
        origin=spec.origin,
        name=f"{volume.name} refined {factor}×",
        provenance=spec.provenance,
        source=None,
        metadata=same_orientation(volume.metadata),
    )
    before, _ = yield from _described(inside, volume, should_stop)
    after, surface = yield from _described(fine, made, should_stop)
    return ShapeLayer(
        made,
        surface,
        before,
        after,
        _judged(surface),
        n_changed=changes.n_changed,
        n_surface=plan.n_active,
        contents=contents_of(made.data),
        shown_unit=shown_unit(volume.unit, volume.voxel_size),
    )


def completed_layer_steps(
    volume: Volume, config: CompleteShapeConfig, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, ShapeLayer]:
    """Complete a shape in memory, and measure it before and after.

    Raises
    ------
    VolumeError
        If the model finds nothing to complete.
    """
    # Before reading, check whether the voxels fit; the surface is unknown until then.
    _check_result(volume.shape, 0)
    model = find_shape_model(config.model, COMPLETING, "complete")
    if warning := check_cubic(volume, model):
        yield WarningIssued(message=warning)
    read = snapshot(volume)
    inside = yield from read_shape_steps(read, config.label, should_stop)
    pose = yield from pose_steps(volume, model)  # warn about the orientation first
    if model.card.remarks:
        yield WarningIssued(message=" ".join(model.card.remarks))
    record = yield from completion_record_steps(read, config, model, should_stop)
    if config.label is None:
        del read  # with a label, the other labels are needed below
    _check_result(volume.shape, count_faces(inside))
    found = yield from complete_mask_steps(
        inside, config, pose=pose, should_stop=should_stop
    )
    if not found.implant.any():
        raise VolumeError(nothing_missing(volume))
    if config.label is not None:
        yield from overlap_steps(read, config.label, found.implant)
        del read
    record = with_refine_model(record, found)
    whole: AnyArray = inside | found.implant
    made = _like(volume, whole, f"{volume.name} completed", record)
    part = _like(volume, found.implant, f"{volume.name} completed part", record)
    before, _ = yield from _described(inside, volume, should_stop)
    after, _ = yield from _described(whole, volume, should_stop)
    figures, surface = yield from _described(found.implant, volume, should_stop)
    return ShapeLayer(
        made,
        surface,
        before,
        after,
        _judged(surface),
        part,
        figures,
        found.n_pieces,
        n_removed=_count_removed(inside, made.data),
        reproduced=found.reproduced,
        assumed=assumed_directions(volume, model),
        contents=contents_of(part.data),
        shown_unit=shown_unit(volume.unit, volume.voxel_size),
    )


def _count_removed(inside: AnyArray, result: ArrayLike) -> int:
    """Count, plane by plane, the voxels of a shape that are 0 in the result."""
    return sum(
        int(np.count_nonzero(plane & (np.asarray(result[z]) == 0)))
        for z, plane in enumerate(inside)
    )


def contents_of(labels: ArrayLike) -> int:
    """Return a checksum of labels, which changes when they are edited."""
    return zlib.crc32(np.ascontiguousarray(labels).data)


def surface_file_steps(
    made: ShapeLayer, out: Path, *, overwrite: bool = False
) -> Generator[Step, None, MeshResult]:
    """Write the surface of a result, or of the completed part, in mm if possible.

    The file contains the surface that was measured, even if the labels of the result
    have since been edited.

    Raises
    ------
    FileError
        If the file cannot be written.
    """
    yield StageStarted(message=f"Writing {out.name}")
    shown = made.volume if made.part is None else made.part
    figures = made.after if made.part_figures is None else made.part_figures
    n_voxels = round(figures.volume / float(np.prod(shown.voxel_size)))
    return write_extracted(
        made.surface, n_voxels, shown, out, MeshConfig(), overwrite=overwrite
    )


def part_surface_steps(
    volume: Volume, config: CompleteShapeConfig, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, ShapePreview]:
    """Compute the surface of the completed part, without measuring it.

    Raises
    ------
    VolumeError
        If the model finds nothing to complete.
    """
    model = find_shape_model(config.model, COMPLETING, "complete")
    if warning := check_cubic(volume, model):
        yield WarningIssued(message=warning)
    inside = yield from read_shape_steps(volume, config.label, should_stop)
    pose = yield from pose_steps(volume, model)
    found = yield from complete_mask_steps(
        inside, config, pose=pose, should_stop=should_stop
    )
    if not found.implant.any():
        raise VolumeError(nothing_missing(volume))
    yield from overlap_steps(volume, config.label, found.implant)
    place = volume.voxel_size, volume.unit, volume.origin
    with interruptible(should_stop):
        check_surface_memory(found.implant)
        surface = extract_surface(found.implant, *place)
    part = bounding_box(inside)
    ends = [edge.start for edge in part], [edge.stop for edge in part]
    low, high = (
        tuple((np.array(end) - 0.5) * volume.voxel_size + volume.origin) for end in ends
    )
    return ShapePreview(surface, (low, high))


def preview_steps(
    volume: Volume,
    config: RefineShapeConfig,
    centre: Sequence[float],
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ShapePreview]:
    """Return the surface of one refined block, closed at the faces of the block.

    The voxels of the block are the same as in the result for the whole volume.

    Parameters
    ----------
    volume : Volume
    config : RefineShapeConfig
    centre : sequence of float
        Voxel (Z, Y, X) in the middle of the block.
    should_stop : callable

    Raises
    ------
    VolumeError
        If there is no surface in the block, nothing of the shape is left after the
        refinement, or the voxels are not cubic.
    """
    yield StageStarted(message="Refining the block at the centre of the view")
    device = pick_device(config.device)
    refiner, features, model = load_refiner(config.model, device)
    if model is not None and (warning := check_voxels(volume)):
        yield WarningIssued(message=warning)
    factor, stages = config.upscale_factor, config.upscale_factor.bit_length() - 1
    halo, stride = stage_halos(stages, refiner.spec)[0], refiner.spec.stride[0]
    core, window = [], []
    for place, n in zip(centre, volume.shape, strict=True):
        first = int(min(max(0, place - PREVIEW_EDGE // 2), max(0, n - PREVIEW_EDGE)))
        first -= first % stride  # blocks start at multiples of the stride
        last = min(n, first + PREVIEW_EDGE)
        core.append((first, n if n - last < stride else last))
        window.append(slice(max(0, first - halo), min(n, core[-1][1] + halo)))
    inside = shape_in(volume, tuple(window), config.label)
    own = tuple(
        slice(a - w.start, b - w.start) for (a, b), w in zip(core, window, strict=True)
    )
    if inside[own].all() or not inside[own].any():
        raise VolumeError(
            "There is no surface of the shape at the centre of the view. Move the view "
            "to a surface."
        )
    budget = memory_budget(config.memory, device)
    plan = yield from plan_refinement_steps(
        inside, stages, refiner.spec, features, budget, should_stop
    )
    fine: AnyArray = np.zeros([factor * n for n in inside.shape], bool)
    for step in refine_steps(
        inside, refiner, plan, device, threads=config.threads, should_stop=should_stop
    ):
        if isinstance(step, TileDone):
            assert step.array is not None
            fine[step.slices] = step.array
        yield step
    if should_stop():
        raise Cancelled("Stopped.")
    block = fine[tuple(slice(factor * p.start, factor * p.stop) for p in own)]
    if not block.any():
        raise VolumeError(
            nothing_left(volume, inside[own], " in the block at the centre of the view")
        )
    size, origin = volume.upscaled_geometry(factor)
    first_voxel = [
        place + factor * a * edge
        for place, edge, (a, _) in zip(origin, size, core, strict=True)
    ]
    with interruptible(should_stop):
        surface = extract_surface(block, size, volume.unit, first_voxel)
    is_whole = block.shape == fine.shape == tuple(factor * n for n in volume.shape)
    if not is_whole and surface.match.sharp != "all":
        yield NoteIssued(message=PREVIEW_SMOOTHING)
    return ShapePreview(surface)


def _judged(surface: SurfaceMesh) -> str:
    """Describe whether a surface is closed and shows all parts of the shape."""
    return " ".join((check_surface(surface.faces).sentence, *surface.match.sentences))


def _like(volume: Volume, mask: AnyArray, name: str, record: AnyMapping) -> Volume:
    return volume.replace(
        data=mask.view(np.uint8),
        name=name,
        provenance=(*volume.provenance, record),
        source=None,
        metadata=same_orientation(volume.metadata),
    )


def _described(
    inside: AnyArray, volume: Volume, should_stop: ShouldStop
) -> Generator[Step, None, tuple[ShapeFigures, SurfaceMesh]]:
    check_surface_memory(inside)
    return (
        yield from describe_shape_steps(
            inside,
            volume.voxel_size,
            volume.unit,
            volume.origin,
            should_stop=should_stop,
        )
    )


def _check_result(
    shape: Sequence[int], n_faces: int, factor: int = 1, computing: int = 0
) -> None:
    n_voxels = int(np.prod(shape)) * factor**3
    check_free(
        bytes_for_result(shape, n_faces, factor, computing),
        f"A result of {n_voxels:,} voxels with its surface",
        ("Choose a smaller factor, or write" if factor > 1 else "Write")
        + " the result to a file with napari-geosr shapes.",
    )
