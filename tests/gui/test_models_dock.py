"""The Models dock: find, read, import, export and remove models, in real napari."""

from __future__ import annotations

import sys
import threading
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from opening import in_front
from qtpy.QtCore import QMimeData, QPoint, QPointF, QRect, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QInputDialog,
    QMessageBox,
    QScrollArea,
    QTreeWidget,
)

from napari_geosr.core import registry
from napari_geosr.core.errors import Cancelled, ModelError
from napari_geosr.core.steps import WarningIssued
from napari_geosr.gui import models
from napari_geosr.gui.kit.dock_tabs import MODELS, RESTORE, dock_of
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.notify import MessageLog, MessageRow, format_traceback
from napari_geosr.models import bundle, zoo


@pytest.fixture
def own(tmp_path, monkeypatch):
    folder = tmp_path / "own"
    monkeypatch.setattr(zoo, "user_folder", lambda: folder)
    return folder


@pytest.fixture
def dock(viewer, qtbot, own):
    made = in_front(viewer, MODELS)
    qtbot.waitUntil(lambda: bool(names(made)), timeout=20_000)
    return made


def names(dock) -> list[str]:
    return [item.text(0) for item in dock.items()]


def choose(dock, name: str) -> None:
    [item] = [item for item in dock.items() if item.text(0) == name]
    dock.tree.setCurrentItem(item)


def idle(dock) -> bool:
    return not dock.activity.busy and not dock._listing.busy


def bundle_zip(path: Path) -> Path:
    """A small model of the user, zipped."""
    import shutil

    source = zoo.bundled_folder() / "foam-denoise"
    folder = path.parent / "folder"
    shutil.copytree(source, folder)
    card = (folder / "card.yaml").read_text(encoding="utf-8")
    card = card.replace("name: foam-denoise", "name: mine", 1)
    (folder / "card.yaml").write_text(card, encoding="utf-8")
    return Path(shutil.make_archive(str(path.with_suffix("")), "zip", folder))


def test_models_are_listed_after_the_dock_is_inserted(viewer, qtbot, own, monkeypatch):
    """Inserting the filled dock took 70 ms instead of 8 ms."""
    begin, listed = models.ModelsDock.begin, []

    def spy(dock) -> None:
        listed.append((dock.parentWidget() is not None, names(dock)))
        begin(dock)

    monkeypatch.setattr(models.ModelsDock, "begin", spy)
    opening = open_dock(viewer, MODELS)
    qtbot.waitUntil(lambda: opening.dock is not None, timeout=60_000)
    qtbot.waitUntil(lambda: "ct-denoise" in names(opening.dock), timeout=60_000)
    assert listed == [(True, [])]


@pytest.mark.parametrize("width", [300, 360, 420])
def test_names_of_models_are_shown_in_full(viewer, qtbot, dock, width):
    tree, frame = dock.tree, dock_of(dock)
    choose(dock, "foam-sr-x2")
    window = viewer.window._qt_window
    window.resize(1366, 768)
    window.resizeDocks([frame], [width], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: abs(frame.width() - width) < 4, timeout=5000)
    qtbot.waitUntil(
        lambda: all(
            tree.fontMetrics().horizontalAdvance(name) < tree.columnWidth(0)
            for name in names(dock)
        ),
        timeout=5000,
    )
    shown = [not tree.isColumnHidden(column) for column in range(4)]
    assert shown == [True, True, True, width > 300]
    assert "Super-resolve" in tree.currentItem().toolTip(0)


def test_the_list_and_the_card_scroll_and_the_dock_does_not(viewer, qtbot, dock):
    """Scrolling with the wheel over the list moved the whole dock at its end."""
    window = viewer.window._qt_window
    window.resize(1366, 768)
    window.resizeDocks([dock_of(dock)], [360], Qt.Orientation.Horizontal)
    choose(dock, "foam-sr-x2")
    areas = [a for a in dock.findChildren((QScrollArea, QTreeWidget)) if a.isVisible()]
    assert dock.tree in areas
    nested = [(a, b) for a in areas for b in areas if a is not b and a.isAncestorOf(b)]
    assert not nested
    (area,) = [area for area in areas if area.isAncestorOf(dock.card)]
    qtbot.waitUntil(lambda: area.verticalScrollBar().maximum() > 0, timeout=5000)
    for part in (dock.find, dock.tree, area, dock.bar):
        assert dock.rect().contains(QRect(part.mapTo(dock, QPoint()), part.size()))
    assert area.height() > 100
    assert dock.tree.height() >= 110


