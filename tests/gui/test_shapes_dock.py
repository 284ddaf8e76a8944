"""The *Shapes* dock: refine, complete and view a shape, export it, and segment."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog, QMessageBox
from scipy import ndimage

from napari_geosr import io
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.result import ResultOpener
from napari_geosr.gui.kit.dock_tabs import SHAPES
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.layers.geometry import check_same_transform
from napari_geosr.gui.layers.voxel_size import VoxelSizeRow
from napari_geosr.gui.shapes.layers import transform_warning
from napari_geosr.gui.shapes.widgets import (
    ABOVE,
    BELOW,
    COMPLETE,
    DONE,
    EDITED,
    NO_IMAGE,
    NO_SCAN,
    NO_SHAPE,
    READY,
    READY_BEYOND,
    READY_TO_SEGMENT,
    REFINE,
    SEGMENT,
    UNSURE,
)
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.handover import job_from_run_steps
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.run import run_steps
from napari_geosr.measure.shapes import dice
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes import RefineShapeConfig
from napari_geosr.operations.shapes.layers import PREVIEW_EDGE
from napari_geosr.operations.shapes.simulation import simulated_skull

SIZE, ORIGIN = 0.5, (10.0, 20.0, 30.0)


def ball(edge: int = 24) -> np.ndarray:
    places = np.indices((edge,) * 3) - (edge - 1) / 2
    return (np.sqrt((places**2).sum(0)) < edge / 3).astype(np.uint8)


def add_labels(viewer, labels, **more):
    options = {"scale": (SIZE,) * 3, "translate": ORIGIN, "units": "mm", **more}
    return viewer.add_labels(labels, name="bone", **options)


@pytest.fixture
def labels(viewer):
    return add_labels(viewer, ball())


@pytest.fixture
def dock(viewer, labels):
    return opening.opened(viewer, SHAPES)


def idle(dock, qtbot):
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=120_000)


def test_a_shape_is_refined_in_its_place(
    viewer, dock, labels, qtbot, tmp_path, monkeypatch
):
    assert dock.bar.state.text() == READY
    dock.forms[REFINE].set_values({"upscale_factor": 4, "model": "trilinear"})
    dock.run_button.click()
    assert dock.cancel_button.isEnabled()
    assert not dock.run_button.isEnabled()
    idle(dock, qtbot)
    made, surface = (viewer.layers[f"bone refined 4×{s}"] for s in ("", " surface"))
    assert made.data.shape == (96,) * 3
    np.testing.assert_allclose(made.scale, SIZE / 4)
    # Outer edges are kept, so the first voxel moves by 3/8 of an old one.
    np.testing.assert_allclose(made.translate, np.array(ORIGIN) - 0.375 * SIZE)
    config = shapes.RefineShapeConfig.create(upscale_factor=4, model="trilinear")
    source = io.read(save(labels, tmp_path))
    run_to_end(shapes.refine_shape_steps(source, tmp_path / "fine.tif", config))
    np.testing.assert_array_equal(made.data, io.read(tmp_path / "fine.tif").data)

    # The surface is on the boundary of the labels, in world coordinates.
    place = surface.data[0] * surface.scale + surface.translate
    voxel = np.rint((place - made.translate) / made.scale).astype(int)
    inside = np.asarray(made.data) > 0
    both = ndimage.maximum_filter(inside, 5) & ~ndimage.minimum_filter(inside, 5)
    assert both[tuple(voxel.T)].all()
    assert surface.units == made.units

    rows = [dock.table.topLevelItem(i) for i in range(dock.table.topLevelItemCount())]
    texts = {row.text(0): (row.text(1), row.text(2)) for row in rows}
    before, after = map(float, texts["Volume (mm³)"])
    assert before == pytest.approx(ball().sum() * SIZE**3, rel=5e-4)
    assert after == pytest.approx(inside.sum() * (SIZE / 4) ** 3, rel=5e-4)
    assert texts["Euler number"] == ("1", "1")
    assert "watertight" in dock.summary.text()
    assert dock.bar.state.text() == DONE

    check_export(dock, qtbot, tmp_path, monkeypatch)
    check_export_of_edited_labels(dock, made, qtbot, tmp_path / "edited.ply")
    viewer.layers.remove(made)
    assert dock.mesh_button.isEnabled()
    viewer.layers.remove(surface)
    assert not dock.mesh_button.isEnabled()
    assert dock.bar.state.text() == READY


def check_export(dock, qtbot, folder, monkeypatch):
    """Export as the chosen kind, and do not replace a file without asking."""
    answers = [(str(folder / "bone"), "PLY (*.ply)")] * 3
    asked = []
    replace = QMessageBox.StandardButton
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answers.pop())
    monkeypatch.setattr(
        QMessageBox, "question", lambda *a: (asked.append(a[2]), replace.No)[1]
    )
    dock.mesh_button.click()
    idle(dock, qtbot)
    written = folder / "bone.ply"
    assert written.read_bytes().startswith(b"ply")
    assert "Wrote" in dock.message.text
    assert not asked

    written.write_text("mine")
    dock.mesh_button.click()
    idle(dock, qtbot)
    assert "bone.ply" in asked[0]
    assert written.read_text() == "mine"
    monkeypatch.setattr(QMessageBox, "question", lambda *_: replace.Yes)
    dock.mesh_button.click()
    idle(dock, qtbot)
    assert written.read_bytes().startswith(b"ply")


def check_export_of_edited_labels(dock, made, qtbot, path):
    """The mesh is the surface shown, whatever was painted into the labels."""
    assert EDITED not in dock.message.text
    made.data[:5, :5, :5] = 2
    dock.export(path)
    idle(dock, qtbot)
    assert EDITED in dock.message.text
    assert path.read_bytes() == path.with_name("bone.ply").read_bytes()


def save(layer, folder):
    return io.write(volume_from_layer(layer), folder / "bone.tif", kind="labels")


def test_the_preview_is_a_part_of_the_result(viewer, labels, qtbot):
    viewer.layers.clear()
    big = ball(72)
    add_labels(viewer, big)
    dock = opening.opened(viewer, SHAPES)
    at = np.array([36, 36, 12])  # on the surface of the sphere
    viewer.dims.set_point(0, ORIGIN[0] + SIZE * at[0])
    viewer.scene.camera.center = tuple(np.array(ORIGIN) + SIZE * at)
    dock.preview_button.click()
    idle(dock, qtbot)
    shown = dock.preview.layer
    assert viewer.dims.ndisplay == 3
    box = shown.data[0].max(0) - shown.data[0].min(0)
    assert box.max() <= SIZE * (PREVIEW_EDGE + 2)
    dock.run_button.click()
    idle(dock, qtbot)
    assert dock.preview.layer is None
    whole = viewer.layers["bone refined 2× surface"].data[0]
    # Vertices inside the block are those of the whole, apart from the level of the
    # surface, which is chosen for the volume of each.
    low, high = shown.data[0].min(0) + 2 * SIZE, shown.data[0].max(0) - 2 * SIZE
    own = shown.data[0][((shown.data[0] > low) & (shown.data[0] < high)).all(1)]
    from scipy.spatial import cKDTree

    distance = cKDTree(whole).query(own)[0]
    assert len(own) > 500
    assert np.median(distance) < 0.1 * SIZE


def test_a_shown_preview_follows_the_settings(viewer, dock, qtbot, tmp_path):
    form = dock.forms[REFINE]
    form.set_values({"model": "trilinear"})
    qtbot.wait(900)  # longer than the pause: no preview is shown, so none is started
    assert not dock.activity.busy
    assert dock.preview.layer is None
    dock.preview_button.click()
    idle(dock, qtbot)
    before = len(dock.preview.layer.data[0])
    form.set_values({"upscale_factor": 4})
    assert dock.preview.layer is None
    qtbot.waitUntil(lambda: dock.preview.layer is not None, timeout=20_000)
    idle(dock, qtbot)
    assert len(dock.preview.layer.data[0]) > 2 * before
    # A run, or another task, ends this.
    form.set_values({"upscale_factor": 2})
    dock.task.setCurrentText(COMPLETE)
    qtbot.wait(900)
    assert not dock.activity.busy
    assert dock.preview.layer is None


def test_a_result_after_a_preview_can_be_exported(viewer, dock, qtbot, tmp_path):
    dock.forms[REFINE].set_values({"upscale_factor": 2, "model": "trilinear"})
    for pressed in (dock.preview_button, dock.run_button):
        pressed.click()
        idle(dock, qtbot)
    assert dock.mesh_button.isEnabled()
    assert not dock.results.isHidden()
    assert dock.bar.state.text() == DONE
    dock.export(tmp_path / "bone.stl")
    idle(dock, qtbot)
    assert (tmp_path / "bone.stl").exists()
    # Another preview, and its removal, leave the result.
    dock.preview_button.click()
    idle(dock, qtbot)
    viewer.layers.remove(dock.preview.layer)
    assert dock.mesh_button.isEnabled()


@pytest.mark.parametrize("change", ["source", "result"])
def test_a_mesh_elsewhere_than_on_screen_is_refused(
    viewer, dock, labels, qtbot, tmp_path, change
):
    """A mirrored shape, or a result that was moved after the run."""
    dock.forms[REFINE].set_values({"model": "trilinear"})
    if change == "source":
        labels.affine = np.diag([1.0, -1.0, 1.0, 1.0])
    dock.run_button.click()
    idle(dock, qtbot)
    if change == "result":
        viewer.layers["bone refined 2×"].translate = (0, 0, 5)
    dock.export(tmp_path / "a.stl")
    idle(dock, qtbot)
    assert "mesh would not coincide with them" in dock.message.text
    assert not list(tmp_path.iterdir())


def test_rounding_in_a_transform_is_no_rotation(dock, labels, qtbot, tmp_path):
    """As from the quaternions of a NIfTI file that another reader has opened."""
    turn = np.eye(4)
    turn[1, 2], turn[2, 1] = 2e-7, -2e-7
    labels.affine = turn
    assert transform_warning(labels) == ""
    dock.forms[REFINE].set_values({"model": "trilinear"})
    dock.run_button.click()
    idle(dock, qtbot)
    dock.export(tmp_path / "a.stl")
    idle(dock, qtbot)
    assert (tmp_path / "a.stl").exists(), dock.message.text


def test_an_image_of_zeros_and_ones_can_be_converted(viewer, qtbot):
    viewer.add_image(ball(), name="mask")
    dock = opening.opened(viewer, SHAPES)
    assert dock.bar.state.text() == NO_SHAPE
    assert "Convert to Labels" in dock.shape_layer.toolTip()
    window, frame = viewer.window._qt_window, dock.parentWidget().parentWidget()
    window.resize(1366, 768)
    window.resizeDocks([frame], [300], Qt.Orientation.Horizontal)
    qtbot.waitUntil(lambda: dock.width() <= 300)
    state = dock.bar.state
    for text in (NO_SHAPE, NO_SCAN, READY, READY_TO_SEGMENT, DONE, UNSURE):
        assert state.fontMetrics().horizontalAdvance(text) <= state.width(), text


def test_the_preview_reaches_the_last_voxels():
    shape = np.zeros((50, 24, 24), np.uint8)
    shape[48:, 4:20, 4:20] = 1
    volume = Volume(shape, "ZYX", (SIZE,) * 3, "mm", name="plate")
    config = shapes.RefineShapeConfig.create(upscale_factor=2)
    found = run_to_end(shapes.preview_steps(volume, config, (48.7, 12, 12))).surface
    assert np.ptp(found.vertices[:, 0]) > SIZE


@pytest.mark.parametrize("button", ["preview_button", "run_button"])
def test_removing_the_shape_cancels_the_run(viewer, dock, labels, qtbot, button):
    getattr(dock, button).click()
    assert dock.activity.busy
    viewer.layers.remove(labels)
    idle(dock, qtbot)
    assert not viewer.layers
    assert viewer.dims.ndisplay == 2
    what = button.removesuffix("_button")
    assert f"'bone' was removed, so the {what} was cancelled" in dock.message.text
    assert dock.bar.state.text() == NO_SHAPE


def test_a_view_without_a_surface_is_told(viewer, dock, qtbot, labels):
    labels.data = np.pad(ball(), 60)
    viewer.dims.set_point(0, ORIGIN[0])
    viewer.scene.camera.center = ORIGIN
    dock.preview_button.click()
    idle(dock, qtbot)
    assert "There is no surface of the shape at the centre" in dock.message.text


def test_a_skull_is_completed(viewer, qtbot, tmp_path):
    made = simulated_skull(3, 56, "sphere")
    add_labels(viewer, made.incomplete.astype(np.uint8), units="cm")
    dock = opening.opened(viewer, SHAPES)
    dock.task.setCurrentText(COMPLETE)
    assert not dock.forms[REFINE].isVisible()
    dock.run_button.click()
    idle(dock, qtbot)
    assert "simulated skulls" in dock.message.text  # the warning of the model is kept
    assert dock.message.text.startswith("Caution: The orientation of 'bone' is unknown")
    assert dock.summary.text().startswith("The orientation of the shape is unknown")
    assert "valid only for a shape with Z up and Y to the back" in dock.summary.text()
    assert dock.bar.state.text() == UNSURE
    whole, part = (
        np.asarray(viewer.layers[f"bone completed{s}"].data) > 0 for s in ("", " part")
    )
    assert whole[made.incomplete].all()
    np.testing.assert_array_equal(part, whole & ~made.incomplete)
    figures = dock.figures.text().splitlines()
    assert "Removed voxels of the input\t0" in figures
    assert any(f.startswith("Input that the model reproduces\t9") for f in figures)
    volume = part.sum() * SIZE**3
    assert figures[0] == f"Completed part\t{volume:.4g}\tcm³\t{1e3 * volume:.4g} mm³"
    assert "bone completed part surface" in viewer.layers
    assert dock.result_name.text() == "Result: bone completed"
    colours = [
        tuple(viewer.layers[f"bone completed{s}"].get_color(1)) for s in ("", " part")
    ]
    assert colours[0] != colours[1]
    dock.export(tmp_path / "implant.stl")
    idle(dock, qtbot)
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    mesh = trimesh.load_mesh(tmp_path / "implant.stl")
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(1e3 * volume, rel=0.01)  # in mm³

    viewer.layers["bone"].affine = np.diag([1.0, -1.0, 1.0, 1.0])
    dock.run_button.click()
    idle(dock, qtbot)
    assert "'bone' is rotated, sheared or mirrored in napari" in dock.message.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((8, 8, 8), np.uint8), "is empty"),
        (np.ones((8, 8, 8), np.uint8), "is full"),
        (np.eye(8, dtype=np.uint8)[None].repeat(8, 0) * np.arange(8, dtype=np.uint8),
         "has 7 labels"),
    ],
)  # fmt: skip
def test_what_is_no_shape_is_refused(viewer, qtbot, values, message):
    add_labels(viewer, values)
    dock = opening.opened(viewer, SHAPES)
    dock.run_button.click()
    idle(dock, qtbot)
    found = [dock.message.text, *dock.forms[REFINE].faults.values()]
    assert message in " ".join(found)
    assert len(viewer.layers) == 1
    assert dock.results.isHidden()


def test_labels_of_too_many_axes_are_refused(viewer, qtbot):
    viewer.add_labels(np.ones((2,) * 6, np.uint8), name="bone")
    dock = opening.opened(viewer, SHAPES)
    for button in (dock.preview_button, dock.run_button):
        button.click()
        assert "'bone'" in dock.message.text
        assert "axes" in dock.message.text
        assert not dock.activity.busy
        dock.clear_errors()


def test_a_run_can_be_cancelled_and_nothing_is_added(viewer, dock, labels, qtbot):
    labels.data = np.pad(ball(72), 30)
    dock.forms[REFINE].set_values({"upscale_factor": 4})
    dock.run_button.click()
    dock.cancel_button.click()
    idle(dock, qtbot)
    assert "Cancelled" in dock.message.text
    assert list(viewer.layers) == [labels]


def test_without_labels_nothing_can_be_run(viewer, qtbot):
    dock = opening.opened(viewer, SHAPES)
    assert dock.bar.state.text() == NO_SHAPE
    assert not dock.run_button.isEnabled()


def test_the_preview_refuses_long_voxels_like_the_run(viewer, qtbot):
    add_labels(viewer, ball(), scale=(2 * SIZE, SIZE, SIZE))
    dock = opening.opened(viewer, SHAPES)
    said = []
    for button in (dock.preview_button, dock.run_button):
        button.click()
        idle(dock, qtbot)
        faults = dock.forms[REFINE].faults.values()
        said.append(" ".join([dock.message.text, *faults]))
    assert "2 times longer along one axis" in said[0]
    assert said[0] == said[1]
    assert len(viewer.layers) == 1
    dock.forms[REFINE].set_values({"model": "trilinear"})
    dock.preview_button.click()
    idle(dock, qtbot)
    assert dock.preview.layer is not None


def scanned(edge: int = 24) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (40 * ball(edge) + rng.normal(0, 20, (edge,) * 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A job whose model was trained for two steps."""
    folder = tmp_path_factory.mktemp("model")
    labels = ball() * (1 + (scanned() > 40)).astype(np.uint8)
    place = {"voxel_size": (SIZE,) * 3, "unit": "mm", "origin": ORIGIN}
    source = io.write(Volume(scanned(), "ZYX", **place), folder / "scan.tif")
    target = io.write(
        Volume(labels, "ZYX", **place), folder / "labels.tif", kind="labels"
    )
    training = {
        "source": (source,), "target": (target,), "steps": 2, "channels": (4, 4),
        "patch": 16, "threads": 1, "device": "cpu", "name": "phases",
    }  # fmt: skip
    job = shapes.ShapeTrainJob.from_values(
        {"method": "sparse_segmentation", "training": training}
    )
    assert run_to_end(shapes.train_shape_steps(job, folder / "job")) is not None
    return folder / "job"


