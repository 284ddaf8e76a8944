"""Blind spots reveal nothing; structured masks; assumptions on the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods.noise2void import Config, Method
from napari_geosr.learning.sampling.blind_spots import (
    BlindSpots,
    _random_visible,
    line_offsets,
)
from napari_geosr.learning.sampling.patches import Patches

MASKS = [
    {"dimensions": "2D"},
    {"dimensions": "2.5D", "replacement": "median"},
    {"dimensions": "2.5D", "mask_axis": "z", "mask_length": 3},
    {"dimensions": "2D", "mask_axis": "x", "mask_length": 7},
    {"dimensions": "3D", "mask_axis": "cross"},
    {"dimensions": "3D", "replacement": "median", "mask_axis": "y", "mask_length": 3},
]


def make(data: np.ndarray, **values: Any) -> tuple[Method, Patches]:
    options = {"patch": 16, "sampling": "uniform", "layers": 3, "width": 2}
    config = Config.create(source=["a"], **(options | values))
    method = Method(config)
    return method, Patches({"source": [Volume(data, "ZYX")]}, config)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(24, 40, 48))


@pytest.mark.parametrize("values", MASKS)
def test_a_hidden_voxel_sees_nothing_of_itself(
    noise: np.ndarray, values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output at a masked voxel does not depend on the value of that voxel.

    The patch is changed at the voxel before it is masked with the same random numbers,
    and a network with random weights is run on both.
    """
    torch.manual_seed(0)
    method, patches = make(noise, **values)
    network = method.build()["network"].double().eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)

    def drawn(change: tuple[int, ...] | None = None, by: float = 0.0) -> dict[str, Any]:
        with monkeypatch.context() as context:

            def changed(*args: Any, **kwargs: Any) -> dict[str, Any]:
                found = Patches.draw(patches, *args, **kwargs)
                if change is not None:
                    middle = found["source"].shape[0] // 2
                    found["source"][(middle, *change[1:])] += by
                return found

            context.setattr(patches, "draw", changed)
            return method.draw(patches, np.random.default_rng(7))

    first = drawn()
    places = np.argwhere(first["mask"] > 0)
    assert len(places) >= 4
    for place in map(tuple, places[:: max(1, len(places) // 6)]):
        second = drawn(place, by=3.0)
        assert second["target"][place] == first["target"][place] + 3.0
        assert np.array_equal(second["mask"], first["mask"])
        assert np.array_equal(second["source"], first["source"])
        x = torch.from_numpy(second["source"]).double()[None].requires_grad_(True)
        output = network(x)[(0, *place)]
        # The chain rule, from the value of the voxel through the drawn array.
        (gradient,) = torch.autograd.grad(output, x)
        moved = torch.from_numpy(second["source"] - first["source"]).double() / 3.0
        assert float(gradient.abs().sum()) > 0
        assert float((gradient[0] * moved).sum()) == 0.0


@pytest.mark.parametrize("values", MASKS)
def test_the_masked_share_and_what_stands_in(
    noise: np.ndarray, values: dict[str, Any]
) -> None:
    method, patches = make(noise, **values)
    drawn = method.draw(patches, np.random.default_rng(1))
    shape = drawn["target"].shape
    assert drawn["mask"].shape == shape
    assert 0.013 <= drawn["mask"].mean() <= 0.022
    middle = drawn["source"].shape[0] // 2
    given = drawn["source"][middle : middle + 1]
    hidden = drawn["mask"] > 0
    assert (given[hidden] != drawn["target"][hidden]).all()
    if values.get("mask_axis", "none") == "none":
        assert np.array_equal(given[~hidden], drawn["target"][~hidden])


ENDS = [(z, axis) for z in (0, 1, 2, 22, 23, None) for axis in ("none", "z")]


@pytest.mark.parametrize(("z", "axis"), ENDS)
def test_no_other_channel_shows_a_hidden_voxel(
    noise: np.ndarray, z: int | None, axis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near the ends of a volume, and in an image, slices occur more than once.

    The volume itself is changed, so that every copy changes.
    """
    data = noise if z is not None else noise[3].copy()
    config = Config.create(
        source=["a"],
        patch=16,
        sampling="uniform",
        augment=False,
        adjacent_slices=5,
        mask_axis=axis,
        mask_length=3,
    )
    method = Method(config)
    patches = Patches({"source": [Volume(data, "ZYX"[3 - data.ndim :])]}, config)
    place = (9, 11) if z is None else (z, 9, 11)
    monkeypatch.setattr(patches, "_place", lambda *_: place)
    first = method.draw(patches, np.random.default_rng(7))
    for _, y, x in np.argwhere(first["mask"] > 0):
        key = (*place[:-2], 9 + y, 11 + x)
        before, data[key] = data[key], 50.0
        second = method.draw(patches, np.random.default_rng(7))
        data[key] = before
        assert second["target"][0, y, x] > 20
        assert np.array_equal(second["source"], first["source"])


def test_slices_follow_the_turning_of_their_channels(noise: np.ndarray) -> None:
    noise[:] = np.arange(24.0)[:, None, None]
    _, patches = make(noise, adjacent_slices=5)
    for seed in range(12):
        drawn = patches.draw(np.random.default_rng(seed), ("source",), slices=True)
        shown = patches.grey["source"].restore(drawn["source"][:, :1, :1])
        assert np.allclose(shown, drawn["slices"], atol=1e-4)


def test_uniform_takes_neighbours_that_are_not_hidden(rng: np.random.Generator) -> None:
    patch = np.arange(32 * 32, dtype=np.float32).reshape(1, 32, 32)
    spots = BlindSpots(2, 0.1, "uniform")
    hidden, chosen = spots.hide(patch, rng)
    taken = hidden[chosen].astype(int)
    places = np.argwhere(chosen[0])
    assert np.abs(np.stack(np.divmod(taken, 32), 1) - places).max() <= 5
    assert not chosen.ravel()[taken].any()


def test_median_by_hand() -> None:
    """The median of all other voxels if the patch lies within one neighbourhood."""
    patch = np.array([[1, 2, 30], [4, 5, 60], [7, 8, 90]], np.float32)[None]
    hidden, chosen = BlindSpots(2, 1 / 9, "median").hide(
        patch, np.random.default_rng(0)
    )
    assert chosen.sum() == 1
    assert hidden[chosen] == np.median(patch[~chosen])


def test_lines() -> None:
    assert line_offsets("none", 5, 2) == ()
    assert line_offsets("x", 5, 2) == ((0, 0, -2), (0, 0, -1), (0, 0, 1), (0, 0, 2))
    assert set(line_offsets("cross", 3, 2)) == {
        (0, -1, 0),
        (0, 1, 0),
        (0, 0, -1),
        (0, 0, 1),
    }
    assert len(line_offsets("cross", 3, 3)) == 6


def test_a_line_is_hidden_as_a_whole(rng: np.random.Generator) -> None:
    patch = rng.normal(size=(1, 32, 32)).astype(np.float32)
    spots = BlindSpots(2, 1 / 64, "uniform", line_offsets("x", 5, 2))
    hidden, chosen = spots.hide(patch, rng)
    changed = hidden != patch
    for _, y, x in np.argwhere(chosen):
        assert changed[0, y, max(0, x - 2) : x + 3].all()
    assert changed.sum() > 4 * chosen.sum()


def test_the_loss_is_that_of_masked_voxels_alone() -> None:
    method = Method(Config.create(source=["a"], dimensions="2D", layers=2))
    method.modules = {"network": torch.nn.Identity()}
    source = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None].repeat(2, 1, 1, 1)
    mask = torch.zeros(2, 1, 2, 2)
    mask[0, 0, 0, 1] = mask[1, 0, 1, 0] = mask[1, 0, 1, 1] = 1
    batch = {"source": source, "target": torch.zeros_like(source), "mask": mask}
    expected = (2.0**2 + (3.0**2 + 4.0**2) / 2) / 2
    assert float(method.loss(batch)[0]) == expected


def test_the_input_is_not_passed_on_unless_asked_for() -> None:
    plain = Method(Config.create(source=["a"]))
    asked = Method(Config.create(source=["a"], network_options={"residual": True}))
    assert plain.network_kwargs()["residual"] is False
    assert asked.network_kwargs()["residual"] is True


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": ["b"]}, "remove --target"),
        ({"mask_axis": "z", "dimensions": "2D"}, "no neighbours along Z"),
    ],
)
def test_what_does_not_fit_is_said(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Method.check(Config.create(source=["a"], **values))
    with pytest.raises(ConfigError, match="odd"):
        Config.create(source=["a"], mask_length=4)


def test_axes_along_which_noise_must_be_independent() -> None:
    def along(**values: Any) -> str:
        return Method(Config.create(source=["a"], **values)).independent_noise_along()

    assert along() == "xyz"
    assert along(mask_axis="x") == "yz"
    assert along(mask_axis="cross") == "z"
    assert along(mask_axis="cross", dimensions="3D") == ""


@pytest.mark.parametrize("replacement", ["uniform", "median"])
def test_a_slice_hidden_as_a_whole_is_said(
    rng: np.random.Generator, replacement: Any
) -> None:
    """Hidden voxels are only in the middle one of five slices."""
    lines = line_offsets("cross", 31, 2)
    spots = BlindSpots(2, 0.5, replacement, lines)
    with pytest.raises(ConfigError, match="hides whole"):
        spots.hide(rng.normal(size=(5, 16, 16)), rng)


def test_the_one_voxel_that_is_left_is_found(rng: np.random.Generator) -> None:
    patch = rng.normal(size=(3, 64, 64))
    blind = np.zeros(patch.shape, bool)
    blind[1] = True
    blind[1, 0, 0] = False
    every = np.argwhere(blind)
    values = _random_visible(patch, blind, every, np.array((0, 5, 5)), rng)
    assert (values == patch[1, 0, 0]).all()


@pytest.mark.parametrize(
    ("axis", "turns"),
    [("x", False), ("y", False), ("none", True), ("cross", True), ("z", True)],
)
def test_noise_along_one_axis_is_never_turned_into_the_other(
    axis: str, turns: bool
) -> None:
    """Structure that is constant along Y remains so; otherwise, a hidden line would
    hide nothing.
    """
    columns = np.random.default_rng(0).normal(size=48)
    stripes = np.broadcast_to(columns, (24, 48, 48)).copy()
    method, patches = make(stripes, mask_axis=axis, mask_length=3, augment=True)
    rng = np.random.default_rng(1)
    targets = [method.draw(patches, rng)["target"][0] for _ in range(24)]
    turned = [bool(np.ptp(t, axis=0).max() > 1e-6) for t in targets]
    assert any(turned) is turns
    if turns:
        assert not all(turned)
