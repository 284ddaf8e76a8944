"""Output files of ``napari-geosr shapes``: their names, and what a stop leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume
from napari_geosr.operations.shapes.simulation import simulated_skull


@pytest.fixture(scope="module")
def skull(tmp_path_factory) -> Path:
    made = simulated_skull(3, 56, "sphere")
    volume = Volume(
        made.incomplete.astype(np.uint8), "ZYX", (0.5,) * 3, "mm",
        metadata={"orientation": "LPS"},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("skull") / "part.tif"
    return io.write(volume, path, kind="labels")


@pytest.mark.parametrize("option", ["--implant", "--mesh"])
def test_two_results_need_two_names(option: str, skull, tmp_path, capsys) -> None:
    """The second would replace the first with --overwrite, without a word."""
    out = tmp_path / "all.ome.tif"
    out.write_bytes(b"kept")
    again = f"{tmp_path}/../{tmp_path.name}/all.ome.tif"
    words = ["complete", str(skull), "-o", str(out), option, again, "--overwrite"]
    assert run(["shapes", *words]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Two results would be written to" in said
    assert out.read_bytes() == b"kept"
