"""Air around a sample is not pore; the selected pore is marked; figures align."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from porosity_helpers import (
    add,
    measure,
    open_dock,
    physical,
    wait_for_levels,
)
from scipy.ndimage import gaussian_filter

from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.remembered import recall
from napari_geosr.gui.layers import METADATA
from napari_geosr.gui.layers.explained import source_entry
from napari_geosr.gui.porosity.choices import AUTOMATIC, MASKS, WHOLE
from napari_geosr.gui.porosity.pore_colours import HIGHLIGHT
from napari_geosr.gui.porosity.pore_table import cell_text, decimals_of
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.measure.grey_levels import histogram_steps
from napari_geosr.physics.specimens.phantoms import sphere_foam


def cylinder(rng, background: float = 20.0) -> Volume:
    """A bone in air: bright, with pores, in a larger box."""
    foam = sphere_foam((16, 64, 64), porosity=0.3, radius=(3, 6), gap=1.0, seed=3)
    y, x = np.mgrid[:64, :64] - 31.5
    data = 200 - 180 * foam.fraction
    data[:, np.hypot(y, x) > 28] = background
    noise = rng.normal(0, 5, data.shape)
    return Volume((data + noise).astype(np.float32), "ZYX", name="bone")


def surrounded(volume: Volume, threshold: float = 100, phase="dark") -> bool:
    levels = run_to_end(histogram_steps(volume))
    return levels.surroundings.has_background(threshold, phase)


def wait_for_sample(dock, qtbot, choice: str) -> None:
    """The mask is made before it is proposed."""
    wait_for_levels(dock, qtbot)
    qtbot.waitUntil(
        lambda: dock.settings.sample.currentText() == choice, timeout=60_000
    )


def test_air_around_a_sample_is_told_from_pores(rng):
    bone = cylinder(rng)
    assert surrounded(bone)
    assert not surrounded(bone, phase="bright")
    assert not surrounded(cylinder(rng, background=200.0))
    assert surrounded(Volume(bone.data[3], "YX", name="plane"))
    for seed in range(2):
        foam = sphere_foam((16, 64, 64), porosity=0.6, radius=(4, 9), seed=seed)
        rock = Volume(200 - 180 * foam.fraction, "ZYX", name="rock")
        assert not surrounded(rock)
        for plane in rock.data[::5]:
            assert not surrounded(Volume(plane, "YX", name="plane"))
    everywhere = bone.replace(data=np.ones(bone.shape, np.uint8))
    levels = run_to_end(histogram_steps(bone, everywhere))
    assert levels.surroundings.planes == ()


def test_background_beside_solid_corners_is_told_from_pores(
    shared_data: Path, tmp_path: Path
) -> None:
    def depth(volume: Volume) -> tuple[float, bool]:
        levels = run_to_end(histogram_steps(volume))
        threshold = levels.threshold(PorosityConfig())
        return (
            round(levels.surroundings.background_depth(threshold, "dark"), 2),
            levels.surroundings.has_background(threshold, "dark"),
        )

    scans = shared_data / "ct_volumes"
    with zipfile.ZipFile(scans / "berea.zip") as zipped:
        berea = io.read(Path(zipped.extract("berea.tif", tmp_path)))
    found = {
        "bone": depth(io.read(scans / "bone_128x128x128.tif")),
        "cement": depth(io.read(scans / "cement_128x128x128.tif")),
        "Berea": depth(berea),
        "part of Berea": depth(berea.replace(data=berea.data[:96, 150:246, 150:246])),
        "banana": depth(io.read(shared_data / "microscopy" / "mri_banana_sequence")),
    }
    for seed, (porosity, radii) in enumerate(
        ((0.3, (3, 6)), (0.8, (4, 9)), (0.7, (8, 14)))
    ):
        foam = sphere_foam((64, 64, 64), porosity=porosity, radius=radii, seed=seed)
        rock = Volume(200 - 180 * foam.fraction, "ZYX", name="rock")
        found[f"foam {porosity}"] = depth(rock)
    assert {name for name, (_, is_found) in found.items() if is_found} == {
        "bone",
        "banana",
    }, found
    # Far from the limit, on either side.
    assert found.pop("bone")[0] >= 0.25
    assert found.pop("banana")[0] >= 0.5
    assert max(value for value, _ in found.values()) <= 0.15, found


def test_air_beside_a_cropped_bone_is_excluded(viewer, qtbot, shared_data) -> None:
    """A sample of the outer, compact part."""
    bone = io.read(shared_data / "ct_volumes" / "bone_128x128x128.tif")
    add(viewer, bone.replace(data=np.ascontiguousarray(bone.data[..., :50])))
    dock = open_dock(viewer, qtbot)
    wait_for_sample(dock, qtbot, AUTOMATIC)
    assert dock.settings.proposal.note.isVisible()
    assert "not counted" in dock.settings.proposal.note.text()
    measure(dock, qtbot)
    report = dock.result.report
    inside = np.asarray(viewer.layers[f"{bone.name} · sample"].data) == 1
    assert not inside[:, 0, 0].any()
    dark = bone.data[..., :50] <= report.threshold
    assert report.porosity == pytest.approx(dark[inside].mean())
    assert report.porosity < 0.1 < dark.mean()


@pytest.mark.parametrize("part", ["whole", "marrow"])
def test_marrow_at_the_faces_is_not_taken_for_air(
    viewer, qtbot, shared_data, part
) -> None:
    """A mask would exclude this part, so it is not proposed."""
    bone = io.read(shared_data / "ct_volumes" / "bone_128x128x128.tif")
    data = bone.data if part == "whole" else bone.data[:, 50:, 80:]
    add(viewer, bone.replace(data=np.ascontiguousarray(data)))
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    proposal = dock.settings.proposal
    assert dock.settings.sample.currentText() == WHOLE
    qtbot.waitUntil(proposal.note.isVisible, timeout=60_000)
    assert dock.settings.sample.currentText() == WHOLE
    assert "counted as pores" in proposal.note.text()
    assert "marrow" in proposal.note.toolTip()
    measure(dock, qtbot)
    report = dock.result.report
    assert report.porosity == pytest.approx(np.mean(data <= report.threshold))
    # the grey values are read again; the mask is not proposed again
    dock.levels.outdated.emit()
    wait_for_levels(dock, qtbot)
    qtbot.wait(1000)
    assert dock.settings.sample.currentText() == WHOLE


def test_the_mask_is_not_proposed_for_bright_material(viewer, qtbot, rng):
    """With bright pores, the automatic mask would enclose the air."""
    bone = cylinder(rng)
    bone.data[:, :, 40:] = 200  # also reaches the faces
    add(viewer, bone)
    dock = open_dock(viewer, qtbot)
    settings = dock.settings
    wait_for_sample(dock, qtbot, AUTOMATIC)
    settings.form.set_values({"phase": "bright"})
    wait_for_sample(dock, qtbot, WHOLE)
    qtbot.wait(500)
    assert settings.sample.currentText() == WHOLE
    settings.form.set_values({"phase": "dark"})
    wait_for_sample(dock, qtbot, AUTOMATIC)


def test_what_was_taken_as_the_sample_is_outlined(viewer, qtbot, rng):
    bone = cylinder(rng)
    source = add(viewer, bone)
    dock = open_dock(viewer, qtbot)
    wait_for_sample(dock, qtbot, AUTOMATIC)
    measure(dock, qtbot)
    outline = viewer.layers["bone · sample"]
    assert outline.visible
    assert outline.contour == 1
    np.testing.assert_array_equal(outline.scale, source.scale)
    inside = np.asarray(outline.data) == 1
    assert np.count_nonzero(inside) == dock.result.report.sample_voxels
    assert not inside[:, 0, 0].any()
    assert inside[:, 32, 32].all()
    assert viewer.layers.selection.active is dock.pores.layer()
    measure(dock, qtbot)  # the same layer is used again
    assert [la.name for la in viewer.layers].count("bone · sample") == 1
    assert not [la for la in viewer.layers if la.name.startswith("bone · sample [")]
    dock.settings.sample.setCurrentText(WHOLE)
    viewer.layers.remove(outline)
    measure(dock, qtbot)
    assert "bone · sample" not in viewer.layers


def test_the_preview_is_confined_to_the_automatic_mask(viewer, qtbot, rng):
    # Thresholds inside and for the whole volume differ.
    bone = cylinder(rng, background=-60.0)
    add(viewer, bone)
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    settings = dock.settings
    whole = settings.threshold
    qtbot.waitUntil(lambda: settings.threshold != whole, timeout=30_000)
    inside, shown = settings.threshold, np.asarray(dock.preview.layer.data)
    measure(dock, qtbot)
    report = dock.result.report
    assert inside == report.threshold
    assert shown.sum() == report.pore_voxels  # small pores included
    outline = np.asarray(viewer.layers["bone · sample"].data)
    assert not shown[outline == 0].any()
    # Without closing, the mask excludes pores that are open to the air.
    dock.tabs.setCurrentIndex(0)
    assert settings.closing.isVisible()
    settings.closing.setValue(0)
    qtbot.waitUntil(
        lambda: np.asarray(dock.preview.layer.data).sum() < shown.sum(),
        timeout=30_000,
    )
    settings.sample.setCurrentText(WHOLE)
    assert not settings.closing.isVisible()
    assert settings.threshold == whole
    assert np.asarray(dock.preview.layer.data)[:, 0, 0].all()


def test_the_automatic_mask_is_proposed_and_said(viewer, qtbot, rng):
    add(viewer, cylinder(rng))
    dock = open_dock(viewer, qtbot)
    settings = dock.settings
    wait_for_sample(dock, qtbot, AUTOMATIC)
    assert settings.proposal.note.isVisible()
    measure(dock, qtbot)
    assert dock.result.report.porosity < 0.4
    kept = recall("porosity", MeasureConfig)
    assert kept.sample_mask == "none"  # only of this image
    dock.tabs.setCurrentIndex(0)
    settings.sample.setCurrentText(WHOLE)
    settings.sample.activated.emit(0)
    assert not settings.proposal.note.isVisible()
    settings.form.set_values({"min_voxels": 9})
    dock.levels.outdated.emit()
    wait_for_levels(dock, qtbot)
    assert settings.sample.currentText() == WHOLE
    measure(dock, qtbot)
    assert dock.result.report.porosity > 0.4
    # Another image, which fills its box.
    layer = add(viewer, physical())
    settings.image.set_layer(layer)
    wait_for_levels(dock, qtbot)
    assert settings.sample.currentText() == WHOLE
    settings.image.set_layer(viewer.layers["bone"])
    wait_for_sample(dock, qtbot, AUTOMATIC)
    settings.image.set_layer(layer)
    wait_for_levels(dock, qtbot)
    assert settings.sample.currentText() == WHOLE
    assert not settings.proposal.note.isVisible()


@pytest.mark.slow
def test_the_result_names_its_image(viewer, qtbot) -> None:
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    result = dock.result
    assert result.image.text() == "Image: scan"
    assert result.image.isVisible()
    assert not result.stale_note.isVisible()
    viewer.layers.clear()
    add(viewer, physical(name="another"))
    wait_for_levels(dock, qtbot)
    dock.tabs.setCurrentIndex(1)
    assert result.image.text() == "Image: scan"
    qtbot.waitUntil(result.stale_note.isVisible)
    measure(dock, qtbot)
    assert result.image.text() == "Image: another"
    assert not result.stale_note.isVisible()


def test_the_selected_pore_stands_out(viewer, qtbot):
    add(viewer, physical())
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)
    layer, table = dock.pores.layer(), dock.result.table
    for column in range(dock.result.colour.count()):
        dock.result.colour.setCurrentIndex(column)
        for row in range(2):
            table.selectRow(row)
            label = table.pores.label_at(row)
            others = [i for i in (1, 2, 3) if i != label]
            np.testing.assert_allclose(layer.get_color(label), HIGHLIGHT, atol=0.01)
            for other in others:
                assert np.abs(layer.get_color(other) - np.array(HIGHLIGHT)).max() > 0.2
            assert layer.get_color(0) is None or layer.get_color(0)[3] == 0


def test_digits_of_a_column_line_up():
    column = np.array([9.93, 57.2, 101.25, 12.0, np.nan])
    decimals = decimals_of(column)
    texts = [cell_text(value, decimals) for value in column]
    assert texts == ["9.930", "57.200", "101.250", "12.000", "–"]
    assert decimals_of(np.array([512.0, 1_234_567.0, 900.0])) == 0
    assert decimals_of(np.array([1, 2])) is None
    assert decimals_of(np.array([1e-9, 2e-9])) is None
    assert decimals_of(np.array([np.nan])) is None


@pytest.mark.slow
def test_a_restored_layer_is_compared_with_its_source(viewer, qtbot):
    source = add(viewer, physical())
    data = source.data
    result = viewer.add_image(data + 1, name="result", scale=source.scale)
    result.metadata[METADATA] = {
        "provenance": [{"operation": "restore"}],
        **source_entry(source),
    }
    viewer.layers.selection.active = result
    dock = open_dock(viewer, qtbot)
    assert dock.settings.image.layer() is result
    assert dock.settings.other.layer() is source
    dock.settings.image.set_layer(source)
    assert dock.settings.other.layer() is None
    dock.settings.other.set_layer(result)
    third = viewer.add_image(data + 2, name="third")
    dock.settings.image.set_layer(third)
    assert dock.settings.other.layer() is result  # the user's choice is kept


def bone_in_air(rng) -> Volume:
    """A tube of dim bone along Z, with fat in its marrow space, surrounded by air."""
    y, x = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(y, x)
    parts = np.where(radius <= 28, 200.0, 20.0)
    parts[radius <= 17] = 70
    for angle in np.arange(12) * np.pi / 6:
        canal = np.hypot(y - 22.5 * np.sin(angle), x - 22.5 * np.cos(angle)) <= 2.5
        parts[canal] = 70
    noise = rng.normal(0, 4, (16, 64, 64))
    return Volume((gaussian_filter(parts, 0.8) + noise).astype(np.float32), "ZYX")


@pytest.mark.parametrize("kind", ["cortex", "marrow"])
def test_preview_shows_cortex_and_marrow_as_measured(viewer, qtbot, rng, kind) -> None:
    add(viewer, bone_in_air(rng))
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    settings = dock.settings
    settings.sample.setCurrentText(WHOLE)
    whole = settings.threshold
    assert not settings.closing.isVisibleTo(settings)
    entry = next(text for text, mask in MASKS.items() if mask == kind)
    settings.sample.setCurrentText(entry)
    assert settings.closing.isVisibleTo(settings)

    def sample() -> object:
        return dock.sample.of(settings.image.layer())

    qtbot.waitUntil(lambda: sample() is not None, timeout=60_000)
    measure(dock, qtbot)
    assert settings.threshold == dock.result.report.threshold
    if kind == "cortex":
        assert settings.threshold > whole + 10
    outline = next(la for la in viewer.layers if la.name.endswith("· sample"))
    inside = np.asarray(outline.data) == 1
    assert not (sample() & ~inside).any()
    # The blurred surface belongs to the sample, but is never shown as pores.
    surface = inside & ~sample()
    assert surface.any() == (kind == "cortex")
    pores = np.asarray(dock.pores.layer().data)
    assert pores.any()
    assert not pores[surface].any()
