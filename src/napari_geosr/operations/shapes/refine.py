"""Increase the resolution of a shape, block by block, into a file."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.array_parts.packed_mask import (
    MaskVoxels,
    PackedMask,
    count_inside,
)
from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    NoteIssued,
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import free_memory, pick_device
from napari_geosr.inference.shapes import (
    RefinementPlan,
    ShapeRefiner,
    plan_refinement_steps,
    refine_steps,
)
from napari_geosr.io.spec import OutputSpec
from napari_geosr.networks import build_network, sparse
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.shapes.config import TRILINEAR, RefineShapeConfig
from napari_geosr.operations.shapes.masks import dense_note, read_packed_steps
from napari_geosr.operations.shapes.models import (
    REFINING,
    check_voxels,
    find_shape_model,
)

if TYPE_CHECKING:
    from torch import nn

#: Fraction of the free memory that is used if no budget is given.
_SHARE = 0.5
#: Maximum fraction of the input's surface voxels at which the surface moves by a voxel
#: or more; above it, a warning is given.
_MAX_CHANGED = 1e-3
#: Relative change of the volume above which a warning is given.
_MAX_VOLUME_CHANGE = 0.05


@dataclass(frozen=True)
class ShapeRefinement:
    """Result of a refinement.

    Attributes
    ----------
    path : Path
        The labels, 1 inside the shape.
    shape : tuple of int
        Number of voxels along Z, Y, X.
    n_active : int
        Number of input voxels next to the surface, which were computed.
    volume_change : float
        Relative change of the volume of the shape.
    block : int
        Edge length of the blocks, in input voxels.
    n_changed : int
        Number of input voxels that change completely, because the surface moves by a
        voxel or more.
    """

    path: Path
    shape: tuple[int, ...]
    n_active: int
    volume_change: float
    block: int
    n_changed: int


@dataclass(frozen=True)
class PlannedRefinement:
    """A shape, and the plan for its refinement.

    Attributes
    ----------
    inside : PackedMask
    refiner : ShapeRefiner
    plan : RefinementPlan
    device : str
    model : mapping or None
        Record of the model.
    """

    inside: PackedMask
    refiner: ShapeRefiner
    plan: RefinementPlan
    device: str
    model: AnyMapping | None


class ChangeCounter:
    """Compares the finished blocks of a refinement with the input.

    Parameters
    ----------
    inside : ndarray of bool or PackedMask, shape (Z, Y, X)
    plan : RefinementPlan

    Attributes
    ----------
    n_fine : int
        Number of voxels of the result that belong to the shape.
    n_changed : int
        Number of input voxels in which no fine voxel has the original phase.
    """

    def __init__(self, inside: MaskVoxels, plan: RefinementPlan) -> None:
        self._inside, self._plan = inside, plan
        self._factor = 2 ** len(plan.halos)
        self.n_fine = self.n_changed = 0

    def add(self, block: TileDone) -> None:
        """Count the voxels of a finished block."""
        fine, factor = block.array, self._factor
        assert fine is not None
        self.n_fine += int(np.count_nonzero(fine))
        coarse = tuple(
            slice(part.start // factor, part.stop // factor) for part in block.slices
        )
        before = self._inside[coarse]
        shape = [n for size in before.shape for n in (size, factor)]
        parts = fine.reshape(shape)
        lost = before & ~parts.any((1, 3, 5))
        gained = ~before & parts.all((1, 3, 5))
        self.n_changed += int(np.count_nonzero(lost)) + int(np.count_nonzero(gained))

    def check_any_left(self, volume: Volume) -> None:
        """Check that the result is not empty.

        Raises
        ------
        VolumeError
            If no fine voxel belongs to the shape of `volume`.
        """
        if not self.n_fine:
            raise VolumeError(nothing_left(volume, self._inside))

    @property
    def volume_change(self) -> float:
        """Relative change of the volume of the shape."""
        before = count_inside(self._inside) * self._factor**3
        return float(self.n_fine / before) - 1

    def warning_steps(self) -> Generator[Step, None, None]:
        """Warn about moved surfaces and a changed volume."""
        active = self._plan.n_active
        if self.n_changed > _MAX_CHANGED * active:
            share = 100 * self.n_changed / active
            yield WarningIssued(
                message="The surface moved by at least one input voxel at "
                f"{self.n_changed:,} of {active:,} surface voxels ({share:.2g} %). "
                "Details at these positions do not come from the input: compare the "
                "two shapes."
            )
        if abs(change := self.volume_change) > _MAX_VOLUME_CHANGE:
            yield WarningIssued(
                message=f"The volume of the shape changed by {100 * change:+.1f} %. "
                "Thin parts change most: check their thickness and whether they are "
                "still connected, or choose another model (--model)."
            )


def nothing_left(volume: Volume, inside: MaskVoxels, where: str = "") -> str:
    """Return the message that a refined shape is empty.

    Parameters
    ----------
    volume : Volume
    inside : ndarray of bool or PackedMask, shape (Z, Y, X)
        The shape before the refinement.
    where : str
        Place to which the message refers, with a space before it; by default, the whole
        volume.
    """
    if not _voxels_touch(inside):
        return (
            f"Nothing is left of {volume.title}{where}: its parts consist of one voxel "
            "each, and parts of one voxel cannot be refined. Choose a shape with "
            "thicker parts."
        )
    return (
        f"Nothing is left of {volume.title}{where}: its parts are too thin for this "
        "model. Choose another model (--model), or a shape with thicker parts."
    )


def _voxels_touch(inside: MaskVoxels) -> bool:
    """Return whether any two voxels of a shape touch at a face, edge or corner."""
    for z in range(inside.shape[0]):
        planes = np.pad(inside[z : z + 2], ((0, 0), (1, 1), (1, 1)))
        n = planes.sum(0, dtype=np.uint8)
        # Voxels that touch lie in the same block of 2 × 2 × 2 voxels.
        if (n[:-1, :-1] + n[:-1, 1:] + n[1:, :-1] + n[1:, 1:] > 1).any():
            return True
    return False


def refine_shape_steps(
    volume: Volume,
    out: Path,
    config: RefineShapeConfig,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ShapeRefinement]:
    """Refine the shape in `volume` and write it to `out`.

    Parameters
    ----------
    volume : Volume
        Labels; non-zero voxels belong to the shape.
    out : Path
        Volume file to write: uint8 labels, 1 inside the shape.
    config : RefineShapeConfig
    overwrite : bool
    should_stop : callable

    Raises
    ------
    GeoSRError
        If the operation fails; nothing is written.
    """
    check_not_source(volume, out)
    io.check_output(out, overwrite)
    ready = yield from plan_shape_steps(volume, config, should_stop)
    inside, plan = ready.inside, ready.plan
    record = yield from refinement_record_steps(volume, config, ready, should_stop)
    spec = refined_spec(volume, config.upscale_factor, record)
    yield StageStarted(
        message=f"Refining {plan.n_active:,} voxels at the surface",
        total=len(plan.blocks),
    )
    changes = ChangeCounter(inside, plan)
    with io.create(out, spec, overwrite=overwrite) as output:
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
                output.array[step.slices] = step.array.astype(np.uint8)
                changes.add(step)
            yield step
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
        changes.check_any_left(volume)  # if this raises an error, no file is left
    yield from changes.warning_steps()
    return ShapeRefinement(
        out,
        tuple(int(n) for n in spec.shape),
        plan.n_active,
        changes.volume_change,
        plan.edge,
        changes.n_changed,
    )


def plan_shape_steps(
    volume: Volume, config: RefineShapeConfig, should_stop: ShouldStop
) -> Generator[Step, None, PlannedRefinement]:
    """Read a shape and plan its refinement.

    Raises
    ------
    GeoSRError
        If there is no such model, the volume is not a shape, or there is not enough
        memory.
    """
    if config.model != TRILINEAR:
        find_shape_model(config.model, REFINING, "refine")
    # Check the setting before torch is loaded, so that a mistake is reported at once.
    budget = memory_budget(config.memory, "cpu")
    inside = yield from read_packed_steps(volume, config.label, budget, should_stop)
    device = pick_device(config.device)
    budget = memory_budget(config.memory, device)
    refiner, features, model = load_refiner(config.model, device)
    if model is not None and (warning := check_voxels(volume)):
        yield WarningIssued(message=warning)
    stages = config.upscale_factor.bit_length() - 1
    plan = yield from plan_refinement_steps(
        inside, stages, refiner.spec, features, budget, should_stop
    )
    if model is not None and (note := dense_note(plan.n_active, inside.size)):
        yield NoteIssued(message=note)
    return PlannedRefinement(inside, refiner, plan, device, model)


def refinement_record_steps(
    volume: Volume,
    config: RefineShapeConfig,
    ready: PlannedRefinement,
    should_stop: ShouldStop,
) -> Generator[Step, None, AnyDict]:
    """Create the record of a refinement of the shape in `volume`."""
    return (
        yield from provenance.record_steps(
            "shapes refine",
            inputs={"shape": volume},
            settings=config.model_dump(mode="json"),
            model=ready.model,
            should_stop=should_stop,
            sparse_convolutions=sparse.sparse_backend(ready.device),
        )
    )


def load_refiner(name: str, device: str) -> tuple[ShapeRefiner, int, AnyMapping | None]:
    """Load the network of a refinement; also return its feature count and record.

    Raises
    ------
    ModelError
        If there is no such model for shapes.
    """
    if name == TRILINEAR:
        return cast("ShapeRefiner", build_network("interpolation")), 1, None
    model = find_shape_model(name, REFINING, "refine")
    network: nn.Module = model.network().to(device).eval()
    record = {"name": model.card.name, "weights_sha256": model.card.weights_sha256}
    features = int(model.card.network_kwargs["channels"][0])
    return cast("ShapeRefiner", network), features, record


def memory_budget(memory: str | None, device: str) -> int:
    """Return the memory budget of a run in bytes."""
    if memory is not None:
        return parse_bytes(memory)
    return int(_SHARE * free_memory(device))


def refined_spec(volume: Volume, factor: int, record: AnyMapping) -> OutputSpec:
    """Specify the volume of refined labels: same outer edges, smaller voxels."""
    voxel_size, origin = volume.upscaled_geometry(factor)
    return OutputSpec.like(
        volume,
        shape=tuple(factor * n for n in volume.shape),
        dtype=np.uint8,
        voxel_size=voxel_size,
        origin=origin,
        provenance=(*volume.provenance, record),
        kind="labels",
    )


def refined_in_memory_steps(
    inside: AnyArray,
    refiner: ShapeRefiner,
    plan: RefinementPlan,
    device: str,
    threads: int | None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, AnyArray]:
    """Refine a shape into a single boolean array.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    factor = 2 ** len(plan.halos)
    fine: AnyArray = np.zeros([factor * n for n in inside.shape], bool)
    for step in refine_steps(
        inside, refiner, plan, device, threads=threads, should_stop=should_stop
    ):
        if isinstance(step, TileDone) and step.array is not None:
            fine[step.slices] = step.array
            # Report progress only: blocks are not passed on.
            yield BlockDone(step.done, step.total)
    return fine
