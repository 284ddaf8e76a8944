"""The result of a study: its rows, and the savings from fewer projections.

The published values are 300 kWh and about 18 kg CO2eq for one hour at the ESRF, and 5
kWh and about 0.3 kg for one hour on a laboratory scanner. Both correspond to 0.06 kg
per kWh.
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
    """A cell has been evaluated; `row` contains its values."""

    row: AnyDict = field(default_factory=dict)


@dataclass(frozen=True)
class StudySummary:
    """A study: its rows, reference and files.

    Attributes
    ----------
    rows : list of dict
        One row per cell, by number of projections and exposure, starting with the whole
        scan.
    reference : dict
        Values of the ground truth, or of the full reconstruction.
    savings : list of dict
        Resources for each number of projections and exposure.
    fewest : dict
        Minimum number of projections, with the longest exposure, that gives the correct
        porosity, by algorithm.
    least : dict
        By algorithm, the ``projections`` and ``exposure`` with the fewest photons that
        give the correct porosity; None if there is no such combination.
    files : dict of Path
        ``csv``, ``json``, ``html``.
    warnings : tuple of str
        Remarks for interpreting the results.
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
    """Return the resources for each number of projections and exposure.

    The duration of a scan is assumed to consist of exposures only.

    Returns
    -------
    list of dict
        ``projections``, ``exposure``, ``data_factor`` and ``time_factor`` (reduction by
        a factor of N), ``hours``, ``bytes``, and for ``synchrotron`` and ``laboratory``
        kilowatt-hours and kilograms of CO2eq.
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
    """Return energy and CO2eq for computing the whole volume, including training.

    Parameters
    ----------
    judged : float
        Fraction of the detector rows that were reconstructed in the stated seconds. A
        network is trained once for all rows.
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
    """Find the smallest number of projections for the correct porosity, by algorithm.

    The error must be within the tolerance for this number and all larger numbers tried,
    with the longest exposure. The result is None if no number is sufficient.

    Parameters
    ----------
    rows : sequence of dict
        Finished cells.
    config : StudyConfig
    n_angles : int
        Number of projections of the whole scan.
    """
    longest = max(config.exposure)
    found: dict[str, int | None] = {}
    for name, right in _sufficient_subsets(rows, config, n_angles).items():
        counts = [subset.projections for subset in right if subset.exposure == longest]
        found[name] = min(counts, default=None)
    return found


def least_light(
    rows: Sequence[AnyDict], config: StudyConfig, n_angles: int
) -> dict[str, dict[str, float] | None]:
    """Find the subset with the fewest photons that gives the correct porosity.

    The error must be within the tolerance for this combination and all others with at
    least as many projections and at least as long an exposure. If the number of photons
    is the same, fewer projections are preferred. A slow continuous scan has as many
    photons with few projections as with many.

    Parameters
    ----------
    rows : sequence of dict
        Finished cells.
    config : StudyConfig
    n_angles : int
        Number of projections of the whole scan.
    """
    found: dict[str, dict[str, float] | None] = {}
    for name, right in _sufficient_subsets(rows, config, n_angles).items():
        ordered = _by_light(right, config, n_angles)
        found[name] = asdict(ordered[-1]) if ordered else None
    return found


def _sufficient_subsets(
    rows: Sequence[AnyDict], config: StudyConfig, n_angles: int
) -> dict[str, list[ScanSubset]]:
    """Find subsets that, like all larger subsets, give the correct porosity."""
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
    """Return the number of photons, and thus the scan time, relative to the whole scan.

    Parameters
    ----------
    subset : ScanSubset
    config : StudyConfig
    n_angles : int
        Number of projections of the whole scan.
    """
    # A slow continuous scan takes the same time for any number of projections.
    slow = config.acquisition == "continuous" and config.light == "all"
    return subset.exposure * (1.0 if slow else subset.projections / n_angles)


def _by_light(
    subsets: Sequence[ScanSubset], config: StudyConfig, n_angles: int
) -> list[ScanSubset]:
    """Sort subsets by number of photons, then by number of projections.

    The largest numbers come first.
    """

    def key(subset: ScanSubset) -> tuple[float, int]:
        return round(light_of(subset, config, n_angles), 9), subset.projections

    return sorted(subsets, key=key, reverse=True)
