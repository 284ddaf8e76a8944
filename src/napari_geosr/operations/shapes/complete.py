"""Complete a shape: predict it on a coarse grid, then refine the missing part.

The network receives the shape on the grid on which it was trained. Only the missing
part is taken from its prediction, brought to the resolution of the input, and added: no
voxel of the input is removed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import Cancelled, DeviceMemoryError, VolumeError
from napari_geosr.core.interruption import check_stop, interruptible
from napari_geosr.core.orientation import half_turn
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.units import shown_unit
from napari_geosr.core.volume import Volume
from napari_geosr.inference.box_counts import network_bytes
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.shapes import plan_refinement_steps
from napari_geosr.io.meshes import check_mesh_path
from napari_geosr.io.unfinished_files.claims import claimed
from napari_geosr.learning.shapes.shape_completion import bounding_box
from napari_geosr.networks.sparse import SparseTensor, sparse_backend
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.shapes.config import CompleteShapeConfig, MeshConfig
from napari_geosr.operations.shapes.masks import read_shape_steps
from napari_geosr.operations.shapes.memory import check_surface_memory
from napari_geosr.operations.shapes.meshing import MeshResult, write_surface
from napari_geosr.operations.shapes.models import (
    ATLAS,
    COMPLETING,
    check_cubic,
    find_shape_model,
)
from napari_geosr.operations.shapes.parts import (
    UPRIGHT,
    CompletedPart,
    ShapePose,
    cut_warning,
    large_pieces,
    overlap_steps,
    part_size_warning,
    pose_steps,
    warn_if_unlike,
)
from napari_geosr.operations.shapes.refine import (
    load_refiner,
    memory_budget,
    refined_in_memory_steps,
)
from napari_geosr.operations.shapes.shell import complete_shell_steps
from napari_geosr.physics.shapes import coarsened

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.networks.sparse.sparse_unet import SparseUNet

#: Edge length of the network's grid, in voxels, if the model does not state it.
_GRID = 64
#: Number of feature maps at the finest level, if the model does not state it.
_FEATURES = 16
#: Largest extent of a shape, as a fraction of the edge of the network's grid.
_EXTENT = 0.9
#: Possible reduction factors from the input to the grid.
_FACTORS = (1, 2, 4, 8, 16)
#: Memory per voxel of the refined box, in bytes.
_BYTES_PER_VOXEL = 12
#: Memory, in bytes per voxel of the grid, for the distances from the given shape.
_DISTANCE_BYTES = 56
#: Number of voxels that the network computes for each occupied voxel of the grid.
_COMPUTED = 8


@dataclass(frozen=True)
class ShapeCompletion:
    """Result of a completion.

    Attributes
    ----------
    path : Path
        The complete shape.
    implant : Path or None
        The completed part alone.
    surface : MeshResult or None
        Mesh of the completed part.
    implant_volume : float
        Volume of the completed part, in `unit` cubed.
    unit : str
    n_pieces : int
        Number of separate completed parts.
    n_removed : int
        Number of input voxels that are missing from the result, counted after writing.
    reproduced : float
        Fraction of the input that the network also predicts.
    """

    path: Path
    implant: Path | None
    surface: MeshResult | None
    implant_volume: float
    unit: str
    n_pieces: int
    n_removed: int
    reproduced: float

    def to_dict(self) -> AnyDict:
        """Return all values by name, for JSON."""
        surface = self.surface
        return {
            "file": str(self.path),
            "implant": None if self.implant is None else str(self.implant),
            "mesh": None if surface is None else str(surface.path),
            "watertight": None if surface is None else surface.is_watertight,
            "surface": None if surface is None else surface.to_dict(),
            "implant_volume": self.implant_volume,
            "unit": self.unit,
            "pieces": self.n_pieces,
            "removed_voxels": self.n_removed,
            "reproduced": self.reproduced,
        }


def complete_shape_steps(
    volume: Volume,
    out: Path,
    config: CompleteShapeConfig,
    *,
    implant: Path | None = None,
    mesh: Path | None = None,
    overwrite: bool = False,
    replaced: Collection[Path] = (),
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ShapeCompletion]:
    """Complete the shape in `volume`, and write the shape and the completed part.

    Parameters
    ----------
    volume : Volume
        Labels; non-zero voxels belong to the shape.
    out : Path
        Volume file for the complete shape.
    config : CompleteShapeConfig
    implant, mesh : Path, optional
        Volume file and mesh for the completed part.
    overwrite : bool
        Whether existing files are replaced.
    replaced : collection of Path
        Files that are replaced even if `overwrite` is False.
    should_stop : callable

    Raises
    ------
    GeoSRError
        If the operation fails; the message states the problem and what to do.
    """
    volumes = [out] if implant is None else [out, implant]
    files = [*volumes, *([] if mesh is None else [mesh])]
    check_not_source(volume, *files)
    may_replace = {path: overwrite or path in replaced for path in files}
    for path in volumes:
        io.check_output(path, may_replace[path])
    if mesh is not None:
        check_mesh_path(mesh, overwrite=may_replace[mesh])
    with ExitStack() as stack:  # keep other runs from writing these files
        for path in files:
            stack.enter_context(claimed(path.expanduser()))
        steps = _completion_steps(
            volume, volumes, config, mesh, may_replace, should_stop
        )
        return (yield from steps)


def _completion_steps(
    volume: Volume,
    volumes: Sequence[Path],
    config: CompleteShapeConfig,
    mesh: Path | None,
    may_replace: Mapping[Path, bool],
    should_stop: ShouldStop,
) -> Generator[Step, None, ShapeCompletion]:
    """Complete a shape, and write the volumes and mesh to files already claimed."""
    model = find_shape_model(config.model, COMPLETING, "complete")
    if warning := check_cubic(volume, model):
        yield WarningIssued(message=warning)
    inside = yield from read_shape_steps(volume, config.label, should_stop)
    pose = yield from pose_steps(volume, model)  # warn about the orientation first
    if model.card.remarks:
        yield WarningIssued(message=" ".join(model.card.remarks))
    record = yield from completion_record_steps(volume, config, model, should_stop)
    part = yield from complete_mask_steps(
        inside, config, pose=pose, should_stop=should_stop
    )
    if not part.implant.any():
        raise VolumeError(nothing_missing(volume))
    yield from overlap_steps(volume, config.label, part.implant)
    record = with_refine_model(record, part)
    if mesh is not None:
        check_surface_memory(part.implant)
    yield StageStarted(message="Writing the result")
    masks = [inside | part.implant, part.implant]
    with ExitStack() as stack:  # write all files, or none
        for path, mask in zip(volumes, masks, strict=False):
            like = volume.replace(data=mask, provenance=(*volume.provenance, record))
            spec = io.OutputSpec.like(like, dtype=np.uint8, kind="labels")
            may = may_replace[path]
            output = stack.enter_context(io.create(path, spec, overwrite=may))
            output.array[(slice(None),) * 3] = mask.astype(np.uint8)
        surface = None
        if mesh is not None:
            with interruptible(should_stop):
                surface = write_surface(
                    part.implant,
                    volume,
                    mesh,
                    MeshConfig(),
                    overwrite=may_replace[mesh],
                )
    written = np.asarray(io.read_back(volumes[0]).data) != 0
    n_added = int(np.count_nonzero(part.implant))
    return ShapeCompletion(
        path=volumes[0],
        implant=volumes[1] if len(volumes) > 1 else None,
        surface=surface,
        implant_volume=n_added * float(np.prod(volume.voxel_size)),
        unit=shown_unit(volume.unit, volume.voxel_size),
        n_pieces=part.n_pieces,
        n_removed=int(np.count_nonzero(inside & ~written)),
        reproduced=part.reproduced,
    )


def completion_record_steps(
    volume: Volume, config: CompleteShapeConfig, model: Model, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Create the record of a completion of the shape in `volume`."""
    return (
        yield from provenance.record_steps(
            "shapes complete",
            inputs={"shape": volume},
            settings=config.model_dump(mode="json"),
            model={
                "name": model.card.name,
                "weights_sha256": model.card.weights_sha256,
            },
            should_stop=should_stop,
            sparse_convolutions=sparse_backend(pick_device(config.device)),
        )
    )


