"""The Train dock separates settings of methods, estimates and layers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from qtpy.QtWidgets import QLabel
from train_helpers import TRAIN, noisy_scans, opened, set_small

from napari_geosr.gui import train as train_dock
from napari_geosr.gui.kit.progress import format_estimate
from napari_geosr.gui.kit.remembered import remember
from napari_geosr.gui.train import scenarios
from napari_geosr.gui.train.method_settings import MethodMemory
from napari_geosr.jobs.estimate import TrainingEstimate
from napari_geosr.operations.train import config_class


def entered(memory, method, **start):
    kind = config_class(method)
    return memory.enter(method, kind, kind().model_dump() | start)


def test_what_was_set_by_hand_goes_along_where_it_fits():
    memory = MethodMemory()
    first = entered(memory, "supervised")
    by_hand = {"layers": 30, "learning_rate": 0.005, "patch": 32, "name": "foam"}
    memory.leave(first | by_hand | {"loss": "huber"})
    second = entered(memory, "tomogan")
    start = config_class("tomogan")().model_dump()
    # Its network and its model differ.
    assert second["layers"] == start["layers"]
    assert second["name"] == start["name"]
    assert (second["learning_rate"], second["patch"]) == (0.005, 32)
    memory.leave(second | {"patch": 48})
    third = entered(memory, "noise2noise")
    assert (third["layers"], third["patch"]) == (30, 48)
    memory.leave(third)
    again = entered(memory, "supervised")
    assert {name: again[name] for name in by_hand} == by_hand
    assert again["loss"] == "huber"


def test_what_another_method_refuses_stays_behind():
    memory = MethodMemory()
    first = entered(memory, "noise2noise")
    memory.leave(first | {"adjacent_slices": 4, "steps": 77})
    second = entered(memory, "supervised")
    assert (second["adjacent_slices"], second["steps"]) == (5, 77)


def test_settings_of_one_use_stay_there(viewer):
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    questions = scenarios.training_scenarios()
    plain = scenarios.find(questions, "supervised")
    finer = scenarios.find(questions, "supervised", "finer")
    assert plain != finer
    dock.have.setCurrentIndex(plain)
    before = dock.settings.values()
    dock.settings.form.set_values({"layers": 17})
    dock.have.setCurrentIndex(finer)
    dock.method.setCurrentText("supervised")
    assert dock.settings.values()["upscale_factor"] == 2
    dock.have.setCurrentIndex(plain)
    assert dock.settings.values() == before | {"layers": 17}


def test_an_estimate_names_what_ran_meanwhile():
    alone = TrainingEstimate(60.0, 10**9, 6)
    assert "meanwhile" not in format_estimate(alone)
    text = format_estimate(replace(alone, concurrent=("foam", "sand")))
    assert "'foam' and 'sand' were running at the same time" in text
    assert text.endswith("it starts when those jobs have finished")


def test_what_a_training_started_from_is_not_kept(viewer, qtbot, tmp_path):
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=77, folder=tmp_path)
    own = {"from_model": "foam-denoise", "preview_slice": 2, "name": "foam-tuned"}
    settings = dock.settings.values()
    dock.settings.keep(settings | own)
    again = type(dock)(viewer)
    qtbot.addWidget(again)
    values = again.settings.values()
    assert (values["steps"], values["layers"]) == (77, settings["layers"])
    assert not values["from_model"]
    assert values["preview_slice"] is None
    assert values["name"] == "noise2noise-first"
    # Settings stored by an earlier release are not used either.
    kind = config_class("noise2noise")
    remember("train_noise2noise", kind.create(**(settings | own)))
    third = type(dock)(viewer)
    qtbot.addWidget(third)
    assert not third.settings.values()["from_model"]
    assert third.settings.values()["name"] == "noise2noise-first"
    dock.settings.keep(settings | {"name": "my-rock"})
    fourth = type(dock)(viewer)
    qtbot.addWidget(fourth)
    assert fourth.settings.values()["name"] == "my-rock"


def test_a_name_is_proposed_after_method_and_data(viewer, qtbot, tmp_path, monkeypatch):
    noisy_scans(viewer)
    monkeypatch.setattr(train_dock, "taken_names", lambda: {"noise2noise-first"})
    dock = opened(viewer, TRAIN)

    def name() -> str:
        return str(dock.settings.values()["name"])

    qtbot.waitUntil(lambda: name() == "noise2noise-first-2", timeout=10_000)
    assert dock.name.text() == "noise2noise-first-2"
    dock.name.clear()
    dock.name.textEdited.emit("")
    assert dock.name.text() == ""  # the user is about to type
    assert name() == "noise2noise-first-2"
    dock._rows["source"].set_files((tmp_path / "Rock 7.ome.tif",))
    assert name() == "noise2noise-rock-7"
    question = scenarios.find(scenarios.training_scenarios(), "noise2void")
    dock.have.setCurrentIndex(question)
    assert name() == "noise2void-first"
    dock.name.setText("foam")
    dock.have.setCurrentIndex(
        scenarios.find(scenarios.training_scenarios(), "noise2noise")
    )
    dock._rows["source"].set_files((tmp_path / "other.tif",))
    assert name() == "noise2noise-other"
    dock.have.setCurrentIndex(question)
    assert name() == "foam"
    # Proposals are not stored as if the user had entered them.
    plan = train_dock.TrainingPlan("noise2void", dock.settings.values(), {})
    dock._remember(plan, named=False)
    again = type(dock)(viewer)
    qtbot.addWidget(again)
    assert not again.settings.is_named
    dock._remember(plan, named=True)
    third = type(dock)(viewer)
    qtbot.addWidget(third)
    assert third.name.text() == "foam"


def test_an_estimate_is_for_the_settings_that_it_was_made_of(
    viewer, qtbot, tmp_path, monkeypatch
):

    def time_steps(_plan, _folder, *, should_stop):
        yield from ()
        return TrainingEstimate(60.0, 10**9, 6)

    monkeypatch.setattr(train_dock, "time_steps", time_steps)
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=1000, folder=tmp_path)

    def estimated():
        qtbot.waitUntil(dock.estimate_button.isEnabled, timeout=10_000)
        dock.estimate_button.click()
        qtbot.waitUntil(lambda: "60 s" in dock.estimate.text(), timeout=10_000)

    estimated()
    dock.steps.setValue(50)
    assert "out of date" in dock.estimate.text()
    for field, value in (("batch_size", 3), ("patch", 40)):
        estimated()
        dock.settings.form.editor(field).setValue(value)
        assert "out of date" in dock.estimate.text()
    estimated()
    line = dock.settings.form.editor("patch").lineEdit()
    line.textEdited.emit("4")  # typed, with the cursor still in the field
    assert "out of date" in dock.estimate.text()
    qtbot.waitUntil(dock.estimate_button.isEnabled, timeout=10_000)
    dock.estimate_button.click()
    dock.steps.setValue(60)  # while the steps are timed
    qtbot.waitUntil(dock.start_button.isEnabled, timeout=10_000)
    qtbot.wait(50)
    assert "out of date" in dock.estimate.text()


def test_a_layer_that_goes_is_not_replaced_by_its_own_target(viewer, qtbot):
    first, second = noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    rows = dock._rows
    assert [row.layer() for row in rows.values()] == [first, second]
    viewer.layers.remove(first)
    qtbot.waitUntil(lambda: "was removed" in dock.data_message.text, timeout=5000)
    assert rows["target"].layer() is second
    assert rows["source"].layer() is None
    assert "'first' was removed" in dock.data_message.text
    assert rows["source"].name.lower() in dock.data_message.text
    third = viewer.add_image(second.data + 1, name="third")
    qtbot.waitUntil(lambda: rows["source"].layer() is third, timeout=5000)
    assert not dock.data_message.text
    assert rows["target"].layer() is second
    viewer.layers.remove(second)
    qtbot.waitUntil(lambda: "'second' was removed" in dock.data_message.text)
    assert [row.layer() for row in rows.values()] == [third, None]


def test_settings_go_back_to_their_defaults(viewer):
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    dock.name.setText("mine")
    dock.steps.setValue(77)
    form = dock.settings.form
    form.set_values({"patch": 16, "learning_rate": 0.5, "device": "cpu"})
    assert form.editor("patch").text() == "16 voxels"
    dock.settings.reset_button.click()
    values = form.values()
    kind = config_class("noise2noise")()
    assert {name: values[name] for name in ("patch", "learning_rate", "device")} == {
        "patch": kind.patch,
        "learning_rate": kind.learning_rate,
        "device": kind.device,
    }
    assert (dock.name.text(), dock.steps.value()) == ("mine", 77)


def test_settings_stand_in_groups(viewer):
    dock = opened(viewer, TRAIN)
    dock.have.setCurrentText("One noisy scan only")
    titles = [
        label.accessibleName()
        for label in dock.settings.form.findChildren(QLabel)
        if label.accessibleName().startswith("Group")
    ]
    assert titles[:3] == ["Group Method", "Group Data", "Group Network"]
    dock.have.setCurrentText("Two noisy scans of one object")
    assert "Group Method" not in [
        label.accessibleName() for label in dock.settings.form.findChildren(QLabel)
    ]


def test_only_a_scan_that_may_show_the_same_object_is_suggested(viewer, qtbot, rng):
    def add(name, shape):
        return viewer.add_image(rng.random(shape).astype(np.float32), name=name)

    first = add("first", (6, 32, 32))
    add("other", (5, 40, 32))
    viewer.layers.selection.active = first
    dock = opened(viewer, TRAIN)
    source, target = dock._rows.values()
    assert (source.layer(), target.layer()) == (first, None)
    fine = add("fine", (12, 64, 64))
    qtbot.waitUntil(lambda: target.layer() is fine)
    viewer.layers.remove(fine)
    second = add("second", (6, 32, 32))
    qtbot.waitUntil(lambda: target.layer() is second)


def test_nothing_can_be_started_before_all_data_are_chosen(viewer, qtbot, rng):
    dock = opened(viewer, TRAIN)
    buttons = (dock.start_button, dock.estimate_button, dock.cluster.widget)
    assert not any(button.isEnabled() for button in buttons)
    reason = "Choose “First scan” and “Second scan”."
    assert all(reason in button.toolTip() for button in buttons)
    assert dock.bar.state.text() == reason
    assert dock.jobs_button.isEnabled()  # earlier trainings need no data
    viewer.add_image(rng.random((6, 32, 32)).astype(np.float32), name="scan")
    qtbot.waitUntil(lambda: "“First scan”" not in dock.bar.state.text())
    assert dock.bar.state.text() == "Choose “Second scan”."
    assert not any(button.isEnabled() for button in buttons)
    viewer.add_image(rng.random((6, 32, 32)).astype(np.float32), name="other")
    qtbot.waitUntil(lambda: all(button.isEnabled() for button in buttons))
    assert not any("choose" in button.toolTip() for button in buttons)
    assert dock.bar.state.text() == "Ready: press Start."


def test_after_a_refused_start_the_state_line_stays_short(viewer, qtbot, rng):
    data = rng.random((6, 32, 32)).astype(np.float32)
    layer = viewer.add_image(data, name="scan")
    dock = opened(viewer, TRAIN)
    _, target = dock._rows.values()
    target.combo.set_layer(layer)
    dock.start_button.click()
    assert dock.bar.state.text() == "See the error above."
    assert "two different layers" in dock.data_message.text
    other = viewer.add_image(data[:, :20], name="other")
    target.combo.set_layer(other)
    assert dock.bar.state.text() == "Ready: press Start."
    qtbot.waitUntil(dock.start_button.isEnabled)
    dock.start_button.click()
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)
    assert dock.bar.state.text() == "See the error above."
    assert "shape" in dock.data_message.text
    target.combo.set_layer(layer)
    assert dock.bar.state.text() == "Ready: press Start."
    dock.name.setText("Not A Name")
    dock.start_button.click()
    assert dock.bar.state.text() == "Correct the marked field."


def test_a_chosen_layer_leaves_no_gap_where_the_file_buttons_were(viewer, qtbot, rng):
    dock = opened(viewer, TRAIN)
    first, second = dock._rows.values()
    qtbot.waitUntil(lambda: first.files_button.isVisible())
    layers = [viewer.add_image(rng.random((6, 32, 32)), name=n) for n in "ab"]
    for row, layer in zip((first, second), layers, strict=True):
        row.combo.set_layer(layer)
        # At once: no event is processed in between.
        assert row.height() == row.combo.height()
    assert second.y() - first.geometry().bottom() < first.combo.height()
