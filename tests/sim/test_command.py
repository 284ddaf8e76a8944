"""``napari-geosr sim``, ``sim check`` and ``simulate sim`` as used by a script."""

from __future__ import annotations

import json
import re

import imagecodecs
import numpy as np
import pytest
import tifffile
import yaml

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.volume import Volume
from napari_geosr.operations.sim import FramesConfig, open_frames
from napari_geosr.operations.sim.simulation import FILES
from napari_geosr.physics.illumination.otf import Otf
from sim.sim_scenes import PIXEL, scene

OPTICS = ["--na", "1.4", "--wavelength", "525nm", "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sim") / "s"
    assert run(["simulate", "sim", "--size", "96", "--out", str(path)]) == 0
    return path


def test_simulated_files_belong_together(folder):
    assert {p.name for p in folder.iterdir()} == set(FILES.values())
    raw, truth = io.read(folder / FILES["raw"]), io.read(folder / FILES["truth"])
    assert raw.shape == (9, 96, 96)
    assert raw.dtype == np.uint16
    assert truth.shape == (384, 384)
    assert raw.voxel_size[1:] == (0.065, 0.065)
    # Outer edges of both fields of view agree.
    assert truth.origin[0] - truth.voxel_size[0] / 2 == pytest.approx(-0.065 / 2)
    values = yaml.safe_load((folder / FILES["patterns"]).read_text("utf-8"))
    assert len(PatternSet.from_dict(values).fringes) == 3


@pytest.mark.parametrize("method", ["widefield", "wiener", "joint-rl"])
def test_result_has_half_the_pixel_size_at_the_same_place(
    folder, tmp_path, method, capsys
):
    out = tmp_path / "result.ome.tif"
    words = ["sim", str(folder / FILES["raw"]), "--out", str(out), "--method", method]
    words += ["--iterations", "15", "--threads", "1", "--json"]
    assert run(words) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["shape"] == [192, 192]
    assert values["voxel_size"] == [0.0325, 0.0325]
    assert values["unit"] == "µm"
    assert values["origin"] == pytest.approx([-0.01625, -0.01625])
    assert values["warnings"] == []
    volume = io.read(out)
    assert np.isfinite(np.asarray(volume.data)).all()
    last = volume.provenance[-1]
    assert last["operation"] == "sim"
    assert last["frames"]["numerical_aperture"] == 1.4
    assert last["run"]["checks"]["frc_resolution"] > 0
    assert last["inputs"]["frames"]["checksum"].startswith("sha256:")
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_report_holds_residual_and_spectrum(folder, tmp_path, capsys):
    raw, out = folder / FILES["raw"], tmp_path / "o.ome.tif"
    words = ["sim", str(raw), "--method", "wiener", "--threads", "1"]
    words += ["--report", f"{tmp_path}/report", "--out", str(out)]
    assert run([*words, "--no-checks"]) == 2
    assert "--no-checks" in capsys.readouterr().err
    assert run(words) == 0
    written = {p.name for p in (tmp_path / "report").iterdir()}
    assert written == {"checks.json", "residual.ome.tif", "checks.png"}
    values = json.loads((tmp_path / "report/checks.json").read_text("utf-8"))
    assert values["warnings"] == []
    residual = io.read(tmp_path / "report/residual.ome.tif")
    assert residual.voxel_size == (0.065, 0.065)
    rms = float(np.sqrt(np.mean(np.asarray(residual.data, float) ** 2)))
    assert rms == pytest.approx(values["residual"], rel=1e-3)
    assert values["held_out"] is None
    assert set(values["no_value"]) == {"held_out"}
    out.unlink()
    assert run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert not out.exists()


