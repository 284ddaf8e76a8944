"""Compare volumes of an object: grey values, noise, resolution, pores, networks."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.fourier import FourierCorrelation, fsc_columns
from napari_geosr.measure.comparison.frame import (
    FrameArray,
    FrameVolume,
    on_common_frame,
)
from napari_geosr.measure.comparison.grids import PairGrid
from napari_geosr.measure.comparison.report import QualityReport, Shift
from napari_geosr.measure.comparison.sweep import (
    DifferenceArray,
    FrameVolumes,
    GreyResult,
    grey_steps,
)
from napari_geosr.operations.compare.config import CompareConfig, CompareFields
from napari_geosr.operations.compare.graphs import (
    check_graphs,
    check_graphs_fit,
    graph_steps,
)
from napari_geosr.operations.compare.groups import (
    RunLog,
    add_remarks,
    frame_groups,
    noise_on_frames,
)
from napari_geosr.operations.compare.pores import pore_steps
from napari_geosr.operations.compare.positions import with_positions
from napari_geosr.operations.compare.resolution import (
    refuse_by_record,
    resolution_steps,
)
from napari_geosr.operations.compare.scan_checks import scan_check_steps
from napari_geosr.operations.compare.spectra import spectrum_steps, transformed_voxels
from napari_geosr.operations.inputs.scan import input_warnings
from napari_geosr.operations.measure.files import column_titles
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.registration.figures import block_shifts

if TYPE_CHECKING:
    from napari_geosr.core.types import AnyArray
    from napari_geosr.measure.comparison.pores import PoreMatch
    from napari_geosr.measure.graph.agreement import GraphAgreement
    from napari_geosr.measure.reports.report import PorosityReport

_T = TypeVar("_T")

__all__ = [
    "CompareConfig",
    "CompareFields",
    "QualityReport",
    "compare_steps",
    "fsc_columns",
]

#: Minimum number of volumes in a comparison.
MIN_VOLUMES = 2
#: Maximum number of volumes in a comparison.
MAX_VOLUMES = 6
#: Misalignment, in voxels, above which a warning is given.
MAX_SHIFT = 0.2
#: Fraction of the free memory that a comparison may use by default.
_MEMORY_SHARE = 0.5
#: Unit of differences if no noise was measured, as a fraction of the grey-value range.
_RANGE_SHARE = 0.01


def compare_steps(
    volumes: Mapping[str, Volume],
    config: CompareConfig | None = None,
    *,
    reference: str | None = None,
    mask: Volume | None = None,
    halves: tuple[Volume, Volume] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, QualityReport]:
    """Compare volumes of the same object with a base, which is one of them.

    Each volume is compared on the grid that it shares with the base; see
    `napari_geosr.operations.compare.groups`.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Two to six volumes, (Z, Y, X) or (Y, X); voxel sizes, extents and origins may
        differ. The volumes are read slab by slab.
    config : CompareConfig, optional
    reference : str, optional
        Key of the volume with which all others are compared; by default, the first one.
        If `reference` is given, or gain and offset are fitted, PSNR and SSIM refer to
        the grey-value range of this volume; otherwise, they refer to the smallest
        grey-value range of all volumes.
    mask : Volume, optional
        Sample mask: only non-zero voxels are evaluated. The mask may have any voxel
        size; without a voxel size, it must have the shape of the base.
    halves : (Volume, Volume), optional
        Two halves of one scan, for Fourier shell correlation (`config.fsc` is
        ``"halves"``).

    Yields
    ------
    Step
        `StageStarted`, `BlockDone` and `WarningIssued`.

    Returns
    -------
    QualityReport

    Raises
    ------
    VolumeError
        If the volumes have no common grid, or Fourier correlation is not valid for
        them.
    ConfigError
        If there are too few or too many volumes, or settings contradict each other.
    Cancelled
        If `should_stop` returns True.
    """
    config = config or CompareConfig()
    _check_numbers(volumes, config, reference, halves)
    log = RunLog()
    companions = [each for each in (mask, *(halves or ())) if each is not None]
    watch = FileWatch([*volumes.values(), *companions])
    chosen = with_positions({k: one_volume(v) for k, v in volumes.items()}, log.remarks)
    for volume in chosen.values():
        for doubt in input_warnings(volume):
            yield log.warn(doubt)
    # If the records already show that a Fourier correlation is invalid, refuse it
    # before any work is done.
    halves = refuse_by_record(chosen, config.fsc, halves)
    base = reference or next(iter(chosen))
    common = on_common_frame(chosen)  # raises an error if no region is common
    groups = frame_groups(chosen, base, mask)
    for group in groups:
        texts = [text for p in group.placed.values() if (text := p.remark())]
        add_remarks(log, group, texts, is_only=len(groups) == 1)
    budget = _budget(config, groups)
    noise = yield from noise_on_frames(groups, should_stop)
    fourier: dict[str, FourierCorrelation] = yield from resolution_steps(
        common,
        _in_order(chosen, noise),
        config.fsc,
        halves,
        most_voxels=transformed_voxels(budget),
        remarks=log.remarks,
        warn=log.warn,
        should_stop=should_stop,
    )
    grey = yield from _all_grey_steps(
        groups, config, reference is not None, budget, log, should_stop
    )
    checks = yield from scan_check_steps(
        volumes, chosen, log.remarks, log.warn, should_stop
    )
    shifts = yield from _shift_steps(groups, log, should_stop)
    titles = column_titles(chosen)
    detail, spectra = yield from spectrum_steps(groups, titles, budget, should_stop)
    unknown = [result.unknown for result in grey]
    pores = yield from _pore_steps(
        groups, config, mask, unknown, budget, log, should_stop
    )
    differences, units = _differences(groups, config, grey, noise)
    if message := watch.check(now=True):
        yield log.warn(message)
    return QualityReport(
        base=base,
        titles=titles,
        grids=_in_order(
            chosen, [_grids(g, r) for g, r in zip(groups, grey, strict=True)]
        ),
        figures=_in_order(chosen, [result.figures for result in grey]),
        shifts=_in_order(chosen, [shifts]),
        noise=_in_order(chosen, noise),
        detail=detail,
        fourier=fourier,
        spectra=spectra,
        porosity=_in_order(chosen, [found.reports for found in pores]),
        base_porosity=_in_order(chosen, [found.of_base(base) for found in pores]),
        pores=_in_order(chosen, [found.matches for found in pores]),
        graphs=_in_order(chosen, [found.graphs for found in pores]),
        scan_checks=checks,
        differences=_in_order(chosen, [differences]),
        difference_units=_in_order(chosen, [units]),
        volumes={key: one.cropped() for key, one in common.items()},
        remarks=tuple(log.remarks),
        warnings=tuple(log.warnings),
    )


def _in_order(keys: Iterable[str], found: Sequence[Mapping[str, _T]]) -> dict[str, _T]:
    """Merge the results of all groups; the first result for each volume is kept."""
    merged: dict[str, _T] = {}
    for one in found:
        merged = {**one, **merged}
    return {key: merged[key] for key in keys if key in merged}


def _grids(group: FrameVolumes, grey: GreyResult) -> dict[str, PairGrid]:
    frame = group.placed[group.base].frame
    grid = PairGrid(frame, grey.voxels, grey.data_range, grey.window, grey.base_range)
    return dict.fromkeys(group.others, grid)


def _all_grey_steps(
    groups: Sequence[FrameVolumes],
    config: CompareConfig,
    of_base: bool,
    budget: int,
    log: RunLog,
    should_stop: ShouldStop,
) -> Generator[Step, None, list[GreyResult]]:
    found = []
    for group in groups:
        yield StageStarted(message="Comparing grey values")
        grey = yield from grey_steps(
            group,
            data_range=config.data_range,
            of_base=of_base,
            affine=config.affine,
            slicewise={"auto": None, "volume": False, "slices": True}[config.ssim],
            budget=budget,
            should_stop=should_stop,
        )
        if grey.remark:
            add_remarks(log, group, [grey.remark], is_only=len(groups) == 1)
        yield from _grey_warnings(group, grey, log, fitted=config.affine)
        found.append(grey)
    return found


def _grey_warnings(
    group: FrameVolumes, grey: GreyResult, log: RunLog, *, fitted: bool
) -> Iterator[WarningIssued]:
    """Warn about volumes that are identical to the base, or have another grey scale."""
    base = _title(group.placed, group.base)
    for key in () if fitted else grey.other_scales:
        yield log.warn(
            f"The grey values of {_title(group.placed, key)} and {base} are on "
            "different scales, so PSNR, SSIM, MS-SSIM, NRMSE and the difference are "
            "meaningless. Fit gain and offset (--affine)."
        )
    for key, figures in grey.figures.items():
        if math.isinf(figures.psnr):
            yield log.warn(
                f"{_title(group.placed, key)} and {base} "
                "contain the same grey values: comparing a volume with itself gives "
                "no information. Check that these are the right volumes."
            )


def _check_numbers(
    volumes: Mapping[str, Volume],
    config: CompareConfig,
    reference: str | None,
    halves: tuple[Volume, Volume] | None,
) -> None:
    if not MIN_VOLUMES <= len(volumes) <= MAX_VOLUMES:
        raise ConfigError(
            f"Give {MIN_VOLUMES} to {MAX_VOLUMES} volumes to compare, including the "
            f"reference, not {len(volumes)}."
        )
    if reference is not None and reference not in volumes:
        raise ConfigError(
            f"There is no volume {reference!r} to use as the reference. Choose one of "
            "the volumes to compare."
        )
    if (halves is not None) != (config.fsc == "halves"):
        raise ConfigError(
            "Fourier correlation of halves needs two volumes: --fsc halves A1 A2."
        )
    check_graphs(config)


def _budget(config: CompareConfig, groups: Sequence[FrameVolumes]) -> int:
    """Return the memory budget; raise an error for graphs that would need more."""
    budget = int(_MEMORY_SHARE * free_host_memory())
    if config.memory is not None:
        budget = parse_bytes(config.memory)
    for group in groups if config.graph else ():
        check_graphs_fit(group, budget)
    return budget


def _title(placed: Mapping[str, FrameVolume], key: str) -> str:
    return placed[key].volume.title


class _FilledArray:
    """Array that replaces unknown values with the mean of the block being read."""

    def __init__(self, array: FrameArray) -> None:
        self._array, self.shape = array, array.shape

    def __getitem__(self, key: object) -> AnyArray:
        block = self._array[key]
        known = np.isfinite(block)
        if not known.all():
            mean = float(block[known].mean()) if known.any() else 0.0
            return np.where(known, block, np.float32(mean))
        return block


def _shift_steps(
    groups: Sequence[FrameVolumes], log: RunLog, should_stop: ShouldStop
) -> Generator[Step, None, dict[str, Shift | None]]:
    yield StageStarted(message="Checking that the volumes are aligned")
    found: dict[str, Shift | None] = {}
    for group, key in [(one, key) for one in groups for key in one.others]:
        if should_stop():
            raise Cancelled("The comparison was cancelled.")
        base = group.placed[group.base]
        shift = _shift_of(base, group.placed[key])
        found[key] = shift
        if shift is not None and shift.length > MAX_SHIFT:
            vector = ", ".join(f"{v:+.2f}" for v in shift.voxels)
            yield log.warn(
                f"{_title(group.placed, key)} is shifted by {shift.distance:.3g} "
                f"{shift.unit} ({shift.length:.2g} voxels; "
                f"{', '.join(base.frame.axes)}: {vector}) relative to "
                f"{_title(group.placed, group.base)}, which affects PSNR, SSIM and "
                "differences. First align the two (Pairs, or napari-geosr pairs)."
            )
    return found


def _shift_of(base: FrameVolume, other: FrameVolume) -> Shift | None:
    frame = base.frame
    if min(frame.shape[-2:]) < 2 or math.prod(frame.shape) < 64:
        return None
    one, two = _FilledArray(base.array), _FilledArray(other.array)
    parts = block_shifts(one, two)  # type: ignore[arg-type]
    if not parts:
        return None
    vector = np.median([part.shift for part in parts], axis=0)
    distance = float(np.linalg.norm(vector * np.array(frame.voxel_size)))
    return Shift(
        tuple(float(v) for v in vector), distance, frame.length_unit, len(parts)
    )


@dataclass(frozen=True)
class _GroupPores:
    """Pores of a group; all mappings are empty if the pores could not be measured."""

    reports: Mapping[str, PorosityReport]
    matches: Mapping[str, PoreMatch]
    graphs: Mapping[str, GraphAgreement]

    def of_base(self, base: str) -> dict[str, PorosityReport]:
        """Return the report of the base for each of the other volumes, by key."""
        return {key: self.reports[base] for key in self.reports if key != base}


def _pore_steps(
    groups: Sequence[FrameVolumes],
    config: CompareConfig,
    mask: Volume | None,
    unknown: Sequence[int],
    budget: int,
    log: RunLog,
    should_stop: ShouldStop,
) -> Generator[Step, None, list[_GroupPores]]:
    """Measure and match the pores of each group, and compare graphs, if requested."""
    found: list[_GroupPores] = []
    said: set[str] = set()
    for group, n in zip(groups, unknown, strict=True) if config.pores else ():
        remarks: list[str] = []
        steps = pore_steps(
            group, config, mask, n, budget, remarks, log.warn, should_stop
        )
        with StepIterator(steps) as iterator:
            for step in iterator:
                if isinstance(step, WarningIssued):
                    # A warning about the base recurs in each group.
                    if step.message in said:
                        continue
                    said.add(step.message)
                yield step
        porosity, pores = iterator.result
        add_remarks(log, group, remarks, is_only=len(groups) == 1)
        frame = group.placed[group.base].frame
        graphs = yield from graph_steps(
            porosity, group.base, frame, config, should_stop
        )
        found.append(_GroupPores(porosity, pores, graphs))
    return found


def _differences(
    groups: Sequence[FrameVolumes],
    config: CompareConfig,
    grey: Sequence[GreyResult],
    noise: Sequence[Mapping[str, Noise | None]],
) -> tuple[dict[str, Volume], dict[str, str]]:
    found: dict[str, Volume] = {}
    units: dict[str, str] = {}
    if not config.difference:
        return found, units
    for group, result, levels in zip(groups, grey, noise, strict=True):
        for key in group.others:
            found[key], units[key] = _difference(group, key, result, levels)
    return found, units


def _difference(
    group: FrameVolumes, key: str, grey: GreyResult, noise: Mapping[str, Noise | None]
) -> tuple[Volume, str]:
    """Return the difference of a volume from the base, and its unit in words."""
    base, figures = group.placed[group.base], grey.figures[key]
    measured = {
        name: one
        for name in (group.base, key)
        if (one := noise.get(name)) is not None and one.level > 0
    }
    if group.base in measured:
        titles = " and ".join(_title(group.placed, name) for name in measured)
        unit = f"the noise of {titles} (standard deviations)"
    elif measured:
        unit = f"the noise of {_title(group.placed, key)} (standard deviations)"
    else:
        unit = (
            f"{100 * _RANGE_SHARE:g} % of the data range, because no noise was measured"
        )
    scaled = [
        one.scaled(figures.gain) if name == key and figures.gain > 0 else one
        for name, one in measured.items()
    ]
    data = DifferenceArray(
        group,
        key,
        gain=figures.gain,
        offset=figures.offset,
        noise=scaled,
        unit=_RANGE_SHARE * grey.data_range,
    )
    name = f"{group.placed[key].volume.name} − {base.volume.name}"
    return base.frame.as_volume(data, name=name, metadata={"kind": "image"}), unit
