"""Segment a whole scan, slice by slice, into a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
    never_stop,
    recount,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.io.spec import OutputSpec
from napari_geosr.learning import painting
from napari_geosr.learning.painting import SegmentedSlice, Segmenter
from napari_geosr.models import zoo
from napari_geosr.operations.inputs import check_not_source
from napari_geosr.operations.inputs.same_grid import (
    FOR_MASKS,
    check_same_grid,
)
from napari_geosr.operations.segment.config import SegmentConfig

#: Callback that receives the index and the result of each slice.
Receive = Callable[[int, SegmentedSlice], None]


@dataclass(frozen=True)
class Segmentation:
    """Result of a segmentation.

    Attributes
    ----------
    path : Path
        The labels.
    probabilities : Path or None
        Probabilities of the classes along the axis C, if they were written.
    fractions : mapping of int to float
        Fraction of the segmented voxels in each class.
    painted : mapping of int to int
        Number of painted voxels of each class.
    slices : int
        Number of slices with strokes that were used for learning.
    """

    path: Path
    probabilities: Path | None
    fractions: Mapping[int, float]
    painted: Mapping[int, int]
    slices: int

    def to_dict(self) -> AnyDict:
        """Return all values, for JSON."""
        return {
            "file": str(self.path),
            "probabilities": self.probabilities and str(self.probabilities),
            "classes": [
                {"class": k, "fraction": f, "painted_voxels": self.painted[k]}
                for k, f in self.fractions.items()
            ],
            "painted_slices": self.slices,
        }


def segment_steps(
    scan: Volume,
    labels: Volume,
    out: Path,
    config: SegmentConfig,
    *,
    probabilities: Path | None = None,
    overwrite: bool = False,
    replaced: Collection[Path] = (),
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Segmentation]:
    """Learn from the painted voxels and segment all slices.

    Only a few adjacent slices, and cached features, are in memory at a time.

    Parameters
    ----------
    scan : Volume
        Axes ZYX or YX.
    labels : Volume
        Painted classes, of the same shape and at the same position. Labels without a
        voxel size are assumed to be at the position of the scan.
    out : Path
        Volume file to write: a label image with the numbers of the classes.
    config : SegmentConfig
    probabilities : Path, optional
        Volume file for the probabilities: float32, with the classes along axis C.
    overwrite : bool
    replaced : collection of Path
        Files that are replaced even if `overwrite` is False.
    should_stop : callable
        Called before every slice.

    Returns
    -------
    Segmentation

    Raises
    ------
    GeoSRError
        If the run fails; nothing is written.
    """
    files = [out] if probabilities is None else [out, probabilities]
    if len({path.expanduser().resolve() for path in files}) < len(files):
        raise ConfigError(
            f"Labels and probabilities cannot both be written to {out}. Choose two "
            "names."
        )
    for volume in (scan, labels):
        check_not_source(volume, *files)
    for path in files:
        io.check_output(path, overwrite or path in replaced)
    segmenter = open_segmenter(scan, config)
    yield from learn_steps(segmenter, labels, config, should_stop)
    record = yield from record_steps(segmenter, labels, config, should_stop)
    specs = _specs(segmenter, record)
    with ExitStack() as stack:
        outputs = [
            stack.enter_context(
                io.create(path, spec, overwrite=overwrite or path in replaced)
            )
            for path, spec in zip(files, specs, strict=False)
        ]

        def write(z: int, found: SegmentedSlice) -> None:
            at = (z,) if scan.axes == "ZYX" else ()
            outputs[0].array[(*at, slice(None), slice(None))] = found.labels
            if len(outputs) > 1:
                everything = slice(None)
                key = (everything, *at, everything, everything)
                outputs[1].array[key] = found.probabilities

        fractions = yield from classify_steps(segmenter, write, should_stop)
    assert segmenter.strokes is not None
    return Segmentation(
        out,
        probabilities,
        fractions,
        segmenter.strokes.counts,
        len(segmenter.strokes.slices),
    )


def open_segmenter(scan: Volume, config: SegmentConfig) -> Segmenter:
    """Prepare a scan for segmentation by strokes.

    Raises
    ------
    VolumeError, ModelError, ConfigError
        If the scan is uniform, or the model or device does not exist or is unsuitable.
    """
    prior = None
    if config.model is not None:
        model = zoo.find(config.model)
        device = pick_device(config.device)
        prior = painting.prior.PriorFeatures(model, config.seed, device)
    return Segmenter(scan, seed=config.seed, prior=prior)


def learn_steps(
    segmenter: Segmenter, labels: Volume, config: SegmentConfig, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    """Read the painted voxels, and learn from them.

    Raises
    ------
    VolumeError
        If the labels are known to have another position than the scan, or cannot be
        used.
    """
    yield StageStarted(message="Reading the painted labels")
    # Labels of another shape are refused below, with their own advice.
    if labels.shape == segmenter.scan.shape and (
        note := check_same_grid(labels, segmenter.scan, advice=FOR_MASKS)
    ):
        yield WarningIssued(message=note)
    strokes = painting.read_strokes(
        labels,
        segmenter.scan,
        config.unpainted,
        seed=config.seed,
        should_stop=should_stop,
    )
    for warning in (*segmenter.doubts, *strokes.warnings):
        yield WarningIssued(message=warning)
    yield StageStarted(message="Learning from the strokes", total=len(strokes.slices))
    yield from recount(segmenter.learn_steps(strokes, should_stop))


def classify_steps(
    segmenter: Segmenter, receive: Receive, should_stop: ShouldStop
) -> Generator[Step, None, dict[int, float]]:
    """Segment all slices; return the fraction of each class.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    assert segmenter.strokes is not None
    classes, n = segmenter.strokes.classes, segmenter.n_slices
    yield StageStarted(message="Segmenting", total=n)
    counts: Counter[int] = Counter()
    for z in range(n):
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
        found = segmenter.segment(z)
        receive(z, found)
        numbers, times = np.unique(found.labels, return_counts=True)
        counts.update(dict(zip(numbers.tolist(), times.tolist(), strict=True)))
        place = (slice(z, z + 1),) if segmenter.scan.axes == "ZYX" else ()
        whole = tuple(slice(0, m) for m in segmenter.scan.shape[-2:])
        yield TileDone(z + 1, n, slices=(*place, *whole), array=found.labels)
    total = sum(counts[k] for k in classes)
    for lost in (k for k in classes if not counts[k]):
        yield WarningIssued(
            message=f"Class {lost} does not occur in the result. Paint more of it."
        )
    return {k: counts[k] / total if total else 0.0 for k in classes}


