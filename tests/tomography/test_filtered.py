"""FBP and FDK: known results, other programs, angles of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.physics.projection.projector import project
from napari_geosr.physics.projection.smear import smear, smear_tensors
from napari_geosr.tomography.algorithms import reconstruct_slices
from napari_geosr.tomography.algorithms.fbp import Config
from napari_geosr.tomography.filters import angle_weights, filter_rows

N = 64
#: Centre (y, x) relative to the axis, radius, attenuation per pixel.
PARTS = ((0.0, 0.0, 28.0, 0.02), (-8.0, 6.0, 9.0, 0.01), (11.0, -9.0, 5.0, -0.015))
HALF = np.linspace(0, 180, 120, endpoint=False)
DISC = ((6.0, -9.0, 20.0, 0.02),)


def image(parts: Any = PARTS, n: int = N) -> torch.Tensor:
    """The discs with soft edges, (N, N)."""
    y, x = (np.mgrid[: 4 * n, : 4 * n] + 0.5) / 4 - n / 2
    fine = sum(v * ((y - b) ** 2 + (x - a) ** 2 < r**2) for b, a, r, v in parts)
    return torch.from_numpy(fine.reshape(n, 4, n, 4).mean((1, 3)).astype(np.float32))


def inside(radius: float, n: int = N) -> torch.Tensor:
    """Mask of pixels that are closer to the axis than `radius`."""
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    return torch.from_numpy(y**2 + x**2 < radius**2)


def shadows(angles: Any, n_columns: int, centre: float, parts: Any = PARTS) -> Any:
    """Exact parallel projections of the discs, (1, angle, column)."""
    turn = np.deg2rad(np.asarray(angles, float))[:, None]
    t = np.arange(n_columns) - centre
    total = np.zeros((len(turn), n_columns))
    for b, a, radius, value in parts:
        distance = t - a * np.cos(turn) - b * np.sin(turn)
        total += 2 * value * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    return torch.from_numpy(total.astype(np.float32))[None]


def relative(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Norm of the error relative to that of the truth."""
    return float((found - truth).norm() / truth.norm())


def fbp(sinogram: torch.Tensor, geometry: ParallelGeometry, **values: Any) -> Any:
    return reconstruct_slices("fbp", sinogram, geometry, Config.create(**values))


def level(slices: torch.Tensor, parts: Any = DISC) -> float:
    """Mean inside the first disc, without its edge."""
    y, x, radius, _ = parts[0]
    grid = np.mgrid[: slices.shape[-1], : slices.shape[-1]]
    middle = (slices.shape[-1] - 1) / 2
    close = (grid[0] - middle - y) ** 2 + (grid[1] - middle - x) ** 2
    return float(slices[0][torch.from_numpy(close < (radius - 3) ** 2)].mean())


@pytest.mark.parametrize(
    "angles",
    [
        HALF,
        np.linspace(0, 180, 121),
        np.linspace(0, 360, 180, endpoint=False),
        np.linspace(0, 360, 181),
        np.random.default_rng(1).permutation(HALF - 77),
        np.concatenate([np.arange(0, 60, 0.5), np.arange(60, 180, 1.5)]),
    ],
    ids=["half", "half, both ends", "full", "full, both ends", "shuffled", "uneven"],
)
def test_a_disc_has_its_attenuation(angles: Any) -> None:
    geometry = ParallelGeometry(angles, 70, 31.7, N)
    slices = fbp(shadows(angles, 70, 31.7, DISC), geometry)
    assert level(slices) == pytest.approx(0.02, rel=0.01)
    assert relative(slices[0], image(DISC)) < 0.12
    outside = inside(N / 2) & (image(DISC) == 0)
    assert abs(float(slices[0][outside].mean())) < 2e-4


def test_attenuation_is_per_unit() -> None:
    sinogram = shadows(HALF, N, 31.5, DISC)
    one = fbp(sinogram, ParallelGeometry(HALF, N))
    small = fbp(sinogram, ParallelGeometry(HALF, N, pixel_size=0.25))
    torch.testing.assert_close(small, 4 * one)


