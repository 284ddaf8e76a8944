"""Small restorations in many tiles that are held in the middle of a run."""

from __future__ import annotations

import threading
import time

import pytest

from napari_geosr.core.steps import Step, StepIterator, TileDone
from napari_geosr.inference import compute
from napari_geosr.operations import restore as operation

#: A scan of some tiles, with the speed of a slow machine.
SHAPE = (48, 64, 64)


def many_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make networks so slow that even a small scan has many tiles."""
    monkeypatch.setattr(compute, "known_speed", lambda *_: 4e-5)
    monkeypatch.setattr(compute, "seconds_per_voxel", lambda *_: 4e-5)


def hold_runs(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Make runs wait after two tiles until they are stopped.

    Returns
    -------
    threading.Event
        Lets them continue when set.
    """
    many_tiles(monkeypatch)
    run, goes_on = operation.run_steps, threading.Event()

    def held(*args, should_stop, **more):
        done = 0
        with StepIterator(run(*args, should_stop=should_stop, **more)) as steps:
            for step in steps:
                yield step
                done += isinstance(step, TileDone)
                while done >= 2 and not (should_stop() or goes_on.is_set()):
                    time.sleep(0.01)
                    yield Step()  # bundles are sent with the next step
        return steps.result

    monkeypatch.setattr(operation, "run_steps", held)
    return goes_on
