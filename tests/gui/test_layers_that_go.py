"""With the Porosity dock open, only the layers that the user meant are removed."""

from __future__ import annotations

import pytest
from porosity_helpers import add, open_dock, physical, wait_for_levels


@pytest.mark.every(3)
@pytest.mark.parametrize("first", ["image", "preview"])
@pytest.mark.parametrize("how", ["selected", "one", "cleared"])
def test_an_image_goes_with_its_preview(viewer, qtbot, first, how):
    image = add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    layers = [image, dock.preview.layer]
    if first == "preview":
        layers.reverse()
        viewer.layers.move(1, 0)
    if how == "cleared":
        viewer.layers.clear()
    elif how == "one":
        viewer.layers.remove(image)
    else:
        viewer.layers.selection.clear()
        for layer in layers:
            viewer.layers.selection.add(layer)
        viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not dock.measure_button.isEnabled())
    assert not viewer.layers


def test_the_next_image_is_previewed_when_the_list_is_at_rest(viewer, qtbot):
    other = add(viewer, physical(name="other"))
    image = add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.settings.image.set_layer(other)  # the grey values of both are known now
    wait_for_levels(dock, qtbot)
    dock.settings.image.set_layer(image)
    preview = dock.preview.layer
    viewer.layers.remove(image)
    assert list(viewer.layers) == [other, preview]
    qtbot.waitUntil(lambda: dock.preview.layer not in (None, preview))
    assert list(viewer.layers) == [other, dock.preview.layer]
