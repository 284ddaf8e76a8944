"""Pairs of two scans: aligned, with matching grey values, all files or none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError, FileError, VolumeError
from napari_geosr.core.steps import BlockDone, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.pairs import PairsConfig, pairs, pairs_steps
from napari_geosr.operations.pairs.quality import overlay_steps, report_lines
from napari_geosr.physics.sampling import area_downsample
from napari_geosr.registration.align import Alignment
from napari_geosr.registration.figures import correlation
from napari_geosr.registration.sampled import Grid, SampledVolume, copy_steps
from napari_geosr.registration.transform import Transform, identity

FILES = {"low.ome.tif", "high.ome.tif", "overlay.png", "pairs.json"}


def balls(shape, voxel, origin, centres, radius) -> np.ndarray:
    """Spheres with soft edges at physical positions, with grey values of 0.2 in 0.8."""
    axes = [o + voxel * np.arange(n) for n, o in zip(shape, origin, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    found = np.full(shape, 0.8)
    for centre in centres:
        far = np.linalg.norm(places - np.asarray(centre), axis=-1)
        found -= 0.6 / (1 + np.exp((far - radius) / (0.3 * voxel)))
    return found.astype(np.float32)


CENTRES = [(50.0, 45.0, 52.0), (92.0, 65.0, 40.0), (45.0, 95.0, 75.0), (90, 96, 88)]


def scene(factor=2, *, fine=(56, 58, 54), start=(12.0, 10.0, 8.0), noise=0.02):
    """A coarse volume with voxels of 4 µm, and a fine one of odd lengths inside it."""
    rng = np.random.default_rng(1)
    voxel = 4.0 / factor
    origin = -2.0 + voxel / 2  # the edges of both grids coincide
    shape = (34 * factor, 35 * factor, 33 * factor)
    whole = balls(shape, voxel, (origin,) * 3, CENTRES, 13.0)
    coarse = area_downsample(whole, factor)
    coarse = 100 * coarse + rng.normal(0, 100 * noise, coarse.shape)
    low = Volume(coarse.astype(np.float32), "ZYX", (4.0,) * 3, "µm", name="low scan")
    spot = balls(fine, voxel, start, CENTRES, 13.0)
    high = Volume(spot, "ZYX", (voxel,) * 3, "µm", start, name="high scan")
    return low, high


def centre_of_ball(volume: Volume, near) -> np.ndarray:
    """Physical centre of mass of the dark sphere around `near`."""
    data = np.asarray(volume.data, np.float64)
    axes = [
        o + v * np.arange(n)
        for n, v, o in zip(data.shape, volume.voxel_size, volume.origin, strict=True)
    ]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    # Weights that decrease smoothly, so that cut coarse voxels do not matter.
    far = np.linalg.norm(places - np.asarray(near), axis=-1)
    weight = np.clip(np.percentile(data, 90) - data, 0, None) * (far < 20)
    return (places * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum()


@pytest.mark.parametrize("coarser", [1, 2])
@pytest.mark.parametrize(
    ("first", "part", "moved"),
    [
        ((0, 0, 0), (60, 60, 60), 0),  # the part contains the pair
        ((0, 0, 0), (60, 60, 16), 0),  # the pair is longer than the part
        ((10, 10, 0), (40, 40, 40), 16),  # the pair is outside it
    ],
)
def test_a_pair_beyond_the_part_that_was_aligned_is_read(first, part, moved, coarser):
    data = balls((60, 60, 60), 2.0, (0.0,) * 3, CENTRES, 13.0)
    low = Volume(data, "ZYX", (2.0,) * 3, "µm")
    here = tuple(slice(a, a + n) for a, n in zip(first, part, strict=True))
    copy = run_to_end(copy_steps(low, (coarser,) * 3, here))
    found = identity(3)
    begin = Transform(found.matrix, found.shift + np.array([0.0, 0.0, moved]))
    aligned = Alignment(
        begin, found, "offset", None, copy, SampledVolume(data, Grid.of(low))
    )
    box = (slice(12, 50), slice(10, 50), slice(0, 50))
    laid = run_to_end(overlay_steps(aligned, low, box))
    assert laid.low.shape == laid.after.shape == laid.before.shape == laid.grid.shape
    assert laid.grid.shape == (38 // coarser, 40 // coarser, 50 // coarser)
    edge = laid.grid.voxel_size
    np.testing.assert_allclose(edge, 2.0 * coarser)
    np.testing.assert_allclose(
        laid.grid.origin - edge / 2, [23.0, 19.0, -1.0], atol=1e-9
    )
    assert np.abs(laid.low - laid.after).max() < 0.15
    assert correlation(laid.low, laid.after) > 0.99


@pytest.mark.parametrize(
    ("factor", "start"), [(2, (11.3, 10.9, 8.6)), (4, (10.2, 10.2, 10.2))]
)
def test_balls_lie_at_the_same_place_in_both(tmp_path, factor, start):
    fine = (28 * factor + 1, 29 * factor + 1, 27 * factor - 1)
    low, high = scene(factor, fine=fine, start=start)
    shifted = high.replace(origin=(0.0, 0.0, 0.0))  # in its own coordinates
    wrong = (2, -2, 1)
    offset = tuple(s + 2 - 2 / factor + e for s, e in zip(start, wrong, strict=True))
    done = pairs(low, shifted, tmp_path / "p", offset=offset, intensity="linear")
    one, two = (io.read(done.files[key]) for key in ("low", "high"))
    assert two.shape == tuple(factor * n for n in one.shape)
    size, origin = one.upscaled_geometry(factor)
    assert (two.voxel_size, two.unit) == (size, "µm")
    assert two.origin == pytest.approx(origin, abs=1e-9)
    assert min(one.shape) >= 25
    for centre in CENTRES[:2]:
        at = [centre_of_ball(volume, centre) for volume in (one, two)]
        print(f"×{factor}: {at[0].round(2)} and {at[1].round(2)}")
        assert np.abs(at[0] - at[1]).max() < 0.1 * 4
        assert np.abs(at[1] - centre).max() < 0.1 * 4
    # Grey values of the fine scan were matched to those of the coarse one.
    again = area_downsample(np.asarray(two.data), factor)
    assert np.abs(again - np.asarray(one.data)).mean() < 5
    assert done.report["grey_values"]["gain"] == pytest.approx(100, rel=0.05)
    assert done.report["quality"]["residual_shift"]["median"] < 0.2


def test_the_coarse_scan_stays_as_it_was_measured(tmp_path):
    low, high = scene()
    low = low.replace(
        data=np.asarray(low.data).astype(np.uint8), origin=(8.0, 9.0, 7.0)
    )
    high = high.replace(origin=tuple(np.add(high.origin, (8.0, 9.0, 7.0))))
    done = pairs(low, high, tmp_path / "p", start="positions", transform="translation")
    made = io.read(done.files["low"])
    assert made.dtype == np.uint8
    first = np.rint(np.subtract(made.origin, low.origin) / 4).astype(int)
    key = tuple(slice(a, a + n) for a, n in zip(first, made.shape, strict=True))
    assert np.array_equal(np.asarray(made.data), low.data[key])
    record = made.provenance[-1]
    assert record["operation"] == "pairs"
    assert set(record["inputs"]) == {"low", "high"}
    assert record["settings"]["start"] == "positions"


def test_the_report_says_how_good_it_is(tmp_path):
    low, high = scene()
    seen = []
    steps = pairs_steps(low, high, tmp_path / "p", PairsConfig(start="positions"))
    done = run_to_end(steps, seen.append)
    assert {p.name for p in (tmp_path / "p").iterdir()} == FILES
    report = json.loads((tmp_path / "p" / "pairs.json").read_text(encoding="utf-8"))
    assert report == done.report
    quality = report["quality"]
    assert quality["residual_shift"]["median"] < 0.1
    assert quality["mutual_information_bits"]["after"] > 0.3
    assert 0.8 < quality["overlap"] <= 1
    assert report["upscale_factor"] == 2
    assert report["transform"]["degrees"] < 0.5
    assert report["grey_values"]["low_noise"] == pytest.approx(2, rel=0.2)
    assert "--upscale-factor 2" in report["train"]
    warned = [step.message for step in seen if isinstance(step, WarningIssued)]
    assert warned == report["warnings"]
    assert any("little training data" in text for text in warned)
    done_steps = [step for step in seen if isinstance(step, BlockDone)]
    assert done_steps[-1].done == done_steps[-1].total
    text = "\n".join(report_lines(report))
    for word in (
        "Residual shift: 0.",
        "Mutual information",
        "Overlap",
        "Blur at low resolution: ",
    ):
        assert word in text
    assert set(done.layers) == {"low", "before", "after"}
    assert (tmp_path / "p" / "overlay.png").read_bytes()[:4] == b"\x89PNG"


def test_a_pair_that_is_off_is_warned_of(tmp_path):
    low, high = scene()
    bad = np.random.default_rng(5).normal(size=high.shape).astype(np.float32)
    done = pairs(
        low,
        high.replace(data=bad),
        tmp_path / "p",
        start="positions",
        transform="rigid",
    )
    text = " ".join(done.report["warnings"])
    assert "could not be measured" in text or "shifted by" in text
    assert "--offset" in text


def test_blocks_do_not_show(tmp_path):
    low, high = scene()
    settings = {"start": "positions", "transform": "rigid"}
    one = pairs(low, high, tmp_path / "one", **settings)
    many = pairs(low, high, tmp_path / "many", memory="1MB", **settings)
    a, b = (np.asarray(io.read(done.files["high"]).data) for done in (one, many))
    assert np.abs(a - b).max() < 1e-3


def test_only_rows_and_columns_become_finer(tmp_path):
    low, high = scene(2)
    coarse = high.data.reshape(28, 2, 58, 54).mean(axis=1)
    origin = (high.origin[0] + 1, *high.origin[1:])
    flat = Volume(coarse, "ZYX", (4.0, 2.0, 2.0), "µm", origin, name="slices")
    done = pairs(low, flat, tmp_path / "p", start="positions", dimensions="2D")
    one, two = (io.read(done.files[key]) for key in ("low", "high"))
    assert two.shape == (one.shape[0], 2 * one.shape[1], 2 * one.shape[2])
    assert two.voxel_size == (4.0, 2.0, 2.0)
    assert two.origin[0] == one.origin[0]
    assert "--dimensions 2D" in done.report["train"]
    with pytest.raises(VolumeError, match="Along Z, the voxels of 'slices' are only 1"):
        pairs(low, flat, tmp_path / "q", start="positions", upscale_factor=2)


def test_images_make_pairs_as_well(tmp_path):
    low, high = scene()
    image = Volume(low.data[15], "YX", (4.0, 4.0), "µm")
    depth = round((15 * 4 - high.origin[0]) / 2)
    fine = Volume(high.data[depth], "YX", (2.0, 2.0), "µm", high.origin[1:])
    done = pairs(image, fine, tmp_path / "p", start="positions")
    one, two = (io.read(done.files[key]) for key in ("low", "high"))
    assert two.shape == tuple(2 * n for n in one.shape)
    assert done.report["quality"]["residual_shift"]["median"] < 0.3


def test_units_are_converted(tmp_path):
    low, high = scene()
    in_mm = high.replace(
        voxel_size=(0.002,) * 3, unit="mm", origin=tuple(v / 1000 for v in high.origin)
    )
    done = pairs(low, in_mm, tmp_path / "p", start="positions")
    assert done.report["upscale_factor"] == 2
    assert done.report["quality"]["overlap"] > 0.8
    assert io.read(done.files["high"]).unit == "µm"


@pytest.mark.parametrize(
    ("change", "settings", "says"),
    [
        ({"unit": "pixel"}, {}, "--high-voxel-size"),
        ({"voxel_size": (3.9,) * 3}, {"upscale_factor": 2}, "only 1.03 times smaller"),
        ({"voxel_size": (0.1,) * 3}, {}, "40 times smaller"),
        ({"origin": (900.0, 0.0, 0.0)}, {}, "do not overlap"),
        ({"origin": (112.0, 10.0, 8.0)}, {}, "at least 8 × 8 × 8|do not overlap"),
        ({}, {"offset": (1.0, 2.0)}, "needs 3 numbers"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, change, settings, says):
    low, high = scene()
    kind = {} if "offset" in settings else {"start": "positions"}
    with pytest.raises((VolumeError, ConfigError), match=says):
        pairs(
            low,
            high.replace(**change),
            tmp_path / "p",
            transform="translation",
            **kind,
            **settings,
        )
    assert not (tmp_path / "p").exists()


def test_a_volume_and_an_image_make_no_pair(tmp_path):
    low, high = scene()
    image = Volume(high.data[0], "YX", (2.0, 2.0), "µm", name="photo")
    with pytest.raises(VolumeError, match="'photo' is a single image"):
        pairs(low, image, tmp_path / "p")
    nothing = low.replace(data=np.zeros((0, 4, 4), np.float32))
    with pytest.raises(VolumeError, match="is empty"):
        pairs(nothing, high, tmp_path / "p")


def test_files_are_not_replaced_unasked(tmp_path):
    low, high = scene()
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "high.ome.tif").write_bytes(b"mine")
    with pytest.raises(FileError, match=r"already contains high.ome.tif"):
        pairs(low, high, tmp_path / "p", start="positions")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileError, match="is a file"):
        pairs(low, high, tmp_path / "file", start="positions")
    io.write(low, tmp_path / "low.ome.tif")
    source = io.read(tmp_path / "low.ome.tif")
    steps = pairs_steps(source, high, tmp_path, overwrite=True)
    with pytest.raises(FileError, match="is the input"):
        run_to_end(steps)


def test_stopped_while_writing_nothing_is_left(tmp_path):
    low, high = scene()
    writing = []

    def on_step(step) -> None:
        if getattr(step, "message", "") == "Writing the pair":
            writing.append(step)

    steps = pairs_steps(
        low,
        high,
        tmp_path / "new" / "p",
        PairsConfig(start="positions"),
        should_stop=lambda: bool(writing),
    )
    with pytest.raises(Cancelled):
        run_to_end(steps, on_step)
    assert list(tmp_path.iterdir()) == []
