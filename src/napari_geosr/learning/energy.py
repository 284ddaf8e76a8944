"""Time, energy and CO2eq of a training, estimated offline by codecarbon."""

from __future__ import annotations

import importlib.util
import json
import logging
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

#: Where codecarbon keeps what it knows of each country's electricity.
_COUNTRIES = "data/private_infra/global_energy_mix.json"


@cache
def known_countries() -> dict[str, str]:
    """Names of the countries that codecarbon knows offline, by ISO code of 3 letters.

    Reads its table without importing it, which takes seconds; empty where it is not
    installed or keeps its table elsewhere.
    """
    found = importlib.util.find_spec("codecarbon")
    if found is None or not found.submodule_search_locations:
        return {}
    path = Path(found.submodule_search_locations[0]) / _COUNTRIES
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {
        code: str(facts.get("country_name", code))
        for code, facts in table.items()
        if len(code) == 3 and isinstance(facts, dict)
    }


class Meter:
    """Measures from entering to leaving; figures are None where nothing is known.

    codecarbon reads the counters of the processor and the GPU where it may, else it
    estimates from the model's name; nothing is sent anywhere.

    Parameters
    ----------
    country : str
        ISO code of three letters, for the CO2eq of a kilowatt-hour.
    """

    def __init__(self, country: str) -> None:
        self.country = country
        self.seconds = 0.0
        self.kilowatt_hours: float | None = None
        self.kilograms_co2eq: float | None = None
        self.method = "not measured"
        self._tracker: Any = None
        self._began = 0.0

    def __enter__(self) -> Meter:
        self._began = time.monotonic()
        try:
            from codecarbon import OfflineEmissionsTracker
        except ImportError:
            self.method = "not measured: codecarbon is not installed"
            return self
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            # Where warnings are errors, it would be left without half of its parts.
            warnings.simplefilter("ignore")
            self._tracker = OfflineEmissionsTracker(
                country_iso_code=self.country,
                save_to_file=False,
                log_level="critical",
                measure_power_secs=15,
                allow_multiple_runs=True,
            )
            self._tracker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.monotonic() - self._began
        if self._tracker is None:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.kilograms_co2eq = self._tracker.stop()
        # It swallows its own errors.
        data = getattr(self._tracker, "final_emissions_data", None)
        if data is None:
            self.method = "not measured: codecarbon could not begin"
            return
        self.kilowatt_hours = float(data.energy_consumed)
        self.method = f"codecarbon, {data.country_name}, {data.cpu_model}"

    def figures(self) -> dict[str, Any]:
        """What the card keeps."""
        return {
            "seconds": round(self.seconds, 1),
            "kilowatt_hours": self.kilowatt_hours,
            "kilograms_co2eq": self.kilograms_co2eq,
            "country": self.country,
            "measured_by": self.method,
        }
