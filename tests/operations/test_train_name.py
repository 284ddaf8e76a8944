"""The name of a model if the user gives none."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.naming import taken_names
from napari_geosr.operations.train import config_class
from napari_geosr.operations.train.name import proposed_name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("scans/scan12.ome.tif", "noise2void-scan12"),
        (Path("Rock 7 (80 kV).tif"), "noise2void-rock-7-80-kv"),
        ("scan_0.5um", "noise2void-scan_0.5um"),
        ("a.nii.gz", "noise2void-a"),
        ("Échantillon-3.h5", "noise2void-echantillon-3"),
        ("岩.tif", "noise2void"),
        ("..tif", "noise2void"),
        ("simulated:ct-scan:0-127", "noise2void-ct-scan"),
        ("simulated:", "noise2void"),
        ("x" * 300 + ".tif", "noise2void-" + "x" * 32),
    ],
)
def test_it_follows_from_method_and_source(source: str | Path, expected: str) -> None:
    found = proposed_name("noise2void", [source, "other.tif"])
    assert found == expected
    assert config_class("noise2void").create(name=found).name == found


def test_no_source_and_taken_names() -> None:
    assert proposed_name("tomogan", []) == "tomogan"
    taken = {"tomogan", "tomogan-2", "tomogan-a"}
    assert proposed_name("tomogan", [], taken) == "tomogan-3"
    assert proposed_name("tomogan", ["a.tif"], taken) == "tomogan-a-2"


def test_models_and_jobs_have_their_names(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path / "j", {"operation": "train"}, name="tomogan-a")
    index.register(job)
    assert {"tomogan-a", "foam-denoise"} <= taken_names()
