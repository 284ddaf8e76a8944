"""Every file of the shared real data is read correctly or rejected with a message.

Each file has its own row, based on its source's description and its tags: shape, axes,
dtype, voxel size and unit; or the error message. A new file without a row must open, or
be rejected in one sentence.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import FileError


class Good(NamedTuple):
    axes: str
    shape: tuple[int, ...]
    dtype: str
    limits: tuple[float, float] | None = None
    voxel_size: tuple[float, ...] | None = None
    unit: str = "pixel"


SIM = Good("YX", (480, 480), "uint8")
BANANA = Good("YX", (384, 384), "uint16", None, (0.390625, 0.390625), "mm")
NINE = Good("ZYX", (9, 120, 120), "uint8", (0, 255))
_BEAD = 1e6 / 44460534
_GRID = 1e6 / 45527587
_HELA = 1e6 / 19420064
_WORM = 1e6 / 23466652

GOOD = {
    "ct_volumes/cement_128x128x128.tif": Good(
        "ZYX", (128, 128, 128), "uint8", (16, 148)
    ),
    "ct_volumes/bone_128x128x128.tif": Good(
        "ZYX", (128, 128, 128), "uint8", (0, 255), (1.953125,) * 3, "pixel"
    ),
    "projections/shale_prj.tiff": Good("YX", (181, 366), "float32", (0, 154.26)),
    "projections/shale_recon_reference.tiff": Good("YX", (366, 366), "float64", (0, 1)),
    "projections/sinogram_360_neutron_image.tif": Good(
        "YX", (459, 503), "uint16", (0, 53711)
    ),
    "projections/k11_diad/k11-18014.nxs": Good(
        "ZYX", (3201, 22, 26), "uint16", (40, 60430)
    ),
    "projections/k11_diad/k11-18014/k11-18014-imaging.h5": Good(
        "ZYX", (3201, 22, 26), "uint16", (40, 60430)
    ),
    "microscopy/Bead_Image1_crop.tif": Good(
        "ZYX", (41, 150, 150), "uint8", (1, 156), (0.125, _BEAD, _BEAD), "µm"
    ),
    "microscopy/DeconvolutionSampleVerticalGrid1AU-crop.tif": Good(
        "ZYX", (21, 150, 150), "uint8", (1, 8), (0.125, _GRID, _GRID), "µm"
    ),
    "microscopy/hela-cells.tif": Good(
        "CYX", (3, 512, 672), "uint16", (0, 4095), (_HELA, _HELA), "µm"
    ),
    "microscopy/membrane_2d_timelapse.tif": Good(
        "ZYX", (5, 256, 256), "uint16", (134, 4095)
    ),
    "microscopy/cancer_cell_migration_crop.tif": Good(
        "ZYX", (48, 130, 130), "uint16", (0, 65535)
    ),
    "microscopy/pollen.tif": Good("ZYX", (32, 256, 256), "uint16", (0, 65535)),
    "microscopy/celegans_airyscan.tif": Good(
        "YX", (316, 316), "float32", (185, 6207), (_WORM, _WORM), "µm"
    ),
    "sim/semisynthetic_microtubules_1_9frames.tif": NINE,
    "sim/semisynthetic_microtubules_24_9frames.tif": NINE,
    "sim/psf.png": Good("YX", (29, 29), "uint8", (0, 255)),
    "radiographs/chest_00000001_000.png": Good("YX", (512, 512), "uint8", (0, 255)),
    "shapes/anatomical.nii": Good(
        "ZYX", (25, 41, 33), "int16", (-610, 30393), (2, 2, 2), "mm"
    ),
    "shapes/example4d.nii.gz": Good(
        "TZYX", (2, 24, 96, 128), "int16", (0, 1162), (2.2, 2, 2), "mm"
    ),
    "shapes/example_nifti2.nii.gz": Good(
        "TZYX", (2, 12, 20, 32), "int16", (46, 757), (2.2, 2, 2), "mm"
    ),
    "bad/rs_int8.tif": Good("YX", (64, 64), "int8", (-128, 127)),
    "bad/rs_int16.tif": Good("YX", (64, 64), "int16", (-5000, 4998)),
    "bad/rs_int16_zstd.tif": Good("YX", (64, 64), "int16", (-5000, 4998)),
    "bad/rs_random-fp16.tiff": Good("YX", (16, 16), "float16", (0.38477, 1)),
    "bad/rs_minisblack-1c-i16b.tiff": Good("YX", (151, 157), "int16", (-32767, 26186)),
    "bad/rs_miniswhite-1c-1b.tiff": Good("YX", (151, 157), "bool", (0, 1)),
    "bad/rs_gradient-1c-64b-float.tiff": Good(
        "YX", (1, 256), "float64", (0.00089353, 0.99827)
    ),
    "bad/rs_hpredict-1c-12b.tiff": Good("YX", (2, 4), "uint16", (100, 4000)),
    "bad/rs_predictor-3-gray-f32.tif": Good("YX", (200, 200), "float32", (0, 0.99926)),
    "bad/rs_planar-rgb-u8.tif": Good("CYX", (3, 499, 374), "uint8", (0, 255)),
    "bad/rs_palette-1c-8b.tiff": Good("CYX", (3, 151, 157), "uint16"),
    "bad/rs_minisblack-2c-8b-alpha.tiff": Good("CYX", (2, 64, 64), "uint8", (0, 255)),
    "bad/rs_cmyk-3c-32b-float.tiff": Good("CYX", (4, 20, 20), "float32", (0, 0.97975)),
    "bad/rs_BigTIFF.tif": Good("CYX", (3, 64, 64), "uint8", (0, 255)),
    "bad/rs_BigTIFFMotorola.tif": Good("CYX", (3, 64, 64), "uint8", (0, 255)),
    "bad/rs_seq-1c-8b-multipage-adeefdcc.tiff": Good(
        "ZYX", (3, 16, 16), "uint8", (0, 255)
    ),
    "bad/pil_12in16bit.tif": Good("YX", (100, 100), "uint16", (0, 30)),
    "bad/pil_16bit.MM.deflate.tif": Good("YX", (64, 64), "uint16", (291, 694)),
    "bad/pil_16bit.s.tif": Good("YX", (10, 10), "int16", (0, 32767)),
    "bad/pil_8bit.s.tif": Good("YX", (128, 128), "int8", (-128, 127)),
    "bad/pil_10ct_32bit_128.tiff": Good("YX", (128, 128), "float32", (-3.1409, 3.1407)),
    "bad/pil_hopper_bigtiff.tif": Good("CYX", (3, 128, 128), "uint8", (0, 255)),
    "bad/pil_hopper_lzma.tif": Good("CYX", (3, 128, 128), "uint8", (0, 255)),
    "bad/pil_hopper_gray_4bpp.tif": Good("YX", (128, 128), "uint8", (1, 13)),
    "bad/pil_hopper_unknown_pixel_mode.tif": Good(
        "CYX", (3, 128, 128), "uint32", (0, 4294967295)
    ),
    "bad/pil_multipage_single_frame_loop.tiff": Good("CYX", (3, 10, 10), "uint8"),
    "bad/pil_tiff_wrong_bits_per_sample.tiff": Good(
        "CYX", (4, 53, 52), "uint8", (0, 255)
    ),
    "bad/pil_total-pages-zero.tif": Good("ZYX", (3, 2156, 1728), "bool", (0, 1)),
    "bad/pil_uint16_1_4660.tif": Good("YX", (10, 10), "uint16", (4660, 4660)),
    # 6153 pixels per centimetre: the only file whose baseline tags are not those of a
    # screen.
    "bad/pil_16_bit_noise.tif": Good(
        "YX", (32, 32), "uint16", (106, 285), (1e4 / 6153,) * 2, "µm"
    ),
    # All NaN: it can be opened, but restoring and measuring reject it.
    "bad/psf_all_nan.tif": Good("ZYX", (41, 150, 150), "float32", (np.nan, np.nan)),
}
GOOD |= {
    f"sim/semisynthetic_microtubules_{i}_{name}.png": SIM
    for i in (1, 24)
    for name in ("groundtruth", "lowres")
}
GOOD |= {f"sim/patterns/{i}.png": SIM for i in range(1, 10)}
GOOD |= {
    f"microscopy/mri_banana_sequence/banana{i:04d}.tif": BANANA for i in range(2, 27)
}

_DAMAGED = r"(is truncated|is damaged).*again\.$"
BAD = {
    "ct_volumes/berea.zip": r"archive.*Unpack it first",
    "projections/tooth.h5": r"3 datasets.*Choose one with --dataset exchange/data",
    "projections/k11_diad/k11-18014/k11-18014-pcompPanda.h5": r"no 2D or 3D dataset",
    "shapes/branchoid.ply": r"not an image volume.*Supported: .*\.tif",
    "models/dncnn_25.pth": r"not an image volume",
    "models/team00_rlfn.pth": r"not an image volume",
    "models/team15_SAFMN.pth": r"not an image volume",
    "models/team14_GFMN.pth": r"not an image volume",
    "bad/rs_colormap-shl-overflow.tiff": _DAMAGED,
    "bad/rs_sample-get-lzw-stuck.tiff": _DAMAGED,
    "bad/pil_multipage_out_of_order.tiff": r"2 images of different shape.*Choose one",
    "bad/pil_seek_too_large.tif": _DAMAGED,
    "bad/pil_tiff_overflow_rows_per_strip.tif": _DAMAGED,
    "bad/pil_crash-63b1dffe.tif": _DAMAGED,
    "bad/pil_crash-4f085cc1.tif": _DAMAGED,
    "bad/pil_oom-225817ca.tif": r"is a damaged TIFF file.*again\.$",
    "bad/imread_error.tif": r"not a TIFF file \(it begins with 'This is not",
    "bad/imread_02r01.lsm": r"not a TIFF file",
    "bad/imread_03w03.lsm": r"not a TIFF file",
}


def files_without_a_row(folder: Path) -> list[Path]:
    """Files described by neither table."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.relative_to(folder).as_posix() not in GOOD | BAD
    )


