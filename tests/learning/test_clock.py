"""Previews never take more than 5 % of the time, from the first one on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_geosr.core.steps import CheckpointSaved, PreviewReady, TrainingProgress
from napari_geosr.learning.training import clock as clock_module
from napari_geosr.learning.training import trainer as trainer_module


class Time:
    """A clock that advances when it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("preview", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("file", [0.0, 0.1])
def test_previews_keep_to_their_share_at_every_moment(
    build_trainer: Any,
    monkeypatch: pytest.MonkeyPatch,
    preview: float,
    file: float,
) -> None:
    time = Time()
    monkeypatch.setattr(clock_module, "time", time)
    monkeypatch.setattr(trainer_module, "time", time)
    trainer = build_trainer("pix2pix", layers=1, width=2, critic_width=2, steps=400)

    def step() -> dict[str, float]:
        time.now += 0.25
        trainer.step += 1
        return {"loss": 1.0}

    def shown(_network: Any) -> Any:
        time.now += preview
        return "a volume"

    trainer._one_step, trainer.preview = step, shown
    trainer._validate = lambda: 0.0
    taken, began, last = 0.0, None, 0.0
    moments = []
    for event in trainer.run():
        if not isinstance(event, PreviewReady):
            continue
        time.now += file  # the time to write it to a file
        if began is None:
            assert event.done == 0  # before the first step
            began = time.now
            continue
        if event.done < 400:
            assert time.now - last >= 3.0
        last = time.now
        taken += preview + file
        moments.append(event.done)
        assert taken <= 0.05 * (time.now - began)
    assert moments[-1] == 400
    assert len(moments) >= (2 if preview < 1 else 1)


def test_the_time_left_is_right_from_the_first_twentieth_on(
    build_trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within 20 %, including previews, validation and a slow first step."""
    time = Time()
    monkeypatch.setattr(clock_module, "time", time)
    monkeypatch.setattr(trainer_module, "time", time)
    trainer = build_trainer("noise2noise", layers=1, width=2, steps=1000)
    jitter = np.random.default_rng(0).uniform(0.15, 0.35, 1001)

    def step() -> dict[str, float]:
        trainer.step += 1
        time.now += jitter[trainer.step] + (1.0 if trainer.step == 1 else 0.0)
        return {"loss": 1.0}

    def validate() -> float:
        time.now += 0.4
        return 0.0

    def shown(_network: Any) -> Any:
        time.now += 0.3
        return "a volume"

    trainer._one_step, trainer.preview, trainer._validate = step, shown, validate
    said = [
        (event.done, time.now, event.seconds_left)
        for event in trainer.run()
        if isinstance(event, TrainingProgress)
    ]
    late = [each for each in said if 50 <= each[0] < 1000]
    assert late[0][0] < 60
    for done, now, left in late:
        # A step is reported with a delay of at most one preview.
        assert left == pytest.approx(time.now - now, rel=0.2, abs=1.0), done


def test_the_time_left_does_not_include_a_slow_first_step() -> None:
    clock = clock_module.Clock(step=10, steps=110, batch_size=1)
    reports = [clock.report(clock.began + t, n, 1e-3, 0, None) for t, n in STEPS]
    assert [round(report.seconds_left) for report in reports[1:]] == [98, 90]


#: Seconds since the start, and the number of the step: the first one takes a minute.
STEPS = ((60.0, 11), (61.0, 12), (69.0, 20))


@pytest.mark.parametrize("step", [0.3, 7.0])
def test_a_crash_costs_half_a_minute_of_work(
    build_trainer: Any, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    time = Time()
    monkeypatch.setattr(clock_module, "time", time)
    monkeypatch.setattr(trainer_module, "time", time)
    usual = type(build_trainer("noise2noise").config)().checkpoint_seconds
    trainer = build_trainer(
        "noise2noise", layers=1, width=2, steps=300, checkpoint_seconds=usual
    )

    def one_step() -> dict[str, float]:
        trainer.step += 1
        time.now += step
        return {"loss": 1.0}

    trainer._one_step, trainer._validate = one_step, lambda: 0.0
    trainer.preview, trainer.save = None, lambda: "a file"
    saved = [time.now for event in trainer.run() if isinstance(event, CheckpointSaved)]
    lost = np.diff([100.0, *saved])
    assert usual <= 30
    assert max(lost) <= usual + step
    assert saved[-1] == time.now


def test_a_finished_training_begins_no_preview_anew(build_trainer: Any) -> None:
    trainer = build_trainer("pix2pix", layers=1, width=2, critic_width=2, steps=2)
    trainer.preview = lambda _network: "a volume"
    first = [s.done for s in trainer.run() if isinstance(s, PreviewReady)]
    again = [s.done for s in trainer.run() if isinstance(s, PreviewReady)]
    assert first == [0, 2]
    assert again == [2]
