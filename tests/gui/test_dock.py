"""Features of all docks: remembered settings, visible errors, connections."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from napari.components import ViewerModel
from napari.utils.events import EmitterGroup, Event
from pydantic import Field
from qtpy.QtWidgets import QFileDialog

from napari_geosr.core.config import Config
from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.kit import dock as _dock
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.progress import RemainingTime
from napari_geosr.gui.kit.remembered import settings_path
from napari_geosr.gui.kit.widgets import FolderRow, SentenceLabel


class Settings(Config):
    """Settings of a dock."""

    size: int = Field(3, title="Size", description="How large.")


class SmallDock(Dock):
    """A dock that records its calls."""

    settings_name = "small"

    def __init__(self, viewer):
        super().__init__(viewer)
        self.told = []

    def show_busy(self, what):
        self.told.append(what)

    def on_event(self, event):
        self.told.append(event.value)


class Proxy:
    """A proxy of the viewer, as napari passes it to plugins."""

    def __init__(self, wrapped):
        self.__wrapped__ = wrapped


@pytest.fixture
def dock(qtbot):
    made = SmallDock(ViewerModel())
    qtbot.addWidget(made)
    return made


def test_a_dock_has_the_viewer_itself(qtbot):
    viewer = ViewerModel()
    made = SmallDock(Proxy(viewer))
    qtbot.addWidget(made)
    assert made._viewer is viewer


def test_settings_come_back_by_the_name_of_the_dock(dock):
    assert dock.recall(Settings) == (Settings(), None)
    dock.remember(Settings(size=5))
    dock.remember(Settings(size=7), "fine")
    assert dock.recall(Settings)[0].size == 5
    assert dock.recall(Settings, "fine")[0].size == 7
    assert settings_path("small").is_file()
    assert settings_path("small_fine").is_file()


def test_damaged_settings_give_defaults_and_say_why(dock):
    dock.remember(Settings(size=5))
    settings_path("small").write_text("size: many")
    config, error = dock.recall(Settings)
    assert config == Settings()
    assert "size" in str(error)


def test_what_runs_is_shown_and_an_error_as_well(dock, qtbot):
    def steps(_should_stop):
        yield from ()
        raise GeoSRError("No room.")

    dock.show()
    dock.message.setParent(dock)
    dock.activity.start("work", steps)
    qtbot.waitUntil(lambda: dock.told == ["work", ""], timeout=10_000)
    assert "No room." in dock.message.text


def test_an_error_of_a_hidden_dock_is_seen_in_the_window(dock, monkeypatch):
    shown = []
    monkeypatch.setattr(_dock, "show_error", lambda error, _parent: shown.append(error))
    error = GeoSRError("No room.")
    dock.show_failure(error)
    assert shown == [error]
    dock.show()
    dock.show_failure(error)
    assert shown == [error]


def test_connections_end_with_the_dock(qtbot):
    events, told = EmitterGroup(moved=Event), []
    dock = SmallDock(ViewerModel())
    dock.told = told
    dock.connections.connect(events.moved, dock.on_event)
    events.moved(value=1)
    dock.deleteLater()
    qtbot.wait(20)
    del dock
    gc.collect()
    events.moved(value=2)
    assert told == [1]


def test_a_folder_is_chosen_by_its_button(qtbot, monkeypatch, tmp_path):
    row = FolderRow("pairs")
    qtbot.addWidget(row)
    assert row.path.name == "pairs"
    answers = ["", str(tmp_path)]
    asked = []

    def ask(_parent, title, start):
        asked.append((title, Path(start).name))
        return answers.pop(0)

    monkeypatch.setattr(QFileDialog, "getExistingDirectory", ask)
    row.button.click()
    assert row.path.name == "pairs"  # the user changed their mind
    row.button.click()
    assert (row.path, row.label.text()) == (tmp_path, str(tmp_path))
    assert asked == [("Folder for pairs", "pairs")] * 2
    row.set_path(Path.home() / "scans" / "pairs")
    assert row.label.text() == str(Path("~", "scans", "pairs"))
    assert row.label.toolTip() == str(Path.home() / "scans" / "pairs")


def test_the_time_that_is_left_follows_from_the_time_it_took(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("napari_geosr.gui.kit.progress.time.monotonic", lambda: now[0])
    left = RemainingTime()
    assert left.text(2, 10) == ""  # these were finished before
    now[0] = 110.0
    assert left.text(4, 10) == ", 30 s left"
    left.restart()
    assert left.text(5, 10) == ""


def test_a_sentence_gives_back_the_height_of_a_narrow_dock(qtbot):
    label = SentenceLabel("a sentence of several words " * 6)
    qtbot.addWidget(label)
    label.show()
    label.resize(120, 400)
    tall = label.minimumHeight()
    label.resize(900, 400)
    assert 0 < label.minimumHeight() < tall / 2
    assert label.sizeHint().height() == label.minimumHeight()
