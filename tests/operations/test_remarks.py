"""Messages about volumes that are not what they seem."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr import io, measure_porosity, restore
from napari_geosr.cli.app import run
from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import RestoreConfig, restore_steps
from napari_geosr.operations.restore.verdict.run_verdict import (
    CountLimit,
    RunVerdict,
)


def volume(data, **more) -> Volume:
    return Volume(np.asarray(data), "ZYX", (2.0,) * 3, "µm", name="block", **more)


@pytest.fixture
def mask() -> np.ndarray:
    solid = np.ones((10, 20, 20), np.uint8)
    solid[3:7, 5:9, 5:9] = 0
    return solid


@pytest.mark.parametrize("factor", [1, 255])
def test_two_values_have_no_uncertainty(mask, factor):
    report = measure_porosity(volume(mask * factor))
    assert report.porosity == pytest.approx(64 / 4000)
    assert report.porosity_uncertainty == 0
    assert any(
        "only two values; 0 was assumed to be pore" in w for w in report.warnings
    )
    as_bool = measure_porosity(volume(mask.astype(bool)))
    assert as_bool.porosity_uncertainty == 0


def test_labels_are_pores_whatever_their_numbers(mask, tmp_path):
    labels = np.where(mask, 0, 7).astype(np.uint16)
    labels[0, 0, 0] = 900
    io.write(volume(labels), tmp_path / "pores.ome.tif", kind="labels")
    report = measure_porosity(io.read(tmp_path / "pores.ome.tif"))
    assert report.pore_voxels == 65
    assert any("contains labels" in w for w in report.warnings)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32])
def test_labels_of_other_programs_are_noticed(rng, dtype):
    labels = np.zeros((12, 40, 40), dtype)
    for i in range(5):
        labels[2:10, 8 * i : 8 * i + 6, 10:30] = i + 1
    report = measure_porosity(volume(labels))
    assert any("looks like a label image" in w for w in report.warnings)
    right = measure_porosity(volume(labels), threshold=0.0, phase="bright")
    assert right.pore_voxels == np.count_nonzero(labels)
    assert not right.warnings
    grey = rng.normal(100, 30, labels.shape).clip(0, 255).astype(dtype)
    grey[:, :, :12] = 0  # padding
    warnings = measure_porosity(volume(grey)).warnings
    assert not any("looks like a label image" in w for w in warnings)


def test_missing_voxels_and_unfinished_restorations_are_named(mask):
    data = mask.astype(np.float32) + np.linspace(0, 0.1, 20, dtype=np.float32)
    data[5:] = np.nan
    report = measure_porosity(volume(data, provenance=({"complete": False},)))
    assert any("2000 voxels" in w and "50 %" in w for w in report.warnings)
    assert any("unfinished restoration" in w for w in report.warnings)


def test_unfinished_integers_need_a_mask(mask, tmp_path):
    data = mask * 200
    data[5:] = 0
    part = volume(data, provenance=({"complete": False}, {"operation": "crop"}))
    with pytest.raises(VolumeError, match="unfinished restoration in uint8"):
        measure_porosity(part)
    finished = np.zeros_like(data)
    finished[:5] = 1
    report = measure_porosity(part, volume(finished))
    assert report.sample_voxels == 5 * 400
    assert any("unfinished restoration" in w for w in report.warnings)


def test_a_mask_of_nan_outlives_a_restoration(mask):
    data = mask.astype(np.float32) + np.linspace(0, 0.1, 20, dtype=np.float32)
    data[:, :, 12:] = np.nan
    result = restore(volume(data), model="foam-sr-x2")
    report = measure_porosity(result)
    assert report.sample_voxels == 8 * 10 * 20 * 12
    assert not any("has none" in w for w in report.warnings)
    filled = result.replace(data=np.nan_to_num(result.data, nan=1.0))
    warnings = measure_porosity(filled).warnings
    assert any("1600 NaN" in w and "has none" in w for w in warnings)


@pytest.mark.parametrize("level", ["ok", "caution", "harmful"])
def test_the_verdict_before_a_restoration_is_repeated(mask, tmp_path, capsys, level):
    limit = "Pores of up to 33 voxels cannot be counted: noise hides them."
    limits = (CountLimit("pores", 33, limit),)
    verdict = RunVerdict("ok", f"Noise 9 % of the contrast. {limit}", limits=limits)
    repeated = limit
    if level != "ok":
        main, more = f"This is {level}.", "m may lose pores. Check the count."
        verdict = RunVerdict(
            level,
            main,
            (more, "The noise is odd. Count on it."),
            notes=(limit,),
            limits=limits,
            counting=(more,),
        )
        repeated = f"{main} {more} {limit}"
    record = {"operation": "restore", "verdict": verdict.to_json_dict()}
    data = mask * 200 + np.arange(20, dtype=np.uint8)
    out = io.write(volume(data, provenance=(record,)), tmp_path / "r.ome.tif")
    words = ["measure", str(out), "-o", str(tmp_path / "report"), "--json"]
    assert run([*words, "--min-voxels", "33"]) == 0
    said = json.loads(capsys.readouterr().out)["warnings"]
    expected = f"Verdict before the restoration of 'r': {repeated}"
    assert expected in said
    report = json.loads((tmp_path / "report/report.json").read_text("utf-8"))
    assert expected in report["warnings"]
    larger = measure_porosity(io.read(out), min_voxels=34).warnings
    assert any(limit in warning for warning in larger) is False
    assert any("Verdict before" in w for w in larger) == (level != "ok")


@pytest.mark.parametrize(
    ("limit", "objects", "said"), [(33, "pores", 2), (70, "pores", 3), (33, "cells", 0)]
)
def test_pores_too_small_to_be_counted_are_counted(limit, objects, said):
    data = np.full((8, 20, 20), 200, np.float32)
    for edge, at in ((3, 1), (3, 6), (4, 12)):
        data[1 : 1 + edge, at : at + edge, 1 : 1 + edge] = 50
    sentence = f"Up to {limit} voxels, they cannot be counted."
    verdict = RunVerdict("ok", "", limits=(CountLimit(objects, limit, sentence),))
    record = {"operation": "restore", "verdict": verdict.to_json_dict()}
    warnings = measure_porosity(volume(data, provenance=(record,))).warnings
    (found,) = [w for w in warnings if sentence in w]
    assert (f"Of the 3 measured pores, {said} are that small." in found) == (said > 0)
    assert ("that small" in found) == (said > 0)


def test_a_given_threshold_needs_no_contrast(mask):
    solid = volume(np.full_like(mask, 200))
    assert measure_porosity(solid, threshold=100.0).porosity == 0
    assert measure_porosity(solid, threshold=250.0).porosity == 1
    with pytest.raises(VolumeError, match="one grey value"):
        measure_porosity(solid)


@pytest.mark.parametrize("inside", [False, True])
def test_a_result_never_replaces_its_scan(mask, tmp_path, inside):
    folder = tmp_path / "slices"
    folder.mkdir()
    for z, plane in enumerate(mask * 200):
        io.write(Volume(plane, "YX"), folder / f"{z:02d}.tif")
    io.write(volume(mask * 200), tmp_path / "scan.tif")
    source = folder if inside else tmp_path / "scan.tif"
    out = folder / "out.tif" if inside else source
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(FileError, match="input"):
        list(restore_steps(io.read(source), RestoreConfig(), out=out, overwrite=True))
    assert sorted(p.name for p in folder.iterdir()) == before
    assert io.read(tmp_path / "scan.tif").shape == mask.shape
