"""Everything in the manifest works in real napari, and has an accessible name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from opening import opened
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QWidget,
)

ROOT = Path(__file__).resolve().parents[2]

MANIFEST = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))
WIDGETS = [w["display_name"] for w in MANIFEST["contributions"]["widgets"]]
SAMPLES = [s["key"] for s in MANIFEST["contributions"]["sample_data"]]
CONTROLS = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit)


def controls(dock: QWidget):
    """Widgets that a user can operate, without the inner parts of compound widgets."""
    for child in dock.findChildren(QWidget):
        if isinstance(child, CONTROLS) and not isinstance(
            child.parent(), (QAbstractSpinBox, QComboBox)
        ):
            yield child


@pytest.mark.parametrize("name", WIDGETS)
def test_every_dock_opens_and_fits_a_small_screen(viewer, name, qtbot):
    native = opened(viewer, name)
    qtbot.waitUntil(native.isVisible)
    assert native.minimumSizeHint().width() <= 300
    unnamed = [c for c in controls(native) if not c.toolTip()]
    assert not unnamed, [type(c).__name__ + " " + c.objectName() for c in unnamed]
    silent = [
        c
        for c in controls(native)
        if not (c.accessibleName() or getattr(c, "text", str)().strip())
    ]
    assert not silent, [type(c).__name__ for c in silent]


@pytest.mark.every(3)
@pytest.mark.parametrize("key", [k for k in SAMPLES if k != "few_projections"])
def test_both_volumes_of_a_sample_fill_the_same_box(viewer, key):
    viewer.open_sample("napari-geosr", key)
    assert len(viewer.layers) == 2
    assert viewer.layers.units is not None
    assert all(str(u) == "micrometer" for u in viewer.layers.units)
    first, second = (layer.extent.world for layer in viewer.layers)
    edges = [
        (e[0] - s / 2, e[1] + s / 2)
        for e, s in zip(
            (first, second), [layer.scale for layer in viewer.layers], strict=True
        )
    ]
    for one, other in zip(*edges, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize(
    "place",
    [
        "restore:RestoreDock",
        "train:TrainDock",
        "jobs:JobsDock",
        "models:ModelsDock",
        "pairs:PairsDock",
        "reconstruct:ReconstructDock",
        "porosity:PorosityDock",
    ],
)
def test_names_that_the_manifest_once_had_stay(place):
    module, name = place.split(":")
    assert issubclass(
        getattr(import_module(f"napari_geosr.gui.{module}"), name), QWidget
    )