@pytest.fixture
def segmenting(viewer, dock, labels):
    """The dock with a scan, ready to segment it inside the labels."""
    place = {"scale": (SIZE,) * 3, "translate": ORIGIN, "units": "mm"}
    viewer.add_image(scanned(), name="scan", **place)
    dock.task.setCurrentText(SEGMENT)
    return dock


def test_a_scan_is_segmented_inside_a_mask_as_by_the_command(
    viewer, segmenting, labels, model, qtbot, tmp_path, monkeypatch
):
    dock = segmenting
    assert dock.bar.state.text() == READY_TO_SEGMENT
    assert dock.scan.layer() is viewer.layers["scan"]
    assert not dock.preview_button.isEnabled()
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *_: str(model)
    )
    dock.model_button.click()
    dock.run_button.click()
    assert dock.cancel_button.isEnabled()
    idle(dock, qtbot)
    made = viewer.layers["scan segmented"]
    np.testing.assert_allclose(made.scale, SIZE)
    np.testing.assert_allclose(made.translate, ORIGIN)
    assert made.units == labels.units
    found = np.asarray(made.data)
    assert (found[ball() == 0] == 0).all()
    assert (found[ball() > 0] > 0).all()

    scan = volume_from_layer(viewer.layers["scan"])
    io.write(scan, tmp_path / "scan.tif")
    save(labels, tmp_path)
    config = shapes.SegmentInsideConfig.create(model=str(model))
    steps = shapes.segment_inside_steps(
        io.read(tmp_path / "scan.tif"), io.read(tmp_path / "bone.tif"),
        tmp_path / "out.tif", config,
    )  # fmt: skip
    written = run_to_end(steps)
    np.testing.assert_array_equal(found, io.read(tmp_path / "out.tif").data)
    text = dock.figures.text()
    count = f"{ball().sum():,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    assert f"Voxels inside the mask\t{count}" in text
    for label, fraction in written.fractions.items():
        assert f"Fraction with label {label}\t{100 * fraction:.2f}\t%" in text
    assert "The result is in the layer 'scan segmented'." in dock.message.text
    assert not dock.mesh_button.isVisibleTo(dock)
    assert not dock.table.isVisibleTo(dock)

    viewer.layers.remove(made)
    assert not dock.results.isVisibleTo(dock)
    assert not dock.message.text

    dock.task.setCurrentText(REFINE)
    assert not dock.scan.isVisibleTo(dock)
    assert dock.preview_button.isEnabled()


