"""Messages of the Restore dock before a run, with the real engine, in real napari."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import opening
import pytest
import yaml
from napari.components import ViewerModel
from napari.layers import Image
from scipy import ndimage

from napari_geosr.core.steps import run_to_end
from napari_geosr.gui.layers import is_measurable
from napari_geosr.gui.restore import RestoreDock
from napari_geosr.gui.restore.verdict import panel
from napari_geosr.models import zoo
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.ranking import NONE, upscaling
from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict
from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict
from napari_geosr.operations.restore.verdict.steps import verdict_steps

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}
_LONG = 300_000


@pytest.fixture
def clean() -> np.ndarray:
    data = np.full((8, 64, 64), 100, np.float32)
    data[:, 20:40, 30:50] = 40
    data[2:5, 8:12, 8:12] = 40
    soft = ndimage.gaussian_filter(data, 0.7)
    # No voxel equals its neighbour, as in a real scan.
    return soft + np.linspace(0, 5, 64, dtype=np.float32)


@pytest.fixture
def noisy(clean, rng) -> np.ndarray:
    return clean + rng.normal(0, 12, clean.shape).astype(np.float32)


def opened(viewer) -> RestoreDock:
    dock = opening.opened(viewer)
    return dock


def settled(dock, qtbot) -> None:
    """Wait until the examination of the scan is complete."""
    qtbot.waitUntil(
        lambda: not dock.activity.busy and dock.verdict_panel.activity.is_settled,
        timeout=_LONG,
    )


@pytest.fixture
def free(tmp_path):
    """The network of foam-denoise without the noise bound."""
    path = tmp_path / "free"
    shutil.copytree(zoo.find("foam-denoise").path, path)
    card = yaml.safe_load((path / "card.yaml").read_text("utf-8"))
    card |= {"name": "free", "noise_bound": None}
    (path / "card.yaml").write_text(yaml.safe_dump(card), "utf-8")
    return str(path)


def test_a_noisy_scan_gets_a_ranking_a_proposal_and_a_sentence(viewer, qtbot, noisy):
    dock, states = opened(viewer), []
    dock.verdict_panel.activity.busyChanged.connect(
        lambda what: states.append((what, dock.progress_label.text()))
    )
    viewer.add_image(noisy, name="scan", **PLACE)
    settled(dock, qtbot)
    # The state line shows that models are being compared.
    assert ("rank", "Comparing models…") in states
    qtbot.waitUntil(
        lambda: dock.progress_label.text() == "Ready: press Run.", timeout=_LONG
    )
    ranking = dock.verdict_panel.ranking
    assert ranking is not None
    assert dock.model_box.model() == ranking.choice != NONE
    texts = [dock.model_box.combo.itemText(i) for i in range(3)]
    assert all(" dB" in text for text in texts)
    assert dock.model_box.combo.findData(NONE) >= 0
    verdict = dock.verdict_panel.run_verdict
    assert verdict is not None
    assert verdict.gain is not None
    assert verdict.gain[0] > 3
    assert dock.verdict.text.endswith(verdict.sentence)
    # One figure for the gain, in the menu and in the sentence.
    assert verdict.gain[0] == ranking.chosen.gain
    assert ranking.chosen.short_gain in verdict.sentence
    assert ranking.chosen.short_gain in dock.model_box.combo.currentText()
    # Another model that keeps smaller pores is named next to the proposed one only.
    other = "nlm keeps pores of more than 81 voxels."
    activity = dock.verdict_panel.activity
    for name, shows in ((ranking.choice, True), ("nlm", False)):
        activity.rankings[1] = replace(ranking, choice=name, alternative=other)
        activity.verdictReady.emit(verdict, "")
        assert dock.verdict_panel.message.text.endswith(other) == shows


def test_only_one_gain_is_shown_when_models_are_ranked_after_the_check(
    viewer, qtbot, noisy
):
    dock, shown = opened(viewer), []
    panel_, box = dock.verdict_panel, dock.model_box
    panel_.ranked.connect(
        lambda _ranking: shown.append((panel_.message.text, box.combo.currentText()))
    )
    viewer.add_image(noisy, name="scan", **PLACE)
    dock.model_box.set_model("ct-denoise")
    qtbot.waitUntil(lambda: dock.activity.is_ready, timeout=_LONG)
    panel_.activity.find_verdict()  # as by Run
    qtbot.waitUntil(lambda: panel_.run_verdict is not None, timeout=_LONG)
    assert (shown, "expected gain" in panel_.message.text) == ([], True)
    settled(dock, qtbot)
    (text, entry), row = shown[0], panel_.ranking.row("ct-denoise")
    assert "gain" not in text
    assert row.short_gain in entry
    assert row.short_gain in panel_.message.text


def test_the_verdict_is_that_of_the_channel_on_screen(viewer, qtbot, clean, rng):
    """Its noise and its gain, not those of the channel that was examined first."""
    noise = rng.normal(0, 1, clean.shape)
    data = np.stack([clean + 25 * noise, clean + 4 * noise]).astype(np.float32)
    viewer.add_image(data, name="two", axis_labels=("channel", "z", "y", "x"))
    dock = opened(viewer)
    shown = dock.verdict_panel
    viewer.dims.set_point(0, 0)
    settled(dock, qtbot)
    assert len(shown.rankings) == 1
    first, text = shown.run_verdict, shown.message.text
    assert text.startswith("Channel 0: ")
    dock.model_box.set_model("ct-denoise")  # the user keeps it from here on
    settled(dock, qtbot)
    first = shown.run_verdict
    viewer.dims.set_point(0, 1)
    qtbot.waitUntil(lambda: shown.run_verdict is None)
    settled(dock, qtbot)
    second = shown.run_verdict
    assert shown.message.text.startswith("Channel 1: ")
    assert second.noise.relative < first.noise.relative / 3
    assert second.gain[0] < first.gain[0] - 3
    assert not shown.rankings
    assert dock.model_box.model() == "ct-denoise"
    fresh = run_to_end(verdict_steps(dock.activity._ready.at({"channel": 1})))
    assert (second.sentence, second.gain) == (fresh.sentence, fresh.gain)
    # Consent is for one channel.
    assert (shown._point.channel, shown._point.time) == (1, None)


def test_harm_to_a_channel_that_is_not_on_screen_is_asked_about(
    viewer, qtbot, clean, rng, free, monkeypatch
):
    noisy = clean + 25 * rng.normal(0, 1, clean.shape)
    data = np.stack([noisy, clean]).astype(np.float32)
    viewer.add_image(data, name="two", axis_labels=("channel", "z", "y", "x"))
    viewer.dims.set_point(0, 0)
    dock = opened(viewer)
    dock.model_box.set_model(free)
    settled(dock, qtbot)
    assert dock.extent.wants_all()
    shown = dock.verdict_panel
    assert shown.run_verdict.is_harmful
    assert "Harmful: Channel 1: " in shown.message.text
    asked = []
    monkeypatch.setattr(
        panel, "confirm_harmful_run", lambda *given: asked.append(given) or False
    )
    dock.run_button.click()
    assert [verdict.sentence[:11] for _, verdict, _ in asked] == ["Channel 1: "]
    # Alone, the channel on screen is restored without a question.
    dock.extent.setCurrentIndex(1)
    dock.extent.activated.emit(1)
    assert not dock.extent.wants_all()
    settled(dock, qtbot)
    assert not shown.run_verdict.is_harmful
    assert shown.message.text.startswith("Channel 0: ")


def test_harm_to_a_quiet_time_point_is_asked_about(viewer, qtbot, rng, monkeypatch):
    """The run is set up for the middle time point, which has more noise."""
    blobs = ndimage.gaussian_filter(rng.normal(0, 1, (160, 160)), 3) > 0
    still = ndimage.gaussian_filter(blobs.astype(np.float32), 0.7)
    frames = [still + level * rng.normal(0, 1, still.shape) for level in (0.02, 0.2)]
    data = np.asarray([*frames, frames[1]], np.float32)
    viewer.add_image(data, name="movie", axis_labels=("time", "y", "x"))
    viewer.dims.set_point(0, 1)
    dock = opened(viewer)
    dock.model_box.set_model("gaussian")
    settled(dock, qtbot)
    shown = dock.verdict_panel
    assert "Harmful: Time point 0: gaussian is expected" in shown.message.text
    asked = []
    monkeypatch.setattr(
        panel, "confirm_harmful_run", lambda *given: asked.append(given) or False
    )
    dock.run_button.click()
    assert [verdict.sentence[:14] for _, verdict, _ in asked] == ["Time point 0: "]
    # On screen, it is judged with its own noise, and without the gain of a ranking.
    viewer.dims.set_point(0, 0)
    qtbot.waitUntil(lambda: shown.run_verdict is None)
    settled(dock, qtbot)
    assert shown.run_verdict.is_harmful
    assert shown.run_verdict.noise.relative < 0.05
    assert shown.message.text.count("Time point 0: ") == 1


def test_a_clean_scan_is_left_as_it_is_and_harm_is_asked_about(
    viewer, qtbot, clean, free, monkeypatch
):
    viewer.add_image(clean, name="scan", **PLACE)
    dock = opened(viewer)
    settled(dock, qtbot)
    assert dock.model_box.model() == NONE
    assert not dock.run_button.isEnabled()
    assert "Leave the scan as it is" in dock.verdict.text

    dock.model_box.set_model(free)
    settled(dock, qtbot)
    assert dock.run_button.isEnabled()
    assert dock.verdict_panel.run_verdict.is_harmful
    assert dock.verdict.text.startswith("Harmful")
    asked = []

    def answer(model, verdict, parent):
        asked.append(model)
        return len(asked) > 1

    monkeypatch.setattr(panel, "confirm_harmful_run", answer)
    dock.run_button.click()
    assert asked == ["free"]
    assert dock.activity.target() is None
    for _ in range(2):  # asked once more, then never again
        with qtbot.waitSignal(dock.activity.finished, timeout=_LONG):
            dock.run_button.click()
    assert len(asked) == 2


def test_what_is_removed_is_shown_in_its_place_and_brought_up_to_date(
    viewer, qtbot, noisy
):
    source = viewer.add_image(noisy, name="scan", **PLACE)
    dock = opened(viewer)
    dock.model_box.set_model("ct-denoise")
    viewer.dims.set_current_step(0, 3)
    settled(dock, qtbot)
    button = dock.verdict_panel.removed_button
    with qtbot.waitSignal(button.shown, timeout=_LONG):
        button.click()
    layer = button.layer()
    assert layer.data.shape == (1, 64, 64)
    assert layer.translate == pytest.approx((16.0, 20.0, 30.0))
    assert layer.scale == pytest.approx(source.scale)
    assert layer.units == source.units
    # The removed part is the added noise.
    assert layer.data.std() == pytest.approx(12, rel=0.15)
    assert viewer.layers.selection.active is source
    assert dock.layer_combo.count() == 1
    assert layer.name.endswith("(removed: scan \N{MINUS SIGN} result)")
    # Without the mark of a helper too, as after saving and opening the file.
    del layer.metadata["geosr"]["helper"]
    assert not is_measurable(layer)
    qtbot.waitUntil(button.isEnabled)
    viewer.dims.set_current_step(0, 5)
    with qtbot.waitSignal(button.shown, timeout=_LONG):
        button.click()
    assert button.layer() is layer
    assert layer.translate[0] == pytest.approx(20.0)


def test_the_strength_changes_the_preview_without_preparing_again(
    viewer, qtbot, noisy, free
):
    viewer.add_image(noisy, name="scan", **PLACE)
    dock = opened(viewer)
    dock.model_box.set_model(free)
    assert not dock.strength.isEnabled()
    dock.model_box.set_model("foam-denoise")
    assert dock.strength.isEnabled()
    with qtbot.waitSignal(dock.activity.previewed, timeout=_LONG):
        dock.preview_button.click()
    preview = dock.activity._preview.layer
    first = np.array(preview.data)
    busy = []
    dock.activity.busyChanged.connect(busy.append)
    with qtbot.waitSignal(dock.activity.previewed, timeout=_LONG):
        dock.strength.slider.setValue(0)
    assert dock.config().strength == 0
    assert "prepare" not in busy
    plane = int(viewer.dims.current_step[0])
    np.testing.assert_allclose(preview.data[0], noisy[plane], atol=1e-3)
    assert np.abs(first - preview.data).std() > 3


@pytest.mark.slow
def test_a_choice_by_hand_is_not_replaced(viewer, qtbot, noisy):
    viewer.add_image(noisy, name="scan", **PLACE)
    dock = opened(viewer)
    dock.model_box.set_model("nlm")
    settled(dock, qtbot)
    assert dock.verdict_panel.ranking is not None
    assert dock.model_box.model() == "nlm"
    dock.verdict_panel.find_button.click()
    settled(dock, qtbot)
    assert dock.model_box.model() == dock.verdict_panel.ranking.choice


def finer_scan(rng) -> np.ndarray:
    soft = ndimage.gaussian_filter(rng.normal(size=(36, 36, 36)), 3, mode="wrap")
    data = 100 * ndimage.gaussian_filter((soft > 0).astype(np.float32), 0.7)
    return data + rng.normal(0, 5, data.shape)


def ranking_of(gain: float):
    """Replaces the test of super-resolution models on the scan."""

    def steps(*_args, sharpness="auto", **_more):
        interval = gain - 2.2, gain + 4.1
        yield from ()
        return UpscalingVerdict(gain, interval, 0.3, None, 4, (1.0, 2.0), sharpness)

    return steps


def test_super_resolution_models_are_compared_with_interpolation(
    viewer, qtbot, rng, monkeypatch
):
    """The button compares the models with the factor of the chosen one."""
    monkeypatch.setattr(upscaling, "upscaling_verdict_steps", ranking_of(3.0))
    viewer.add_image(finer_scan(rng), name="scan", **PLACE)
    dock = opened(viewer)
    button = dock.verdict_panel.find_button
    # At once, before the denoisers are ranked.
    dock.model_box.set_model("foam-sr-x2")
    qtbot.waitUntil(
        lambda: button.text() == "Find the best model for upscaling by 2",
        timeout=_LONG,
    )
    dock._on_find()
    settled(dock, qtbot)
    assert dock.verdict_panel.ranking is not None
    combo = dock.model_box.combo
    # At equal gains, the first by name.
    assert dock.model_box.model() == "ct-sr-x2"
    assert combo.currentText().endswith("+3.0 dB")
    assert dock.verdict_panel.run_verdict.gain[0] == 3.0
    # Another factor has another result, and each keeps its own.
    monkeypatch.setattr(upscaling, "upscaling_verdict_steps", ranking_of(-1.0))
    dock.model_box.set_model("foam-sr-x4")
    button.click()
    settled(dock, qtbot)
    assert dock.model_box.model() == "cubic-x4"
    assert not dock.strength.is_offered
    reason = dock.verdict_panel.activity.rankings[4].reason
    assert reason in dock.verdict.text
    assert combo.itemText(combo.findData("foam-sr-x2")).endswith("+3.0 dB")
    dock.model_box.set_model("cubic-x2")
    settled(dock, qtbot)
    assert "no detail" in dock.verdict.text
    # Models for slices produce another grid, so they cannot be compared in a stack.
    dock.model_box.set_model("fluo-sr-x2")
    settled(dock, qtbot)
    assert button.text() == "Find the best model for this scan"


def test_a_run_waits_until_what_the_model_does_was_looked_at(
    viewer, qtbot, clean, free, monkeypatch
):
    """Quick clicks start no harmful run, and cancelling the wait starts nothing."""
    asked = []

    def refuse(model, verdict, parent):
        asked.append(model)
        return False

    monkeypatch.setattr(panel, "confirm_harmful_run", refuse)
    viewer.add_image(clean, name="scan", **PLACE)
    dock = opened(viewer)
    dock.model_box.set_model(free)
    dock.run_button.click()
    assert "before the run" in dock.message.text
    dock.cancel_button.click()
    settled(dock, qtbot)
    assert asked == []

    # Changed and changed back before anything was prepared for the other model.
    dock.model_box.set_model("ct-denoise")
    dock.model_box.set_model(free)
    dock.run_button.click()
    qtbot.waitUntil(lambda: bool(asked), timeout=_LONG)
    assert asked == ["free"]
    assert dock.activity.target() is None
    assert dock.message.text == ""
    assert dock.verdict.text.startswith("Harmful")


def test_consent_is_for_a_model_and_the_voxels_it_was_given_for(qtbot, monkeypatch):
    asked = []
    monkeypatch.setattr(
        panel, "confirm_harmful_run", lambda *_: asked.append(1) or True
    )
    board = panel.VerdictPanel(ViewerModel())
    qtbot.addWidget(board)

    def asks(layer, model="free", harm="It loses all."):
        board.set_scan(None, layer, RestoreConfig)
        board._run_verdict = RunVerdict("harmful", harm)
        before = len(asked)
        assert board.confirm_run(model, model)
        return len(asked) > before

    first, other = (Image(np.full((4, 8, 8), i, np.float32)) for i in range(2))
    assert asks(first)
    assert not asks(first)
    assert asks(first, "another model")
    assert asks(other)
    assert not asks(first)
    assert asks(first, harm="Channel 1: It loses all.")
    first.data = first.data + 1
    assert asks(first)
    first.data *= 2
    assert asks(first)
