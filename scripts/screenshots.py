"""Make the pictures of the documentation: one function per picture.

Run under a display, e.g. ``xvfb-run -a -s "-screen 0 1600x1000x24" python
scripts/screenshots.py [--out FOLDER] [--data FOLDER] [NAME…]``. Without names, all
pictures are made; the default folder is ``docs/images``. Pictures of real scans need
the folder of the data, with ``tooth.h5`` of the tomoPy project and
``bone_128x128x128.tif`` of the qim3d project.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QScrollArea, QWidget

from napari_geosr.gui.kit.dock_tabs import dock_of
from napari_geosr.gui.kit.frame import open_dock as show_dock
from napari_geosr.jobs.folder import JobFolder

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
DATA: Path | None = None
PLUGIN = "napari-geosr"
DOCK_WIDTH = 360


def wait(seconds: float = 0.3, until: Callable[[], bool] | None = None) -> None:
    """Process events for some time, or until a condition is true (with a limit)."""
    end = time.monotonic() + (600 if until else seconds)
    while time.monotonic() < end and not (until and until()):
        QApplication.processEvents()
        time.sleep(0.005)
    if until:
        wait(seconds)


def use_empty_home() -> None:
    """Hide the jobs of other pictures; folders are shown as those of a user."""
    os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # icons
    home = os.environ["HOME"] = tempfile.mkdtemp()
    for kind, folder in (
        ("CONFIG", ".config"),
        ("DATA", ".local/share"),
        ("STATE", ".local/state"),
    ):
        os.environ[f"XDG_{kind}_HOME"] = f"{home}/{folder}"


def new_viewer(size: tuple[int, int] = (1280, 820)):
    """A window of a fixed size, so that pictures do not depend on the screen."""
    viewer = napari.Viewer(show=True)
    viewer.theme = "dark"
    viewer.window.resize(*size)
    wait()
    return viewer


def open_dock(viewer, name: str) -> QWidget:
    """Open a dock of the plugin with the width used in the documentation."""
    frame = show_dock(viewer, name)
    area = dock_of(frame)
    window = viewer.window._qt_window
    window.resizeDocks([area], [DOCK_WIDTH], Qt.Orientation.Horizontal)
    wait(until=lambda: frame.dock is not None)
    wait()
    return frame.dock


def show_only(viewer, name: str) -> None:
    """Select one layer and hide the others."""
    for layer in viewer.layers:
        layer.visible = layer.name == name
    viewer.layers.selection.active = viewer.layers[name]


def save(viewer, name: str) -> None:
    """Save a picture of the whole window as shown on screen."""
    wait(0.5)
    FOLDER.mkdir(parents=True, exist_ok=True)
    viewer.window._qt_window.grab().save(str(FOLDER / f"{name}.png"))
    viewer.close()


def porosity_measured() -> None:
    """Pores coloured by volume, with results, histogram and linked table."""
    viewer = new_viewer()
    viewer.open_sample(PLUGIN, "noisy_foam")
    show_only(viewer, "clean foam")
    dock = open_dock(viewer, "Porosity")
    wait(until=lambda: dock.settings.threshold is not None)
    dock.measure()
    wait(until=lambda: not dock.is_running)
    dock.result.table.sortByColumn(2, Qt.SortOrder.DescendingOrder)
    dock.result.table.selectRow(2)
    save(viewer, "porosity_measured")


def porosity_plot() -> None:
    """Pores selected in the scatter plot, and highlighted in the viewer."""
    viewer = new_viewer()
    viewer.open_sample(PLUGIN, "noisy_foam")
    show_only(viewer, "clean foam")
    dock = open_dock(viewer, "Porosity")
    wait(until=lambda: dock.settings.threshold is not None)
    dock.measure()
    wait(until=lambda: not dock.is_running)
    dock.tabs.setCurrentIndex(2)
    wait(0.5)
    dock.result.plot.expression.setText("d > 25um & d < 40um")
    dock.result.plot.select.click()
    save(viewer, "porosity_plot")


def porosity() -> None:
    """Pores before and after restoration side by side."""
    import napari_geosr
    from napari_geosr.gui.layers import add_image_result, volume_from_layer

    viewer = new_viewer(size=(1280, 940))
    viewer.open_sample(PLUGIN, "noisy_foam")
    viewer.layers.remove("clean foam")
    noisy = viewer.layers["noisy foam"]
    restored = napari_geosr.restore(volume_from_layer(noisy), "ct-denoise")
    layer = add_image_result(viewer, restored, noisy, name="noisy foam · ct-denoise")
    viewer.layers.selection.active = layer
    dock = open_dock(viewer, "Porosity")
    dock.settings.other.set_layer(noisy)
    wait(until=lambda: dock.settings.threshold is not None)
    dock.measure()
    wait(until=lambda: not dock.is_running)
    viewer.reset_view()
    save(viewer, "porosity")


def paint_foam(dock: Any) -> None:
    """Paint strokes of pores and solid where the clean foam has them."""
    viewer, strokes = dock._viewer, dock.strokes.layer()
    pores = np.asarray(viewer.layers["clean foam"].data)
    pores = pores < (pores.min() + pores.max()) / 2
    z = dock.slice_on_screen()
    strokes.brush_size = 2
    rng = np.random.default_rng(0)
    for number, inside in ((1, pores[z]), (2, ~pores[z])):
        for y, x in rng.permutation(np.argwhere(inside))[:8]:
            for i in range(8):
                if x + i < inside.shape[1] and inside[y, x + i]:
                    strokes.paint((z, int(y), int(x + i)), number)


def segment() -> None:
    """Strokes on a noisy foam, and the classes of the slice."""
    viewer = new_viewer(size=(1280, 820))
    viewer.open_sample(PLUGIN, "noisy_foam")
    viewer.layers.selection.active = viewer.layers["noisy foam"]
    dock = open_dock(viewer, "Segment")
    dock.new_button.click()
    wait(until=lambda: dock.slices.topLevelItemCount() > 0)
    paint_foam(dock)
    wait(until=lambda: dock.shown_layers.prediction is not None)
    wait(until=lambda: not dock.activity.busy)
    viewer.reset_view()
    save(viewer, "segment")


def shapes() -> None:
    """A coarse piece of trabecular bone, refined by a factor of 4, and its surface."""
    from napari_geosr.physics.shapes import coarsened, sampled, trabeculae

    viewer = new_viewer(size=(1280, 820))
    fine = sampled(trabeculae(np.random.default_rng(4)), (128,) * 3)
    viewer.add_labels(
        coarsened(fine, 4).astype(np.uint8),
        name="trabeculae",
        scale=(0.08,) * 3,
        units="mm",
    )
    dock = open_dock(viewer, "Shapes")
    dock.forms["Refine"].set_values({"upscale_factor": 4})
    dock.run_button.click()
    wait(until=lambda: not dock.activity.busy)
    for layer in viewer.layers:
        layer.visible = layer.name.endswith("surface")
    viewer.dims.ndisplay = 3
    viewer.reset_view()
    viewer.scene.camera.angles = (10, -35, 60)
    save(viewer, "shapes")


def shapes_segment() -> None:
    """Marrow and bone, segmented inside a mask, with the fraction of each."""
    from napari_geosr import io
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.shapes import ShapeTrainJob, train_shape_steps
    from napari_geosr.physics.shapes import sampled, trabeculae

    def scanned(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return a noisy scan of trabeculae in a cylinder, its mask and its labels."""
        rng = np.random.default_rng(seed)
        bone = sampled(trabeculae(rng), (96,) * 3)
        radius = np.hypot(*(np.indices((96, 96)) - 47.5))
        mask = np.broadcast_to(radius < 26, bone.shape)  # 23 % of the volume
        grey = (60 * bone + 40) * mask + rng.normal(0, 25, bone.shape)
        return grey.astype(np.float32), mask, mask * (1 + bone.astype(np.uint8))

    with contextlib.chdir(scans_folder()):
        source, target, job = map(Path, ("scan.tif", "labels.tif", "bone_job"))
        grey, _, labels = scanned(0)
        io.write(Volume(grey, "ZYX", (0.02,) * 3, "mm"), source)
        io.write(Volume(labels, "ZYX", (0.02,) * 3, "mm"), target, kind="labels")
        training = {
            "source": [source],
            "target": [target],
            "name": "bone",
            "steps": 150,
            "device": "cpu",
            "patch": 48,
        }
        values = {"method": "sparse_segmentation", "training": training}
        run_to_end(train_shape_steps(ShapeTrainJob.from_values(values), job))
        viewer = new_viewer()
        grey, mask, _ = scanned(1)
        place = {"scale": (0.02,) * 3, "units": "mm"}
        viewer.add_image(grey, name="scan", contrast_limits=(-40, 160), **place)
        viewer.add_labels(mask.astype(np.uint8), name="sample", **place)
        dock = open_dock(viewer, "Shapes")
        dock.task.setCurrentText("Segment inside")
        dock.forms["Segment inside"].set_values({"model": str(job)})
        dock.run_button.click()
        wait(until=lambda: not dock.activity.busy)
        viewer.layers["sample"].visible = False
        viewer.dims.ndisplay = 2
        viewer.reset_view()
        save(viewer, "shapes_segment")


