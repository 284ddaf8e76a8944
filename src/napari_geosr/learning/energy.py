"""Measure time, energy and CO2eq of a training run offline, with codecarbon."""

from __future__ import annotations

import importlib.util
import json
import logging
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.types import AnyDict
from napari_geosr.io.unfinished_files import atomic

#: Path of codecarbon's table of countries and their electricity mix.
_COUNTRIES = "data/private_infra/global_energy_mix.json"
#: Seconds between two measurements.
_INTERVAL_SECONDS = 15
#: Text on the card if nothing was measured.
_NOT_MEASURED = "not measured"
#: Joules per kilowatt-hour.
_JOULES_PER_KILOWATT_HOUR = 3.6e6


@cache
def known_countries() -> dict[str, str]:
    """Return the countries that codecarbon knows offline, by three-letter ISO code.

    The table is read without importing codecarbon, because the import takes seconds.
    The result is empty if codecarbon is not installed or stores its table elsewhere.
    """
    spec = importlib.util.find_spec("codecarbon")
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(spec.submodule_search_locations[0]) / _COUNTRIES
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
    """Context manager that measures the energy of a training run.

    codecarbon reads the energy counters of processor and GPU if it has access;
    otherwise it estimates the energy from their model names. No data are sent
    over the network.

    Parameters
    ----------
    country : str
        Three-letter ISO code; determines the CO2eq per kilowatt-hour.
    """

    def __init__(self, country: str) -> None:
        self.country = country
        self.method = _NOT_MEASURED
        self._path: Path | None = None
        self._before = self._sums = _EnergySums()
        self._tracker: Any = None
        self._began = 0.0
        self._watts: float | None = None
        #: Time of codecarbon's last report in seconds, and the kilowatt-hours up to
        #: then.
        self._last: tuple[float, float] | None = None

    def resume(self, path: Path, step: int) -> None:
        """Add to the time and energy of earlier processes of the same job.

        Parameters
        ----------
        path : Path
            File with the sums; updated regularly, so that processes that are killed
            count as well.
        step : int
            Training step at which this process starts.
        """
        self._path = path
        self._before = self._sums = _read_sums(path) or _EnergySums(first_step=step)

    def __enter__(self) -> Meter:
        self._began = time.monotonic()
        try:
            self._tracker = self._start()
        except ImportError:
            self.method = "not measured: codecarbon is not installed"
        except Exception as error:  # noqa: BLE001  # must not stop the training
            self.method = _failure_text(error)
        return self

    def _start(self) -> Any:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput

        meter = self

        class Listener(BaseOutput):
            def live_out(self, total: Any, delta: object) -> None:
                # The first report comes immediately, before power has been measured.
                if total.duration > _INTERVAL_SECONDS / 2:
                    meter._record_total(total)

            def out(self, total: object, delta: object) -> None:
                meter._record_total(total)

        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            # Warnings that are treated as errors would make the tracker fail.
            warnings.simplefilter("ignore")
            tracker = OfflineEmissionsTracker(
                country_iso_code=self.country,
                save_to_file=False,
                output_handlers=[Listener()],
                log_level="critical",
                measure_power_secs=_INTERVAL_SECONDS,
                api_call_interval=1,
                allow_multiple_runs=True,
            )
            tracker.start()
        return tracker

    def __exit__(self, *exc: object) -> None:
        if self._tracker is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    self._tracker.stop()
                except Exception as error:  # noqa: BLE001  # must not lose the model
                    self.method = _failure_text(error)
            # codecarbon suppresses most of its own errors.
            if self._last is None and self.method == _NOT_MEASURED:
                self.method = "not measured: codecarbon could not start"
        self._add(None, None)

    def _record_total(self, total: Any) -> None:
        """Add the energy that codecarbon has measured since this process started."""
        now, energy = float(total.duration), float(total.energy_consumed)
        then, before = self._last or (0.0, 0.0)
        if now > then:
            self._watts = (energy - before) * _JOULES_PER_KILOWATT_HOUR / (now - then)
            self._last = now, energy
        self.method = f"codecarbon, {total.country_name}, {total.cpu_model}"
        self._add(energy, float(total.emissions))

    def _add(self, energy: float | None, carbon: float | None) -> None:
        """Update the sums; without new values, the last ones are kept."""
        before, now = self._before, self._sums
        self._sums = _EnergySums(
            before.first_step,
            before.seconds + time.monotonic() - self._began,
            _sum(before.kilowatt_hours, energy, now.kilowatt_hours),
            _sum(before.kilograms_co2eq, carbon, now.kilograms_co2eq),
        )
        if self._path is not None:
            # If the disk is full, training itself raises the error.
            with suppress(GeoSRError):
                text = json.dumps(asdict(self._sums))
                atomic.write_text(self._path, text, overwrite=True)

    @property
    def seconds(self) -> float:
        """Total measured time of all processes of the job, in seconds."""
        return self._sums.seconds

    def watts(self) -> float | None:
        """Return the mean power between the last two measurements, or None."""
        return self._watts

    def figures(self) -> AnyDict:
        """Return the values for the card: sums over all processes of the job."""
        return {
            "seconds": round(self._sums.seconds, 1),
            "kilowatt_hours": self._sums.kilowatt_hours,
            "kilograms_co2eq": self._sums.kilograms_co2eq,
            # For jobs started by an earlier release, the energy of the first steps is
            # unknown.
            "energy_from_step": self._sums.first_step,
            "country": self.country,
            "measured_by": self.method,
        }


@dataclass(frozen=True)
class _EnergySums:
    """Time and energy of a job since `first_step`."""

    first_step: int = 0
    seconds: float = 0.0
    kilowatt_hours: float | None = None
    kilograms_co2eq: float | None = None


def _failure_text(error: Exception) -> str:
    """Return the text for the card if codecarbon fails; training is not stopped."""
    return f"not measured: codecarbon failed ({type(error).__name__}: {error})"


def _read_sums(path: Path | None) -> _EnergySums | None:
    """Return the summed time and energy of earlier processes; None if unreadable."""
    if path is None:
        return None
    try:
        return _EnergySums(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _sum(before: float | None, more: float | None, now: float | None) -> float | None:
    return now if more is None else (before or 0.0) + more
