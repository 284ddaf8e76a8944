"""The SIM dock in real napari, on simulated frames whose patterns are known."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from opening import opened
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QLineEdit

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import run_to_end
from napari_geosr.gui.jobs.result import ResultOpener
from napari_geosr.gui.kit.dock_tabs import SIM
from napari_geosr.gui.kit.remembered import remember
from napari_geosr.gui.kit.widgets import SentenceLabel
from napari_geosr.gui.layers import METADATA, geometry, layer_metadata
from napari_geosr.gui.sim.order_strip import ThumbnailRow
from napari_geosr.gui.sim.pattern_layers import moved_vectors, peak_places
from napari_geosr.gui.sim.pattern_table import length_text, with_typed
from napari_geosr.io import read
from napari_geosr.jobs import feasibility
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.handover import job_from_run_steps
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.kinds import read_job
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.sim import (
    METHOD_TITLES,
    SimConfig,
    SimulateSimConfig,
    simulate_sim_steps,
)
from napari_geosr.operations.sim.simulation import SimulatedSim
from napari_geosr.physics.illumination.otf import Otf

SIZE = 96


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> SimulatedSim:
    config = SimulateSimConfig(structure="filaments", snr=30, size=SIZE)
    return run_to_end(simulate_sim_steps(tmp_path_factory.mktemp("sim") / "s", config))


@pytest.fixture
def dock(viewer, simulated):
    from napari_geosr import io

    volume = io.read(simulated.files["raw"])
    viewer.add_image(
        np.asarray(volume.data),
        name="raw",
        metadata=layer_metadata(volume),
        **geometry(volume),
    )
    return opened(viewer, SIM)


def wait(qtbot, dock):
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)


def test_frames_become_a_result_in_their_place(viewer, qtbot, dock):
    raw = viewer.layers["raw"]
    dock.form.set_values({"method": "wiener"})
    assert dock.find_button.isDefault()  # as the line below says
    dock.find_button.click()
    assert dock.cancel_button.isEnabled()
    assert not dock.run_button.isEnabled()
    wait(qtbot, dock)
    assert not dock.message.text, dock.message.text
    assert dock.run_button.isDefault()
    assert dock.table.tree.topLevelItemCount() == 3
    assert "3 angles × 3 phases" in dock.arrangement.text()
    names = [layer.name for layer in viewer.layers]
    assert names == ["raw", "raw spectrum", "raw cut-off", "raw patterns"]
    assert viewer.layers["raw spectrum"].extent.world[0][1] > raw.extent.world[1][-1]

    dock.run_button.click()
    wait(qtbot, dock)
    result = viewer.layers["raw · Wiener-SIM"]
    assert result.data.shape == (2 * SIZE, 2 * SIZE)
    assert np.allclose(result.scale, raw.scale[-2:] / 2)
    assert str(result.units[0]) == str(raw.units[-1])
    corners = [la.extent.world for la in (raw, result)]
    half = raw.scale[-1]
    assert np.allclose(corners[0][:, -2:], corners[1], atol=half)
    record = result.metadata[METADATA]["provenance"][-1]
    assert record["operation"] == "sim"
    assert record["settings"]["method"] == "wiener"
    assert "Wiener-SIM" in dock.figures.text()
    dock.rare.set_values({"checks": False})
    dock.run_button.click()
    wait(qtbot, dock)
    assert dock.message.text.endswith("Added raw · Wiener-SIM [1].")


def test_three_beams_are_noted_whatever_was_set_for_other_frames(
    viewer, qtbot, tmp_path
):
    """The number of harmonics belongs to the frames, and is not remembered."""
    config = SimulateSimConfig(beams=3, phases=5, snr=30, size=128)
    made = run_to_end(simulate_sim_steps(tmp_path / "three", config))
    remember("sim", SimConfig(harmonics=1))
    volume = read(made.files["raw"])
    metadata = layer_metadata(volume)
    viewer.add_image(
        np.asarray(volume.data), name="raw", metadata=metadata, **geometry(volume)
    )
    dock = opened(viewer, SIM)
    assert dock.config().harmonics is None
    dock.find_button.click()
    wait(qtbot, dock)
    assert not dock.message.text, dock.message.text
    assert "Both are used (Harmonics: 2)" in dock.arrangement.text()


def test_the_fits_of_the_network_have_plain_names(viewer):
    remember("sim", SimConfig(recipe="published"))
    dock = opened(viewer, SIM)
    menu = dock.rare.editor("recipe")
    shown = [menu.itemText(i) for i in range(menu.count())]
    assert shown == ["refine joint-rl", "as published"]
    assert menu.currentText() == "as published"
    assert dock.rare.title("recipe") == "Fitting"
    assert "ours" not in menu.toolTip()
    dock.rare.set_values(SimConfig.create(recipe="ours").model_dump())  # the old name
    assert dock.config().recipe == "refine"


def test_a_result_shows_its_residual_and_its_spectrum(viewer, qtbot, dock):
    raw = viewer.layers["raw"]
    for method in ("widefield", "wiener"):
        dock.form.set_values({"method": method})
        dock.run_button.click()
        name = f"raw · {METHOD_TITLES[method]}"
        qtbot.waitUntil(lambda n=name: n in viewer.layers, timeout=60_000)
        wait(qtbot, dock)
    assert [la.name for la in viewer.layers if "residual" in la.name] == [
        "raw · Wiener-SIM residual"
    ]
    residual = viewer.layers["raw · Wiener-SIM residual"]
    assert not residual.visible
    # Light from outside reaches the border, which is left out.
    assert residual.data.shape == (SIZE - 12, SIZE - 12)
    assert 0.5 < np.sqrt(np.mean(residual.data**2)) < 5
    shown = dock.figures.text()
    assert shown.startswith("Method\tWiener-SIM\nDuration\t")
    assert "Residual\t0.9" in shown
    assert "Residual of the patterns\t" in shown
    assert "Resolution (ring correlation)\t" in shown
    border = 6 * raw.scale[-1] * np.array([[1, 1], [-1, -1]])
    np.testing.assert_allclose(
        residual.extent.world, raw.extent.world[:, -2:] + border, atol=1e-6
    )
    spectrum = viewer.layers["raw · Wiener-SIM spectrum"]
    left = viewer.layers["raw spectrum"].extent.world
    right = spectrum.extent.world
    assert right[0][1] > left[1][1]
    # Between the centres of the outer pixels, which are half as large.
    widths = [np.ptp(extent[:, 1]) for extent in (left, right)]
    assert widths[1] == pytest.approx(widths[0], abs=raw.scale[-1])
    circles = viewer.layers["raw · Wiener-SIM cut-off"]
    radii = [np.ptp(np.asarray(data)[:, 0]) / 2 for data in circles.data]
    # cycles per camera pixel: the cut-off, and the cut-off plus the wave vector
    found = dock._found.estimate
    reach = max(fringe.frequency for fringe in found.patterns.fringes)
    expected = [found.otf.cut_off, found.otf.cut_off + reach]
    np.testing.assert_allclose(radii, SIZE * np.asarray(expected), rtol=1e-3)
    assert viewer.layers.selection.active is viewer.layers["raw · Wiener-SIM"]


def test_the_network_is_shown_while_it_is_fitted(viewer, qtbot, dock, monkeypatch):
    monkeypatch.setattr("napari_geosr.operations.sim.planes._PREVIEW_SECONDS", 0.0)
    dock.form.set_values({"method": "pinn"})
    dock.rare.set_values(
        {"recipe": "published", "steps": 4, "features": 4, "iterations": 1}
    )
    dock.rare.set_values({"checks": False})
    raw, name = viewer.layers["raw"], "raw · network (preview)"
    dock.find_button.click()
    wait(qtbot, dock)
    seen = []

    def watch(event):
        if event.value.name == name:
            seen.append(event.value)

    viewer.layers.events.inserted.connect(watch)
    dock.run_button.click()
    wait(qtbot, dock)
    assert len(seen) == 1  # later previews change its data
    assert seen[0].data.shape == (2 * SIZE, 2 * SIZE)
    np.testing.assert_allclose(seen[0].scale, raw.scale[-2:] / 2)
    assert name not in viewer.layers
    assert "raw · Physics-informed network" in viewer.layers


def test_a_moved_peak_is_found_again(viewer, qtbot, dock):
    dock.find_button.click()
    wait(qtbot, dock)
    peaks = viewer.layers["raw patterns"]
    before = np.array(peaks.data)
    moved = before.copy()
    moved[0] += (0.6, -0.6)
    peaks.data = moved
    qtbot.waitUntil(lambda: not np.allclose(peaks.data, moved), timeout=60_000)
    wait(qtbot, dock)
    assert np.allclose(peaks.data, before, atol=0.3)
    before = np.array(peaks.data)
    for place in ((SIZE / 2, SIZE / 2), (2 * SIZE, 0)):  # the centre; outside
        peaks.data = np.array([place, *before[1:]])
        assert not dock.activity.busy
        assert "Angle 1: " in dock.message.text
        np.testing.assert_allclose(peaks.data, before)


def test_a_preview_replaces_the_last_one(viewer, qtbot, dock):
    dock.preview_button.click()  # finds the patterns first
    qtbot.waitUntil(lambda: "raw preview" in viewer.layers, timeout=60_000)
    wait(qtbot, dock)
    dock.preview_button.click()
    wait(qtbot, dock)
    assert [la.name for la in viewer.layers].count("raw preview") == 1


def test_settings_stay_in_place_when_the_frames_are_drawn(viewer, qtbot):
    dock = opened(viewer, SIM)
    qtbot.waitUntil(dock.form.isVisible)
    place = dock.form.geometry().top()
    viewer.add_image(np.random.default_rng(0).random((9, 64, 64)), name="raw")
    qtbot.waitUntil(lambda: dock.strip.isVisible() and dock.strip.height() > 20)
    assert dock.form.geometry().top() == place


def test_missing_optics_are_asked_for_below_their_fields(viewer, qtbot):
    viewer.add_image(np.random.default_rng(0).random((9, 64, 64)), name="raw")
    dock = opened(viewer, SIM)
    dock.find_button.click()
    wait(qtbot, dock)
    assert "na" in dock.form.faults
    assert "--" not in dock.form.faults["na"]
    assert dock.form.faults["na"].endswith(
        "does not state the numerical aperture, the emission wavelength and the pixel "
        "size. Give them, or a measured point-spread function."
    )


def test_without_frames_the_dock_says_what_to_do(viewer, qtbot):
    dock = opened(viewer, SIM)
    buttons = (dock.find_button, dock.preview_button, dock.run_button)
    assert not any(button.isEnabled() for button in (*buttons, dock.cluster.widget))
    assert "Open the raw frames" in dock.bar.state.text()
    viewer.add_image(np.zeros((9, 64, 64)), name="raw")
    qtbot.waitUntil(lambda: all(button.isEnabled() for button in buttons))


def test_patterns_of_other_settings_are_discarded(viewer, qtbot, dock):
    dock.find_button.click()
    wait(qtbot, dock)
    dock.form.set_values({"na": 0.9})
    assert [layer.name for layer in viewer.layers] == ["raw"]
    assert dock.table.isHidden()


def test_patterns_follow_a_moved_layer_but_not_another_pixel_size(viewer, qtbot, dock):
    raw = viewer.layers["raw"]
    dock.form.set_values({"method": "wiener"})
    dock.rare.set_values({"checks": False})
    dock.find_button.click()
    wait(qtbot, dock)
    raw.translate = (0, 10, 20)
    assert dock._found is not None
    dock.run_button.click()
    assert dock.activity.busy == "run"
    wait(qtbot, dock)
    result = viewer.layers["raw · Wiener-SIM"]
    np.testing.assert_allclose(
        result.translate, np.array((10, 20)) - raw.scale[-2:] / 4, rtol=1e-6
    )
    raw.scale = raw.scale * (1, 1.1, 1.1)
    assert dock._current(dock.config()) is None
    qtbot.waitUntil(lambda: dock._found is None)
    assert "raw patterns" not in viewer.layers
    dock.run_button.click()
    assert dock.activity.busy == "find"
    wait(qtbot, dock)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "pinn", "upscale_factor": 3},
        {"recipe": "published", "steps": 300, "features": 8, "patterns_after": 100},
        {"iterations": 7, "tv": 0.01, "notch": 0.5, "regularisation": 0.1},
        {"checks": False, "threads": 1, "memory": "2GB"},
    ],
)
def test_patterns_outlive_settings_of_a_reconstruction(viewer, qtbot, dock, settings):
    dock.find_button.click()
    wait(qtbot, dock)
    layers = list(viewer.layers)
    for form in dock.settings_forms():
        form.set_values({k: v for k, v in settings.items() if k in form.names})
    values = dock.config().model_dump()
    assert values.items() >= settings.items()
    assert list(viewer.layers) == layers
    assert dock._current(dock.config()) is not None


def test_methods_that_disagree_are_reported(viewer, qtbot, dock):
    # The number of iterations is given, because finding it takes longer than the rest.
    dock.rare.set_values({"iterations": 20})
    methods = ("widefield", "wiener", "joint-rl")
    for method in methods:
        dock.form.set_values({"method": method})
        dock.run_button.click()
        name = f"raw · {METHOD_TITLES[method]}"
        qtbot.waitUntil(lambda n=name: n in viewer.layers, timeout=60_000)
        wait(qtbot, dock)
        assert "differs" not in dock.message.text
    assert tuple(dock._answers) == methods
    spoiled = dock._answers["joint-rl"]
    spoiled[60:110, 60:110] = spoiled[60:110, 60:110].T * 2
    dock.form.set_values({"method": "wiener"})
    dock.run_button.click()
    wait(qtbot, dock)
    assert "Joint Richardson–Lucy differs from the mean" in dock.message.text
    dock.find_button.click()
    wait(qtbot, dock)
    assert dock._answers == {}


def test_an_unknown_sampling_of_the_psf_is_said(viewer, qtbot, dock, tmp_path):
    f = np.fft.fftfreq(32)
    ideal = Otf(0.34).at(f[:, None], f[None])
    psf = np.fft.fftshift(np.fft.ifft2(ideal).real).astype(np.float32)
    tifffile.imwrite(tmp_path / "psf.tif", psf)
    dock.rare.set_values({"psf": tmp_path / "psf.tif"})
    dock.form.set_values({"method": "wiener"})
    dock.run_button.click()  # finds the patterns first
    qtbot.waitUntil(lambda: "raw · Wiener-SIM" in viewer.layers, timeout=60_000)
    wait(qtbot, dock)
    assert "psf.tif does not state its pixel size" in dock.message.text
    assert "(PSF sampling)" in dock.message.text


def test_either_peak_of_a_pair_can_be_moved():
    vectors = [(0.1, 0.2), (-0.05, 0.3)]
    places = peak_places(vectors, (64, 96))
    assert moved_vectors(places, vectors, (64, 96)) == vectors
    places[3] += (1.5, -2)
    found = moved_vectors(places, vectors, (64, 96))
    assert found[0] == vectors[0]
    assert found[1] == pytest.approx((-0.05 - 1.5 / 64, 0.3 + 2 / 96))


def test_a_run_becomes_a_job_with_the_patterns_on_screen(viewer, qtbot, dock, tmp_path):
    dock.form.set_values({"method": "wiener"})
    dock.find_button.click()
    wait(qtbot, dock)
    stopped = dock._run_elsewhere()
    assert stopped.name == "raw_wiener"
    folder = run_to_end(job_from_run_steps(stopped, tmp_path, start=False))
    job = JobFolder(folder)
    spec, profile = read_job(job.values(), folder)[0], Profile()
    time = stopped.describe_time(profile)
    assert time.startswith("at least about ")
    assert time == feasibility.describe_time(spec, profile)
    seen = run_to_end(run_steps(job))
    assert seen == folder / "result" / "raw_wiener.ome.tif"
    dock.run_button.click()
    wait(qtbot, dock)
    ours = viewer.layers["raw · Wiener-SIM"]
    volume = read(seen)
    np.testing.assert_allclose(volume.data, ours.data, rtol=1e-4, atol=1e-3)
    assert volume.provenance[-1]["settings"]["patterns"].endswith("patterns.yaml")
    assert not foreign_files(folder)

    opener = ResultOpener(viewer, dock)
    with qtbot.waitSignal(opener.opened, timeout=60_000):
        opener.open(folder)
    layer = viewer.layers[-1]
    np.testing.assert_allclose(layer.scale[-2:], ours.scale[-2:])
    np.testing.assert_allclose(layer.translate[-2:], ours.translate[-2:], atol=1e-6)


def test_a_run_can_be_moved_to_the_background(qtbot, dock, tmp_path, monkeypatch):
    dock.handover.folder = tmp_path
    started = []
    monkeypatch.setattr("napari_geosr.jobs.local.start", started.append)
    dock.form.set_values({"method": "joint-rl"})
    dock.find_button.click()
    wait(qtbot, dock)
    dock.run_button.click()
    assert dock.handover.is_running
    assert "starts again from the beginning" in dock.handover.remark
    ended = []
    dock.handover.hand_over(
        start=True, on_done=lambda: ended.append("job"), failed=lambda: None
    )
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    (job,) = started
    assert job.values()["operation"] == "sim"
    assert job.path.parent == tmp_path


def test_colours_are_refused(viewer, qtbot, tmp_path):
    """As channels opened by the plugin, and as a layer of RGB images."""
    pixels = np.random.default_rng(0).integers(0, 255, (9, 48, 48, 3), np.uint8)
    tifffile.imwrite(tmp_path / "colours.tif", pixels, photometric="rgb")
    viewer.open(f"{tmp_path}/colours.tif", plugin="napari-geosr")
    dock = opened(viewer, SIM)
    dock.form.set_values({"na": 1.4, "wavelength": "525nm", "pixel": 65})
    assert len(viewer.layers) == 3
    for layer in list(viewer.layers):
        dock.combo.set_layer(layer)
        dock.find_button.click()
        wait(qtbot, dock)
        assert f"'{layer.name}' contains colour images" in dock.message.text
        assert "Export the raw frames as a greyscale stack" in dock.message.text
        assert dock.strip.isHidden()
    dock.message.clear()
    viewer.layers.clear()
    viewer.add_image(pixels, rgb=True, name="pictures")
    qtbot.waitUntil(lambda: dock.combo.layer() is not None)
    dock.run_button.click()
    wait(qtbot, dock)
    assert "'pictures' is RGB; a greyscale volume is needed" in dock.message.text
    assert [layer.name for layer in viewer.layers] == ["pictures"]


def test_a_pixel_size_given_here_is_that_of_the_frames(viewer, qtbot, simulated):
    """If a file has no pixel size, the result still matches the frames."""
    raw = viewer.add_image(np.asarray(read(simulated.files["raw"]).data), name="raw")
    dock = opened(viewer, SIM)
    given = SimulateSimConfig()
    optics = {"na": given.na, "wavelength": f"{given.wavelength}nm"}
    dock.form.set_values({**optics, "pixel": given.pixel, "method": "wiener"})
    dock.run_button.click()
    wait(qtbot, dock)
    qtbot.waitUntil(lambda: "raw · Wiener-SIM" in viewer.layers, timeout=60_000)
    result = viewer.layers["raw · Wiener-SIM"]
    assert {str(unit) for unit in (*raw.units, *result.units)} == {"micrometer"}
    np.testing.assert_allclose(result.scale, np.full(2, given.pixel / 2000))
    np.testing.assert_allclose(
        result.extent.world[:, -2:], raw.extent.world[:, -2:], atol=0.05
    )


def test_all_frames_are_drawn_before_the_search(viewer, qtbot, dock):
    qtbot.waitUntil(lambda: dock.strip.overview is not None, timeout=60_000)
    assert not dock.strip.isHidden()
    assert dock.strip.remark.isHidden()
    overview = dock.strip.overview
    assert overview.rows.shape == (3, 40, 3 * 42 - 2)
    assert "order: angle, then phase" in dock.arrangement.text()
    row = dock.strip.findChildren(ThumbnailRow)[1]
    qtbot.mouseClick(row, Qt.MouseButton.LeftButton, pos=QPoint(90, 20))
    assert viewer.dims.current_step[0] == 5  # angle 2, phase 3

    dock.form.set_values({"order": "paz"})
    qtbot.waitUntil(lambda: dock.strip.overview is not overview, timeout=60_000)
    changed = dock.strip.overview
    assert changed.frames.order == "paz"
    np.testing.assert_array_equal(changed.rows[1, :, :40], overview.rows[0, :, 42:82])
    dock.form.set_values({"order": "", "angles": 5})
    qtbot.waitUntil(lambda: dock.strip.isHidden(), timeout=60_000)
    dock.form.set_values({"angles": None})
    qtbot.waitUntil(lambda: not dock.strip.isHidden(), timeout=60_000)


def test_shuffled_frames_are_noticed_before_the_search(viewer, qtbot, dock):
    raw = viewer.layers["raw"]
    raw.data = raw.data[np.random.default_rng(3).permutation(9)]
    dock.combo.layerChanged.emit()
    qtbot.waitUntil(lambda: bool(dock.strip.remark.text()), timeout=60_000)
    said = dock.strip.remark.text()
    assert "order of the frames of raw.ome.tif is unclear" in said
    assert "give the order." in said


def test_a_typed_period_is_searched_nearby(viewer, qtbot, dock):
    dock.find_button.click()
    wait(qtbot, dock)
    before = dock._found.estimate.patterns
    item = dock.table.tree.topLevelItem(1)
    assert item.child(0).text(0).startswith("phases ")
    item.setText(1, "a lot")
    assert "is not a period" in dock.message.text
    assert dock._found.estimate.patterns is before
    found = dock._found
    item = dock.table.tree.topLevelItem(1)
    item.setText(1, length_text(1.01 / before.fringes[1].frequency * 0.065, "µm"))
    qtbot.waitUntil(lambda: dock._found is not found, timeout=60_000)
    wait(qtbot, dock)
    after = dock._found.estimate.patterns
    for one, other in zip(before.fringes, after.fringes, strict=True):
        np.testing.assert_allclose(one.wave_vector, other.wave_vector, atol=0.3 / SIZE)


def test_patterns_are_in_sight_when_they_are_found(viewer, qtbot, dock):
    viewer.window._qt_window.resize(1366, 768)
    qtbot.wait(50)
    assert dock.table.isHidden()
    dock.find_button.click()
    wait(qtbot, dock)
    table = dock.table
    qtbot.waitUntil(lambda: table.visibleRegion().boundingRect() == table.rect())


def test_a_value_is_typed_while_the_frames_are_drawn(viewer, qtbot, dock):
    dock.find_button.click()
    wait(qtbot, dock)
    tree = dock.table.tree
    qtbot.waitUntil(lambda: dock.strip.overview is not None, timeout=60_000)
    tree.editItem(tree.topLevelItem(0), 1)
    (editor,) = tree.findChildren(QLineEdit)
    editor.setText("3")
    dock.strip.drawn.emit()
    assert tree.state() == tree.State.EditingState
    qtbot.keyClicks(editor, "1 nm")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    said = "A period of 31 nm is below two pixels"
    qtbot.waitUntil(lambda: said in dock.message.text, timeout=5000)
    assert length_text(1204, "nm") == "1200 nm"
    assert tree.topLevelItem(0).text(1) == length_text(
        0.065 / dock._found.estimate.patterns.fringes[0].frequency, "µm"
    )


def test_typed_directions_and_periods():
    fringe = FringePattern((0.0, 0.25), (0.0, 2.1, 4.2))
    patterns = PatternSet((fringe,), (64, 64), 0.05, "µm")
    assert with_typed(patterns, 0, True, "200 nm") is patterns
    assert with_typed(patterns, 0, False, "1: 0.0°") is patterns
    turned = with_typed(patterns, 0, False, "1: 30°").fringes[0]
    assert turned.direction == pytest.approx(30)
    assert turned.frequency == pytest.approx(0.25)
    for text in ("0.25 µm", "250", "250nm"):
        longer = with_typed(patterns, 0, True, text).fringes[0]
        assert longer.wave_vector == pytest.approx((0.0, 0.2))
    for is_period, text in ((True, "far"), (True, "90 nm"), (False, "up")):
        with pytest.raises(ConfigError, match="Enter a"):
            with_typed(patterns, 0, is_period, text)


def test_any_two_results_can_be_compared(viewer, qtbot, dock):
    dock.rare.set_values({"checks": False, "iterations": 3})
    methods = ("widefield", "wiener", "joint-rl")
    for method in methods:
        dock.form.set_values({"method": method})
        dock.run_button.click()
        name = f"raw · {METHOD_TITLES[method]}"
        qtbot.waitUntil(lambda n=name: n in viewer.layers, timeout=60_000)
        wait(qtbot, dock)
    layers = {m: viewer.layers[f"raw · {METHOD_TITLES[m]}"] for m in methods}
    answers = dock.answers
    assert answers.box.pair() == (layers["widefield"], layers["joint-rl"])
    answers.box.curtain_button.setChecked(True)
    answers.left.setCurrentIndex(answers.left.findData("wiener"))
    assert answers.box.pair() == (layers["wiener"], layers["joint-rl"])
    assert answers.box.curtain_button.isChecked()
    viewer.layers.remove(layers["joint-rl"])
    assert answers.right.findData("joint-rl") == -1
    assert not answers.box.isEnabled()
    answers.right.setCurrentIndex(answers.right.findData("widefield"))
    assert answers.box.pair() == (layers["wiener"], layers["widefield"])


def test_warnings_name_fields_and_not_options(viewer, qtbot, dock):
    dock.show_warning("The frames fit the order zap better than apz: check --order.")
    assert dock.message.text.endswith("better than apz: check Order.")
    dock.show_warning("Choose the automatic sample mask (--sample auto).")
    assert dock.message.text.endswith("Choose the automatic sample mask.")


def drag_first_peak(dock, by):
    places = np.array(dock.patterns.peaks.data)
    before = places.copy()
    places[0] += by
    dock.patterns.peaks.data = places
    return before


def test_a_pattern_that_was_not_found_is_reported_at_the_buttons(viewer, qtbot, dock):
    dock.find_button.click()
    wait(qtbot, dock)
    drag_first_peak(dock, (9, 9))
    wait(qtbot, dock)
    assert dock._found.estimate.problems
    assert dock.bar.state.text() == "Next: correct the patterns or the settings."
    assert dock.find_button.property("primary")
    assert not dock.run_button.property("primary")
    dock.message.clear()
    dock.run_button.click()
    assert not dock.activity.busy
    assert "no pattern found" in dock.message.text
    assert "near the given ones were searched" in dock.message.text
    assert "Periods from" not in dock.message.text
    assert not dock.rare.faults


def test_a_cancelled_correction_is_undone(viewer, qtbot, dock):
    dock.find_button.click()
    wait(qtbot, dock)
    found = dock._found
    before = drag_first_peak(dock, (6, -4))
    assert dock.activity.busy
    dock.cancel_button.click()
    wait(qtbot, dock)
    assert dock._found is found
    np.testing.assert_allclose(dock.patterns.peaks.data, before)


def test_patterns_of_replaced_frames_are_removed(viewer, qtbot, dock):
    raw = viewer.layers["raw"]
    dock.find_button.click()
    wait(qtbot, dock)
    drag_first_peak(dock, (1, 1))
    wait(qtbot, dock)
    assert dock._found.corrected is not None
    raw.data = raw.data[:, ::-1].copy()
    qtbot.waitUntil(lambda: dock._found is None, timeout=5000)
    assert [layer.name for layer in viewer.layers] == ["raw"]
    assert dock.table.isHidden()
    assert "the corrected patterns were discarded" in dock.message.text


def test_patterns_of_an_earlier_order_are_not_shown(viewer, qtbot, dock):
    dock.find_button.click()
    dock.form.set_values({"order": "paz"})
    wait(qtbot, dock)
    assert dock._found is None
    assert [layer.name for layer in viewer.layers] == ["raw"]
    assert "changed during the search" in dock.message.text


def test_an_error_below_a_field_is_in_sight(viewer, qtbot, dock):
    viewer.window._qt_window.resize(1366, 768)
    qtbot.wait(50)
    text = "The patterns do not fit. " * 12
    dock.show_settings_error(ConfigError(text, fields=("patterns",)))
    labels = dock.findChildren(SentenceLabel)
    label = next(each for each in labels if each.about is dock.rare.editor("patterns"))
    qtbot.waitUntil(lambda: label.visibleRegion().boundingRect() == label.rect())
