"""The actions of every dock are at its bottom, always visible, and never move."""

from __future__ import annotations

import time

import pytest
from opening import opened
from porosity_helpers import add, measure, physical
from qtpy.QtCore import QEvent, QObject, QPoint, QRect, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QLabel,
    QMessageBox,
    QPushButton,
    QScrollArea,
    QWidget,
)
from test_manifest import WIDGETS
from tomography_helpers import PLUGIN, scan_file
from train_helpers import JOBS, TRAIN, noisy_scans

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.file_warnings import Note
from napari_geosr.core.steps import BlockDone
from napari_geosr.gui.kit.action_bar import (
    ActionBar,
    MessagePane,
    fill_dock,
    progress_bar,
)
from napari_geosr.gui.kit.dock_tabs import (
    COMPARE,
    MODELS,
    PAIRS,
    POROSITY,
    RECONSTRUCT,
    RESTORE,
    SEGMENT,
    SHAPES,
    SIM,
)
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.widgets import ElidedLabel
from napari_geosr.gui.layers import METADATA
from napari_geosr.gui.layers.questions.notes import NotesRow

#: The size of a laptop screen, and the width that docks are designed for.
SCREEN, WIDTH = (1366, 768), 360
LONG = "A message that is said at some length, and then again. " * 12
#: Figures of two images are side by side; those of one image have more space.
NAMES = [
    pytest.param(("scan",), marks=pytest.mark.slow),
    ("scan of a rock", "another scan"),
]


def places(dock) -> dict[str, QRect]:
    """Positions of the buttons of a dock's bar within the dock."""
    return {
        button.accessibleName(): QRect(button.mapTo(dock, QPoint()), button.size())
        for button in dock.bar.findChildren(QPushButton)
    }


def test_a_full_progress_bar_is_filled(qtbot):
    bar = progress_bar("Progress", "")
    qtbot.addWidget(bar)
    bar.resize(100, 10)
    bar.setRange(0, 10)
    for value, is_filled in ((0, False), (10, True)):
        bar.setValue(value)
        colour = bar.grab().toImage().pixelColor(80, 5).name()
        assert (colour == "#5a7fff") == is_filled


@pytest.fixture
def small(viewer):
    """A function that opens a dock on a small screen."""
    window = viewer.window._qt_window
    window.resize(*SCREEN)

    def open_small(name: str):
        dock = opened(viewer, name)
        frame = dock.parentWidget().parentWidget()
        window.resizeDocks([frame], [WIDTH], Qt.Orientation.Horizontal)
        return dock

    return open_small


@pytest.mark.every(3)  # these docks share the bar; test_manifest.py opens each of them
@pytest.mark.parametrize("name", WIDGETS)
def test_actions_stay_in_sight_and_in_place(viewer, small, qtbot, name):
    dock = small(name)
    qtbot.waitUntil(lambda: dock.bar.isVisible() and dock.width() <= WIDTH)
    qtbot.wait(50)
    before = places(dock)
    assert before
    of_other_jobs = getattr(getattr(dock, "view", None), "show_button", None)
    for button in dock.bar.findChildren(QPushButton):
        row = button.parentWidget()
        if button is of_other_jobs or row.isHidden():  # in a closed section
            continue
        assert button.isVisible(), button.text()
        assert dock.rect().contains(places(dock)[button.accessibleName()])
        needed = button.fontMetrics().horizontalAdvance(button.text().replace("&", ""))
        assert needed < button.width(), button.text()
    dock.message.show_message(LONG)
    dock.bar.state.setText(LONG)
    dock.bar.show_progress(1, 2)
    qtbot.wait(50)
    assert dock.message.isVisible()
    assert places(dock) == before
    window, frame = viewer.window._qt_window, dock.parentWidget().parentWidget()
    window.resizeDocks([frame], [300], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: dock.width() <= 300)
    for area in dock.findChildren(QScrollArea):
        inner = area.widget()
        if area.isVisible() and inner is not None:
            assert inner.minimumSizeHint().width() <= area.viewport().width()
    window.resizeDocks([frame], [WIDTH], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: places(dock) == before)
    dock.show_busy("run")
    qtbot.wait(20)
    assert places(dock) == before
    dock.show_busy("")