def test_check_writes_patterns_that_a_run_can_use(folder, tmp_path, capsys):
    raw, out = str(folder / FILES["raw"]), tmp_path / "check"
    assert run(["sim", "check", raw, "--out", str(out)]) == 0
    assert "Angle 3" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {
        "patterns.yaml",
        "check.json",
        "check.png",
    }
    facts = json.loads((out / "check.json").read_text("utf-8"))
    assert list(facts["checks"]) == ["channel 1"]
    # The values of a single plane are at the top level as well.
    assert facts["checks"]["channel 1"].items() <= facts.items()
    assert [angle["found"] for angle in facts["angles"]] == [True] * 3
    assert facts["contrast_to_noise"] > 3
    assert min(facts["order_misfit"], key=facts["order_misfit"].get) == "apz"
    assert run(["sim", "check", raw, "--out", str(out)]) == 2
    capsys.readouterr()
    words = ["sim", raw, "--patterns", str(out / "patterns.yaml"), "--method", "wiener"]
    given = tmp_path / "given.tif"
    assert run([*words, "--no-checks", "--out", str(given)]) == 0
    assert (
        run([*words[:2], *words[4:], "--no-checks", "--out", f"{tmp_path}/a.tif"]) == 0
    )
    np.testing.assert_allclose(
        tifffile.imread(given), tifffile.imread(tmp_path / "a.tif"), rtol=1e-3, atol=0.5
    )


def test_bleaching_and_saturation_are_reported(tmp_path, capsys):
    frames = scene(snr=20, bleaching=0.3, size=96)
    save(tmp_path / "b.tif", np.minimum(frames.frames, 4095).astype(np.uint16))
    words = ["sim", "check", str(tmp_path / "b.tif"), "--out", str(tmp_path / "c")]
    assert run([*words, *OPTICS[:4]]) == 0
    assert "bleaches" in capsys.readouterr().out


def save(path, frames, pixel=PIXEL, **options):
    """Frames as an ImageJ stack."""
    data = frames.reshape(-1, *frames.shape[-2:])
    volume = Volume(data, "ZYX", (0.2, pixel, pixel), "µm")
    io.write(volume, path, **options)
    return path


