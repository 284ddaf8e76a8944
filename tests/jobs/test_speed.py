"""The time left of a job depends on its latest tiles only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_geosr.core.steps import IterationDone, StageStarted, Step, TileDone
from napari_geosr.jobs import speed
from napari_geosr.jobs.folder import JobFolder


def times_left(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: Sequence[tuple[float, Step]],
) -> list[float | None]:
    """Return the recorded times left for steps at these times."""
    job = JobFolder.create(folder / "job", {"operation": "restore"}, name="job")
    times = iter([now for now, _ in steps])
    monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: next(times)))
    known = speed.Speed()
    for _, step in steps:
        known.record(job, step)
    return [event["seconds_left"] for event in job.events()[0]]


def test_warm_up_and_slow_first_tiles_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiles = [(100.0, TileDone(1, 100)), (200.0, TileDone(2, 100))]
    tiles += [(200.0 + 10 * n, TileDone(2 + n, 100)) for n in range(1, 11)]
    left = times_left(tmp_path, monkeypatch, tiles)
    assert left[:2] == [None, 9800.0]
    assert left[-1] == 880.0


def test_an_earlier_stage_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last tile may be so recent that the first one of the next is not recorded."""
    tiles = [(0.0, TileDone(1, 3)), (1000.0, TileDone(2, 3)), (1000.5, TileDone(3, 3))]
    tiles += [(1001.0 + 2 * n, TileDone(n, 50)) for n in range(1, 6)]
    assert times_left(tmp_path, monkeypatch, tiles)[-1] == 94.0


def test_steps_of_different_kinds_may_alternate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[float, Step]] = []
    for n in range(1, 4):
        steps += [(60.0 * n + i, IterationDone(i, 50)) for i in (10, 20, 30)]
        steps += [(60.0 * n + 40, TileDone(n, 10))]
    assert times_left(tmp_path, monkeypatch, steps)[-1] == 420.0


def test_a_prediction_after_the_first_tile_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[float, Step]] = [(10.0, TileDone(1, 50))]
    steps += [(300.0, StageStarted(1, 50, message="Restoring"))]
    steps += [(300.0 + 2 * n, TileDone(1 + n, 50)) for n in range(1, 6)]
    left = times_left(tmp_path, monkeypatch, steps)
    assert left == [None, 96.0, 90.0]
