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


@pytest.fixture
def few_labels(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    bench = importlib.import_module("bench_few_labels")
    sets = {"unlabelled": (4, 0), "pool": (4, 1), "tested": (2, 2), "chosen": (1, 3)}
    monkeypatch.setattr(bench, "SETS", sets)
    return bench


def test_all_methods_learn_from_the_same_labelled_images(
    few_labels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("from scratch", "forest", "msdnet", "ddpm, forest")
    words = ["--edge", "32", "--steps", "2", "--counts", "1,2", "--draws", "2"]
    words += ["--prior-steps", "1", "--threads", "1", "--methods", ";".join(methods)]
    words += ["--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["bench_few_labels.py", "radiographs", *words])
    monkeypatch.setattr(few_labels, "RATES", (1e-2,))
    monkeypatch.setattr(few_labels, "SEARCH", (1,))
    given: list[tuple[str, list[int]]] = []

    def noted(name: str, labels: Any) -> None:
        painted = (labels != few_labels.UNPAINTED).any((1, 2))
        given.append((name, np.flatnonzero(painted).tolist()))

    forest, msdnet = few_labels.PixelForest, few_labels.train_msdnet
    train = few_labels.geosr.train

    def forest_noted(grey: Any, labels: Any, *more: Any) -> Any:
        noted("forest" if more[-1] is None else "ddpm, forest", labels)
        return forest(grey, labels, *more)

    def msdnet_noted(grey: Any, labels: Any, **settings: Any) -> Any:
        noted("msdnet", labels)
        return msdnet(grey, labels, **settings)

    def train_noted(method: str, folder: Path, *volumes: Any, **settings: Any) -> Any:
        if method == "ptdr":
            noted("from scratch", volumes[1])
        return train(method, folder, *volumes, **settings)

    monkeypatch.setattr(few_labels, "PixelForest", forest_noted)
    monkeypatch.setattr(few_labels, "train_msdnet", msdnet_noted)
    monkeypatch.setattr(few_labels.geosr, "train", train_noted)
    few_labels.main()
    of = {name: [z for other, z in given if other == name] for name in methods}
    # For the learning rate, one labelled image; then two draws of one and of two.
    assert [len(z) for z in of["forest"]] == [1, 1, 1, 2, 2]
    assert all(picked == of["forest"] for picked in of.values())
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 5 * len(methods)
    assert "ddpm, forest, 2 labels, draw 1, tested" in results
    assert all(0 <= v <= 1 for values in results.values() for v in values)
    given.clear()
    few_labels.main()
    assert given == []  # all results are stored


def test_methods_compared_with_pre_training_learn(few_labels: Any) -> None:
    """They tell two classes of different grey values apart in another image."""
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 32, 32), np.uint8)
    truth[:, ::2] = truth[:, 1::4] = 3
    truth[:, :4] = few_labels.UNPAINTED
    grey = 100 + 50 * (truth == 3) + rng.normal(0, 5, truth.shape)
    labels = truth.copy()
    labels[1:] = few_labels.UNPAINTED
    settings = {"steps": 60, "patch": 16, "batch_size": 2, "threads": 1}
    rates = {"learning_rate": 1e-4, "head_rate": 100}
    found = (
        few_labels.PixelForest(grey, labels, 0)(grey[1:]),
        few_labels.train_msdnet(
            grey, labels, dimensions="2D", classes=4, **settings, **rates
        )(grey[1:]),
    )
    known = truth[1:] != few_labels.UNPAINTED
    for each in found:
        assert (each == truth[1:])[known].mean() > 0.95


def test_the_table_of_few_labels_joins_folders(
    few_labels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the learning rate that is the best on the images for choosing it."""
    table = importlib.import_module("_few_labels_table")
    parts: list[dict[str, list[float]]] = [{}, {}]
    for rate, score in ((1e-3, 0.5), (1e-2, 0.6)):
        parts[0][table.key("msdnet", 1, table.SEARCH_DRAW, rate, "chosen")] = [score]
    for draw, score in enumerate((0.5, 0.6)):
        parts[0][table.key("msdnet", 1, draw, 1e-2, "tested")] = [score, score]
        parts[1][table.key("ddpm, forest", 10, draw, None, "tested")] = [score]
    parts[0][table.key("msdnet", 1, 0, 1e-3, "tested")] = [0.9]
    parts[0][table.key("msdnet", 10, 0, 1e-2, "tested")] = [0.7]
    parts[1][table.key("ddpm, forest", 1, table.SEARCH_DRAW, None, "chosen")] = [0.4]
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, part in zip(folders, parts, strict=True):
        folder.mkdir()
        (folder / table.FILE).write_text(json.dumps(part))
    document = tmp_path / "page.md"
    document.write_text("before\n")
    words = ["--folder", *map(str, folders), "--out", str(document)]
    monkeypatch.setattr(sys, "argv", ["bench_few_labels.py", "table", *words])
    few_labels.main()
    lines = document.read_text().splitlines()
    assert lines[0] == "before"
    assert [line for line in lines if line.startswith("|")] == [
        "| method (2 draws) | 1 labelled image | 10 labelled images |",
        "|---|---|---|",
        "| `msdnet` from scratch | 55.0 ± 7.1 | 70.0 (1 draw) |",
        "| random forest on filters and `ddpm` | not run | 55.0 ± 7.1 |",
    ]
    (folders[1] / table.FILE).write_text(json.dumps({name: [0.1] for name in parts[0]}))
    with pytest.raises(ValueError, match="different results for"):
        table.read(folders)
