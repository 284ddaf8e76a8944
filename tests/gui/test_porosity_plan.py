"""The section of the Porosity dock that plans fine scans."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from porosity_helpers import open_dock, wait_for_levels

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import geometry
from napari_geosr.gui.porosity import plan_section
from napari_geosr.gui.porosity.linked.spots import SpotArray, spot_text

SIZE, ORIGIN = (2.0, 2.0, 2.0), (10.0, -20.0, 30.0)


def rock(**fields: object) -> Volume:
    """Random voxels, for which the variation of spots can be calculated by hand."""
    grey = np.random.default_rng(0).choice([50, 200], (64, 64, 64), p=[0.2, 0.8])
    return Volume(grey.astype(np.uint8), "ZYX", name="rock", **fields)


@pytest.fixture
def dock(viewer, qtbot):
    scan = rock(voxel_size=SIZE, unit="µm", origin=ORIGIN)
    viewer.add_image(scan.data, name="rock", **geometry(scan))
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.plan.section.set_open(True)
    dock.plan.spot.setText("32um")
    dock.plan.precision.setText("2%")
    return dock


def planned(dock, qtbot) -> str:
    """Click the button, and return the text of the plan."""
    dock.plan.button.click()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
    text, table = dock.plan.text.text(), dock.plan.figures.text()
    return f"{text}\n{table}" if text else ""


def test_spots_are_shown_where_they_are(viewer, qtbot, dock):
    text = planned(dock, qtbot)
    assert text.startswith(
        "Planned for: spot 32um, precision 2 %, scan of the whole sample, threshold "
        "Otsu, no sample mask\n"
    )
    assert "Spots\t8\tof 64 possible\nEdge length of a spot\t32\tµm" in text
    assert "Porosity of this scan\t20" in text
    assert "Expected 95 % interval from 8 spots\t± " in text
    spots, image = viewer.layers["rock · spots"], viewer.layers["rock"]
    assert np.array_equal(spots.scale, image.scale)
    assert np.array_equal(spots.translate, image.translate)
    labels = np.asarray(spots.data)
    assert np.array_equal(np.unique(labels), np.arange(9))
    for number, porosity in zip(
        spots.features["index"][1:], spots.features["porosity"][1:], strict=True
    ):
        inside = labels == number
        assert inside.sum() == 16**3
        assert (image.data[inside] == 50).mean() == pytest.approx(porosity)
    for z in (0, 20, 63):
        assert np.array_equal(spots.data[z], labels[z])
        assert np.array_equal(spots.data[:, z, 3:9], labels[:, z, 3:9])
    assert dock.measure_button.isEnabled()


def test_a_plan_has_costs_other_sizes_and_files(
    viewer, qtbot, dock, tmp_path, monkeypatch
):
    """As on the command line."""
    plan = dock.plan
    assert plan.export_button.isHidden()
    plan.hours.setText("3")
    plan.kilowatts.setText("5")
    text = planned(dock, qtbot)
    for row in (
        "Scan time\t24\th",
        "Scan time saved\t168\th\tcompared with all 64 possible spots",
        "Energy\t120\tkWh",
        "CO2eq\t7.20\tkg",
        "CO2eq saved\t50.4\tkg",
    ):
        assert row in text
    sizes = plan.sizes.text()
    assert plan.sizes_title.text() == "Other spot sizes for the same precision:"
    assert sizes.startswith("Edge\tSpots\tScanned\n")
    assert "\n32 µm\t" in sizes
    assert sizes.count("\n") > 3
    folders = iter([str(tmp_path), "", str(tmp_path)])
    monkeypatch.setattr(
        plan_section.QFileDialog,
        "getExistingDirectory",
        lambda *_: next(folders),
    )
    plan.export_button.click()
    qtbot.waitUntil(lambda: str(tmp_path) in dock.message.text, timeout=60_000)
    names = ["plan.json", "sizes.csv", "spots.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    values = json.loads((tmp_path / "plan.json").read_text("utf-8"))
    assert values["costs"]["kilograms_co2eq"] == pytest.approx(7.2)
    assert values["provenance"]["settings"]["hours_per_spot"] == 3
    with (tmp_path / "spots.csv").open(encoding="utf-8") as file:
        spots = list(csv.DictReader(file))
    corners = np.array([[float(s[f"{a} (µm)"]) for a in "zyx"] for s in spots])
    np.testing.assert_allclose((corners - ORIGIN) % 32, 15, atol=1e-4)
    qtbot.waitUntil(plan.export_button.isEnabled)
    plan.export_button.click()  # the question for the folder is cancelled
    asked = []
    monkeypatch.setattr(
        plan_section, "confirm_overwrite", lambda *args: bool(asked.append(args[2]))
    )
    plan.export_button.click()
    assert asked == [names]
    plan.hours.setText("4")
    assert "The scan time per spot was changed" in plan.stale_note.text()
    plan.hours.setText("")
    assert planned(dock, qtbot) == ""  # a power without a time is refused
    assert "enter the hours per spot" in plan.faults["hours_per_spot"]
    assert plan.export_button.isHidden()
    assert plan.sizes.isHidden()


def test_another_plan_replaces_the_spots(viewer, qtbot, dock):
    planned(dock, qtbot)
    first = viewer.layers["rock · spots"]
    assert not first.editable
    dock.plan.precision.setText("4%")
    planned(dock, qtbot)
    found = [layer for layer in viewer.layers if layer.name.startswith("rock · spots")]
    assert len(found) == 1
    assert found[0] is not first
    assert len(found[0].features) < len(first.features)


def test_the_plan_of_another_image_is_not_shown(viewer, qtbot, dock):
    assert planned(dock, qtbot)
    other = rock(voxel_size=SIZE, unit="µm").replace(name="other")
    layer = viewer.add_image(other.data, name="other", **geometry(other))
    dock.settings.image.set_layer(layer)
    qtbot.waitUntil(lambda: not dock.plan.text.text())


def test_changes_after_the_plan_are_told_and_the_spots_follow(viewer, qtbot, dock):
    planned(dock, qtbot)
    image, spots, note = viewer.layers["rock"], viewer.layers["rock · spots"], dock.plan
    assert note.stale_note.isHidden()
    image.translate = (40.0, 10.0, 0.0)
    qtbot.waitUntil(lambda: np.array_equal(spots.translate, image.translate))
    assert note.stale_note.isHidden()
    dock.settings.method.setCurrentText("Li")
    qtbot.waitUntil(lambda: "threshold settings were" in note.stale_note.text())
    dock.settings.method.setCurrentText("Otsu")
    qtbot.waitUntil(note.stale_note.isHidden)
    image.scale = (3.0, 3.0, 3.0)
    qtbot.waitUntil(lambda: np.array_equal(spots.scale, image.scale))
    assert note.stale_note.text().endswith(
        "The voxel size of 'rock' was changed after the plan. Press Plan scan to plan "
        "again."
    )
    image.scale = SIZE
    qtbot.waitUntil(note.stale_note.isHidden)
    image.data = image.data[::-1].copy()
    qtbot.waitUntil(lambda: "grey values of 'rock' were" in note.stale_note.text())


def test_spots_of_a_time_point_are_shown_only_there(viewer, qtbot):
    scan = rock().data
    viewer.add_image(np.stack([scan, scan]), name="rock", axis_labels=tuple("tzyx"))
    dock = open_dock(viewer, qtbot)
    viewer.dims.set_point(0, 1)
    wait_for_levels(dock, qtbot)
    dock.plan.section.set_open(True)
    dock.plan.spot.setText("16voxels")
    assert planned(dock, qtbot).splitlines()[0].endswith("no sample mask, time 1")
    spots = viewer.layers["rock · spots (time 1)"]
    assert not np.any(spots.data[0])
    assert np.any(spots.data[1])
    assert np.array_equal(np.asarray(spots.data)[:, 20], spots.data[:, 20])
    viewer.dims.set_point(0, 0)
    qtbot.waitUntil(
        lambda: (
            "This plan belongs to time 1, but time 0 is shown. Press Plan scan to "
            "plan time 0." in dock.plan.stale_note.text()
        )
    )


def test_one_spot_has_no_places(viewer, qtbot, dock):
    dock.plan.scan.setCurrentIndex(1)
    text = planned(dock, qtbot)
    spots = text.splitlines()[1]
    assert spots.startswith("Spots\t")
    assert "of " not in spots
    assert "rock · spots" not in viewer.layers


def test_a_text_without_meaning_is_refused(viewer, qtbot, dock):
    assert planned(dock, qtbot)
    dock.plan.spot.setText("large")
    assert planned(dock, qtbot) == ""
    assert "not a length" in dock.plan.faults["spot"]
    assert "rock · spots" not in viewer.layers
    for spot, says in (("3um", "only 1.5 voxels"), ("100um", "(Scan shows: one spot)")):
        dock.plan.spot.setText(spot)
        assert not dock.plan.faults
        planned(dock, qtbot)
        assert says in dock.plan.faults["spot"]
        assert not dock.message.text
    dock.plan.precision.setText("5")
    planned(dock, qtbot)
    assert "for 5 %, give 5%" in dock.plan.faults["precision"]


def test_a_plan_that_fails_removes_the_earlier_one(viewer, qtbot, dock):
    assert planned(dock, qtbot)
    dock.plan.button.click()
    dock.cancel()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
    assert dock.plan.text.text()  # cancelled: nothing was changed
    assert "rock · spots" in viewer.layers
    dock.plan.spot.setText("3um")  # is refused while planning
    assert planned(dock, qtbot) == ""
    assert "rock · spots" not in viewer.layers


def test_all_remarks_are_shown_and_edits_during_the_plan(viewer, qtbot, dock):
    dock.plan.spot.setText("27.5um")
    dock.plan.precision.setText("0.1%")
    planned(dock, qtbot)
    for part in (
        "Spots of 27.5 µm were requested; the plan uses 26 µm",
        "plan again after the first high-resolution scan",
    ):
        assert part in dock.message.text
    dock.plan.button.click()
    viewer.layers["rock"].data[:] = viewer.layers["rock"].data[::-1].copy()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
    assert dock.plan.stale_note.text().endswith(
        "'rock' was edited during the plan, so this plan may combine values from "
        "before and after the edit. Press Plan scan to plan again."
    )


def test_spots_belong_to_their_image_whatever_its_name(viewer, qtbot, dock):
    planned(dock, qtbot)
    image = viewer.layers["rock"]
    image.name = "granite"
    planned(dock, qtbot)
    names = [layer.name for layer in viewer.layers if "preview" not in layer.name]
    assert names == ["granite", "granite · spots"]
    viewer.layers.remove(image)
    qtbot.waitUntil(lambda: "granite · spots" not in viewer.layers)


def test_spots_are_renamed_with_their_image(viewer, qtbot, dock):
    planned(dock, qtbot)
    image, spots = viewer.layers["rock"], viewer.layers["rock · spots"]
    image.name = "granite"
    assert spots.name == "granite · spots"
    spots.name = "mine"  # a name that the user chose is kept
    image.name = "marble"
    assert spots.name == "mine"


def test_plans_can_end_in_3d(viewer, qtbot, dock):
    """Before the mouse was over the canvas, the view has no direction."""
    viewer.dims.ndisplay = 3
    viewer.mouse_over_canvas = True
    assert planned(dock, qtbot)
    spots = viewer.layers["rock · spots"]
    assert spots.contour
    assert not spots.editable
    position = [float(v) for v in spots.extent.world[0] + 1]
    status = spots.get_status(position, view_direction=None, dims_displayed=[0, 1, 2])
    assert "porosity:" not in status["coordinates"]
    assert spot_text(1, [0.25]) == "spot 1: porosity 25.0 %"


@pytest.mark.parametrize("field", ["spot", "precision", "type of scan"])
def test_a_plan_is_outdated_when_its_fields_have_changed(qtbot, dock, field):
    dock.plan.spot.setText("10%")
    planned(dock, qtbot)
    for editor, name in ((dock.plan.spot, "spot"), (dock.plan.precision, "precision")):
        if name == field:
            editor.setText("20%")
    if field == "type of scan":
        dock.plan.scan.setCurrentIndex(1)
    assert f"The {field} was changed after the plan." in dock.plan.stale_note.text()
    dock.plan.scan.setCurrentIndex(0)
    dock.plan.spot.setText("10%")
    dock.plan.precision.setText("2%")
    assert dock.plan.stale_note.isHidden()


def test_other_data_and_samples_after_a_plan_are_told(viewer, qtbot, dock):
    plan, image = dock.plan, viewer.layers["rock"]
    square = [[0, 20, 10], [0, 20, 90], [0, 100, 90], [0, 100, 10]]
    place = {"scale": (1, 1, 1), "translate": (0, -30, 30), "units": ("um",) * 3}
    outline = viewer.add_shapes([np.array(square, float)], name="outline", **place)
    dock.settings.sample.set_layer(outline)
    wait_for_levels(dock, qtbot)
    plan.spot.setText("10voxels")
    assert "sample 'outline'" in planned(dock, qtbot)
    assert plan.stale_note.isHidden()
    viewer.layers.remove(outline)
    qtbot.waitUntil(lambda: "The sample was changed" in plan.stale_note.text())
    planned(dock, qtbot)
    qtbot.waitUntil(plan.stale_note.isHidden)
    dock.settings.form.set_values({"phase": "bright"})
    qtbot.waitUntil(lambda: "threshold settings were" in plan.stale_note.text())
    dock.settings.form.set_values({"phase": "dark"})
    qtbot.waitUntil(plan.stale_note.isHidden)
    dock.settings.set_manual(100)
    qtbot.waitUntil(lambda: "threshold settings were" in plan.stale_note.text())
    planned(dock, qtbot)
    qtbot.waitUntil(plan.stale_note.isHidden)
    image.data[:32] = 200
    image.refresh()
    qtbot.waitUntil(lambda: "grey values of 'rock' were" in plan.stale_note.text())
    planned(dock, qtbot)
    qtbot.waitUntil(plan.stale_note.isHidden)
    image.data = image.data[:48].copy()
    qtbot.waitUntil(lambda: "grey values of 'rock' were" in plan.stale_note.text())


def test_a_closed_image_gets_no_spots(viewer, qtbot, dock):
    dock.plan.button.click()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
    assert not viewer.layers


@pytest.mark.parametrize("leading", [(), (3,)])
def test_any_part_of_many_spots(leading):
    """Also with more spots than 16 bits can number."""
    rng = np.random.default_rng(0)
    starts = rng.integers(-2, 20, (40, 3))
    starts = np.concatenate([np.full((2**16, 3), 100), starts])
    array = SpotArray((*leading, 20, 24, 28), starts, np.array([4, 5, 6]))
    assert array.dtype == np.uint32
    expected = np.zeros(array.shape, array.dtype)
    for number, (z, y, x) in enumerate(starts, start=1):
        box = (
            slice(max(0, i), i + n) for i, n in zip((z, y, x), (4, 5, 6), strict=True)
        )
        expected[(..., *box)] = number
    assert expected.max() == len(starts)
    assert np.array_equal(np.asarray(array), expected)
    any_slice, back, coarse = slice(None), slice(None, None, -1), slice(1, 17, 3)
    for key in ((5,), (any_slice, 7), (back, coarse, 3), (coarse, -2, back)):
        whole_key = (*([any_slice] * len(leading)), *key)
        assert np.array_equal(array[whole_key], expected[whole_key])
    few = SpotArray(
        (1000,) * 3,
        np.arange(20_000)[:, None] % 990 + np.zeros(3, int),
        8 * np.ones(3, int),
    )
    assert few[500].dtype == np.uint16


def test_a_plan_stops_when_its_image_is_closed(viewer, qtbot, dock, monkeypatch):
    def endless_steps(*_, should_stop):
        while not should_stop():
            yield Step()
        raise Cancelled("Cancelled.")

    monkeypatch.setattr(plan_section, "plan_steps", endless_steps)
    dock.plan.button.click()
    viewer.layers.remove("rock")
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
    text = "Layer 'rock' was removed, so its plan was stopped."
    assert dock.message.text == text