def test_stack_with_time_channels_and_slices(tmp_path, capsys):
    """The axes of the result are those of the file without the frames."""
    made = scene(snr=20, size=64)
    raw = made.frames.reshape(9, 64, 64)
    data = np.stack([np.stack([raw, raw]), np.stack([raw, raw])]).astype(np.uint16)
    volume = Volume(data, "TCZYX", (0.2, PIXEL, PIXEL), "µm")
    io.write(volume, tmp_path / "raw.ome.tif")
    words = ["sim", str(tmp_path / "raw.ome.tif"), "--out", f"{tmp_path}/o.ome.tif"]
    given = ["--na", "1.4", "--wavelength", "525nm,580nm", "--threads", "1"]
    assert run([*words, *given, "--method", "wiener", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["axes"] == "TCYX"
    assert values["shape"] == [2, 2, 128, 128]


@pytest.mark.parametrize("order", ["apz", "zap"])
def test_time_channels_and_interleaved_slices(tmp_path, capsys, order):
    """Every plane is made from its own frames: 2 times × 2 channels × 2 slices × 9."""
    planes = [scene(snr=30, size=64, plane=n).frames for n in range(8)]
    stack = np.stack(planes).reshape(2, 2, 2, 3, 3, 64, 64)
    axes = [0, 1, *(2 + "zap".index(letter) for letter in order), 5, 6]
    data = stack.transpose(axes).reshape(2, 2, 18, 64, 64).astype(np.uint16)
    io.write(Volume(data, "TCZYX", (0.2, PIXEL, PIXEL), "µm"), tmp_path / "raw.ome.tif")
    words = ["sim", f"{tmp_path}/raw.ome.tif", "--out", f"{tmp_path}/o.ome.tif"]
    # The same patterns everywhere, so that no plane depends on the search in another.
    values = {**scene(snr=30, size=64).patterns.to_dict(), "channels": "all"}
    given = yaml.safe_dump(values)
    (tmp_path / "p.yaml").write_text(given, "utf-8")
    options = [*OPTICS, "--method", "wiener", "--no-checks", "--offset", "100"]
    options += ["--patterns", f"{tmp_path}/p.yaml", "--json"]
    assert run([*words, *options]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["axes"] == "TCZYX"
    assert values["shape"] == [2, 2, 2, 128, 128]
    found = np.asarray(io.read(tmp_path / "o.ome.tif").data)
    single = save(tmp_path / "one.tif", np.rint(planes[5]).astype(np.uint16))
    words = ["sim", str(single), "--out", f"{tmp_path}/one.ome.tif"]
    assert run([*words, *options]) == 0
    alone = np.asarray(io.read(tmp_path / "one.ome.tif").data)
    span = float(np.ptp(alone))
    errors = np.abs(found - alone).max(axis=(3, 4)).ravel() / span
    assert int(np.argmin(errors)) == 5
    assert errors[5] < 0.02  # the other one was rounded instead of cut
    assert np.delete(errors, 5).min() > 0.2


def test_an_unknown_sampling_of_the_psf_is_said(folder, tmp_path, capsys):
    f = np.fft.fftfreq(32)
    ideal = Otf(2 * 1.4 * PIXEL / 0.525).at(f[:, None], f[None])
    psf = np.fft.fftshift(np.fft.ifft2(ideal).real).astype(np.float32)
    tifffile.imwrite(tmp_path / "silent.tif", psf)
    stated = Volume(psf[None], "ZYX", (0.2, PIXEL, PIXEL), "µm")
    io.write(stated, tmp_path / "stated.ome.tif")
    words = ["sim", str(folder / FILES["raw"]), "--method", "wiener", "--no-checks"]
    words += ["--threads", "1", "--json", "--overwrite", "-o", f"{tmp_path}/o.ome.tif"]
    said = []
    for given in (
        ["--psf", f"{tmp_path}/silent.tif"],
        ["--psf", f"{tmp_path}/silent.tif", "--psf-sampling", "1"],
        ["--psf", f"{tmp_path}/stated.ome.tif"],
    ):
        assert run([*words, *given]) == 0
        said.append(json.loads(capsys.readouterr().out)["warnings"])
    assert len(said[0]) == 1
    assert said[0][0].startswith("silent.tif does not state its pixel size")
    assert "--psf-sampling" in said[0][0]
    assert said[1:] == [[], []]


BAD = {
    "eight frames": (lambda f: f.reshape(9, 96, 96)[:8], [], "multiple of the 9"),
    "angle axis that is z": (
        lambda f: np.concatenate([f.reshape(9, 96, 96)[:3]] * 3),
        [],
        "same direction",
    ),
    "constant": (lambda f: np.full((9, 96, 96), 7), [], "same grey value"),
    "saturated": (lambda f: np.clip(f * 4, 0, 255).astype(np.uint8), [], "saturated"),
    "nan": (lambda f: np.where(f == f.max(), np.nan, f).astype("f4"), [], "1 NaN"),
    "no pattern": (
        lambda f: np.random.default_rng(0).poisson(np.broadcast_to(
            f.mean(axis=(0, 1)), f.shape)),
        [],
        "no pattern found",
    ),
    "negative": (lambda f: f.astype("f4") - 5000, [], "contains no (light|signal)"),
    "offset": (lambda f: f, ["--offset", "1e9"], "contains no light.*--offset"),
    "one image": (lambda f: f[0, 0], [], r"has 1 image \(2D\)"),
    "wavelengths": (lambda f: f, ["--wavelength=500,600"], "has 1 channel"),
    "no patterns": (lambda f: f, ["--patterns", "none.yaml"], "does not exist"),
    "aperture": (lambda f: f, ["--index", "1.33"], "exceeds the refractive index"),
    "pixel unit": (lambda f: f, ["--pixel", "65um"], "unit of the pixel size"),
    "wavelength": (lambda f: f, ["--wavelength", "525um"], "100 to 5000 nm"),
    "micrometres": (lambda f: f, ["--wavelength", ".525"], r"write 0\.525um"),
    "harmonics": (lambda f: f, ["--harmonics", "2"], "need at least 5 phases"),
    "order": (lambda f: f, ["--order", "xyz"], "such as apz"),
    "tiny": (lambda f: f[..., :12, :12], [], "at least 16"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, tmp_path, capsys):
    spoil, options, message = BAD[name]
    frames = spoil(scene(snr=20, size=96).frames)
    dtype = frames.dtype if frames.dtype.kind in "fu" else np.uint16
    frames = frames.astype(np.float32 if dtype == np.float64 else dtype)
    path = save(tmp_path / "raw.tif", frames)
    out = tmp_path / "out.tif"
    optics = OPTICS if "--wavelength" not in " ".join(options) else OPTICS[:2]
    assert run(["sim", str(path), "--out", str(out), *optics, *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("napari-geosr: ")
    assert re.search(message, said), said
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["raw.tif"]


@pytest.mark.parametrize("phases", ["3", "4"])
def test_three_beams_with_too_few_phases_are_not_simulated(phases, tmp_path, capsys):
    words = ["simulate", "sim", "--beams", "3", "--phases", phases, "--size", "32"]
    assert run([*words, "--out", f"{tmp_path}/sim"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"which {phases} phases cannot separate: use at least 5 phases" in said
    assert not (tmp_path / "sim").exists()


def test_missing_optics_are_named(tmp_path, capsys):
    path = save(tmp_path / "raw.tif", scene(size=96).frames)
    assert run(["sim", str(path), "--out", f"{tmp_path}/o.tif", "--na", "1.4"]) == 2
    said = capsys.readouterr().err
    assert "emission wavelength (--wavelength)" in said
    assert "--na" not in said


def colour_file(kind, folder):
    """Nine frames of 32 × 32 pixels in colour, as files of different programs."""
    pixels = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), np.uint8)
    path = folder / "colours.tif"
    if kind == "ImageJ":  # one directory per image, described in the first
        text = "ImageJ=1.54f\nimages=9\nslices=9\nloop=false\n"
        plain = {"photometric": "rgb", "metadata": None, "software": False}
        with tifffile.TiffWriter(path, byteorder=">") as file:
            for i, image in enumerate(pixels):
                file.write(image, description=None if i else text, **plain)
    elif kind == "folder":
        for i, image in enumerate(pixels):
            tifffile.imwrite(folder / f"f{i}.tif", image, photometric="rgb")
        path = folder
    elif kind == "pictures":
        for i, image in enumerate(pixels):
            (folder / f"f{i}.png").write_bytes(imagecodecs.png_encode(image))
        path = folder
    elif kind == "palette":
        colours = np.linspace(0, 65535, 3 * 256).reshape(3, 256).astype(np.uint16)
        tifffile.imwrite(path, pixels[..., 0], photometric="palette", colormap=colours)
    elif kind == "RGBA":
        opaque = np.full((*pixels.shape[:3], 1), 255, np.uint8)
        pixels = np.concatenate([pixels, opaque], axis=-1)
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    elif kind == "planes":
        planes = np.moveaxis(pixels, -1, 1)
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    else:
        options = {
            "RGB": {},
            "OME": {"ome": True, "metadata": {"axes": "ZYXS"}},
            "for ImageJ": {"imagej": True},
            "JPEG": {"compression": "jpeg"},
        }[kind]
        colours = "ycbcr" if kind == "JPEG" else "rgb"
        tifffile.imwrite(path, pixels, photometric=colours, **options)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "RGB", "RGBA", "planes", "OME", "for ImageJ", "ImageJ", "JPEG", "palette",
        "folder", "pictures",
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", [["sim"], ["sim", "check"]])
def test_colours_are_refused(kind, command, tmp_path, capsys):
    """They are not taken for the channels of a raw stack."""
    folder = tmp_path / "raw"
    folder.mkdir()
    path = colour_file(kind, folder)
    words = [*command, str(path), "--out", f"{tmp_path}/o.tif", *OPTICS[:4]]
    assert run(words) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.endswith(
        f"{path.name} contains colour images, but structured illumination needs the "
        "grey values of the camera. Export the raw frames as a greyscale stack, not as "
        "RGB; in Python, write them with tifffile.imwrite(…, photometric='minisblack')."
    )
    assert not (tmp_path / "o.tif").exists()


def test_grey_frames_stored_as_colours_can_be_written_as_grey(tmp_path):
    """tifffile stores 3 × 3 frames of 16 bits as colours, and will stop doing so."""
    path, config = tmp_path / "raw.tif", FramesConfig(order="apz", offset=0)
    pixels = np.random.default_rng(0).integers(0, 999, (3, 3, 32, 32), np.uint16)
    with pytest.warns(DeprecationWarning, match="stored as RGB"):
        tifffile.imwrite(path, pixels)
    with pytest.raises(VolumeError, match="photometric='minisblack'"):
        open_frames(path, config)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    np.testing.assert_array_equal(open_frames(path, config).frames(), pixels)


def test_channels_of_dyes_are_not_colours(tmp_path):
    """Three channels of 8 bits, stored last, or written by ImageJ."""
    pixels = np.random.default_rng(0).integers(0, 255, (9, 3, 32, 32), np.uint8)
    path = tmp_path / "dyes.tif"
    tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "ZCYX"})
    assert open_frames(path, FramesConfig()).n_channels == 3
    last = np.moveaxis(pixels, 1, -1)
    axes = {"axes": "ZYXC"}
    tifffile.imwrite(path, last, photometric="minisblack", metadata=axes)
    assert open_frames(path, FramesConfig()).n_channels == 3


@pytest.mark.parametrize(
    ("k", "message"), [(0.6, "camera cannot resolve"), (0.48, "objective transmits")]
)
def test_patterns_that_cannot_be_seen_are_refused(k, message, tmp_path, capsys):
    made = scene(snr=20, size=96)
    values = made.patterns.to_dict()
    values["angles"][0] |= {"wave_vector": [0.0, k], "period": None}
    del values["angles"][0]["direction_degrees"]
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    path = save(tmp_path / "raw.tif", made.frames)
    words = ["sim", str(path), "--out", f"{tmp_path}/o.tif", *OPTICS]
    assert run([*words, "--patterns", f"{tmp_path}/p.yaml"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "angles: 3", "angles: []\nshape: [96, 96]", "{"]
)
def test_spoiled_pattern_files_are_refused(text, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(text)
    path = save(tmp_path / "raw.tif", scene(snr=20, size=96).frames)
    words = ["sim", str(path), "--out", f"{tmp_path}/o.tif", *OPTICS]
    assert run([*words, "--patterns", f"{tmp_path}/p.yaml"]) == 2
    assert "p.yaml" in capsys.readouterr().err


def test_wrong_patterns_warn(tmp_path, capsys):
    made = scene(snr=20, size=128)
    values = made.patterns.to_dict()
    values["angles"][1]["phases_degrees"][2] += 40
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(values))
    path = save(tmp_path / "raw.tif", made.frames)
    words = ["sim", str(path), "--out", f"{tmp_path}/o.tif", *OPTICS, "--json"]
    words += ["--patterns", f"{tmp_path}/p.yaml", "--method", "wiener"]
    assert run(words) == 0
    captured = capsys.readouterr()
    assert "Angle 2, phase 3" in json.loads(captured.out)["warnings"][0]


def test_drifting_patterns_are_said_and_found_again(tmp_path, capsys):
    """Two time points with other phases."""
    one, other = scene(snr=20, size=96), scene(snr=20, size=96, seed=5)
    data = np.stack([v.frames.reshape(9, 96, 96) for v in (one, other)])
    volume = Volume(data.astype(np.uint16), "TZYX", (0.2, PIXEL, PIXEL), "µm")
    io.write(volume, tmp_path / "raw.ome.tif")
    words = ["sim", f"{tmp_path}/raw.ome.tif", "--out", f"{tmp_path}/o.tif", *OPTICS]
    assert run([*words, "--method", "wiener", "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert any("drift" in warning for warning in warnings)


def test_an_unclear_order_is_said(tmp_path, capsys):
    frames = scene("spots", snr=20, size=64).frames.reshape(9, 64, 64)
    mixed = frames[np.random.default_rng(3).permutation(9)].astype(np.uint16)
    path = save(tmp_path / "raw.tif", mixed)
    words = ["sim", "check", str(path), *OPTICS[:4], "--json", "--overwrite"]
    words += ["--out", f"{tmp_path}/check"]
    assert run(words) == 0
    unclear = "order of the frames of raw.tif is unclear"
    found = json.loads(capsys.readouterr().out)
    assert sum(unclear in warning for warning in found["warnings"]) == 1
    assert found["notes"] == []
    assert run([*words, "--order", "apz"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not any(unclear in warning for warning in found["warnings"])


def test_optics_of_a_microscope_file(tmp_path):
    """NA, medium and wavelength from OME-XML as written by microscopes."""
    from napari_geosr.io.optics import read_optics

    xml = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
    <Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="0.8"/>
    <Objective ID="Objective:1" LensNA="1.27" Immersion="Water"/></Instrument>
    <Image ID="Image:0"><ObjectiveSettings ID="Objective:1"/><Pixels ID="Pixels:0"
    DimensionOrder="XYZCT" Type="uint16" SizeX="8" SizeY="8" SizeZ="9" SizeC="1"
    SizeT="1"><Channel ID="Channel:0:0" EmissionWavelength="0.525"
    EmissionWavelengthUnit="µm"/><TiffData/></Pixels></Image></OME>"""
    data = np.zeros((9, 8, 8), np.uint16)
    tifffile.imwrite(
        tmp_path / "m.ome.tif", data, description=xml.encode(), metadata=None
    )
    found = read_optics(tmp_path / "m.ome.tif")
    assert found.numerical_aperture == 1.27
    assert found.refractive_index == 1.333
    assert found.wavelengths == pytest.approx((525.0,))


def test_a_microscope_file_needs_no_options(tmp_path, capsys):
    """Optics and pixel size from OME-XML are used in the search for patterns."""
    wavelength = 2 * 1.4 * PIXEL / 0.37
    xml = f"""<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
    <Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.4"
    Immersion="Oil"/></Instrument>
    <Image ID="Image:0"><ObjectiveSettings ID="Objective:0"/><Pixels ID="Pixels:0"
    DimensionOrder="XYZCT" Type="uint16" SizeX="64" SizeY="64" SizeZ="9" SizeC="1"
    SizeT="1" PhysicalSizeX="{PIXEL}" PhysicalSizeXUnit="µm" PhysicalSizeY="{PIXEL}"
    PhysicalSizeYUnit="µm"><Channel ID="Channel:0:0"
    EmissionWavelength="{wavelength}" EmissionWavelengthUnit="µm"/>
    <TiffData/></Pixels></Image></OME>"""
    data = scene(snr=30, size=64).frames.reshape(9, 64, 64).astype(np.uint16)
    path = tmp_path / "m.ome.tif"
    tifffile.imwrite(path, data, description=xml.encode(), metadata=None)
    words = ["sim", "check", str(path), "--out", f"{tmp_path}/c", "--json"]
    assert run(words) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["frames"]["numerical_aperture"] == 1.4
    assert values["cut_off_cycles_per_pixel"] == pytest.approx(0.37, rel=1e-4)
    assert [angle["found"] for angle in values["angles"]] == [True] * 3


def test_a_job_gives_the_same_result(tmp_path):
    from napari_geosr.core.steps import run_to_end
    from napari_geosr.jobs.kinds import read_job
    from napari_geosr.operations.sim import SimConfig, run_steps
    from napari_geosr.operations.sim.job import SimJob

    path = save(tmp_path / "raw.tif", scene(snr=20, size=64).frames)
    settings = SimConfig(na=1.4, wavelength=525, iterations=5, threads=1, checks=False)
    job = SimJob(name="result", frames=path, settings=settings)
    job.check()
    again, steps = read_job(job.to_values(), tmp_path)
    assert again == job
    made = run_to_end(
        steps(again, tmp_path, should_stop=lambda: False, keep_unfinished=lambda: False)
    )
    direct = run_to_end(run_steps(open_frames(path, settings), settings))
    np.testing.assert_array_equal(np.asarray(io.read(made)), np.asarray(direct.volume))
