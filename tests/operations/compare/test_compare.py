"""Comparison of two to six volumes with different voxels in one physical frame."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from compare_helpers import means, run, spheres
from scipy import ndimage

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError, FileError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.operations.compare import CompareConfig
from napari_geosr.operations.compare import files as report_files

#: Grey values only.
NO_PORES = CompareConfig(pores=False)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return spheres()


@pytest.fixture
def coarse(truth, rng) -> Volume:
    """A scan of half the resolution, with odd extents."""
    data = means(truth, 2)[:23, :29, :33] + rng.normal(0, 6, (23, 29, 33))
    size = (2.0,) * 3
    return Volume(data.astype("f4"), "ZYX", size, "µm", (0.5,) * 3, name="coarse")


@pytest.fixture
def fine(truth, rng) -> Volume:
    data = truth + rng.normal(0, 2, truth.shape)
    return Volume(data.astype("f4"), "ZYX", (1.0,) * 3, "µm", name="fine")


def test_super_resolution_against_its_scan_needs_no_setting(coarse, fine):
    said: list[str] = []
    found = run({"A": coarse, "B": fine}, said=said)
    assert found.frame.shape == coarse.shape
    assert found.frame.voxel_size == (2.0, 2.0, 2.0)
    assert found.figures["B"].psnr > 24
    assert found.shifts["B"].length < 0.1
    assert said == []
    assert any("over blocks of 2 × 2 × 2" in remark for remark in found.remarks)
    assert found.porosity["A"].porosity == pytest.approx(
        found.porosity["B"].porosity, rel=0.1
    )
    assert found.pores["B"].count("lost") == 0
    assert found.pores["B"].count("matched") >= 10
    # Each is measured on its own voxels, cropped to the common region.
    assert found.volumes["B"].shape == (46, 58, 66)
    assert found.detail["B"] is None or found.detail["B"] > 2


def test_a_coarse_volume_does_not_hide_the_faults_of_a_finer_one(truth):
    """Nearest-neighbour super-resolution, with and without its scan."""
    small = means(truth, 4)
    exact = truth[:48, :60, :64]
    blocks = small[:12, :15, :16].repeat(4, 0).repeat(4, 1).repeat(4, 2)
    base = Volume(exact, "ZYX", (1.0,) * 3, "µm", name="truth")
    fine = base.replace(data=blocks, name="blocks")
    scan = Volume(small, "ZYX", (4.0,) * 3, "µm", (1.5,) * 3, name="scan")
    said: list[str] = []
    alone = run({"A": fine, "C": base}, reference="C")
    found = run({"A": fine, "B": scan, "C": base}, said=said, reference="C")
    assert vars(found.figures["A"]) == vars(alone.figures["A"])
    assert found.figures["A"].psnr < 30 < found.figures["B"].psnr
    assert found.shifts["A"] == alone.shifts["A"]
    for key in "AC":
        assert found.noise[key] == alone.noise[key]
        assert found.detail[key] == alone.detail[key]
        assert found.porosity[key].to_json_dict() == alone.porosity[key].to_json_dict()
    assert found.pores["A"].to_json_dict() == alone.pores["A"].to_json_dict()
    np.testing.assert_array_equal(
        np.asarray(found.differences["A"]), np.asarray(alone.differences["A"])
    )
    assert len(said) == len(set(said))  # the base is measured twice
    assert any("'truth' contains only two values" in text for text in said)
    # The scan itself is compared on its own voxels, and each column names the grid.
    assert found.differences["B"].shape == scan.shape
    rows = {row.label: row for row in found.rows()}
    assert rows["Compared on voxels of"].texts == ["1 µm", "4 µm", "–"]
    changes = rows["Porosity"].texts
    assert changes[0].endswith(")")
    assert changes[1].endswith(")")
    assert any("'scan', compared with the base: 'truth'" in r for r in found.remarks)
    assert found.to_dict()["grids"]["A"]["frame"]["voxel_size"] == [1.0, 1.0, 1.0]


def test_volumes_on_the_same_grid_are_compared_on_the_same_voxels(fine):
    unknown = fine.data.copy()
    unknown[:10] = np.nan
    config = CompareConfig(pores=False)
    found = run(
        {
            "A": fine,
            "B": fine.replace(data=fine.data + 1, name="B"),
            "C": fine.replace(data=unknown, voxel_size=(0.001,) * 3, unit="mm"),
        },
        config,
    )
    assert found.grids["B"] == found.grids["C"]
    assert found.voxels == 38 * 60 * 66


def test_a_shift_is_a_warning_with_its_length(fine):
    moved = ndimage.shift(fine.data, (0, 0.8, 0), order=3, mode="nearest")
    said: list[str] = []
    found = run({"A": fine, "B": fine.replace(data=moved, name="moved")}, said=said)
    assert found.shifts["B"].voxels == pytest.approx((0, 0.8, 0), abs=0.1)
    assert found.shifts["B"].distance == pytest.approx(0.8, abs=0.1)
    (warning,) = said
    assert f"'moved' is shifted by {found.shifts['B'].distance:.3g} µm" in warning
    assert warning in found.warnings


def test_lost_and_invented_pores_have_their_places(fine, truth):
    after = fine.data.copy()
    labels, n = ndimage.label(truth < 100)
    after[ndimage.binary_dilation(labels == 3, iterations=2)] = 200
    after[20:28, 2:9, 55:63] = 200
    after[22:26, 4:8, 57:61] = 80
    found = run({"A": fine, "B": fine.replace(data=after, name="after")})
    (lost,) = found.pores["B"].of("lost")
    centre = ndimage.center_of_mass(labels == 3)
    assert lost.position == pytest.approx(centre, abs=0.6)
    (invented,) = found.pores["B"].of("invented")
    assert invented.position == pytest.approx((23.5, 5.5, 58.5), abs=0.6)
    assert found.pores["B"].count("matched") == n - 1


def test_differences_are_in_standard_deviations_of_the_noise(truth, rng):
    """For two scans of equal noise, the standard deviation is one, at the correct
    position.
    """
    one, two = (
        Volume(
            (truth + rng.normal(0, 5, truth.shape)).astype("f4"),
            "ZYX",
            (2.0,) * 3,
            "µm",
            (4.0, 0.0, 0.0),
            name=name,
        )
        for name in ("one", "two")
    )
    found = run({"A": one, "B": two})
    noise = found.noise["A"]
    assert isinstance(noise, Noise)
    assert noise.level == pytest.approx(5, rel=0.1)
    difference = found.differences["B"]
    assert difference.origin == one.origin
    assert difference.voxel_size == one.voxel_size
    assert np.asarray(difference).std() == pytest.approx(1, rel=0.1)
    assert "the noise of 'one' and 'two'" in found.difference_units["B"]


def test_gain_and_offset_are_fitted_only_when_asked(fine):
    other = fine.replace(data=2 * fine.data + 50, name="scaled")
    plain = run({"A": fine, "B": other}, CompareConfig(pores=False))
    said: list[str] = []
    fitted = run(
        {"A": fine, "B": other}, CompareConfig(pores=False, affine=True), said=said
    )
    assert plain.figures["B"].psnr < 0
    assert fitted.figures["B"].psnr > 60
    assert (fitted.figures["B"].gain, fitted.figures["B"].offset) == pytest.approx(
        (0.5, -25), rel=1e-4
    )
    rows = {row.label: row.texts for row in fitted.rows()}
    assert rows["Fitted gain and offset"][1] == "× 0.5 −25"
    assert "Fitted gain and offset" not in {row.label for row in plain.rows()}


def test_six_volumes_and_no_more(fine):
    cut = fine.replace(data=fine.data[:24, :24, :24])
    some = {
        letter: cut.replace(name=letter, data=cut.data + i)
        for i, letter in enumerate("ABCDEF")
    }
    found = run(some, CompareConfig(pores=False))
    assert found.compared == tuple("BCDEF")
    assert list(found.to_dataframe().index) == list("ABCDEF")
    for wrong in ({"A": cut}, {**some, "G": cut}):
        with pytest.raises(ConfigError, match="Give 2 to 6 volumes"):
            run(wrong)


def test_a_coarser_mask_in_another_place_is_looked_up(fine):
    mask = np.zeros((12, 15, 17), np.uint8)
    mask[3:9] = 1
    sample = Volume(mask, "ZYX", (0.004,) * 3, "mm", (0.0015,) * 3, name="sample")
    found = run({"A": fine, "B": fine.replace(data=fine.data + 1)}, mask=sample)
    assert found.voxels == 24 * 60 * 66
    assert found.porosity["A"].sample_voxels == found.voxels
    small = sample.replace(origin=(0.02, 0.0015, 0.0015))
    with pytest.raises(VolumeError, match="does not cover"):
        run({"A": fine, "B": fine}, mask=small)


def test_a_small_memory_budget_gives_the_same_figures(coarse, fine):
    whole = run({"A": coarse, "B": fine}, CompareConfig(pores=False))
    little = run({"A": coarse, "B": fine}, CompareConfig(pores=False, memory="2MB"))
    assert little.figures["B"].psnr == pytest.approx(whole.figures["B"].psnr)
    assert little.figures["B"].ssim == pytest.approx(whole.figures["B"].ssim)


def test_volumes_without_any_place(fine):
    bare = Volume(fine.data, "ZYX", name="bare")
    found = run({"A": fine, "B": bare}, CompareConfig(pores=False))
    assert found.frame.unit == "µm"
    assert any("'bare' has no voxel size" in text for text in found.remarks)
    with pytest.raises(VolumeError, match="Set the voxel size"):
        run({"A": fine, "B": bare.replace(data=bare.data[:20])})
    with pytest.raises(VolumeError, match="same shape can be compared"):
        run({"A": bare, "B": bare.replace(data=bare.data[:20])})
    # Pixels of half the size, like a super-resolved layer without voxel size.
    half = Volume(means(fine.data, 2), "ZYX", (2.0,) * 3, "pixel", (0.5,) * 3)
    assert run({"A": half, "B": bare}).figures["B"].psnr > 40


def test_it_can_be_stopped_at_any_stage(coarse, fine):
    """`should_stop` is called often, and obeyed each time."""
    calls = 0

    def count() -> bool:
        nonlocal calls
        calls += 1
        return False

    # The first run also compiles, and calls it in the meantime.
    run({"A": coarse, "B": fine})
    run({"A": coarse, "B": fine}, should_stop=count)
    assert calls > 8
    for last in (0, calls // 4, calls // 2, 3 * calls // 4):
        asked = itertools.count()
        with pytest.raises(Cancelled):
            run(
                {"A": coarse, "B": fine},
                should_stop=lambda asked=asked, last=last: next(asked) >= last,
            )


def test_files_that_appeared_meanwhile_are_kept(coarse, fine, tmp_path):
    config = CompareConfig(fsc="none", pores=False)
    volumes = {"A": coarse, "B": fine}
    files = report_files.plan(tmp_path / "out", list(volumes), "A", config)
    report = run(volumes, config)
    files["json"].parent.mkdir()
    files["json"].write_text("mine")
    with pytest.raises(FileError, match="out_2"):
        report_files.write(files, volumes, report, config, overwrite=False)
    assert files["json"].read_text() == "mine"
    made = {path.name for path in (tmp_path / "out_2").iterdir()}
    assert made == {path.name for path in files.values()}


def test_the_files_of_a_comparison(coarse, fine, tmp_path):
    config = CompareConfig(fsc="none")
    volumes = {"A": coarse, "B": fine}
    files = report_files.plan(tmp_path / "out", list(volumes), "A", config)
    report = run(volumes, config)
    report_files.write(files, volumes, report, config)
    values = json.loads(files["json"].read_text(encoding="utf-8"))
    assert values["psnr"] == pytest.approx(report.psnr)
    assert values["provenance"]["operation"] == "compare"
    difference = io.read(files["difference B"])
    assert difference.origin == coarse.origin
    assert difference.shape == coarse.shape
    np.testing.assert_allclose(
        np.asarray(difference), np.asarray(report.differences["B"]), rtol=1e-5
    )
    page = files["html"].read_text(encoding="utf-8")
    assert page.count("<img") >= 3
    assert "PSNR" in page
    lines = files["pores B"].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("status,z (µm),y (µm),x (µm),base volume (µm³)")
    assert len(lines) == 1 + len(report.pores["B"].changes)
    with pytest.raises(FileError, match="already contains"):
        report_files.check(files, overwrite=False)


def test_images_of_one_bit_are_compared(truth, tmp_path):
    config = CompareConfig(fsc="none")
    mask = Volume(truth > 140, "ZYX", (1.0,) * 3, "µm", name="mask")
    volumes = {"A": mask, "B": mask}
    files = report_files.plan(tmp_path / "out", list(volumes), "A", config)
    report = run(volumes, config)
    report_files.write(files, volumes, report, config)
    assert report.porosity["A"].porosity == pytest.approx(1 - mask.data.mean())
    assert files["html"].read_text(encoding="utf-8").count("<img") >= 3


@pytest.mark.parametrize("scale", [(1e7, 0.0), (1.0, -1000.0), (-3e-9, 0.0)])
def test_volumes_on_different_grey_scales(fine, truth, scale) -> None:
    """The order does not matter for PSNR; the fit gives that of the base's scale."""
    gain, offset = scale
    scaled = Volume(
        gain * truth.astype("f8") + offset, "ZYX", (1.0,) * 3, "µm", name="scaled"
    )
    alike = run({"A": fine, "B": scaled.replace(data=truth)}, config=NO_PORES)
    said: list[str] = []
    found = run({"A": fine, "B": scaled}, said=said, config=NO_PORES)
    other = run({"A": scaled, "B": fine}, config=NO_PORES)
    assert found.figures["B"].psnr == pytest.approx(other.figures["B"].psnr, abs=1e-3)
    invariant = alike.figures["B"].psnr_range_invariant
    assert found.figures["B"].psnr_range_invariant == pytest.approx(invariant, abs=0.01)
    assert 20 < other.figures["B"].psnr_range_invariant < 60
    assert any("on different scales" in text and "--affine" in text for text in said)
    said.clear()
    fitted = run(
        {"A": fine, "B": scaled},
        said=said,
        config=CompareConfig(pores=False, affine=True),
    )
    assert fitted.figures["B"].psnr == pytest.approx(invariant, abs=0.01)
    assert fitted.figures["B"].ssim > 0.5
    assert not any("scales" in text for text in said)


