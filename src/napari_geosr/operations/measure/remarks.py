"""Warnings about the origin of a volume and the surroundings of its sample."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.text.flat import flat_words
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig as MeasureConfig
from napari_geosr.measure.number_text import (
    number_text,
    percent_range_text,
    percent_text,
    rough_percent,
)
from napari_geosr.measure.remarks import hides_phases
from napari_geosr.operations.measure.automatic_sample import automatic_fit_steps
from napari_geosr.operations.measure.deviation import differences_from_calibration
from napari_geosr.operations.measure.sampled import (
    SampledPorosity,
    sampled_porosities,
)
from napari_geosr.operations.measure.surroundings import MAX_PLANE_BYTES, Surroundings

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport

#: Number of hot voxels kept by a restoration, as a fraction of the voxels of the rarer
#: phase, at and above which a warning is given.
_MIN_HOT_SHARE = 0.01
#: Difference between the fractions of NaN voxels of two volumes at and above which a
#: warning is given.
_DIFFERENT_SHARE = 0.002
#: Number of planes that must fit into the memory budget for whole planes to be read.
_PLANES_IN_BUDGET = 8
#: First words of the warning about background.
_BACKGROUND = "Background, such as air, seems to surround the sample of"


def lost_voxels(volume: Volume, report: PorosityReport) -> str:
    """Warn if a restoration has grey values where the scan has no data."""
    missing = 0
    for entry in volume.provenance:
        seen = entry.get("intensities") or {}
        missing = max(missing, seen.get("n_nan", 0) + seen.get("n_inf", 0))
    if not missing or report.nonfinite_voxels:
        return ""
    return (
        f"The scan that {volume.name!r} was restored from has {missing} NaN or "
        "infinite voxels, but this volume has none, so voxels without data are "
        "measured as sample. Restore the scan again with float32 output, or use a "
        "sample mask."
    )


def different_regions(reports: Mapping[str, PorosityReport]) -> str:
    """Warn if NaN voxels reduce the samples of several volumes by different fractions.

    Parameters
    ----------
    reports : mapping of PorosityReport
        Reports by the names of their volumes, as used in messages.
    """
    shares = {
        name: report.nonfinite_voxels / math.prod(report.shape)
        for name, report in reports.items()
    }
    least, most = (f(shares, key=lambda name: shares[name]) for f in (min, max))
    if shares[most] - shares[least] < _DIFFERENT_SHARE:
        return ""
    return (
        f"The samples differ: {rough_percent(shares[most])} of the voxels of {most}, "
        f"but {rough_percent(shares[least])} of those of {least}, are NaN or infinite, "
        "so the porosities refer to different regions. Use a sample mask of the "
        "common region."
    )


def background_steps(
    volume: Volume,
    config: MeasureConfig,
    report: PorosityReport,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, str]:
    """Warn if the porosity may include the surroundings of the sample.

    The pore phase at the faces can be air, or pores cut by the border, such as marrow.
    The automatic mask is suggested only if it would exclude neither solid nor pores,
    and if it would not enclose air.
    """
    is_bright = config.phase == "bright"
    masks = ("none", "auto") if is_bright else ("none",)
    if config.sample_mask not in masks or volume.metadata.get("kind") == "labels":
        return ""
    if report.pore_voxels >= report.sample_voxels:  # every voxel is classified as pore
        return ""
    most, limit = MAX_PLANE_BYTES, None
    if config.memory is not None:
        limit = parse_bytes(config.memory)
        most = min(most, limit // _PLANES_IN_BUDGET)
    around = Surroundings.of(volume.data, most)
    if not around.has_background(report.threshold, config.phase):
        return ""
    suggests = around.suggests_mask(report.threshold, config.phase)
    if config.sample_mask == "auto":
        return "" if suggests else _encloses_dark(volume)
    if hides_phases(report.warnings):  # at another threshold, background may be solid
        return ""
    if not suggests:
        return _bright_at_faces(volume, report, suggests=False)
    fit = yield from automatic_fit_steps(
        volume, report.threshold, config, max_bytes=limit, should_stop=should_stop
    )
    if is_bright:
        suggests = fit is not None and not fit.cuts
        return _bright_at_faces(volume, report, suggests=suggests)
    porosity = percent_text(report.porosity)
    if fit is not None and fit.cuts:
        open_pores = (
            f"Empty space reaches the faces of {volume.name!r} and is "
            f"counted as pores: it is part of the porosity of {porosity}. If this "
            "space consists of pores cut open by the border of the volume, such as "
            "marrow, the result is correct. If it is air around the sample, measure "
            "with a sample mask of your own: the automatic one would also exclude "
            f"open pores (porosity {rough_percent(fit.porosity)})."
        )
        return flat_words(open_pores, flat=report.is_flat)
    text = (
        f"{_BACKGROUND} {volume.name!r} and is counted as pores: it is part of the "
        f"porosity of {porosity}. To measure only the sample, choose the automatic "
        "sample mask (--sample auto)."
    )
    if fit is None:
        text += (
            " Check that the mask excludes only background: pores that the border cuts "
            "open, such as marrow, look the same."
        )
    return flat_words(text, flat=report.is_flat)


def _bright_at_faces(volume: Volume, report: PorosityReport, *, suggests: bool) -> str:
    """Describe bright pores that may be the material or the background."""
    mask = "a sample mask of your own (--mask)"
    if suggests:
        mask = "the automatic sample mask (--sample auto)"
    text = (
        f"Bright regions at the faces of {volume.name!r} are counted as pores: they "
        f"are part of the porosity of {percent_text(report.porosity)}. If they are the "
        "material, choose dark pores (--phase dark). If they are background around a "
        f"dark sample, use {mask}."
    )
    return flat_words(text, flat=report.is_flat)


def _encloses_dark(volume: Volume) -> str:
    """Describe an automatic mask that may enclose air instead of the material."""
    return (
        f"The automatic sample mask of {volume.name!r} encloses the dark phase, "
        "because pores are bright. If the dark phase is air around the sample, choose "
        "dark pores (--phase dark), or a sample mask of your own (--mask)."
    )


def includes_background(warnings: Iterable[str]) -> bool:
    """Return whether a warning says that background is counted as pores."""
    return any(warning.startswith(_BACKGROUND) for warning in warnings)


def kept_hot_voxels(volume: Volume, report: PorosityReport) -> str:
    """Warn if hot voxels kept by a restoration are a noticeable fraction of a phase."""
    kept = max((_n_hot(volume, entry) for entry in volume.provenance), default=0)
    others = report.sample_voxels - report.pore_voxels
    rarer, what = min((report.pore_voxels, "pores"), (others, "solid"))
    if not kept or kept < _MIN_HOT_SHARE * rarer or volume.holds_labels:
        return ""
    return (
        f"The restoration of {volume.name!r} kept {kept} hot or dead voxels of the "
        f"scan, and at the threshold {number_text(report.threshold)} only {rarer} "
        f"voxels are {what}: the porosity may be wrong. Before restoring the scan, "
        "replace these voxels, and only them, with the median of their neighbours, or "
        "exclude them with a sample mask."
    )


def sampled_porosity(volume: Volume, report: PorosityReport) -> list[str]:
    """Describe how the porosity varies among the random samples of a restoration."""
    found = sampled_porosities(volume, report)
    if found is None:
        return []
    shares = found.porosities
    mean, spread = np.mean(shares), np.std(shares, ddof=1)
    sentence = (
        f"In {len(shares)} samples that agree with the scan, the porosity of the whole "
        "volume at this threshold is "
        f"{percent_range_text((min(shares), max(shares)))} (mean "
        f"{percent_text(float(mean))}, standard deviation {100 * float(spread):.2g} "
        f"percentage points). {_meaning(found)}"
    )
    interval = report.interval
    if interval is None or interval.porosity is None or interval.factor is not None:
        return [sentence]
    return [sentence, *differences_from_calibration(volume)]


def _meaning(found: SampledPorosity) -> str:
    """State what the range of the samples' porosities is."""
    if found.interval is None or found.interval.porosity is None:
        return "This range is not a calibrated interval."
    ends = percent_range_text(found.interval.porosity)
    if found.interval.factor is not None:
        return f"The calibrated interval, from the standard deviations, is {ends}."
    return f"The calibrated interval, from these samples, is {ends}."