def test_a_segmentation_needs_a_scan_and_a_model(
    viewer, segmenting, labels, qtbot, model
):
    dock = segmenting
    dock.run_button.click()
    assert "Choose the folder of a model" in dock.forms[SEGMENT].faults["model"]
    dock.forms[SEGMENT].set_values({"model": str(model)})
    labels.data = ball(20)
    dock.run_button.click()
    idle(dock, qtbot)
    assert "must be on the same grid" in dock.message.text
    assert len(viewer.layers) == 2
    viewer.layers.remove("scan")
    qtbot.waitUntil(lambda: dock.bar.state.text() == NO_SCAN)
    assert not dock.run_button.isEnabled()
    dock.region.kind.setCurrentText(ABOVE)
    assert dock.bar.state.text() == NO_IMAGE


@pytest.mark.parametrize(
    ("name", "value"), [("rotate", (0, 0, 90)), ("scale", (SIZE, SIZE, -SIZE))]
)
def test_a_mask_on_other_axes_is_refused(segmenting, labels, model, name, value):
    segmenting.forms[SEGMENT].set_values({"model": str(model)})
    setattr(labels, name, value)
    segmenting.run_button.click()
    assert not segmenting.activity.busy
    assert "rotated, sheared or mirrored relative to" in segmenting.message.text