@pytest.mark.parametrize("name", [RESTORE, TRAIN])
def test_the_bar_stays_in_place_when_a_verdict_grows(viewer, small, qtbot, name):
    dock = small(name)
    qtbot.waitUntil(dock.bar.isVisible)
    resize(viewer, dock, qtbot, WIDTH)
    window = viewer.window._qt_window
    verdict = dock.verdict if name == RESTORE else dock.warnings_message
    line = verdict.label.fontMetrics().lineSpacing()

    def shown(text: str, kind: str) -> tuple[int, dict[str, QRect]]:
        verdict.show_message(text, kind)
        heights = [0]
        while len(heights) < 3 or len(set(heights[-3:])) > 1:  # the layout settles
            qtbot.wait(50)
            heights.append(verdict.label.height())
        assert verdict.isVisible()
        bar = QRect(dock.bar.mapTo(window, QPoint()), dock.bar.size())
        assert window.rect().contains(bar)
        assert (window.width(), window.height()) == SCREEN
        return verdict.label.height(), places(dock) | {"bar": bar}

    low, before = shown("This model is suitable.", "ok")
    assert len(before) > 3
    assert low < 2 * line
    high, after = shown(LONG, "warning")
    assert high > 5 * line
    assert after == before
    assert shown("This model is suitable.", "ok") == (low, before)


@pytest.fixture
def measured(viewer, small, qtbot):
    """A function that measures one or two foams in the dock on a small screen."""

    def measure_some(*names: str):
        layers = [
            add(viewer, physical(name=name, seed=i)) for i, name in enumerate(names)
        ]
        dock = small(POROSITY)
        dock.settings.image.set_layer(layers[0])
        if len(layers) > 1:
            dock.settings.other.set_layer(layers[1])
        measure(dock, qtbot)
        assert dock.result.report is not None
        return dock

    return measure_some


def resize(viewer, dock, qtbot, width: int) -> None:
    window, frame = viewer.window._qt_window, dock.parentWidget().parentWidget()
    window.resizeDocks([frame], [width], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: dock.width() == width)
    qtbot.wait(100)


@pytest.mark.slow
@pytest.mark.parametrize("names", NAMES)
def test_a_result_is_whole_in_a_narrow_dock(viewer, measured, qtbot, names):
    dock = measured(*names)
    resize(viewer, dock, qtbot, 300)
    area = dock.result._above
    inside = QRect(QPoint(), area.viewport().size())
    shown = [
        label for label in dock.result.figures.findChildren(QLabel) if label.text()
    ]
    assert len(shown) > 20
    for label in shown:
        left = label.mapTo(area.viewport(), QPoint())
        assert inside.left() <= left.x(), label.text()
        assert left.x() + label.width() - 1 <= inside.right(), label.text()
        if not isinstance(label, ElidedLabel):
            widest = max(
                label.fontMetrics().horizontalAdvance(word)
                for word in label.text().split("\n" if not label.wordWrap() else None)
            )
            assert widest <= label.width(), label.text()
    page = dock.result._page
    for button in (dock.result.export, dock.result.evidence):
        left = button.mapTo(page.viewport(), QPoint()).x()
        assert left >= 0
        assert left + button.width() <= page.viewport().width(), button.text()


def test_the_columns_up_to_the_diameter_fit_the_usual_width(viewer, measured, qtbot):
    dock = measured("scan")
    resize(viewer, dock, qtbot, WIDTH)
    table = dock.result.table
    column = next(i for i, n in enumerate(table.pores.names) if "diameter" in n)
    right = table.columnViewportPosition(column) + table.columnWidth(column)
    assert right <= table.viewport().width()


