"""Segmentation inside a mask: learning, blocks, and the command."""

from __future__ import annotations

import dataclasses
import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, DeviceMemoryError, VolumeError
from napari_geosr.core.steps import TileDone, WarningIssued, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference import masked
from napari_geosr.learning.shapes import SHAPE_METHODS, grey_scale
from napari_geosr.learning.shapes.data import ShapeSet
from napari_geosr.networks import build_network
from napari_geosr.networks.sparse._features import masked_voxels
from napari_geosr.operations.shapes import (
    SegmentInsideConfig,
    ShapeTrainJob,
    segmented_layer_steps,
    train_shape_steps,
)
from napari_geosr.operations.shapes.inside.thresholds import read_beyond_steps
from napari_geosr.operations.shapes.masks import read_labels_steps

SIZE = (0.5, 0.5, 0.5)


def specimen(seed: int, shape: tuple[int, ...] = (40, 44, 48)):
    """A noisy scan of two phases in a sphere, with the same phases outside it."""
    rng = np.random.default_rng(seed)
    phases = 1 + (ndimage.gaussian_filter(rng.standard_normal(shape), 3) > 0)
    scan = 50 * phases + rng.normal(0, 25, shape)
    places = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    mask = (places**2).sum(0) < 18**2
    return scan.astype(np.float32), phases * mask, mask


def write(folder: Path, name: str, values: np.ndarray, **more) -> Path:
    axes = "ZYX"[-values.ndim :]
    volume = Volume(values, axes, SIZE[: values.ndim], "mm", **more)
    kind = "labels" if values.dtype == np.uint8 else "image"
    return io.write(volume, folder / f"{name}.tif", kind=kind)


