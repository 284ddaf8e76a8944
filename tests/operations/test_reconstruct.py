"""From projections to a volume: values, position, record."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import io, reconstruct, simulate
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    DeviceMemoryError,
    FileError,
    ProjectionsError,
)
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    CentreFound,
    IterationDone,
    TargetReady,
    TileDone,
    WarningIssued,
    run_to_end,
)
from napari_geosr.io.projections import read_projections, write_projections
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    reconstruct_slice,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct import blocks as reconstruct_blocks
from napari_geosr.operations.reconstruct import scan as reconstruct_scan
from napari_geosr.operations.reconstruct.preview import (
    PreviewRow,
    centre_steps,
    slice_steps,
)
from napari_geosr.operations.reconstruct.rows import RowBands
from napari_geosr.operations.reconstruct.scan import given_centre
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

N, ROWS = 48, 6


def discs() -> np.ndarray:
    """A disc of attenuation 1 with a hole that moves from slice to slice."""
    axis = np.arange(N) - (N - 1) / 2
    y, x = axis[:, None], axis[None, :]
    slices = []
    for row in range(ROWS):
        disc = np.clip(18.5 - np.hypot(x, y), 0, 1)
        hole = np.clip(5.5 - np.hypot(x - row, y + 6), 0, 1)
        slices.append(disc - hole)
    return np.stack(slices).astype(np.float32)


@pytest.fixture(scope="module")
def phantom() -> np.ndarray:
    return discs()


@pytest.fixture(scope="module")
def scan(phantom) -> Projections:
    settings = ScanConfig(projections=90, noise=False, centre_offset=1.3)
    made = simulate_scan(phantom, settings)
    return made.replace(pixel_size=(3.0, 2.0), unit="µm", name="discs")


def scale_of(scan: Projections) -> float:
    """Attenuation of the phantom, per µm."""
    return scan.provenance[-1]["truth"]["attenuation_scale"] / scan.pixel_size[1]


def run(projections, **settings):
    more = {k: settings.pop(k) for k in ("out", "unfinished") if k in settings}
    config = ReconstructConfig.create(threads=1, **settings)
    steps = []
    result = run_to_end(reconstruct_steps(projections, config, **more), steps.append)
    return result, steps


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ({"algorithm": "fbp"}, 0.02),
        ({"algorithm": "sirt", "iterations": 60}, 0.02),
        ({"algorithm": "cgls"}, 0.02),
        ({"algorithm": "tv", "iterations": 80, "options": {"weight": 0.005}}, 0.02),
    ],
)
def test_the_phantom_comes_back(phantom, scan, settings, tolerance):
    volume = reconstruct(scan, threads=1, **settings)
    assert volume.axes == "ZYX"
    assert volume.dtype == np.float32
    assert volume.shape == (ROWS, scan.n_columns, scan.n_columns)
    margin = (scan.n_columns - N) // 2
    inner = np.asarray(volume.data)[:, margin:-margin, margin:-margin]
    found = inner / scale_of(scan)
    solid, hole = phantom == 1, np.zeros(phantom.shape, bool)
    hole[:, 15:21, 22:25] = phantom[:, 15:21, 22:25] == 0
    assert hole.any()
    assert found[solid].mean() == pytest.approx(1, abs=tolerance)
    assert found[hole].mean() == pytest.approx(0, abs=2 * tolerance)
    # Every slice corresponds to its row, with the correct orientation.
    for row in range(ROWS):
        fits = [np.corrcoef(found[row].ravel(), p.ravel())[0, 1] for p in phantom]
        assert np.argmax(fits) == row


def test_its_place_in_space(scan):
    centre = scan_centre(scan)
    whole = reconstruct(scan, threads=1, centre=centre)
    assert whole.voxel_size == (3.0, 2.0, 2.0)
    assert whole.unit == "µm"
    assert whole.origin == (0.0, 0.0, 0.0)
    part = reconstruct(scan, threads=1, rows=(2, 4), size=20, centre=centre)
    assert part.shape == (2, 20, 20)
    corner = (scan.n_columns - 20) // 2
    assert part.origin == (6.0, corner * 2.0, corner * 2.0)
    cut = whole.data[2:4, corner : corner + 20, corner : corner + 20]
    np.testing.assert_allclose(part.data, cut, atol=1e-6)


def scan_centre(scan: Projections) -> float:
    return scan.provenance[-1]["truth"]["centre"]


def test_the_axis_is_found_told_and_recorded(scan):
    done, steps = run(scan)
    (found,) = [s.centre for s in steps if isinstance(s, CentreFound)]
    assert found.column == pytest.approx(scan_centre(scan), abs=0.3)
    said = [s.message for s in steps if hasattr(s, "message")]
    assert any(f"{found.column:.2f}" in text for text in said)
    record = done.volume.provenance[-1]
    assert record["centre"]["column"] == found.column
    assert record["operation"] == "reconstruct"
    assert record["complete"] is True
    assert record["inputs"]["input"]["checksum"].startswith("crc32")
    assert record["used"]["projections"] == 90


def test_the_preview_finds_the_axis_of_the_run(scan):
    """Also with stripe removal and without flat fields, which may move the axis."""
    bare = scan.replace(flats=None)
    config = ReconstructConfig(stripes="sorting", threads=1)
    found = run_to_end(centre_steps(bare, config))
    done, _ = run(bare, stripes="sorting")
    assert done.volume.provenance[-1]["centre"]["column"] == found.column


def test_a_centre_that_is_known_is_not_searched_for(scan, monkeypatch):
    module = "napari_geosr.operations.reconstruct.preparation.find_centre"
    monkeypatch.setattr(module, lambda *_, **__: pytest.fail("searched"))
    by_file = reconstruct(scan.replace(centre=scan_centre(scan)), threads=1)
    given = reconstruct(scan, threads=1, centre=scan_centre(scan))
    np.testing.assert_array_equal(by_file.data, given.data)
    methods = [v.provenance[-1]["centre"]["method"] for v in (by_file, given)]
    assert methods == ["from the file", "given"]


@pytest.mark.parametrize("algorithm", ["fbp", "sirt", "cgls", "tv"])
def test_blocks_give_what_the_whole_gives(scan, monkeypatch, algorithm):
    settings = {"algorithm": algorithm, "centre": scan_centre(scan)}
    if algorithm != "fbp":
        settings["iterations"] = 5
    whole, steps = run(scan, **settings)
    assert [s.slices[0] for s in tiles(steps)] == [slice(0, ROWS)]
    monkeypatch.setattr(reconstruct_scan, "_GROUP_CPU", 2)
    blocks, steps = run(scan, **settings)
    assert len(tiles(steps)) > 1
    a, b = (done.volume.data for done in (whole, blocks))
    np.testing.assert_allclose(a, b, atol=5e-6 * np.abs(a).max())


def tiles(steps) -> list[TileDone]:
    return [step for step in steps if isinstance(step, TileDone)]


def test_progress_counts_rows_times_iterations(scan):
    _, steps = run(scan, algorithm="sirt", iterations=4, centre=scan_centre(scan))
    counted = [s for s in steps if isinstance(s, IterationDone | TileDone)]
    assert [s.done for s in counted] == sorted(s.done for s in counted)
    assert {s.total for s in counted} == {ROWS * 4}
    assert counted[-1].done == ROWS * 4
    residuals = [s.residual for s in counted if isinstance(s, IterationDone)]
    assert residuals[0] > residuals[3]
    assert any(isinstance(s, TargetReady) for s in steps)


def test_without_flat_fields_parts_have_the_beam_of_the_whole(phantom):
    made = simulate_scan(phantom, ScanConfig(projections=90, noise=False))
    # Rows get less light from top to bottom, so that each has different brightest
    # pixels.
    counts = np.asarray(made.data) * np.linspace(1, 0.7, ROWS)[:, None]
    scan = made.replace(data=counts.astype(np.float32), flats=None, darks=None)
    centre = scan_centre(made)
    result, _ = run(scan, centre=centre)
    whole = np.asarray(result.volume.data)
    incident = result.volume.provenance[-1]["used"]["incident"]
    assert 0.5 < incident / counts.max() <= 1
    part = run(scan, centre=centre, rows=(3, 5))[0].volume
    assert part.provenance[-1]["used"]["incident"] == incident
    np.testing.assert_allclose(part.data, whole[3:5], atol=1e-6)
    config = ReconstructConfig(threads=1)
    one = reconstruct_slice(scan, 4, config, centre)
    np.testing.assert_allclose(one.data[0], whole[4], atol=1e-6)
    known = given_centre(centre, "given")
    tried = run_to_end(slice_steps(scan, config, 4, known, PreviewRow()))
    np.testing.assert_allclose(tried.volume.data[0], whole[4], atol=1e-6)
    few = run(scan, centre=centre, every=2)[0].volume
    assert few.provenance[-1]["used"]["incident"] == incident
    every = config.model_copy(update={"every": 2})
    half = reconstruct_slice(scan, 4, every, centre)
    np.testing.assert_allclose(half.data[0], few.data[4], atol=1e-6)


def test_memory_that_runs_out_halves_the_block(scan, monkeypatch):
    real, asked = reconstruct_blocks.reconstruct_slices, []

    def greedy(engine, name, sinogram, *args, **more):
        asked.append(len(sinogram))
        if len(sinogram) > 1:
            raise MemoryError("too much")
        return real(engine, name, sinogram, *args, **more)

    monkeypatch.setattr(reconstruct_blocks, "reconstruct_slices", greedy)
    done, _ = run(scan, centre=scan_centre(scan))
    assert asked[:3] == [6, 3, 1]
    assert set(asked[2:]) == {1}
    assert done.summary["retries"] == 2
    assert np.isfinite(done.volume.data).all()


def test_what_never_fits_is_said(scan, monkeypatch):
    with pytest.raises(DeviceMemoryError, match="--memory"):
        run(scan, memory="100kB", centre=20)

    def greedy(*_args, **_more):
        raise MemoryError

    monkeypatch.setattr(reconstruct_blocks, "reconstruct_slices", greedy)
    with pytest.raises(DeviceMemoryError, match="single slice"):
        run(scan, centre=20)


def test_a_slice_for_the_preview_has_the_numbers_of_the_whole(scan):
    config = ReconstructConfig(threads=1, filter="hann", size=40)
    centre = scan_centre(scan)
    one = reconstruct_slice(scan, 3, config, centre)
    whole = reconstruct(scan, threads=1, filter="hann", size=40, centre=centre)
    assert one.shape == (1, 40, 40)
    assert one.origin == (9.0, *whole.origin[1:])
    assert one.voxel_size == whole.voxel_size
    np.testing.assert_allclose(one.data[0], whole.data[3], atol=1e-6)
    with pytest.raises(ConfigError, match="rotation axis"):
        reconstruct_slice(scan, 3, config)
    with pytest.raises(ProjectionsError, match="no row 6"):
        reconstruct_slice(scan, 6, config, centre)


def test_an_axis_beside_the_detector_and_single_views_are_refused(scan):
    with pytest.raises(ProjectionsError, match=r"column 400 \(given\), is not on the"):
        run(scan, centre=400)
    with pytest.raises(ProjectionsError, match="one of 90 projections is selected"):
        run(scan, centre=20, every=90)


def test_fewer_projections_are_those_of_a_thinned_scan(scan):
    centre = scan_centre(scan)
    thinned = reconstruct(scan.every(3), threads=1, centre=centre)
    every = reconstruct(scan, threads=1, centre=centre, every=3)
    np.testing.assert_array_equal(thinned.data, every.data)
    assert every.provenance[-1]["used"]["projections"] == 30


def test_halves_share_no_projection_and_have_one_axis(scan):
    """Their mean equals the whole, because back-projection is linear."""
    done = {
        half: run_to_end(reconstruct_steps(scan, ReconstructConfig(half=half)))
        for half in ("all", "odd", "even")
    }
    columns = {result.centre.column for result in done.values()}
    assert len(columns) == 1
    odd, even, whole = (
        np.asarray(done[half].volume) for half in ("odd", "even", "all")
    )
    assert not np.array_equal(odd, even)
    np.testing.assert_allclose((odd + even) / 2, whole, atol=0.02 * np.ptp(whole))
    used = [done[half].volume.provenance[-1]["used"] for half in ("odd", "even")]
    assert [u["projections"] for u in used] == [scan.n_angles // 2] * 2
    assert used[0]["first_angle"] > used[1]["first_angle"]
    settings = done["odd"].volume.provenance[-1]["settings"]
    assert settings["half"] == "odd"


def test_half_of_every_third_projection(scan):
    config = ReconstructConfig(every=3, half="odd", centre=scan.n_columns / 2)
    done = run_to_end(reconstruct_steps(scan, config))
    thinned = scan.every(3).every(2, 1)
    expected = config.model_copy(update={"every": 1, "half": "all"})
    again = run_to_end(reconstruct_steps(thinned, expected))
    np.testing.assert_array_equal(np.asarray(done.volume), np.asarray(again.volume))


def test_a_file_is_read_in_bands_and_comes_back_with_its_record(scan, tmp_path):
    given = write_projections(scan, tmp_path / "scan.h5")
    centre = scan_centre(scan)
    done, _ = run(given, out=tmp_path / "v.ome.zarr", centre=centre)
    volume = io.read(tmp_path / "v.ome.zarr")
    whole = reconstruct(scan, threads=1, centre=centre)
    np.testing.assert_allclose(volume.data[:], whole.data, atol=1e-6)
    assert volume.voxel_size == (3.0, 2.0, 2.0)
    operations = [entry["operation"] for entry in volume.provenance]
    assert operations == ["simulate", "reconstruct"]
    inputs = volume.provenance[-1]["inputs"]
    assert inputs["input"]["checksum"].startswith("sha256:")
    assert done.path == tmp_path / "v.ome.zarr"


def test_a_simulated_scan_comes_back_in_its_place(tmp_path):
    made = simulate("foam", tmp_path, size=24, rows=4, projections=60, centre_offset=2)
    truth = io.read(made.files["truth"])
    volume = reconstruct(made.files["projections"], threads=1, size=24)
    assert volume.shape == truth.shape
    assert volume.origin == pytest.approx(truth.origin)
    assert volume.voxel_size == truth.voxel_size
    found = np.corrcoef(volume.data[1].ravel(), np.asarray(truth.data[1]).ravel())
    assert found[0, 1] > 0.9


def test_bands_read_rows_of_all_frames_once(scan, tmp_path):
    lazy = read_projections(write_projections(scan, tmp_path / "scan.h5")).data
    bands = RowBands(lazy, 4)
    parts = [bands[:, i : i + 1, :] for i in range(ROWS)]
    assert bands.n_read == 2
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), scan.data)
    np.testing.assert_array_equal(bands[3:5, 1:2, :], scan.data[3:5, 1:2])
    stopping = RowBands(lazy, 4, lambda: True)
    with pytest.raises(Cancelled):
        stopping[:, 0:1, :]


def test_what_had_to_be_clipped_is_said_once(scan):
    counts = np.array(scan.data)
    counts[5, 2, 7:9] = 0
    done, steps = run(scan.replace(data=counts, darks=None), centre=scan_centre(scan))
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert len(said) == len(set(said))
    assert sum("clipped" in text and text.startswith("2 of") for text in said) == 1
    assert sum("no dark fields" in text for text in said) == 1
    run_record = done.volume.provenance[-1]["run"]
    assert run_record["preparation"]["n_clipped"] == 2


def test_the_output_may_not_be_the_input(scan, tmp_path):
    folder = tmp_path / "views"
    folder.mkdir()
    import tifffile

    for i, view in enumerate(np.asarray(scan.data)):
        tifffile.imwrite(folder / f"{i:03}.tif", view)
    given = read_projections(folder, angle_range=(0, 180))
    with pytest.raises(FileError, match="is the input"):
        run(given, out=folder / "new.tif", centre=20)
