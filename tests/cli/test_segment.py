"""``napari-geosr segment`` as used by a script."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import Step, TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.segment import (
    SegmentConfig,
    answer_steps,
    open_segmenter,
    segment_steps,
)

SHAPE = (6, 48, 56)


@pytest.fixture(scope="module")
def phases() -> np.ndarray:
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 4)
    return np.where(field > 0, 2, 1).astype(np.uint8)


@pytest.fixture
def files(phases: np.ndarray, tmp_path: Path) -> tuple[Path, Path]:
    """A scan, and labels with strokes on two slices."""
    rng = np.random.default_rng(1)
    values = (60 * phases + rng.normal(0, 20, SHAPE)).clip(0, 255).astype(np.uint8)
    scan = Volume(values, "ZYX", (4.0, 2.0, 2.0), "µm", origin=(1.0, 2.0, 3.0))
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[1::3, ::9] = phases[1::3, ::9]
    labels = scan.replace(data=strokes)
    return (
        io.write(scan, tmp_path / "scan.ome.tif"),
        io.write(labels, tmp_path / "labels.ome.tif", kind="labels"),
    )


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
def test_labels_and_probabilities_are_written(
    files, phases, suffix: str, tmp_path, capsys
) -> None:
    out, shares = tmp_path / f"out.{suffix}", tmp_path / f"shares.{suffix}"
    words = ["segment", *map(str, files[:1]), "--labels", str(files[1]), "-o", str(out)]
    assert run([*words, "--probabilities", str(shares), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    found, probabilities = io.read(out), io.read(shares)
    assert found.holds_labels
    assert found.dtype == np.uint8
    assert found.voxel_size == (4.0, 2.0, 2.0)
    assert found.origin == (1.0, 2.0, 3.0)
    assert found.unit == "µm"
    values = np.asarray(found)
    assert (values == phases).mean() > 0.95
    assert said["classes"][0] == {
        "class": 1,
        "fraction": pytest.approx((values == 1).mean()),
        "painted_voxels": int((phases[1::3, ::9] == 1).sum()),
    }
    assert said["painted_slices"] == 2
    assert probabilities.axes == "CZYX"
    assert probabilities.dtype == np.float32
    best = np.asarray(probabilities).argmax(axis=0) + 1
    np.testing.assert_array_equal(best, values)
    record = found.provenance[-1]
    assert record["operation"] == "segment"
    assert record["settings"]["seed"] == 0
    assert record["unpainted"] == 0
    for volume in record["inputs"].values():
        assert volume["checksum"].startswith("sha256:")


def test_the_whole_scan_gets_what_the_screen_shows(files, tmp_path) -> None:
    scan, labels = map(io.read, files)
    config = SegmentConfig(seed=3)
    out = tmp_path / "out.tif"
    run_to_end(segment_steps(scan, labels, out, config))
    segmenter = open_segmenter(scan, config)
    answer = run_to_end(answer_steps(segmenter, labels, 4, config, lambda: False))
    np.testing.assert_array_equal(np.asarray(io.read(out))[4], answer.found.labels)


def test_an_image_is_segmented_too(files, phases, tmp_path, capsys) -> None:
    for path, name in zip(files, ("image", "strokes"), strict=True):
        volume = io.read(path)
        flat = Volume(np.asarray(volume)[1], "YX", (2.0, 2.0), "µm")
        io.write(flat, tmp_path / f"{name}.tif")
    image, labels, out = (tmp_path / f"{n}.tif" for n in ("image", "strokes", "out"))
    assert run(["segment", str(image), "-l", str(labels), "-o", str(out)]) == 0
    assert "class 2:" in capsys.readouterr().out
    assert (np.asarray(io.read(out)) == phases[1]).mean() > 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v[:, 1:], "Paint on this scan"),
        (lambda v: 0 * v, "Nothing is painted"),
        (lambda v: np.where(v == 2, 0, v), "Only class 1 is painted"),
        (lambda v: v / 4, "0.25, which is not a whole number"),
    ],
)
def test_unsuitable_labels_leave_no_file(
    files, change, message: str, tmp_path, capsys
) -> None:
    labels = io.read(files[1])
    bad = tmp_path / "bad.tif"
    io.write(labels.replace(data=change(np.asarray(labels)), metadata={}), bad)
    before = set(tmp_path.iterdir())
    words = ["segment", str(files[0]), "-l", str(bad), "-o", str(tmp_path / "o.tif")]
    assert run(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"origin": (1.0, 9.0, 3.0)}, "begins at 1 × 9 × 3 µm"),
        ({"voxel_size": (4.0, 2.5, 2.0)}, "has voxels of 4 × 2.5 × 2 µm"),
    ],
)
def test_labels_elsewhere_are_refused(files, place, message, tmp_path, capsys) -> None:
    labels = io.read(files[1]).replace(**place)
    bad = io.write(labels, tmp_path / "bad.ome.tif", kind="labels")
    out = tmp_path / "out.ome.tif"
    assert run(["segment", str(files[0]), "-l", str(bad), "-o", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_labels_of_unknown_position_are_used_voxel_by_voxel(
    files, tmp_path, capsys
) -> None:
    labels = Volume(np.asarray(io.read(files[1])), "ZYX")
    plain = io.write(labels, tmp_path / "plain.tif", kind="labels")
    out = tmp_path / "out.ome.tif"
    assert run(["segment", str(files[0]), "-l", str(plain), "-o", str(out)]) == 0
    assert out.exists()


def test_a_stopped_run_leaves_no_file(files, tmp_path) -> None:
    scan, labels = map(io.read, files)
    segmented: list[Step] = []

    def keep(step: Step) -> None:
        segmented.extend([step] if isinstance(step, TileDone) else [])

    steps = segment_steps(
        scan,
        labels,
        tmp_path / "out.tif",
        SegmentConfig(),
        probabilities=tmp_path / "shares.tif",
        should_stop=lambda: bool(segmented),
    )
    before = set(tmp_path.iterdir())
    with pytest.raises(Cancelled):
        run_to_end(steps, keep)
    assert len(segmented) == 1
    assert set(tmp_path.iterdir()) == before


def test_results_do_not_replace_each_other_or_the_input(files, capsys) -> None:
    scan, labels = map(str, files)
    words = ["segment", scan, "-l", labels]
    assert run([*words, "-o", labels, "--overwrite"]) == 2
    assert run([*words, "-o", "a.tif", "-p", "a.tif"]) == 2
    assert "Choose two names" in capsys.readouterr().err


def test_a_model_that_is_no_diffusion_model_is_refused(files, tmp_path, capsys) -> None:
    words = ["segment", str(files[0]), "-l", str(files[1]), "-m", "ct-denoise"]
    assert run([*words, "-o", str(tmp_path / "out.tif")]) == 2
    assert "is not a diffusion model" in capsys.readouterr().err
