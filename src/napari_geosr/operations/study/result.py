"""The result of a study: its rows, and what the fewer projections save.

The published figures are an hour at the ESRF = 300 kWh, about 18 kg CO2eq, and an hour
of a laboratory scanner = 5 kWh, about 0.3 kg; both are 0.06 kg per kilowatt-hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import Step
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.subset import ScanSubset, all_subsets


@dataclass(frozen=True)
class CellDone(Step):
    """A cell is judged; `row` has its figures."""

    row: AnyDict = field(default_factory=dict)


@dataclass(frozen=True)
class StudySummary:
    """A study: its rows, what they are compared with, its files.

    Attributes
    ----------
    rows : list of dict
        One for each cell, by number of projections and exposure; the whole scan first.
    reference : dict
        Figures of the truth, or of the full reconstruction.
    savings : list of dict
        What each number of projections and exposure needs.
    fewest : dict
        Fewest projections of the longest exposure that give the right porosity, by
        algorithm.
    least : dict
        By algorithm, ``projections`` and ``exposure`` with the least light that give
        the right porosity; None where none do.
    files : dict of Path
        ``csv``, ``json``, ``html``.
    warnings : tuple of str
        What is to be borne in mind.
    """

    rows: list[AnyDict]
    reference: AnyDict
    savings: list[AnyDict]
    fewest: dict[str, int | None]
    least: dict[str, dict[str, float] | None]
    files: dict[str, Path]
    warnings: tuple[str, ...] = ()


_HOUR = 3600.0


def savings(scan: Projections, config: StudyConfig) -> list[AnyDict]:
    """What each number of projections and exposure needs, the whole scan first.

    Exposures are taken to be all of the time of a scan.

    Returns
    -------
    list of dict
        ``projections``, ``exposure``, ``data_factor`` and ``time_factor`` (× N less),
        ``hours``, ``bytes``, and for ``synchrotron`` and ``laboratory`` kilowatt-hours
        and kilograms.
    """
    itemsize = np.dtype(scan.data.dtype).itemsize
    rows = []
    whole = ScanSubset(scan.n_angles)
    cells = all_subsets(config, scan.n_angles)
    for subset in (whole, *_by_light(cells, config, scan.n_angles)):
        count = subset.projections
        share = count / scan.n_angles
        hours = config.scan_hours * light_of(subset, config, scan.n_angles)
        energy = {
            f"{place}_{what}": hours * power * factor
            for place, power in (
                ("synchrotron", config.synchrotron_kilowatts),
                ("laboratory", config.laboratory_kilowatts),
            )
            for what, factor in (
                ("kilowatt_hours", 1.0),
                ("kilograms_co2eq", config.kilograms_per_kilowatt_hour),
            )
        }
        rows.append(
            {
                "projections": count,
                "exposure": subset.exposure,
                "data_factor": 1 / share,
                "time_factor": config.scan_hours / hours,
                "hours": hours,
                "bytes": count * scan.n_rows * scan.n_columns * itemsize,
                **energy,
            }
        )
    return rows


def computing(
    row: AnyDict, config: StudyConfig, judged: float = 1.0
) -> dict[str, float]:
    """Energy and CO2eq of the computer for the whole volume, training included.

    Parameters
    ----------
    judged : float
        Share of the rows that the seconds of the row are for. A network is trained once
        for all rows.
    """
    seconds = row.get("seconds", 0.0) / judged + row.get("training_seconds", 0.0)
    energy = seconds / _HOUR * config.computer_kilowatts
    return {
        "computing_kilowatt_hours": energy,
        "computing_kilograms_co2eq": energy * config.kilograms_per_kilowatt_hour,
    }


def fewest(
    rows: Sequence[AnyDict], config: StudyConfig, n_angles: int
) -> dict[str, int | None]:
    """Fewest projections from which on the porosity is right, by algorithm.

    Right means within the tolerance, at this and at every larger number that was tried,
    with the longest exposure; None where no number will do.

    Parameters
    ----------
    rows : sequence of dict
        Finished cells.
    config : StudyConfig
    n_angles : int
        Projections of the whole scan.
    """
    longest = max(config.exposure)
    found: dict[str, int | None] = {}
    for name, right in _right(rows, config, n_angles).items():
        counts = [subset.projections for subset in right if subset.exposure == longest]
        found[name] = min(counts, default=None)
    return found


def least(
    rows: Sequence[AnyDict], config: StudyConfig, n_angles: int
) -> dict[str, dict[str, float] | None]:
    """Projections and exposure with the least light that give the right porosity.

    Right means within the tolerance, with these and with whatever had as many
    projections and as long an exposure, or more. Of equal light fewer projections.
    A slow continuous scan has as much light with few views as with many.

    Parameters
    ----------
    rows : sequence of dict
        Finished cells.
    config : StudyConfig
    n_angles : int
        Projections of the whole scan.
    """
    found: dict[str, dict[str, float] | None] = {}
    for name, right in _right(rows, config, n_angles).items():
        ordered = _by_light(right, config, n_angles)
        found[name] = asdict(ordered[-1]) if ordered else None
    return found


def _right(
    rows: Sequence[AnyDict], config: StudyConfig, n_angles: int
) -> dict[str, list[ScanSubset]]:
    """What gives the right porosity, and so does all that was tried with more light."""
    found: dict[str, list[ScanSubset]] = {}
    for name in config.algorithms:
        errors = {
            ScanSubset.of(row): row.get("porosity_error")
            for row in rows
            if row["algorithm"] == name and ScanSubset.of(row) != ScanSubset(n_angles)
        }
        wrong = [
            subset
            for subset, error in errors.items()
            if error is None or abs(error) > config.tolerance
        ]
        found[name] = [
            subset
            for subset in errors
            if not any(
                other.projections >= subset.projections
                and other.exposure >= subset.exposure
                for other in wrong
            )
        ]
    return found


def light_of(subset: ScanSubset, config: StudyConfig, n_angles: int) -> float:
    """Light, and so time, as a share of that of the whole scan.

    Parameters
    ----------
    subset : ScanSubset
    config : StudyConfig
    n_angles : int
        Projections of the whole scan.
    """
    # A slow continuous scan has fewer views, but takes as long.
    slow = config.acquisition == "continuous" and config.light == "all"
    return subset.exposure * (1.0 if slow else subset.projections / n_angles)


def _by_light(
    subsets: Sequence[ScanSubset], config: StudyConfig, n_angles: int
) -> list[ScanSubset]:
    """The most light first; of equal light, more projections first."""

    def key(subset: ScanSubset) -> tuple[float, int]:
        return round(light_of(subset, config, n_angles), 9), subset.projections

    return sorted(subsets, key=key, reverse=True)
