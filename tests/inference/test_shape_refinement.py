"""Refining in blocks gives the same voxels as refining the whole."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.steps import TileDone
from napari_geosr.inference import compute, masked, shapes
from napari_geosr.inference.shapes import plan_refinement, refine_steps
from napari_geosr.networks import build_network
from napari_geosr.networks.sparse._features import masked_voxels, surface_voxels
from napari_geosr.physics.shapes import sampled, trabeculae


def network(name: str) -> torch.nn.Module:
    if name == "interpolation":
        return build_network(name)
    torch.manual_seed(1)
    made = build_network("surface_unet", channels=(4, 4, 4)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.4)
    return made


def refined(inside, refiner, plan) -> np.ndarray:
    fine = np.zeros([n << len(plan.halos) for n in inside.shape], bool)
    for step in refine_steps(inside, refiner, plan):
        if isinstance(step, TileDone):
            fine[step.slices] = step.array
    return fine


@pytest.mark.parametrize(
    ("name", "edge", "n_blocks"),
    [("interpolation", 8, 5 * 3 * 4), ("surface_unet", 16, 3 * 2 * 2)],
)
@pytest.mark.parametrize("stages", [1, 2])
def test_blocks_equal_the_whole(
    name: str, edge: int, n_blocks: int, stages: int, monkeypatch
) -> None:
    """Also if a box is not a multiple of the blocks, and parts are empty or full."""
    inside = sampled(trabeculae(np.random.default_rng(5)), (37, 22, 30))
    inside[:, :, 14:] = True
    refiner = network(name)
    whole = plan_refinement(inside, stages, refiner.spec, 4, 10**12)
    assert len(whole.blocks) == 1
    monkeypatch.setattr(shapes, "_EDGES", (edge,))
    blocks = plan_refinement(inside, stages, refiner.spec, 4, 10**12)
    assert len(blocks.blocks) == n_blocks
    assert not all(blocks.busy)
    expected = refined(inside, refiner, whole)
    np.testing.assert_array_equal(refined(inside, refiner, blocks), expected)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("thickness", [1, 2, 3, 4])
def test_thin_volumes_are_refined(thickness: int, axis: int) -> None:
    """Also if they are thinner than the cubes over which the phase is averaged."""
    disc = np.hypot(*(np.indices((20, 24)) - 9.5)) < 7
    inside = np.moveaxis(np.repeat(disc[None], thickness, 0), 0, axis)
    refiner = network("surface_unet")
    for dense in (False, True):
        plan = plan_refinement(inside, 2, refiner.spec, 4, 10**12)
        plan = dataclasses.replace(plan, dense=(dense,) * 2)
        assert 0.1 < refined(inside, refiner, plan).mean() < 0.9
    values = torch.from_numpy(inside)[None].float()
    voxels = masked_voxels(values[None], torch.ones_like(values) > 0)
    columns = voxels.features.T.reshape(3, *inside.shape).numpy()
    for found, edge in zip(columns[1:], (3, 5), strict=True):
        box = {"weights": np.ones((edge,) * 3), "mode": "constant"}
        sums = ndimage.convolve(inside.astype(float), **box)
        expected = sums / ndimage.convolve(np.ones(inside.shape), **box)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_blocks_of_deep_networks_begin_at_multiples_of_the_stride(monkeypatch) -> None:
    """Six levels have a stride of 32, so blocks of 16 or 48 voxels are not used."""
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(304, 14, 14)), 1.2)
    inside = noise > np.quantile(noise, 0.8)
    torch.manual_seed(1)
    refiner = build_network("surface_unet", channels=(4,) * 6).train()
    with torch.no_grad():  # normalise the features: all levels affect the result
        for module in refiner.modules():
            if hasattr(module, "momentum"):
                module.momentum = None
        refiner(surface_voxels(torch.from_numpy(inside)[None, None].float()))
        refiner.eval().head.weight.normal_(0, 2)
    found = []
    for edges, edge in (((320,), 320), ((48, 16), 32)):
        monkeypatch.setattr(shapes, "_EDGES", edges)
        monkeypatch.setattr(masked, "_EDGES", edges)
        assert masked.plan_mask(inside, refiner.spec, 4, 10**12).edge == edge
        plan = plan_refinement(inside, 1, refiner.spec, 4, 10**12)
        assert plan.edge == edge
        found.append(
            refined(inside, refiner, dataclasses.replace(plan, dense=(False,)))
        )
    np.testing.assert_array_equal(*found)


def test_less_probable_voxels_are_kept_until_the_last_stage() -> None:
    inside = sampled(trabeculae(np.random.default_rng(5)), (20, 16, 18))
    refiner = network("surface_unet")
    with torch.no_grad():
        coarse = torch.from_numpy(inside)[None, None].float()
        between = refiner.refined(coarse, is_last=False)
        once = refiner.refined(coarse)
        expected = refiner.refined(between.float())
    assert (between & once).sum() == once.sum()
    assert between.sum() > once.sum()
    plan = plan_refinement(inside, 1, refiner.spec, 4, 10**12)
    np.testing.assert_array_equal(refined(inside, refiner, plan), once[0, 0].numpy())
    plan = plan_refinement(inside, 2, refiner.spec, 4, 10**12)
    found = refined(inside, refiner, plan)
    np.testing.assert_array_equal(found, expected[0, 0].numpy())


def test_a_smaller_halo_would_be_too_small() -> None:
    """Shows that the test above can fail."""
    inside = sampled(trabeculae(np.random.default_rng(5)), (37, 22, 30))
    refiner = network("surface_unet")
    whole = plan_refinement(inside, 1, refiner.spec, 4, 10**12)
    spec = dataclasses.replace(refiner.spec, halo=(4, 4, 4))
    plan = plan_refinement(inside, 1, spec, 4, 10**12)
    cut = dataclasses.replace(
        plan,
        blocks=(
            (slice(0, 16), slice(0, 22), slice(0, 30)),
            (slice(16, 37), slice(0, 22), slice(0, 30)),
        ),
        busy=(True, True),
    )
    assert (refined(inside, refiner, cut) != refined(inside, refiner, whole)).any()


def test_memory_is_counted_before_anything_is_computed() -> None:
    inside = sampled(trabeculae(np.random.default_rng(5)), (64, 64, 64))
    refiner = network("surface_unet")
    large = plan_refinement(inside, 2, refiner.spec, 4, 10**12)
    small = plan_refinement(inside, 2, refiner.spec, 4, large.n_bytes // 3)
    assert small.edge < large.edge
    assert small.n_bytes <= large.n_bytes // 3
    with pytest.raises(DeviceMemoryError, match=f"{large.n_active:,} voxels next to"):
        plan_refinement(inside, 2, refiner.spec, 4, 10**6)


def test_it_can_be_stopped() -> None:
    inside = sampled(trabeculae(np.random.default_rng(5)), (16, 16, 16))
    refiner = network("interpolation")
    plan = plan_refinement(inside, 1, refiner.spec, 1, 10**12)
    with pytest.raises(Cancelled):
        list(refine_steps(inside, refiner, plan, should_stop=lambda: True))


@pytest.mark.parametrize("dense", [False, True])
def test_it_can_be_stopped_within_a_block(dense: bool) -> None:
    """A single block may take minutes, so each layer asks whether to stop."""
    inside = sampled(trabeculae(np.random.default_rng(5)), (16, 16, 16))
    refiner = network("surface_unet")
    plan = plan_refinement(inside, 2, refiner.spec, 4, 10**12)
    plan = dataclasses.replace(plan, dense=(dense, dense))
    assert len(plan.blocks) == 1
    n_asked, last = 0, 10**9

    def asked() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked >= last

    assert list(refine_steps(inside, refiner, plan, should_stop=asked))
    assert n_asked > 30
    last, n_asked = n_asked // 2, 0
    with pytest.raises(Cancelled):
        list(refine_steps(inside, refiner, plan, should_stop=asked))
    assert n_asked == last
    n_asked = 0  # stopping leaves nothing behind for later runs
    assert list(refine_steps(inside, refiner, plan))
    assert n_asked == 0


def test_it_uses_the_given_threads_only_while_it_computes(monkeypatch) -> None:
    """The number of threads belongs to the process, so other work must not see it."""
    inside = sampled(trabeculae(np.random.default_rng(5)), (16, 16, 16))
    refiner = network("interpolation")
    plan = plan_refinement(inside, 1, refiner.spec, 1, 10**12)
    monkeypatch.setattr(compute, "usable_cores", lambda: 4)
    before, seen = torch.get_num_threads(), []
    refine = refiner.refined

    def watched(values: torch.Tensor, **options: bool) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return refine(values, **options)

    monkeypatch.setattr(refiner, "refined", watched)
    for _step in refine_steps(inside, refiner, plan, threads=before + 1):
        assert torch.get_num_threads() == before
    assert seen == [before + 1]


def test_crowded_shapes_are_refined_with_dense_convolutions(monkeypatch) -> None:
    """Each stage chooses by the occupancy of the whole, and the result is the same."""
    rng = np.random.default_rng(3)
    inside = ndimage.gaussian_filter(rng.standard_normal((30, 26, 37)), 1.2) > 0
    refiner = network("surface_unet")
    plan = plan_refinement(inside, 2, refiner.spec, 4, 10**12)
    share = plan.n_active / inside.size
    assert share > 0.5
    assert plan.dense == (True, True)
    calls = []
    forward = type(refiner).dense_forward
    monkeypatch.setattr(
        type(refiner),
        "dense_forward",
        lambda self, x: calls.append(len(x)) or forward(self, x),
    )
    dense = refined(inside, refiner, plan)
    assert len(calls) == 2
    sparse = refined(inside, refiner, dataclasses.replace(plan, dense=(False, False)))
    assert len(calls) == 2
    # Rounding may decide for voxels exactly at the threshold.
    assert (dense != sparse).mean() < 1e-5
    thick = ndimage.gaussian_filter(rng.standard_normal((30, 26, 37)), 4) > 0
    rare = plan_refinement(thick, 2, refiner.spec, 4, 10**12)
    assert 0.25 < rare.n_active / thick.size < 0.5
    assert rare.dense == (True, False)
