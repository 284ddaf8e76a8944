"""A study: its table, resuming after a stop, rejected input."""

from __future__ import annotations

import csv
import errno
import json
import signal
import subprocess
import sys
import threading
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_geosr import io, simulate
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    FileError,
    ProjectionsError,
    TrainingError,
    VolumeError,
)
from napari_geosr.core.steps import StageStarted, WarningIssued, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.projections import read_projections
from napari_geosr.io.unfinished_files.unfinished import FileInUseError
from napari_geosr.operations.reconstruct import scan as reconstruct_scan
from napari_geosr.operations.study import CellDone, StudyConfig, study, study_steps
from napari_geosr.operations.study import algorithms as study_algorithms
from napari_geosr.operations.study import cell as study_cells
from napari_geosr.operations.study import report as study_report
from napari_geosr.operations.study.algorithms import (
    ALGORITHMS,
    algorithm_names,
    find_algorithm,
)
from napari_geosr.operations.study.cell import AlgorithmResult
from napari_geosr.operations.study.classical import classical_steps
from napari_geosr.operations.study.judge import (
    judged_steps,
    reference_steps,
    volume_counts,
)
from napari_geosr.operations.study.subset import ScanSubset

N, ROWS, VIEWS = 32, 24, 48


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    made = simulate(
        "blobs",
        tmp_path_factory.mktemp("scan"),
        size=N,
        rows=ROWS,
        projections=VIEWS,
        radius=(3, 5),
        photons=3e3,
    )
    return made.files


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    """Pictures take most of the time of small studies; one study draws them."""
    for name in ("curves_png", "table_png", "volumes_png"):
        monkeypatch.setattr(study_report, name, lambda *_: b"")


@pytest.fixture
def scan(files):
    return read_projections(files["projections"], centre=19.5)


def settings(**changes) -> StudyConfig:
    given = {"counts": (8, 24), "algorithms": ("fbp",), "threads": 1, **changes}
    return StudyConfig.create(**given)


def run(scan, out, config, **more):
    """Return the result and all other steps."""
    steps = []
    result = run_to_end(study_steps(scan, out, config, **more), steps.append)
    return result, steps


def stop_after_a_cell(scan, out, config):
    """Run until the first cell is done, and request a stop."""
    stop = threading.Event()
    for step in study_steps(scan, out, config, should_stop=stop.is_set):
        if isinstance(step, CellDone):
            stop.set()


def without_times(row):
    times = ("seconds", "training_seconds", "computing")
    return {k: v for k, v in row.items() if not k.startswith(times)}


@pytest.fixture(scope="module")
def done(files, tmp_path_factory):
    scan = read_projections(files["projections"], centre=19.5)
    out = tmp_path_factory.mktemp("study") / "new"
    truth, mask = io.read(files["truth"]), io.read(files["sample"])
    config = settings(algorithms=("fbp", "sirt"), options={"sirt": {"iterations": 30}})
    return run(scan, out, config, reference=truth, mask=mask)[0]


def test_rows_and_files(done):
    cells = [(row["projections"], row["algorithm"]) for row in done.rows]
    assert cells == [
        (VIEWS, "full"),
        *((count, name) for count in (8, 24) for name in ("fbp", "sirt")),
    ]
    kept = json.loads(done.files["json"].read_text(encoding="utf-8"))
    assert kept["rows"] == done.rows
    assert kept["reference"]["is_truth"] is True
    with done.files["csv"].open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [int(row["projections"]) for row in table] == [c for c, _ in cells]
    found = [float(row["porosity_error (relative)"]) for row in table]
    assert found == [row["porosity_error"] for row in done.rows]
    assert not (done.files["json"].parent / "work").exists()


