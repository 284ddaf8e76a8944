"""The Train dock asks, proposes, and rejects errors before it starts."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QProgressBar,
    QWidget,
)
from scipy.ndimage import gaussian_filter
from train_helpers import JOBS, TRAIN, noisy_scans, opened, set_small

from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs import start as _train_start
from napari_geosr.gui.jobs.start import TrainingPlan
from napari_geosr.gui.kit.remembered import settings_path
from napari_geosr.gui.train import data_check, scenarios
from napari_geosr.jobs import estimate
from napari_geosr.jobs.data import equals_file, new_folder
from napari_geosr.jobs.estimate import TrainingEstimate
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.train import TrainJob, needs, roles
from napari_geosr.physics.specimens.phantoms import sphere_foam


def test_every_method_answers_a_question():
    found = scenarios.training_scenarios()
    assert {m for q in found for m in q.methods} == set(needs())
    for question in found:
        for method in question.methods:
            assert len(question.names) >= len(roles(method)), method


def test_wrong_settings_are_refused_beside_the_field(
    viewer, qtbot, tmp_path, monkeypatch
):
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=10, folder=tmp_path)
    first, _ = noisy_scans(viewer)
    qtbot.wait(20)
    for row in dock._rows.values():
        row.combo.set_layer(first)
    dock.start_button.click()
    assert "two different layers" in dock.data_message.text
    dock._rows["target"].combo.set_layer(viewer.layers["second"])
    dock.name.setText("My Model")
    dock.start_button.click()
    said = dock.name_faults.texts["name"]
    assert "Use lower-case letters" in said
    assert "ame:" not in said  # the label is next to it
    assert not dock.settings_message.text
    assert dock.advanced.content.isHidden()
    dock.name.setText("mine")
    dock._on_settings()
    assert not dock.name_faults.texts
    dock.settings.form.editor("adjacent_slices").setValue(4)
    dock.start_button.click()
    assert not dock.settings_message.text
    assert not dock.advanced.content.isHidden()
    form = dock.settings.form
    assert "odd number" in form.faults["adjacent_slices"]
    editor = form.editor("adjacent_slices")
    qtbot.waitUntil(lambda: not editor.visibleRegion().isEmpty(), timeout=5000)
    editor.setValue(7)
    assert not form.faults
    dock.settings.form.set_values({"adjacent_slices": 5, "network": "magic"})
    dock.start_button.click()
    qtbot.waitUntil(
        lambda: "no network 'magic'" in dock.settings_message.text, timeout=20_000
    )
    qtbot.waitUntil(dock.start_button.isEnabled, timeout=10_000)
    dock.settings.form.set_values({"network": "msdnet"})
    assert not dock.settings_message.text
    dock._rows["target"].set_files((tmp_path / "missing.tif",))
    dock.start_button.click()
    qtbot.waitUntil(lambda: "missing.tif" in dock.data_message.text, timeout=60_000)
    assert list(tmp_path.iterdir()) == []
    qtbot.waitUntil(dock.start_button.isEnabled, timeout=10_000)
    # The next operation is not affected.
    begun = []
    monkeypatch.setattr(_train_start.local, "start", begun.append)
    dock._rows["target"].combo.set_layer(viewer.layers["second"])
    dock.start_button.click()
    qtbot.waitUntil(lambda: dock.view.job is not None, timeout=20_000)
    assert [job.path for job in begun] == [dock.view.job]
    assert not dock.data_message.text


def test_the_selected_layer_is_learned_from(viewer, qtbot):
    first, second = noisy_scans(viewer)
    third = viewer.add_image(second.data + 1, name="third")
    viewer.layers.selection.active = second
    dock = opened(viewer, TRAIN)
    assert dock._rows["source"].layer() is second
    assert dock._rows["target"].layer() is first
    dock.have.setCurrentText("One noisy scan only")
    viewer.layers.selection.active = third
    dock.have.setCurrentText("Two noisy scans of one object")
    assert dock._rows["source"].layer() is third


def test_correlated_noise_is_said_before_start(viewer, qtbot, tmp_path, rng):
    foam = sphere_foam((16, 64, 64), porosity=0.3, radius=(4, 9), gap=1.0, seed=3)
    noise = gaussian_filter(rng.normal(0, 1, foam.fraction.shape), (0, 0, 0.8))
    viewer.add_image(1 - foam.fraction + noise, name="shared")
    viewer.add_image(
        1 - foam.fraction + rng.normal(0, 0.5, noise.shape), name="separate"
    )
    viewer.layers.selection.active = viewer.layers["shared"]
    dock = opened(viewer, TRAIN)
    dock.have.setCurrentText("One noisy scan only")
    said = "correlated between neighbouring voxels"
    message = dock.warnings_message
    qtbot.waitUntil(lambda: said in message.text, timeout=20_000)
    dock.steps.setValue(dock.steps.value() + 1)
    assert said in message.text  # nothing jumps while one types
    # An error in the meantime does not remove it.
    set_small(dock, steps=10, folder=tmp_path)
    dock.name.setText("My Model")
    dock._on_settings()
    dock.start_button.click()
    assert "name" in dock.name_faults.texts
    qtbot.wait(3 * data_check._PAUSE)
    assert said in message.text
    dock._rows["source"].combo.set_layer(viewer.layers["separate"])
    qtbot.waitUntil(lambda: not message.text, timeout=20_000)
    assert dock.view.job is None


def test_a_slice_that_is_not_there_is_refused_beside_its_field(viewer, qtbot, tmp_path):
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=10, folder=tmp_path)
    dock.settings.form.set_values({"preview_slice": 999})
    dock.start_button.click()
    qtbot.waitUntil(lambda: dock.settings.form.faults != {}, timeout=60_000)
    faults = dock.settings.form.faults
    assert "no preview slice 999" in faults["preview_slice"]
    editor = dock.settings.form.editor("preview_slice")
    qtbot.waitUntil(lambda: not editor.visibleRegion().isEmpty(), timeout=5000)
    assert not dock.data_message.text


def test_a_patch_larger_than_the_scan_is_said_before_start(viewer, qtbot, tmp_path):
    first, _ = noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    dock.settings.form.set_values({"patch": 512})
    dock._on_settings()
    edge = min(first.data.shape[-2:])
    said = f"Set the patch to {edge} or less"
    qtbot.waitUntil(lambda: said in dock.warnings_message.text, timeout=20_000)
    dock.settings.form.set_values({"patch": edge})
    dock._on_settings()
    qtbot.waitUntil(lambda: not dock.warnings_message.text, timeout=20_000)


def test_the_window_does_not_wait_for_the_check(viewer, qtbot, tmp_path, monkeypatch):
    """Some methods load PyTorch for this, which takes seconds."""
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=5, folder=tmp_path)
    threads = []

    def check(_plan):
        threads.append(threading.current_thread())
        raise ConfigError("No such thing.")

    monkeypatch.setattr(TrainingPlan, "check", check)
    for button in (dock.start_button, dock.estimate_button):
        button.click()
        qtbot.waitUntil(lambda: dock.start_button.isEnabled(), timeout=10_000)
        assert "No such thing" in dock.settings_message.text
    assert len(threads) == 2
    assert threading.main_thread() not in threads
    assert list(tmp_path.iterdir()) == []


def test_layers_of_other_shapes_are_refused_by_name_before_a_copy(
    viewer, qtbot, tmp_path, monkeypatch
):
    def write(*_args):
        raise AssertionError("a layer was written")

    monkeypatch.setattr(_train_start, "write_into_job", write)
    first, second = noisy_scans(viewer)
    viewer.layers.remove(second)
    small = viewer.add_image(first.data[:, :, :50] + 1, name="narrow one")
    small.translate, small.scale = first.translate, first.scale
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=10, folder=tmp_path)
    dock._rows["source"].combo.set_layer(first)
    dock._rows["target"].combo.set_layer(small)
    for button in (dock.start_button, dock.estimate_button):
        qtbot.waitUntil(button.isEnabled, timeout=10_000)
        button.click()
        assert not dock.bar.progress.isHidden()
        assert dock.bar.state.text() != dock.bar.state.idle
        qtbot.waitUntil(lambda: bool(dock.data_message.text), timeout=60_000)
        assert "'narrow one' has shape 16 × 64 × 50" in dock.data_message.text
        assert "'first' needs" in dock.data_message.text
        assert "ome.zarr" not in dock.data_message.text
        qtbot.waitUntil(dock.start_button.isEnabled, timeout=10_000)
        dock.data_message.clear()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_suggestions_for_finer_targets_name_fields(viewer, qtbot, tmp_path):
    coarse = viewer.add_image(np.random.default_rng(0).random((8, 40, 40)), name="a")
    fine = viewer.add_image(np.random.default_rng(1).random((16, 80, 80)), name="b")
    dock = opened(viewer, TRAIN)
    dock.have.setCurrentIndex(scenarios.find(dock._scenarios, "supervised", ""))
    dock.method.setCurrentText("supervised")
    set_small(dock, steps=10, folder=tmp_path)
    dock._rows["source"].combo.set_layer(coarse)
    dock._rows["target"].combo.set_layer(fine)
    dock.start_button.click()
    qtbot.waitUntil(lambda: bool(dock.data_message.text), timeout=30_000)
    assert "--" not in dock.data_message.text
    assert ", Upscale factor 2, Dimensions 3D" in dock.data_message.text


@pytest.mark.slow
def test_a_few_steps_tell_time_and_memory(viewer, qtbot, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "_ENOUGH_REPORTS", 2)
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=100_000, folder=tmp_path)
    dock.estimate_button.click()
    qtbot.waitUntil(lambda: "timed on" in dock.estimate.text(), timeout=60_000)
    print(dock.estimate.text())
    assert "of memory" in dock.estimate.text()
    qtbot.waitUntil(lambda: list(tmp_path.iterdir()) == [], timeout=5000)
    dock.steps.setValue(50)
    assert "out of date" in dock.estimate.text()


def test_an_estimate_that_has_just_come_is_outdated_as_well(
    viewer, tmp_path, monkeypatch
):
    # Its worker signals its end a little later.
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=10, folder=tmp_path)
    begun = []
    start = lambda _what, _steps, on_result, **_how: begun.append(on_result)  # noqa: E731
    monkeypatch.setattr(dock.activity, "start", start)
    dock.estimate_button.click()
    assert "timing" in dock.estimate.text()
    begun[0](TrainingEstimate(seconds=60.0, memory=10**8, steps=5))
    assert "timed on" in dock.estimate.text()
    dock.steps.setValue(50)
    assert "out of date" in dock.estimate.text()


def test_settings_come_back(viewer, qtbot, tmp_path):
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=77, folder=tmp_path, learning_rate=0.005)
    dock._on_cancel()
    plan = dock.plan()
    assert plan.settings["network_options"] == {}
    assert plan.settings["preview_slice"] == viewer.dims.current_step[0]
    dock.settings.form.editor("network_options").setText("dilations: [1, 2]")
    assert dock.plan().settings["network_options"] == {"dilations": [1, 2]}
    dock._remember(dock.plan())
    again = type(dock)(viewer)
    qtbot.addWidget(again)
    assert again.steps.value() == 77
    assert again.settings.form.values()["learning_rate"] == 0.005
    assert again.settings.form.values()["network_options"] == {"dilations": [1, 2]}
    assert again.folder.path == tmp_path
    # The same file drives the command line.
    kept = TrainJob.from_yaml_file(settings_path("train_noise2noise"), "noise2noise")
    assert (kept.training.steps, kept.training.learning_rate) == (77, 0.005)
    first, second = (tmp_path / f"{name}.tif" for name in ("rock", "again"))
    for path in (first, second):
        tifffile.imwrite(path, np.random.default_rng(1).random((8, 40, 40)))
    files = ["--source", str(first), "--target", str(second)]
    config = ["--config", str(settings_path("train_noise2noise"))]
    job = tmp_path / "job"
    begin = ["train", "noise2noise", *files, *config, "--out", str(job)]
    assert run([*begin, "--prepare"]) == 0
    training = JobFolder(job).values()["training"]
    assert (training["steps"], training["name"]) == (77, "noise2noise-rock")


def test_a_layer_is_read_from_its_file_only_if_it_is_the_same(tmp_path):
    data = np.arange(4 * 8 * 8, dtype=np.float32).reshape(4, 8, 8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "ZYX"})
    volume = Volume(data, "ZYX", source=path)
    assert equals_file(volume)
    assert not equals_file(volume.replace(data=data + 1))
    edited = data.copy()
    edited[1, 7, 3] += 1  # painted by the user in an arbitrary slice
    assert not equals_file(volume.replace(data=edited))
    assert not equals_file(volume.replace(data=data[:2]))
    assert not equals_file(volume.replace(unit="µm"))
    assert not equals_file(volume.replace(origin=(0.0, 3.0, 0.0)))
    assert not equals_file(volume.replace(source=None))
    assert not equals_file(volume.replace(source=tmp_path / "gone.tif"))


def test_folders_of_jobs_never_meet(tmp_path):
    made = [new_folder(tmp_path / "new", "a") for _ in range(3)]
    assert [path.name for path in made] == ["a", "a-2", "a-3"]
    assert all(path.is_dir() for path in made)


@pytest.mark.parametrize("name", [TRAIN, JOBS])
def test_everything_has_a_name_a_tool_tip_and_a_key(viewer, name):
    noisy_scans(viewer)
    dock = opened(viewer, name)
    kinds = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QProgressBar)
    found = [c for c in dock.findChildren(QWidget) if isinstance(c, kinds)]
    assert len(found) > 8
    for child in found:
        what = f"{type(child).__name__} {child.objectName()} {child.accessibleName()}"
        assert child.accessibleName(), what
        assert child.toolTip(), what
    keys = []
    for button in dock.findChildren(QAbstractButton):
        form = getattr(getattr(dock, "settings", None), "form", None)
        if form is not None and form.isAncestorOf(button):
            continue  # reached by Tab, as all settings are
        assert "&" in button.text() or not button.shortcut().isEmpty(), button.text()
        keys.append(button.shortcut().toString())
    assert len(set(keys)) == len(keys), sorted(k for k in keys if keys.count(k) > 1)


def test_it_fits_small_screens(viewer, qtbot):
    for layer in noisy_scans(viewer):
        layer.name = f"a rather long name of a scan of some rock, {layer.name}"
    dock = opened(viewer, TRAIN)
    dock.setParent(None)
    dock.resize(360, 680)
    dock.show()
    qtbot.waitExposed(dock)
    bottom = dock.start_button.mapTo(dock, dock.start_button.rect().bottomRight())
    assert bottom.y() < 680
    assert bottom.x() < 360
    dock.advanced.set_open(True)
    dock.view.setVisible(True)
    dock.resize(300, 680)
    qtbot.wait(50)
    assert dock.minimumSizeHint().width() <= 300
    assert dock.start_button.parentWidget().minimumSizeHint().width() <= 300
    dock.close()
    dock.deleteLater()


def test_every_question_has_methods_with_forms(viewer):
    viewer.layers.selection = set(noisy_scans(viewer))
    dock = opened(viewer, TRAIN)
    for index, question in enumerate(scenarios.training_scenarios()):
        dock.have.setCurrentIndex(index)
        for method in question.methods:
            dock.method.setCurrentText(method)
            assert needs()[method] in dock.need.text()
            assert tuple(dock._rows) == roles(method)
            plan = dock.plan()
            assert plan.method == method
            assert set(plan.data) == set(roles(method))
            for field, value in question.defaults.get(method, {}).items():
                if field in plan.settings:
                    assert plan.settings[field] == value
