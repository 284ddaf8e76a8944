"""Fan and cone beams, and detectors whose axis is near an edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_geosr import reconstruct
from napari_geosr.core.errors import Cancelled, DeviceMemoryError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import IterationDone, TileDone, WarningIssued, run_to_end
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    find_unfinished,
    reconstruct_slice,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct import scan as reconstruct_scan
from napari_geosr.operations.reconstruct.scan import given_centre, ready_scan
from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.physics.projection.projector import project

N = 32
ANGLES = np.arange(120) * 3.0


@pytest.fixture(scope="module")
def balls() -> np.ndarray:
    """A sphere and a small off-centre one, so that no two slices are equal."""
    z, y, x = np.mgrid[:6, :N, :N].astype(np.float32)
    z, y, x = (z - 2.5) * 2, y - 15.5, x - 15.5
    big = np.clip(11.5 - np.sqrt(x**2 + y**2 + z**2), 0, 1)
    small = np.clip(3.5 - np.sqrt((x - 4) ** 2 + y**2 + (z - 3) ** 2), 0, 1)
    return (big - 0.5 * small).astype(np.float32)


def cone_scan(volume, rows: int = 6) -> Projections:
    """Twofold magnification; lengths in µm, detector pixels of 2 µm."""
    distances = {"source_distance": 200.0, "detector_distance": 200.0}
    geometry = ConeGeometry(
        angles=ANGLES,
        n_columns=N + 8,
        size=N,
        pixel_size=2.0,
        n_rows=rows,
        n_slices=len(volume),
        **distances,
    )
    lines = project(torch.from_numpy(volume), geometry).numpy()
    return Projections(
        data=lines.transpose(1, 0, 2),
        angles=ANGLES,
        pixel_size=(2.0, 2.0),
        unit="µm",
        centre=(N + 7) / 2,
        geometry="cone",
        is_line_integrals=True,
        **distances,
    )


def test_a_cone_beam_goes_to_fdk(balls):
    scan = cone_scan(balls)
    volume = reconstruct(scan, threads=1, size=N)
    assert volume.voxel_size == (1.0, 1.0, 1.0)
    assert volume.origin == (0.0, 4.0, 4.0)
    assert volume.provenance[-1]["settings"]["algorithm"] == "fdk"
    middle = balls[1:5] == 1
    found = np.asarray(volume.data)[1:5][middle]
    assert found.mean() == pytest.approx(1, abs=0.03)
    with pytest.raises(ProjectionsError, match="rows depend on each other"):
        reconstruct(scan, rows=(1, 3))


def blocks_of(monkeypatch, rows: int) -> None:
    monkeypatch.setattr(reconstruct_scan, "_GROUP_CPU", rows)
    monkeypatch.setattr(reconstruct_scan, "_GROUP_CONE", rows)


def run(scan, **more):
    """Return the result, the rows of the blocks, and other steps."""
    settings = {"threads": 1, "centre": scan.centre} | more.pop("settings", {})
    config = ReconstructConfig.create(**settings)
    steps = []
    result = run_to_end(reconstruct_steps(scan, config, **more), steps.append)
    rows = [
        (s.slices[0].start, s.slices[0].stop) for s in steps if isinstance(s, TileDone)
    ]
    return result, rows, steps


def counted(scan: Projections) -> Projections:
    """The same scan as counts, with a pixel without light."""
    counts = np.round(6e4 * np.exp(-0.05 * np.asarray(scan.data))).astype(np.uint16)
    counts[7, 3, 5] = 0
    flats = np.full((1, *counts.shape[1:]), 60000, np.uint16)
    return scan.replace(data=counts, flats=flats, is_line_integrals=False)


@pytest.mark.parametrize("turn", [slice(None), slice(0, 72)], ids=["full", "short"])
def test_slabs_of_a_cone_are_the_whole(balls, monkeypatch, turn):
    given = counted(cone_scan(balls, rows=10))
    scan = given.subset(range(120)[turn])
    blocks_of(monkeypatch, 10)
    whole, rows, _ = run(scan)
    assert rows == [(0, 10)]
    blocks_of(monkeypatch, 3)
    slabs, rows, steps = run(scan)
    assert rows == [(0, 3), (3, 6), (6, 9), (9, 10)]
    a, b = (np.asarray(r.volume.data) for r in (whole, slabs))
    np.testing.assert_allclose(b, a, atol=1e-5 * np.abs(a).max())
    # Rows that two slabs need are prepared, and reported, once.
    reports = [r.summary["preparation"] for r in (whole, slabs)]
    assert reports[0] == reports[1]
    assert reports[0]["n_clipped"] == 1
    assert reports[0]["n_values"] == scan.data.size
    told = [s for s in steps if isinstance(s, IterationDone | TileDone)]
    assert [s.done for s in told] == sorted(s.done for s in told)
    assert told[-1].done == told[-1].total == 10


def test_a_cone_larger_than_the_memory_goes_by_slabs(balls):
    scan = cone_scan(balls, rows=40)
    whole, rows, _ = run(scan)
    assert rows[-1][1] == 40
    ready = ready_scan(
        scan,
        scan,
        ReconstructConfig.create(threads=1, algorithm="fdk", memory="22MB"),
        given_centre(scan.centre, "given"),
        "cpu",
        0,
    )
    most = ready.max_rows()
    assert 1 < most < 16
    assert ready.bytes_of((15, 15 + most)) <= 0.7 * 6e6 < ready.bytes_of((0, 40))
    tight, rows, _ = run(scan, settings={"memory": "22MB"})
    assert max(stop - start for start, stop in rows) <= most
    a, b = (np.asarray(r.volume.data) for r in (whole, tight))
    np.testing.assert_allclose(b, a, atol=1e-5 * np.abs(a).max())
    with pytest.raises(DeviceMemoryError, match="The volume .* fdk, which processes"):
        run(scan, settings={"memory": "22MB", "algorithm": "sirt"})
    with pytest.raises(DeviceMemoryError, match="A slice of"):
        run(scan, settings={"memory": "17MB"})


@pytest.mark.parametrize("suffix", ["", ".tif"])
def test_a_cone_that_was_stopped_goes_on(balls, monkeypatch, tmp_path, suffix):
    scan = cone_scan(balls, rows=10)
    blocks_of(monkeypatch, 3)
    whole, _, _ = run(scan)
    out = {"out": tmp_path / f"v{suffix}"} if suffix else {}
    done: list[TileDone] = []
    config = ReconstructConfig.create(threads=1)
    steps = reconstruct_steps(scan, config, should_stop=lambda: len(done) >= 2, **out)
    part = run_to_end(
        steps, lambda s: done.append(s) if isinstance(s, TileDone) else None
    )
    assert not part.complete
    unfinished = find_unfinished(out["out"]) if suffix else part.volume
    result, rows, _ = run(
        scan, settings={"centre": "auto"}, unfinished=unfinished, **out
    )
    assert rows == [(6, 9), (9, 10)]
    np.testing.assert_allclose(
        result.volume.data[:], whole.volume.data[:], rtol=0, atol=1e-6
    )


def test_a_stop_is_heard_within_a_slab(balls):
    asked = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 4

    with pytest.raises(Cancelled):
        list(reconstruct_steps(cone_scan(balls), should_stop=stop))
    assert len(asked) < 8


def test_voxels_of_a_cone_are_cubes(balls):
    scan = cone_scan(balls, rows=12)
    # Every other row of the detector, with twice the height.
    flat = scan.replace(data=scan.data[:, ::2], pixel_size=(4.0, 2.0))
    volume = reconstruct(flat, threads=1)
    assert volume.voxel_size == (1.0, 1.0, 1.0)
    assert volume.shape[0] == 12
    assert volume.origin[0] == pytest.approx(-0.5)
    one = reconstruct_slice(flat, 4, ReconstructConfig(threads=1))
    assert one.origin[0] == pytest.approx(volume.origin[0] + 8)
    np.testing.assert_allclose(one.data[0], volume.data[8], atol=1e-5)


def fan_scan(volume, angles) -> Projections:
    """Magnified 1.5 times."""
    distances = {"source_distance": 200.0, "detector_distance": 100.0}
    geometry = FanGeometry(angles=angles, n_columns=N + 16, size=N, **distances)
    lines = project(torch.from_numpy(np.ascontiguousarray(volume)), geometry).numpy()
    return Projections(
        data=lines.transpose(1, 0, 2),
        angles=angles,
        centre=(N + 15) / 2,
        geometry="fan",
        is_line_integrals=True,
        **distances,
    )


@pytest.mark.parametrize("row", [0, 2, 5])
def test_a_slice_of_a_cone_has_the_numbers_of_the_whole(balls, row):
    scan = cone_scan(balls)
    config = ReconstructConfig(threads=1)
    whole = reconstruct(scan, threads=1)
    one = reconstruct_slice(scan, row, config)
    np.testing.assert_allclose(one.data[0], whole.data[row], atol=1e-5)
    assert one.origin[0] == row * 1.0


def test_a_fan_beam_row_by_row(balls):
    scan = fan_scan(balls[2:4], ANGLES).replace(centre=None)
    steps = []
    config = ReconstructConfig(threads=1, size=N)
    result = run_to_end(reconstruct_steps(scan, config), steps.append)
    # The axis was found automatically, and reported as approximate.
    assert result.centre.column == pytest.approx((N + 15) / 2, abs=0.5)
    said = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert sum("only approximate" in text for text in said) == 1
    assert sum("Check it in a preview" in text for text in said) == 1
    assert result.volume.voxel_size == pytest.approx((2 / 3,) * 3)
    solid = balls[2:4] == 1
    assert np.asarray(result.volume.data)[solid].mean() == pytest.approx(1, abs=0.02)
    with pytest.raises(ProjectionsError, match="cannot reconstruct fan-beam scans"):
        reconstruct(scan, algorithm="fdk")
    with pytest.raises(ProjectionsError, match="fan beam are not mirror images"):
        reconstruct(scan, full_turn="join", centre=23.5)


@pytest.mark.parametrize("algorithm", ["fbp", "sirt", "cgls", "tv"])
def test_blocks_of_a_fan_are_the_whole(balls, monkeypatch, algorithm):
    scan = fan_scan(np.concatenate([balls, balls[::-1]]), ANGLES[::2])
    settings = {"algorithm": algorithm}
    if algorithm != "fbp":
        settings["iterations"] = 5
    found = []
    for n in (12, 5):
        blocks_of(monkeypatch, n)
        result, rows, _ = run(scan, settings=settings)
        assert rows[0] == (0, n)
        found.append(np.asarray(result.volume.data))
    # Conjugate directions magnify the rounding of the projections.
    close = 1e-4 if algorithm == "cgls" else 1e-5
    np.testing.assert_allclose(*found, atol=close * np.abs(found[0]).max())


def test_a_short_scan_of_a_fan(balls):
    full, short, less = (fan_scan(balls[2:4], ANGLES[:n]) for n in (120, 72, 60))
    whole, _, _ = run(full)
    result, _, steps = run(short)
    assert not [s for s in steps if isinstance(s, WarningIssued)]
    inner = slice(8, 8 + N)
    a, b = (
        np.asarray(r.volume.data)[:, inner, inner][balls[2:4] == 1]
        for r in (whole, result)
    )
    assert b.mean() == pytest.approx(a.mean(), rel=0.005)
    with pytest.raises(ProjectionsError, match=r"cover 180° .* needs 189°"):
        run(less)
    _, _, steps = run(fan_scan(balls[2:4], ANGLES[:50]), settings={"algorithm": "cgls"})
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert any("cover 150 of 189" in text for text in said)


def test_an_axis_at_the_edge_of_the_detector_widens_the_view(balls):
    full = ParallelGeometry(angles=ANGLES, n_columns=N, size=N)
    lines = project(torch.from_numpy(balls[2:3]), full).numpy()
    columns = slice(11, None)  # the axis is at column 4.5 of the remaining part
    scan = Projections(
        data=lines[:, :, columns].transpose(1, 0, 2),
        angles=ANGLES,
        centre=4.5,
        is_line_integrals=True,
    )
    volume = reconstruct(scan, threads=1)
    assert volume.provenance[-1]["used"]["joined_full_turn"] is True
    assert volume.shape[1] == N
    assert volume.origin[1] == pytest.approx(-5.5)
    found = np.asarray(volume.data)
    solid = balls[2:3] == 1
    assert found[solid].mean() == pytest.approx(1, abs=0.02)
    kept = reconstruct(scan, threads=1, full_turn="keep")
    assert kept.shape[1] == scan.n_columns


def test_what_a_few_angles_and_narrow_slices_do_is_said(balls):
    full = ParallelGeometry(angles=np.arange(60.0), n_columns=N, size=N)
    lines = project(torch.from_numpy(balls[2:3]), full).numpy()
    scan = Projections(
        data=lines.transpose(1, 0, 2), angles=full.angles, is_line_integrals=True
    )
    config = ReconstructConfig(
        threads=1, centre=15.5, algorithm="sirt", iterations=2, size=20
    )
    steps = reconstruct_steps(scan, config)
    said = " ".join(step.message for step in steps if isinstance(step, WarningIssued))
    assert "60 of 180 degrees" in said
    assert "narrower than the 32 columns" in said


@pytest.mark.parametrize("wrapped", [True, False])
def test_what_only_looks_like_a_full_turn_is_not_joined(balls, wrapped):
    golden = np.arange(90) * 90 * (5**0.5 - 1)
    angles = np.r_[270.0:360.0:2, 0.0:90.0:2] if wrapped else golden
    columns, centre = N + 16, (N + 15) / 2 + 5
    beam = ParallelGeometry(angles=angles, n_columns=columns, centre=centre, size=N)
    lines = project(torch.from_numpy(balls[2:3]), beam).numpy().transpose(1, 0, 2)
    scan = Projections(data=lines, angles=angles, is_line_integrals=True)
    settings = {"centre": centre, "size": N}
    result, _, steps = run(scan, settings=settings)
    kept = reconstruct(scan, threads=1, full_turn="keep", **settings)
    np.testing.assert_array_equal(result.volume.data, kept.data)
    solid = balls[2:3] == 1
    assert np.asarray(result.volume.data)[solid].mean() == pytest.approx(1, abs=0.02)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert any("not in opposite pairs" in text for text in said) != wrapped


@pytest.mark.parametrize(("every", "directions"), [(1, 0), (2, 30), (8, 0)])
def test_every_so_many_views_of_a_full_turn_may_show_the_same(every, directions):
    angles = np.arange(0, 360, 3.0)
    lines = np.ones((120, 1, 16), np.float32)
    scan = Projections(data=lines, angles=angles, is_line_integrals=True, centre=7.5)
    _, _, steps = run(scan, settings={"every": every})
    said = " ".join(s.message for s in steps if isinstance(s, WarningIssued))
    assert (f"cover only {directions} directions" in said) == bool(directions)
    assert bool(said) == bool(directions)
