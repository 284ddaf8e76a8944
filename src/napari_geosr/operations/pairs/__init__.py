"""Build training pairs of a low- and a high-resolution scan of the same object.

The low-resolution scan keeps its measured values and is cropped to the common region.
The high-resolution scan is aligned with it and resampled onto its grid, subdivided by
the upscale factor, so that the outer edges of the voxels coincide. Large volumes remain
in their files; only reduced copies and blocks are loaded.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyArray, AnyDict, AnyDType, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.output import Output
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.operations.inputs.scan import reader_warnings
from napari_geosr.operations.pairs.config import PairsConfig
from napari_geosr.operations.pairs.files import (
    plan,
    untrained_factor_notes,
    write_report,
)
from napari_geosr.operations.pairs.inputs import (
    finer_than_needed,
    fitting_factor,
    memory_for_voxels,
    offset_for,
    with_matching_axes,
)
from napari_geosr.operations.pairs.picture import overlay_png
from napari_geosr.operations.pairs.quality import (
    AlignedScans,
    overlay_steps,
    pair_quality,
    quality_warnings,
    times,
)
from napari_geosr.registration import itk
from napari_geosr.registration.align import Alignment, align_steps
from napari_geosr.registration.grey_match import GreyMatch, match_grey_values
from napari_geosr.registration.overlap import common_box
from napari_geosr.registration.sampled import Box, Grid, Resampling, finite

__all__ = ["Pairs", "PairsConfig", "pairs", "pairs_steps"]

#: Minimum number of low-resolution voxels along each axis for a useful pair.
_MIN_VOXELS = 8


@dataclass(frozen=True, eq=False)
class Pairs:
    """A training pair: its files, its report, and volumes for display.

    Attributes
    ----------
    files : mapping of str to Path
        Paths by content: ``low``, ``high``, ``picture`` and ``report``.
    report : dict
        Contents of the JSON report.
    layers : mapping of str to Volume
        Volumes for display: for aligned scans ``low``, ``before`` and ``after``, on the
        low-resolution grid; for a simulated scan ``low`` and ``high``.
    """

    files: Mapping[str, Path]
    report: AnyDict
    layers: Mapping[str, Volume] = field(default_factory=dict)


def pairs_steps(
    low: Volume,
    high: Volume,
    out: str | Path,
    config: PairsConfig | None = None,
    *,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Pairs]:
    """Align `high` with `low` and write their common region as a pair.

    Parameters
    ----------
    low, high : Volume
        Two volumes (Z, Y, X) or two images (Y, X), with any voxel sizes and units of
        length.
    out : path
        Folder for the files; created if missing.

    Yields
    ------
    Step
        `StageStarted`, `BlockDone` and `WarningIssued`.

    Returns
    -------
    Pairs

    Raises
    ------
    ConfigError
        If SimpleITK is not installed, or a setting does not fit the scans.
    VolumeError
        If the scans do not match or do not overlap, or contain NaN or infinite
        voxels.
    FileError
        If a file cannot be written, or exists and `overwrite` is False.
    Cancelled
        If `should_stop` returns True; no files are kept.
    """
    config = config or PairsConfig()
    itk.require()
    files = plan(out, [low, high], overwrite=overwrite)
    low, high = with_matching_axes(low, high)
    factor = fitting_factor(low, high, config)
    factors = config.factors(len(low.axes), factor)
    warnings = [*reader_warnings(low), *reader_warnings(high)]
    warnings += [text for text in (finer_than_needed(low, high, factors),) if text]
    aligned = yield from align_steps(
        low,
        high,
        start=config.start,
        offset=offset_for(low, config.offset),
        search_angle=config.search_angle,
        kind=config.transform,
        should_stop=should_stop,
    )
    box = _box(low, high, aligned, factors)
    crop = Grid.of(low).cut(box)
    yield StageStarted(message="Measuring the quality of the alignment")
    aligned_scans = yield from overlay_steps(aligned, low, box, should_stop=should_stop)
    quality = pair_quality(aligned_scans, crop, Grid.of(high), Grid.of(low))
    warnings += quality_warnings(quality, aligned) + untrained_factor_notes(factor)
    match = match_grey_values(aligned_scans.low, aligned_scans.after, config.intensity)
    for text in warnings:
        yield WarningIssued(message=text)
    made = _PairWriter(low, high, box, factors, aligned, match)
    report: AnyDict = {
        "upscale_factor": factor,
        "dimensions": config.dimensions,
        "unit": low.unit,
        "transform": _describe_alignment(aligned),
        "quality": quality.to_json_dict(),
        "grey_values": match.to_json_dict(),
        "low": made.describe_grid("low"),
        "high": made.describe_grid("high"),
        "warnings": warnings,
    }
    record = yield from provenance.record_steps(
        "pairs",
        inputs={"low": low, "high": high},
        settings=config.model_dump(mode="json"),
        should_stop=should_stop,
        pair={key: report[key] for key in ("transform", "grey_values")},
    )
    with atomic.created_folder(files["low"].parent):
        yield from made.write(
            files, record, memory_for_voxels(config), overwrite, should_stop
        )
        layers = _layers(aligned_scans, low, match)
        picture = overlay_png(
            layers["low"], {key: layers[key] for key in ("before", "after")}
        )
        write_report(
            files,
            report,
            picture,
            record=record,
            flat=low.axes == "YX",
            overwrite=overwrite,
        )
    return Pairs(files, report, layers)


def pairs(low: Volume, high: Volume, out: str | Path, **settings: Any) -> Pairs:
    """Build a pair; see `pairs_steps`.

    Parameters
    ----------
    **settings
        Fields of `PairsConfig`.
    """
    steps = pairs_steps(low, high, out, PairsConfig.create(**settings))
    return run_to_end(steps)


def _box(
    low: Volume, high: Volume, aligned: Alignment, factors: tuple[int, ...]
) -> Box:
    """Return the common region of both scans, in low-resolution voxels.

    Raises
    ------
    VolumeError
        If the common region is too small.
    """
    box = common_box(Grid.of(low), Grid.of(high), aligned.transform.inverse(), factors)
    shape = (0,) * len(factors) if box is None else tuple(s.stop - s.start for s in box)
    if box is None or min(shape) < _MIN_VOXELS:
        least = times((_MIN_VOXELS,) * len(shape))
        raise VolumeError(
            f"The two scans overlap in only {times(shape)} voxels of {low.title}; at "
            f"least {least} are needed. Check voxel sizes and units, or give the "
            "position of the high-resolution scan (--offset)."
        )
    return box


def _describe_alignment(aligned: Alignment) -> AnyDict:
    """Describe the transform, and how far the refinement moved the centre."""
    middle = aligned.high.grid.centre
    moved = aligned.transform.apply(middle) - aligned.start.apply(middle)
    return {
        "from": "high",
        "to": "low",
        "axes": "ZYX"[-len(middle) :],
        **aligned.transform.to_json_dict(),
        "moved": moved.tolist(),
        "start": {
            "how": aligned.how,
            "correlation": aligned.correlation,
            **aligned.start.to_json_dict(),
        },
    }


def _layers(
    aligned_scans: AlignedScans, low: Volume, match: GreyMatch
) -> dict[str, Volume]:
    """Return the compared arrays as volumes in the low-resolution coordinate system."""
    return {
        name: Volume(
            data,
            low.axes,
            tuple(float(v) for v in aligned_scans.grid.voxel_size),
            low.unit,
            tuple(float(v) for v in aligned_scans.grid.origin),
            name=name,
        )
        for name, data in (
            ("low", aligned_scans.low),
            ("before", match.apply(aligned_scans.before)),
            ("after", match.apply(aligned_scans.after)),
        )
    }


class _PairWriter:
    """Writes the two volumes of a pair."""

    def __init__(
        self,
        low: Volume,
        high: Volume,
        box: Box,
        factors: tuple[int, ...],
        aligned: Alignment,
        match: GreyMatch,
    ) -> None:
        self.low, self.high, self.box = low, high, box
        self.factors, self.match = factors, match
        crop = Grid.of(low).cut(box)
        self.grids = {"low": crop, "high": crop.refined(factors)}
        back = aligned.transform.inverse()
        self.resampling = Resampling(high, self.grids["high"], back)

    def describe_grid(self, key: str) -> AnyDict:
        """Return the shape and position of one of the volumes, for the report."""
        return self.grids[key].to_record()

    def write(
        self,
        files: Mapping[str, Path],
        record: AnyMapping,
        memory: int,
        overwrite: bool,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, None]:
        """Write both files; they appear when both are complete."""
        yield StageStarted(message="Writing the pair")
        total, done = int(np.prod(self.grids["low"].shape)), 0
        with ExitStack() as stack:
            outputs = {
                key: stack.enter_context(self._output(key, files, overwrite))
                for key in ("low", "high")
            }
            for fine in self.resampling.blocks(self.factors, memory):
                if should_stop():
                    raise Cancelled("Stopped; no file was written.")
                pairs = zip(fine, self.factors, strict=True)
                coarse = tuple(slice(s.start // f, s.stop // f) for s, f in pairs)
                block = self.match.apply(self.resampling.block(fine))
                outputs["high"].array[fine] = block
                outputs["low"].array[coarse] = self._measured(coarse)
                for output in outputs.values():
                    output.release()
                done += int(np.prod([s.stop - s.start for s in coarse]))
                yield BlockDone(done, total)
            for key, volume in (("low", self.low), ("high", self.high)):
                outputs[key].provenance = (*volume.provenance, record)

    def _output(
        self, key: str, files: Mapping[str, Path], overwrite: bool
    ) -> AbstractContextManager[Output]:
        grid = self.grids[key]
        return io.create(
            files[key],
            io.OutputSpec(
                shape=grid.shape,
                dtype=np.float32 if key == "high" else self._low_dtype(),
                axes=self.low.axes,
                voxel_size=tuple(grid.voxel_size.tolist()),
                unit=self.low.unit,
                origin=tuple(grid.origin.tolist()),
            ),
            overwrite=overwrite,
        )

    def _low_dtype(self) -> AnyDType:
        """Return the type of the scan for integers of up to 4 bytes, else float32."""
        dtype = self.low.dtype
        small = dtype.kind in "iub" and dtype.itemsize <= 4
        return dtype if small else np.dtype(np.float32)

    def _measured(self, coarse: Box) -> AnyArray:
        """Read the grey values of a box of the low-resolution scan."""
        key = tuple(
            slice(b.start + c.start, b.start + c.stop)
            for b, c in zip(self.box, coarse, strict=True)
        )
        if self.low.dtype.kind == "f":
            return finite(self.low, key)
        return np.asarray(self.low.data[key])