def test_fan_and_cone_have_the_attenuation_too() -> None:
    angles = np.linspace(0, 360, 180, endpoint=False)
    beam: Any = {"source_distance": 150, "detector_distance": 75, "pixel_size": 1.5}
    fan = FanGeometry(angles, 84, 40.2, N, **beam)
    slices = fbp(project(image(DISC), fan)[None], fan)
    assert level(slices) == pytest.approx(0.02, rel=0.01)
    cone = ConeGeometry(angles, 84, 40.2, N, n_rows=13, n_slices=5, **beam)
    volume = image(DISC).expand(5, N, N)
    slices = reconstruct_slices("fdk", project(volume, cone), cone)
    assert level(slices[2:3]) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("name", ["ramp", "shepp-logan", "cosine", "hamming", "hann"])
def test_scikit_image_agrees(name: str) -> None:
    transform = pytest.importorskip("skimage.transform")
    sinogram = shadows(HALF, 65, 32.0)
    ours = fbp(sinogram, ParallelGeometry(HALF, 65), filter=name)[0]
    theirs = transform.iradon(
        sinogram[0].numpy().T.astype(float), -HALF, filter_name=name, circle=True
    )
    seen = inside(31, 65)
    assert relative(ours * seen, torch.from_numpy(theirs) * seen) < 1e-3


def test_astra_agrees() -> None:
    astra = pytest.importorskip("astra")
    sinogram = shadows(HALF, N, 31.5)
    ours = fbp(sinogram, ParallelGeometry(HALF, N))[0]
    scan = astra.create_proj_geom("parallel", 1.0, N, np.deg2rad(HALF))
    slices = astra.create_vol_geom(N, N)
    operator = astra.OpTomo(astra.create_projector("strip", scan, slices))
    theirs = operator.reconstruct("FBP", sinogram[0].numpy())[::-1].copy()
    seen = inside(30)
    assert relative(ours * seen, torch.from_numpy(theirs) * seen) < 0.01


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("kind", ["parallel", "fan"])
def test_tensors_and_loops_smear_alike(kind: str, batch: int) -> None:
    geometry = ParallelGeometry(HALF[::10], 33, 14.2, 29)
    if kind == "fan":
        geometry = FanGeometry(
            HALF[::10], 33, 14.2, 29, source_distance=50, detector_distance=9
        )
    values = torch.randn(batch, *geometry.sinogram_shape)
    torch.testing.assert_close(
        smear_tensors(values, geometry), smear(values, geometry), rtol=1e-4, atol=1e-4
    )


