"""Every text of every dock fits, at the usual and at the minimum width."""

from __future__ import annotations

import numpy as np
import pytest
from cut_texts import cut_texts
from opening import opened
from porosity_helpers import add, measure, physical, wait_for_levels
from qtpy.QtCore import Qt
from tomography_helpers import PLUGIN, scan_file
from train_helpers import JOBS, TRAIN, noisy_scans

from napari_geosr.core.steps import run_to_end
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
from napari_geosr.gui.kit.widgets import Section
from napari_geosr.operations.sim import SimulateSimConfig, simulate_sim_steps

WIDTHS = (360, 300)


def open_sections(dock) -> None:
    for section in dock.findChildren(Section):
        section.set_open(True)


def measured(viewer, dock, qtbot) -> None:
    wait_for_levels(dock, qtbot)
    dock.settings.other.set_layer(viewer.layers[0])
    measure(dock, qtbot)


def studied(viewer, dock, qtbot) -> None:
    rows = [
        {
            "projections": n,
            "exposure": 1.0,
            "algorithm": name,
            "title": title,
            "porosity": 0.123,
            "porosity_error": -0.0234,
            "psnr": 23.45,
        }
        for n in (10, 1500)
        for name, title in (("fbp", "FBP"), ("noise2inverse", "Noise2Inverse"))
    ]
    qtbot.waitUntil(lambda: not dock.study.activity.busy, timeout=10_000)
    dock.study.result.set_rows(rows, 0.05)
    dock.study.result.setVisible(True)


def found(viewer, dock, qtbot) -> None:
    dock.advanced.set_open(False)
    dock.form.set_values({"method": "wiener"})
    dock.run_button.click()  # finds the patterns first
    qtbot.waitUntil(lambda: not dock.figures.isHidden(), timeout=60_000)


def compared(viewer, dock, qtbot) -> None:
    dock.choose_images(viewer.layers[0])
    dock.reference.set_layer(viewer.layers[1])
    dock.compare_button.click()
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)


def segmented(viewer, dock, qtbot) -> None:
    dock.new_button.click()
    strokes = dock.strokes.layer()
    for z, number in ((1, 1), (2, 2)):
        strokes.paint((z, 5, 5), number)
    dock.segment_button.click()
    qtbot.waitUntil(lambda: not dock.results.isHidden(), timeout=60_000)
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)


def refined(viewer, dock, qtbot) -> None:
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[6:18, 6:18, 6:18] = 1
    place = {"scale": (0.02,) * 3, "units": "mm"}
    viewer.add_labels(labels, name="trabeculae of a vertebra", **place)
    dock.forms["Refine"].set_values({"model": "trilinear"})
    dock.run_button.click()
    qtbot.waitUntil(lambda: not dock.results.isHidden(), timeout=60_000)
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)


def chosen(viewer, dock, qtbot) -> None:
    qtbot.waitUntil(lambda: bool(dock.items()), timeout=20_000)
    dock.tree.setCurrentItem(dock.items()[0])


#: Actions in each dock before its texts are checked again.
DONE = {
    RESTORE: None,
    SEGMENT: segmented,
    SHAPES: refined,
    POROSITY: measured,
    RECONSTRUCT: studied,
    TRAIN: None,
    PAIRS: None,
    COMPARE: compared,
    MODELS: chosen,
    JOBS: None,
    SIM: found,
}


def frames(folder):
    """A file with simulated raw frames of structured illumination."""
    made = simulate_sim_steps(folder / "frames", SimulateSimConfig(size=96, snr=30))
    return run_to_end(made).files["raw"]


@pytest.mark.parametrize("name", DONE)
def test_no_text_is_cut(viewer, qtbot, tmp_path, name):
    viewer.window._qt_window.resize(1366, 768)
    if name == RECONSTRUCT:
        viewer.open(str(scan_file(tmp_path)), plugin=PLUGIN)
    elif name == TRAIN:
        noisy_scans(viewer)
    elif name == SIM:
        viewer.open(str(frames(tmp_path)), plugin=PLUGIN)
    elif name != JOBS:
        for i, scan in enumerate(("scan", "other scan")):
            add(viewer, physical(name=scan, seed=i))
    dock = opened(viewer, name)
    found = cut_at_all_widths(viewer, dock, qtbot, "as opened")
    open_sections(dock)
    found += cut_at_all_widths(viewer, dock, qtbot, "sections open")
    if DONE[name] is not None:
        DONE[name](viewer, dock, qtbot)
        found += cut_at_all_widths(viewer, dock, qtbot, "done")
    assert not found, "\n".join(found)