def check_refusal(error: FileError, path: Path) -> None:
    """The error is one sentence that names the file."""
    message = str(error)
    assert path.name in message
    assert "\n" not in message
    assert re.search(r"\.$", message)


def check_any_file(path: Path) -> None:
    """The file opens with all its voxels, or is rejected in one sentence."""
    try:
        volume = io.read(path)
        voxels = np.asarray(volume.data)
    except FileError as error:
        check_refusal(error, path)
    else:
        assert voxels.shape == volume.shape
        assert len(volume.axes) == voxels.ndim
        assert all(0 < size < np.inf for size in volume.voxel_size)


def test_every_row_has_its_file(shared_data: Path) -> None:
    listed = (shared_data / "SHA256SUMS").read_text().split("\n")
    names = {line.split(maxsplit=1)[1].lstrip("*./") for line in listed if line}
    assert set(GOOD) | set(BAD) <= names


def test_files_without_a_row_open_or_are_refused(shared_data: Path) -> None:
    for path in files_without_a_row(shared_data):
        check_any_file(path)


def test_a_file_that_was_added_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    known, added, text = (folder / n for n in ("rs_int8.tif", "new.tif", "new.txt"))
    for path in (known, added):
        tifffile.imwrite(path, np.zeros((8, 8), np.uint8))
    text.write_text("no image")
    assert files_without_a_row(tmp_path) == [added, text]
    for path in (added, text):
        check_any_file(path)
    with pytest.raises(AssertionError):  # names another file
        check_refusal(FileError("old.tif is damaged."), added)
    monkeypatch.setattr(io, "read", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        check_any_file(added)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", sorted(GOOD))
def test_good_file(name: str, shared_data: Path) -> None:
    expected = GOOD[name]
    volume = io.read(shared_data / name)
    assert volume.axes == expected.axes
    assert volume.shape == expected.shape
    assert volume.dtype == np.dtype(expected.dtype)
    assert volume.dtype.isnative
    assert volume.unit == expected.unit
    n = len(volume.spatial_axes)
    voxel_size = expected.voxel_size or (1.0,) * n
    np.testing.assert_allclose(volume.voxel_size, voxel_size, rtol=1e-6)
    assert volume.source == shared_data / name
    voxels = np.asarray(volume.data)
    assert voxels.shape == expected.shape
    if expected.limits is not None:
        limits = (voxels.min(), voxels.max())
        np.testing.assert_allclose(limits, expected.limits, rtol=1e-4, atol=1e-4)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_file(name: str, shared_data: Path) -> None:
    path = shared_data / name
    with pytest.raises(FileError, match=BAD[name]) as caught:
        io.read(path)
    check_refusal(caught.value, path)


def test_folder_of_slices(shared_data: Path) -> None:
    folder = shared_data / "microscopy" / "mri_banana_sequence"
    for path in (folder, folder / "banana*.tif"):
        volume = io.read(path)
        assert (volume.axes, volume.shape) == ("ZYX", (25, 384, 384))
        assert volume.unit == "mm"
        np.testing.assert_allclose(volume.voxel_size[1:], 0.390625, rtol=1e-6)
        assert (
            "files do not specify the distance between slices"
            in volume.metadata["notes"][0]
        )
        last = io.read(folder / "banana0026.tif").data
        np.testing.assert_array_equal(volume.data[24], last)


def test_dataset_of_several(shared_data: Path) -> None:
    path = shared_data / "projections" / "tooth.h5"
    volume = io.read(f"{path}::exchange/data")
    assert volume.shape == (181, 2, 640)
    np.testing.assert_allclose(
        (np.asarray(volume.data).min(), np.asarray(volume.data).max()),
        (3921.2, 33892),
        rtol=1e-4,
    )
    with pytest.raises(FileError, match=r"k11-18014-EtherCAT\.h5, which is missing"):
        io.read(
            shared_data / "projections/k11_diad/k11-18014.nxs",
            dataset="entry/EtherCAT/data",
        )


def test_colours_ask_for_a_channel(shared_data: Path) -> None:
    volume = io.read(shared_data / "microscopy" / "hela-cells.tif")
    with pytest.raises(Exception, match="3 channels.*--channel"):
        volume.select()
    assert volume.select(channel=1).shape == (512, 672)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))


@pytest.mark.skipif(sys.platform != "linux", reason="memory limits of Linux")
def test_damaged_files_take_little_memory_and_time(shared_data: Path) -> None:
    code = """
import sys, numpy as np
from napari_geosr import io
from napari_geosr.core.errors import FileError
for name in sys.argv[1:]:
    try:
        np.asarray(io.read(name).data)
    except FileError:
        pass
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1])
"""
    files = sorted(str(p) for p in (shared_data / "bad").iterdir())
    done: Any = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *files],
        check=False,
        timeout=60,
        capture_output=True,
        text=True,
        preexec_fn=_limit_memory,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 500_000  # kB
