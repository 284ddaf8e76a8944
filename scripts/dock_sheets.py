"""Render contact sheets of every dock, empty and in use, for inspection.

Run under a display, e.g. ``xvfb-run -a -s "-screen 0 1600x1000x24" python
scripts/dock_sheets.py --out FOLDER [DOCK…]``. The window has 1366 × 768 pixels. A sheet
shows one state of one dock: 360 and 300 pixels wide, in the dark and the light
theme. ``--data FOLDER`` adds sheets of Restore and Porosity on real scans.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QPainter, QPixmap
from qtpy.QtWidgets import QWidget

import screenshots as shots
from napari_geosr.gui.kit.dock_tabs import dock_of
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.physics.specimens.phantoms import sphere_foam
from screenshots import wait

WINDOW = (1366, 768)
WIDTHS = (360, 300)
THEMES = ("dark", "light")
GAP = 12

#: States of a dock with their names.
States = Iterator[tuple[str, QWidget]]


def opened(viewer, name: str) -> tuple[QWidget, QWidget]:
    """Open a dock; return its frame and the dock inside it."""
    frame = open_dock(viewer, name)
    wait(until=lambda: frame.dock is not None)
    return frame, frame.dock


def restore(viewer) -> States:
    """Restore: empty, with a scan, with a preview, after a run."""
    frame, dock = opened(viewer, "Restore")
    yield "empty", frame
    viewer.open_sample(shots.PLUGIN, "noisy_foam")
    dock.layer_combo.set_layer(viewer.layers["noisy foam"])
    wait(0.3)
    wait(until=lambda: dock.estimate.text() != "Estimate: –")
    wait(until=lambda: dock.verdict_panel.activity.is_settled)
    yield "ready", frame
    dock.settings.set_open(True)
    yield "settings", frame
    dock.settings.set_open(False)
    shots.run_restore(dock)
    yield "done", frame


def choose_foam(viewer, dock: QWidget) -> None:
    """Choose a foam with many pores; most pores of the noisy one are connected."""
    viewer.open_sample(shots.PLUGIN, "noisy_foam")
    shots.show_only(viewer, "clean foam")
    dock.settings.image.set_layer(viewer.layers["clean foam"])
    wait(0.5)
    wait(until=lambda: dock.settings.threshold is not None)


def porosity(viewer) -> States:
    """Porosity: empty, with a scan, measured."""
    frame, dock = opened(viewer, "Porosity")
    yield "empty", frame
    choose_foam(viewer, dock)
    yield "ready", frame
    dock.measure()
    wait(until=lambda: not dock.is_running)
    dock.result.table.selectRow(2)
    yield "measured", frame
    dock.tabs.setCurrentIndex(2)
    yield "plot", frame
    dock.result.plot.expression.setText("d > 25um & d < 40um")
    dock.result.plot.select.click()
    yield "plot selected", frame
    dock.result.plot.expression.setText("d > 25 parsecs")
    dock.result.plot.select.click()
    yield "plot fault", frame


def porosity_air(viewer) -> States:
    """Porosity: with a cylinder in air, before and after measuring."""
    frame, dock = opened(viewer, "Porosity")
    y, x = np.mgrid[:96, :96] - 47.5
    foam = sphere_foam((96, 96, 96), porosity=0.3, radius=(3, 8), gap=1.0, seed=3)
    grey = np.where(np.hypot(y, x) < 42, 200 - 180 * foam.fraction, 20)
    grey += np.random.default_rng(0).normal(0, 5, grey.shape)
    viewer.add_image(grey.astype(np.float32), name="bone", scale=(2,) * 3, units="um")
    wait(until=lambda: dock.settings.threshold is not None)
    wait(3)
    yield "ready", frame
    dock.measure()
    wait(until=lambda: not dock.is_running)
    yield "measured", frame


def porosity_sections(viewer) -> States:
    """Porosity: with the morphometry and the scan plan open, before and after use."""
    frame, dock = opened(viewer, "Porosity")
    dock.plan.section.set_open(True)
    shots.scroll_to(dock.plan)
    yield "plan empty", frame
    choose_foam(viewer, dock)
    dock.plan.spot.setText("20%")
    dock.plan.button.click()
    wait(until=lambda: bool(dock.plan.text.text()) and not dock.is_running)
    shots.scroll_to(dock.plan)
    yield "plan", frame
    dock.plan.section.set_open(False)
    box = dock.settings.morphometry
    box.section.set_open(True)
    box.boxes["thickness"].setChecked(True)
    box.boxes["trabecular"].setChecked(True)
    box.group.setText("diameter>20um")
    shots.scroll_to(box)
    yield "morphometry", frame
    dock.measure()
    wait(until=lambda: not dock.is_running)
    yield "morphometry measured", frame


def sim(viewer) -> States:
    """SIM: empty, with frames, with their patterns, reconstructed."""
    frame, dock = opened(viewer, "SIM")
    yield "empty", frame
    shots.sim_frames(viewer)
    wait(0.5)
    yield "ready", frame
    dock.find_button.click()
    wait(until=lambda: not dock.activity.busy)
    yield "patterns", frame
    dock.advanced.set_open(True)
    shots.scroll_to(dock.rare)
    yield "settings", frame
    dock.advanced.set_open(False)
    dock.run_button.click()
    wait(until=lambda: not dock.activity.busy)
    shots.scroll_to(dock.figures)
    yield "done", frame


def train(viewer) -> States:
    """Train: empty, with two scans, with all settings, during training."""
    frame, dock = opened(viewer, "Train")
    yield "empty", frame
    shots.noisy_pair(viewer)
    yield "ready", frame
    dock.advanced.set_open(True)
    yield "settings", frame
    dock.advanced.set_open(False)
    dock = shots.open_train(viewer, 4000)
    dock.start_button.click()
    wait(until=lambda: shots.steps_done(dock.view) > 100)
    job = JobFolder(dock.view.job)
    yield "training", frame
    job.request("cancel")


def reconstruct(viewer) -> States:
    """Reconstruct: empty, with projections, with a study, reconstructed."""
    frame, dock = opened(viewer, "Reconstruct")
    yield "empty", frame
    viewer.open(str(shots.simulated_scan(96, 120)), plugin=shots.PLUGIN)
    wait(1)
    yield "ready", frame
    dock.study_section.set_open(True)
    yield "study", frame
    shots.run_study(dock)
    shots.scroll_to(dock.study.result)
    yield "study done", frame
    dock.study_section.set_open(False)
    dock.run_button.click()
    wait(until=lambda: not dock.measure_button.isHidden())
    yield "done", frame


def segment(viewer) -> States:
    """Segment: empty, with a scan, after strokes, segmented."""
    frame, dock = opened(viewer, "Segment")
    yield "empty", frame
    viewer.open_sample(shots.PLUGIN, "noisy_foam")
    viewer.layers.selection.active = viewer.layers["noisy foam"]
    wait(0.5)
    yield "ready", frame
    dock.new_button.click()
    wait(until=lambda: dock.slices.topLevelItemCount() > 0)
    shots.paint_foam(dock)
    wait(until=lambda: dock.shown_layers.prediction is not None)
    yield "painted", frame
    dock.segment_button.click()
    wait(until=lambda: dock.fractions.text() != "")
    yield "done", frame


def compare(viewer) -> States:
    """Compare: empty, with two volumes, compared."""
    frame, dock = opened(viewer, "Compare")
    yield "empty", frame
    viewer.open_sample(shots.PLUGIN, "noisy_foam")
    wait(0.5)
    yield "ready", frame
    dock.compare_button.click()
    wait(until=lambda: not dock.activity.busy)
    yield "done", frame
    dock.tabs.setCurrentIndex(2)
    yield "pores", frame


def pairs(viewer) -> States:
    """Pairs: empty, with two scans, aligned."""
    frame, dock = opened(viewer, "Pairs")
    yield "empty", frame
    shots.two_scans(viewer)
    wait(0.5)
    yield "ready", frame
    wait(until=lambda: dock.low.layer() is viewer.layers["part"])
    dock.build_button.click()
    wait(until=lambda: not dock.figures.isHidden())
    yield "done", frame


def models(viewer) -> States:
    """Models: the list without a layer, and with one."""
    frame, dock = opened(viewer, "Models")
    wait(until=lambda: bool(dock.items()))
    yield "empty", frame
    viewer.open_sample(shots.PLUGIN, "resolution_pair")
    dock.choose("foam-sr-x2")
    yield "chosen", frame


def shapes(viewer) -> States:
    """Shapes: empty, with a coarse shape, refined."""
    from napari_geosr.physics.shapes import coarsened, sampled, trabeculae

    frame, dock = opened(viewer, "Shapes")
    yield "empty", frame
    fine = sampled(trabeculae(np.random.default_rng(4)), (64,) * 3)
    coarse = coarsened(fine, 4).astype(np.uint8)
    viewer.add_labels(coarse, name="trabeculae", scale=(0.08,) * 3, units="mm")
    wait(0.5)
    yield "ready", frame
    dock.run_button.click()
    wait(until=lambda: not dock.activity.busy)
    yield "done", frame


def real(viewer, file: str) -> States:
    """Yield a real scan in Restore and Porosity: as opened, previewed, measured."""
    assert shots.DATA is not None
    restore_frame, dock = opened(viewer, "Restore")
    viewer.open(str(shots.DATA / file), plugin=shots.PLUGIN)
    wait(1)
    wait(until=lambda: dock.verdict_panel.activity.is_settled)
    yield "restore", restore_frame
    frame, dock = opened(viewer, "Porosity")
    wait(until=lambda: dock.settings.threshold is not None)
    wait(1)
    yield "porosity", frame
    dock.measure()
    wait(until=lambda: not dock.is_running)
    yield "measured", frame


REAL_FILES = {
    "bone": "ct_volumes/bone_128x128x128.tif",
    "cement": "ct_volumes/cement_128x128x128.tif",
    "pollen": "microscopy/pollen.tif",
    "movie": "microscopy/membrane_2d_timelapse.tif",
}


def jobs(viewer) -> States:
    """Jobs: without a job, with a finished training run, with the parts of a run."""
    frame, _ = opened(viewer, "Jobs")
    wait(1)
    yield "empty", frame
    shots.noisy_pair(viewer)
    dock = shots.open_train(viewer, 60)
    dock.start_button.click()
    wait(until=lambda: dock.view.state == "done")
    frame.show()
    dock_of(frame).raise_()
    wait(until=lambda: frame.dock.tree.topLevelItemCount() > 0)
    frame.dock.tree.selectAll()
    yield "done", frame
    frame.dock.view.strip.set_parts((100, 100, 100, 60, 35, 0, 0, 0))
    frame.dock.view.strip.set_parts = lambda _parts: None  # keep the parts shown
    yield "parts", frame


DOCKS = {
    function.__name__: function
    for function in (
        restore,
        porosity,
        porosity_air,
        porosity_sections,
        train,
        reconstruct,
        sim,
        segment,
        compare,
        pairs,
        models,
        shapes,
        jobs,
    )
}
ON_REAL = {name: partial(real, file=file) for name, file in REAL_FILES.items()}


def sheet(viewer, frame: QWidget) -> QPixmap:
    """Draw a dock side by side in several widths and both themes."""
    window = viewer.window._qt_window
    area = dock_of(frame)
    views = []
    for theme in THEMES:
        viewer.theme = theme
        for width in WIDTHS:
            window.resizeDocks([area], [width], Qt.Orientation.Horizontal)
            wait(0.5)
            views.append(area.grab())
    whole = QPixmap(sum(v.width() + GAP for v in views), max(v.height() for v in views))
    whole.fill(Qt.GlobalColor.magenta)
    painter = QPainter(whole)
    x = 0
    for view in views:
        painter.drawPixmap(x, 0, view)
        x += view.width() + GAP
    painter.end()
    viewer.theme = THEMES[0]
    return whole


def main() -> None:
    """Draw the requested docks, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with real scans")
    parser.add_argument("names", nargs="*", metavar="DOCK")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    shots.DATA = arguments.data
    known = DOCKS | (ON_REAL if arguments.data else {})
    for name in arguments.names or known:
        shots.use_empty_home()
        viewer = shots.new_viewer(size=WINDOW)
        for state, frame in known[name](viewer):
            path = arguments.out / f"{name}_{state}.png".replace(" ", "_")
            sheet(viewer, frame).save(str(path))
            print(path, flush=True)
        viewer.close()


if __name__ == "__main__":
    main()