def files(folder: Path, seed: int) -> tuple[Path, Path, Path]:
    scan, labels, mask = specimen(seed)
    return (
        write(folder, f"scan{seed}", scan),
        write(folder, f"labels{seed}", labels.astype(np.uint8)),
        write(folder, f"mask{seed}", mask.astype(np.uint8)),
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    scan, labels, _ = files(folder, 1)
    training = {
        "source": (scan,), "target": (labels,), "name": "phases", "steps": 80,
        "channels": (8, 8), "patch": 24, "threads": 1, "device": "cpu",
        "learning_rate": 1e-2, "warm_up": 5, "averaging": 0.9,
    }  # fmt: skip
    job = ShapeTrainJob.from_values(
        {"method": "sparse_segmentation", "training": training}
    )
    job.check()
    made = run_to_end(train_shape_steps(job, folder / "job"))
    assert made is not None
    return made


def test_another_scan_is_segmented_better_than_by_a_threshold(
    model, tmp_path, capsys
) -> None:
    scan, _, mask = files(tmp_path, 2)
    values, labels, inside = specimen(2)
    out = tmp_path / "out.tif"
    words = ["shapes", "segment", str(scan), "--inside", str(mask)]
    assert run([*words, "--model", str(model), "-o", str(out), "--json"]) == 0
    found = io.read(out)
    answer = json.loads(capsys.readouterr().out)
    result = np.asarray(found.data)
    assert not result[~inside].any()
    assert set(np.unique(result[inside])) == {1, 2}
    by_threshold = np.where(values > 75, 2, 1)
    right, plain = ((r == labels)[inside].mean() for r in (result, by_threshold))
    assert plain < 0.87  # 25 / 25: one standard deviation
    assert right > plain + 0.07
    assert answer["voxels_inside"] == inside.sum()
    assert answer["fractions"]["1"] == pytest.approx((result[inside] == 1).mean())
    assert found.voxel_size == SIZE
    assert found.unit == "mm"
    assert found.provenance[-1]["operation"] == "shapes segment"


def test_invalid_voxels_around_the_mask_have_no_effect(model, tmp_path) -> None:
    """A round field of view is often surrounded by NaN."""
    values, labels, inside = specimen(2)
    _, _, mask = files(tmp_path, 2)
    for outside in (np.nan, np.inf):
        scan = write(
            tmp_path, f"{outside}", np.where(inside, values, np.float32(outside))
        )
        out = tmp_path / f"out_{outside}.tif"
        words = ["shapes", "segment", str(scan), "--mask", str(mask)]
        assert run([*words, "--model", str(model), "-o", str(out)]) == 0
        result = np.asarray(io.read(out).data)
        assert (result == labels)[inside].mean() > 0.93


def test_invalid_voxels_are_left_out_of_the_means() -> None:
    values, _, inside = specimen(2, (16, 18, 20))
    inside[:, :9] = False
    values[:, :9] = np.nan
    grey, mask = (torch.from_numpy(a)[None] for a in (values, inside))
    voxels = masked_voxels(grey[None], mask)
    _, z, y, x = voxels.coords[0].tolist()
    for i, reach in enumerate((1, 2), 1):
        box = (slice(max(0, c - reach), c + reach + 1) for c in (z, y, x))
        expected = np.nanmean(values[tuple(box)])
        assert float(voxels.features[0, i]) == pytest.approx(expected)
    assert y == 9


def test_a_mask_with_opposite_directions_is_rotated(model, tmp_path, capsys) -> None:
    values, _, inside = specimen(2, (20, 24, 28))
    inside[:, :12] = False
    ends = (0.0, -23 * 0.5, -27 * 0.5)
    turned = inside[:, ::-1, ::-1].astype(np.uint8)
    left, right = ({"orientation": name} for name in ("LPS", "RAS"))
    scan = write(tmp_path, "scan", values, metadata=left)
    mask = write(tmp_path, "mask", turned, origin=ends, metadata=right)
    out = tmp_path / "out.tif"
    words = ["shapes", "segment", str(scan), "--mask", str(mask)]
    assert run([*words, "--model", str(model), "-o", str(out)]) == 0
    assert "mask.tif was rotated by 180° about Z" in capsys.readouterr().err
    np.testing.assert_array_equal(np.asarray(io.read(out).data) > 0, inside)


def test_blocks_equal_the_whole(monkeypatch) -> None:
    torch.manual_seed(1)
    network = build_network(
        "surface_unet", channels=(4, 4, 4), upscale_factor=1, out_channels=3
    ).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.4)
    scan, _, inside = specimen(3, (37, 50, 45))
    inside[:, :, 30:] = False
    monkeypatch.setattr(masked, "_EDGES", (16,))
    plan = masked.plan_mask(inside, network.spec, 4, 10**12)
    assert len(plan.blocks) > 20
    assert not all(plan.busy)
    found = np.zeros(inside.shape, np.uint8)
    for step in masked.label_steps(scan, inside, (75.0, 35.0), network, plan):
        assert isinstance(step, TileDone)
        found[step.slices] = step.array
    grey = torch.from_numpy((scan - 75) / 35).float()[None, None]
    with torch.no_grad():
        logits = network(masked_voxels(grey, torch.from_numpy(inside)[None]))
    expected = np.zeros(inside.shape, np.uint8)
    _, z, y, x = logits.coords.long().unbind(1)
    expected[z, y, x] = logits.features.argmax(1).numpy() + 1
    assert len(np.unique(expected)) == 4
    np.testing.assert_array_equal(found, expected)


def test_too_little_memory_is_told_beforehand() -> None:
    network = build_network("surface_unet", channels=(4,), upscale_factor=1)
    with pytest.raises(DeviceMemoryError, match="8,000 voxels; even the smallest"):
        masked.plan_mask(np.ones((20, 20, 20), bool), network.spec, 4, 1000)


def test_outside_the_mask_nothing_is_learned() -> None:
    """Neither loss nor gradients depend on labels or counts outside the mask."""
    module = SHAPE_METHODS.load("sparse_segmentation")
    config = module.Config.create(
        source=("a.tif",), target=("b.tif",), channels=(3,), labels=2
    )
    method = module.Method(config)
    method.modules = method.build()
    grey = torch.randn(1, 1, 12, 12, 12)
    labels = torch.full((1, 1, 12, 12, 12), -1)
    labels[..., 3:9] = torch.randint(0, 2, (1, 1, 12, 12, 6))
    method.modules["network"].eval().requires_grad_(False)
    first = float(method.loss({"source": grey, "target": labels})[0])
    far = grey.clone()
    far[..., 11] = 100.0  # beyond the means of 5³ voxels
    again = float(method.loss({"source": far, "target": labels})[0])
    near = grey.clone()
    near[..., 9] = 100.0
    assert again == first
    assert float(method.loss({"source": near, "target": labels})[0]) != first


