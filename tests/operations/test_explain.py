"""Explanations from a file to a folder: Python, command line, and invalid input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.attribution._window import ExplainedScan
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, FileError, ModelError, VolumeError
from napari_geosr.core.steps import PartDone, StageStarted, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.measure.reports.export import write_csv
from napari_geosr.measure.reports.stored import report_from_files
from napari_geosr.networks.spec import NetworkSpec
from napari_geosr.operations.explain import (
    ExplainConfig,
    explain_place_steps,
    explain_pores_steps,
    explain_steps,
    methods,
    pores_of_report,
    prepare_steps,
    with_explanations,
)
from napari_geosr.operations.explain.targets import pores_of, read_pores

pytestmark = pytest.mark.filterwarnings("ignore::napari_geosr.core.errors.GeoSRWarning")

#: Position of the large pore of the scan.
MIDDLE = (6, 20, 24)


@pytest.fixture(scope="module")
def volume() -> Volume:
    """Two dark pores in a solid, and noise."""
    rng = np.random.default_rng(5)
    z, y, x = np.indices((12, 44, 48))
    pore = (z - 6) ** 2 + (y - 20) ** 2 + (x - 24) ** 2 <= 25
    pore |= (z - 6) ** 2 + (y - 34) ** 2 + (x - 10) ** 2 <= 16
    grey = 100.0 - 60.0 * pore + rng.normal(0, 6, pore.shape)
    return Volume(
        grey.astype(np.float32),
        "ZYX",
        (4.0, 2.0, 2.0),
        "µm",
        (10.0, 20.0, 30.0),
        "scan",
    )


@pytest.fixture(scope="module")
def scan_file(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return io.write(volume, tmp_path_factory.mktemp("scan") / "scan.ome.tif")


def explained(volume: Volume, **settings: Any) -> Any:
    values = {"model": "ct-denoise", "threads": 1, "draws": 2, **settings}
    return run_to_end(explain_steps(volume, ExplainConfig.create(**values)))


def test_a_pore_is_found_at_a_voxel_and_explained(volume: Volume) -> None:
    result = geosr.explain(volume, "ct-denoise", at=MIDDLE, draws=2, threads=1)
    (found,) = result.explanations
    assert found.target.kind == "pore"
    truth = 4 / 3 * np.pi * 125
    assert 0.7 * truth < found.target.mask.sum() < 1.3 * truth
    figures = found.findings["evidence"].figures
    assert figures["verdict"] == "well supported"
    assert figures["support"] > 20
    assert result.sentence.startswith("This pore depends on voxels within ")
    assert result.sentence.endswith(
        "; the model would not produce it if the scan showed solid in its place (well "
        "supported)."
    )


def test_overlays_lie_on_the_voxels_of_the_scan(volume: Volume) -> None:
    result = explained(volume, at=(6, 20, 4), method=("filter",))
    overlay = result.explanations[0].overlays["filter"]
    assert overlay.voxel_size == volume.voxel_size
    assert overlay.unit == "µm"
    steps = [
        (a - b) / v
        for a, b, v in zip(
            overlay.origin, volume.origin, volume.voxel_size, strict=True
        )
    ]
    assert steps == pytest.approx([round(s) for s in steps])
    peak = np.unravel_index(np.abs(np.asarray(overlay.data)).argmax(), overlay.shape)
    place = [round(s) + int(p) for s, p in zip(steps, peak, strict=True)]
    assert np.abs(np.subtract(place, (6, 20, 4))).max() <= 1
    record = overlay.provenance[-1]
    assert record["operation"] == "explain"
    assert record["model"]["name"] == "ct-denoise"
    meaning = "grey value of the result per grey value of the scan"
    assert record["meaning"] == meaning


def test_what_is_explained_is_the_restored_voxel(volume: Volume) -> None:
    """The network gets the noise level and is scaled as in a restoration."""
    for model, at in (("ct-denoise", (6, 20, 4)), ("cubic-x2", (13, 41, 8))):
        whole = geosr.restore(volume, model, threads=1)
        result = explained(volume, model=model, at=at, method=("filter",))
        figures = result.explanations[0].findings["filter"].figures
        assert figures["output"] == pytest.approx(float(whole.data[at]), rel=1e-4)
        kind = "exact" if model == "cubic-x2" else "linearisation"
        assert figures["kind"] == kind


def test_a_position_is_a_voxel_of_the_result(volume: Volume) -> None:
    """For ×2, fine voxel 13 is a quarter after the middle of coarse voxel 6."""
    here = explained(
        volume, model="cubic-x2", position=(35.0, 60.5, 38.5), method=("reach",)
    )
    assert here.explanations[0].target.at == (13, 41, 9)
    described = here.to_json_dict()["places"][0]
    assert described["at_in_scan"] == [6, 20, 4]
    assert described["position"] == pytest.approx([35.0, 60.5, 38.5])


def test_an_image_takes_two_numbers(volume: Volume) -> None:
    image = Volume(np.asarray(volume.data)[6], "YX", (2.0, 2.0), "µm")
    result = explained(image, at=MIDDLE[1:])
    assert result.explanations[0].target.kind == "pore"
    assert result.explanations[0].overlays["reach"].axes == "YX"
    with pytest.raises(ConfigError, match="2 numbers are needed"):
        explained(image, at=MIDDLE)


def test_without_a_pore_the_voxel_is_explained(volume: Volume) -> None:
    result = explained(volume, at=(6, 5, 40))
    assert result.explanations[0].target.kind == "voxel"
    assert "evidence" not in result.explanations[0].findings
    assert result.sentence.startswith("This voxel depends on voxels within ")
    cube = explained(volume, at=(6, 5, 40), radius=2, method=("lam",))
    assert cube.explanations[0].target.mask.shape == (5, 5, 5)
    with pytest.raises(ConfigError, match="no pore at this voxel"):
        explained(volume, at=(6, 5, 40), method=("evidence",))


def test_a_dock_asks_again_without_preparing_again(volume: Volume) -> None:
    config = ExplainConfig(model="ct-denoise", threads=1, draws=2)
    prepared = run_to_end(prepare_steps(volume, config))
    for at in (MIDDLE, (6, 34, 10)):
        steps = list(explain_place_steps(prepared, at))
        assert any(isinstance(step, StageStarted) for step in steps)
    assert {about.name for about in methods()} == {
        "evidence",
        "filter",
        "lam",
        "occlusion",
        "reach",
        "similar",
    }


@pytest.fixture(scope="module")
def pore_table(
    volume: Volume, scan_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("pores")
    restored = folder / "restored.ome.tif"
    words = ["restore", str(scan_file), "-m", "ct-denoise", "-o", str(restored)]
    assert run([*words, "-q"]) == 0
    assert run(["measure", str(restored), "-o", str(folder / "report"), "-q"]) == 0
    return folder / "report" / "pores.csv"


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_every_pore_of_a_table_is_explained(
    volume: Volume, pore_table: Path, tmp_path: Path, scan_file: Path
) -> None:
    out = tmp_path / "why"
    words = ["explain", str(scan_file), "--pores", str(pore_table), "-o", str(out)]
    assert run([*words, "--draws", "2", "-q"]) == 0
    rows = list(csv.DictReader(lines_of(out / "pores.csv")))
    before = list(csv.DictReader(lines_of(pore_table)))
    assert len(rows) == len(before) >= 2
    large = [row for row in rows if int(row["voxels (voxel)"]) > 100]
    assert [row["evidence"] for row in large] == ["well supported"] * 2
    assert all(float(row["evidence_support"]) > 10 for row in large)
    assert all(float(row["reach_90 (µm)"]) > 0 for row in large)
    shown = io.read(out / "evidence.ome.tif")
    assert shown.shape == volume.shape
    assert int(np.asarray(shown.data)[MIDDLE]) == 1
    values = json.loads((out / "explanation.json").read_text(encoding="utf-8"))
    assert "well supported" in values["sentence"]
    assert len(values["places"]) + len(values["missing"]) == len(rows)


def test_a_table_of_another_scan_is_said(
    volume: Volume, pore_table: Path, scan_file: Path, tmp_path: Path, capsys: Any
) -> None:
    def explained(scan: Path, name: str) -> str:
        words = ["explain", str(scan), "--pores", str(pore_table), "--draws", "2"]
        assert run([*words, "-o", str(tmp_path / name)]) == 0
        return " ".join(capsys.readouterr().err.split())

    assert "according to its record" not in explained(scan_file, "own")
    noise = np.random.default_rng(9).normal(0, 0.1, volume.shape).astype(np.float32)
    other = io.write(
        volume.replace(data=np.asarray(volume.data) + noise), tmp_path / "other.ome.tif"
    )
    assert (
        f"The pores of {pore_table} were measured on 'restored', which, "
        "according to its record, was not made from 'other'."
    ) in explained(other, "why")
    cut = volume.replace(data=np.asarray(volume.data)[1:])
    smaller = io.write(cut, tmp_path / "smaller.ome.tif")
    words = ["explain", str(smaller), "--pores", str(pore_table)]
    assert run([*words, "-o", str(tmp_path / "no")]) == 2
    assert "was measured on a volume of" in " ".join(capsys.readouterr().err.split())


def test_pores_that_were_just_measured_get_the_same_columns(
    volume: Volume, pore_table: Path, tmp_path: Path
) -> None:
    restored = io.read(pore_table.parents[1] / "restored.ome.tif")
    report = geosr.measure_porosity(restored)
    pores, stored = pores_of_report(report), read_pores(pore_table)
    assert pores.rows == stored.rows
    assert pores.threshold == pytest.approx(stored.threshold)
    assert (pores.phase, pores.connectivity) == (stored.phase, stored.connectivity)
    config = ExplainConfig(model="ct-denoise", threads=1, draws=2)
    prepared = run_to_end(prepare_steps(volume, config))
    result = run_to_end(explain_pores_steps(prepared, pores))
    found = with_explanations(report, result)
    names = [name for name in found.table if name not in report.table]
    assert names == [
        "evidence",
        "evidence_log_ratio",
        "evidence_survival",
        "evidence_support",
        "reach_90",
    ]
    assert found.units["reach_90"] == "µm"
    large = report.table["voxels"] > 100
    assert set(found.table["evidence"][large]) == {"well supported"}
    # Pores that were not explained have empty cells.
    lost = replace(result, explanations=result.explanations[1:])
    label = result.explanations[0].row.label
    column = with_explanations(report, lost).table
    assert column["evidence"][label - 1] == ""
    assert np.isnan(column["evidence_support"][label - 1])
    # The columns are kept in a file.
    path = write_csv(tmp_path / "pores.csv", with_explanations(report, lost))
    values = json.loads(json.dumps(report.to_json_dict()))
    again = report_from_files(values, path)
    assert again.table["evidence"].tolist() == column["evidence"].tolist()
    np.testing.assert_allclose(again.table["reach_90"], column["reach_90"])


def test_pores_of_an_image_of_one_slice_have_a_box(volume: Volume) -> None:
    one = volume.replace(data=np.asarray(volume.data)[6:7])
    report = geosr.measure_porosity(one)
    assert all(len(row.box) == 3 for row in pores_of_report(report).rows)
    assert pores_of_report(report).rows[0].box[0] == (0, 1)


def test_any_method_can_explain_the_pore_at_a_voxel(volume: Volume) -> None:
    config = ExplainConfig(model="ct-denoise", threads=1, method=("lam",), steps=4)
    prepared = run_to_end(prepare_steps(volume, config))
    pore = run_to_end(explain_place_steps(prepared, MIDDLE, pore=True))
    assert pore.target.kind == "pore"
    assert set(pore.findings) == {"lam"}
    voxel = run_to_end(explain_place_steps(prepared, MIDDLE))
    assert voxel.target.kind == "voxel"
    steps = list(explain_place_steps(prepared, (6, 5, 40), pore=True))
    assert not any(
        isinstance(step, WarningIssued) and "evidence" in step.message for step in steps
    )


def test_progress_counts_pores(volume: Volume, pore_table: Path) -> None:
    config = ExplainConfig(model="ct-denoise", threads=1, method=("reach",))
    steps = list(explain_steps(volume, config, pore_table))
    parts = [step for step in steps if isinstance(step, PartDone)]
    assert parts
    assert parts[-1].done == parts[-1].total == len(parts)


def test_the_command_writes_and_prints(
    scan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "why"
    words = ["explain", str(scan_file), "--model", "ct-denoise", "--at", "6,20,24"]
    words += ["--method", "evidence,reach", "--draws", "2", "-o", str(out)]
    assert run([*words, "--json", "-q"]) == 0
    printed = json.loads(capsys.readouterr().out)
    stored = json.loads((out / "explanation.json").read_text(encoding="utf-8"))
    assert printed["sentence"] == stored["sentence"]
    assert set(printed["files"]) == {"evidence", "reach", "json"}
    assert printed["places"][0]["evidence"]["verdict"] == "well supported"
    assert io.read(out / "reach.ome.tif").voxel_size == (4.0, 2.0, 2.0)
    assert run([*words, "-q"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run([*words, "--overwrite", "-q"]) == 0
    assert "This pore depends on voxels within" in capsys.readouterr().out


def test_pores_are_connected_as_in_the_report(volume: Volume, tmp_path: Path) -> None:
    """Two parts that touch at an edge are two pores with 6 neighbours, one with 26."""
    from torch import nn

    pore = np.zeros(volume.shape, bool)
    pore[2, 10:26, 10:26] = pore[2:6, 10:18, 10:18] = True
    pore[4:6, 18:26, 18:26] = True  # in the box of the other
    touching = volume.replace(data=(100.0 - 60.0 * pore).astype("f4"))
    path = io.write(touching, tmp_path / "touching.ome.tif")
    out = tmp_path / "report"
    words = ["measure", str(path), "-o", str(out), "--threshold", "70", "-q"]
    assert run([*words, "--connectivity", "6"]) == 0
    table = read_pores(out)
    assert table.connectivity == 6
    assert len(table.rows) == 2
    network = nn.Identity().eval()
    network.spec = NetworkSpec(
        axes="ZYX", halo=(0,) * 3, stride=(1,) * 3, upscale_factor=(1,) * 3
    )
    statistics = IntensityStatistics(
        mean=0.0, std=1.0, minimum=40.0, maximum=100.0, n_voxels=pore.size
    )
    scene = ExplainedScan(network, np.asarray(touching.data), statistics, threads=1)
    found = [target for _, target in pores_of(scene, table, None, None)]
    assert [0 if t is None else int(t.mask.sum()) for t in found] == [448, 128]


def test_warnings_about_pores_of_a_table_come_once(
    volume: Volume, pore_table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.attribution import AttributionResult, reach

    voxels = np.asarray(volume.data).copy()
    # between the pores, in the receptive field of both
    voxels[6, 27:29, 17:19] = np.nan
    holed = volume.replace(data=voxels)

    figures = {"radius": {"90%": 1.0}, "unit": "µm"}

    def warning(request: Any) -> Any:
        yield WarningIssued(message="This method warns.")
        return AttributionResult(figures, "", notes=("A limitation.",))

    monkeypatch.setattr(reach, "explain", warning)
    config = ExplainConfig(model="ct-denoise", threads=1, method=("reach",))
    steps = list(explain_steps(holed, config, pore_table))
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert said.count("This method warns.") == 1
    assert len([text for text in said if "pores, the input contains NaN" in text]) == 1
    assert any("at most 4 of " in text and "--nonfinite" in text for text in said)
    assert len([text for text in said if "A limitation." in text]) == 1


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({}, ConfigError, "Specify what to explain"),
        ({"at": (12, 3, 3)}, VolumeError, "lies outside the result"),
        ({"at": (-1, 3, 3)}, VolumeError, "lies outside the result"),
        ({"at": (1, 3)}, ConfigError, "3 numbers are needed"),
        ({"position": (1e4, 0.0, 0.0)}, VolumeError, "lies outside the result"),
        (
            {"at": (24, 3, 3), "model": "cubic-x2"},
            VolumeError,
            "24 × 88 × 96 voxels, 2 times as many as the scan",
        ),
        ({"at": (1, 3, 3), "model": "auto"}, ModelError, "give its name"),
        ({"at": (1, 3, 3), "model": "nlm", "method": ("filter",)}, None, ""),
        ({"at": (1, 3, 3), "position": (1.0, 2.0, 3.0)}, ConfigError, "not both"),
        ({"at": (1, 3, 3), "method": ("magic",)}, ConfigError, "'occlusion'"),
        ({"at": "1,a,3"}, ConfigError, "12,32,32"),
    ],
)
def test_bad_places_and_models_are_refused_in_a_sentence(
    settings: dict[str, Any], error: Any, words: str, volume: Volume
) -> None:
    if error is None:  # a filter without derivatives has finite differences
        figures = explained(volume, **settings).explanations[0].findings
        assert figures["filter"].figures["kind"] == "finite differences"
        return
    with pytest.raises(error, match=words):
        explained(volume, **settings)


def test_nan_at_the_voxel_is_refused_and_around_it_counted(volume: Volume) -> None:
    voxels = np.asarray(volume.data).copy()
    voxels[6, 5, 40] = np.nan
    holed = volume.replace(data=voxels)
    with pytest.raises(VolumeError, match="is NaN or infinite at the voxel"):
        explained(holed, at=(6, 5, 40), method=("reach",))
    config = ExplainConfig(
        model="ct-denoise", threads=1, at=(6, 6, 40), method=("reach",)
    )
    said = [getattr(s, "message", "") for s in explain_steps(holed, config)]
    assert any(text.startswith("1 of ") and "NaN" in text for text in said)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a pore table"),
        ("a,b\n1,2\n", "is not a pore table"),
        ("label,voxels,bbox_start_y,bbox_start_x\n", "contains no pores"),
        ("label,voxels,bbox_start_y,bbox_start_x\n1,x,3,4\n", "Line 2 .* damaged"),
    ],
)
def test_damaged_tables_are_refused(
    text: str, words: str, volume: Volume, tmp_path: Path
) -> None:
    path = tmp_path / "pores.csv"
    path.write_text(text)
    with pytest.raises(FileError, match=words):
        run_to_end(explain_steps(volume, ExplainConfig(), path))
    with pytest.raises(FileError, match="cannot be read"):
        run_to_end(explain_steps(volume, ExplainConfig(), tmp_path / "none.csv"))


def test_a_table_of_another_volume_is_refused(
    volume: Volume, pore_table: Path, tmp_path: Path
) -> None:
    config = ExplainConfig(model="ct-denoise", threads=1, method=("reach",))
    part = volume.replace(data=np.asarray(volume.data)[:, :24, :24])
    with pytest.raises(VolumeError, match="was measured on a volume of 12 × 44 × 48"):
        run_to_end(explain_steps(part, config, pore_table))
    alone = tmp_path / "pores.csv"
    alone.write_text(pore_table.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(ConfigError, match="--threshold"):
        run_to_end(explain_steps(volume, config, alone))
    both = config.model_copy(update={"at": (1, 2, 3)})
    with pytest.raises(ConfigError, match="not both"):
        run_to_end(explain_steps(volume, both, pore_table))
    known = config.model_copy(update={"threshold": 0.5})
    with pytest.raises(VolumeError, match="is not inside the result"):
        run_to_end(explain_steps(part, known, alone))  # no report states the shape


def test_labels_have_no_explanation(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.operations.restore.preparation import PreparedRestoration

    monkeypatch.setattr(PreparedRestoration, "labels", property(lambda self: True))
    with pytest.raises(ModelError, match="outputs labels"):
        explained(volume, at=(1, 3, 3))


def test_output_folders_that_cannot_be_are_refused(
    scan_file: Path, tmp_path: Path, new_folder: Callable[[], Path]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    words = ["explain", str(scan_file), "--at", "6,20,24", "-o", str(blocked)]
    assert run([*words, "-q"]) == 2


def test_a_filter_is_compared_with_the_blur_of_the_scan() -> None:
    """Large pores, blurred by a known amount; the same figure in text and JSON."""
    rng = np.random.default_rng(4)
    grid = np.ogrid[:40, :64, :64]
    pores = np.zeros((40, 64, 64), bool)
    for _ in range(20):
        middle = [rng.uniform(0, n) for n in pores.shape]
        pores |= sum((g - m) ** 2 for g, m in zip(grid, middle, strict=True)) < 90
    grey = ndimage.gaussian_filter(np.where(pores, 40.0, 140.0), 1.2)
    scan = Volume.from_array(
        (grey + rng.normal(0, 8, grey.shape)).astype("f4"), voxel_size=2.0, unit="µm"
    )
    result = explained(scan, at=(20, 30, 30), method=("filter",))
    written = result.to_json_dict()["places"][0]["filter"]
    blur = written["scan_blur"]
    # The phantom's own edges have steps of one voxel.
    assert list(blur.values()) == pytest.approx([2.355 * 1.2 * 2.0] * 3, rel=0.15)
    assert written["scan_blur_unknown"] is None
    shown = " × ".join(f"{width:.3g}" for width in blur.values())
    assert f"; the estimated blur of the scan itself is {shown}" in result.sentence


def test_a_blur_that_is_not_known_has_its_reason(volume: Volume) -> None:
    result = explained(volume, at=(6, 5, 40), method=("filter",))
    written = result.to_json_dict()["places"][0]["filter"]
    assert written["scan_blur"] is None
    assert written["scan_blur_unknown"] in result.sentence
    assert "the scan's own blur cannot be estimated: it has too few" in result.sentence
