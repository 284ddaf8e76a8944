"""The index of training patches: its size, its distances, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from napari_geosr.core.errors import ModelError
from napari_geosr.models import bundle
from napari_geosr.models.similarity import (
    MAX_INDEX_BYTES,
    MAX_SOURCES,
    SIMILARITY_FILE,
    PatchSource,
    SimilarityIndex,
    build_index,
)

EDGE = (1, 16, 16)


def source(name: str = "scan_a.tif") -> PatchSource:
    return PatchSource(name=name, voxel_size=(4, 2, 2), origin=(1, 2, 3), unit="µm")


def made(n: int = 40, maps: int = 12, sources: int = 1) -> SimilarityIndex:
    """Features of patches in a row, too far apart to overlap."""
    rng = np.random.default_rng(0)
    places = np.zeros((n, 4), int)
    places[:, 0] = np.arange(n) % sources
    places[:, 3] = 20 * np.arange(n)
    found = rng.normal(5, 2, (n, maps))
    names = [source(f"{i:04}" * 20) for i in range(sources)]
    return build_index(found, places, EDGE, names if sources > 1 else [source()])


def test_the_largest_index_fits() -> None:
    index = made(5000, 3000, MAX_SOURCES)
    content = index.to_bytes()
    assert 0.9 * MAX_INDEX_BYTES < len(content) <= MAX_INDEX_BYTES
    assert len(index.features) > 1800
    again = SimilarityIndex.from_bytes(content, "x")
    assert again.sources == index.sources
    assert np.array_equal(again.features, index.features)
    assert again.to_bytes() == content


def test_distances_are_in_units_of_the_median_between_patches() -> None:
    """Features along a line at a distance of 1, so that neighbours are equally far
    apart.
    """
    n = 30
    maps = np.stack([np.arange(n), -np.arange(n)], axis=1).astype(float)
    places = np.zeros((n, 4), int)
    places[:, 1] = 20 * np.arange(n)
    index = build_index(maps, places, EDGE, [source()])
    assert index.distances == pytest.approx(float(index.distances[0]), rel=1e-2)
    nearest = index.nearest(maps[7] + [0.25, -0.25], 3)
    assert [patch.corner[0] for patch in nearest] == [140, 160, 120]
    distances = [patch.distance for patch in nearest]
    assert distances == pytest.approx([0.25, 0.75, 1.25], abs=0.02)
    assert nearest[0].position == (1 + 4 * 140, 2 + 2 * 7.5, 3 + 2 * 7.5)


def test_patches_that_overlap_are_not_neighbours() -> None:
    """Adjacent duplicates would make every other patch look unusual."""
    rng = np.random.default_rng(0)
    maps = np.repeat(rng.normal(0, 1, (20, 6)), 2, axis=0)
    places = np.zeros((40, 4), int)
    places[:, 3] = np.repeat(100 * np.arange(20), 2) + np.tile([0, 8], 20)
    index = build_index(maps, places, EDGE, [source()])
    assert index.distances[0] > 0.5
    places[:, 3] = 40 * np.arange(40)
    assert build_index(maps, places, EDGE, [source()]).distances[0] < 0.01


def test_what_never_varied_in_training_is_noticed() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(0, 1, (60, 8))
    maps[:, 5] = 0.0  # no training patch activates this map
    places = np.zeros((60, 4), int)
    places[:, 3] = 20 * np.arange(60)
    index = build_index(maps, places, EDGE, [source()])
    other = maps[0].copy()
    assert index.verdict(index.nearest(other)[0].distance) == "similar"
    other[5] = 1.0
    assert index.verdict(index.nearest(other)[0].distance) == "unlike"


def test_verdicts_follow_the_percentiles() -> None:
    index = made()
    middle, high, highest = index.distances
    assert index.verdict(0.99 * high / middle) == "similar"
    assert index.verdict((high + highest) / 2 / middle) == "unusual"
    assert index.verdict(1.01 * highest / middle) == "unlike"


def test_too_few_or_equal_patches_make_no_index() -> None:
    with pytest.raises(ModelError, match="only 7 patches"):
        made(7)
    with pytest.raises(ModelError, match="do not differ"):
        build_index(np.ones((9, 4)), np.zeros((9, 4), int), EDGE, [source()])


def _text(**changes: Any) -> str:
    values = {"edge": list(EDGE), "sources": [source().model_dump()]}
    return json.dumps(values | changes)


def _with_value(name: str, value: float) -> Callable[[dict[str, Any]], None]:
    def change(arrays: dict[str, Any]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].flat[4 % arrays[name].size] = value

    return change


def _swap(**arrays: Any) -> Callable[[dict[str, Any]], None]:
    return lambda all_arrays: all_arrays.update(arrays)


DAMAGED = {
    "values that are NaN or infinite": _with_value("features", np.nan),
    "mean has values that are NaN": _with_value("mean", np.inf),
    "outside the training volumes": _with_value("places", 9),
    "outside the training volumes ": _with_value("places", -1),
    "not positive": _with_value("std", 0.0),
    "not positive ": _swap(distances=np.array([2, 1, 3], "f4")),
    "shape": _swap(places=np.zeros((40, 3), "i4")),
    "wrong number of axes": _swap(features=np.zeros(40, "f2")),
    "float64": _swap(features=np.zeros((40, 12), "f8")),
    "it contains": lambda arrays: arrays.pop("mean"),
    "2 patches": _swap(features=np.ones((2, 12), "f2"), places=np.zeros((2, 4), "i4")),
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_a_damaged_index_is_refused_in_a_sentence(reason: str) -> None:
    index = made()
    names = ("features", "places", "mean", "std", "projection", "distances")
    arrays: dict[str, Any] = {name: getattr(index, name) for name in names}
    DAMAGED[reason](arrays)
    content = save(arrays, metadata={"sources": _text()})
    with pytest.raises(ModelError, match=reason.strip()) as error:
        SimilarityIndex.from_bytes(content, "m/similarity.safetensors")
    message = str(error.value)
    assert message.startswith("m/similarity.safetensors is not a similarity index (")
    assert "\n" not in message


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "{",
        _text(edge=[0, 1, 1]),
        _text(edge=[1, 1]),
        _text(sources=[]),
        _text(sources=[{"name": "a"}]),
        _text(sources=[source().model_dump() | {"origin": [float("nan")] * 3}]),
        _text(sources=[source().model_dump()] * (MAX_SOURCES + 1)),
        _text(extra=1),
    ],
)
def test_a_damaged_list_of_volumes_is_refused(text: str) -> None:
    index = made()
    names = ("features", "places", "mean", "std", "projection", "distances")
    arrays = {name: getattr(index, name) for name in names}
    assert SimilarityIndex.from_bytes(save(arrays, metadata={"sources": _text()}), "x")
    for metadata in ({"sources": text}, {"other": text}, None):
        with pytest.raises(ModelError, match="x is not a similarity index"):
            SimilarityIndex.from_bytes(save(arrays, metadata=metadata), "x")


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x80\x04K\x01.", b"\xff" * 99])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(ModelError, match="x is not a similarity index"):
        SimilarityIndex.from_bytes(content, "x")


def test_a_file_that_is_too_large_is_not_read(tiny: Path) -> None:
    model = bundle.load(tiny)
    bundle.save(tiny, model.card, model.network(), similarity=made())
    (tiny / SIMILARITY_FILE).write_bytes(b"\0" * (MAX_INDEX_BYTES + 1))
    with pytest.raises(ModelError, match=r"the limit in a model bundle is 150 kB"):
        bundle.load(tiny).similarity_index()
    with pytest.raises(ModelError, match="at most 150,000"):
        SimilarityIndex.from_bytes(b"\0" * (MAX_INDEX_BYTES + 1), "x")


def test_a_bundle_with_an_index_is_checked_whole(tiny: Path) -> None:
    model = bundle.load(tiny)
    plain = {path.name: path.read_bytes() for path in tiny.iterdir()}
    card = bundle.save(tiny, model.card, model.network(), similarity=made())
    assert card.similarity_sha256 is not None
    assert bundle.verify(tiny).similarity_sha256 == card.similarity_sha256
    assert set(bundle.contents(tiny)) == {*plain, SIMILARITY_FILE}
    index = bundle.load(tiny).similarity_index()
    assert index is not None
    assert index.sources == (source(),)
    (tiny / SIMILARITY_FILE).unlink()
    for check in (bundle.verify, lambda path: bundle.check_weights(bundle.load(path))):
        with pytest.raises(ModelError, match=f"has no {SIMILARITY_FILE}"):
            check(tiny)
    # Saved again without an index, the bundle is identical to the original, byte by
    # byte.
    bundle.save(tiny, model.card, model.network())
    assert {path.name: path.read_bytes() for path in tiny.iterdir()} == plain


def test_an_index_of_another_network_is_refused() -> None:
    with pytest.raises(ModelError, match="12 feature maps, but the network has 9"):
        made().nearest(np.zeros(9))


def test_fields_belong_together() -> None:
    index = made()
    with pytest.raises(ModelError, match="projection is"):
        replace(index, projection=index.projection[:, :3])