def compare() -> None:
    """A restored foam and its noisy scan, compared with the clean foam."""
    import napari_geosr
    from napari_geosr.gui.layers import add_image_result, volume_from_layer

    viewer = new_viewer(size=(1280, 900))
    viewer.open_sample(PLUGIN, "noisy_foam")
    noisy = viewer.layers["noisy foam"]
    restored = napari_geosr.restore(volume_from_layer(noisy), "foam-denoise")
    layer = add_image_result(viewer, restored, noisy, name="restored foam")
    dock = open_dock(viewer, "Compare")
    dock.images.choose(noisy, layer)
    dock.reference.set_layer(viewer.layers["clean foam"])
    dock.compare_button.click()
    wait(until=lambda: not dock.activity.busy)
    dock.compared.setCurrentIndex(dock.compared.findData("restored foam"))
    viewer.reset_view()
    dock.view.curtain_button.click()
    save(viewer, "compare")


def why() -> None:
    """Where a pore of a restored foam comes from."""
    viewer = new_viewer(size=(1280, 900))
    viewer.open_sample(PLUGIN, "noisy_foam")
    dock = open_restore(viewer, "noisy foam")
    run_restore(dock)
    result = viewer.layers[-1]
    dock.explanation_box.pick_button.click()
    n_z, n_y, n_x = result.data.shape
    dark = np.asarray(result.data[n_z // 2, n_y // 4 : -n_y // 4, n_x // 4 : -n_x // 4])
    y, x = np.unravel_index(np.argmin(dark), dark.shape)
    dock.explanation_box.pick(
        result.data_to_world((n_z // 2, y + n_y // 4, x + n_x // 4))
    )
    wait(until=lambda: not dock.explanation_box.activity.busy)
    save(viewer, "why")


def open_restore(viewer, layer: str, model: str = "ct-denoise") -> QWidget:
    """Open the Restore dock on a layer, ready to run."""
    show_only(viewer, layer)
    dock = open_dock(viewer, "Restore")
    dock.model_box.set_model(model)
    wait(0.2)
    wait(until=lambda: dock.estimate.text() != "Estimate: –")
    wait(until=lambda: dock.verdict_panel.activity.is_settled)
    viewer.reset_view()
    return dock


def run_restore(dock: QWidget) -> None:
    """Click Run and wait for the end."""
    dock.run_button.click()
    wait(until=lambda: not dock.measure_button.isHidden())


def restore() -> None:
    """The result of a run behind the curtain."""
    viewer = new_viewer()
    viewer.open_sample(PLUGIN, "noisy_foam")
    dock = open_restore(viewer, "noisy foam")
    run_restore(dock)
    dock.compare.curtain_button.click()
    dock.settings.set_open(True)
    save(viewer, "restore")


def two_scans(viewer) -> None:
    """A region with coarse voxels, and a spot in it with fine voxels, rotated by 4°."""
    import numpy as np
    from scipy import ndimage

    from napari_geosr.physics.noise import reconstruction_noise
    from napari_geosr.physics.sampling import coarse_scan
    from napari_geosr.physics.specimens.phantoms import sphere_foam

    made = sphere_foam((112, 224, 224), porosity=0.3, radius=(6, 18), gap=2, seed=3)
    foam = (0.8 - 0.6 * made.fraction).astype(np.float32)
    rng = np.random.default_rng(0)
    coarse = coarse_scan(foam, 4, 0.4)
    coarse = 200 * (coarse + 0.3 * reconstruction_noise(coarse.shape, 0.25, rng))
    angle, shape = np.deg2rad(4), (88, 160, 160)
    turn = np.eye(3)
    turn[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    middle = (np.array(shape) - 1) / 2
    fine = ndimage.affine_transform(
        foam, turn, np.array([55, 118, 103]) - turn @ middle, shape, order=1
    )
    fine = 40_000 * fine + rng.normal(0, 1500, shape)
    for data, name, size in ((coarse, "part", 8.0), (fine, "spot", 2.0)):
        viewer.add_image(
            data.astype(np.float32), name=name, scale=(size,) * 3, units="um"
        )


def open_pairs(viewer) -> QWidget:
    """The Pairs dock after it has aligned two scans."""
    from napari_geosr.gui.layers.camera import fit_camera

    two_scans(viewer)
    dock = open_dock(viewer, "Pairs")
    wait(until=lambda: dock.low.layer() is viewer.layers["part"])
    dock.build_button.click()
    wait(until=lambda: not dock.figures.isHidden())
    pair = viewer.layers["spot: low resolution"]
    lowest, highest = pair.extent.world
    viewer.dims.set_point(0, (lowest[0] + highest[0]) / 2)
    fit_camera(viewer, pair)
    return dock


def pairs() -> None:
    """Two aligned scans, grey where they agree, with the measured values."""
    viewer = new_viewer(size=(1280, 940))
    dock = open_pairs(viewer)
    overlay = next(dock.folder.path.rglob("overlay.png"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "pairs_overlay.png").write_bytes(overlay.read_bytes())
    save(viewer, "pairs")


def models() -> None:
    """The available models, and the card of the selected one."""
    viewer = new_viewer(size=(1280, 900))
    viewer.open_sample(PLUGIN, "resolution_pair")
    dock = open_dock(viewer, "Models")
    wait(until=lambda: bool(dock.items()))
    dock.choose("foam-sr-x2")
    viewer.reset_view()
    save(viewer, "models")


def noisy_pair(viewer) -> None:
    """Two noisy scans of the sample foam; the clean one is not used."""
    import numpy as np

    viewer.open_sample(PLUGIN, "noisy_foam")
    first, clean = (viewer.layers[f"{word} foam"] for word in ("noisy", "clean"))
    spread = float(np.std(np.asarray(first.data, float) - clean.data))
    rng = np.random.default_rng(1)
    second = clean.data + rng.normal(0, spread, clean.data.shape)
    first.name = "first scan"
    viewer.add_image(
        second.astype(np.float32),
        name="second scan",
        scale=first.scale,
        translate=first.translate,
        units=first.units,
        axis_labels=first.axis_labels,
        contrast_limits=first.contrast_limits,
    )
    viewer.layers.remove(clean)
    viewer.layers.selection.active = first


def open_train(viewer, steps: int, name: str = "foam", **settings: object) -> QWidget:
    """Open the Train dock with the settings of a small network."""
    dock = open_dock(viewer, "Train")
    dock.settings.form.set_values(
        {"layers": 6, "width": 3, "batch_size": 4, "patch": 48, "threads": 1} | settings
    )
    dock.steps.setValue(steps)
    dock.name.setText(name)
    return dock


def steps_done(view) -> int:
    """Return the number of training steps, as shown in the dock."""
    return view.line[1]


def train() -> None:
    """A training run in progress: curves, values and the preview on the slice."""
    viewer = new_viewer(size=(1280, 900))
    noisy_pair(viewer)
    dock = open_train(viewer, 500)
    dock.start_button.click()
    wait(until=lambda: steps_done(dock.view) > 250)
    wait(until=lambda: "preview" in viewer.layers[-1].name)
    viewer.reset_view()
    job = JobFolder(dock.view.job)
    save(viewer, "train")
    job.request("cancel")


def jobs() -> None:
    """Two finished training runs in one plot, one of them selected."""
    viewer = new_viewer(size=(1280, 900))
    noisy_pair(viewer)
    dock = open_train(viewer, 200)
    for name, layers in (("foam-small", 3), ("foam-deep", 8)):
        dock.settings.form.set_values({"layers": layers})
        dock.name.setText(name)
        dock.start_button.click()
        wait(until=lambda job_name=name: job_name in str(dock.view.job))
        wait(until=lambda: dock.view.state == "done")
    listing = open_dock(viewer, "Jobs")
    wait(until=lambda: listing.tree.topLevelItemCount() > 1)
    listing.tree.selectAll()
    for part in list(viewer.window.dock_widgets.values()):
        if part is dock:
            dock_of(part).close()
    wait(until=lambda: "preview" in viewer.layers[-1].name)
    viewer.reset_view()
    save(viewer, "jobs")


def jobs_resume() -> None:
    """A paused training run, and the options for resuming it."""
    viewer = new_viewer(size=(1280, 900))
    noisy_pair(viewer)
    dock = open_train(viewer, 1000)
    dock.start_button.click()
    wait(until=lambda: steps_done(dock.view) > 400)
    dock.view.pause_button.click()
    wait(until=lambda: dock.view.state == "paused")
    listing = open_dock(viewer, "Jobs")
    for part in list(viewer.window.dock_widgets.values()):
        if part is dock:
            dock_of(part).close()
    wait(until=lambda: listing.view.state == "paused")
    listing.view.resume_with.set_open(True)
    wait(until=lambda: "preview" in viewer.layers[-1].name)
    viewer.reset_view()
    save(viewer, "jobs_resume")


def scans_folder() -> Path:
    """Return the folder for scans in the home folder; create it if necessary."""
    folder = Path.home() / "scans"
    folder.mkdir(exist_ok=True)
    return folder


def simulated_scan(size: int, projections: int) -> Path:
    """Return a noisy scan of a foam with a rotation axis off the centre."""
    from napari_geosr import simulate

    made = simulate(
        "foam",
        scans_folder() / "foam",
        size=size,
        rows=24,
        projections=projections,
        photons=3e3,
        centre_offset=3.4,
        seed=5,
    )
    return made.files["projections"]


def open_reconstruct(size: int = 192, projections: int = 180) -> tuple[Any, QWidget]:
    """Return the Reconstruct dock on a simulated scan."""
    viewer = new_viewer(size=(1280, 940))
    viewer.open(str(simulated_scan(size, projections)), plugin=PLUGIN)
    return viewer, open_dock(viewer, "Reconstruct")


def reconstruct() -> None:
    """The whole reconstructed volume, with the next steps."""
    viewer, dock = open_reconstruct()
    dock.run_button.click()
    wait(until=lambda: not dock.measure_button.isHidden())
    dock.denoise_section.set_open(True)
    viewer.reset_view()
    save(viewer, "reconstruct")


def run_study(dock: QWidget) -> None:
    """Open the study in the Reconstruct dock, and run a small one."""
    dock.study_section.set_open(True)
    study = dock.study
    study.open_report.setChecked(False)
    wait(until=study.start_button.isEnabled)
    study.above.set_values(
        {"counts": "20, 30, 45, 60, 90", "algorithms": "fbp, sirt, tv"}
    )
    study.more.set_values({"tune": False})
    study.start_button.click()
    wait(until=lambda: study.job is not None)
    wait(until=lambda: not study.is_running)


def reconstruct_study() -> None:
    """Curves and table of a finished study of fewer projections."""
    viewer, dock = open_reconstruct(size=96, projections=180)
    run_study(dock)
    scroll_to(dock.study.result)
    viewer.layers.selection.active = viewer.layers[0]
    viewer.reset_view()
    save(viewer, "reconstruct_study")


def reconstruct_dock() -> None:
    """A real scan of a tooth: the rotation axis and the slice."""
    assert DATA is not None
    viewer = new_viewer(size=(1280, 760))
    viewer.open(str(next(DATA.rglob("tooth.h5"))), plugin=PLUGIN)
    dock = open_dock(viewer, "Reconstruct")
    dock.centre.find_button.click()
    wait(until=lambda: dock.centre.value() is not None)
    dock.preview_button.click()
    wait(until=lambda: dock.activity.preview.layer is not None)
    wait(until=lambda: not dock.activity.busy)
    save(viewer, "reconstruct_dock")


def restore_bone() -> None:
    """A real scan of bone in the Restore dock, with the first proposal."""
    assert DATA is not None
    viewer = new_viewer()
    viewer.open(str(next(DATA.rglob("bone_128x128x128.tif"))), plugin=PLUGIN)
    dock = open_dock(viewer, "Restore")
    wait(until=lambda: dock.verdict_panel.ranking is not None)
    wait(until=lambda: dock.verdict_panel.activity.is_settled)
    viewer.reset_view()
    save(viewer, "restore_bone")


def sim_frames(viewer) -> None:
    """Open simulated raw frames of structured illumination."""
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.operations.sim import SimulateSimConfig, simulate_sim_steps

    config = SimulateSimConfig(structure="filaments", snr=20, size=256)
    made = run_to_end(simulate_sim_steps(scans_folder() / "frames", config))
    viewer.open(str(made.files["raw"]), plugin=PLUGIN)


def sim() -> None:
    """Raw frames, their spectrum, and the estimated patterns."""
    viewer = new_viewer(size=(1280, 980))
    sim_frames(viewer)
    dock = open_dock(viewer, "SIM")
    wait(until=lambda: dock.strip.overview is not None)
    dock.find_button.click()
    wait(until=lambda: not dock.activity.busy)
    scroll_to(dock.table)
    viewer.reset_view()
    save(viewer, "sim")


def scroll_to(widget: QWidget) -> None:
    """Scroll a dock to one of its widgets."""
    area = widget.parentWidget()
    while area is not None and not isinstance(area, QScrollArea):
        area = area.parentWidget()
    wait(0.2)
    if area is not None:
        area.ensureWidgetVisible(widget, 0, 0)
    wait(0.1)


PICTURES = {
    function.__name__: function
    for function in (
        restore,
        pairs,
        models,
        porosity_measured,
        porosity_plot,
        porosity,
        segment,
        shapes,
        shapes_segment,
        compare,
        why,
        train,
        jobs,
        jobs_resume,
        reconstruct,
        reconstruct_study,
        sim,
    )
}
#: Pictures of real scans, which need the data.
PICTURES_OF_DATA = {"reconstruct_dock": reconstruct_dock, "restore_bone": restore_bone}


def main() -> None:
    """Make the requested pictures, or all, with default settings."""
    global FOLDER, DATA  # set for all functions
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--data", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    arguments = parser.parse_args()
    FOLDER, DATA = arguments.out, arguments.data
    pictures = PICTURES if DATA is None else PICTURES | PICTURES_OF_DATA
    for name in arguments.names or pictures:
        use_empty_home()
        pictures[name]()
        print(FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
