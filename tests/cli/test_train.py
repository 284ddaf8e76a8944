"""``train`` and ``jobs`` as used by a script."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_geosr.cli.app import run
from napari_geosr.operations.train import needs

FAST = [
    *("--batch-size", "2", "--patch", "24", "--layers", "3"),
    *("--width", "2", "--device", "cpu", "--threads", "1"),
]


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    clean = np.kron(rng.random((8, 5, 5)), np.ones((1, 8, 8)))
    for name in ("a.tif", "b.tif"):
        noisy = (clean + rng.normal(0, 0.2, clean.shape)).astype(np.float32)
        tifffile.imwrite(
            name,
            noisy,
            imagej=True,
            resolution=(0.5, 0.5),
            metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
        )
    return tmp_path


def train(*more: str, out: str = "job", steps: int = 12) -> int:
    pair = ["--source", "a.tif", "--target", "b.tif", "--steps", str(steps)]
    return run(["train", "noise2noise", *pair, "--out", out, *FAST, *more])


def values(capsys: Any, *words: str) -> dict[str, Any]:
    assert run([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_methods_are_listed_with_what_they_need(capsys: Any) -> None:
    assert run(["train", "--list"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert all(name in listed and need in listed for name, need in needs().items())


def test_a_trained_model_restores_at_once(scans: Path, capsys: Any) -> None:
    assert train("--name", "mine", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "done"
    model = scans / "job" / "result" / "mine"
    assert said["model"] == str(model)
    assert run(["models", "verify", str(model)]) == 0
    assert run(["restore", "a.tif", "--model", str(model), "--out", "r.ome.tif"]) == 0
    capsys.readouterr()
    assert values(capsys, "info", "r.ome.tif")["voxel_size"] == [2.0, 2.0, 2.0]
    card = values(capsys, "models", "show", str(model))
    assert card["figures"][0]["method"] == "input"
    assert card["provenance"]["inputs"]["source 1"]["checksum"].startswith("sha256:")
    assert card["provenance"]["training"]["seconds"] > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--source", "a.tif"], "needs a target for each source"),
        (["--source", "nowhere.tif", "--target", "b.tif"], "nowhere.tif"),
        (["--source", "a.tif", "--target", "b.tif", "--patch", "2"], "patch"),
        (["--source", "a.tif", "--target", "b.tif", "--network", "vgg"], "vgg"),
        (
            ["--source", "a.tif", "--target", "b.tif", "--adjacent-slices", "4"],
            "odd number",
        ),
    ],
)
def test_what_is_wrong_is_said_before_a_folder_is_made(
    scans: Path, capsys: Any, words: list[str], says: str
) -> None:
    assert run(["train", "noise2noise", "--out", "job", *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not (scans / "job").exists()


def test_names_follow_from_method_and_source(scans: Path, capsys: Any) -> None:
    for i, expected in enumerate(["noise2noise-a", "noise2noise-a-2"]):
        assert train("--prepare", out=f"job{i}") == 0
        capsys.readouterr()
        shown = values(capsys, "jobs", "show", f"job{i}")
        assert shown["name"] == shown["config"]["training"]["name"] == expected
    assert run(["train", "noise2noise", "--help"]) == 0
    assert "mine" not in capsys.readouterr().out


def test_correlated_noise_is_told_when_a_job_is_prepared(
    scans: Path, capsys: Any
) -> None:
    noise = np.random.default_rng(1).normal(0, 20, (16, 64, 64))
    ndimage.gaussian_filter1d(noise, 1.0, axis=2, output=noise)
    tifffile.imwrite("rows.tif", (200 + noise).astype(np.float32))
    words = ["train", "noise2void", "--source", "rows.tif", "--out", "job", *FAST]
    assert run([*words, "--prepare"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "noise of rows.tif is correlated between neighbouring voxels" in said
    assert train("--prepare", out="pair") == 0
    assert "correlated" not in capsys.readouterr().err


def test_a_method_has_to_be_chosen(capsys: Any) -> None:
    assert run(["train"]) == 2
    assert "noise2noise" in capsys.readouterr().err


def test_a_job_is_not_written_over_another(scans: Path, capsys: Any) -> None:
    assert train() == 0
    assert train() == 2
    assert "not empty" in capsys.readouterr().err


def test_settings_of_one_job_start_the_next(scans: Path, capsys: Any) -> None:
    assert train("--seed", "5") == 0
    again = ["train", "noise2noise", "--out", "again", "--config", "job/config.yaml"]
    assert run([*again, "--name", "second"]) == 0
    capsys.readouterr()
    shown = values(capsys, "jobs", "show", "again")
    assert shown["config"]["training"]["seed"] == 5
    assert shown["name"] == "second"


def test_what_files_do_not_say_is_said(scans: Path, capsys: Any) -> None:
    parts = [f"part{i}.tif" for i in range(3)]
    rng = np.random.default_rng(0)
    for part in parts:  # written without axis names: pages, perhaps a time-lapse series
        tifffile.imwrite(part, rng.random((8, 40, 40), np.float32), metadata=None)
    begin = ["train", "noise2inverse", "--source", *parts, "--steps", "2", *FAST]
    assert run([*begin, "--out", "job", "--name", "m"]) == 0
    said = capsys.readouterr()
    assert said.err.count("note: part0.tif and 2 more: The file does not name") == 1
    assert "treated as slices (Z)" in said.err
    assert "does not name" not in said.out
    events = (scans / "job" / "events.jsonl").read_text()
    assert "treated as slices (Z)" in events
    assert run([*begin, "--axes", "ZYX", "--out", "other", "--name", "m"]) == 0
    assert "does not name" not in capsys.readouterr().err


def test_several_files_follow_one_flag(scans: Path, capsys: Any) -> None:
    parts = ["--source", "a.tif", "b.tif", "--name", "n2i", "--steps", "2"]
    assert run(["train", "noise2inverse", *parts, "--out", "job", *FAST]) == 0
    assert (
        len(values_of(str(scans / "job"), capsys)["config"]["training"]["source"]) == 2
    )


def test_shapes_that_do_not_fit_leave_no_folder(scans: Path, capsys: Any) -> None:
    tifffile.imwrite("c.tif", np.ones((8, 40, 41), np.float32))
    pair = ["--source", "a.tif", "--target", "c.tif", "--out", "job"]
    assert run(["train", "noise2noise", *pair]) == 2
    assert "8 × 40 × 41" in capsys.readouterr().err
    assert not (scans / "job").exists()


def test_a_scan_is_no_second_scan_of_itself(scans: Path, capsys: Any) -> None:
    pair = ["--source", "a.tif", "--target", "a.tif", "--out", "job"]
    assert run(["train", "noise2noise", *pair]) == 2
    assert "as both source and target" in capsys.readouterr().err


def test_a_training_goes_on_from_a_model_with_its_network(
    scans: Path, capsys: Any
) -> None:
    assert train("--name", "first") == 0
    model = str(scans / "job" / "result" / "first")
    pair = ["--source", "a.tif", "--target", "b.tif", "--steps", "2", "--patch", "24"]
    more = ["train", "noise2noise", *pair, "--from-model", model, "--device", "cpu"]
    assert run([*more, "--out", "tuned", "--name", "tuned"]) == 0
    capsys.readouterr()
    tuned = values(capsys, "models", "show", str(scans / "tuned/result/tuned"))
    assert tuned["network_kwargs"]["depth"] == 3
    assert run([*more, "--out", "other", "--layers", "4"]) == 2
    assert "depth 3 (here 4)" in capsys.readouterr().err


def test_a_detached_job_is_watched_cancelled_resumed_and_removed(
    scans: Path, capsys: Any
) -> None:
    assert train("--detach", "--name", "long", steps=100_000) == 0
    deadline = time.monotonic() + 60
    while values_of("long", capsys)["state"] != "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert run(["jobs", "remove", "long"]) == 2
    assert "Stop it first: napari-geosr jobs stop" in capsys.readouterr().err
    assert run(["jobs", "cancel", "long"]) == 0
    assert run(["jobs", "watch", "long"]) == 0
    assert values_of("long", capsys)["state"] == "cancelled"
    assert run(["jobs", "cancel", "long"]) == 2
    assert run(["jobs", "remove", "long"]) == 0
    assert not (scans / "job").exists()
    assert run(["jobs", "show", "long"]) == 2


def values_of(name: str, capsys: Any) -> dict[str, Any]:
    capsys.readouterr()
    return values(capsys, "jobs", "show", name)
