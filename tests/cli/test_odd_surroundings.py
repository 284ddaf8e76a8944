"""Unusual names, terminals, disks and sizes: a result, or a message and exit code 2."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import FileError
from napari_geosr.core.text.display import printable
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.operations.measure import files

linux = pytest.mark.skipif(sys.platform != "linux", reason="names and disks of Linux")


def image(path: Path) -> Path:
    rng = np.random.default_rng(0)
    data = rng.integers(90, 110, (6, 24, 24)).astype(np.uint8)
    data[2:4, 4:12, 4:12] = 20
    tifffile.imwrite(path, data, metadata={"axes": "ZYX"})
    return path


def command(*words: Any, **how: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a separate process."""
    how = {"stdout": subprocess.PIPE} | how
    return subprocess.run(
        [sys.executable, "-m", "napari_geosr", *map(os.fsencode, words)],
        stderr=subprocess.PIPE,
        check=False,
        **how,
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file in a folder; the names of both are not valid UTF-8."""
    folder = tmp_path / os.fsdecode(b"gro\xdfe")
    folder.mkdir()
    return image(folder / os.fsdecode(b"scan-\xb5.tif"))


@linux
def test_names_that_are_no_text_are_read_measured_and_restored(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = io.read(odd)
    assert volume.name == r"scan-\xb5"
    out = odd.parent / "report"
    words = ["measure", str(odd), "--out", str(out), "--voxel-size", "1"]
    assert run([*words, "--unit", "um", "--json"]) == 0
    json.loads(capsys.readouterr().out)
    stored = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert stored["name"] == r"scan-\xb5"
    assert "scan-" in (out / "report.html").read_text(encoding="utf-8")
    for suffix in ("tif", "ome.tif", "ome.zarr"):
        restored = odd.parent / os.fsdecode(b"r\xe4." + suffix.encode())
        words = ["restore", str(odd), "--out", str(restored), "--model", "gaussian"]
        assert run([*words, "--device", "cpu"]) == 0, capsys.readouterr().err
        inputs = io.read(restored).provenance[-1]["inputs"]
        assert next(iter(inputs.values()))["name"] == r"scan-\xb5"
    capsys.readouterr()
    assert run(["info", str(odd.with_name(os.fsdecode(b"\xff.tif")))]) == 2


@linux
def test_a_training_on_names_that_are_no_text_is_refused_at_once(
    odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "noise2void", "--source", str(odd), "--out"]
    assert run([*words, str(tmp_path / "job"), "--steps", "1"]) == 2
    said = capsys.readouterr().err
    assert "not valid UTF-8" in said
    assert "Rename" in said
    assert not (tmp_path / "job" / "checkpoints").exists()


@linux
@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--json",)], ids=["text", "JSON"])
def test_a_terminal_that_knows_ascii_alone(tmp_path: Path, words: Any) -> None:
    path = image(tmp_path / "scan-µ.tif")
    ascii_alone = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    size = ("--voxel-size", "2", "--unit", "µm")
    out = tmp_path / "report-µ"
    for line in (("info", path), ("measure", path, "--out", out)):
        done = command(*line, *size, *words, env=os.environ | ascii_alone)
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        if words:
            assert json.loads(done.stdout)["unit"] == "µm"
    assert (out / "report.html").is_file()


@linux
def test_output_that_nobody_can_take(tmp_path: Path) -> None:
    path = image(tmp_path / "scan.tif")
    with Path("/dev/full").open("wb") as full:
        done = command("info", path, stdout=full)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("napari-geosr: Cannot write to standard output: No space")


@pytest.mark.slow
@linux
def test_results_are_written_although_nobody_can_be_told(tmp_path: Path) -> None:
    path = image(tmp_path / "scan.tif")
    out = tmp_path / "report"
    with Path("/dev/full").open("wb") as full:
        done = command("measure", path, "--out", out, "--json", stdout=full)
    assert done.returncode == 2
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("napari-geosr: Cannot write to standard output")
    assert (out / "report.json").is_file()


@linux
@pytest.mark.parametrize("words", [("info",), ("measure",)])
def test_messages_write_odd_names_in_a_readable_way(
    odd: Path, words: tuple[str, ...], tmp_path: Path
) -> None:
    missing = odd.with_name(os.fsdecode(b"\xff.tif"))
    done = command(*words, missing, "--out", tmp_path) if words[0] != "info" else None
    done = done or command("info", missing)
    assert done.returncode == 2
    said = done.stderr.decode()
    assert r"gro\xdfe" in said
    assert r"\xff.tif does not exist" in said
    assert r"\udc" not in said


@linux
def test_printed_paths_write_odd_names_in_a_readable_way(odd: Path) -> None:
    out = odd.with_name(os.fsdecode(b"r\xe4.tif"))
    options = ["--device", "cpu", "--model", "gaussian"]
    done = command("restore", odd, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert rb"r\xe4.tif" in done.stdout
    assert rb"\udc" not in done.stdout + done.stderr


#: Sends Ctrl-C at a given moment during the import of the command line.
_INTERRUPTED = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from napari_geosr.cli import main
main(["info", "x.tif"])
"""


@pytest.mark.parametrize(
    "module",
    [
        "napari_geosr.core",
        "napari_geosr.core.version",
        "importlib.metadata",
        "cyclopts",
        "pydantic",
        "napari_geosr.cli.info",
    ],
)
def test_ctrl_c_while_loading_is_one_line(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, module], capture_output=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr.decode().splitlines() == ["napari-geosr: Stopped."]


@linux
def test_a_link_without_a_target_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path / "scan.tif")
    for name in ("out.tif", "report"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    restore = ["restore", str(path), "--out", str(tmp_path / "out.tif")]
    measure = ["measure", str(path), "--out", str(tmp_path / "report")]
    for words in ([*restore, "--model", "gaussian"], measure):
        assert run(words) == 2
        said = capsys.readouterr().err
        assert "link to" in said
        assert len(said.splitlines()) == 1  # nothing had begun


@linux
@pytest.mark.parametrize("name", ["/dev/full", "/dev/null", "/proc/a.ome.tif"])
def test_places_that_take_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = image(tmp_path / "scan.tif")
    options = ["--device", "cpu", "--model", "gaussian"]
    assert run(["restore", str(path), "--out", name, *options]) == 2
    assert run(["measure", str(path), "--out", name]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # nothing had begun
    assert all(line.startswith("napari-geosr: ") for line in lines)


@pytest.mark.parametrize(
    "size", ["1e-30", "1e30", "1e-300", "1e308", "1,1e-30,1", "5e-324"]
)
@pytest.mark.parametrize("unit", ["um", "pixel"])
def test_absurd_voxel_sizes_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str, unit: str
) -> None:
    path = image(tmp_path / "scan.tif")
    reading = ["--voxel-size", size, "--unit", unit]
    out = tmp_path / "out.tif"
    restore = ["restore", str(path), "--out", str(out), "--model", "gaussian"]
    for words in (
        [*restore, "--device", "cpu"],
        ["measure", str(path), "--out", str(tmp_path / "report")],
        ["info", str(path)],
    ):
        assert run([*words, *reading]) == 2
        assert re.search(
            "cannot be right|outside the usable range", capsys.readouterr().err
        )
    assert [p.name for p in tmp_path.iterdir()] == ["scan.tif"]


def test_threads_that_cannot_be_started(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = image(tmp_path / "scan.tif")

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    out = tmp_path / "out.ome.zarr"
    words = ["restore", str(path), "--out", str(out), "--model", "gaussian"]
    assert run([*words, "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "allows no more threads" in said
    assert "damaged" not in said
    assert not list(tmp_path.glob("out*"))


def test_memory_that_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = image(tmp_path / "scan.tif")

    def refuse(*_given: Any, **_how: Any) -> Any:
        np.empty(1 << 60, np.uint8)

    monkeypatch.setattr("napari_geosr.measure.blocks.SlabLabeller.join", refuse)
    assert run(["measure", str(path), "--out", str(tmp_path / "out")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "not enough memory: 1.00 EiB could not be allocated" in said
    assert "bug" not in said


def test_addresses_that_are_limited(tmp_path: Path) -> None:
    """A plane that does not fit gives a message before the run, not a MemoryError."""
    path = tmp_path / "wide.tif"
    tifffile.memmap(path, shape=(12_000, 12_000), dtype="u2")  # a sparse file
    script = (
        "import resource, sys\n"
        "from napari_geosr.cli.app import run\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9,) * 2)\n"
        f"sys.exit(run(['measure', {str(path)!r}, '--out', {str(tmp_path / 'out')!r},"
        " '--threshold', '5']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    said = " ".join(done.stderr.split())
    assert done.returncode == 2, said
    assert "needs at least 2.11 GB of memory, but" in said
    assert "is free" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        OSError(errno.EMFILE, "Too many open files"),
    ],
)
def test_a_whole_result_is_not_called_damaged_when_it_cannot_be_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = io.write(Volume(np.ones((4, 8, 8), "u1"), "ZYX"), tmp_path / "a.ome.zarr")

    def refuse(*_given: Any, **_how: Any) -> Any:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr("zarr.open", refuse)
        with pytest.raises(FileError) as said:
            io.read_back(path)
    assert "written completely" in str(said.value)
    for word in ("damaged", "copied completely", "not a readable"):
        assert word not in str(said.value)
    assert io.read_back(path).shape == (4, 8, 8)


def test_odd_names_are_shown_by_their_bytes() -> None:
    assert printable("scan-µ.tif") == "scan-µ.tif"
    assert printable("scan-\udcff.tif") == r"scan-\xff.tif"


@pytest.mark.parametrize(
    "words",
    [
        ["info", ""],
        ["measure", "scan.tif", "--out", ""],
        ["measure", "scan.tif", "--out", " "],
        ["restore", "scan.tif", "--out", "", "--model", "gaussian"],
        ["jobs", "show", ""],
    ],
    ids=lambda words: words[0],
)
def test_an_empty_argument_is_not_the_current_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "scan.tif")
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "is empty" in said
    assert (" after --out" in said) == ("--out" in words)
    assert [p.name for p in tmp_path.iterdir()] == ["scan.tif"]


@linux
def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    path = image(tmp_path / "scan.tif")
    gone = tmp_path / "gone"
    code = (
        "import os, sys; from napari_geosr.cli import main\n"
        "os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "main(['measure', sys.argv[2], '--out', 'report'])"
    )
    gone.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(gone), str(path)],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "The current folder no longer exists" in done.stderr.decode()


def test_a_report_in_a_folder_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For ``/`` and ``.``, the folder itself is checked, not its parent."""
    checked: list[Path] = []
    monkeypatch.setattr(atomic, "check_writable", checked.append)
    monkeypatch.chdir(tmp_path)
    for folder in (Path("/"), Path()):
        files.check(files.plan(folder, ["input"]), overwrite=True)
    assert [path.parent for path in checked] == [Path("/"), tmp_path]


@linux
@pytest.mark.parametrize(
    "words",
    [
        ("info",),
        # The files written by these three processes are checked in other tests.
        pytest.param(("measure", "--out", "report"), marks=pytest.mark.slow),
    ],
)
def test_messages_that_nobody_can_take_end_no_run(
    tmp_path: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path / "scan.tif")
    monkeypatch.chdir(tmp_path)
    line = [sys.executable, "-m", "napari_geosr", words[0], str(path), *words[1:]]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(line, stdout=full, stderr=full, check=False)
        alone = subprocess.run(
            [*line, "--overwrite"] if words[1:] else line,
            stdout=subprocess.DEVNULL,
            stderr=full,
            check=False,
        )
    assert (done.returncode, alone.returncode) == (2, 0)  # stdout holds the results
    assert (tmp_path / "report" / "report.json").is_file() == bool(words[1:])


@linux
def test_closed_output_ends_no_run(tmp_path: Path) -> None:
    path = image(tmp_path / "scan.tif")
    out = tmp_path / "report"
    line = f'"{sys.executable}" -m napari_geosr measure "{path}" --out "{out}" >&- 2>&-'
    assert subprocess.run(line, shell=True, check=False).returncode == 0
    assert (out / "report.json").is_file()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("restore", "a.tif", "--out", "b.tif", "--workers", "2.5"), "--workers"),
        (("restore", "a.tif", "--out", "b.tif", "--threads=.5"), "--threads"),
        (("measure", "a.tif", "--out", "b", "--min-voxels", "8.5"), "--min-voxels"),
        (("info", "a.raw", "--shape", "4,4.5,4"), "--shape"),
    ],
)
def test_whole_numbers_are_not_rounded(
    words: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert f"{name} needs a whole number" in capsys.readouterr().err


def test_numbers_with_a_point_are_taken_where_they_make_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = image(tmp_path / "scan.tif")
    words = ("--min-voxels", "8.0", "--voxel-size", "1.5", "--unit", "um")
    out = tmp_path / "report"
    assert run(("measure", str(path), "--out", str(out), *words)) == 0
    assert "whole" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [("info", "a\0.tif"), ("info", "a", "--unit", "\0")])
def test_a_nul_character_is_refused(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert "NUL character" in capsys.readouterr().err
    with pytest.raises(FileError, match="NUL character"):
        io.read("a\0.tif")
    with pytest.raises(FileError, match="NUL character"):
        io.check_output("a\0.tif")


@pytest.mark.parametrize("command_", ["measure", "restore"])
def test_a_budget_without_its_unit_is_refused_at_once(
    command_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("scan.tif", "--out", str(tmp_path / "out.tif"), "--memory", "4")
    assert run((command_, *words)) == 2  # before it searches for the scan
    assert "Give a unit, such as 4GB" in capsys.readouterr().err
