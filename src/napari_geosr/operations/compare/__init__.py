"""Compare volumes of one object: grey values, noise, resolution, pores, networks."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.memory import free_host_memory
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.units import convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.decorrelation import finest_detail
from napari_geosr.measure.comparison.fourier import (
    FourierCorrelation,
    PowerSpectrum,
    power_spectrum,
)
from napari_geosr.measure.comparison.frame import FrameArray, FrameVolume, place
from napari_geosr.measure.comparison.report import QualityReport, Shift
from napari_geosr.measure.comparison.sweep import (
    DifferenceArray,
    FrameVolumes,
    GreyResult,
    grey_steps,
    known_block,
)
from napari_geosr.measure.noise import noise_steps
from napari_geosr.operations.compare.config import CompareConfig, CompareFields
from napari_geosr.operations.compare.graphs import (
    check_graphs,
    check_graphs_fit,
    graph_steps,
)
from napari_geosr.operations.compare.pores import pore_steps
from napari_geosr.operations.compare.positions import placed_mask, with_positions
from napari_geosr.operations.compare.resolution import (
    refuse_by_record,
    resolution_steps,
)
from napari_geosr.operations.compare.scan_checks import scan_check_steps
from napari_geosr.operations.inputs.scan import input_warnings
from napari_geosr.operations.measure.files import column_titles
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.registration.figures import block_shifts

if TYPE_CHECKING:
    from napari_geosr.core.types import AnyArray
    from napari_geosr.measure.comparison.pores import PoreMatch
    from napari_geosr.measure.graph.agreement import GraphAgreement
    from napari_geosr.measure.report import PorosityReport

    _Pores = tuple[
        dict[str, PorosityReport], dict[str, PoreMatch], dict[str, GraphAgreement]
    ]

__all__ = ["CompareConfig", "CompareFields", "QualityReport", "compare_steps"]

#: Minimum number of volumes in a comparison.
MIN_VOLUMES = 2
#: Maximum number of volumes in a comparison.
MAX_VOLUMES = 6
#: Misalignment, in voxels, above which a warning is given.
MAX_SHIFT = 0.2
#: Fraction of the free memory that a comparison may use.
_MEMORY_SHARE = 0.5
#: Bytes per voxel of a block during a Fourier transform.
_TRANSFORM_BYTES = 40
#: Maximum number of voxels of a block for spectra and decorrelation analysis.
_SPECTRUM_VOXELS = 1 << 24
#: Number of slices used for decorrelation analysis.
_SLICES = 9
#: Unit of differences if no noise was measured, as a fraction of the grey-value range.
_RANGE_SHARE = 0.01


@dataclass
class _RunLog:
    """Warnings of a run, in order and without repetition."""

    remarks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, sentence: str) -> WarningIssued:
        if sentence not in self.warnings:
            self.warnings.append(sentence)
        return WarningIssued(message=sentence)


def compare_steps(
    volumes: Mapping[str, Volume],
    config: CompareConfig | None = None,
    *,
    reference: str | None = None,
    mask: Volume | None = None,
    halves: tuple[Volume, Volume] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, QualityReport]:
    """Compare volumes of one object in one physical frame.

    Parameters
    ----------
    volumes : mapping of str to Volume
        Two to six, (Z, Y, X) or (Y, X); voxel sizes, extents and origins may differ.
        They are read slab by slab.
    config : CompareConfig, optional
    reference : str, optional
        Key of the volume that all others are compared with; the first one by default.
        PSNR and SSIM refer to its grey-value range.
    mask : Volume, optional
        Sample mask: only non-zero voxels are evaluated. Any voxel size.
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
        If the volumes have no common frame, or Fourier correlation is not valid for
        them.
    ConfigError
        If there are too few or too many volumes, or settings contradict each other.
    Cancelled
        If `should_stop` returns True.
    """
    config = config or CompareConfig()
    _check_numbers(volumes, config, reference, halves)
    log = _RunLog()
    chosen = with_positions({k: one_volume(v) for k, v in volumes.items()}, log.remarks)
    for volume in chosen.values():
        for doubt in input_warnings(volume):
            yield log.warn(doubt)
    # If the records already show that a Fourier correlation is invalid, refuse it
    # before any work is done.
    halves = refuse_by_record(chosen, config.fsc, halves)
    base = reference or next(iter(chosen))
    placed = place(chosen)
    log.remarks += [text for p in placed.values() if (text := p.remark())]
    group = FrameVolumes(placed, base, placed_mask(mask, placed[base]))
    budget = _budget(config, group)
    noise = yield from _noise_steps(group, should_stop)
    fourier: dict[str, FourierCorrelation] = yield from resolution_steps(
        placed,
        noise,
        config.fsc,
        halves,
        most_voxels=_transformed_voxels(budget),
        remarks=log.remarks,
        warn=log.warn,
        should_stop=should_stop,
    )
    yield StageStarted(message="Comparing grey values")
    grey = yield from grey_steps(
        group,
        data_range=config.data_range,
        of_base=reference is not None,
        affine=config.affine,
        slicewise={"auto": None, "volume": False, "slices": True}[config.ssim],
        budget=budget,
        should_stop=should_stop,
    )
    yield from _grey_warnings(group, grey, log)
    checks = yield from scan_check_steps(
        volumes, chosen, log.remarks, log.warn, should_stop
    )
    shifts = yield from _shift_steps(group, log, should_stop)
    detail, spectra = yield from _spectrum_steps(group, budget, should_stop)
    porosity, pores, graphs = yield from _pore_steps(
        group, config, mask, budget, log, should_stop
    )
    differences, units = _differences(group, config, grey, noise)
    return QualityReport(
        base=base,
        titles=column_titles(chosen),
        frame=placed[base].frame,
        voxels=grey.voxels,
        data_range=grey.data_range,
        ssim_window=grey.window,
        figures=grey.figures,
        shifts=shifts,
        noise=noise,
        detail=detail,
        fourier=fourier,
        spectra=spectra,
        porosity=porosity,
        pores=pores,
        graphs=graphs,
        scan_checks=checks,
        differences=differences,
        difference_units=units,
        volumes={key: one.cropped() for key, one in placed.items()},
        remarks=tuple(log.remarks),
        warnings=tuple(log.warnings),
    )


def _grey_warnings(
    group: FrameVolumes, grey: GreyResult, log: _RunLog
) -> Iterator[WarningIssued]:
    """Note a missing MS-SSIM, and warn of volumes that are identical to the base."""
    if grey.remark:
        log.remarks.append(grey.remark)
    for key, figures in grey.figures.items():
        if math.isinf(figures.psnr):
            yield log.warn(
                f"{_title(group.placed, key)} and {_title(group.placed, group.base)} "
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
            f"{len(volumes)} volumes were given; {MIN_VOLUMES} to {MAX_VOLUMES} can be "
            "compared, the reference included."
        )
    if reference is not None and reference not in volumes:
        raise ConfigError(f"There is no volume {reference!r} to use as the reference.")
    if (halves is not None) != (config.fsc == "halves"):
        raise ConfigError(
            "Fourier correlation of halves needs two volumes: --fsc halves A1 A2."
        )
    check_graphs(config)


def _budget(config: CompareConfig, group: FrameVolumes) -> int:
    """Memory for the comparison; refuses graphs that would need more."""
    budget = int(_MEMORY_SHARE * free_host_memory())
    if config.memory is not None:
        budget = parse_bytes(config.memory)
    if config.graph:
        check_graphs_fit(group, budget)
    return budget


def _transformed_voxels(budget: int) -> int:
    return max(1 << 15, budget // _TRANSFORM_BYTES)


def _title(placed: Mapping[str, FrameVolume], key: str) -> str:
    return placed[key].volume.title


class _FilledArray:
    """A part of the frame, with unknown values replaced by the mean."""

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
    group: FrameVolumes, log: _RunLog, should_stop: ShouldStop
) -> Generator[Step, None, dict[str, Shift | None]]:
    yield StageStarted(message="Checking that the volumes are aligned")
    base = group.placed[group.base]
    found: dict[str, Shift | None] = {}
    for key in group.others:
        if should_stop():
            raise Cancelled("The comparison was cancelled.")
        shift = _shift_of(base, group.placed[key])
        found[key] = shift
        if shift is not None and shift.length > MAX_SHIFT:
            vector = ", ".join(f"{v:+.2f}" for v in shift.voxels)
            yield log.warn(
                f"{_title(group.placed, key)} lies {shift.distance:.3g} {shift.unit} "
                f"({shift.length:.2g} voxels; {', '.join(base.frame.axes)}: {vector}) "
                f"from {_title(group.placed, group.base)}: PSNR, SSIM and differences "
                "measure that shift as well. Align the two first (Pairs, or "
                "napari-geosr pairs)."
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
    return Shift(tuple(float(v) for v in vector), distance, frame.unit, len(parts))


def _noise_steps(
    group: FrameVolumes, should_stop: ShouldStop
) -> Generator[Step, None, dict[str, Noise | None]]:
    yield StageStarted(message="Measuring the noise")
    found: dict[str, Noise | None] = {}
    for key, one in group.placed.items():
        try:
            steps = noise_steps(one.on_frame(), should_stop=should_stop)
            found[key] = yield from steps
        except VolumeError:  # too small, or all blocks touch unknown voxels
            found[key] = None
    return found


def _spectrum_steps(
    group: FrameVolumes, budget: int, should_stop: ShouldStop
) -> Generator[Step, None, tuple[dict[str, float | None], dict[str, PowerSpectrum]]]:
    """Finest detail and power spectrum of a block in the centre."""
    yield StageStarted(message="Computing spectra")
    if should_stop():
        raise Cancelled("The comparison was cancelled.")
    share = _transformed_voxels(budget) // (len(group.placed) + 1)
    share = min(share, _SPECTRUM_VOXELS)
    try:
        values, _ = known_block(group, share)
        detail = {key: _detail(one, share) for key, one in group.placed.items()}
    except VolumeError:  # only scattered voxels are valid
        return {}, {}
    frame = group.placed[group.base].frame
    size, unit = frame.voxel_size, frame.unit
    spectra: dict[str, PowerSpectrum] = {
        key: power_spectrum(block, size, unit=unit) for key, block in values.items()
    }
    title = column_titles({k: p.volume for k, p in group.placed.items()})
    for key in group.others:
        residual = values[key] - values[group.base]
        name = f"{title[key]} − {title[group.base]}"
        spectra[name] = power_spectrum(residual, size, unit=unit)
    return detail, spectra


def _detail(placed: FrameVolume, most_voxels: int) -> float | None:
    """Finest detail in slices of a volume, on its own grid, in the frame's unit."""
    own = place({"it": placed.cropped()})
    values, _ = known_block(FrameVolumes(own, "it"), most_voxels)
    block = values["it"]
    planes = block.reshape(-1, *block.shape[-2:])
    places = np.unique(np.linspace(0, len(planes) - 1, _SLICES).astype(int))
    size = own["it"].frame.voxel_size[-2:]
    found = [finest_detail(planes[z], size) for z in places]
    periods = [f for f in found if f is not None]
    # If most slices give no result, those of the others are not reliable.
    if 2 * len(periods) <= len(found):
        return None
    own_unit, unit = own["it"].frame.unit, placed.frame.unit
    return float(np.median(periods)) * convert_length(1.0, own_unit, unit)


