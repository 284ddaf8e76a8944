"""The Models dock generates samples of a diffusion model, in real napari."""

from __future__ import annotations

import numpy as np
import pytest
from opening import in_front
from porosity_helpers import measure, open_dock, wait_for_levels
from qtpy.QtWidgets import QDialogButtonBox, QFileDialog

import napari_geosr as geosr
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.dock_tabs import MODELS
from napari_geosr.gui.models.generate import GenerateDialog
from napari_geosr.models import bundle, zoo

#: Settings of the training.
SETTINGS = {"width": 8, "layers": 1, "patch": 16, "device": "cpu", "steps": 2}


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(1000, 50, (8, 40, 40)).astype("f4")


@pytest.fixture(scope="module")
def own_models(tmp_path_factory, scan):
    folder = tmp_path_factory.mktemp("own")
    for name, condition in (("plain", "none"), ("porous", "porosity")):
        job = tmp_path_factory.mktemp("job")
        model = geosr.train(
            "ddpm", job, scan, name=name, condition=condition, **SETTINGS
        )
        bundle.save(folder / name, model.card, model.network())
    return folder


@pytest.fixture
def dock(viewer, qtbot, own_models, monkeypatch):
    monkeypatch.setattr(zoo, "user_folder", lambda: own_models)
    made = in_front(viewer, MODELS)
    made.refresh()
    qtbot.waitUntil(lambda: "porous" in names(made), timeout=20_000)
    return made


def names(dock) -> list[str]:
    return [item.text(0) for item in dock.items()]


def choose(dock, name: str) -> None:
    [item] = [item for item in dock.items() if item.text(0) == name]
    dock.tree.setCurrentItem(item)


def idle(dock) -> bool:
    return not dock.activity.busy and not dock._listing.busy


def opened(dock) -> GenerateDialog:
    dock.generate_button.click()
    return dock.findChildren(GenerateDialog)[-1]


def fill(dialog: GenerateDialog, folder, **values: object) -> None:
    dialog.form.set_values({"sampling_steps": 2, "shape": "24,24"} | values)
    dialog.folder.set_path(folder)


def start(dialog: GenerateDialog) -> None:
    dialog.start_button.click()


def test_only_diffusion_models_generate_samples(dock):
    choose(dock, "foam-denoise")
    assert not dock.generate_button.isEnabled()
    choose(dock, "plain")
    assert dock.generate_button.isEnabled()
    keys = [
        widget.shortcut().toString()
        for widget in dock.findChildren(type(dock.generate_button))
        if widget.shortcut().toString()
    ]
    assert len(keys) == len(set(keys))
    assert "Alt+G" in keys
    assert "ddpm" in dock.generate_button.toolTip()


def test_samples_are_compared_coloured_and_named(
    viewer, qtbot, dock, scan, tmp_path, monkeypatch
):
    geosr.write(Volume(scan, "ZYX"), tmp_path / "known.tif")
    choose(dock, "porous")
    dialog = opened(dock)
    monkeypatch.setattr(
        QFileDialog,
        "getOpenFileNames",
        lambda *_: ([str(tmp_path / "known.tif")], ""),
    )
    dialog.images_button.click()
    assert dialog.training_images() == (tmp_path / "known.tif",)
    fill(dialog, tmp_path / "made", number=9, porosity=0.5)
    start(dialog)
    assert dock.cancel_button.isEnabled()
    assert not dock.generate_button.isEnabled()
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert "Wrote 9 generated samples" in dock.message.text
    assert "Mean porosity: 0." in dock.message.text
    assert "limit for copies" in dock.message.text
    assert "8 of 9 are shown" in dock.message.text
    shown = list(viewer.layers)
    assert len(shown) == 8
    assert all(layer.name.startswith("generated_porous") for layer in shown)
    assert {layer.colormap.name for layer in shown} == {"bop orange"}
    places = {tuple(layer.translate) for layer in shown}
    assert len(places) == 8
    volume = geosr.read(sorted((tmp_path / "made").iterdir())[0])
    assert volume.provenance[-1]["generated"]
    np.testing.assert_array_equal(shown[0].data, volume.data)


def test_copies_are_refused(viewer, qtbot, dock, scan, tmp_path, monkeypatch):
    from napari_geosr.operations.generate import run as generate_run

    monkeypatch.setattr(generate_run, "_drawn", lambda *_: scan[0])
    geosr.write(Volume(scan, "ZYX"), tmp_path / "known.tif")
    choose(dock, "plain")
    dialog = opened(dock)
    assert "porosity" not in dialog.form.names
    dialog.images.setText(str(tmp_path / "known.tif"))
    fill(dialog, tmp_path / "made", number=2, shape="40,40")
    start(dialog)
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert "not anonymous" in dock.message.text
    assert not list(viewer.layers)
    assert not list((tmp_path / "made").iterdir())


def test_an_invalid_setting_is_shown_in_its_field(dock, qtbot, tmp_path):
    choose(dock, "plain")
    dialog = opened(dock)
    fill(dialog, tmp_path / "made", shape="4,4")
    start(dialog)
    assert "at least 8" in dialog.form.faults["shape"]
    assert dialog.isVisible()
    assert not dock.activity.busy
    dialog.buttons.button(QDialogButtonBox.StandardButton.Cancel).click()
    assert not (tmp_path / "made").exists()


def test_without_training_images_a_warning_is_shown(viewer, qtbot, dock, tmp_path):
    choose(dock, "plain")
    dialog = opened(dock)
    fill(dialog, tmp_path / "made", number=1)
    start(dialog)
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    assert "were not compared with the training images" in dock.message.text
    assert "--training-images" not in dock.message.text
    assert len(viewer.layers) == 1


def test_the_porosity_dock_warns_of_a_generated_layer(
    viewer, qtbot, dock, scan, tmp_path, monkeypatch
):
    """Even if the layer was renamed; the report says so as well."""
    choose(dock, "plain")
    dialog = opened(dock)
    fill(dialog, tmp_path / "made", number=1)
    start(dialog)
    qtbot.waitUntil(lambda: idle(dock), timeout=60_000)
    viewer.layers[0].name = "bread"
    porosity = open_dock(viewer, qtbot)
    wait_for_levels(porosity, qtbot)
    measure(porosity, qtbot)
    warning = "'bread' was generated by a model. It was not measured"
    assert warning in porosity.message.text
    assert porosity.result.image.text() == "Image: generated: bread"
    assert "in generated: bread" in porosity.bar.state.text()
    target = tmp_path / "bread_report.html"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *_, **__: (str(target), "")
    )
    porosity.export()
    qtbot.waitUntil(lambda: "report is in" in porosity.message.text, timeout=30_000)
    page = target.read_text(encoding="utf-8")
    assert "<h1>Porosity of generated: bread</h1>" in page
    assert "was generated by a model" in page
    measured = viewer.add_image(scan, name="scan")
    porosity.settings.image.set_layer(measured)
    wait_for_levels(porosity, qtbot)
    measure(porosity, qtbot)
    assert "generated" not in porosity.message.text
    assert porosity.result.image.text() == "Image: scan"
