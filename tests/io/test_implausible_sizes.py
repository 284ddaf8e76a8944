"""Voxel sizes that are defaults or mistakes lead to a question, and are never used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_geosr import io
from napari_geosr.core.questions import implausibility_reasons, voxel_size_question
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.io.projections import read_projections

STACK = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
DATA = Path(__file__).parents[3] / "shared" / "data"


def imagej(path: Path, resolution: float = 0.0, **metadata: Any) -> Path:
    options = {"resolution": (resolution, resolution)} if resolution else {}
    metadata = {"axes": "ZYX", **metadata}
    tifffile.imwrite(path, STACK, imagej=True, metadata=metadata, **options)
    return path


def test_inches_and_a_slice_distance_that_was_never_set(tmp_path: Path) -> None:
    volume = io.read(imagej(tmp_path / "a.tif", 100.0, unit="inch"))
    assert volume.unit == "pixel"
    assert volume.voxel_size == (1, 1, 1)
    assert volume.voxel_volume_mm3 is None
    question = voxel_size_question(volume.metadata)
    assert question is not None
    assert question.size_text == "1 × 0.01 × 0.01 in"
    assert not question.may_be_right
    text = str(question)
    assert "inches" in text
    assert "factor of 100" in text
    assert "--voxel-size Z,Y,X --unit um" in text


@pytest.mark.parametrize(
    ("resolution", "metadata", "reason"),
    [
        (1 / 4, {"unit": "nm", "spacing": 50.0}, "factor of 12.5"),
        (1 / 0.065, {"unit": "um"}, "factor of 15.4"),  # the distance was never set
        (1 / 11, {"unit": "mm", "spacing": 11.0}, "11 mm is 10 mm or more"),
        (5, {"unit": "nm", "spacing": 0.2}, "0.2 nm is below 1 nm"),
        (72 / 2.54, {"unit": "cm", "spacing": 0.03}, "72 dots per inch"),
    ],
)
def test_other_implausible_sizes(
    resolution: float, metadata: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    volume = io.read(imagej(tmp_path / "a.tif", resolution, **metadata))
    assert volume.unit == "pixel"
    question = voxel_size_question(volume.metadata)
    assert question is not None
    assert reason in question.reason
    assert question.may_be_right == ("dots per inch" not in reason)


def test_a_size_that_a_person_gives_is_an_answer(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", 0.25, unit="nm", spacing=50.0, xorigin=-2)
    confirmed = io.read(path, voxel_size=(50, 4, 4), unit="nm")
    assert (confirmed.voxel_size, confirmed.unit) == ((50, 4, 4), "nm")
    assert confirmed.origin == (0, 0, 8)
    assert voxel_size_question(confirmed.metadata) is None
    # The unit was not in doubt, so numbers are sufficient.
    assert io.read(path, voxel_size=[5]).unit == "nm"
    # Inches were in doubt: without a unit, the size stays unknown.
    inches = imagej(tmp_path / "b.tif", 100.0, unit="inch")
    assert io.read(inches, voxel_size=[5]).unit == "pixel"


def test_a_confirmed_size_is_not_asked_for_again(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", 0.25, unit="nm", spacing=50.0)
    volume = io.read(path, voxel_size=(50, 4, 4), unit="nm")
    for name in ("b.tif", "b.ome.tif", "b.ome.zarr"):
        again = io.read(io.write(volume, tmp_path / name))
        assert (again.voxel_size, again.unit) == ((50, 4, 4), "nm")


def test_converted_resolution_tags_of_editors(tmp_path: Path) -> None:
    """Bio-Formats writes 72 dots per inch as a pixel size of 352.78 µm."""
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 352.7777778, "PhysicalSizeY": 352.7777778}
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX", **sizes})
    volume = io.read(path)
    assert volume.unit == "pixel"
    assert "72 dots per inch" in str(voxel_size_question(volume.metadata))


def test_a_folder_of_slices_asks_as_its_slices_do(tmp_path: Path) -> None:
    for i, plane in enumerate(STACK):
        tifffile.imwrite(
            tmp_path / f"{i}.tif",
            plane,
            resolution=(96, 96),
            resolutionunit=2,
            metadata=None,
        )
    volume = io.read(tmp_path)
    question = voxel_size_question(volume.metadata)
    assert question is not None
    assert len(question.voxel_size) == 3
    assert "96 dots per inch" in question.reason


def test_pixels_of_projections(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", 100.0, unit="inch")
    scan = read_projections(path, angle_range=(0, 180))
    assert scan.unit == "pixel"
    assert scan.pixel_size == (1, 1)
    assert "--pixel-size" in " ".join(scan.metadata["notes"])
    told = read_projections(path, angle_range=(0, 180), pixel_size=5, unit="um")
    assert (told.pixel_size, told.unit) == ((5, 5), "µm")
    assert "--pixel-size" not in " ".join(told.metadata.get("notes", ()))


@given(
    edge=st.floats(1.01, 9.9e6),
    factors=st.tuples(*[st.floats(1, 9.9)] * 2),
    unit=st.sampled_from(["pm", "Å", "nm", "µm", "mm", "cm", "m"]),
)
def test_plausible_sizes_are_never_asked_for(
    edge: float, factors: tuple[float, float], unit: str
) -> None:
    """Between 1 nm and 10 mm, edges within a factor of 10, and no editor default."""
    nanometres = (edge * factors[0], edge * factors[1], edge)
    size = tuple(v * 1e-6 / MILLIMETRES[unit] for v in nanometres)
    reasons, _ = implausibility_reasons(size, unit)
    if max(nanometres) < 0.99999 * 1e7:
        assert all("dots per inch" in reason for reason in reasons)
    else:
        assert any("10 mm or more" in reason for reason in reasons)


def test_a_voxel_of_one_centimetre_is_implausible() -> None:
    assert implausibility_reasons((1.0, 1.0, 1.0), "cm")[0]


@pytest.mark.parametrize("size", [0.1, 0.127, 0.2, 0.254, 0.39, 0.390625, 1.0, 2.5])
def test_pixels_of_real_detectors_are_plausible(size: float) -> None:
    assert implausibility_reasons((size, size, size), "mm") == ((), True)


@pytest.mark.skipif(not DATA.exists(), reason="needs the real files of ../shared/data")
@pytest.mark.parametrize(
    ("name", "size", "unit"),
    [
        ("ct_volumes/bone_128x128x128.tif", (1.953125,) * 3, "pixel"),
        ("microscopy/Bead_Image1_crop.tif", (0.125, 0.0224919, 0.0224919), "µm"),
        ("microscopy/mri_banana_sequence", (0.390625,) * 3, "mm"),
        ("microscopy/celegans_airyscan.tif", (0.0426137, 0.0426137), "µm"),
    ],
)
def test_real_files_keep_their_size(
    name: str, size: tuple[float, ...], unit: str
) -> None:
    volume = io.read(DATA / name)
    assert volume.unit == unit
    np.testing.assert_allclose(volume.voxel_size, size, rtol=1e-5)
    assert voxel_size_question(volume.metadata) is None


@pytest.mark.skipif(not DATA.exists(), reason="needs the real files of ../shared/data")
def test_a_real_file_with_the_default_of_an_editor() -> None:
    volume = io.read(DATA / "microscopy" / "pollen.tif")
    assert volume.unit == "pixel"
    assert "72 dots per inch" in str(voxel_size_question(volume.metadata))
