"""The steps of two tutorials in napari, by the labels that its page names."""

from __future__ import annotations

import pytest
from opening import in_front, opened
from qtpy.QtWidgets import QAbstractButton

from napari_geosr.gui.kit.dock_tabs import POROSITY

pytestmark = pytest.mark.slow
_LONG = 300_000


def press(dock, label: str) -> None:
    """Press the button with a label; it must be there and enabled."""
    buttons = dock.findChildren(QAbstractButton)
    texts = {one.text().replace("&", ""): one for one in buttons if one.isVisible()}
    assert label in texts, sorted(texts)
    assert texts[label].isEnabled(), f"{label} is disabled"
    texts[label].click()


def test_a_noisy_foam_is_restored_and_measured(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample("napari-geosr", "noisy_foam")
    clean, noisy = viewer.layers
    restore = opened(viewer)
    qtbot.waitUntil(
        lambda: restore.verdict_panel.activity.is_settled and not restore.activity.busy,
        timeout=_LONG,
    )
    assert restore.layer_combo.layer() is noisy
    assert restore.model_box.model() == "ct-denoise"
    combo = restore.model_box.combo
    assert "dB" in combo.itemText(0)
    press(restore, "Show what is removed")
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=_LONG)
    viewer.layers.remove(restore.verdict_panel.removed_button.layer())
    press(restore, "Preview")
    with qtbot.waitSignal(restore.activity.finished, timeout=_LONG):
        press(restore, "Run")
    restored = viewer.layers[-1]
    assert "Small pores" in restore.verdict_panel.message.text
    viewer.layers.selection.active = restored
    press(restore, "Measure porosity…")
    porosity = in_front(viewer, POROSITY)
    assert porosity.settings.image.layer() is restored
    assert porosity.settings.other.layer() is noisy
    press(porosity, "Measure")
    qtbot.waitUntil(lambda: not porosity.is_running, timeout=_LONG)
    after, before = porosity.result._reports.values()
    porosity.settings.other.set_layer(clean)
    press(porosity, "Measure")
    qtbot.waitUntil(lambda: not porosity.is_running, timeout=_LONG)
    _, true = porosity.result._reports.values()
    assert abs(after.porosity - true.porosity) < 0.05 * true.porosity
    assert before.porosity > 2 * true.porosity