def test_no_header_of_the_pore_table_is_cut_at_the_edge(viewer, measured, qtbot):
    viewer.window._qt_window.resize(*SCREEN)
    dock = measured("scan")
    table = dock.result.table
    for width in (WIDTH, 340, 420):
        resize(viewer, dock, qtbot, width)
        edge = table.viewport().width()
        header = table.horizontalHeader()
        ends = []
        for i, name in enumerate(table.pores.names):
            left = header.sectionViewportPosition(i)
            if left >= edge:
                continue
            ends.append(left + header.sectionSize(i))
            words = str(table.pores.headerData(i, Qt.Orientation.Horizontal))
            metrics = header.fontMetrics()
            widest = max(metrics.horizontalAdvance(w) for w in words.split("\n"))
            assert widest < header.sectionSize(i), name
        assert len(ends) >= 3
        assert max(ends) == edge


def test_a_width_that_the_user_chose_is_kept(viewer, measured, qtbot):
    dock = measured("scan")
    table = dock.result.table
    table.setColumnWidth(1, 133)
    resize(viewer, dock, qtbot, WIDTH + 40)
    assert table.columnWidth(1) == 133


def test_the_sentence_about_a_job_is_whole(viewer, measured, qtbot):
    dock = measured("scan")
    row = dock.job_row
    name = "cement_128x128x128_ct-denoise_with-a-long-name-of-its-own"
    said = f"{name} is paused at 5 of 22 tiles; it resumes from the finished tiles."
    row.label.setText(said)
    assert row.label.text() == said
    row.button.setVisible(True)
    row.setVisible(True)
    resize(viewer, dock, qtbot, 300)
    label = row.label
    assert label.height() >= label.heightForWidth(label.width())
    assert label.height() < 100
    parts = QLabel.text(label).replace("\u200b", " ").split()
    assert max(map(label.fontMetrics().horizontalAdvance, parts)) < label.width()
    assert dock.rect().contains(QRect(label.mapTo(dock, QPoint()), label.size()))
    for button in row.findChildren(QAbstractButton):
        left = button.mapTo(dock, QPoint()).x()
        assert left + button.width() <= dock.width()