def cut_at_all_widths(viewer, dock, qtbot, state: str) -> list[str]:
    window, frame = viewer.window._qt_window, dock.parentWidget().parentWidget()
    found = []
    for width in WIDTHS:
        window.resizeDocks([frame], [width], Qt.Orientation.Horizontal)
        qtbot.waitUntil(lambda n=width: dock.width() <= n)
        qtbot.wait(100)
        found += [f"{state}, {width} px: {text}" for text in cut_texts(dock)]
    return found


def test_no_text_of_morphometry_plan_and_plot_is_cut(viewer, qtbot):
    viewer.window._qt_window.resize(1366, 768)
    add(viewer, physical(name="scan"))
    dock = opened(viewer, POROSITY)
    wait_for_levels(dock, qtbot)
    dock.plan.section.set_open(True)
    dock.plan.spot.setText("30%")
    dock.plan.button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
    cut = cut_at_all_widths(viewer, dock, qtbot, "planned")
    box = dock.settings.morphometry
    box.section.set_open(True)
    for name in ("thickness", "trabecular", "two_point", "anisotropy"):
        box.boxes[name].setChecked(True)
    box.group.setText("diameter>1um & sphericity<0.95")
    measure(dock, qtbot)
    assert "Chord.solid " in " ".join(dock.result.report.summary_lines())
    cut += cut_at_all_widths(viewer, dock, qtbot, "measured")
    dock.tabs.setCurrentWidget(dock.tabs.widget(2))
    cut += cut_at_all_widths(viewer, dock, qtbot, "plot")
    for part in (dock.result.plot.x, dock.result.plot.legend.title):
        shown = part.shown_text() if part is dock.result.plot.x else part.text()
        room = part.width()
        if part.fontMetrics().horizontalAdvance(shown) > room or "…" in shown:
            cut.append(f"{part.accessibleName()}: {shown}")
    assert not cut, "\n".join(cut)


def test_columns_and_next_steps_of_the_sim_dock_fit(viewer, qtbot, tmp_path):
    dock = opened(viewer, SIM)
    steps = [dock.bar.state.text()]
    assert steps == ["Open the raw frames first."]
    viewer.open(str(frames(tmp_path)), plugin=PLUGIN)
    next_step = "Next: Find patterns."
    qtbot.waitUntil(lambda: dock.bar.state.text() == next_step)
    steps.append(next_step)
    found(viewer, dock, qtbot)
    steps.append(dock.bar.state.text())
    assert not cut_at_all_widths(viewer, dock, qtbot, "done")  # now at 300 px
    columns, state = dock.table.tree, dock.bar.state
    assert columns.header().length() <= columns.viewport().width()
    for text in steps:
        assert state.fontMetrics().horizontalAdvance(text) <= state.width(), text


def test_the_menu_of_models_shows_names_in_full(viewer, qtbot):
    add(viewer, physical(name="scan"))
    dock = opened(viewer, RESTORE)
    menu = dock.model_box.combo
    menu.blockSignals(True)  # no model has this name
    menu.insertItem(0, "a-model-with-a-rather-long-name  +12.3 dB", "x")
    menu.setCurrentIndex(0)
    cut_at_all_widths(viewer, dock, qtbot, "a long name")
    shown = menu.shown_text()
    assert "…" in shown
    assert shown.endswith("  +12.3 dB")
    menu.setItemText(0, "ct-denoise  +12.3 dB")
    # now at 300 px: the name of a bundled model fits, but not together with its gain
    assert menu.shown_text() == "ct-denoise"
    menu.setItemText(0, "nlm  +1.3 dB")
    assert menu.shown_text() == "nlm  +1.3 dB"
