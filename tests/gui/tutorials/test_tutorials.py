"""The steps of the tutorials in napari, using the labels named on the pages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
from napari.layers._layer_actions import _convert_to_labels
from opening import PLUGIN, filled, in_front, opened
from porosity_helpers import add
from qtpy.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QSpinBox

import napari_geosr as geosr
from napari_geosr.gui.kit.dock_tabs import (
    PAIRS,
    POROSITY,
    RECONSTRUCT,
    RESTORE,
    TRAIN,
    menu_name,
)
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.physics.specimens.samples import noisy_foam

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "tutorials"
BLOCKS = run_path(str(ROOT / "scripts" / "run_tutorials.py"))["blocks"]

pytestmark = pytest.mark.slow
_LONG = 300_000


def press(dock, label: str) -> None:
    """Press the button with a label; it must exist and be enabled."""
    buttons = dock.findChildren(QAbstractButton)
    texts = {one.text().replace("&", ""): one for one in buttons if one.isVisible()}
    assert label in texts, sorted(texts)
    assert texts[label].isEnabled(), f"{label} is disabled"
    texts[label].click()


def field(dock, label: str, kind):
    """The field that belongs to a visible label."""
    for one in dock.findChildren(QLabel):
        if one.isVisible() and one.text().replace("&", "") == label:
            buddy = one.buddy()
            return buddy if isinstance(buddy, kind) else buddy.findChild(kind)
    raise AssertionError(f"no field {label!r}")


def choose(dock, label: str, entry: str) -> None:
    """Choose an entry of the menu that belongs to a label, as with the mouse."""
    menu = field(dock, label, QComboBox)
    index = menu.findText(entry)
    assert index >= 0, [menu.itemText(i) for i in range(menu.count())]
    menu.setCurrentIndex(index)
    menu.activated.emit(index)


def run_python(page: str, folder) -> None:
    """Run the first Python block of a tutorial."""
    language, text = next(b for b in BLOCKS(PAGES / page) if b[0] == "python")
    assert language == "python"
    subprocess.run([sys.executable, "-c", text], cwd=folder, check=True)


def trained_model(train, qtbot, tmp_path, steps: int):
    """Press *Start*, wait for the model, and press *Use this model*."""
    train.folder.set_path(tmp_path / "jobs")
    field(train, "Steps", QSpinBox).setValue(steps)
    press(train, "Start")
    qtbot.waitUntil(lambda: train.view.state == "done", timeout=_LONG)
    assert "PSNR" in train.view.figures.text()
    press(train, "Use this model")


def restored(viewer, layer, qtbot, monkeypatch):
    """Restore a layer with a model trained for a few steps, which is harmful."""
    docks = viewer.window.dock_widgets
    qtbot.waitUntil(lambda: menu_name(RESTORE) in docks, timeout=_LONG)
    restore = filled(docks[menu_name(RESTORE)])
    qtbot.waitUntil(lambda: Path(restore.model_box.model()).is_dir(), timeout=_LONG)
    restore.layer_combo.set_layer(layer)
    monkeypatch.setattr(restore.verdict_panel, "confirm_run", lambda *_: True)
    qtbot.waitUntil(lambda: not restore.activity.busy, timeout=_LONG)
    with qtbot.waitSignal(restore.activity.finished, timeout=_LONG) as finished:
        press(restore, "Run")
    return restore, finished.args[0]


@pytest.mark.usefixtures("with_verdict")
def test_a_noisy_foam_is_restored_and_measured(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample("napari-geosr", "noisy_foam")
    clean, noisy = viewer.layers
    restore = opened(viewer)
    panel = restore.verdict_panel
    # While the dock is busy, the panel waits: it is idle, but has ranked nothing.
    qtbot.waitUntil(
        lambda: (
            panel.ranking is not None
            and panel.activity.is_settled
            and not restore.activity.busy
        ),
        timeout=_LONG,
    )
    assert restore.layer_combo.layer() is noisy
    assert restore.model_box.model() == "ct-denoise"
    combo = restore.model_box.combo
    assert "dB" in combo.itemText(0)
    press(restore, "Show what is removed")
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=_LONG)
    viewer.layers.remove(restore.verdict_panel.removed_button.layer())
    press(restore, "Preview")
    with qtbot.waitSignal(restore.activity.finished, timeout=_LONG):
        press(restore, "Run")
    restored = viewer.layers[-1]
    assert "cannot be counted" in restore.verdict_panel.message.text
    viewer.layers.selection.active = restored
    press(restore, "Measure porosity…")
    porosity = in_front(viewer, POROSITY)
    assert porosity.settings.image.layer() is restored
    assert porosity.settings.other.layer() is noisy
    press(porosity, "Measure")
    qtbot.waitUntil(lambda: not porosity.is_running, timeout=_LONG)
    after, before = porosity.result._reports.values()
    porosity.settings.other.set_layer(clean)
    press(porosity, "Measure")
    qtbot.waitUntil(lambda: not porosity.is_running, timeout=_LONG)
    _, true = porosity.result._reports.values()
    assert abs(after.porosity - true.porosity) < 0.05 * true.porosity
    assert before.porosity > 2 * true.porosity


def test_a_model_is_trained_on_two_scans(
    make_napari_viewer, qtbot, tmp_path, monkeypatch
):
    viewer = make_napari_viewer(show=True)
    for seed in (1, 2):
        made, _ = noisy_foam(shape=(16, 64, 64), seed=seed)
        geosr.write(made, tmp_path / f"scan{seed}.ome.tif")
        viewer.open(str(tmp_path / f"scan{seed}.ome.tif"), plugin=PLUGIN)
    train = opened(viewer, TRAIN)
    question = "Two noisy scans of one object"
    train.have.setCurrentText(question)
    assert train.have.currentText() == question
    chosen = {row.layer().name for row in train._rows.values()}
    assert chosen == {"scan1", "scan2"}
    trained_model(train, qtbot, tmp_path, steps=4)
    scan = viewer.layers["scan1"]
    _, result = restored(viewer, scan, qtbot, monkeypatch)
    assert result.data.shape == scan.data.shape


@pytest.mark.usefixtures("with_verdict")
def test_projections_become_pores(make_napari_viewer, qtbot, tmp_path):
    made = geosr.simulate(
        "foam", tmp_path / "foam", size=48, rows=16, projections=60, voxel_size=10
    ).files
    viewer = make_napari_viewer(show=True)
    viewer.open(str(made["projections"]), plugin=PLUGIN)
    dock = opened(viewer, RECONSTRUCT)
    idle = lambda: qtbot.waitUntil(lambda: not dock.activity.busy, timeout=_LONG)  # noqa: E731
    with qtbot.waitSignal(dock.activity.centreFound, timeout=_LONG):
        press(dock, "Find")
    idle()
    press(dock, "Preview slice")
    qtbot.waitUntil(lambda: dock.activity.preview.layer is not None, timeout=_LONG)
    press(dock, "More settings")
    field(dock, "Slice size", QSpinBox).setValue(48)
    idle()

    def reconstructed():
        with qtbot.waitSignal(dock.activity.finished, timeout=_LONG) as finished:
            press(dock, "Reconstruct")
        idle()
        return finished.args[0]

    whole = reconstructed()
    (mask,) = viewer.open(str(made["sample"]), plugin=PLUGIN)
    viewer.layers.selection = {mask}
    _convert_to_labels(viewer.layers)
    porosity = opened(viewer, POROSITY)
    qtbot.waitUntil(porosity.isVisible)  # a new tab comes to the front in an event
    porosity.settings.image.set_layer(whole)
    choose(porosity, "Sample", "sample")
    qtbot.waitUntil(lambda: porosity.settings.threshold is not None, timeout=_LONG)
    press(porosity, "Measure")
    qtbot.waitUntil(lambda: not porosity.is_running, timeout=_LONG)
    assert 0.1 < porosity.result.report.porosity < 0.35

    in_front(viewer, RECONSTRUCT)
    field(dock, "Use every", QSpinBox).setValue(4)
    assert "every" in dict(
        reconstructed().metadata["geosr"]["provenance"][-1]["settings"]
    )
    menu = field(dock, "Algorithm", QComboBox)
    choose(dock, "Algorithm", next(x for x in texts(menu) if "SIRT" in x))
    reconstructed()

    viewer.open(str(made["truth"]), plugin=PLUGIN)
    field(dock, "Use every", QSpinBox).setValue(1)
    press(dock, "Study projections")
    study = dock.study
    study.open_report.setChecked(False)
    study.folder.set_path(tmp_path / "studies")
    qtbot.waitUntil(study.start_button.isEnabled, timeout=_LONG)
    field(study, "Projections", QLineEdit).setText("20,40")
    field(study, "Algorithms", QLineEdit).setText("fbp,sirt")
    choose(study, "Reference", "truth")
    choose(study, "Mask", "sample")
    press(dock, "Start study")
    qtbot.waitUntil(lambda: study.job is not None, timeout=_LONG)
    settings = JobFolder(study.job).values()["settings"]
    assert settings["counts"] == [20, 40]
    JobFolder(study.job).request("cancel")
    qtbot.waitUntil(lambda: not study.is_running, timeout=_LONG)


def texts(menu: QComboBox) -> list[str]:
    """All entries of a menu."""
    return [menu.itemText(i) for i in range(menu.count())]


def test_a_coarse_scan_is_super_resolved(
    make_napari_viewer, qtbot, tmp_path, monkeypatch
):
    run_python("super_resolve.md", tmp_path)
    viewer = make_napari_viewer(show=True)
    for name in ("coarse", "spot"):
        viewer.open(str(tmp_path / f"{name}.ome.tif"), plugin=PLUGIN)
    pairs = opened(viewer, PAIRS)
    pairs.folder.set_path(tmp_path / "pairs")
    coarse, spot = viewer.layers
    qtbot.waitUntil(lambda: pairs.low.layer() is coarse, timeout=_LONG)
    assert pairs.high.layer() is spot
    press(pairs, "Build pair")
    qtbot.waitUntil(lambda: not pairs.figures.isHidden(), timeout=_LONG)
    assert "Residual shift\t0.07\tvoxels" in pairs.figures.text()
    press(pairs, "Train with these pairs…")
    train = in_front(viewer, TRAIN)
    assert train.plan().settings["network"] == "light_sr"
    press(train, "Advanced")
    field(train, "Patch", QSpinBox).setValue(16)
    trained_model(train, qtbot, tmp_path, steps=4)
    restore, result = restored(viewer, coarse, qtbot, monkeypatch)
    assert result.data.shape == tuple(2 * n for n in coarse.data.shape)
    with qtbot.waitSignal(restore.check_button.checked_result, timeout=_LONG):
        press(restore, "Check consistency with the scan")


def test_a_restoration_is_trusted(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    for volume in reversed(noisy_foam(shape=(16, 64, 64))):
        add(viewer, volume)
    clean, noisy = viewer.layers
    viewer.layers.selection.active = noisy
    restore = opened(viewer)
    settled = lambda: (  # noqa: E731
        restore.verdict_panel.activity.is_settled and not restore.activity.busy
    )
    qtbot.waitUntil(settled, timeout=_LONG)
    restore.model_box.set_model("ct-denoise")
    qtbot.waitUntil(settled, timeout=_LONG)
    choose(restore, "Uncertainty", "flips and rotations")
    qtbot.waitUntil(settled, timeout=_LONG)
    with qtbot.waitSignal(restore.activity.finished, timeout=_LONG) as finished:
        press(restore, "Run")
    viewer.layers.selection.active = finished.args[0]
    press(restore, "Measure porosity…")
    porosity = in_front(viewer, POROSITY)
    assert porosity.settings.deviation.layer().name.endswith("(std)")
    choose(porosity, "Compare with", clean.name)
    press(porosity, "Measure")
    qtbot.waitUntil(lambda: not porosity.is_running, timeout=_LONG)
    assert porosity.result.report.figures["porosity_spread"] > 0
    in_front(viewer, RESTORE)
    with qtbot.waitSignal(restore.check_button.checked_result, timeout=_LONG):
        press(restore, "Check consistency with the scan")
    assert not restore.check_verdict.isHidden()