def record_steps(
    segmenter: Segmenter, labels: Volume, config: SegmentConfig, should_stop: ShouldStop
) -> Generator[Step, None, AnyDict]:
    """Create the record of a run: inputs with checksums, settings and strokes."""
    strokes = segmenter.strokes
    assert strokes is not None
    return (
        yield from provenance.record_steps(
            "segment",
            inputs={"scan": segmenter.scan, "labels": labels},
            settings=config.model_dump(mode="json"),
            model=None if segmenter.prior is None else segmenter.prior.record,
            should_stop=should_stop,
            unpainted=strokes.unpainted,
            painted_voxels={str(k): n for k, n in strokes.counts.items()},
            painted_slices=len(strokes.slices),
        )
    )


def _specs(segmenter: Segmenter, record: AnyMapping) -> list[OutputSpec]:
    """Return the specifications of the files of labels and probabilities."""
    scan, strokes = segmenter.scan, segmenter.strokes
    assert strokes is not None
    history = (*scan.provenance, record)
    spec = OutputSpec.like(
        scan, dtype=segmenter.dtype, provenance=history, kind="labels", channels=()
    )
    shares = OutputSpec.like(
        scan,
        shape=(len(strokes.classes), *scan.shape),
        axes=f"C{scan.axes}",
        dtype=np.float32,
        provenance=history,
        kind="image",
        channels=[f"class {k}" for k in strokes.classes],
    )
    return [spec, shares]