def test_models_are_found_and_their_cards_read(viewer, qtbot, dock):
    everything = [entry.name for entry in zoo.list_models()]
    assert names(dock) == everything
    assert dock.chosen() == ""  # the user chooses
    assert dock.card.text() == "Select a model to read its card."
    assert not dock.use_button.isEnabled()
    choose(dock, "foam-sr-x2")
    assert "Double the resolution" in dock.card.text()
    assert not dock.remove_button.isEnabled()
    assert dock.export_button.isEnabled()
    dock.find.words.setText("fluorescence")
    fluo = [n for n in everything if n.startswith("fluo-") or n == "photon-denoise"]
    qtbot.waitUntil(lambda: names(dock) == fluo, timeout=2000)
    assert "fluorescence" in dock.card.text()
    dock.find.words.setText("no such word")
    qtbot.waitUntil(lambda: names(dock) == [], timeout=2000)
    assert "No matching model" in dock.card.text()
    assert not dock.use_button.isEnabled()
    dock.find.words.clear()
    qtbot.waitUntil(lambda: names(dock) == everything, timeout=2000)
    dock.find.task.setCurrentIndex(dock.find.task.findData("super-resolution"))
    assert "foam-sr-x2" in names(dock)
    assert "foam-denoise" not in names(dock)
    dock.find.task.setCurrentIndex(0)
    dock.find.modality.setCurrentIndex(dock.find.modality.findData("ct"))
    assert "fluo-denoise" not in names(dock)
    dock.find.modality.setCurrentIndex(0)
    # A model for volumes cannot restore a plane.
    viewer.add_image(np.zeros((30, 30), np.float32), name="plane")
    viewer.add_image(np.zeros((9, 30, 30), np.float32), name="volume")
    viewer.layers.selection.active = viewer.layers["plane"]
    dock.find.for_layer.setChecked(True)
    assert "foam-sr-x2" not in names(dock)
    viewer.layers.selection.active = viewer.layers["volume"]
    assert "foam-sr-x2" in names(dock)


def test_a_dropped_file_is_imported_and_removed_again(
    viewer, qtbot, dock, own, tmp_path, monkeypatch
):
    path = bundle_zip(tmp_path / "packed.zip")
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)), QUrl.fromLocalFile("/a/picture.png")])
    keys = (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(
        QPointF(5, 5).toPoint(), Qt.DropAction.CopyAction, data, *keys
    )
    dock.dragEnterEvent(enter)
    assert enter.isAccepted()
    drop = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, *keys)
    dock.dropEvent(drop)
    assert dock.bar.progress.isVisible()
    assert dock.cancel_button.isEnabled()
    assert not dock.remove_button.isEnabled()
    qtbot.waitUntil(lambda: "mine" in names(dock) and idle(dock), timeout=60_000)
    assert dock.chosen() == "mine"
    assert "mine was added to your models" in dock.message.text
    whose = {item.text(0): item.text(3) for item in dock.items()}
    assert whose.pop("mine") == "own"
    assert set(whose.values()) == {"bundled"}
    dock.find.words.setText("own")
    qtbot.waitUntil(lambda: names(dock) == ["mine"], timeout=2000)
    dock.find.words.clear()
    assert not dock.bar.progress.isVisible()
    assert not dock.cancel_button.isEnabled()
    assert (own / "mine" / "card.yaml").is_file()
    restore = None
    dock.use_button.click()
    restore = in_front(viewer, RESTORE)
    assert restore.model_box.model() == str(own / "mine")
    asked = []

    def question(*arguments):
        asked.append(arguments[2])
        return QMessageBox.StandardButton.No if len(asked) == 1 else (
            QMessageBox.StandardButton.Yes
        )  # fmt: skip

    monkeypatch.setattr(QMessageBox, "question", question)
    dock.remove_button.click()
    assert (own / "mine").exists()
    dock.remove_button.click()
    qtbot.waitUntil(lambda: "mine" not in names(dock) and idle(dock), timeout=20_000)
    assert "mine" in asked[0]
    assert not (own / "mine").exists()


