"""The porosity of a sample in air: measuring the whole volume causes a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.measure import (
    MeasureConfig,
    automatic_sample,
    measure_steps,
)
from napari_geosr.operations.measure.remarks import includes_background
from napari_geosr.operations.measure.surroundings import Surroundings

WORDS = "counted as pores"


def warnings_of(volume: Volume, mask: Volume | None = None, **settings) -> list[str]:
    steps = measure_steps(volume, MeasureConfig(**settings), mask, keep_labels=False)
    return [text for text in run_to_end(steps).warnings if WORDS in text]


def cylinder(background: float) -> Volume:
    y, x = np.mgrid[:64, :64] - 31.5
    data = np.random.default_rng(0).normal(200, 5, (16, 64, 64))
    data[:, np.hypot(y, x) > 26] += background - 200
    data[4:9, 30:36, 30:36] -= 180
    return Volume(data.astype(np.float32), "ZYX", name="rod")


def test_air_around_a_sample_is_said():
    rod = cylinder(20)
    (warning,) = warnings_of(rod)
    share = 100 * np.mean(rod.data < 110)
    assert f"it is part of the porosity of {share:.1f} %" in warning
    assert warning.startswith("Background, such as air, seems to surround")
    assert "--sample auto" in warning
    assert len(warnings_of(Volume(rod.data[3], "YX", name="plane"))) == 1


def test_it_is_not_said_of_a_sample_that_is_told_apart_or_fills_the_volume():
    rod = cylinder(20)
    assert not warnings_of(rod, sample_mask="auto")
    inside = rod.replace(data=np.ones(rod.shape, np.uint8))
    assert not warnings_of(rod, inside)
    assert not warnings_of(cylinder(200))
    assert not warnings_of(rod, phase="bright")


def test_bright_material_is_not_taken_for_background(shared_data: Path):
    """The automatic mask encloses the dark phase, which is air."""
    bone = io.read(shared_data / "ct_volumes" / "bone_128x128x128.tif")
    corner = bone.replace(data=bone.data[:64, :64, :64])
    (warning,) = warnings_of(corner, phase="bright")
    assert "If they are the material, choose dark pores" in warning
    assert "--sample auto" not in warning
    assert not includes_background([warning])
    steps = measure_steps(
        corner, MeasureConfig(phase="bright", sample_mask="auto"), keep_labels=False
    )
    assert any("encloses the dark phase" in w for w in run_to_end(steps).warnings)
    rod = cylinder(20)
    specimen = rod.replace(data=220 - rod.data)  # dark in a bright field
    (warning,) = warnings_of(specimen, phase="bright")
    assert "--sample auto" in warning


class Unreadable:
    """An image that must not be read completely."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.dtype, self.ndim = shape, np.dtype(np.uint16), len(shape)

    def __getitem__(self, key: object) -> np.ndarray:
        raise AssertionError(f"{key} was read")

    def __array__(self, *_: object) -> np.ndarray:
        raise AssertionError("all was read")


@pytest.mark.parametrize("shape", [(100_000, 100_000), (3, 100_000, 100_000)])
def test_planes_larger_than_the_memory_are_not_read(shape: tuple[int, ...]):
    assert Surroundings.of(Unreadable(*shape)).planes == ()
    small = Unreadable(*shape[:-2], 1000, 1000)
    assert Surroundings.of(small, max_plane_bytes=10**6).planes == ()


def test_a_mask_that_would_cut_pores_is_not_suggested(shared_data: Path):
    """Marrow cut by the border looks like air, but the mask would exclude it."""
    bone = io.read(shared_data / "ct_volumes" / "bone_128x128x128.tif")
    outer = bone.replace(data=bone.data[..., :50])  # compact bone next to air
    (warning,) = warnings_of(outer)
    assert warning.startswith("Background, such as air, seems to surround")
    assert "--sample auto" in warning
    for part in (bone.data, bone.data[:, 50:, 80:], bone.data[64:, 32:96, 64:]):
        (warning,) = warnings_of(bone.replace(data=part))
        assert warning.startswith("Empty space reaches the faces")
        assert "--sample auto" not in warning
        assert "marrow" in warning
        assert not includes_background([warning])


def test_a_volume_too_large_to_check_is_left_to_the_reader(monkeypatch):
    monkeypatch.setattr(automatic_sample, "_MAX_CHECKED", 1000)
    (warning,) = warnings_of(cylinder(20))
    assert "Check that the mask excludes only background" in warning


@pytest.mark.parametrize(
    ("name", "is_said"),
    [("bone_128x128x128.tif", True), ("cement_128x128x128.tif", False)],
)
def test_on_real_scans(shared_data: Path, name: str, is_said: bool):
    scan = io.read(shared_data / "ct_volumes" / name)
    assert bool(warnings_of(scan)) is is_said
