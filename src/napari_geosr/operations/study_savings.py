"""What fewer projections save: time, data, energy and CO2eq.

The published figures are an hour at the ESRF = 300 kWh, about 18 kg CO2eq, and an hour
of a laboratory scanner = 5 kWh, about 0.3 kg; both are 0.06 kg per kilowatt-hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.core.projections import Projections
from napari_geosr.operations.study_config import StudyConfig

_HOUR = 3600.0


def savings(scan: Projections, config: StudyConfig) -> list[dict[str, Any]]:
    """What each number of projections needs, the whole scan first.

    Returns
    -------
    list of dict
        ``projections``, ``factor`` (of time and data: × N less), ``hours``, ``bytes``,
        and for ``synchrotron`` and ``laboratory`` kilowatt-hours and kilograms.
    """
    itemsize = np.dtype(scan.data.dtype).itemsize
    rows = []
    for count in (scan.n_angles, *sorted(config.counts, reverse=True)):
        share = count / scan.n_angles
        # A slow continuous scan has fewer views, but takes as long.
        slow = config.acquisition == "continuous" and config.light == "all"
        hours = config.scan_hours * (1.0 if slow else share)
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
                "data_factor": 1 / share,
                "time_factor": config.scan_hours / hours,
                "hours": hours,
                "bytes": count * scan.n_rows * scan.n_columns * itemsize,
                **energy,
            }
        )
    return rows


def computing(
    row: dict[str, Any], config: StudyConfig, judged: float = 1.0
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
    rows: Sequence[dict[str, Any]], config: StudyConfig, n_angles: int
) -> dict[str, int | None]:
    """Fewest projections from which on the porosity is right, by algorithm.

    Right means within the tolerance, at this and at every larger number that was tried;
    None where no number will do.
    """
    found: dict[str, int | None] = {}
    for name in config.algorithms:
        found[name] = None
        mine = {r["projections"]: r for r in rows if r["algorithm"] == name}
        for count in sorted((c for c in mine if c < n_angles), reverse=True):
            error = mine[count].get("porosity_error")
            if error is None or abs(error) > config.tolerance:
                break
            found[name] = count
    return found