def test_what_cannot_be_imported_is_said(
    viewer, qtbot, dock, own, tmp_path, monkeypatch
):
    (tmp_path / "a.pth").write_bytes(b"words")
    monkeypatch.setattr(
        QFileDialog, "getOpenFileNames", lambda *_: ([str(tmp_path / "a.pth")], "")
    )
    dock.import_button.click()
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert "a.pth is damaged" in dock.message.text
    assert not own.exists()
    monkeypatch.setattr(QInputDialog, "getText", lambda *_: (" /no/such.zip ", True))
    dock.zoo_button.click()
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert "no file or folder /no/such.zip" in dock.message.text


def slow_and_noted(monkeypatch) -> threading.Event:
    """Imports wait for the event, and successful ones are reported."""
    go_on, steps = threading.Event(), models._import_steps

    def noted(source, stop):
        assert go_on.wait(30)
        found = yield from steps(source, stop)
        yield WarningIssued(message="It was noted.")
        return found

    monkeypatch.setattr(models, "_import_steps", noted)
    return go_on


def test_what_became_of_each_of_several_files_is_said(
    viewer, qtbot, dock, own, tmp_path, monkeypatch
):
    go_on = slow_and_noted(monkeypatch)
    torn = [tmp_path / "a.pth", tmp_path / "c.pth"]
    for path in torn:
        path.write_bytes(b"words")
    good = bundle_zip(tmp_path / "packed.zip")
    dock.import_models([str(path) for path in (torn[0], good, torn[1])])
    go_on.set()
    qtbot.waitUntil(lambda: idle(dock) and not dock._import_queue, timeout=60_000)
    assert "mine" in names(dock)
    first, second, third = dock.message.text.splitlines()
    assert first.startswith("Error: ")
    assert "a.pth is damaged" in first
    assert "c.pth is damaged" in second
    assert third == "mine was added to your models. It was noted."
    text = format_traceback(dock.message._error)
    assert all(path.name in text for path in torn)
    # The next import is independent of these.
    dock.import_models([str(torn[0])])
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert "a.pth is damaged" in dock.message.text
    assert len(dock.message.text.splitlines()) == 1


def test_who_cancels_several_files_imports_none_of_those_left(
    viewer, qtbot, dock, own, tmp_path, monkeypatch
):
    go_on = slow_and_noted(monkeypatch)
    (tmp_path / "a.pth").write_bytes(b"words")
    good = bundle_zip(tmp_path / "packed.zip")
    dock.import_models([str(tmp_path / "a.pth"), str(good)])
    dock.cancel_button.click()
    go_on.set()
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert not own.exists()
    assert "among your models" not in dock.message.text


def test_a_fault_that_names_no_file_is_said_of_one(qtbot):
    row = MessageRow()
    qtbot.addWidget(row)
    outcomes = MessageLog(row)
    outcomes.add("one was added to your models.", "ok")
    outcomes.add_error(ModelError("It is too large."), "a.pth")
    outcomes.add_error(ModelError("b.pth is too large."), "b.pth")
    outcomes.add_error(Cancelled("Cancelled."), "c.pth")
    assert row.text.splitlines() == [
        "Error: a.pth: It is too large.",
        "b.pth is too large.",
        "Cancelled.",
        "one was added to your models.",
    ]
    outcomes.clear()
    assert row.isHidden()
    outcomes.add_error(Cancelled("Cancelled."), "c.pth")
    assert row.text == "Cancelled."


