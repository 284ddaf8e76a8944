"""Time, energy and CO2eq of a job include all its processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import codecarbon
import pytest

from napari_geosr.core.steps import Step, TrainingProgress, run_to_end
from napari_geosr.learning.energy import Meter
from napari_geosr.models import bundle
from napari_geosr.operations.train import TrainJob, config_class, train_steps

KWH, KG = 1e-3, 2e-4


class Tracker:
    """Replaces codecarbon in a process that uses 1 Wh: 0.4 and then 0.6.

    As codecarbon does, it first reports next to nothing.
    """

    begun: list[Tracker]

    def __init__(self, output_handlers: list[Any], **_settings: Any) -> None:
        self.handlers = output_handlers
        Tracker.begun.append(self)

    def report(self, seconds: float, share: float) -> None:
        total = SimpleNamespace(
            duration=seconds,
            energy_consumed=KWH * share,
            emissions=KG * share,
            country_name="France",
            cpu_model="some processor",
        )
        for handler in self.handlers:
            handler.live_out(total, total)

    def start(self) -> None:
        self.report(0.6, 1e-9)
        self.report(20.0, 0.4)

    def stop(self) -> None:
        self.report(40.0, 1.0)


@pytest.fixture
def trackers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tracker]]:
    Tracker.begun = []
    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", Tracker)
    return Tracker.begun


@pytest.mark.usefixtures("trackers")
def test_processes_add_up_also_one_that_was_killed(tmp_path: Path) -> None:
    kept = tmp_path / "energy.json"
    killed = Meter("FRA")
    killed.resume(kept, 0)
    killed.__enter__()  # and never left
    second = Meter("FRA")
    second.resume(kept, 7)
    with second:
        pass
    figures = second.figures()
    assert figures["kilowatt_hours"] == pytest.approx(1.4 * KWH)
    assert figures["kilograms_co2eq"] == pytest.approx(1.4 * KG)
    assert figures["energy_from_step"] == 0
    assert figures["seconds"] >= round(killed.seconds, 1)
    assert "France" in figures["measured_by"]


@pytest.mark.usefixtures("trackers")
def test_watts_are_those_of_the_last_interval() -> None:
    meter = Meter("FRA")
    assert meter.watts() is None
    with meter:
        assert meter.watts() == pytest.approx(0.4 * KWH * 3.6e6 / 20)
    assert meter.watts() == pytest.approx(0.6 * KWH * 3.6e6 / 20)


@pytest.mark.usefixtures("trackers")
def test_the_first_report_which_measured_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tracker, "start", lambda self: self.report(0.6, 1e-9))
    meter = Meter("FRA")
    with meter:
        assert meter.figures()["kilowatt_hours"] is None
        assert meter.watts() is None
    assert meter.figures()["kilowatt_hours"] == pytest.approx(KWH)


def test_where_codecarbon_says_nothing_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent = SimpleNamespace(start=lambda: None, stop=lambda: None)
    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", lambda **_: silent)
    (tmp_path / "energy.json").write_text("not json")
    meter = Meter("FRA")
    meter.resume(tmp_path / "energy.json", 3)
    with meter:
        pass
    figures = meter.figures()
    assert figures["kilowatt_hours"] is None
    assert figures["energy_from_step"] == 3
    assert "could not start" in figures["measured_by"]
    assert meter.watts() is None


@pytest.mark.parametrize("when", ["made", "start", "stop"])
def test_a_meter_that_fails_ends_no_training(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Unreadable counters, another release of the library, a full disk."""

    def fail(**_: Any) -> None:
        raise PermissionError(13, "Permission denied", "/sys/class/powercap")

    broken = SimpleNamespace(start=lambda: None, stop=lambda: None)
    setattr(broken, when, fail)
    made = fail if when == "made" else (lambda **_: broken)
    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", made)
    meter = Meter("FRA")
    with meter:
        pass
    figures = meter.figures()
    assert figures["kilowatt_hours"] is None
    assert "PermissionError" in figures["measured_by"]


def test_the_card_of_a_resumed_job_counts_all(
    trackers: list[Tracker],
    noisy_pair: Any,
    tmp_path: Path,
) -> None:
    training = config_class("noise2noise").create(
        source=[noisy_pair.first],
        target=[noisy_pair.second],
        name="m",
        steps=4,
        batch_size=2,
        patch=16,
        layers=2,
        width=2,
        device="cpu",
        threads=1,
    )
    job = TrainJob(method="noise2noise", training=training)
    steps: list[Step] = []

    def go(stop: Callable[[], bool]) -> Path | None:
        return run_to_end(
            train_steps(job, tmp_path / "job", should_stop=stop), steps.append
        )

    asked = iter([False, False, True])
    assert go(lambda: next(asked)) is None
    path = go(lambda: False)
    assert path is not None
    assert len(trackers) == 2
    card = bundle.read_card(path)
    record = card.provenance["training"]
    assert record["kilowatt_hours"] == pytest.approx(2 * KWH)
    assert record["energy_from_step"] == 0
    # Both are rounded, the first to a tenth of a second.
    assert record["seconds"] >= record["training_seconds"] - 0.05
    watts = [s.watts for s in steps if isinstance(s, TrainingProgress)]
    assert watts
    assert watts[-1] == pytest.approx(0.4 * KWH * 3.6e6 / 20)