@pytest.mark.parametrize(
    ("name", "value"), [("translate", (0, 8, 0)), ("scale", (2, 1, 1))]
)
def test_a_mask_elsewhere_is_refused_without_a_unit(viewer, name, value):
    scan = viewer.add_image(scanned(), name="scan")
    mask = viewer.add_labels(ball(), name="bone")
    check_same_transform(mask, scan)
    setattr(mask, name, value)
    with pytest.raises(VolumeError, match="have different scales or positions"):
        check_same_transform(mask, scan)


def test_a_segmentation_can_be_cancelled(viewer, segmenting, labels, model, qtbot):
    dock = segmenting
    before = list(viewer.layers)
    dock.forms[SEGMENT].set_values({"model": str(model)})
    dock.run_button.click()
    dock.cancel_button.click()
    idle(dock, qtbot)
    assert "Cancelled" in dock.message.text
    assert list(viewer.layers) == before


def test_the_label_is_not_kept_for_the_next_session(viewer, dock, qtbot):
    """It is a number in one image; other settings are kept."""
    viewer.layers["bone"].data = 3 * ball()
    dock.forms[REFINE].set_values({"label": 3, "model": "trilinear"})
    dock.run_button.click()
    idle(dock, qtbot)
    assert "bone refined 2×" in viewer.layers
    config, _ = dock.recall(RefineShapeConfig, "refine")
    assert (config.label, config.model) == (None, "trilinear")
    # Settings kept by an earlier release may contain a label.
    dock.remember(RefineShapeConfig(label=3, model="trilinear"), "refine")
    later = type(dock)(viewer)
    qtbot.addWidget(later)
    assert later.config().label is None
    assert later.config().model == "trilinear"


