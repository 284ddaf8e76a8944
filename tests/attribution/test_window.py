"""The window gives the same values as a restoration, and gradients end at the scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_geosr.core.errors import Cancelled, ModelError, VolumeError
from napari_geosr.inference.runner import restore_region

from .conftest import (
    ask,
    linear_network,
    relu_network,
    request_at,
    scene_of,
    statistics_of,
    with_spec,
)


@pytest.mark.parametrize(
    ("ndim", "slices", "shape"),
    [(2, 1, (30, 34)), (2, 1, (5, 30, 34)), (2, 5, (7, 30, 34)), (3, 1, (14, 18, 20))],
)
def test_values_are_those_of_a_restoration(
    ndim: int, slices: int, shape: tuple[int, ...], scan: Any
) -> None:
    array = scan(*shape)
    network, statistics = relu_network(ndim, slices), statistics_of(array)
    scene = scene_of(network, array)
    whole = restore_region(
        network,
        array,
        tuple(slice(0, n) for n in shape),
        statistics=statistics,
        budget=1 << 30,
        threads=1,
    )
    for at in ((0,) * len(shape), tuple(n // 2 for n in shape)):
        window = request_at(scene, *at).window
        assert window.grey(window.values()).item() == pytest.approx(whole[at], rel=1e-5)


@pytest.mark.parametrize("at", [(0, 0, 0), (3, 15, 20), (6, 29, 33)])
def test_gradients_beyond_the_border_are_those_of_the_reflected_voxels(
    at: tuple[int, int, int], scan: Any
) -> None:
    """Compared with differences of restorations of changed scans."""
    array = scan(7, 30, 34).astype(np.float64)
    network = relu_network(2, 5).double()
    statistics = statistics_of(array)
    finding = ask("filter", request_at(scene_of(network, array), *at))
    overlay = finding.overlay
    assert overlay is not None

    def restored(voxels: np.ndarray) -> float:
        request = request_at(scene_of(network, voxels, statistics), *at)
        return float(request.window.grey(request.window.values()).item())

    rng = np.random.default_rng(1)
    for _ in range(12):
        place = tuple(int(rng.integers(p.start, p.stop)) for p in overlay.place)
        sides = []
        for step in (1e-3, -1e-3):
            changed = array.copy()
            changed[place] += step
            sides.append(restored(changed))
        local = tuple(i - p.start for i, p in zip(place, overlay.place, strict=True))
        slope = (sides[0] - sides[1]) / 2e-3
        assert overlay.values[local] == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("method", ["filter", "reach", "lam"])
def test_a_big_volume_gives_the_attribution_of_a_small_one(
    method: str, scan: Any
) -> None:
    """Tiled equals whole: only the halo matters, wherever the volume ends."""
    big = scan(20, 60, 64)
    small = big[4:16, 10:44, 12:50]
    statistics = statistics_of(big)
    network = relu_network(2, 5)
    there = ask(method, request_at(scene_of(network, big, statistics), 10, 27, 31))
    here = ask(method, request_at(scene_of(network, small, statistics), 6, 17, 19))
    assert there.overlay is not None
    assert here.overlay is not None
    np.testing.assert_allclose(
        there.overlay.values, here.overlay.values, rtol=1e-5, atol=1e-7
    )
    moved = [
        p.start - q.start
        for p, q in zip(there.overlay.place, here.overlay.place, strict=True)
    ]
    assert moved == [4, 10, 12]


def test_only_the_halo_is_read(scan: Any) -> None:
    class Watched:
        """Records which parts of it are read."""

        def __init__(self, array: np.ndarray) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype
            self.ndim, self.read = array.ndim, np.zeros(array.shape, bool)

        def __getitem__(self, key: Any) -> np.ndarray:
            self.read[key] = True
            found: np.ndarray = self.array[key]
            return found

    array = scan(24, 80, 80)
    watched = Watched(array)
    request = request_at(
        scene_of(relu_network(3), watched, statistics_of(array)), 12, 40, 40
    )
    ask("filter", request)
    assert watched.read.sum() == 9**3
    assert watched.read[8:17, 36:45, 36:45].all()


def test_nan_around_the_voxel_is_counted_and_gets_what_the_network_saw(
    scan: Any,
) -> None:
    array = scan(20, 22)
    array[3, 4] = np.nan
    request = request_at(scene_of(relu_network(), array), 4, 6)
    assert request.window.n_missing == 1
    finding = ask("filter", request)
    assert finding.overlay is not None
    assert np.isfinite(finding.overlay.values).all()


def test_a_wish_to_stop_is_heard(scan: Any) -> None:
    scene = scene_of(relu_network(), scan(20, 22), should_stop=lambda: True)
    with pytest.raises(Cancelled):
        ask("filter", request_at(scene, 4, 6))


def test_places_outside_and_members_are_refused(scan: Any) -> None:
    array = scan(20, 22)
    with pytest.raises(VolumeError, match="is not inside the result"):
        ask("reach", request_at(scene_of(relu_network(), array), 20, 3))
    members = with_spec(relu_network(), 4, n_outputs=2)
    with pytest.raises(ModelError, match="cannot be explained"):
        ask("reach", request_at(scene_of(members, array), 2, 3))


def test_networks_that_see_too_much_are_refused(
    scan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.attribution._window._MAX_VOXELS", 20)
    with pytest.raises(ModelError, match="too many to explain"):
        ask("reach", request_at(scene_of(linear_network(), scan(20, 22)), 5, 5))