@pytest.mark.parametrize("noise", [3.0, 300.0])
def test_noise_is_no_different_scale(truth, rng, noise: float) -> None:
    said: list[str] = []
    data = truth + rng.normal(0, noise, truth.shape)
    volumes = {"A": Volume(data, "ZYX"), "B": Volume(truth, "ZYX")}
    run(volumes, said=said, config=NO_PORES)
    assert not any("scales" in text for text in said)


@pytest.mark.parametrize("factor", [1, 2])
def test_pores_are_measured_where_all_volumes_are_known(truth, factor: int) -> None:
    """A cylinder of the same grey values, also with voxels of twice the size."""
    size = (float(factor),) * 3
    origin = ((factor - 1) / 2,) * 3
    cut = means(truth, factor).astype("f4")
    y, x = np.indices(cut.shape[1:])
    cut[:, np.hypot(y - y.mean(), x - x.mean()) > 0.4 * min(y.shape)] = np.nan
    part = Volume(cut, "ZYX", size, "µm", origin, name="cylinder")
    whole = Volume(truth.astype("u1"), "ZYX", (1.0,) * 3, "µm", name="whole")
    said: list[str] = []
    found = run(
        {"A": part, "B": whole}, said=said, config=CompareConfig(threshold=128.0)
    )
    inside = np.isfinite(cut)
    for axis in range(3):
        inside = inside.repeat(factor, axis)
    pores = truth[tuple(map(slice, inside.shape))] < 128
    assert found.porosity["B"].porosity == pytest.approx(pores[inside].mean())
    assert found.porosity["B"].sample_voxels == inside.sum()
    assert found.porosity["A"].sample_voxels == np.isfinite(cut).sum()
    assert any("measured without such voxels" in text for text in found.remarks)
    assert not any("samples differ" in text for text in said)
