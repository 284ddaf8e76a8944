"""A single image is described in words for images, not for volumes."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel
from porosity_helpers import add, measure, open_dock, wait_for_levels
from qtpy.QtCore import QObject

from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers.combo import LayerCombo
from napari_geosr.gui.porosity.choices import MASKS, WHOLE, SampleProposal
from napari_geosr.physics.specimens.phantoms import sphere_foam


def foam() -> Volume:
    made = sphere_foam((24, 64, 64), porosity=0.3, radius=(4, 8), gap=1, seed=1)
    grey = (200 - 180 * made.fraction).astype(np.float32)
    return Volume(grey, "ZYX", (0.5,) * 3, "µm", name="foam")


def texts(dock) -> list[str]:
    settings, result = dock.settings, dock.result
    sizes = settings.form.editor("min_voxels"), settings.closing, result.least
    return [settings.sample.currentText(), *(each.suffix() for each in sizes)]


def test_sizes_are_in_pixels_and_the_sample_is_an_image(viewer, qtbot):
    volume = foam()
    image = Volume(volume.data[12], "YX", (0.5, 0.5), "µm", name="slice")
    layer = add(viewer, image)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert texts(dock) == ["whole image", " pixels", " pixels", " pixels"]
    assert dock.settings.config().sample_mask == "none"
    dock.settings.form.set_values({"min_voxels": 1})
    assert texts(dock)[1] == " pixel"
    viewer.layers.remove(layer)
    add(viewer, volume)
    qtbot.waitUntil(lambda: dock.measure_button.isEnabled())
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    assert texts(dock) == ["whole volume", " voxel", " voxels", " voxels"]


def test_the_note_on_the_sample_speaks_of_edges(qtbot):
    class Cutting:
        fit = type("Fit", (), {"cuts": True})()

    sample = LayerCombo(ViewerModel(), lambda _layer: False, fixed=tuple(MASKS))
    qtbot.addWidget(sample)
    parent = QObject()
    for flat, word in ((True, "edges"), (False, "faces")):
        proposal = SampleProposal(sample, parent)
        qtbot.addWidget(proposal.note)
        proposal.set_flat(flat)
        proposal.consider(True, "dark")
        proposal.decide(Cutting())
        assert proposal.note.text() == f"Dark space at the {word} is counted as pores."
        assert ("border of the image" in proposal.note.toolTip()) is flat
        assert sample.fixed_entry() == WHOLE
