"""One operation at a time: requests, keys of failures, and the next operation."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QObject

from napari_geosr.core.errors import EngineError
from napari_geosr.core.steps import StageStarted, TileDone, WarningIssued
from napari_geosr.gui.kit import activity as activity_module
from napari_geosr.gui.kit.activity import PREVIEW, Activity


def count_to(n):
    """Steps of a small operation that returns the number of steps."""

    def steps(should_stop):
        yield StageStarted(message="Counting")
        for i in range(n):
            if should_stop():
                return None
            yield TileDone(done=i + 1, total=n)
        yield WarningIssued(message="enough")
        return n

    return steps


def endless(should_stop):
    """Steps until the operation is cancelled."""
    while not should_stop():
        yield StageStarted(message="Waiting")


def broken(_should_stop):
    """An operation that fails."""
    yield StageStarted(message="Breaking")
    raise EngineError("It broke.")


class Cooking(Activity):
    """Bakes on request, and tastes while tasting is switched on."""

    _debounce_ms = 30

    def __init__(self, parent):
        super().__init__(parent)
        self.setting = 0
        self.steps = endless
        self.started = []

    def wish(self, what):
        self._request_operation(what)

    def unwish(self, what):
        self._requests.discard(what)

    def wishes(self):
        return set(self._requests)

    def set(self, setting):
        self.setting = setting
        self._restart_later()

    def _cancel_if_outdated(self):
        if self._busy == PREVIEW and self._attempted_key != (self.setting,):
            self.cancel(keep_requests=True)

    def _start_next(self):
        key = (self.setting,)
        if key == self._failed_key:
            return
        self._attempted_key = key
        for what in ("bake", PREVIEW):
            if what in self._requests:
                self.started.append((what, self.setting))
                self.start(what, self.steps)
                return


@pytest.fixture
def owner(qtbot):
    parent = QObject()
    yield parent
    parent.deleteLater()


def ended(qtbot, activity):
    qtbot.waitUntil(lambda: activity.busy == "", timeout=10_000)


def test_an_operation_tells_what_it_does_and_gives_its_result(owner, qtbot):
    activity = Activity(owner)
    told, results = [], []
    activity.busyChanged.connect(lambda what: told.append(("busy", what)))
    activity.progressed.connect(lambda *said: told.append(said))
    activity.warned.connect(lambda text: told.append(("warned", text)))
    activity.idle.connect(lambda: told.append("idle"))
    activity.start("count", count_to(2), results.append)
    assert activity.busy == "count"
    ended(qtbot, activity)
    assert results == [2]
    assert told == [
        ("busy", "count"),
        ("Counting", 0, 0),
        ("", 1, 2),
        ("", 2, 2),
        ("warned", "enough"),
        ("busy", ""),
        "idle",
    ]


def test_nothing_else_starts_while_something_runs(owner, qtbot):
    activity = Activity(owner)
    activity.start("wait", endless)
    with pytest.raises(EngineError, match="while 'wait' is running"):
        activity.start("count", count_to(1))
    activity.cancel()
    ended(qtbot, activity)
    activity.start("count", count_to(1))
    ended(qtbot, activity)


def test_what_cannot_be_started_leaves_nothing_busy(owner, qtbot, monkeypatch):
    activity, told = Activity(owner), []
    activity.busyChanged.connect(told.append)

    def fail(*_args, **_options):
        raise OSError("no thread")

    with monkeypatch.context() as context:
        context.setattr(activity_module, "BackgroundTask", fail)
        with pytest.raises(OSError, match="no thread"):
            activity.start("count", count_to(1))
    assert activity.busy == ""
    assert told == []
    activity.start("count", count_to(1))
    ended(qtbot, activity)


def test_a_cancelled_operation_is_no_failure(owner, qtbot):
    activity, failed = Activity(owner), []
    activity.failed.connect(failed.append)
    activity.start("wait", endless)
    activity.cancel()
    ended(qtbot, activity)
    assert failed == []


def test_a_callback_of_its_own_gets_also_that_it_was_cancelled(owner, qtbot):
    activity, told, failed = Activity(owner), [], []
    activity.failed.connect(failed.append)
    activity.start("wait", endless, on_error=told.append)
    activity.cancel()
    ended(qtbot, activity)
    assert [str(error) for error in told] == ["Cancelled."]
    assert failed == []


def test_what_fails_is_not_tried_again_until_something_changes(owner, qtbot):
    cook, failed = Cooking(owner), []
    cook.steps = broken
    cook.failed.connect(failed.append)
    cook.wish("bake")
    qtbot.waitUntil(lambda: len(failed) == 1, timeout=10_000)
    assert str(failed[0]) == "It broke."
    assert cook.wishes() == set()
    cook._requests.add("bake")  # without requesting another attempt
    qtbot.wait(100)
    assert cook.started == [("bake", 0)]
    cook.set(1)
    qtbot.waitUntil(lambda: len(failed) == 2, timeout=10_000)
    assert cook.started == [("bake", 0), ("bake", 1)]
    cook.wish("bake")  # the user tries again
    qtbot.waitUntil(lambda: len(failed) == 3, timeout=10_000)


def test_the_latest_setting_wins_over_a_preview_that_runs(owner, qtbot):
    cook = Cooking(owner)
    cook.wish(PREVIEW)
    qtbot.waitUntil(lambda: cook.busy == PREVIEW, timeout=10_000)
    for setting in (1, 2, 3):  # quicker than a preview starts
        cook.set(setting)
    qtbot.waitUntil(lambda: len(cook.started) == 2, timeout=10_000)
    assert cook.started == [(PREVIEW, 0), (PREVIEW, 3)]
    cook.unwish(PREVIEW)
    cook.cancel()
    ended(qtbot, cook)


def test_cancel_takes_back_wishes_but_for_a_preview(owner, qtbot):
    cook = Cooking(owner)
    cook.wish("bake")
    cook.wish(PREVIEW)
    qtbot.waitUntil(lambda: cook.busy == "bake", timeout=10_000)
    cook.cancel()
    assert cook.wishes() == {PREVIEW}
    ended(qtbot, cook)
    qtbot.wait(100)
    assert cook.started == [("bake", 0)]  # a cancelled operation is not started again
    cook.set(1)
    qtbot.waitUntil(lambda: cook.busy == PREVIEW, timeout=10_000)
    cook.unwish(PREVIEW)
    cook.cancel()
    ended(qtbot, cook)