def test_tensors_and_loops_smear_a_cone_alike() -> None:
    geometry = ConeGeometry(
        HALF[::10], 23, size=17, source_distance=30, detector_distance=9, n_rows=7
    )
    values = torch.randn(geometry.sinogram_shape)
    torch.testing.assert_close(
        smear_tensors(values, geometry), smear(values, geometry), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("angles", [HALF[::10] * 2, HALF[::6] * 1.3])
def test_slabs_of_a_cone_are_the_whole(angles: Any) -> None:
    geometry = ConeGeometry(
        angles,
        33,
        15.4,
        25,
        source_distance=60,
        detector_distance=20,
        n_rows=21,
        row_centre=9.5,
        n_slices=18,
        row_size=0.8,
    )
    sinogram = torch.randn(geometry.sinogram_shape)
    whole = reconstruct_slices("fdk", sinogram, geometry)
    for first, stop in ((0, 5), (5, 6), (6, 18)):
        rows = slice(*geometry.rows_of(first, stop))
        slab = geometry.slab(first, stop)
        found = reconstruct_slices("fdk", sinogram[rows], slab)
        torch.testing.assert_close(found, whole[first:stop], rtol=1e-4, atol=1e-5)
        values = torch.randn(slab.sinogram_shape)
        torch.testing.assert_close(
            smear_tensors(values, slab), smear(values, slab), rtol=1e-4, atol=1e-4
        )


def test_the_mean_of_splits_is_the_whole() -> None:
    geometry = ParallelGeometry(HALF, N)
    sinogram = shadows(HALF, N, 31.5) + 0.1 * torch.randn(1, 120, N)
    parts = [
        fbp(sinogram[:, k::4], geometry.subset(slice(k, None, 4))) for k in range(4)
    ]
    mean = torch.stack(parts).mean(0)
    torch.testing.assert_close(mean, fbp(sinogram, geometry), rtol=1e-4, atol=1e-5)


def test_blocks_are_the_whole() -> None:
    geometry = ParallelGeometry(HALF[::4], N)
    sinogram = torch.randn(21, 30, N)
    whole = fbp(sinogram, geometry)
    blocks = torch.cat([fbp(block, geometry) for block in sinogram.split(5)])
    torch.testing.assert_close(blocks, whole, rtol=1e-4, atol=1e-5)


def test_repeating_the_edge_helps_samples_wider_than_the_detector() -> None:
    wide = ((0.0, 0.0, 60.0, 0.02),)
    geometry = ParallelGeometry(HALF, N)
    sinogram = shadows(HALF, N, 31.5, wide)
    seen = inside(29)
    zero, edge = (fbp(sinogram, geometry, padding=p)[0][seen] for p in ("zero", "edge"))
    assert float(edge.std()) < 0.5 * float(zero.std())


def test_below_zero_is_cut_if_asked() -> None:
    geometry = ParallelGeometry(HALF[::10], N)
    sinogram = shadows(HALF[::10], N, 31.5)
    assert float(fbp(sinogram, geometry).min()) < 0
    assert float(fbp(sinogram, geometry, nonnegative=True).min()) == 0


def test_weights_of_angles() -> None:
    np.testing.assert_allclose(angle_weights(HALF), np.pi / 120)
    np.testing.assert_allclose(angle_weights(np.array([30.0])), np.pi)
    twice = angle_weights(np.array([0.0, 45, 90, 135, 180, 0]))
    np.testing.assert_allclose(
        twice / np.pi, [1 / 12, 0.25, 0.25, 0.25, 1 / 12, 1 / 12]
    )
    wedge = angle_weights(np.arange(20, 161, 1.0))
    np.testing.assert_allclose(wedge, np.pi / 180)


def test_filtering_a_constant_keeps_the_mean_of_its_taps() -> None:
    # The taps of the ramp sum to almost zero over a long row, so its middle is zero.
    filtered = filter_rows(torch.ones(1, 2001), "ramp", 1.0)
    assert abs(float(filtered[0, 1000])) < 3e-4
    assert abs(float(filter_rows(torch.ones(1, 201), "hann", 2.0, "edge").max())) < 3e-4


def test_each_edge_is_repeated_on_its_own_side() -> None:
    row = torch.linspace(0, 1, 64)[None] ** 2
    wide = torch.nn.functional.pad(row, (32, 32), mode="replicate")
    by_hand = filter_rows(wide, "shepp-logan", 1.0)[:, 32:-32]
    torch.testing.assert_close(
        filter_rows(row, "shepp-logan", 1.0, "edge")[:, 5:-5],
        by_hand[:, 5:-5],
        rtol=0,
        atol=0.02,
    )


@pytest.mark.parametrize("begin", [0.0, 170.0, -400.0])
def test_an_uneven_angle_counts_half_the_gap_to_both_neighbours(begin: float) -> None:
    # By hand, around half a turn: gaps of 10, 20, 30, 40, 40 and 40 degrees.
    angles = np.array([0.0, 10, 30, 60, 100, 140])
    expected = np.array([25.0, 15, 25, 35, 40, 40])
    order = [3, 0, 5, 1, 4, 2]
    found = np.rad2deg(angle_weights(begin + angles))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    shuffled = np.rad2deg(angle_weights(begin + angles[order]))
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-4)
    opposite = angles + np.array([0, 180, 0, 360, 180, 0])
    found = np.rad2deg(angle_weights(begin + opposite))
    np.testing.assert_allclose(found, expected, atol=1e-4)