def test_a_refined_skull_keeps_its_orientation(viewer, qtbot, tmp_path):
    """The layer of a refined NIfTI skull is completed like the skull itself."""
    pytest.importorskip("nibabel", reason="nibabel is not installed")
    made = simulated_skull(3, 56, "sphere")
    turned = np.ascontiguousarray(made.incomplete[:, ::-1, ::-1].astype(np.uint8))
    volume = Volume(turned, "ZYX", (SIZE,) * 3, "mm", metadata={"orientation": "RAS"})
    io.write(volume, tmp_path / "bone.nii.gz", kind="labels")
    viewer.open(str(tmp_path / "bone.nii.gz"), plugin="napari-geosr")
    dock = opening.opened(viewer, SHAPES)
    dock.run_button.click()
    idle(dock, qtbot)
    fine = viewer.layers["bone refined 2×"]
    assert volume_from_layer(fine).metadata["orientation"] == "RAS"
    dock.shape_layer.set_layer(fine)
    dock.task.setCurrentText(COMPLETE)
    dock.run_button.click()
    idle(dock, qtbot)
    assert "orientation" not in dock.message.text + dock.summary.text()
    assert dock.bar.state.text() == DONE
    part = np.asarray(viewer.layers["bone refined 2× completed part"].data) > 0
    coarse = part[:, ::-1, ::-1].reshape(56, 2, 56, 2, 56, 2).mean((1, 3, 5)) >= 0.5
    assert dice(coarse, made.complete & ~made.incomplete) > 0.85


