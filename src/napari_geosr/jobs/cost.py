"""Energy and CO2eq of a job, measured or estimated from its CPU time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.machine.heartbeats import Heartbeats
from napari_geosr.core.text.counts import in_largest_unit
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.jobs import facts as reading
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.folder import JobStatus
from napari_geosr.operations.cluster.processor_time import WORKER_TIME

#: File in the folder of a training job with the energy that codecarbon has measured.
_MEASURED = "energy.json"
#: Folder in a job folder with the CPU times of all processes of the job but the first.
_TIMES = "processor_time"
#: Seconds between updates of a file in this folder.
_INTERVAL_SECONDS = 5.0
_JOULES_PER_KILOWATT_HOUR = 3.6e6


@dataclass(frozen=True)
class JobCost:
    """Energy and emissions of all runs of a job.

    Attributes
    ----------
    kilowatt_hours, kilograms_co2eq : float
    basis : str
        Sentence that states how the values were determined.
    is_measured : bool
        Whether the values were measured rather than estimated.
    """

    kilowatt_hours: float
    kilograms_co2eq: float
    basis: str
    is_measured: bool = False

    @property
    def text(self) -> str:
        """Energy and emissions as text, such as "about 0.012 kWh, 0.7 g CO₂eq"."""
        about = "" if self.is_measured else "about "
        energy = in_largest_unit(self.kilowatt_hours, ("kWh", "Wh", "mWh"), 0.01)
        mass = in_largest_unit(self.kilograms_co2eq, ("kg", "g", "mg"))
        return f"{about}{energy}, {mass} CO₂eq"


class ProcessorTime:
    """CPU time of a job: of this process, its child processes and its workers.

    Parameters
    ----------
    before : float
        CPU time of earlier runs of the job, in seconds.
    folder : Path, optional
        Folder of a job with several processes, all of which are included.
    """

    def __init__(self, before: float = 0.0, folder: Path | None = None) -> None:
        self._folder = folder
        self._offset = before - self._used()

    @property
    def seconds(self) -> float:
        """CPU time of all runs so far."""
        return max(0.0, self._offset + self._used())

    def _used(self) -> float:
        others = () if self._folder is None else self._folder.glob(f"{_TIMES}/*.json")
        used = _used_seconds() + WORKER_TIME.seconds
        return used + sum(map(_recorded_seconds, others))


@contextmanager
def recorded_time(folder: Path) -> Iterator[None]:
    """Record the CPU time of a process other than the first of a job.

    Parameters
    ----------
    folder : Path
        Folder of the job, in which the first process finds the record.
    """
    path = folder / _TIMES / f"{os.environ.get('RANK', '0')}.json"
    time = ProcessorTime(_recorded_seconds(path))

    def record() -> None:
        with suppress(FileError, OSError):
            path.parent.mkdir(exist_ok=True)
            text = json.dumps({"processor_seconds": round(time.seconds, 2)})
            atomic.write_text(path, text, overwrite=True, durable=False)

    with Heartbeats(record, _INTERVAL_SECONDS, "CPU time"):
        yield


def _recorded_seconds(path: Path) -> float:
    try:
        return reading.number(reading.read_mapping(path).get("processor_seconds"))
    except (OSError, ValueError):
        return 0.0


def cost_of(status: JobStatus) -> JobCost | None:
    """Return the cost of a job so far; None if it has used no CPU time."""
    if (measured := _measured(status)) is not None:
        return measured
    seconds = status.processor_seconds
    if not seconds:
        return None
    profile = _profile_of(status)
    energy = seconds * profile.watts_per_core / _JOULES_PER_KILOWATT_HOUR
    basis = (
        f"Estimated from {seconds / 3600:.2g} h of CPU time, with "
        f"{profile.watts_per_core:g} W for each core and "
        f"{profile.grams_per_kilowatt_hour:g} g CO₂eq for each kWh "
        "(watts_per_core and grams_per_kilowatt_hour in the profile of the job). GPUs "
        "are not included."
    )
    return JobCost(energy, energy * profile.grams_per_kilowatt_hour / 1000, basis)


def _measured(status: JobStatus) -> JobCost | None:
    try:
        sums = reading.read_mapping(status.path / _MEASURED)
    except (OSError, ValueError):
        return None
    energy = reading.number(sums.get("kilowatt_hours"))
    carbon = reading.number(sums.get("kilograms_co2eq"))
    if not energy:
        return None
    return JobCost(energy, carbon, "Measured by codecarbon.", is_measured=True)


def _profile_of(status: JobStatus) -> Profile:
    """Return the profile of the last submission; the default one if there was none."""
    try:
        record = queue_record.read_record(status.path)
        return Profile.from_mapping(record.profile)
    # The record is damaged, or unreadable at the moment.
    except (ConfigError, FileError):
        return Profile()


def _used_seconds() -> float:
    """Return the CPU time of this process and its live and ended children."""
    process, total = psutil.Process(), 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += sum(each.cpu_times()[:4])
    return total
