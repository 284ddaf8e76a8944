"""Consistency of a restoration with its scan if both are compared."""

from __future__ import annotations

import numpy as np
import pytest
from compare_helpers import means, run, spheres

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.compare import CompareConfig
from napari_geosr.operations.restore.consistency import consistency_steps

PLAIN = CompareConfig(pores=False, difference=False)


@pytest.fixture
def scan(rng) -> Volume:
    data = means(spheres((72, 80, 84), n=20), 2) + rng.normal(0, 6, (36, 40, 42))
    return Volume(data.astype("f4"), "ZYX", (2.0,) * 3, "µm", (0.5,) * 3, name="scan")


def restored(scan: Volume, data: np.ndarray, **inputs: Volume) -> Volume:
    factor = data.shape[0] // scan.shape[0]
    record = provenance.record("restore", inputs=inputs or {"input": scan}, settings={})
    size, origin = scan.upscaled_geometry(factor)
    return scan.replace(
        data=data.astype("f4"),
        voxel_size=size,
        origin=origin,
        name="restored",
        provenance=(record,),
    )


def texts(report) -> dict[str, list[str]]:
    return {row.label: row.texts for row in report.rows()}


def test_a_good_super_resolution_is_consistent(scan):
    truth = spheres((72, 80, 84), n=20)
    result = restored(scan, truth)
    for order in (["A", "B"], ["B", "A"]):
        volumes = dict(zip(order, (scan, result), strict=True))
        found = run(dict(sorted(volumes.items())), PLAIN)
        key, other = order[1], order[0]
        (check,) = found.scan_checks.values()
        assert found.scan_checks[key] is check
        assert check.scan == other
        assert check.level == "ok"
        assert check.residual == pytest.approx(1, abs=0.1)
        assert check.contrast == pytest.approx(1, abs=0.05)
        assert check.regions == 0
        levels = texts(found)["Consistency with the scan"]
        row = dict(zip(sorted(volumes), levels, strict=True))
        assert row == {key: "ok", other: "–"}
        assert any("'restored' with its scan 'scan'" in text for text in found.remarks)
        assert found.warnings == ()
    frame = found.to_dataframe()
    assert frame.loc["A", "residual_in_noise"] == pytest.approx(check.residual)
    assert found.to_dict()["consistency"]["A"]["contrast"] == check.contrast


def test_its_figures_are_those_of_the_check(scan):
    result = restored(scan, spheres((72, 80, 84), n=20) * 0.9)
    alone = run_to_end(consistency_steps(scan, result))
    (check,) = run({"A": scan, "B": result}, PLAIN).scan_checks.values()
    assert check.contrast == alone.figures.slope
    assert check.contrast_error == alone.figures.slope_error
    assert check.residual == alone.figures.residual_rms / alone.figures.noise_rms
    assert (check.level, check.sentence) == (
        alone.verdict.level,
        alone.verdict.sentence,
    )


def test_a_result_that_does_not_fit_is_a_warning(scan):
    said: list[str] = []
    other = restored(scan, spheres((72, 80, 84), n=20, seed=9))
    found = run({"A": scan, "B": other}, PLAIN, said=said)
    assert found.scan_checks["B"].level == "harmful"
    (warning,) = [text for text in said if "Do not measure it" in text]
    assert warning.startswith("Consistency of 'restored' with its scan 'scan'")
    assert warning in found.warnings


def test_the_scan_is_recognised_in_its_file(scan, tmp_path):
    """Identified by the checksum of the file or of the voxels in the record."""
    path = io.write(scan, tmp_path / "scan.ome.tif")
    opened = io.read(path)
    result = restored(opened, spheres((72, 80, 84), n=20))
    kept = io.read(io.write(result, tmp_path / "restored.ome.tif"))
    assert run({"A": opened, "B": kept}, PLAIN).scan_checks["B"].level == "ok"
    of_voxels = restored(scan, spheres((72, 80, 84), n=20))
    assert run({"A": opened, "B": of_voxels}, PLAIN).scan_checks["B"].level == "ok"


def test_otherwise_there_is_no_check(scan):
    truth = spheres((72, 80, 84), n=20)
    result = restored(scan, truth)
    other = scan.replace(data=scan.data + 1, name="other")
    cases = {
        "no record": result.replace(provenance=()),
        "a mean of two scans": restored(scan, truth, first=scan, second=other),
        "changed since": result.replace(
            provenance=(*result.provenance, {"operation": "pairs"})
        ),
        "from another scan": restored(other, truth),
        "cropped since": result.replace(data=result.data[:71]),
    }
    for case, volume in cases.items():
        found = run({"A": scan, "B": volume}, PLAIN)
        assert found.scan_checks == {}, case
        assert "Consistency with the scan" not in texts(found), case
        assert not any("Consistency" in text for text in found.remarks), case
        assert "residual_in_noise" not in found.to_dataframe().columns, case


def test_each_restoration_has_its_own_check(scan):
    truth = spheres((72, 80, 84), n=20)
    good = restored(scan, truth)
    poor = restored(scan, 0.5 * truth + 100).replace(name="poor")
    found = run({"A": scan, "B": good, "C": poor}, PLAIN, reference="A")
    assert {key: c.level for key, c in found.scan_checks.items()} == {
        "B": "ok",
        "C": "harmful",
    }


def test_images_are_checked(scan, rng):
    truth = spheres((72, 80, 84), n=20)[36]
    data = truth.reshape(40, 2, 42, 2).mean((1, 3)) + rng.normal(0, 6, (40, 42))
    flat = Volume(data.astype("f4"), "YX", (2.0,) * 2, "µm", name="scan")
    size, origin = flat.upscaled_geometry(2)
    record = provenance.record("restore", inputs={"input": flat}, settings={})
    fine = Volume(truth, "YX", size, "µm", origin, name="fine", provenance=(record,))
    (check,) = run({"A": flat, "B": fine}, PLAIN).scan_checks.values()
    assert check.level == "ok"
