"""Segment a scan inside a mask: only the voxels of the mask are computed."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.masked import label_steps, plan_mask
from napari_geosr.io.spec import OutputSpec
from napari_geosr.learning.shapes.sparse_segmentation import grey_scale_inside
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.shapes.config import SegmentInsideConfig
from napari_geosr.operations.shapes.grids import check_same_grid
from napari_geosr.operations.shapes.masks import dense_warning, read_shape_steps
from napari_geosr.operations.shapes.models import find_shape_model
from napari_geosr.operations.shapes.refine import memory_budget

if TYPE_CHECKING:
    from napari_geosr.inference.masked import VoxelClassifier

#: Number of voxels read at a time.
_AT_ONCE = 2**24


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
    """

    path: Path
    n_inside: int
    fractions: dict[int, float]


def segment_inside_steps(
    volume: Volume,
    mask: Volume,
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
    mask : Volume
        Labels on the same grid; non-zero voxels are segmented.
    out : Path
        Volume file to write: uint8 labels, 0 outside the mask.
    config : SegmentInsideConfig
    overwrite : bool
    should_stop : callable

    Raises
    ------
    GeoSRError
        With a one-sentence message; nothing is written.
    """
    check_not_source(volume, out)
    check_not_source(mask, out)
    io.check_output(out, overwrite)
    if volume.axes != "ZYX":
        raise VolumeError(
            f"{volume.title} has the axes {', '.join(volume.axes)}; a volume (Z, Y, X) "
            "is needed. Choose a time point or channel."
        )
    check_same_grid(mask, volume)
    model = find_shape_model(config.model, "sparse_segmentation", "segment")
    device = pick_device(config.device)
    network = model.network().to(device).eval()
    features = int(model.card.network_kwargs["channels"][0])
    inside = yield from read_shape_steps(mask, config.label, should_stop)
    budget = memory_budget(config.memory, device)
    classifier = cast("VoxelClassifier", network)
    plan = plan_mask(inside, classifier.spec, features, budget)
    if warning := dense_warning(plan.n_active, inside.size):
        yield WarningIssued(message=warning)
    scale = yield from _scale_steps(volume, inside, should_stop)
    record = yield from provenance.record_steps(
        "shapes segment",
        inputs={"scan": volume, "mask": mask},
        settings=config.model_dump(mode="json"),
        model={"name": model.card.name, "weights_sha256": model.card.weights_sha256},
        should_stop=should_stop,
    )
    spec = OutputSpec.like(
        volume,
        dtype=np.uint8,
        provenance=(*volume.provenance, record),
        kind="labels",
    )
    yield StageStarted(
        message=f"Segmenting {plan.n_active:,} voxels", total=len(plan.blocks)
    )
    counts = np.zeros(256, np.int64)
    with io.create(out, spec, overwrite=overwrite) as output:
        for step in label_steps(
            volume.data, inside, scale, classifier, plan, device,
            threads=config.threads, should_stop=should_stop,
        ):  # fmt: skip
            if isinstance(step, TileDone):
                assert step.array is not None
                output.array[step.slices] = step.array
                counts += np.bincount(step.array.ravel(), minlength=256)
            yield step
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
    n = int(model.card.network_kwargs["out_channels"])
    shares = {k: float(counts[k]) / plan.n_active for k in range(1, n + 1)}
    return MaskSegmentation(out, plan.n_active, shares)


def _scale_steps(
    volume: Volume, inside: AnyArray, should_stop: ShouldStop
) -> Generator[Step, None, tuple[float, float]]:
    """Mean and standard deviation of the grey values inside the mask."""
    yield StageStarted(message=f"Reading {volume.title}")
    depth = max(1, _AT_ONCE // max(1, volume.shape[1] * volume.shape[2]))
    parts = []
    for start in range(0, volume.shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped while reading; no file was written.")
        planes = slice(start, start + depth)
        if inside[planes].any():
            values = np.asarray(volume.data[planes])[inside[planes]]
            if not np.isfinite(values).all():
                raise VolumeError(
                    f"{volume.title} has NaN or infinite values inside the mask. "
                    "Replace them, or exclude them from the mask."
                )
            parts.append(values)
        yield BlockDone(min(start + depth, volume.shape[0]), volume.shape[0])
    return grey_scale_inside(np.concatenate(parts))
