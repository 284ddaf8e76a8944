"""Every text of every dock fits its place, at the usual width and at the least."""

from __future__ import annotations

import pytest
from cut_texts import cut_texts
from opening import opened
from porosity_helpers import add, measure, physical, wait_for_levels
from qtpy.QtCore import Qt
from tomography_helpers import PLUGIN, scan_file
from train_helpers import JOBS, TRAIN, noisy_scans

from napari_geosr.gui.kit.dock_tabs import (
    COMPARE,
    MODELS,
    PAIRS,
    POROSITY,
    RECONSTRUCT,
    RESTORE,
)
from napari_geosr.gui.kit.widgets import Section

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


def compared(viewer, dock, qtbot) -> None:
    dock.choose_images(viewer.layers[0])
    dock.reference.set_layer(viewer.layers[1])
    dock.compare_button.click()
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)


def chosen(viewer, dock, qtbot) -> None:
    qtbot.waitUntil(lambda: bool(dock.items()), timeout=20_000)
    dock.tree.setCurrentItem(dock.items()[0])


#: What is done in each dock before its texts are looked at again.
DONE = {
    RESTORE: None,
    POROSITY: measured,
    RECONSTRUCT: studied,
    TRAIN: None,
    PAIRS: None,
    COMPARE: compared,
    MODELS: chosen,
    JOBS: None,
}


@pytest.mark.parametrize("name", DONE)
def test_no_text_is_cut(viewer, qtbot, tmp_path, name):
    viewer.window._qt_window.resize(1366, 768)
    if name == RECONSTRUCT:
        viewer.open(str(scan_file(tmp_path)), plugin=PLUGIN)
    elif name == TRAIN:
        noisy_scans(viewer)
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
