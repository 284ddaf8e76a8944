from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.provenance import array_checksum
from napari_geosr.physics import simulated
from napari_geosr.physics.simulated import Cache, ObjectKind, open_simulated


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of simulated fluorescence phantoms, with an empty cache."""
    made: list[int] = []

    def simulate(number: int) -> tuple[simulated.FloatArray, ...]:
        made.append(number)
        return simulated.fluo(number)

    monkeypatch.setitem(simulated.KINDS, "fluo", ObjectKind(simulate, 3))
    monkeypatch.setattr(simulated, "_cache", Cache())
    return made


def read(name: str) -> np.ndarray:
    (volume,) = open_simulated(name)
    return np.asarray(volume.data[:])


def test_volumes_are_simulated_when_read_and_once(counted: list[int]) -> None:
    noisy = open_simulated("simulated:fluo:0-99999")
    clean = open_simulated("simulated:fluo-clean:3-4")
    assert len(noisy) == 100_000
    assert noisy[3].name == "simulated:fluo:3"
    assert counted == []
    assert {v.axes for v in noisy[:3]} == {"ZYX", "YX"}
    assert noisy[3].data[4, 2:6, :].shape == (4, 128)
    assert counted == [3]
    assert clean[0].data[:].shape == noisy[3].shape
    assert counted == [3]


@pytest.mark.every(3)
@pytest.mark.parametrize("kind", sorted(simulated.KINDS))
@pytest.mark.parametrize("number", [7, pytest.param(11, marks=pytest.mark.slow)])
def test_a_volume_is_a_function_of_its_number(
    kind: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (volume,) = open_simulated(f"simulated:{kind}:{number}-{number}")
    first = np.asarray(volume.data[:])
    assert first.shape == volume.shape
    assert first.dtype == volume.dtype == np.float32
    assert len(volume.axes) == first.ndim
    assert np.isfinite(first).all()
    assert first.mean() == pytest.approx(0, abs=1e-3)
    assert first.std() == pytest.approx(1, abs=1e-3)
    monkeypatch.setattr(simulated, "_cache", Cache())
    name = f"simulated:{kind}:{number}-{number}"
    np.testing.assert_array_equal(read(name), first)
    assert not np.array_equal(read(f"simulated:{kind}:0-0"), first)


@pytest.mark.parametrize(("kind", "number"), [("ct-scan", 10), ("fluo", 9)])
def test_pairs_show_the_same_object_with_independent_noise(
    kind: str, number: int
) -> None:
    noisy, again, clean = (
        read(f"simulated:{kind}{ending}:{number}-{number}")
        for ending in ("", "-again", "-clean")
    )
    a, b = noisy - clean, again - clean
    assert a.std() > 0.05
    assert b.std() == pytest.approx(a.std(), rel=0.05)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    assert abs(a.mean()) < 0.02
    # The noise is uncorrelated with the clean scan.
    assert abs(np.corrcoef(a.ravel(), clean.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("kind", "factor"), [("foam-scan", 1), ("foam-coarse", 2)])
def test_objects_are_sharp_and_in_the_place_of_their_scans(
    kind: str, factor: int
) -> None:
    for number in (0, 1):
        scan = read(f"simulated:{kind}:{number}-{number}")
        (volume,) = open_simulated(f"simulated:{kind}-object:{number}-{number}")
        fine = np.asarray(volume.data[:])
        assert volume.shape == fine.shape == tuple(factor * n for n in scan.shape)
        cells = [m for n in scan.shape for m in (n, factor)]
        coarse = fine.reshape(cells).mean(axis=(1, 3, 5))
        # No shift of the object explains the scan better.
        here = np.corrcoef(scan.ravel(), coarse.ravel())[0, 1]
        moved = [
            np.corrcoef(scan.ravel(), np.roll(coarse, step, axis).ravel())[0, 1]
            for axis in range(3)
            for step in (-1, 1)
        ]
        assert here > max(moved)


def test_the_cache_is_bounded_and_keeps_what_was_used_last(
    counted: list[int],
) -> None:
    one = 3 * 4 * 16 * 128 * 128
    cache = Cache(2 * one)
    cache.get("fluo", 0)
    cache.get("fluo", 1)
    cache.get("fluo", 0)
    cache.get("fluo", 3)
    assert counted == [0, 1, 3]
    cache.get("fluo", 0)
    assert counted == [0, 1, 3]
    cache.get("fluo", 1)
    assert counted == [0, 1, 3, 1]
    with pytest.raises(ValueError, match="read-only"):
        cache.get("fluo", 1)[0][0] = 0


def test_threads_simulate_a_volume_once(counted: list[int]) -> None:
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(read("simulated:fluo:4-4")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [4]
    assert all(np.array_equal(r, results[0]) for r in results)


def test_checksums_need_one_volume_alone(counted: list[int]) -> None:
    volumes = open_simulated("simulated:fluo:0-127")
    first = array_checksum(volumes[1].data)
    assert first.startswith("crc32-sampled:")
    assert first != array_checksum(volumes[0].data)
    assert counted == [1, 0]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("simulated:foam:0-3", "ct-scan, ct-scan-again, ct-scan-clean, fluo"),
        ("simulated:", "give a kind"),
        ("simulated:fluo", "first and the last"),
        ("simulated:fluo:5-3", "first and the last"),
        ("simulated:fluo:3", "give a kind"),
    ],
)
def test_wrong_names_are_explained(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_simulated(name)


def test_opening_simulates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[str, int]] = []

    def get(_: Cache, *which: str | int) -> list[np.ndarray]:
        made.append(which)
        return [np.zeros(3)] * 3

    monkeypatch.setattr(Cache, "get", get)
    volumes = open_simulated("simulated:ct-scan:0-999")
    assert made == []
    volumes[7].data[:]
    assert made == [("ct-scan", 7)]


@pytest.mark.parametrize(
    ("kind", "factors"),
    [
        ("foam-coarse", (2, 2, 2)),
        ("foam-coarse-4", (4, 4, 4)),
        ("bone-coarse-8", (8, 8, 8)),
        ("fluo-coarse", (1, 2, 2)),
    ],
)
def test_finer_objects_lie_where_their_scans_do(
    kind: str, factors: tuple[int, ...]
) -> None:
    coarse, fine = (read(f"simulated:{kind}{e}:3-3") for e in ("", "-object"))
    assert fine.shape == tuple(
        f * n for f, n in zip(factors, coarse.shape, strict=True)
    )
    z, y, x = coarse.shape
    a, b, c = factors
    means = fine.reshape(z, a, y, b, x, c).mean((1, 3, 5))

    def likeness(shift: int, axis: int) -> float:
        moved = np.roll(means, shift, axis)[1:-1, 1:-1, 1:-1]
        return float(np.corrcoef(moved.ravel(), coarse[1:-1, 1:-1, 1:-1].ravel())[0, 1])

    assert likeness(0, 0) > 0.5
    for axis in (i for i, factor in enumerate(factors) if factor > 1):
        assert likeness(0, axis) > max(likeness(1, axis), likeness(-1, axis))
        assert likeness(1, axis) == pytest.approx(likeness(-1, axis), abs=0.1)
