"""Members of an uncertainty estimate: mean and deviation match hand calculations."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.inference.members import KINDS, EnsembleInputs, make_members
from napari_geosr.inference.members.tta import symmetries
from napari_geosr.inference.memory import count_storage, measure_cost
from napari_geosr.inference.receptive_field import check_spec
from napari_geosr.inference.runner import restore_region, restore_tiles
from napari_geosr.inference.tiles.tiling import lay_out

GB = 10**9


def model_of(network, name="a", **card):
    facts = {
        "name": name,
        "task": "denoise",
        "upscale_factor": network.spec.upscale_factor[0],
        "axes": network.spec.axes,
        "weights_sha256": name,
        "has_weights": True,
        "normalisation": SimpleNamespace(kind="standardise"),
    }
    card = SimpleNamespace(**(facts | card))
    return SimpleNamespace(card=card, network=lambda: network, restorer=lambda: network)


def made(kind, models, statistics, voxel_size=(1.0, 1.0, 1.0), n=None):
    return make_members(kind, EnsembleInputs(models, voxel_size, statistics, n))


def filled(members, array, statistics, tile, **more):
    shape = lay_out(array.shape, members.spec).output_shape
    target, deviation = np.full(shape, np.nan), np.full(shape, np.nan)
    run_to_end(
        restore_tiles(
            members,
            array,
            target,
            deviation=deviation,
            statistics=statistics,
            budget=GB,
            tile=tile,
            **more,
        )
    )
    return target, deviation


def by_hand(run, array, ways):
    """`run` on the array in all orientations, with the results transformed back."""
    answers = []
    for way in ways:
        laid = array[..., ::-1] if way.mirrored else array
        laid = np.rot90(laid, way.quarter_turns, (-2, -1))
        laid = laid[::-1] if way.upside_down else laid
        answer = run(np.ascontiguousarray(laid))
        answer = answer[::-1] if way.upside_down else answer
        answer = np.rot90(answer, -way.quarter_turns, (-2, -1))
        answers.append(answer[..., ::-1] if way.mirrored else answer)
    return np.mean(answers, 0), np.std(answers, 0, ddof=1)


@pytest.mark.parametrize(
    ("kind", "ndim", "slices", "shape", "tile"),
    [
        ("conv", 2, 1, (17, 23), (8, 9)),
        ("dilated", 2, 5, (4, 17, 23), (2, 8, 9)),
        ("strided", 2, 1, (3, 24, 32), (1, 8, 16)),
        ("conv", 3, 1, (9, 10, 13), (4, 5, 13)),
        ("shuffle", 3, 1, (7, 9, 8), (4, 9, 4)),
    ],
)
@pytest.mark.parametrize("n", [None, 3, 16])
def test_tiles_give_mean_and_deviation_of_whole_runs(
    make_network, restore_whole, statistics_of, rng, kind, ndim, slices, shape, tile, n
):
    network = make_network(kind, ndim, slices, double=True)
    ways = symmetries(network.spec, (1.0, 1.0))
    if n is not None and n > len(ways):
        n = len(ways)
    array = rng.normal(size=shape)
    statistics = statistics_of(array)
    members = made("tta", [model_of(network)], statistics, n=n)
    ways = ways[: n or 8]
    assert members.facts == tuple(map(str, ways))
    mean, deviation = by_hand(
        lambda laid: restore_whole(network, laid, statistics), array, ways
    )
    assert deviation.max() > 1e-3
    target, deviation = filled(members, array, statistics, tile)
    np.testing.assert_allclose(target, mean, atol=1e-11)
    np.testing.assert_allclose(deviation, deviation, atol=1e-7)
    region = tuple(slice(1, s - 1) for s in shape)
    scale = lay_out(shape, network.spec).scale[3 - len(shape) :]
    part = tuple(slice(s, (m - 1) * s) for m, s in zip(shape, scale, strict=True))
    found = restore_region(members, array, region, statistics=statistics, budget=GB)
    np.testing.assert_allclose(found, mean[part], atol=1e-11)


def test_single_precision_is_as_good_as_torch_on_the_whole(
    make_network, restore_whole, statistics_of, rng
):
    network = make_network("conv", 3)
    array = rng.normal(100, 20, (10, 12, 12)).astype(np.float32)
    statistics = statistics_of(array)
    members = made("tta", [model_of(network)], statistics, n=16)
    mean, deviation = by_hand(
        lambda laid: restore_whole(network, laid, statistics),
        array,
        symmetries(network.spec, (1.0, 1.0)),
    )
    target, deviation = filled(members, array, statistics, (5, 6, 12))
    assert np.abs(target - mean).max() / statistics.std <= 1e-5
    assert np.abs(deviation - deviation).max() / statistics.std <= 1e-5


def test_the_order_of_tiles_changes_nothing(make_network, statistics_of, rng):
    network = make_network("dilated", 2, 3)
    array = rng.normal(size=(3, 20, 20)).astype(np.float32)
    statistics = statistics_of(array)
    members = made("tta", [model_of(network)], statistics)
    one = filled(members, array, statistics, (1, 7, 7))
    last = (slice(2, 3), slice(15, 20), slice(15, 20))
    other = filled(members, array, statistics, (1, 7, 7), priority_region=last)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_equivariant_network_has_no_deviation(statistics_of, rng):
    import torch
    from torch import nn

    from napari_geosr.networks.spec import NetworkSpec

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 1, 1)).eval()
    network.spec = NetworkSpec("YX", (0, 0), (1, 1), (1, 1))
    array = rng.normal(size=(2, 9, 11)).astype(np.float32)
    statistics = statistics_of(array)
    members = made("tta", [model_of(network)], statistics)
    target, deviation = filled(members, array, statistics, (1, 4, 4))
    assert (deviation == 0).all()
    assert target.std() > 0.1


def test_missing_voxels_are_missing_in_both(make_network, statistics_of, rng):
    network = make_network("conv", 3)
    array = rng.normal(size=(6, 8, 8)).astype(np.float32)
    array[2, 3, 4] = np.nan
    members = made("tta", [model_of(network)], statistics_of(array))
    for values in filled(members, array, statistics_of(array), (6, 4, 8)):
        assert np.isnan(values).sum() == 1
        assert np.isnan(values[2, 3, 4])


def test_voxels_and_network_say_which_ways_there_are(make_network):
    flat, deep = make_network("conv", 2), make_network("conv", 3)
    several = make_network("conv", 2, 3)
    assert len(symmetries(flat.spec, (2.0, 2.0))) == 8
    assert len(symmetries(several.spec, (5.0, 2.0, 2.0))) == 16
    assert len(symmetries(deep.spec, (5.0, 2.0, 2.0))) == 16
    for spec, n in ((flat.spec, 4), (deep.spec, 8)):
        narrow = symmetries(spec, (1.0, 1.0, 2.0))
        assert len(narrow) == n
        assert not any(way.quarter_turns % 2 for way in narrow)
    uneven = replace(deep.spec, stride=(1, 2, 1))
    assert len(symmetries(uneven, (1.0, 1.0, 1.0))) == 8
    for ways in (symmetries(deep.spec, (1.0,) * 3), symmetries(flat.spec, (1.0, 1.0))):
        assert len(set(ways)) == len(ways)
        assert str(ways[0]) == "as it is"
        for half in (ways, ways[: len(ways) // 2], ways[:4]):
            assert _is_group(half)


def _is_group(ways) -> bool:
    """Whether the composition of two symmetries is one of them."""
    volume = np.arange(27.0).reshape(3, 3, 3)
    laid = {_laid(volume, way).tobytes() for way in ways}
    twice = {_laid(_laid(volume, a), b).tobytes() for a in ways for b in ways}
    return laid == twice


def _laid(volume, way):
    volume = volume[..., ::-1] if way.mirrored else volume
    volume = np.rot90(volume, way.quarter_turns, (-2, -1))
    return volume[::-1] if way.upside_down else volume


def test_the_reach_of_all_members_is_what_they_declare(
    make_network, statistics_of, rng
):
    network = make_network("conv", 2)
    network.spec = replace(network.spec, halo=(3, 5))
    members = made("tta", [model_of(network)], statistics_of(rng.normal(size=(9, 9))))
    assert members.spec.halo == (5, 5)
    assert members.spec.n_outputs == 2
    network.spec = replace(network.spec, halo=(3, 3))
    members = made("tta", [model_of(network)], statistics_of(rng.normal(size=(9, 9))))
    check_spec(members)


def test_more_members_than_ways_are_refused(make_network, statistics_of, rng):
    statistics = statistics_of(rng.normal(size=(9, 9)))
    network = make_network("conv", 2)
    with pytest.raises(
        ConfigError, match="4 members .* 1 × 2, not 8: set .* at most 4"
    ):
        made("tta", [model_of(network)], statistics, (1.0, 2.0), 8)


def test_models_of_other_planes_and_scales_make_an_ensemble(
    make_network, restore_whole, statistics_of, rng
):
    one, two = make_network("conv", 2, 3, double=True), make_network("dilated", 2, 1)
    two = two.double()
    array = rng.normal(40, 7, (4, 16, 15))
    statistics = statistics_of(array)
    own = SimpleNamespace(
        kind="stored", mean=30.0, std=5.0, output_mean=3, output_std=2
    )
    models = [model_of(one), model_of(two, "b", normalisation=own)]
    members = made("ensemble", models, statistics)
    assert members.facts == ("a", "b")
    assert members.spec.halo == (6, 6)
    assert members.spec.adjacent_slices == 3
    scaled = replace(statistics, mean=30.0, std=5.0)
    second = (restore_whole(two, array, scaled) - 30) / 5 * 2 + 3
    answers = [restore_whole(one, array, statistics), second]
    target, deviation = filled(members, array, statistics, (2, 7, 15))
    np.testing.assert_allclose(target, np.mean(answers, 0), atol=1e-9)
    np.testing.assert_allclose(deviation, np.std(answers, 0, ddof=1), atol=1e-9)
    two.float()


@pytest.mark.parametrize("kind", ["tta", "ensemble"])
def test_members_that_cut_large_windows_need_no_memory_for_whole_ones(
    make_network, statistics_of, rng, kind
):
    import torch

    edge, whole = 192, (384, 576)

    class Cutting(torch.nn.Module):
        """Piece by piece, like networks that use their entire input."""

        def __init__(self) -> None:
            super().__init__()
            inner = make_network("conv", 2)
            self.inner, self.spec = inner, replace(inner.spec, at_once=edge**2)

        def forward(self, x):
            y = torch.empty_like(x)
            for part, into in zip(x.split(edge, -1), y.split(edge, -1), strict=True):
                for a, b in zip(
                    part.split(edge, -2), into.split(edge, -2), strict=True
                ):
                    b.copy_(self.inner(a))
            return y

    statistics = statistics_of(rng.normal(size=(9, 9)))
    one, two = Cutting(), Cutting()
    members = made(kind, [model_of(one), model_of(two, "b")], statistics, (1.0, 1.0))
    assert members.spec.at_once == edge**2
    n = whole[0] * whole[1]
    planned = measure_cost(members).counted(n)
    assert count_storage(members, whole) <= planned
    assert planned < measure_cost(one).counted(edge**2) + 40 * n
    if kind == "ensemble":  # a network that does not split windows needs everything
        models = [model_of(one), model_of(make_network("conv", 2), "b")]
        assert made(kind, models, statistics).spec.at_once is None


def test_models_that_do_not_go_together_are_refused(make_network, statistics_of, rng):
    statistics = statistics_of(rng.normal(size=(9, 9)))
    flat, deep = make_network("conv", 2), make_network("conv", 3)
    for other, reason in (
        (model_of(deep, "b"), "axes differs"),
        (model_of(flat, "b", task="segment"), "task differs"),
        (model_of(flat), "'a' is given twice"),
    ):
        with pytest.raises(ConfigError, match=reason):
            made("ensemble", [model_of(flat), other], statistics)


def test_a_run_needs_a_place_for_what_the_network_gives(
    make_network, statistics_of, rng
):
    network = make_network("conv", 2)
    array = rng.normal(size=(9, 9)).astype(np.float32)
    statistics = statistics_of(array)
    members = made("tta", [model_of(network)], statistics)
    target = np.empty_like(array)
    for given, deviation in ((members, None), (network, target.copy())):
        with pytest.raises(ModelError, match="an output array for standard deviations"):
            run_to_end(
                restore_tiles(
                    given,
                    array,
                    target,
                    deviation=deviation,
                    statistics=statistics,
                    budget=GB,
                )
            )


def test_every_kind_is_found_by_its_file():
    assert KINDS.names() == ["diffusion", "ensemble", "tta"]
    for name in KINDS.names():
        kind = KINDS.load(name)
        assert kind.TITLE
        assert kind.HELP
        assert kind.NEEDS_OTHERS in (True, False)
