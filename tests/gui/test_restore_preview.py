"""The preview of the Restore dock is removed together with its layer."""

from __future__ import annotations

import numpy as np
import pytest
from opening import opened

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


@pytest.fixture
def scan(rng) -> np.ndarray:
    return rng.normal(100, 10, (6, 24, 30)).astype(np.float32)


def previewed(viewer, qtbot, source):
    """Open the dock and preview `source`."""
    dock = opened(viewer)
    dock.layer_combo.set_layer(source)
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        dock.preview_button.click()
    return dock, dock.activity._preview.layer


@pytest.mark.every(2)
@pytest.mark.parametrize("below", [True, False])
def test_a_preview_goes_with_its_layer_and_no_other(viewer, qtbot, scan, below):
    kept = viewer.add_points(np.zeros((1, 3)), name="kept")
    source = viewer.add_image(scan, name="scan", **PLACE)
    _, preview = previewed(viewer, qtbot, source)
    if not below:
        viewer.layers.move(viewer.layers.index(preview), 0)
    during = []
    # napari continues with its own indices, so the list must not change meanwhile.
    viewer.layers.events.removed.connect(lambda _: during.append(preview))
    viewer.layers.remove(source)
    assert preview in viewer.layers
    qtbot.waitUntil(lambda: preview not in viewer.layers)
    assert list(viewer.layers) == [kept]
    assert len(during) == 2


def test_the_preview_of_the_next_layer_follows(viewer, qtbot, scan):
    other = viewer.add_image(scan + 1, name="other", **PLACE)
    source = viewer.add_image(scan, name="scan", **PLACE)
    dock, first = previewed(viewer, qtbot, source)
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        viewer.layers.remove(source)
    preview = dock.activity._preview.layer
    assert preview is not first
    assert list(viewer.layers) == [other, preview]
    assert preview.name.startswith("other")


@pytest.mark.every(2)
@pytest.mark.parametrize("how", ["selected", "cleared"])
def test_all_layers_can_go_at_once(viewer, qtbot, scan, how):
    source = viewer.add_image(scan, name="scan", **PLACE)
    dock, _ = previewed(viewer, qtbot, source)
    if how == "cleared":
        viewer.layers.clear()
    else:
        viewer.layers.select_all()
        viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not dock.activity._preview_timer.isActive())
    assert not viewer.layers
    # Remains of the preview do not prevent the next one.
    viewer.add_image(scan, name="again", **PLACE)
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        pass
    assert dock.activity._preview.layer in viewer.layers