def generated(volume: Volume) -> str:
    """Warn if a volume was generated by a model."""
    if not any(entry.get("generated") for entry in volume.provenance):
        return ""
    return (
        f"{volume.name!r} was generated by a model. It was not measured, and its pores "
        "are not those of a real sample."
    )


def verdict_before_restoration(volume: Volume, report: PorosityReport) -> str:
    """Return what the verdict before the restoration states about measurements.

    For *harmful* and *caution*, the main sentence and the findings on the number of
    pores are repeated. The size up to which pores cannot be counted is repeated for
    every verdict, unless it is below the size of the smallest counted pore.
    """
    entries = [e for e in volume.provenance if e.get("operation") == "restore"]
    verdict = entries[-1].get("verdict") if entries else None
    if not verdict:
        return ""
    found = []
    if verdict["level"] != "ok":
        found = [verdict["sentence"], *verdict.get("counting", ())]
    found += [
        limit["sentence"]
        for limit in verdict.get("limits", ())
        if limit["voxels"] >= report.min_voxels
    ]
    found += _small_pores(verdict, report)
    words = " ".join(found)
    return (
        f"Verdict before the restoration of {volume.name!r}: {words}" if words else ""
    )


def _small_pores(verdict: AnyMapping, report: PorosityReport) -> list[str]:
    """State how many measured pores are too small to be counted, if any are."""
    sizes = np.asarray(report.table.get("voxels", ()))
    limit = max(
        (
            one["voxels"]
            for one in verdict.get("limits", ())
            if one["objects"] == "pores"
        ),
        default=0,
    )
    n_small = int((sizes <= limit).sum()) if report.phase == "dark" else 0
    if not n_small:
        return []
    return [f"Of the {len(sizes):,} measured pores, {n_small:,} are that small."]


def _n_hot(volume: Volume, entry: AnyMapping) -> int:
    """Estimate how many voxels of a result correspond to hot voxels of the scan."""
    n: int = (entry.get("intensities") or {}).get("n_hot", 0)
    scan = ((entry.get("inputs") or {}).get("input") or {}).get("shape")
    if not n or not scan:
        return n
    return int(n * math.prod(volume.spatial_shape) // math.prod(scan))