def test_a_damaged_model_is_shown_and_can_be_removed(
    viewer, qtbot, dock, own, monkeypatch
):
    own.mkdir()
    (own / "torn.zip").write_text("no zip")
    dock.refresh()
    qtbot.waitUntil(lambda: "torn.zip" in names(dock), timeout=20_000)
    choose(dock, "torn.zip")
    assert "not a readable zip" in dock.card.text()
    assert not dock.use_button.isEnabled()
    yes = QMessageBox.StandardButton.Yes
    monkeypatch.setattr(QMessageBox, "question", lambda *_: yes)
    dock.remove_button.click()
    qtbot.waitUntil(lambda: "torn.zip" not in names(dock), timeout=20_000)


def test_export(viewer, qtbot, dock, tmp_path, monkeypatch):
    choose(dock, "foam-denoise")
    out = tmp_path / "foam"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_: (str(out), "ONNX (*.onnx)")
    )
    dock.export_button.click()
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    if find_spec("onnxruntime") is None:
        assert "pip install 'napari-geosr[zoo]'" in dock.message.text
        assert not list(tmp_path.glob("foam*"))
    else:
        assert (
            "its results agree with those of the original model to within"
            in dock.message.text
        )
        assert "mean and standard deviation of each input" in dock.message.text
        assert out.with_suffix(".onnx").stat().st_size > 10_000


def test_formats_of_other_packages_are_offered(
    viewer, qtbot, dock, tmp_path, monkeypatch
):
    toy = ModuleType("toy_format")
    toy.TITLE, toy.SUFFIX = "Toy", ".zip"
    toy.ABOUT, toy.SUFFIXES = "toys (.toy)", (".toy",)

    def write(model, path):
        path.write_text(model.card.name)
        return 0.0

    def entry_points(group):
        ours = group in ("napari_geosr.exports", "napari_geosr.foreign_models")
        return [EntryPoint("toy", "toy_format", group)] if ours else []

    toy.write = write
    monkeypatch.setitem(sys.modules, "toy_format", toy)
    monkeypatch.setattr(registry, "entry_points", entry_points)
    asked = []

    def answer(*words):
        asked.append(words[-1])
        return str(tmp_path / "out.zip"), "Toy (*.zip)"

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    choose(dock, "foam-denoise")
    dock.export_button.click()
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert "Toy (*.zip)" in asked[0].split(";;")
    assert "BioImage.IO package (*.zip)" in asked[0].split(";;")
    # Both end in the same way: the chosen one is written.
    assert (tmp_path / "out.zip").read_text() == "foam-denoise"
    monkeypatch.setattr(
        QFileDialog, "getOpenFileNames", lambda *words: (asked.append(words[-1]), "")
    )
    monkeypatch.setattr(dock, "import_models", lambda _paths: None)
    dock.import_button.click()
    assert "*.toy" in asked[1]


def test_closing_it_at_work_is_safe(viewer, qtbot, dock, own, tmp_path):
    dock.import_models([str(bundle_zip(tmp_path / "packed.zip"))])
    run = dock.activity._task
    assert run.is_running
    with qtbot.captureExceptions() as raised:
        viewer.window.remove_dock_widget(dock.parent())
        qtbot.waitUntil(run.control.ended.is_set, timeout=60_000)
        qtbot.waitUntil(lambda: not run.is_running, timeout=60_000)
        qtbot.wait(50)
    assert raised == []
    # It was stopped in time or is complete; nothing in between.
    assert {path.name for path in own.glob("*")} <= {"mine"}
    for left in own.glob("*"):
        assert bundle.verify(left).name == "mine"


def test_another_card_is_shown_from_its_top(dock, qtbot):
    area, (first, second) = dock._card_area, names(dock)[:2]
    bar = area.verticalScrollBar()
    choose(dock, first)
    area.setFixedHeight(60)
    qtbot.waitUntil(lambda: bar.maximum() > 30)
    bar.setValue(30)
    dock.refresh()
    qtbot.waitUntil(lambda: idle(dock))
    assert (dock.chosen(), bar.value()) == (first, 30)
    choose(dock, second)
    assert bar.value() == 0