def test_thin_parts_that_are_not_smoothed_are_told(viewer, qtbot, tmp_path):
    shape = np.zeros((24, 24, 60), np.uint8)
    shape[:, :, :24] = ball()
    for i in range(16, 50):  # a diagonal line, also thin in the result
        shape[12, (i - 4) % 24, i] = 1
    add_labels(viewer, shape)
    dock = opening.opened(viewer, SHAPES)
    dock.forms[REFINE].set_values({"model": "trilinear"})
    dock.run_button.click()
    idle(dock, qtbot)
    assert "watertight" in dock.summary.text()
    assert "thinner than two voxels are not smoothed" in dock.summary.text()
    made = viewer.layers["bone refined 2×"]
    first, *_, last = np.flatnonzero(np.asarray(made.data).any((0, 2)))
    ends = made.translate[1] + made.scale[1] * np.array([first - 0.5, last + 0.5])
    surface = viewer.layers["bone refined 2× surface"].data[0][:, 1]
    np.testing.assert_allclose(
        [surface.min(), surface.max()], ends, atol=0.7 * made.scale[1]
    )
    dock.export(tmp_path / "bone.stl")
    idle(dock, qtbot)
    assert "thinner than two voxels are not smoothed" in dock.message.text


def test_lengths_without_a_voxel_size_are_in_voxels_of_the_input(viewer, dock, qtbot):
    layer = viewer.add_labels(ball().astype(np.uint8), name="unsized")
    dock.shape_layer.set_layer(layer)
    dock.forms[REFINE].set_values({"upscale_factor": 2, "model": "trilinear"})
    dock.run_button.click()
    idle(dock, qtbot)
    rows = [dock.table.topLevelItem(i) for i in range(dock.table.topLevelItemCount())]
    (before,) = [float(row.text(1)) for row in rows if row.text(0) == "Volume (voxel³)"]
    assert before == pytest.approx(ball().sum(), rel=5e-4)


