"""The check of a result against its scan, while other pairs are set."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.gui.layers import is_measurable
from napari_geosr.gui.restore.check_button import CheckButton

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


def turned(degrees: float) -> np.ndarray:
    """An affine transform about the first axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[1:3, 1:3] = [[c, -s], [s, c]]
    return affine


@pytest.mark.parametrize("next_pair", ["another", "removed"])
def test_what_is_found_lies_over_the_scan_that_was_checked(
    viewer, qtbot, rng, next_pair
):
    clean = np.full((6, 36, 40), 100, np.float32)
    clean[1:5, 10:20, 12:26] = 40
    scan = clean + rng.normal(0, 8, clean.shape).astype(np.float32)
    painted = clean.copy()
    painted[2:5, 26:32, 6:12] = 40
    place = PLACE | {"affine": turned(30)}
    source = viewer.add_image(scan, name="scan", **place)
    result = viewer.add_image(painted, name="result", **place)
    other = viewer.add_image(scan + 1, name="other", affine=turned(80), **PLACE)
    button = CheckButton(viewer)
    qtbot.addWidget(button)
    button.set_pair(source, result)
    with qtbot.waitSignal(button.checked_result, timeout=60_000) as said:
        button.check()
        if next_pair == "another":  # a restoration that ends in the meantime
            button.set_pair(other, result)
        else:
            button.set_pair(None, None)
            viewer.layers.remove(source)
    qtbot.waitUntil(button.isEnabled)
    checked, name = said.args
    assert name == "result"
    assert not checked.figures.is_consistent
    [residual] = [x for x in viewer.layers if x.name.endswith("(residual)")]
    assert not is_measurable(residual)
    [marks] = [x for x in viewer.layers if "suspicious regions" in x.name]
    for layer in (residual, marks):
        for voxel in ((0, 0, 0), (1, 20, 30)):
            np.testing.assert_allclose(
                layer.data_to_world(voxel), source.data_to_world(voxel)
            )
