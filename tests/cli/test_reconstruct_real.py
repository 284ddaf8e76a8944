"""Reconstruction of real projections on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run


def reconstruct(capsys, path, out, *more: str) -> dict:
    """The ``--json`` output of a reconstruction to `out`."""
    given = ["reconstruct", str(path), "--out", str(out), "--threads", "1", "--json"]
    assert run([*given, *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_tooth(shared_data, tmp_path, capsys):
    path, out = shared_data / "projections" / "tooth.h5", tmp_path / "tooth.ome.tif"
    values = reconstruct(capsys, path, out)
    assert values["centre"]["method"] == "wedge"
    assert values["centre"]["column"] == pytest.approx(295.5, abs=0.5)
    assert values["shape"] == [2, 640, 640]
    slices = io.read(out).data[:]
    # A tooth in air: the corners are empty, and the tooth is not and has edges.
    corner, tooth = slices[:, :80, :80], slices[:, 250:390, 250:390]
    assert abs(corner.mean()) < 0.1 * tooth.mean()
    assert np.isfinite(slices).all()


def test_k11(shared_data, tmp_path, capsys):
    path = shared_data / "projections" / "k11_diad" / "k11-18014.nxs"
    values = reconstruct(capsys, path, tmp_path / "k11.tif", "--every", "10")
    assert values["shape"] == [22, 26, 26]
    assert 8 < values["centre"]["column"] < 18
    # 22 × 26 pixels contain little information on the axis, which is reported.
    assert any("is uncertain" in text for text in values["warnings"])
    assert run(["info", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "3001 of 22 × 26 pixels" in shown
    assert "flat fields  100" in shown


def test_neutrons_over_a_full_turn(shared_data, tmp_path, capsys):
    path = shared_data / "projections" / "sinogram_360_neutron_image.tif"
    given = ["--angle-range", "0", "360", "--stripes", "all"]
    found = reconstruct(capsys, path, tmp_path / "a.tif", *given)
    assert found["centre"]["method"] == "opposite"
    assert found["centre"]["column"] == pytest.approx(244.86, abs=0.5)
    assert found["shape"] == [1, 503, 503]
    assert any("no flat fields" in text for text in found["warnings"])
    column = str(found["centre"]["column"])
    given += ["--center", column, "--full-turn", "join"]
    joined = reconstruct(capsys, path, tmp_path / "b.tif", *given)
    assert joined["shape"][1] > 503
    assert joined["origin"][1] < 0
    # Opposite views agree, so the slice and its position do not change.
    a, b = (np.asarray(io.read(tmp_path / f"{n}.tif").data)[0] for n in "ab")
    before = (b.shape[0] - 503) // 2
    inner = b[before : before + 503, before : before + 503][100:400, 100:400]
    assert np.corrcoef(a[100:400, 100:400].ravel(), inner.ravel())[0, 1] > 0.9