def test_more_labels_than_stated_are_refused(tmp_path) -> None:
    scan, labels, _ = files(tmp_path, 1)
    module = SHAPE_METHODS.load("sparse_segmentation")
    config = module.Config.create(source=(scan,), target=(labels,), patch=24)
    three = io.read(labels)
    three = three.replace(data=np.where(np.asarray(three.data) == 2, 3, 1))
    shapes = ShapeSet(config, [io.read(scan)], [three])
    with pytest.raises(ConfigError, match="has the label 3, but --n-labels is 2"):
        module.Method(config).draw(shapes, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Give the scans"),
        ({"source": ("a.tif",)}, "1 scans and 0 labels"),
        ({"simulated": "skulls"}, "cannot use simulated shapes"),
    ],
)
def test_missing_data_are_named(given, message) -> None:
    module = SHAPE_METHODS.load("sparse_segmentation")
    with pytest.raises(ConfigError, match=message):
        module.Method.check(module.Config.create(**given))


def test_bad_input_is_refused_in_one_sentence(model, tmp_path, capsys) -> None:
    scan, _, mask = files(tmp_path, 2)
    other = write(tmp_path, "small", np.ones((8, 8, 8), np.uint8))
    empty = write(tmp_path, "empty", np.zeros((40, 44, 48), np.uint8))
    nan = np.full((40, 44, 48), np.nan, np.float32)
    holes = write(tmp_path, "holes", nan)
    flat = write(tmp_path, "flat", np.full(nan.shape, 1000.1, np.float32))
    cases = (
        (scan, other, model, "must be on the same grid. Make the mask or the labels"),
        (scan, empty, model, "is empty"),
        (holes, mask, model, "NaN or infinite values inside the mask"),
        (flat, mask, model, "flat.tif has the same grey value (1000.1) at all voxels"),
        (scan, mask, "shape-sr-x2", "cannot segment shapes"),
        (scan, mask, "nothing", "There is no model for shapes"),
    )
    out = tmp_path / "out.tif"
    for source, inside, name, message in cases:
        words = ["shapes", "segment", str(source), "--inside", str(inside)]
        assert run([*words, "--model", str(name), "-o", str(out)]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
        assert not out.exists()


def test_all_labels_of_a_mask_are_segmented_unless_one_is_chosen(
    model, tmp_path, capsys
) -> None:
    scan, labels, mask = files(tmp_path, 2)
    found = {}
    for name, inside, more in (
        ("mask", mask, ()),
        ("all", labels, ()),
        ("one", labels, ("--label", "2")),
    ):
        out = tmp_path / f"{name}.tif"
        words = ["shapes", "segment", str(scan), "--mask", str(inside), *more]
        assert run([*words, "--model", str(model), "-o", str(out), "--json"]) == 0
        warnings = " ".join(json.loads(capsys.readouterr().out)["warnings"])
        told = f"{labels.name} has 2 labels (1, 2), and all of them belong to the mask."
        assert (told in warnings) == (name == "all")
        found[name] = np.asarray(io.read(out).data)
    np.testing.assert_array_equal(found["all"], found["mask"])
    np.testing.assert_array_equal(
        found["one"] > 0, np.asarray(io.read(labels).data) == 2
    )


def test_voxel_sizes_without_a_unit_are_compared() -> None:
    scan = Volume(np.zeros((8, 8, 8), np.float32), "ZYX", (1.0, 2.0, 2.0), "pixel")
    mask = Volume(np.ones((8, 8, 8), np.uint8), "ZYX", (2.0, 1.0, 1.0), "mm")
    config = SegmentInsideConfig.create(model="any")
    with pytest.raises(VolumeError, match="give their voxel size"):
        run_to_end(segmented_layer_steps(scan, mask, config))


def test_a_scan_and_labels_of_other_places_are_refused(tmp_path) -> None:
    scan, labels, _ = files(tmp_path, 1)
    moved = write(
        tmp_path, "moved", np.asarray(io.read(labels).data), origin=(9.0, 0.0, 0.0)
    )
    job = ShapeTrainJob.from_values(
        {
            "method": "sparse_segmentation",
            "training": {"source": (scan,), "target": (moved,)},
        }
    )
    with pytest.raises(VolumeError, match="do not show the same region"):
        job.check()


@pytest.mark.parametrize(("radius", "dense"), [(10, False), (20, True)])
def test_large_masks_are_segmented_with_dense_convolutions(
    radius: int, dense: bool, monkeypatch
) -> None:
    torch.manual_seed(1)
    network = build_network(
        "surface_unet", channels=(4, 4), upscale_factor=1, out_channels=3
    ).eval()
    scan, _, _ = specimen(3)
    places = np.indices(scan.shape) - 20
    inside = (places**2).sum(0) < radius**2
    plan = masked.plan_mask(inside, network.spec, 4, 10**12)
    assert plan.dense == dense
    calls = []
    forward = type(network).dense_forward
    monkeypatch.setattr(
        type(network),
        "dense_forward",
        lambda self, x: calls.append(len(x)) or forward(self, x),
    )
    by_kind = []
    for kind in (plan, dataclasses.replace(plan, dense=not dense)):
        (step,) = masked.label_steps(scan, inside, (75.0, 35.0), network, kind)
        by_kind.append(step.array)
        assert len(calls) == (dense or kind is not plan)
    # Rounding may decide for voxels with equal logits.
    assert (by_kind[0] != by_kind[1]).mean() < 1e-4


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "bad.tif has no labelled voxel"),
        ("too many", "bad.tif has the label 40000, but --n-labels is 2"),
        ("grey", "bad.tif contains the value .* which is not a label"),
        ("image", r"bad.tif has the axes Y, X; volumes \(Z, Y, X\) are needed"),
    ],
)
def test_unusable_labels_are_refused_before_the_job(
    kind: str, message: str, tmp_path, capsys
) -> None:
    scan, _, _ = files(tmp_path, 1)
    values, labels, _ = specimen(1)
    bad = {
        "empty": np.zeros(labels.shape, np.uint8),
        "too many": np.where(labels == 2, 40_000, labels),
        "grey": values,
        "image": labels[0].astype(np.uint8),
    }[kind]
    if kind == "image":
        io.write(Volume(values[0], "YX", SIZE[:2], "mm"), scan, overwrite=True)
    if kind == "too many":
        bad = bad.astype(np.uint16)
    target = write(tmp_path, "bad", bad)
    words = ["--source", scan, "--target", target, "--patch", 16, "--name", "m"]
    job = tmp_path / "job"
    command = ["train", "sparse-segmentation", *map(str, words), "-o", str(job)]
    assert run(command) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
    assert not job.exists()


