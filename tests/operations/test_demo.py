"""The demonstration writes its report, and the model improves the scan."""

from __future__ import annotations

import json

import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.demo import OUTPUTS, demo_steps


def test_the_demo(tmp_path):
    out = tmp_path / "demo"
    result = run_to_end(demo_steps(out))
    assert all((out / name).stat().st_size for name in OUTPUTS)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    truth = report["truth"]["porosity"]
    before = abs(report["degraded"]["porosity"] - truth)
    after = abs(report["restored"]["porosity"] - truth)
    assert after <= before / 3
    assert result.error_after * truth == pytest.approx(after)
    restored, scan = (io.read(out / f"{n}.ome.tif") for n in ("result", "scan"))
    assert restored.voxel_size == scan.voxel_size
    assert restored.unit == scan.unit == "µm"
    with pytest.raises(FileError, match="already contains"):
        run_to_end(demo_steps(out))