def test_figures_are_those_of_the_truth(done, files):
    facts = json.loads(files["json"].read_text(encoding="utf-8"))
    rows = slice(ROWS // 2 + 2, None)
    truth = np.asarray(io.read(files["truth"]).data)[rows]
    inside = np.asarray(io.read(files["sample"]).data)[rows] != 0
    pores = truth[inside] <= facts["attenuation"] / 2
    assert done.reference["porosity"] == pytest.approx(pores.mean(), rel=0.1)
    few, many = (r for r in done.rows if r["algorithm"] == "fbp")
    assert few["psnr"] < many["psnr"] < done.rows[0]["psnr"]
    assert few["dice"] < many["dice"] <= 1
    assert few["ssim"] < many["ssim"]
    for row in done.rows:
        error = row["porosity"] / done.reference["porosity"] - 1
        assert row["porosity_error"] == pytest.approx(error)
    sirt = next(r for r in done.rows if r["algorithm"] == "sirt")
    assert sirt["settings"] == {"iterations": 30}
    assert sirt["psnr"] > few["psnr"]


def test_the_report_needs_nothing_else(done):
    page = done.files["html"].read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6
    assert "http" not in page.split("<details>")[0]
    assert "SIRT" in page
    assert "Wasserstein-1" in page
    assert "Histograms of pore volumes" in page
    assert "18 kg" in page  # an hour at a synchrotron
    assert "for the whole volume" in page
    assert "whole slices, including the air around the sample" in page


def test_without_a_truth_the_full_reconstruction_is_the_reference(scan, tmp_path):
    result, _ = run(scan, tmp_path, settings(counts=(12,), sample="circle"))
    first = result.rows[0]
    assert first["porosity_error"] == first["euler_error"] == 0
    assert result.reference["is_truth"] is False
    assert result.rows[1]["porosity_error"] != 0


def test_stopped_and_gone_on_with_it_gives_the_same_table(scan, tmp_path, monkeypatch):
    config = settings(counts=(8, 12, 24))
    whole, _ = run(scan, tmp_path / "whole", config)
    stopped = tmp_path / "stopped"
    with pytest.raises(Cancelled, match="after 1 of 3"):
        stop_after_a_cell(scan, stopped, config)
    assert [p.name for p in (stopped / "cells").glob("*.json")] == ["8-fbp.json"]
    made = []
    real = study_cells.take_subset
    monkeypatch.setattr(
        study_cells,
        "take_subset",
        lambda scan, subset, config: made.append(subset) or real(scan, subset, config),
    )
    again, _ = run(scan, stopped, config)
    assert made == [ScanSubset(12), ScanSubset(24)]
    assert [*map(without_times, again.rows)] == [*map(without_times, whole.rows)]


_KILLED = """
import os, signal, sys
from napari_geosr.core.steps import StepIterator, TileDone
from napari_geosr.operations.reconstruct import scan as reconstruct_scan
from napari_geosr.io.unfinished_files import journal
from napari_geosr.io.unfinished_files.unfinished import FileInUseError
from napari_geosr.operations.study import CellDone, StudyConfig, study_steps
from napari_geosr.io.projections import read_projections
from napari_geosr.operations.study import cell as study_cells

reconstruct_scan._GROUP_CPU = 2
journal._MIN_INTERVAL = journal._INTERVAL_FACTOR = 0.0
counted, cells = study_cells.recount, []

def killed(steps, *told, **more):
    def of_two_blocks():  # of the second cell
        n = 0
        iterator = StepIterator(steps)
        for step in iterator:
            n += cells == ["done"] and isinstance(step, TileDone)
            if n == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield step
        return iterator.result

    return counted(of_two_blocks(), *told, **more)

study_cells.recount = killed
config = StudyConfig.from_yaml(sys.argv[3])
scan = read_projections(sys.argv[1], centre=19.5)
for step in study_steps(scan, sys.argv[2], config):
    if isinstance(step, CellDone):
        cells.append("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_study_loses_little(scan, files, tmp_path, monkeypatch):
    config = settings(algorithms=("fbp", "sirt"), counts=(12,), tune=False)
    (tmp_path / "study.yaml").write_text(config.to_yaml(), encoding="utf-8")
    out = tmp_path / "killed"
    words = [files["projections"], out, tmp_path / "study.yaml"]
    command = [sys.executable, "-c", _KILLED, *map(str, words)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [p.name for p in (out / "cells").glob("*.json")] == ["12-fbp.json"]
    gone_on = []
    left = study_cells.usable_unfinished_steps

    def noted(path):
        gone_on.append((yield from left(path)))
        return gone_on[-1]

    monkeypatch.setattr(study_cells, "usable_unfinished_steps", noted)
    monkeypatch.setattr(reconstruct_scan, "_GROUP_CPU", 2)  # for the same rounding
    result, _ = run(scan, out, config)
    (part,) = gone_on  # only for SIRT, with the finished rows
    assert part.provenance[-1]["finished"]
    whole, _ = run(scan, tmp_path / "whole", config)
    assert [*map(without_times, result.rows)] == [*map(without_times, whole.rows)]
    assert not list(out.rglob("*.incomplete.*"))
    assert not (out / "work").exists()


def test_a_generator_that_is_closed_leaves_a_study_to_go_on_with(scan, tmp_path):
    steps = study_steps(scan, tmp_path, settings())
    for step in steps:
        if isinstance(step, CellDone):
            break
    steps.close()
    result, others = run(scan, tmp_path, settings())
    assert len(result.rows) == 3
    assert [s.done for s in others if isinstance(s, CellDone)] == [1, 2]


def test_numbers_may_be_added_and_other_settings_are_refused(scan, tmp_path):
    run(scan, tmp_path, settings(counts=(8,)))
    result, _ = run(scan, tmp_path, settings(counts=(8, 24), scan_hours=2))
    assert len(result.rows) == 3
    with pytest.raises(
        ConfigError, match=r"different settings \(filter\).*--overwrite"
    ):
        run(scan, tmp_path, settings(filter="hann"))
    other = scan.replace(data=np.asarray(scan.data[:]) + 1, source=None)
    with pytest.raises(ConfigError, match=r"with a different input\."):
        run(other, tmp_path, settings())
    turned = scan.replace(angles=np.asarray(scan.angles) * 2)
    with pytest.raises(ConfigError, match=r"with different angles\."):
        run(turned, tmp_path, settings())
    anew, _ = run(scan, tmp_path, settings(filter="hann", counts=(8,)), overwrite=True)
    assert anew.rows[1]["psnr"] != result.rows[1]["psnr"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"flats": "half"}, "different flat or dark fields"),
        ({"darks": None}, "different flat or dark fields"),
        ({"metadata": {"dataset": "other/data"}}, "a different part of the input"),
        ({"centre": 20.5}, "a different rotation centre"),
        ({"reference": True}, "a different reference"),
    ],
)
def test_cells_of_other_data_in_the_same_file_are_not_taken(
    scan, files, tmp_path, change, says
):
    run(scan, tmp_path, settings(counts=(8,)))
    cells = sorted((tmp_path / "cells").iterdir())
    before = [path.read_bytes() for path in cells]
    truth = io.read(files["truth"]) if change.pop("reference", False) else None
    if change.get("flats") == "half":
        change = {"flats": np.asarray(scan.flats[:], np.float32) / 2}
    other = scan.replace(**change)
    assert other.source == scan.source
    with pytest.raises(ConfigError, match=rf"{says}\. Choose another.*--overwrite"):
        run(other, tmp_path, settings(counts=(8,)), reference=truth)
    assert [path.read_bytes() for path in cells] == before


def test_a_study_goes_on_where_its_scan_was_moved(scan, files, tmp_path):
    run(scan, tmp_path / "study", settings(counts=(8,)))
    moved = tmp_path / "moved.h5"
    moved.write_bytes(files["projections"].read_bytes())
    again = read_projections(moved, centre=19.5)
    result, _ = run(again, tmp_path / "study", settings(counts=(8, 12)))
    assert len(result.rows) == 3


def test_a_cell_that_fails_is_told_and_tried_again(scan, tmp_path, monkeypatch):
    config = settings(algorithms=("sirt", "fbp"), counts=(12,), tune=False)

    def fail(cell, name, *more):
        if name == "sirt":
            raise TrainingError("The losses are no numbers.")
        return classical_steps(cell, name, *more)

    with monkeypatch.context() as patch:
        patch.setattr("napari_geosr.operations.study.classical_steps", fail)
        result, steps = run(scan, tmp_path, config)
    assert result.rows[1]["failed"] == "The losses are no numbers."
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert any("SIRT from 12 projections failed" in message for message in said)
    assert "failed" in result.files["html"].read_text(encoding="utf-8")
    assert "failed" not in result.rows[2]
    config = settings(
        algorithms=("sirt", "fbp"),
        counts=(12,),
        tune=False,
    )
    again, _ = run(scan, tmp_path, config)
    assert "failed" not in again.rows[1]


def test_a_cell_that_another_run_writes_ends_the_study(scan, tmp_path, monkeypatch):
    def busy(path):
        if path.name.startswith("few"):
            raise FileInUseError("A run still writes to it.")
        yield from ()

    monkeypatch.setattr(study_cells, "usable_unfinished_steps", busy)
    with pytest.raises(FileInUseError):
        run(scan, tmp_path, settings(counts=(8,)))
    assert not (tmp_path / "report.html").exists()


def test_one_folder_is_filled_by_one_process(scan, tmp_path):
    first = study_steps(scan, tmp_path / "study", settings())
    while not isinstance(next(first), CellDone):
        pass
    with pytest.raises(ConfigError, match="running.*Wait until it has finished"):
        run(scan, tmp_path / "study", settings())
    with pytest.raises(ConfigError, match="study is running"):
        run(scan, tmp_path / "study", settings(light="all"), overwrite=True)
    first.close()
    done, _ = run(scan, tmp_path / "study", settings())
    assert len(done.rows) == 3


def test_one_folder_is_filled_by_one_process_without_locks(scan, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fail(*_):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", fail)
    first = study_steps(scan, tmp_path / "study", settings())
    next(step for step in first if isinstance(step, CellDone))
    for _ in range(2):
        with pytest.raises(ConfigError, match="study is running"):
            next(study_steps(scan, tmp_path / "study", settings()))
    first.close()
    assert not list((tmp_path / "study").glob(".*.owner.lock"))


def test_what_is_refused(scan, files, tmp_path):
    truth = io.read(files["truth"])
    with pytest.raises(ConfigError, match=r"48 projections, but 48 were.*--counts"):
        study(scan, tmp_path, counts=(12, 48))
    with pytest.raises(ConfigError, match="'magic' is unknown; choose from cgls"):
        StudyConfig.create(algorithms="fbp,magic")
    with pytest.raises(ConfigError, match="every number must be 2 or more"):
        StudyConfig.create(counts=(1,))
    with pytest.raises(ConfigError, match="options: There is no .* 'magic'"):
        StudyConfig.create(options={"magic": {}})
    with pytest.raises(ConfigError, match=r"no setting 'wieght'.*'weight'"):
        StudyConfig.create(options={"tv": {"wieght": 1}})
    with pytest.raises(ConfigError, match="learning rate"):
        StudyConfig.create(options={"tomogan-w": {"learning_rate": -1}})
    with pytest.raises(ConfigError, match=r"15 rows, but.*one half.*Omit msdnet"):
        study(scan.rows(0, 15), tmp_path, counts=(12,), algorithms="msdnet")
    short = truth.replace(data=np.asarray(truth.data)[1:], source=None)
    none = truth.replace(data=np.zeros((ROWS, N, N), np.uint8), source=None)
    with pytest.raises(VolumeError, match=r"shape 23 × 32 × 32.*24 × 32 × 32"):
        study(scan, tmp_path, counts=(12,), reference=short)
    with pytest.raises(VolumeError, match=r"mask.*is empty in the evaluated rows"):
        study(scan, tmp_path, counts=(12,), reference=truth, mask=none)
    fan = scan.replace(geometry="fan", source_distance=500.0, detector_distance=0.0)
    with pytest.raises(ProjectionsError, match="fan-beam scan"):
        study(fan, tmp_path, counts=(12,))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", [False, True], ids=["new folder", "folder of others"])
def test_bad_scans_leave_nothing(scan, tmp_path, there):
    out = tmp_path / "study"
    if there:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    counts = np.array(scan.data, np.float32)
    counts[5, 20, 7] = np.nan
    with pytest.raises(ProjectionsError, match="contain NaN or infinite"):
        study(scan.replace(data=counts), out, counts=(12,), threads=1)
    left = [p.name for p in tmp_path.rglob("*")]
    assert sorted(left) == (["notes.txt", "study"] if there else [])


def test_a_study_that_was_begun_stays_when_its_scan_goes_bad(scan, tmp_path):
    counts = np.array(scan.data, np.float32)
    good = scan.replace(data=counts)
    run(good, tmp_path, settings(counts=(8,)))
    before = sorted(p.name for p in tmp_path.rglob("*"))
    bad = scan.replace(data=np.full_like(counts, np.nan))
    with pytest.raises(ProjectionsError, match="contain NaN or infinite"):
        study(bad, tmp_path, counts=(8,), threads=1, algorithms=("fbp",))
    now = sorted(p.name for p in tmp_path.rglob("*"))
    assert [name for name in now if name not in ("work", "full")] == before


def test_a_study_of_an_earlier_release_is_gone_on_with(scan, tmp_path):
    run(scan, tmp_path, settings(counts=(8,)))
    file = tmp_path / "study.json"
    kept = json.loads(file.read_text(encoding="utf-8"))
    for name in ("scan", "light"):
        del kept["essential"][name]
    file.write_text(json.dumps(kept), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"different settings \(light\)"):
        run(scan, tmp_path, settings(counts=(8,), light="all"))
    with pytest.raises(ConfigError, match="a different input"):
        run(scan.replace(source=None), tmp_path, settings(counts=(8,)))
    result, _ = run(scan, tmp_path, settings(counts=(8, 12)))
    assert len(result.rows) == 3
    # From now on, the flat fields of the scan are recorded.
    with pytest.raises(ConfigError, match="different flat or dark fields"):
        run(scan.replace(darks=None), tmp_path, settings(counts=(8,)))


def test_computing_is_for_as_many_rows_as_the_scan_saves(done):
    judged = (ROWS - ROWS // 2 - 2) / ROWS
    for row in done.rows:
        hours = row["seconds"] / judged / 3600
        assert row["computing_kilowatt_hours"] == pytest.approx(0.3 * hours)


def test_the_psnr_is_that_of_the_sample_and_of_its_contrast(rng):
    truth = np.where(rng.random((4, 16, 16)) < 0.3, 0.0, 2.0).astype(np.float32)
    sample = np.zeros(truth.shape, bool)
    sample[:, 4:12, 4:12] = True
    volume = Volume(truth, "ZYX", (1.0, 1.0, 1.0), "µm", name="truth")
    steps = reference_steps(volume, sample, settings(threshold=1.0), never_stop)
    reference = run_to_end(steps)
    found = truth + np.where(sample, np.float32(0.1), np.float32(50))
    steps = judged_steps(found, reference, settings(threshold=1.0), never_stop)
    figures, _ = run_to_end(steps)
    assert figures["psnr"] == pytest.approx(20 * np.log10(2.0 / 0.1), abs=1e-3)


def test_every_algorithm_says_what_it_is():
    assert algorithm_names() == sorted(ALGORITHMS)
    for name in algorithm_names():
        algorithm = find_algorithm(name)
        assert algorithm.title
        assert bool(algorithm.method) == (name not in ("fbp", "sirt", "cgls", "tv"))
    assert find_algorithm("tomogan_js").title == "TomoGAN (JS)"


@pytest.fixture
def brought(monkeypatch):
    """An algorithm of another package that returns dark slices immediately."""

    def reconstruct_steps(cell, should_stop):
        yield StageStarted(message="Toying")
        first, stop = cell.context.evaluated_rows
        size = cell.context.size
        noise = np.random.default_rng(0).normal(size=(stop - first, size, size))
        return AlgorithmResult(noise.astype(np.float32), 0.5, settings=cell.options)

    toy = SimpleNamespace(
        TITLE="Toy",
        LEARNS=False,
        ALGORITHM="sirt",
        reconstruct_steps=reconstruct_steps,
    )
    point = EntryPoint("toy_algorithm", "brought", study_algorithms.GROUP)
    monkeypatch.setitem(sys.modules, "brought", toy)
    monkeypatch.setattr(study_algorithms, "entry_points", lambda group: [point])
    study_algorithms._third_parties.cache_clear()
    yield point
    study_algorithms._third_parties.cache_clear()


def test_an_algorithm_of_another_package(scan, tmp_path, brought):
    config = settings(
        algorithms="toy-algorithm",
        counts=(8,),
        options={"toy-algorithm": {"iterations": 3}},
    )
    result, _ = run(scan, tmp_path, config)
    row = result.rows[1]
    assert (row["algorithm"], row["title"]) == ("toy-algorithm", "Toy")
    assert (row["seconds"], row["settings"]) == (0.5, {"iterations": 3})


def test_algorithms_of_other_packages_have_names_of_their_own(brought, monkeypatch):
    monkeypatch.setattr(
        study_algorithms, "entry_points", lambda group: [EntryPoint("tv", "a", group)]
    )
    study_algorithms._third_parties.cache_clear()
    with pytest.raises(ConfigError, match="'tv': one from napari-geosr and one from a"):
        algorithm_names()


def test_a_package_that_cannot_be_imported_is_named(brought, monkeypatch):
    monkeypatch.setitem(sys.modules, "brought", None)
    with pytest.raises(ConfigError, match="its module brought cannot be imported"):
        find_algorithm("toy-algorithm")


def test_pores_are_counted_by_volume():
    # Starting at 1, 10^(1/4) = 1.8, 10^(1/2) = 3.2, 10^(3/4) = 5.6 and 10 voxels.
    sizes = np.array([1, 2, 3, 4, 6, 10, 10, 17], float)
    assert volume_counts(sizes) == [1, 2, 1, 1, 3]
    assert volume_counts(np.array([])) == []


def test_tomogan_is_both_of_its_critics():
    config = settings(algorithms="fbp,tomogan")
    assert config.algorithms == ("fbp", "tomogan-js", "tomogan-w")


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_of_others_are_never_touched(scan, tmp_path, overwrite):
    mine = tmp_path / "models" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious", encoding="utf-8")
    bad = scan.replace(darks=np.asarray(scan.flats[:]), flats=scan.flats)
    for given in (bad, scan):
        with pytest.raises(FileError, match="contains models but no study"):
            run(given, tmp_path, settings(counts=(8,)), overwrite=overwrite)
    assert [*tmp_path.rglob("*")] == [mine.parent, mine]
