"""Benchmarks that store rows resume only with rows of the same settings."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def geometry(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("bench_geometry")


def bench(geometry: Any, folder: Path) -> Any:
    options = argparse.Namespace(
        work=folder, steps=5, seeds=1, aware=geometry.AWARE, adversarial=False
    )
    return geometry.Bench(options)


ROW = {"case": "foam, ×4", "loss": "l1", "seed": 0}
FIGURES = {"psnr": 20.0, "porosity": 0.1, "connection": 0.2}


def test_rows_of_other_settings_are_left_out(
    geometry: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = tmp_path / "rows-5.json"
    old.write_text(json.dumps([ROW | FIGURES]))
    (tmp_path / "rows-50.json").write_text("[]")
    first = bench(geometry, tmp_path)
    said = capsys.readouterr().out
    assert "rows-5.json" in said
    assert "rows-50" not in said
    assert f"rename the file to {first.kept.name}" in said
    assert first.rows == []
    first._add(ROW | FIGURES)
    assert bench(geometry, tmp_path)._has(*ROW.values())

    def thin(shape: Any, factor: int, seed: int) -> Any:
        return geometry.phantoms.sphere_foam(shape, porosity=0.1, seed=seed)

    trained = geometry.training

    def slower(way: str, **settings: Any) -> Any:
        return trained(way, learning_rate=1e-5, **settings)

    changes = (
        ("IMAGING", replace(geometry.IMAGING, blur=0.9)),
        ("PATCH", {4: 12, 8: 12}),
        ("OBJECTS", geometry.OBJECTS | {"foam": thin}),
        ("training", slower),
    )
    for name, value in changes:
        with monkeypatch.context() as patch:
            patch.setattr(geometry, name, value)
            other = bench(geometry, tmp_path)
            assert other.rows == [], name
            assert first.kept.name in capsys.readouterr().out
    assert bench(geometry, tmp_path)._has(*ROW.values())


def test_words_about_a_function_change_nothing(geometry: Any) -> None:
    settings = sys.modules["_settings"]
    assert "Trabeculae" not in settings._code(geometry.bone)
    assert "wavelength=7.0 * factor" in settings._code(geometry.bone)
    one = settings.digest({"a": 1}, [geometry.bone])
    assert one == settings.digest({"a": 1}, [geometry.bone])
    assert one != settings.digest({"a": 1}, [geometry.foam])
    assert one != settings.digest({"a": 2}, [geometry.bone])


def test_rows_of_the_network_for_structured_illumination_become_means(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Over the seeds; a case that has only curves is excluded from the comparison."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    bench = importlib.import_module("bench_sim_network")
    figures = {"ncc": 0.9, "psnr": 30.0, "frc": None, "seconds": 1.0}
    lines = [
        {"case": ["linear", "er", 20, seed], "part": "methods", "method": method}
        | {"figures": figures | {"psnr": psnr, "steps": 7}}
        for seed in (0, 1)
        for method, psnr in (("joint-rl", 30.0 + seed), ("ours-1000", 29.0))
    ]
    for name in (*(f"after-{n}" for n in bench.JUDGED), "held-out"):
        case = ["linear", "spots", 5, 0]
        more = {"figures": figures | {"iterations": 77}}
        lines.append({"case": case, "part": "curve", "method": name, **more})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = bench.Table(bench.read(path))
    assert table.cases() == [("linear", "er", 20)]
    row = bench.psnr_table(table).splitlines()[-1]
    assert "| 2 | nan | 30.5 |" in row
    assert row.endswith("| -1.5 dB | **worse** |")
    assert "| 30.0 | 77 |" in bench.curve_table(table).splitlines()[-1]
    document = tmp_path / "doc.md"
    name = "benchmark network published"  # has no rows
    document.write_text(f"<!-- {name} -->\nold\n<!-- end of {name} -->\n")
    bench.write_tables(table, document)
    text = document.read_text()
    assert text.startswith(f"<!-- {name} -->\nold\n")
    assert "| 30.0 | 77 |" in text
    assert f"No rows for '{name}'" in capsys.readouterr().out