def with_refine_model(record: AnyDict, part: CompletedPart) -> AnyDict:
    """Add the model that refined a part, if any, to the record of the completion."""
    if part.refine_model is None:
        return record
    return {**record, "refine_model": dict(part.refine_model)}


def nothing_missing(volume: Volume) -> str:
    """Return the message that the model found nothing to complete."""
    return (
        f"The model finds nothing to complete in {volume.title}. Check that a part "
        "is missing, and that the model was trained on such shapes."
    )


def complete_mask_steps(
    inside: AnyArray,
    config: CompleteShapeConfig,
    *,
    pose: ShapePose = UPRIGHT,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, CompletedPart]:
    """Predict the missing part of a mask.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    config : CompleteShapeConfig
    pose : ShapePose
        How the shape is rotated relative to the training shapes; see `pose_steps`.
    should_stop : callable

    Raises
    ------
    VolumeError
        If the shape is too large for the model.
    DeviceMemoryError
        If there is not enough memory; raised before anything is computed.
    """
    given = half_turn(inside) if pose.turned else inside
    part = yield from _complete_steps(given, config, pose.frame, should_stop)
    if pose.turned:
        part = replace(part, implant=half_turn(part.implant))
    n_added = int(np.count_nonzero(part.implant))
    warning = part_size_warning(n_added, int(np.count_nonzero(inside)))
    if n_added and warning:
        yield WarningIssued(message=warning)
    return part