@pytest.mark.parametrize(
    ("axes", "advice"),
    [("TZYX", " Choose a time point."), ("CZYX", " Choose a channel."), ("YX", "")],
)
def test_advice_on_labels_suits_their_axes(axes: str, advice: str) -> None:
    labels = Volume(np.ones((2,) * len(axes), np.uint8), axes, name="labels")
    with pytest.raises(VolumeError) as error:
        run_to_end(read_labels_steps(labels, 2, never_stop))
    assert str(error.value).endswith(f"volumes (Z, Y, X) are needed.{advice}")


def test_invalid_voxels_are_refused_before_the_job(tmp_path, capsys) -> None:
    _, labels, _ = files(tmp_path, 1)
    values, _, inside = specimen(1)
    values[np.nonzero(inside)[0][500], 20, 20] = np.inf
    scan = write(tmp_path, "scan", values)
    job = tmp_path / "job"
    words = ["train", "sparse-segmentation", "--source", str(scan), "--target"]
    assert run([*words, str(labels), "--name", "m", "-o", str(job)]) == 2
    assert "NaN or infinite values inside the mask" in capsys.readouterr().err
    assert not job.exists()


def test_the_grey_scale_of_a_large_mask_needs_little_memory(monkeypatch) -> None:
    scan, _, inside = specimen(1, (60, 100, 100))
    inside[:] = True
    inside[10:20] = False
    for name, value in (("SAMPLES", 2**12), ("AT_ONCE", 2**14)):
        monkeypatch.setattr(grey_scale, f"_MAX_{name}", value)
    monkeypatch.setattr(grey_scale, "_MIN_AT_ONCE", 2**10)
    n, volume = int(inside.sum()), Volume(scan, "ZYX")
    least = grey_scale.grey_scale_bytes(scan.shape, 4, n)
    for budget in (None, least):
        tracemalloc.start()
        found = run_to_end(
            grey_scale.grey_scale_steps(
                volume, lambda planes: inside[planes], n, never_stop, budget
            )
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.1 * least + 10_000
        assert least < 1.5 * peak
    sample = scan[inside][:: -(-n // 2**12)].astype(np.float64)
    assert found == (sample.mean(), sample.std())
    network = build_network("surface_unet", channels=(4,), upscale_factor=1)
    with pytest.raises(DeviceMemoryError, match="need 1"):
        masked.plan_mask(inside, network.spec, 4, 10**9, 10**9)


def test_labels_that_do_not_occur_are_told(tmp_path) -> None:
    scan, labels, _ = files(tmp_path, 1)
    training = {"source": (scan,), "target": (labels,), "labels": 4}
    job = ShapeTrainJob.from_values(
        {"method": "sparse_segmentation", "training": training}
    )
    (said,) = [s for s in job.check_steps() if isinstance(s, WarningIssued)]
    assert "No voxel has the labels 3, 4," in said.message


@pytest.mark.parametrize(
    ("option", "value"), [("above", "60"), ("below", "60"), ("above", "otsu")]
)
def test_voxels_beyond_a_threshold_are_segmented_as_inside_their_mask(
    option: str, value: str, model, tmp_path, capsys
) -> None:
    values, _, _ = specimen(2, (20, 24, 28))
    values[:, :6] = np.nan
    values[0, 8, 8] = np.inf
    scan = write(tmp_path, "scan", values)
    found = tmp_path / "found.tif"
    words = ["shapes", "segment", str(scan), "--model", str(model), "--json"]
    assert run([*words, f"--{option}", value, "-o", str(found)]) == 0
    answer = json.loads(capsys.readouterr().out)
    finite = np.isfinite(values)
    threshold = 60.0 if value == "60" else threshold_otsu(values[finite], nbins=2**16)
    assert answer["threshold"] == pytest.approx(threshold, abs=0.1)
    with np.errstate(invalid="ignore"):
        beyond = values > answer["threshold"]
    inside = finite & (beyond if option == "above" else ~beyond)
    assert answer["voxels_inside"] == inside.sum()
    mask = write(tmp_path, "mask", inside.astype(np.uint8))
    expected = tmp_path / "expected.tif"
    assert run([*words, "--mask", str(mask), "-o", str(expected)]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] is None
    labels, others = (io.read(path) for path in (found, expected))
    np.testing.assert_array_equal(labels.data, others.data)
    assert {*np.unique(labels.data)} == {0, 1, 2}
    record = labels.provenance[-1]
    assert set(record["inputs"]) == {"scan"}
    assert record["threshold"] == answer["threshold"]
    assert record["settings"][option] == (60.0 if value == "60" else value)


def test_the_grey_value_is_printed(model, tmp_path, capsys) -> None:
    values, _, _ = specimen(2, (12, 14, 16))
    scan, out = write(tmp_path, "scan", values - 100), tmp_path / "out.tif"
    words = ["shapes", "segment", str(scan), "--model", str(model), "-o", str(out)]
    assert run([*words, "--below", "-40.5"]) == 0
    text = capsys.readouterr().out
    count = int((values - 100 <= -40.5).sum())
    assert f"{count:,} voxels at or below -40.5 were segmented" in text
    assert "% of these voxels" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give a mask (--mask) or a threshold (--above or --below)"),
        (["--above", "3", "--below", "otsu"], "--above and --below cannot be combined"),
        (["--mask", "scan.tif", "--above", "3"], "--mask and --above cannot be"),
        (["--above", "3", "--label", "2"], "instead of --above"),
        (["--above", "nan"], "above: nan is outside the usable range"),
        (["--above", "300"], "No voxel of scan.tif is above 300: its grey values are "),
        (["--below", "300"], "Every voxel of scan.tif is at or below 300: its grey"),
    ],
)
def test_unusable_thresholds_are_refused(
    words: list[str], message: str, model, tmp_path, capsys, monkeypatch
) -> None:
    values, _, _ = specimen(2, (12, 14, 16))
    write(tmp_path, "scan", values)
    monkeypatch.chdir(tmp_path)
    given = ["shapes", "segment", "scan.tif", "--model", str(model), "-o", "out.tif"]
    assert run([*given, *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("out.tif").exists()


def test_a_scan_without_a_finite_value_has_no_voxels_beyond_a_threshold() -> None:
    scan = Volume(np.full((8, 8, 8), np.nan, np.float32), "ZYX", name="scan")
    config = SegmentInsideConfig.create(model="any", above=3)
    with pytest.raises(VolumeError, match="above 3: it contains no finite value"):
        run_to_end(read_beyond_steps(scan, config, 10**9, never_stop))
