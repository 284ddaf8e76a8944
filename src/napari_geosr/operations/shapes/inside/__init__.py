"""Segment a scan inside a mask, or beyond a threshold: only these voxels are computed.

The result in memory and the file that the command writes come from the same steps.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.orientation import half_turn, same_orientation
from napari_geosr.core.steps import (
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
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.masked import MaskPlan, label_steps, plan_mask_steps
from napari_geosr.io.spec import OutputSpec
from napari_geosr.learning.shapes.grey_scale import (
    grey_scale_bytes,
    grey_scale_steps,
)
from napari_geosr.learning.shapes.scan_values import scan_values_bytes
from napari_geosr.networks import sparse
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.inputs.same_grid import (
    FOR_MASKS,
    check_same_grid,
    is_half_turned,
)
from napari_geosr.operations.shapes.config import SegmentInsideConfig
from napari_geosr.operations.shapes.inside.scales import (
    AppliedScale,
    applied_scale_steps,
)
from napari_geosr.operations.shapes.inside.thresholds import read_beyond_steps
from napari_geosr.operations.shapes.masks import (
    cached_within,
    check_axes,
    dense_note,
    read_packed_steps,
)
from napari_geosr.operations.shapes.models import (
    SEGMENTING,
    check_grey_scale,
    find_shape_model,
)
from napari_geosr.operations.shapes.refine import memory_budget
from napari_geosr.operations.shapes.snapshots import (
    change_warning,
    fingerprint,
    snapshot,
)
from napari_geosr.operations.shapes.voxels import check_trained_voxels

if TYPE_CHECKING:
    from napari_geosr.inference.masked import VoxelClassifier

#: Fraction of the memory budget up to which a scan in memory is copied.
_COPY_SHARE = 0.25


@dataclass(frozen=True)
class MaskSegmentation:
    """Result of a segmentation inside a mask.

    Attributes
    ----------
    path : Path
        The labels; 0 outside the mask.
    n_inside : int
        Number of voxels in the mask; only these were computed.
    fractions : dict of int to float
        Fraction of the mask that has each label.
    scale : AppliedScale
        Mean and standard deviation by which grey values were standardised.
    threshold : float or None
        Grey value above or below which voxels were segmented; None with a mask.
    """

    path: Path
    n_inside: int
    fractions: dict[int, float]
    scale: AppliedScale
    threshold: float | None = None


@dataclass(frozen=True)
class SegmentedLayer:
    """Result of a segmentation inside a mask, in memory.

    Attributes
    ----------
    volume : Volume
        The labels, uint8; 0 outside the mask.
    n_inside : int
        Number of voxels in the mask; only these were computed.
    fractions : dict of int to float
        Fraction of the mask that has each label.
    scale : AppliedScale
        Mean and standard deviation by which grey values were standardised.
    threshold : float or None
        Grey value above or below which voxels were segmented; None with a mask.
    is_above : bool
        Whether the voxels above the threshold were segmented.
    """

    volume: Volume
    n_inside: int
    fractions: dict[int, float]
    scale: AppliedScale
    threshold: float | None = None
    is_above: bool = False


@dataclass(frozen=True)
class _Planned:
    """A scan with a mask on the same grid, and the plan for its segmentation.

    Attributes
    ----------
    inside : PackedMask
    threshold : float or None
        Grey value that determines `inside`; None with a mask.
    classifier : VoxelClassifier
    plan : MaskPlan
    device : str
    scale : AppliedScale
    n_labels : int
    record : mapping
        Record of the operation.
    """

    inside: PackedMask
    threshold: float | None
    classifier: VoxelClassifier
    plan: MaskPlan
    device: str
    scale: AppliedScale
    n_labels: int
    record: AnyMapping

    def fractions(self, counts: AnyArray) -> dict[int, float]:
        """Convert the number of voxels of each label to a fraction of the mask."""
        labels = range(1, self.n_labels + 1)
        return {k: float(counts[k]) / self.plan.n_active for k in labels}


def segment_inside_steps(
    volume: Volume,
    mask: Volume | None,
    out: Path,
    config: SegmentInsideConfig,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, MaskSegmentation]:
    """Label the voxels of `volume` inside `mask` and write the labels to `out`.

    Parameters
    ----------
    volume : Volume
        Grey values (Z, Y, X).
    mask : Volume or None
        Labels on the same grid; non-zero voxels are segmented. None if `config` has a
        threshold instead.
    out : Path
        Volume file to write: uint8 labels, 0 outside the mask.
    config : SegmentInsideConfig
    overwrite : bool
    should_stop : callable

    Raises
    ------
    GeoSRError
        If the operation fails; nothing is written.
    """
    check_not_source(volume, out)
    if mask is not None:
        check_not_source(mask, out)
    io.check_output(out, overwrite)
    ready = yield from _plan_steps(volume, mask, config, should_stop)
    spec = OutputSpec.like(
        volume,
        dtype=np.uint8,
        provenance=(*volume.provenance, ready.record),
        kind="labels",
    )
    counts = _no_counts()
    with io.create(out, spec, overwrite=overwrite) as output:
        for step in _label_steps(volume, ready, config, should_stop):
            if isinstance(step, TileDone):
                assert step.array is not None
                output.array[step.slices] = step.array
                counts += np.bincount(step.array.ravel(), minlength=len(counts))
            yield step
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
    shares = ready.fractions(counts)
    return MaskSegmentation(
        out, ready.plan.n_active, shares, ready.scale, ready.threshold
    )


def segmented_layer_steps(
    volume: Volume,
    mask: Volume | None,
    config: SegmentInsideConfig,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SegmentedLayer]:
    """Label the voxels of `volume` in memory; see `segment_inside_steps`.

    The memory of the labels is not part of the memory budget.

    Raises
    ------
    GeoSRError
        If the operation fails. If the labels do not fit into memory, the error is
        raised before anything is computed.
    """
    needed, free = int(np.prod(volume.shape)), free_host_memory()
    if needed > free:
        raise DeviceMemoryError(
            f"Labels of {needed:,} voxels need {format_enough(needed)}, but "
            f"{format_available(free)} is free. Write the result to a file with "
            "napari-geosr shapes segment."
        )
    # A large scan is not copied; its fingerprint shows if it changes during the run.
    most = _COPY_SHARE * memory_budget(config.memory, "cpu")
    scan = snapshot(volume, min(most, free - needed))
    copied = 0 if scan is volume else volume.nbytes
    before = "" if copied else fingerprint(scan, should_stop)
    ready = yield from _plan_steps(scan, mask, config, should_stop, copied)
    labels: AnyArray = np.zeros(volume.shape, np.uint8)
    counts = _no_counts()
    for step in _label_steps(scan, ready, config, should_stop):
        if isinstance(step, TileDone):
            assert step.array is not None
            labels[step.slices] = step.array
            counts += np.bincount(step.array.ravel(), minlength=len(counts))
        yield step
    if should_stop():
        raise Cancelled("Stopped.")
    if warning := change_warning(scan, before, should_stop):
        yield WarningIssued(message=warning)
    made = volume.replace(
        data=labels,
        name=f"{volume.name} segmented",
        provenance=(*volume.provenance, ready.record),
        source=None,
        metadata=same_orientation(volume.metadata),
    )
    shares = ready.fractions(counts)
    return SegmentedLayer(
        made,
        ready.plan.n_active,
        shares,
        ready.scale,
        ready.threshold,
        config.is_above,
    )


def _plan_steps(
    volume: Volume,
    mask: Volume | None,
    config: SegmentInsideConfig,
    should_stop: ShouldStop,
    copied: int = 0,
) -> Generator[Step, None, _Planned]:
    """Read the mask, and plan the segmentation.

    `copied` is the size of the copy of the scan in bytes, which is part of the memory
    budget.
    """
    config.check_inside(mask is not None)
    check_axes(volume, "a volume (Z, Y, X) is needed")
    if mask is not None and (
        note := check_same_grid(mask, volume, may_be_turned=True, advice=FOR_MASKS)
    ):
        yield WarningIssued(message=note)
    model = find_shape_model(config.model, SEGMENTING, "segment")
    check_grey_scale(model.card, config.grey_scale)
    if warning := check_trained_voxels(volume, model.card):
        yield WarningIssued(message=warning)
    device = pick_device(config.device)
    network = model.network().to(device).eval()
    features = int(model.card.network_kwargs["channels"][0])
    budget = memory_budget(config.memory, device)
    # Without a setting, the budget comes from the free memory, which the copy reduced.
    if config.memory is not None:
        budget -= copied
    inside, found = yield from _inside_steps(volume, mask, config, budget, should_stop)
    classifier = cast("VoxelClassifier", network)
    n_inside = inside.count()
    itemsize = volume.dtype.itemsize
    reading = max(
        grey_scale_bytes(volume.shape, itemsize, n_inside),
        scan_values_bytes(volume.shape, itemsize),
    )
    with cached_within(volume.data, budget) as held:
        plan = yield from plan_mask_steps(
            inside, classifier.spec, features, budget, reading, held, should_stop
        )
        if note := dense_note(plan.n_active, inside.size):
            yield NoteIssued(message=note)
        own = yield from grey_scale_steps(
            volume,
            lambda planes: inside[planes],
            n_inside,
            should_stop,
            budget - inside.nbytes - held,
        )
        scale = yield from applied_scale_steps(
            volume, own, model.card, config.grey_scale, should_stop
        )
    threshold = found.get("threshold")
    more: AnyDict = {} if threshold is None else {"threshold": threshold}
    more["grey_scale"] = scale.to_dict()
    more["sparse_convolutions"] = sparse.sparse_backend(device)
    record = yield from provenance.record_steps(
        "shapes segment",
        inputs={"scan": volume},
        settings=config.model_dump(mode="json"),
        model={"name": model.card.name, "weights_sha256": model.card.weights_sha256},
        should_stop=should_stop,
        **more,
    )
    if mask is not None:
        record["inputs"]["mask"] = found
    n_labels = int(model.card.network_kwargs["out_channels"])
    return _Planned(
        inside, threshold, classifier, plan, device, scale, n_labels, record
    )


def _inside_steps(
    volume: Volume,
    mask: Volume | None,
    config: SegmentInsideConfig,
    budget: int,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[PackedMask, AnyDict]]:
    """Read the mask, or find the voxels beyond the threshold.

    Also return the record of the mask as it was read, or the threshold.
    """
    if mask is None:
        inside, threshold = yield from read_beyond_steps(
            volume, config, budget, should_stop
        )
        return inside, {"threshold": threshold}
    before = fingerprint(mask, should_stop)
    inside = yield from read_packed_steps(
        mask, config.label, budget, should_stop, joins_labels=True
    )
    # A mask in memory may be painted from now on, because it is not read again.
    record = yield from provenance.describe_steps(mask, should_stop)
    if warning := change_warning(mask, before, should_stop):
        yield WarningIssued(message=warning)
    if is_half_turned(mask, volume):
        for z in range(inside.shape[0]):
            inside.write(z, half_turn(inside[z : z + 1]))
    return inside, record


def _no_counts() -> AnyArray:
    """Return zero as the number of voxels of each label, 0 to 255."""
    counts: AnyArray = np.zeros(256, np.int64)
    return counts


def _label_steps(
    volume: Volume,
    ready: _Planned,
    config: SegmentInsideConfig,
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """Segment the blocks; each `TileDone` holds the labels of one block."""
    plan = ready.plan
    yield StageStarted(
        message=f"Segmenting {plan.n_active:,} voxels", total=len(plan.blocks)
    )
    watch = FileWatch([volume])
    with cached_within(volume.data, plan.budget):
        steps = label_steps(
            volume.data,
            ready.inside,
            (ready.scale.mean, ready.scale.sd),
            ready.classifier,
            plan,
            ready.device,
            threads=config.threads,
            should_stop=should_stop,
        )
        yield from watch.steps(steps)
