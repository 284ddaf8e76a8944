"""Pixel sizes in the tags and text files of electron microscopes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.questions import voxel_size_question

IMAGE = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
FEI_SFEG, FEI_HELIOS, FEI_XML, CZ_SEM = 34680, 34682, 34683, 34118

FEI = """[User]
Date=03/14/2019
[Beam]
HV=5000
Scan=EScan
[EScan]
PixelWidth=9e-9
PixelHeight=9e-9
[Scan]
PixelWidth=1.35e-008
PixelHeight=1.35e-008
[Image]
ResolutionX=64
ResolutionY=40
"""
ZEISS = """0
0
0
1.25e-09
0
DP_IMAGE_STORE
Store resolution = 64 * 48
AP_MAG
Mag =  10.00 K X
"""


def tagged(path: Path, tag: int, text: str, image: np.ndarray = IMAGE) -> Path:
    """A TIFF as written by the microscope's software: its tag, and a screen's dpi."""
    tifffile.imwrite(
        path,
        image,
        metadata=None,
        resolution=(72, 72),
        resolutionunit=2,
        extratags=[(tag, 2, 0, text.replace("\n", "\r\n"), True)],
    )
    return path


@pytest.mark.parametrize("tag", [FEI_SFEG, FEI_HELIOS])
def test_fei(tag: int, tmp_path: Path) -> None:
    volume = io.read(tagged(tmp_path / "a.tif", tag, FEI))
    assert (volume.voxel_size, volume.unit) == ((13.5, 13.5), "nm")
    assert "FEI/Thermo" in " ".join(volume.metadata["notes"])
    assert voxel_size_question(volume.metadata) is None


def test_fei_names_the_scan_of_the_beam(tmp_path: Path) -> None:
    text = FEI.replace("[Scan]", "[Other]").replace("EScan", "IScan")
    volume = io.read(tagged(tmp_path / "a.tif", FEI_HELIOS, text))
    assert (volume.voxel_size, volume.unit) == ((9, 9), "nm")


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    """For a tilted sample with tilt correction, height and width differ."""
    text = FEI.replace("PixelHeight=1.35e-008", "PixelHeight=2.7e-6")
    text = text.replace("PixelWidth=1.35e-008", "PixelWidth=1.35e-6")
    volume = io.read(tagged(tmp_path / "a.tif", FEI_HELIOS, text))
    assert (volume.voxel_size, volume.unit) == ((2.7, 1.35), "µm")


@pytest.mark.parametrize(
    ("text", "size", "unit"),
    [
        (
            '<?xml version="1.0"?><FeiImage><pixelWidth unit="nm">52.5</pixelWidth>'
            '<pixelHeight unit="nm">52.5</pixelHeight></FeiImage>',
            52.5,
            "nm",
        ),
        (
            '<Metadata xmlns="http://a"><BinaryResult><PixelSize>'
            '<X unit="m" unitPrefixPower="1">2.5E-06</X>'
            '<Y unit="m" unitPrefixPower="1">2.5E-06</Y>'
            "</PixelSize></BinaryResult></Metadata>",
            2.5,
            "µm",
        ),
    ],
)
def test_thermo_xml(text: str, size: float, unit: str, tmp_path: Path) -> None:
    volume = io.read(tagged(tmp_path / "a.tif", FEI_XML, text))
    assert (volume.voxel_size, volume.unit) == ((size, size), unit)


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ("AP_IMAGE_PIXEL_SIZE\nImage Pixel Size = 558.2 nm\n", 558.2),
        ("AP_PIXEL_SIZE\nPixel Size = 0.5582 µm\n", 558.2),
        ("", 20.0),  # 1.25 nm on a display of 1024 pixels, for 64 in the image
    ],
)
def test_zeiss(more: str, size: float, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    text = (ZEISS + more).replace("\n", "\r\n").encode("latin-1")
    tifffile.imwrite(path, IMAGE, metadata=None, extratags=[(CZ_SEM, 2, 0, text, True)])
    volume = io.read(path)
    assert volume.unit == "nm"
    np.testing.assert_allclose(volume.voxel_size, (size, size), rtol=1e-9)
    assert "Zeiss" in " ".join(volume.metadata["notes"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp932"])
def test_hitachi_beside(encoding: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None)
    text = (
        "[SemImageFile]\r\nInstructName=SU8000\r\nDataSize=64x48\r\nPixelSize=9.921875"
        "\r\nMagnification=10000\r\n"
    )
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    volume = io.read(tmp_path / "a.tif")
    assert (volume.voxel_size, volume.unit) == ((9.921875, 9.921875), "nm")
    assert "Hitachi" in " ".join(volume.metadata["notes"])


def test_hitachi_in_the_description(tmp_path: Path) -> None:
    text = "[SemImageFile]\nPixelSize=1984.375\nDataSize=64x48\n"
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None, description=text)
    volume = io.read(tmp_path / "a.tif")
    assert (volume.voxel_size, volume.unit) == ((1.984375, 1.984375), "µm")


@pytest.mark.parametrize(
    ("tag", "text"),
    [(FEI_HELIOS, FEI), (CZ_SEM, ZEISS + "AP_PIXEL_SIZE\nPixel Size = 9 nm\n")],
)
def test_an_image_that_was_rescaled_since_is_asked_for(
    tag: int, text: str, tmp_path: Path
) -> None:
    volume = io.read(tagged(tmp_path / "a.tif", tag, text, IMAGE[::2, ::2]))
    assert volume.unit == "pixel"
    question = voxel_size_question(volume.metadata)
    assert question is not None
    assert question.may_be_right  # if it was cropped
    assert "64 pixels wide, but this image is 32 pixels wide" in question.reason


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (FEI_HELIOS, "[Scan]\nPixelWidth=\n"),
        (FEI_HELIOS, "no sections"),
        (FEI_XML, "<FeiImage><pixelWidth>"),
        (FEI_XML, "<FeiImage><pixelWidth unit='K'>5</pixelWidth></FeiImage>"),
        (CZ_SEM, "AP_PIXEL_SIZE\nPixel Size = broken\n"),
    ],
)
def test_broken_metadata_give_no_size(tag: int, text: str, tmp_path: Path) -> None:
    volume = io.read(tagged(tmp_path / "a.tif", tag, text))
    assert volume.unit == "pixel"
    assert volume.voxel_size == (1, 1)


def test_a_text_file_of_someone_else(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, metadata=None)
    (tmp_path / "a.txt").write_text("PixelSize=3\n")
    assert io.read(tmp_path / "a.tif").unit == "pixel"
