"""Benchmarks that store rows resume only with rows of the same settings."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
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
    bench = importlib.import_module("_sim_network_tables")
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
    assert table.cases("joint-rl") == [("linear", "er", 20)]
    row = bench.psnr_table(table).splitlines()[-1]
    assert "| 2 | nan | 30.5 |" in row
    assert row.endswith("| -1.50 dB | **worse** |")
    assert "| 30.0 | 77 |" in bench.curve_table(table).splitlines()[-1]
    document = tmp_path / "doc.md"
    name = "benchmark network published"  # has no rows
    document.write_text(f"<!-- {name} -->\nold\n<!-- end of {name} -->\n")
    bench.write_tables(table, document)
    text = document.read_text()
    assert text.startswith(f"<!-- {name} -->\nold\n")
    assert "| 30.0 | 77 |" in text
    assert f"No rows for '{name}'" in capsys.readouterr().out


def test_lines_of_a_document_without_rows_are_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The published recipe: seed 0 only, and fewer steps for nonlinear frames."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    bench = importlib.import_module("_sim_network_tables")
    figures = {"ncc": 0.9, "frc": 1.94, "seconds": 2.0}
    found = {"joint-rl": 30.0, "published-equal": 20.0, "published-200": 22.0}
    rows = [
        bench.Row(case, "published", method, figures | {"psnr": psnr + case[3]})
        for case in (("nonlinear", "er", 20, 0), ("linear", "rings", 5, 0))
        for method, psnr in found.items()
    ]
    other_seed = bench.Row(("nonlinear", "er", 20, 1), "methods", "joint-rl", figures)
    rows.append(other_seed._replace(figures={**figures, "psnr": 40.0}))
    document, name = tmp_path / "doc.md", "benchmark network published"
    old = [
        "| a | b | c | d | e | f | g | h | i |",
        "|---|---|---|---|---|---|---|---|---|",
        "| linear | rings | 5 | | | | | | old |",
        "| linear | er | 20 | | | | | | kept |",
    ]
    lines = "\n".join(old)
    document.write_text(f"<!-- {name} -->\n\n{lines}\n\n<!-- end of {name} -->\n")
    bench.write_tables(bench.Table(rows), document)
    written = [line for line in document.read_text().splitlines() if line[:1] == "|"]
    assert "as long as 200 steps, at most 1000 iterations" in written[0]
    cell = "30.0 dB / 0.90 / 1.9 px / 2.0 s"
    assert written[2].startswith(f"| linear | rings | 5 | {cell} | not run |")
    assert written[3] == old[3]
    assert written[4] == (
        f"| nonlinear | er | 20 | {cell} | not run | {cell.replace('30', '20')} "
        f"| {cell.replace('30', '22')} | not run | not run |"
    )
    assert len(written) == 5
    assert "lines without rows are kept (1)" in capsys.readouterr().out
    long = bench.Row(
        ("linear", "er", 20, 0),
        "published",
        "published-200",
        {**figures, "psnr": 18.5, "frc": None, "seconds": 31.7},
    )
    bench.write_tables(bench.Table([*rows, long]), document)
    assert "18.5 dB / 0.90 / no resolution / 32 s" in document.read_text()
    assert "are kept" not in capsys.readouterr().out


def test_a_case_of_the_quality_table_is_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    bench = importlib.import_module("bench_sim")
    document, name = tmp_path / "doc.md", "benchmark quality"
    old = [
        "| illumination | structure | SNR | widefield | wiener | joint-rl |",
        "|---|---|---|---|---|---|",
        "| linear | er | 20 | | | kept |",
        "| nonlinear | er | 50 | | | old |",
    ]
    lines = "\n".join(old)
    document.write_text(f"<!-- {name} -->\n\n{lines}\n\n<!-- end of {name} -->\n")

    def rows(cases: Any, _quick: bool) -> Any:
        for case in cases:
            for method in bench.METHODS:
                yield bench.Row(case, method, (0.9, 31.5, 0.5, 78.0))

    monkeypatch.setattr(bench, "quality_rows", rows)
    words = "--only quality --kinds nonlinear --structures er --snrs 20 50 --out"
    monkeypatch.setattr(sys, "argv", ["bench_sim.py", *words.split(), str(document)])
    bench.main()
    written = [line for line in document.read_text().splitlines() if line[:1] == "|"]
    assert written[2] == old[2]
    assert [line[:21] for line in written[3:]] == [
        "| nonlinear | er | 20",
        "| nonlinear | er | 50",
    ]
    assert "0.900 / 31.5 dB / 0.50 px / 78.0 s" in written[4]


@pytest.mark.parametrize(("kind", "steps"), [("linear", (2, 3)), ("nonlinear", (2,))])
def test_the_published_recipe_runs_without_earlier_rows(
    kind: str, steps: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Richardson–Lucy, whose time it needs, is run first and stored."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    bench = importlib.import_module("bench_sim_network")
    start = types.SimpleNamespace(result=lambda: np.zeros((4, 4)), image=None)
    limits: list[str] = []

    def joint_rl(scene: Any, _config: Any) -> Any:
        limits.append(scene.kind)
        return bench.Start(start, 7, {"psnr": 30.0, "seconds": 0.0})

    scene = types.SimpleNamespace(
        kind=kind,
        plane=(),
        block=None,
        patterns=None,
        noise=types.SimpleNamespace(shift=0.0),
        config=lambda **_: None,
        judged=lambda _image, seconds, **more: (
            {"psnr": 20.0, "seconds": seconds} | more
        ),
    )
    network = types.SimpleNamespace(step=lambda: None, result=lambda: None)
    monkeypatch.setattr(bench, "Scene", lambda _case: scene)
    monkeypatch.setattr(bench, "joint_rl", joint_rl)
    monkeypatch.setattr(bench, "fit_steps", lambda *_, **__: _returned(start))
    monkeypatch.setattr(bench, "frame_fit_of", lambda *_: network)
    monkeypatch.setattr(
        bench, "timed_joint_rl", lambda *_: {"psnr": 25.0, "seconds": 1.0}
    )
    monkeypatch.setattr(bench, "STEPS", (2, 3))
    monkeypatch.setattr(bench, "PUBLISHED_STEPS", {kind: steps})
    path, case = tmp_path / "rows.jsonl", (kind, "er", 20, 0)
    bench.fill(path, 1, lambda *each: each == (case, "published"))
    found = {row.method: row for row in bench.read(path)}
    assert {row.part for row in found.values()} == {"published"}
    assert list(found) == [
        "joint-rl",
        "published-equal",
        *(f"published-{n}" for n in steps),
        "joint-rl-equal",
    ]
    assert found["published-equal"].figures["steps"] == 1
    bench.fill(path, 1, lambda *each: each == (case, "published"))
    assert limits == [kind]
    assert bench._seconds(bench.read(path), case, "joint-rl") == 0.0


def _returned(value: Any) -> Generator[None, None, Any]:
    """Return `value` from an operation without steps."""
    yield from ()
    return value
