"""The expected result of reading a generated file, and how it is checked."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from napari_geosr import io
from napari_geosr.core.volume import Volume

Array = np.ndarray[Any, Any]

LETTERS = "TCZYX"
#: Plausible voxel edges, in units that all formats support.
EDGES = st.sampled_from([1.1, 1.3, 2.0, 2.75, 7.0])
UNITS = {"µm": "µm", "um": "µm", "micrometer": "µm", "nm": "nm", "mm": "mm"}
DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"]


def examples(n: int) -> settings:
    """This number of examples, or that in ``GEOSR_FUZZ``; without a time limit."""
    asked = os.environ.get("GEOSR_FUZZ")
    return settings(
        max_examples=n if asked is None else int(asked),
        deadline=None,
        derandomize=asked is None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True)
class Expected:
    """Contents of a file: voxels, and geometry by axis if there is any."""

    voxels: Array
    axes: str
    size: Mapping[str, float] = field(default_factory=dict)
    unit: str = "pixel"
    origin: Mapping[str, float] = field(default_factory=dict)


def voxels(draw: st.DrawFn, shape: tuple[int, ...], dtype: str) -> Array:
    """Random voxels with any value of the type."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    kind = np.dtype(dtype)
    if kind.kind == "f":
        made: Array = (rng.normal(0, 1000, shape)).astype(kind)
        return made
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    limits = np.iinfo(kind)
    made = rng.integers(limits.min, limits.max, shape, endpoint=True, dtype=kind.type)
    return made.astype(kind)


def ordered(array: Array, axes: str) -> tuple[Array, str]:
    """Axes in the order T, C, Z, Y, X, without those of length one except Y and X."""
    kept = [a for a in LETTERS if a in axes]
    moved = array.transpose([axes.index(a) for a in kept])
    short = [i for i, a in enumerate(kept) if a not in "YX" and moved.shape[i] == 1]
    left = [a for i, a in enumerate(kept) if i not in short]
    return moved.squeeze(tuple(short)), "".join(left)


@contextmanager
def nothing_at_once() -> Iterator[None]:
    """Read lazily, whatever the size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
        patch.setattr("napari_geosr.io.arrangement.EAGER_BYTES", 0)
        yield


def check(
    path: Path, expected: Expected, draw: Any, dataset: str | None = None
) -> None:
    """The file yields the voxels, completely or in boxes, at once or lazily, in
    position.
    """
    now = io.read(path, dataset=dataset)
    with nothing_at_once():
        later = io.read(path, dataset=dataset)
    expected_voxels, axes = ordered(expected.voxels, expected.axes)
    for volume in (now, later):
        _check_geometry(volume, expected, axes)
        assert volume.dtype == np.dtype(expected.voxels.dtype).newbyteorder("=")
        whole, letters = ordered(np.asarray(volume.data), volume.axes)
        assert letters == axes, f"read as {volume.axes}"
        np.testing.assert_array_equal(whole, expected_voxels)
    box = tuple(
        slice(*sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))))
        for n in later.shape
    )
    np.testing.assert_array_equal(
        np.asarray(later.data[box]), np.asarray(now.data)[box]
    )


def _check_geometry(volume: Volume, expected: Expected, axes: str) -> None:
    assert volume.unit == expected.unit
    for letter, edge, place in zip(
        volume.spatial_axes, volume.voxel_size, volume.origin, strict=True
    ):
        if letter in axes and letter in expected.size:
            assert np.isclose(edge, expected.size[letter], rtol=1e-5), letter
        if letter in axes and letter in expected.origin:
            np.testing.assert_allclose(
                place, expected.origin[letter], rtol=1e-5, atol=1e-9
            )
