"""The SIM dock with channels, time points and slices, and with corrected patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from opening import opened
from qtpy.QtWidgets import QWidget

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames import ORDERS, SimFrames
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.core.text.figures import Figure
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.dock_tabs import SIM
from napari_geosr.gui.layers import METADATA, geometry
from napari_geosr.gui.layers.camera import is_in_view
from napari_geosr.gui.sim.answers import AnswerCompare
from napari_geosr.gui.sim.pattern_layers import beside
from napari_geosr.gui.sim.pattern_table import check_corrected
from napari_geosr.gui.sim.placement import give_pixel_size, plane_of_frame
from napari_geosr.gui.sim.result_layers import SimResultLayers, with_axes_of
from napari_geosr.gui.sim.steps import (
    FoundPatterns,
    find_steps,
    preview_steps,
    reconstruct_steps,
    refine_steps,
)
from napari_geosr.gui.sim.widgets import DONE
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.handover import LayerVolume, job_from_run_steps
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.run import run_steps
from napari_geosr.jobs.stopped.sim import StoppedSim
from napari_geosr.operations.sim import PatternEstimate, SimConfig, SimResult
from napari_geosr.operations.sim.starts import search_starts
from napari_geosr.operations.sim.trust.support import FourierSupport
from napari_geosr.operations.storage import cached_zarr
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.physics.illumination.simulation import SimScene, simulate_frames
from napari_geosr.sim.noise import FrameNoise

SIZE = 96
#: Ratio of the wavelengths of two channels, and so of their cut-offs and periods.
RATIO = 1.3
WAVELENGTH = 2 * 1.4 * 65 / 0.37


@pytest.fixture(scope="module")
def channels():
    """Frames of two channels with different patterns, and their objects."""
    scene = SimScene(size=SIZE, snr=30, seed=1)
    other = replace(scene, cut_off=scene.cut_off / RATIO, seed=2)
    made = [simulate_frames("er", one) for one in (scene, other)]
    stack = np.stack([one.frames.reshape(9, SIZE, SIZE) for one in made])
    size = (0.125, 0.065, 0.065)
    volume = Volume(np.rint(stack).astype("u2"), "CZYX", size, "µm", name="raw")
    return volume, [one.truth for one in made]


@pytest.fixture(scope="module")
def config() -> SimConfig:
    return SimConfig.create(
        na=1.4,
        wavelength=(WAVELENGTH, WAVELENGTH * RATIO),
        method="wiener",
        checks=False,
        threads=1,
    )


@pytest.fixture(scope="module")
def found(channels, config) -> FoundPatterns:
    return run_to_end(find_steps(channels[0], config, never_stop))


@pytest.fixture(scope="module")
def corrected(found, config) -> FoundPatterns:
    """The same after one peak was dragged by a third of a pixel."""
    patterns = found.estimate.patterns
    first, *others = patterns.fringes
    ky, kx = first.wave_vector
    moved = replace(first, wave_vector=(ky + 0.3 / SIZE, kx))
    near = replace(patterns, fringes=(moved, *others))
    return run_to_end(refine_steps(found, near, config, never_stop))


@pytest.fixture
def starts(monkeypatch) -> list[tuple[int, int, PatternSet | None]]:
    """Record time point, channel and start of each search during a run."""
    from napari_geosr.operations.sim import estimate

    seen = []
    original = estimate.estimate_steps

    def recorded(frames, config, *, time=0, channel=0, near=None, **rest):
        seen.append((time, channel, near))
        return original(frames, config, time=time, channel=channel, near=near, **rest)

    monkeypatch.setattr(estimate, "estimate_steps", recorded)
    return seen


def similarity(image: np.ndarray, truth: np.ndarray) -> float:
    factor = truth.shape[0] // image.shape[0]
    n = image.shape[0]
    binned = truth.reshape(n, factor, n, factor).mean((1, 3))
    inner = (slice(12, -12),) * 2
    return float(np.corrcoef(image[inner].ravel(), binned[inner].ravel())[0, 1])


def test_each_channel_is_previewed_with_its_own_patterns(channels, found, config):
    place = (slice(0, SIZE), slice(0, SIZE))
    for channel, truth in enumerate(channels[1]):
        at = (0, 0, channel)
        steps = preview_steps(found, config, place, at, never_stop)
        assert similarity(run_to_end(steps).data, truth) > 0.7
    one, other = found.estimate, found.search.estimates[0, 1]
    ratio = other.patterns.fringes[0].frequency / one.patterns.fringes[0].frequency
    assert ratio == pytest.approx(1 / RATIO, rel=0.02)
    assert other.otf.cut_off == pytest.approx(one.otf.cut_off / RATIO)


def test_a_run_of_several_channels_starts_from_the_corrected_patterns(
    channels, corrected, config, starts
):
    run_to_end(reconstruct_steps(channels[0], config, corrected, {}, never_stop))
    assert [start[:2] for start in starts] == [(0, 0), (0, 1)]
    assert starts[0][2] is corrected.estimate.patterns
    assert starts[1][2] is None  # other periods; see `search_starts`


def test_a_job_starts_from_the_corrected_patterns(
    channels, corrected, config, starts, tmp_path
):
    assert corrected.corrected is not None
    data = LayerVolume(channels[0], whole=True)
    stopped = StoppedSim(data, config, near=corrected.corrected)
    folder = run_to_end(job_from_run_steps(stopped, tmp_path, start=False))
    assert not foreign_files(folder)
    run_to_end(run_steps(JobFolder(folder)))
    vectors = [fringe.wave_vector for fringe in starts[0][2].fringes]
    expected = [fringe.wave_vector for fringe in corrected.corrected.fringes]
    np.testing.assert_allclose(vectors, expected)


def test_where_patterns_are_searched_for(found):
    frames, patterns = found.frames, found.estimate.patterns
    assert search_starts(frames, 0) == (None,)
    assert search_starts(frames, 1, before=patterns) == (patterns, None)
    assert search_starts(frames, 0, corrected=patterns) == (patterns,)
    near = search_starts(frames, 0, before=patterns, corrected=patterns)
    assert near == (patterns,)  # a search everywhere could overrule the user
    anywhere, same, scaled = search_starts(frames, 1, corrected=patterns)
    assert (anywhere, same) == (None, patterns)
    for one, other in zip(patterns.fringes, scaled.fringes, strict=True):
        assert other.frequency == pytest.approx(one.frequency / RATIO)
        assert other.direction == pytest.approx(one.direction)


@pytest.mark.parametrize("order", ORDERS)
def test_the_slice_of_the_frame_on_screen_is_previewed(viewer, order):
    stack = np.zeros((45, 32, 32), np.uint8)
    volume = Volume(stack, "ZYX", (0.125, 0.065, 0.065), "µm")
    frames = SimFrames.from_volume(volume, angles=3, phases=3, order=order)
    layer = viewer.add_image(stack)
    for angle, phase, plane in ((0, 1, 3), (2, 0, 1), (1, 2, 4)):
        viewer.dims.set_current_step(0, frames.index(angle, phase, plane))
        assert plane_of_frame(viewer, layer, frames) == (plane, 0, 0)


def test_slices_time_points_and_channels_with_their_own_axes_are_previewed(viewer):
    stack = np.zeros((2, 9, 4, 32, 32), np.uint8)  # frames along C
    size = (0.125, 0.065, 0.065)
    frames = SimFrames.from_volume(Volume(stack, "TCZYX", size, "µm"), order="apz")
    layer = viewer.add_image(stack, axis_labels=tuple("tczyx"))
    viewer.dims.current_step = (1, 5, 3, 0, 0)
    assert plane_of_frame(viewer, layer, frames) == (3, 1, 0)


def test_results_of_different_frames_are_not_compared(viewer, qtbot):
    image = np.zeros((16, 16), np.float32)
    names = ("a widefield", "a wiener", "b wiener", "b joint-rl")
    layers = {name: viewer.add_image(image, name=name) for name in names}
    dock = QWidget()
    qtbot.addWidget(dock)
    answers = AnswerCompare(viewer, dock)
    assert answers.isHidden()
    answers.show_source("a")
    for name in names[:2]:
        answers.add(name.split()[1], layers[name], "a")
    assert answers.box.pair() == (layers["a widefield"], layers["a wiener"])
    assert not answers.isHidden()
    answers.show_source("b")
    answers.add("wiener", layers["b wiener"], "b")
    assert answers.layer("widefield") is None
    assert answers.isHidden()
    assert not answers.box.isEnabled()
    answers.add("joint-rl", layers["b joint-rl"], "b")
    assert answers.box.pair() == (layers["b wiener"], layers["b joint-rl"])
    answers.show_source("a")
    assert answers.box.pair() == (layers["a widefield"], layers["a wiener"])


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        ((0.0, 0.001), "Angle 1: a pattern with a period above 1.76 µm cannot be dist"),
        ((0.5, 0.1), "Angle 1: a period of 127 nm is below two pixels"),
        ((0.35, 0.35), "does not transmit a period of 131 nm; its limit is 176 nm"),
        ((0.2, 0.3), ""),
    ],
)
def test_a_pattern_is_not_moved_to_impossible_frequencies(vector, problem):
    fringe = FringePattern((0.0, 0.3), (0.0, 2.1, 4.2))
    patterns = PatternSet((fringe,), (SIZE, SIZE), 0.065, "µm")
    noise = FrameNoise(1.0, 1.0, 1.0, 10.0)
    block = np.zeros((1, 3, SIZE, SIZE), np.float32)
    estimate = PatternEstimate(patterns, (), Otf(0.37), noise, block)
    moved = replace(patterns, fringes=(replace(fringe, wave_vector=vector),))
    if problem:
        with pytest.raises(ConfigError, match=problem):
            check_corrected(estimate, moved)
    else:
        check_corrected(estimate, moved)


def test_frames_stay_in_view_when_they_are_given_a_pixel_size(viewer):
    layer = viewer.add_image(np.zeros((9, 64, 64), np.uint8))
    viewer.reset_view()
    zoom = viewer.scene.camera.zoom
    assert give_pixel_size(viewer, layer, 0.065)
    assert not give_pixel_size(viewer, layer, 0.065)  # known by now
    assert is_in_view(viewer, layer)
    assert viewer.scene.camera.zoom == pytest.approx(zoom / 0.065, rel=0.2)


def test_the_slice_stays_when_frames_are_given_a_pixel_size(viewer):
    stack = np.arange(1, 10, dtype=np.uint8)[:, None, None] * np.ones((9, 32, 32), "u1")
    layer = viewer.add_image(stack)
    viewer.dims.set_current_step(0, 4)
    give_pixel_size(viewer, layer, 0.065)
    assert viewer.dims.current_step[0] == 4
    assert np.asarray(layer._slice.image.raw).max() == 5  # not black


def test_an_assumed_distance_of_slices_is_reported_until_it_is_corrected(
    viewer, qtbot, channels
):
    frames = np.asarray(channels[0].data)[0]
    layer = viewer.add_image(np.repeat(frames, 2, axis=0), name="raw")
    dock = opened(viewer, SIM)
    values = {"na": 1.4, "wavelength": f"{WAVELENGTH}nm", "pixel": 65, "order": "apz"}
    dock.form.set_values({**values, "offset": 100})

    def found() -> str:
        dock.find_button.click()
        qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)
        assert dock._found is not None
        return dock.message.text

    said = "The slice spacing is unknown"
    assert said in found()
    assert said in found()
    layer.scale = (0.3, *layer.scale[1:])
    assert said not in found()


def test_a_spectrum_is_beside_rotated_frames(viewer):
    angle = np.deg2rad(90)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    frames = viewer.add_image(
        np.zeros((9, 32, 32)), scale=(1, 2, 2), translate=(0, 5, 7), affine=turn
    )
    layer = viewer.add_image(np.zeros((32, 32)), **beside(frames, (32, 32)))
    corners = [frames.data_to_world((0, 0, 40))[1:], layer.data_to_world((0, 0))]
    origin = np.array(frames.data_to_world((0, 0, 0))[1:])
    ways = [np.subtract(corner, origin) for corner in corners]
    lengths = [np.hypot(*way) for way in ways]
    assert np.dot(*ways) == pytest.approx(lengths[0] * lengths[1])
    assert 64 < lengths[1] < 96


def test_results_are_not_proposed_as_raw_frames(viewer, qtbot):
    stack = np.random.default_rng(0).random((9, 32, 32)).astype(np.float32)
    raw = viewer.add_image(stack, name="raw")
    dock = opened(viewer, SIM)
    assert dock.combo.layer() is raw
    record = {"provenance": ({"operation": "sim"},)}
    viewer.add_image(stack, name="result", metadata={METADATA: record})
    viewer.add_image(stack[0], name="plane")
    dock.figures.set_figures([Figure("Duration", "0.4", "s")])
    dock.figures.setVisible(True)
    dock.bar.state.set_idle(DONE)
    viewer.layers.remove(raw)
    assert dock.combo.layer() is None
    qtbot.waitUntil(dock.figures.isHidden)
    assert dock.arrangement.isHidden()
    assert dock.bar.state.text() != DONE


def test_results_on_disk_have_the_sliders_of_their_frames(viewer):
    frames = viewer.add_image(np.zeros((2, 9, 16, 16)), axis_labels=tuple("tzyx"))
    data = cached_zarr((2, 32, 32), np.dtype(np.float32), 1.0)
    volume = Volume(data, "TYX", (0.5, 0.5))
    changed, options = with_axes_of(volume, frames)
    assert changed.shape == (2, 1, 32, 32)
    assert len(options["scale"]) == 4
    assert np.unique(np.asarray(changed.data)) == 1


def test_checks_of_a_further_result_are_shown_in_the_same_layers(viewer):
    """Removing layers freezes the window, because napari collects garbage."""
    frames = viewer.add_image(np.zeros((9, 32, 32), np.float32), name="raw")
    results = SimResultLayers(viewer)
    made = []
    for name, reach in (("one", 0.6), ("two", 0.7)):
        image = np.full((32, 32), reach, np.float32)
        volume = Volume(image, "YX", (1.0, 1.0), "pixel")
        support = FourierSupport(np.tile(image, (2, 2)), 0.4, reach, 2)
        result = SimResult(volume, "wiener", {}, {}, residual=volume, support=support)
        results.show_trust(result, frames, name)
        results.show_preview(volume, frames)
        made.append(list(viewer.layers))
    assert set(made[0]) == set(made[1])
    names = {f"two {part}" for part in ("residual", "spectrum", "cut-off")}
    assert {layer.name for layer in viewer.layers} == {"raw", "raw preview", *names}
    assert viewer.layers[-1].name == "raw preview"
    assert np.unique(viewer.layers["two spectrum"].data) == np.float32(0.7)
    circles = viewer.layers["two cut-off"]
    assert circles.shape_type == ["ellipse", "ellipse"]
    radii = [np.ptp(np.asarray(data)[:, 0]) / 2 for data in circles.data]
    np.testing.assert_allclose(radii, [32 * 0.4, 32 * 0.7])


def test_results_have_the_sliders_of_their_frames(viewer):
    names = {"axis_labels": tuple("tczyx"), "units": ("s", "pixel", "um", "um", "um")}
    stack = np.zeros((2, 3, 9, 16, 16), np.float32)
    scale = (5.0, 1.0, 0.125, 0.065, 0.065)
    frames = viewer.add_image(stack, name="raw", scale=scale, **names)
    size = (0.0325, 0.0325)
    image = np.zeros((2, 3, 32, 32), np.float32)
    volume = Volume(image, "TCYX", size, "µm", (-0.01625, -0.01625))
    layer = SimResultLayers(viewer).add(volume, frames, "result")
    assert layer.data.shape == (2, 3, 1, 32, 32)
    assert layer.units == frames.units
    assert viewer.layers.units is not None  # not "Inconsistent units across layers"
    edges = [la.extent.world + np.outer((-0.5, 0.5), la.scale) for la in viewer.layers]
    np.testing.assert_allclose(edges[0], edges[1], atol=1e-6)


@pytest.mark.parametrize("phase", ["find", "run"])
def test_a_run_goes_on_as_a_job_when_the_window_is_closed(
    viewer, qtbot, channels, config, corrected, tmp_path, monkeypatch, phase
):
    volume = channels[0]
    viewer.add_image(np.asarray(volume.data), name="raw", **geometry(volume))
    dock = opened(viewer, SIM)
    dock.handover.folder = tmp_path
    for form in dock.settings_forms():
        form.set_values(config.model_dump())
    dock.form.set_values({"method": "joint-rl"})
    if phase == "run":
        layer = viewer.layers["raw"]
        dock._found, dock._found_key = corrected, dock._key(layer, dock.config())
    dock.run_button.click()
    assert dock.activity.busy == phase
    assert dock.handover.is_running
    started, ended = [], []
    monkeypatch.setattr("napari_geosr.jobs.local.start", started.append)
    dock.handover.hand_over(
        start=True, on_done=lambda: ended.append("job"), failed=lambda: None
    )
    qtbot.waitUntil(lambda: bool(ended) and not dock.activity.busy, timeout=60_000)
    (job,) = started
    values = job.values()
    assert values["method"] == "joint-rl"
    assert ("near" in values) == (phase == "run")
    assert not dock.handover.is_running
