"""Voxel size, unit and origin from ImageJ, OME, LSM and baseline tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.file_warnings import assumed_distances
from napari_geosr.io.formats.tiff.metadata import escaped, is_common_dpi, unescaped

STACK = np.zeros((4, 5, 6), np.uint8)


def imagej(path: Path, resolution: float | None = None, **metadata: Any) -> Path:
    options: dict[str, Any] = {}
    if resolution is not None:
        options["resolution"] = (resolution, resolution)
    tifffile.imwrite(
        path, STACK, imagej=True, metadata={"axes": "ZYX", **metadata}, **options
    )
    return path


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("micron", "µm"),
        ("um", "µm"),
        ("\\u00B5m", "µm"),
        ("microns", "µm"),
        ("mm", "mm"),
        ("cm", "cm"),
    ],
)
def test_imagej_units(text: str, unit: str, tmp_path: Path) -> None:
    volume = io.read(imagej(tmp_path / "a.tif", 8.0, unit=text, spacing=0.5))
    assert volume.unit == unit
    np.testing.assert_allclose(volume.voxel_size, (0.5, 0.125, 0.125), rtol=1e-9)


def test_nanometres_of_imagej(tmp_path: Path) -> None:
    # Not half and an eighth as above, because sizes below 1 nm lead to a question.
    volume = io.read(imagej(tmp_path / "a.tif", 0.25, unit="nm", spacing=8.0))
    assert volume.unit == "nm"
    np.testing.assert_allclose(volume.voxel_size, (8, 4, 4), rtol=1e-9)


@pytest.mark.parametrize("text", ["", "pixel", "sec", "parsec"])
def test_unknown_units_are_not_guessed(text: str, tmp_path: Path) -> None:
    volume = io.read(imagej(tmp_path / "a.tif", 8.0, unit=text, spacing=0.5))
    assert volume.unit == "pixel"
    np.testing.assert_allclose(volume.voxel_size, (0.5, 0.125, 0.125))
    if text in ("sec", "parsec"):
        assert any(text in note for note in volume.metadata["notes"])


def test_imagej_leaves_a_spacing_of_one_out(tmp_path: Path) -> None:
    volume = io.read(imagej(tmp_path / "a.tif", 4.0, unit="um"))
    assert volume.voxel_size == (1.0, 0.25, 0.25)
    assert any("slice spacing" in note for note in volume.metadata["notes"])


@pytest.mark.parametrize(
    ("spacing", "edge", "said"),
    [
        ("2,5", 2.5, "The slice spacing, '2,5', was read as 2.5 µm."),
        ("-2,5", 2.5, "The slice spacing, '-2,5', was read as 2.5 µm."),
        ("nan", 0.25, "in the file, 'nan', is not a positive number; it was taken to"),
        (
            "1,2,3",
            0.25,
            "'1,2,3', is not a positive number; it was taken to be the s",
        ),
        ("0", 0.25, "in the file, '0', is not a positive number; it was taken to be"),
    ],
)
def test_odd_slice_spacings_of_imagej(
    tmp_path: Path, spacing: str, edge: float, said: str
) -> None:
    path = tmp_path / "a.tif"
    text = f"ImageJ=1.54f\nimages=4\nslices=4\nunit=um\nspacing={spacing}\n"
    options: dict[str, Any] = {"metadata": None, "photometric": "minisblack"}
    tifffile.imwrite(path, STACK, description=text, resolution=(4.0, 4.0), **options)
    volume = io.read(path)
    assert volume.voxel_size == (edge, 0.25, 0.25)
    (note,) = assumed_distances(volume.metadata)
    assert said in note


def test_imagej_negative_spacing_and_origin(tmp_path: Path) -> None:
    path = imagej(
        tmp_path / "a.tif", 4.0, unit="um", spacing=-2.0, xorigin=8, zorigin=-3
    )
    volume = io.read(path)
    assert volume.voxel_size == (2.0, 0.25, 0.25)
    assert volume.origin == (6.0, 0.0, -2.0)


def test_what_fiji_changed_holds_over_our_block(
    tmp_path: Path, make_volume: Any
) -> None:
    volume = make_volume((4, 5, 6), voxel_size=(1, 1, 1), origin=(0, 0, 0))
    path = io.write(volume.replace(provenance=({"a": 1},)), tmp_path / "a.tif")
    with tifffile.TiffFile(path) as tif:
        info = tif.imagej_metadata["Info"]
    imagej(tmp_path / "b.tif", 2.0, unit="um", spacing=3.0, Info=info)
    changed = io.read(tmp_path / "b.tif")
    assert changed.voxel_size == (3.0, 0.5, 0.5)
    assert changed.provenance == ({"a": 1},)
    # Cropped, so the shape in the block is no longer valid.
    tifffile.imwrite(
        tmp_path / "c.tif",
        STACK[:2],
        imagej=True,
        metadata={"axes": "ZYX", "Info": info},
    )
    assert io.read(tmp_path / "c.tif").shape == (2, 5, 6)


@pytest.mark.parametrize(
    ("metadata", "size", "unit"),
    [
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2},
         (2, 0.25, 0.5), "µm"),
        ({"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5,
          "PhysicalSizeZ": 0.002, "PhysicalSizeZUnit": "mm"}, (2000, 500, 500), "nm"),
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, (0.5, 0.5, 0.5), "µm"),
        ({}, (1, 1, 1), "pixel"),
        ({"PhysicalSizeX": 3, "PhysicalSizeXUnit": "pixel", "PhysicalSizeY": 3,
          "PhysicalSizeYUnit": "pixel"}, (3, 3, 3), "pixel"),
    ],
)  # fmt: skip
def test_ome_sizes(
    metadata: dict[str, Any], size: tuple[float, ...], unit: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX", **metadata})
    volume = io.read(path)
    assert volume.axes == "ZYX"
    assert volume.unit == unit
    np.testing.assert_allclose(volume.voxel_size, size, rtol=1e-9)
    assumed = bool(metadata) and "PhysicalSizeZ" not in metadata and unit != "pixel"
    assert ("notes" in volume.metadata) == assumed


def test_ome_positions(tmp_path: Path) -> None:
    planes = {
        "PositionX": [1.5] * 4,
        "PositionXUnit": ["mm"] * 4,
        "PositionZ": [7.0, 8.0, 9.0, 10.0],
        "PositionZUnit": ["µm"] * 4,
        "PositionY": [3.0] * 4,
    }
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "ZYX", "PhysicalSizeX": 2.0, "Plane": planes}
    tifffile.imwrite(path, STACK, metadata=metadata)
    # A position without a unit is in a "reference frame", which is not a length.
    assert io.read(path).origin == (7.0, 0.0, 1500.0)


@pytest.mark.parametrize(
    ("resolution", "unit", "size", "found"),
    [
        (72, 2, 1.0, "pixel"),
        (96, 2, 1.0, "pixel"),
        (28.3464567, 3, 1.0, "pixel"),  # 72 dpi, expressed in centimetres
        (37.7952756, 3, 1.0, "pixel"),  # 96 dpi
        (1, 1, 1.0, "pixel"),
        (118.110236, 3, 1.0, "pixel"),  # 300 dpi
        (1, 3, 1.0, "pixel"),
        # equal to 254 dpi, but not written in this way by a user
        (100, 3, 100.0, "µm"),
        (10, 3, 1.0, "mm"),
        (254, 2, 1.0, "pixel"),
        (400, 3, 25.0, "µm"),
        (2540 * 4, 2, 2.5, "µm"),
        (5, 3, 2.0, "mm"),
    ],
)
def test_resolution_tags(
    resolution: float, unit: int, size: float, found: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        STACK[0],
        resolution=(resolution, resolution),
        resolutionunit=unit,
        metadata=None,
    )
    volume = io.read(path)
    assert volume.unit == found
    np.testing.assert_allclose(volume.voxel_size, (size, size), rtol=1e-6)
    dropped = found == "pixel" and resolution != 1
    notes = " ".join(volume.metadata.get("notes", ()))
    assert ("dots per inch" in notes) == dropped


def test_common_dpi() -> None:
    assert is_common_dpi(72)
    assert is_common_dpi(299.999)
    assert not is_common_dpi(15628.6)


def test_imagej_escapes() -> None:
    assert escaped("µm") == "\\u00B5m"
    assert unescaped(escaped("Å")) == "Å"
    assert unescaped("mm") == "mm"


def test_a_person_overrules_the_file(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", 4.0, unit="um", spacing=2.0)
    volume = io.read(path, voxel_size=(3, 2, 1), unit="mm")
    assert (volume.voxel_size, volume.unit) == ((3, 2, 1), "mm")
