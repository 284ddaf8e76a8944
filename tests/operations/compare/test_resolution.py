"""Fourier correlation of halves, pairs and single scans; and rejected input."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.compare import CompareConfig, compare_steps

SHAPE = (48, 64, 64)
CUT = 0.2  # in 1/voxel
ONE = CompareConfig(fsc="single", pores=False, difference=False)
PAIR = CompareConfig(fsc="pair", pores=False, difference=False)
HALVES = CompareConfig(fsc="halves", pores=False, difference=False)


def run(volumes, config, **more):
    said: list[str] = []

    def note(step):
        if isinstance(step, WarningIssued):
            said.append(step.message)

    return run_to_end(compare_steps(volumes, config, **more), note), said


@pytest.fixture
def clean(rng) -> np.ndarray:
    """A few bright boxes on a dark background, sharp up to `CUT`."""
    image = np.zeros(SHAPE)
    for z, y, x in rng.integers(4, (40, 56, 56), (30, 3)):
        image[z : z + 6, y : y + 6, x : x + 6] = 100
    f = [np.fft.fftfreq(n) ** 2 for n in SHAPE]
    radius = np.sqrt(sum(np.meshgrid(*f, indexing="ij")))
    return np.fft.ifftn(np.fft.fftn(image) * (radius < CUT)).real


@pytest.fixture
def scans(clean, rng) -> dict[str, Volume]:
    return {
        name: Volume(
            (clean + rng.normal(0, 4, SHAPE)).astype("f4"),
            "ZYX",
            (0.5,) * 3,
            "µm",
            name=name,
        )
        for name in "AB"
    }


def made_by(volume: Volume, operation: str, **more) -> Volume:
    record = {"operation": operation, "inputs": {}, **more}
    return volume.replace(provenance=(record,))


def test_two_scans_tell_their_resolution(scans):
    found, _ = run(scans, PAIR)
    (curve,) = found.fourier.values()
    assert curve.unit == "µm"
    assert curve.resolution("half-bit") == pytest.approx(0.5 / CUT, rel=0.15)
    assert "half-bit" in dict(found.resolution_rows())["A and B"]


def test_halves_are_volumes_of_their_own(scans):
    volumes = {"A": scans["A"], "B": scans["B"]}
    found, _ = run(volumes, HALVES, halves=(scans["A"], scans["B"]))
    assert list(found.fourier) == ["A and B"]
    with pytest.raises(ConfigError, match="needs two volumes"):
        run(volumes, HALVES)


def test_outputs_of_a_network_are_refused(scans):
    restored = {k: made_by(v, "restore") for k, v in scans.items()}
    with pytest.raises(VolumeError, match="Such outputs agree"):
        run(restored, PAIR)
    with pytest.raises(VolumeError, match="Such outputs agree"):
        run(scans, HALVES, halves=tuple(restored.values()))
    with pytest.raises(VolumeError, match="output of a network or filter"):
        run({"A": scans["A"], "B": restored["B"]}, PAIR)
    with pytest.raises(VolumeError, match="output of a network"):
        run(restored, ONE)


def test_resampled_scans_are_refused(scans):
    with pytest.raises(VolumeError, match="resampled when it was aligned"):
        run({"A": scans["A"], "B": made_by(scans["B"], "pairs")}, PAIR)
    moved = scans["B"].replace(origin=(0.25, 0.0, 0.0))
    with pytest.raises(VolumeError, match="would have to be resampled"):
        run({"A": scans["A"], "B": moved}, PAIR)


def test_the_same_scan_twice_is_refused(scans):
    twice = {"A": scans["A"], "B": scans["A"].replace(name="B")}
    with pytest.raises(VolumeError, match="contain the same voxels"):
        run(twice, PAIR)


def test_halves_of_the_same_projections_must_be_odd_and_even(scans):
    def half(name, which):
        inputs = {"input": {"checksum": "sha256:12", "name": "scan"}}
        entry = {"operation": "reconstruct", "inputs": inputs}
        settings = {"half": which}
        return scans[name].replace(provenance=({**entry, "settings": settings},))

    found, _ = run(scans, HALVES, halves=(half("A", "odd"), half("B", "even")))
    assert found.fourier
    for wrong in (("odd", "odd"), ("all", "all"), ("all", "odd")):
        halves = half("A", wrong[0]), half("B", wrong[1])
        with pytest.raises(VolumeError, match="contain its noise"):
            run(scans, HALVES, halves=halves)


def test_a_single_scan_of_independent_noise(scans):
    restored = made_by(scans["B"], "restore")
    found, said = run({"A": scans["A"], "B": restored}, ONE)
    (curve,) = found.fourier.values()
    assert curve.kind == "checkerboard shell"
    assert curve.resolution("1/7") == pytest.approx(0.5 / CUT, rel=0.2)
    # The other one does not cause an error, but is reported.
    assert any("'B' is the output of a network" in text for text in said)


def test_a_single_scan_of_correlated_noise_is_refused(scans):
    from scipy import ndimage

    smooth = {
        k: v.replace(data=ndimage.gaussian_filter(v.data, 0.8))
        for k, v in scans.items()
    }
    with pytest.raises(VolumeError, match="correlated"):
        run(smooth, ONE)


def test_a_round_field_of_view_is_correlated_in_its_middle(scans):
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    outside = np.hypot(y - 31.5, x - 31.5) > 32
    for volume in scans.values():
        volume.data[:, outside] = np.nan
    found, _ = run(scans, PAIR)
    (curve,) = found.fourier.values()
    assert curve.shape[0] == SHAPE[0]
    assert 40 <= curve.shape[1] <= 46
    assert any("in its central block" in remark for remark in found.remarks)


def test_large_volumes_are_correlated_in_the_block_that_fits(scans):
    config = PAIR.model_copy(update={"memory": "2MB"})
    found, _ = run(scans, config)
    (curve,) = found.fourier.values()
    assert np.prod(curve.shape) <= 2e6 / 40
    assert any("fits into memory" in remark for remark in found.remarks)


def test_flat_stacks_and_long_voxels_have_rings_in_slices(scans):
    flat = {k: v.replace(data=v.data[:8]) for k, v in scans.items()}
    assert list(run(flat, PAIR)[0].fourier) == ["A and B, in slices"]
    long = {k: v.replace(voxel_size=(1.0, 0.5, 0.5)) for k, v in scans.items()}
    assert list(run(long, PAIR)[0].fourier) == ["A and B", "A and B, in slices"]
    tiny = {k: v.replace(data=v.data[:, :12]) for k, v in scans.items()}
    with pytest.raises(VolumeError, match="at least 16 × 16 voxels"):
        run(tiny, PAIR)