def test_the_grey_scale_is_an_advanced_setting_of_segmentations(dock):
    dock.task.setCurrentText(REFINE)
    assert dock.grey_scale.isHidden()
    dock.task.setCurrentText(SEGMENT)
    assert not dock.grey_scale.isHidden()
    assert dock.advanced.content.isAncestorOf(dock.grey_scale)
    assert "grey_scale" not in dock.forms[SEGMENT].values()
    dock.forms[SEGMENT].set_values({"model": "job"})
    assert dock.config().grey_scale == "auto"
    dock.grey_scale.set_values({"grey_scale": "scan"})
    assert dock.config().grey_scale == "scan"


def test_an_unknown_unit_is_asked_for(viewer, dock, qtbot):
    """Volumes are then in mm³, not in voxels."""
    layer = viewer.add_labels(ball().astype(np.uint8), name="ball", scale=(0.5,) * 3)
    dock.shape_layer.set_layer(layer)
    (row,) = [r for r in dock.notes.findChildren(VoxelSizeRow) if not r.isHidden()]
    assert "The unit of the voxel size is unknown" in row.question.text()
    row.unit.setCurrentText("mm")
    row.button.click()
    assert row.isHidden()
    assert {str(unit) for unit in layer.units} == {"millimeter"}
    dock.forms[REFINE].set_values({"upscale_factor": 2, "model": "trilinear"})
    dock.run_button.click()
    idle(dock, qtbot)
    assert dock.table.topLevelItem(0).text(0) == "Volume (mm³)"