def test_no_button_moves_when_another_is_highlighted(qtbot):
    first, second = QPushButton("Start"), QPushButton("Use this model")
    bar = ActionBar((first, second), primary=first)
    qtbot.addWidget(bar)
    bar.show()
    before = [button.sizeHint() for button in (first, second)]
    filled = first.grab().toImage().pixelColor(4, first.height() // 2)
    bar.set_primary(second)
    assert [button.sizeHint() for button in (first, second)] == before
    assert second.grab().toImage().pixelColor(4, second.height() // 2) == filled
    assert first.grab().toImage().pixelColor(4, first.height() // 2) != filled


@pytest.mark.parametrize(
    "theme", [pytest.param("dark", marks=pytest.mark.slow), "light"]
)
def test_one_button_of_every_dock_is_marked(viewer, small, qtbot, theme):
    viewer.theme = theme
    for name in (COMPARE, MODELS, PAIRS, POROSITY, RECONSTRUCT, RESTORE, TRAIN, JOBS):
        dock = small(name)
        if name == JOBS:  # Train… is above the bar
            qtbot.waitUntil(lambda d=dock: not d.empty.isHidden(), timeout=10_000)
        buttons = dock.findChildren(QPushButton)
        marked = [button for button in buttons if button.property("primary")]
        assert len(marked) == 1, name
        assert marked[0].isDefault()


def test_fields_of_a_form_begin_at_one_place(viewer, small, qtbot):
    dock = small(RECONSTRUCT)
    assert dock.study is not None
    dock.study_section.set_open(True)
    qtbot.wait(200)
    for forms in (
        (dock.above.editor("every"), dock.row, dock.layer_combo),
        (dock.study.above.editor("counts"), dock.study.reference, dock.study.mask),
    ):
        left = {widget.mapTo(dock, QPoint()).x() for widget in forms}
        assert len(left) == 1, left


def test_buttons_of_a_study_stay_in_sight(viewer, small, qtbot):
    dock = small(RECONSTRUCT)
    actions = dock.study.actions
    assert not any(button.isVisible() for button in actions)
    dock.study_section.set_open(True)
    qtbot.wait(100)
    for button in actions:
        assert dock.bar.isAncestorOf(button)
        assert button.isVisible()
        needed = button.fontMetrics().horizontalAdvance(button.text())
        assert needed < button.width(), button.text()
    dock.study_section.set_open(False)
    assert not any(button.isVisible() for button in actions)


def test_a_long_message_leaves_room_for_the_settings(small, qtbot):
    dock = small(RESTORE)
    heights = []
    for text in ("One.", "One.\nTwo.\nThree."):
        dock.message.show_message(text)
        heights.append(dock.message.label.heightForWidth(200))
    line = (heights[1] - heights[0]) / 2
    dock.message.show_message(LONG * 20)
    qtbot.wait(50)
    pane = dock.bar.parentWidget().layout().itemAt(1).widget()
    assert pane.height() < 0.25 * dock.height()
    label = dock.message.label
    above = label.mapTo(pane.widget(), QPoint()).y()
    shown = (pane.viewport().height() - above) / line
    assert shown > 3
    assert shown == round(shown)  # no line is cut
    dock.message.show_message("Short.")
    qtbot.wait(50)
    assert pane.height() < 60
    dock.message.clear()
    assert pane.isHidden()


@pytest.mark.parametrize("width", [300, 360, 420])
def test_a_message_is_shown_whole_whatever_was_shown_before(qtbot, width):
    dock, message, body = QWidget(), MessageRow(), QScrollArea()
    qtbot.addWidget(dock)
    fill_dock(dock, body, message, ActionBar((QPushButton("Run"),)))
    dock.resize(width, 1400)
    dock.show()
    pane = dock.findChild(MessagePane)
    for text in ("Done.", LONG[:90], LONG, "Done.", LONG[:90]):
        message.show_message(text)
        qtbot.wait(30)
        needed = message.label.heightForWidth(message.label.width())
        assert message.label.height() >= needed
        assert pane.height() == pane.widget().height() <= needed + 12


@pytest.mark.parametrize("width", [*range(300, 340, 4), 360])
def test_a_message_is_whole_beside_the_border_of_the_style(qtbot, width):
    """napari's style draws a border, so that the text wraps at a smaller width."""
    dock, message, body = QWidget(), MessageRow(), QScrollArea()
    qtbot.addWidget(dock)
    dock.setStyleSheet("QScrollArea { border: 3px solid; }")
    fill_dock(dock, body, message, ActionBar((QPushButton("Run"),)))
    dock.resize(width, 1600)
    dock.show()
    message.show_message(LONG, "warning")
    qtbot.wait(50)
    pane = dock.findChild(MessagePane)
    assert message.label.height() >= message.label.heightForWidth(message.label.width())
    assert pane.widget().height() == pane.viewport().height()


def test_a_message_that_is_shown_is_laid_out_and_then_left_alone(qtbot):
    """Otherwise the window is redrawn continually while a message is visible."""
    dock, message, body = QWidget(), MessageRow(), QScrollArea()
    qtbot.addWidget(dock)
    fill_dock(dock, body, message, ActionBar((QPushButton("Run"),)))
    dock.resize(300, 700)
    dock.show()
    qtbot.waitExposed(dock)
    laid_out = []
    settling = dock.findChild(MessagePane)._settling
    settling.timeout.connect(lambda: laid_out.append(message.text))
    for text in (LONG, "Done."):
        message.show_message(text)
        qtbot.wait(50)
        assert text in laid_out
        laid_out.clear()
        qtbot.wait(100)
        assert not laid_out


@pytest.mark.parametrize("names", NAMES)
def test_numbers_stay_in_sight_above_long_warnings(measured, qtbot, names):
    dock = measured(*names)
    dock.message.show_message(LONG * 3, "warning")
    qtbot.wait(200)
    for row in ("Porosity", "Pores"):
        labels = dock.result.figures.findChildren(QLabel)
        (label,) = [la for la in labels if la.text().split(" (")[0] == row]
        assert not label.visibleRegion().isEmpty(), row
    assert dock.result.table.isVisible()
    # A table height set by the user is kept.
    dock.result._splitter.splitterMoved.emit(100, 1)
    dock.result._splitter.setSizes([100, 400])
    before = dock.result._above.height()
    dock.message.clear()
    qtbot.wait(100)
    assert dock.result._above.height() < before + 60


def test_long_notes_leave_room_for_the_settings(viewer, small, qtbot):
    layer = add(viewer, physical())
    warnings = [f"{i} chunks are missing. {LONG[:200]}" for i in range(4)]
    layer.metadata[METADATA] = {"info": {"warnings": warnings}}
    for name in (POROSITY, RESTORE):
        notes = small(name).findChild(NotesRow)
        qtbot.waitUntil(lambda n=notes: "3 chunks" in n.text, timeout=5000)
        qtbot.wait(100)
        assert 40 < notes.height() < 130
        pane = notes.findChild(MessagePane)
        bar = pane.verticalScrollBar()
        qtbot.waitUntil(lambda b=bar: b.maximum() > 100)  # everything is readable
        layer.metadata[METADATA] = {"info": {"warnings": ["One chunk is missing."]}}
        notes.set_layer(layer)
        qtbot.wait(100)
        assert not pane.verticalScrollBar().isVisible()
        assert pane.verticalScrollBar().maximum() < 4
        layer.metadata[METADATA] = {"info": {"warnings": warnings}}


@pytest.mark.parametrize("width", [WIDTH, 300])
def test_a_note_is_whole_beside_its_button(viewer, small, qtbot, width):
    dock = small(RESTORE)
    dock.settings.set_open(True)  # with a scroll bar, there is less room
    resize(viewer, dock, qtbot, width)
    text = "The file does not name its axis of length 32; it was treated as slices (Z)."
    layer = add(viewer, physical())
    layer.metadata[METADATA] = {"info": {"notes": [Note(text, "axes")]}}
    notes = dock.findChild(NotesRow)
    notes.set_layer(layer)
    qtbot.waitUntil(lambda: not notes.isHidden() and not notes.button.isHidden())
    qtbot.wait(100)
    label, pane = notes.message.label, notes.findChild(MessagePane)
    assert label.heightForWidth(label.width()) <= pane.viewport().height()


@pytest.mark.parametrize("section", ["denoise", "study"])
def test_a_section_at_the_bottom_opens_in_sight(
    viewer, small, qtbot, tmp_path, section
):
    viewer.open(str(scan_file(tmp_path)), plugin=PLUGIN)
    dock = small(RECONSTRUCT)
    assert dock.study is not None
    qtbot.waitUntil(lambda: dock.opened() is not None)
    part = getattr(dock, f"{section}_section")
    part.button.click()
    first = dock.denoise.name
    if section == "study":
        first = dock.study.above.editor("counts")
    qtbot.waitUntil(
        lambda: first.visibleRegion().boundingRect().height() == first.height(),
        timeout=3000,
    )
    assert not part.button.visibleRegion().isEmpty()


def test_start_and_cancel_are_two_buttons(viewer, small, qtbot, monkeypatch):
    from napari_geosr.gui import train

    noisy_scans(viewer)
    dock = small(TRAIN)
    qtbot.waitUntil(dock.bar.isVisible)
    qtbot.wait(50)
    assert not dock.cancel_button.isEnabled()
    before = places(dock)
    begun, stops = [], []

    def endless(_plan, _folder, *, should_stop):
        begun.append(True)
        while not should_stop():
            time.sleep(0.01)
            yield BlockDone(1, 2)
        stops.append(True)
        raise Cancelled("Stopped.")

    monkeypatch.setattr(train, "time_steps", endless)
    dock.estimate_button.click()
    assert dock.bar.state.text() == "Timing a few steps…"
    assert places(dock) == before
    assert dock.cancel_button.isEnabled()
    assert not dock.start_button.isEnabled()
    dock.start_button.click()  # as by a user who has not looked
    assert not stops
    qtbot.waitUntil(lambda: bool(begun), timeout=5000)
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: bool(stops) and not dock.activity.busy, timeout=5000)
    assert dock.start_button.isEnabled()
    assert not dock.cancel_button.isEnabled()


@pytest.mark.parametrize("name", [TRAIN, JOBS])
def test_what_can_be_asked_of_a_job_is_in_the_bar(small, qtbot, name):
    dock = small(name)
    qtbot.waitUntil(dock.bar.isVisible)
    assert {"Pause", "Resume", "Use this model"} <= places(dock).keys()
    assert not dock.view.use_button.isEnabled()


class Paints(QObject):
    """Counts how often a widget is drawn."""

    n = 0

    def eventFilter(self, _watched, event):  # noqa: N802
        self.n += event.type() == QEvent.Type.Paint
        return False


def test_many_values_in_one_turn_are_drawn_once(viewer, small, qtbot):
    dock = opened(viewer, PAIRS)
    dock.bar.show_progress(0, 100)
    qtbot.wait(200)
    assert dock.bar.progress.isVisible()
    paints = Paints()
    dock.bar.progress.installEventFilter(paints)
    for done in range(0, 100, 3):
        dock.bar.show_progress(done, 100)
    assert paints.n == 0
    qtbot.waitUntil(lambda: paints.n > 0, timeout=2000)
    qtbot.wait(50)
    assert paints.n == 1
    assert dock.bar.progress.value() == 99


def test_empty_docks_say_what_to_do(small, qtbot):
    for name, said in (
        (RESTORE, "Open an image to restore it."),
        (POROSITY, "Open an image to measure its pores."),
        (RECONSTRUCT, "Open projections to begin."),
        (JOBS, "No jobs yet. Next: Train…"),
        (TRAIN, "Choose “First scan” and “Second scan”."),
        (PAIRS, "Choose the scans, then press Build pair."),
        (MODELS, "Drop a model file here to import it."),
        (COMPARE, "Tick 2 to 6 images to compare."),
        (SEGMENT, "Open a scan to segment."),
        (SIM, "Open the raw frames first."),
        (SHAPES, "Open labels, or segment a scan first."),
    ):
        dock = small(name)
        qtbot.waitUntil(lambda d=dock, s=said: d.bar.state.text() == s, timeout=5000)
        labels = [la for la in dock.findChildren(QLabel) if la.isVisibleTo(dock)]
        assert [la.text() for la in labels].count(said) == 1, name  # and not again
        assert getattr(getattr(dock, "settings", None), "histogram", None) is None or (
            dock.settings.histogram.empty_text != said
        )


def test_cancel_of_a_measurement_is_there_before_it(small, qtbot):
    dock = small(POROSITY)
    qtbot.waitUntil(dock.bar.isVisible)
    assert dock.cancel_button.isVisible()
    assert not dock.cancel_button.isEnabled()


def test_a_dock_shows_the_first_sentences_of_a_caution(qtbot):
    row = MessageRow()
    qtbot.addWidget(row)
    row.shortens_cautions = True
    short, long = "Two sentences. They fit.", "The first one. " + "More 1.5 mm. " * 20
    row.show_message(short, "warning")
    assert row.label.text() == row.text == f"Caution: {short}"
    assert row.details_button.isHidden()
    row.show_message(long, "warning")
    shown = row.label.text()
    assert shown.startswith("Caution: The first one. More 1.5 mm.")
    assert shown.endswith("mm.")
    assert len(shown) < 160
    assert row.text == f"Caution: {long}"
    row.details_button.click()
    box = row.findChild(QMessageBox)
    assert f"{shown} {box.informativeText()}" == row.text
    box.close()
    first = "One sentence that is far longer than three lines " * 4 + "ends."
    row.show_message(f"{first} The other.", "warning")
    assert row.label.text() == f"Caution: {first}"
    row.show_message(long)  # not a caution
    assert row.label.text() == row.text == long
    row.show_error(VolumeError(long))
    assert row.text == row.label.text()
