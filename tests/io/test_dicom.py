"""Radiographs as DICOM: grey values, pixel size, and nothing about the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
#: 12 bits in 16, like a dental sensor.
DATA = np.arange(6 * 8, dtype=np.uint16).reshape(6, 8) * 80


def save(path: Path, pixels: np.ndarray = DATA, **elements: object) -> Path:
    uid = pydicom.uid
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.UID("1.2.840"), "1.2.3"
    dataset.PatientName, dataset.PatientID = "Jane^Doe", "4711"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_radiograph_without_the_patient(tmp_path) -> None:
    volume = io.read(save(tmp_path / "a.dcm", ImagerPixelSpacing=[0.02, 0.03]))
    np.testing.assert_array_equal(volume.data, DATA)
    assert volume.axes == "YX"
    assert (volume.voxel_size, volume.unit) == ((0.02, 0.03), "mm")
    assert "patient" in " ".join(volume.metadata["notes"])
    for secret in ("Doe", "4711"):
        assert secret not in repr(volume.metadata)


def test_white_as_zero_is_inverted(tmp_path) -> None:
    file = save(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1")
    volume = io.read(file)
    np.testing.assert_array_equal(volume.data, 4095 - DATA)
    assert volume.data.dtype == np.uint16
    assert "MONOCHROME1" in " ".join(volume.metadata["notes"])


def test_frames_and_a_rescaled_grey_scale(tmp_path) -> None:
    frames = np.stack([DATA, DATA + 1])
    file = save(
        tmp_path / "noname",
        frames,
        NumberOfFrames=2,
        PixelSpacing=[0.5, 0.5],
        SliceThickness=2,
        RescaleSlope=2,
        RescaleIntercept=-1000,
    )
    volume = io.read(file)
    np.testing.assert_array_equal(volume.data, 2.0 * frames - 1000)
    assert volume.voxel_size == (2, 0.5, 0.5)


@pytest.mark.parametrize("kind", ["damaged", "colour", "cut"])
def test_files_that_are_refused(kind: str, tmp_path) -> None:
    file = save(tmp_path / "a.dcm", SamplesPerPixel=3 if kind == "colour" else 1)
    if kind == "damaged":
        file.write_bytes(b"no DICOM")
    elif kind == "cut":
        file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(FileError, match=r"a\.dcm"):
        io.read(file)