def test_a_scan_is_segmented_by_a_threshold_as_by_the_command(
    viewer, segmenting, model, qtbot, tmp_path
):
    dock = segmenting
    viewer.layers.remove("bone")  # no mask is needed
    qtbot.waitUntil(lambda: not dock.run_button.isEnabled())
    dock.forms[SEGMENT].set_values({"model": str(model)})
    dock.region.kind.setCurrentText(ABOVE)
    assert dock.bar.state.text() == READY_BEYOND
    assert not dock.shape_layer.isVisibleTo(dock)
    assert dock.region.values() == {"above": "otsu", "below": None}
    dock.region.set_values({"above": None, "below": None})
    assert dock.region.is_mask
    dock.region.set_values({"below": 75.0})
    assert dock.region.kind.currentText() == BELOW
    dock.run_button.click()
    idle(dock, qtbot)
    found = np.asarray(viewer.layers["scan segmented"].data)
    assert "Voxels at or below 75\t" in dock.figures.text()
    assert "The result is in the layer 'scan segmented'." in dock.message.text
    assert "dense convolutions" in dock.message._more

    scan = volume_from_layer(viewer.layers["scan"])
    io.write(scan, tmp_path / "scan.tif")
    config = shapes.SegmentInsideConfig.create(model=str(model), below=75)
    steps = shapes.segment_inside_steps(
        io.read(tmp_path / "scan.tif"), None, tmp_path / "out.tif", config
    )
    written = run_to_end(steps)
    assert written.threshold == 75
    np.testing.assert_array_equal(found, io.read(tmp_path / "out.tif").data)
    np.testing.assert_array_equal(found > 0, np.asarray(scan.data) <= 75)
    later = type(dock)(viewer)
    qtbot.addWidget(later)
    assert later.region.values() == {"above": None, "below": 75.0}

    dock.region.editor.setCurrentText("")
    dock.run_button.click()
    assert "Enter a grey value next to Region" in dock.message.text
    dock.region.editor.setCurrentText("9e9")
    dock.run_button.click()
    idle(dock, qtbot)
    assert "Every voxel of 'scan' is at or below 9e+09" in dock.message.text
    dock.task.setCurrentText(REFINE)
    assert dock.shape_layer.isVisibleTo(dock)
    assert not dock.region.kind.isVisibleTo(dock)


@pytest.mark.parametrize("task", [REFINE, SEGMENT])
def test_a_job_gives_the_result_of_the_dock_in_its_place(
    viewer, segmenting, labels, model, qtbot, tmp_path, task
):
    """The layers are in no file, and moved in napari."""
    dock = segmenting
    for layer in (labels, viewer.layers["scan"]):
        layer.affine = np.diag([1.0, -1.0, 1.0, 1.0])
    dock.task.setCurrentText(task)
    dock.forms[REFINE].set_values({"model": "trilinear"})
    dock.forms[SEGMENT].set_values({"model": str(model)})
    stopped = dock._run_elsewhere()
    folder = run_to_end(job_from_run_steps(stopped, tmp_path, start=False))
    assert run_to_end(run_steps(JobFolder(folder))).parent == folder / "result"
    assert not foreign_files(folder)
    dock.run_button.click()
    idle(dock, qtbot)
    name = "bone refined 2×" if task == REFINE else "scan segmented"
    ours = viewer.layers[name]

    opener = ResultOpener(viewer, dock)
    with qtbot.waitSignal(opener.opened, timeout=60_000):
        opener.open(folder)
    layer = viewer.layers[-1]
    assert layer is not ours
    np.testing.assert_array_equal(layer.data, ours.data)
    for attribute in ("scale", "translate", "units", "affine"):
        one, other = getattr(layer, attribute), getattr(ours, attribute)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_a_run_can_be_moved_to_the_background(
    viewer, dock, labels, qtbot, tmp_path, monkeypatch
):
    dock.handover.folder = tmp_path
    started = []
    monkeypatch.setattr("napari_geosr.jobs.local.start", started.append)
    dock.run_button.click()
    assert dock.handover.is_running
    assert "starts again from the beginning" in dock.handover.remark
    ended = []
    dock.handover.hand_over(
        start=True, on_done=lambda: ended.append("job"), failed=lambda: None
    )
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    (job,) = started
    assert job.values()["operation"] == "shapes"
    assert job.path.parent == tmp_path
    assert "bone refined 2×" not in viewer.layers