def _pore_steps(
    group: FrameVolumes,
    config: CompareConfig,
    mask: Volume | None,
    budget: int,
    log: _RunLog,
    should_stop: ShouldStop,
) -> Generator[Step, None, _Pores]:
    """Pore figures, matched pores and graphs, if they are requested."""
    if not config.pores:
        return {}, {}, {}
    porosity, pores = yield from pore_steps(
        group, config, mask, budget, log.remarks, log.warn, should_stop
    )
    frame = group.placed[group.base].frame
    graphs = yield from graph_steps(porosity, group.base, frame, config, should_stop)
    return porosity, pores, graphs


def _differences(
    group: FrameVolumes,
    config: CompareConfig,
    grey: GreyResult,
    noise: Mapping[str, Noise | None],
) -> tuple[dict[str, Volume], dict[str, str]]:
    found: dict[str, Volume] = {}
    units: dict[str, str] = {}
    if not config.difference:
        return found, units
    base = group.placed[group.base]
    for key, figures in grey.figures.items():
        measured = {
            name: one
            for name in (group.base, key)
            if (one := noise.get(name)) is not None and one.level > 0
        }
        if group.base in measured:
            titles = " and ".join(_title(group.placed, name) for name in measured)
            units[key] = f"the noise of {titles} (standard deviations)"
        elif measured:
            units[key] = (
                f"the noise of {_title(group.placed, key)} (standard deviations)"
            )
        else:
            units[key] = (
                f"{100 * _RANGE_SHARE:g} % of the data range, as no noise was measured"
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
        found[key] = base.frame.as_volume(
            data,
            name=f"{group.placed[key].volume.name} − {base.volume.name}",
            metadata={"kind": "image"},
        )
    return found, units