def _complete_steps(
    inside: AnyArray,
    config: CompleteShapeConfig,
    frame: AnyArray | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, CompletedPart]:
    """Predict the missing part of a mask in the orientation of the model."""
    device = pick_device(config.device)
    model = find_shape_model(config.model, COMPLETING, "complete")
    if model.card.network == ATLAS:
        return (
            yield from complete_shell_steps(inside, model, config, should_stop, frame)
        )
    grid, box = _grid_edge(model), bounding_box(inside)
    given = inside[box]
    factor = _reduction(given, grid)
    before = [(grid * factor - n) // 2 for n in given.shape]
    pads = [
        (b, grid * factor - n - b) for b, n in zip(before, given.shape, strict=True)
    ]
    budget = memory_budget(config.memory, device)
    needed = bytes_for_grid(grid, factor, int(given.sum()), _features(model))
    if needed > budget:
        raise DeviceMemoryError(
            f"Completing the shape ({int(given.sum()):,} voxels in a box of "
            f"{' × '.join(map(str, given.shape))}) needs {format_enough(needed)}, but "
            f"{format_available(budget)} may be used. Allow more (--memory)."
        )
    padded = np.pad(given, pads)
    coarse = coarsened(padded, factor)
    yield StageStarted(
        message=f"Completing the shape from {int(coarse.sum()):,} occupied voxels"
    )
    with interruptible(should_stop):
        predicted = _predicted(coarse, model, device, config.threads)
    reproduced = float((predicted & coarse).sum() / max(1, coarse.sum()))
    yield from warn_if_unlike(reproduced)
    if should_stop():
        raise Cancelled("Stopped; no file was written.")
    with interruptible(should_stop):
        missing = _missing_part(predicted & ~coarse, coarse)
    fine: AnyArray = missing if factor == 1 else np.zeros_like(padded)
    refine_model: AnyMapping | None = None
    if factor > 1 and missing.any():
        fine, refine_model = yield from _refined_part_steps(
            missing, coarse, padded, factor, config, device, should_stop
        )
    fine = fine & ~padded
    with interruptible(should_stop):
        fine, n_pieces = large_pieces(fine, config.smallest_piece)
    implant: AnyArray = np.zeros_like(inside)
    kept = tuple(slice(b, b + n) for b, n in zip(before, given.shape, strict=True))
    # The missing part may lie outside the bounding box of the remaining shape.
    wide = [
        slice(max(0, part.start - b), min(n, part.start - b + grid * factor))
        for part, b, n in zip(box, before, inside.shape, strict=True)
    ]
    cut = tuple(
        slice(w.start - part.start + k.start, w.stop - part.start + k.start)
        for w, part, k in zip(wide, box, kept, strict=True)
    )
    implant[tuple(wide)] = fine[cut]
    beyond = [_beyond(fine, axis, kept) for axis, kept in enumerate(cut)]
    if warning := cut_warning(beyond):
        yield WarningIssued(message=warning)
    return CompletedPart(implant, n_pieces, reproduced, refine_model)


def _beyond(part: AnyArray, axis: int, kept: slice) -> int:
    """Return by how many voxels a part extends beyond the slice `kept` of an axis."""
    others = tuple(other for other in range(part.ndim) if other != axis)
    occupied = np.flatnonzero(part.any(axis=others))
    if not occupied.size:
        return 0
    return max(0, int(kept.start - occupied[0]), int(occupied[-1] + 1 - kept.stop))


def bytes_for_grid(grid: int, factor: int, n_occupied: int, features: int) -> int:
    """Return the bytes needed to complete a shape on the grid of a network.

    Parameters
    ----------
    grid : int
        Edge length of the grid, in voxels.
    factor : int
        Reduction factor from the input to the grid.
    n_occupied : int
        Number of voxels of the shape in the input.
    features : int
        Number of feature maps of the network at the finest level.
    """
    n_coarse = grid**3
    # Coarsening divides the number of voxels of thin shapes by factor**2 only.
    n_occupied = min(n_coarse, _COMPUTED * math.ceil(n_occupied / factor**2))
    network = network_bytes(n_occupied, features, dense=False)
    box = _BYTES_PER_VOXEL * n_coarse * factor**3
    return box + max(network, _DISTANCE_BYTES * n_coarse)


def _features(model: Model) -> int:
    channels = model.card.network_kwargs.get("channels", (_FEATURES,))
    return int(channels[0])


def _grid_edge(model: Model) -> int:
    settings = model.card.provenance.get("settings", {})
    training = settings.get("training", {}) if isinstance(settings, dict) else {}
    return int(training.get("patch", _GRID)) if isinstance(training, dict) else _GRID


def _reduction(given: AnyArray, grid: int) -> int:
    for factor in _FACTORS:
        if max(given.shape) <= _EXTENT * grid * factor:
            return factor
    limit = int(_EXTENT * grid * _FACTORS[-1])
    raise VolumeError(
        f"The shape is {max(given.shape)} voxels long; the maximum is {limit}. "
        "Reduce its resolution first."
    )


def _predicted(
    coarse: AnyArray, model: Model, device: str, threads: int | None
) -> AnyArray:
    network = cast("SparseUNet", model.network().to(device).eval())
    values = torch.from_numpy(coarse).to(device)[None, None].float()
    with exact_settings(threads):
        found, _ = network(SparseTensor.from_dense(values))
    predicted = found.with_features((found.features > 0).float()).to_dense()
    inside: AnyArray = predicted[0, 0].cpu().numpy() > 0
    return inside


def _missing_part(added: AnyArray, coarse: AnyArray) -> AnyArray:
    """Return the voxels that fill gaps, without thin layers on the given shape.

    Only parts that reach a distance of two voxels from the given shape fill a gap. If
    no part does, the largest piece is returned.
    """
    from scipy.ndimage import binary_dilation, distance_transform_edt, label

    far = added & (distance_transform_edt(~coarse) >= 2)
    check_stop()
    if far.any():
        grown: AnyArray = binary_dilation(far, np.ones((3, 3, 3)), 2, added)
        return grown
    pieces, n = label(added, np.ones((3, 3, 3)))
    if not n:
        return added
    largest: AnyArray = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    return largest


def _refined_part_steps(
    missing: AnyArray,
    coarse: AnyArray,
    padded: AnyArray,
    factor: int,
    config: CompleteShapeConfig,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[AnyArray, AnyMapping | None]]:
    """Return the missing part at the resolution of the input, and the model used."""
    from scipy.ndimage import binary_dilation, binary_opening

    refiner, features, model = load_refiner(config.refine_model, device)
    complete = coarse | missing
    stages, budget = factor.bit_length() - 1, memory_budget(config.memory, device)
    plan = yield from plan_refinement_steps(
        complete, stages, refiner.spec, features, budget, should_stop
    )
    yield StageStarted(message=f"Refining the completed part {factor} times")
    fine = yield from refined_in_memory_steps(
        complete, refiner, plan, device, config.threads, should_stop
    )
    region = binary_dilation(missing, np.ones((3, 3, 3), bool))
    near: AnyArray = region.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    part = fine & near & ~padded
    opened: AnyArray = binary_opening(part)
    return (opened if opened.any() else part), model
