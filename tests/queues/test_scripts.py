"""Scripts: the requested resources, and quoting of names and values."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import write_program

from napari_geosr.core.errors import ConfigError
from napari_geosr.jobs.cluster.profiles import Profile, parse_walltime
from napari_geosr.jobs.cluster.submission import script_of, submit
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.queues import QUEUES, RESUBMIT, load_queue
from napari_geosr.jobs.queues import local as local_queue
from napari_geosr.jobs.queues._scripts import check_setup

#: Characters with a special meaning in shells and queues.
HOSTILE = st.text(st.sampled_from("ab ;'\"`$(){}&|<>*?!#\\~=%\n\r\t-é"), max_size=25)
MARKS = {"slurm": "#SBATCH", "oar": "#OAR", "local": "#!"}


def profile_with(queue: str, **values: Any) -> Profile:
    return Profile.create(queue=queue, **values)


def test_each_queue_is_one_file() -> None:
    assert QUEUES.names() == ["local", "oar", "slurm"]


def test_slurm_asks_for_everything_in_the_profile() -> None:
    profile = profile_with(
        "slurm",
        project="pr-aiax",
        partition="gpu",
        walltime="90min",
        nodes=2,
        cores=8,
        gpus=1,
        memory="64GB",
        properties="a100|h100",
        options=("--qos=long",),
        setup=("module load cuda",),
    )
    script = script_of("my scan", Path("/data/my scan"), profile)
    lines = [x for x in script.splitlines() if x.startswith("#SBATCH")]
    assert lines == [
        "#SBATCH --job-name=my_scan",
        "#SBATCH --time=1:30:00",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --mem=61036M",
        "#SBATCH --account=pr-aiax",
        "#SBATCH --partition=gpu",
        "#SBATCH --constraint='a100|h100'",
        "#SBATCH --output=log.txt",
        "#SBATCH --open-mode=append",
        "#SBATCH --signal=B:USR1@120",
        "#SBATCH --requeue",
        "#SBATCH --qos=long",
    ]
    assert "\nmodule load cuda\n" in script
    assert "\ncd '/data/my scan' || exit 2\n" in script
    assert "scontrol requeue" in script


def test_oar_asks_for_everything_in_the_profile() -> None:
    profile = profile_with(
        "oar",
        project="pr-aiax",
        needs_project=True,
        walltime="12h",
        cores=8,
        memory="64GB",
        memory_property="memcore",
        properties="gpumodel='A100'",
    )
    script = script_of("scan", Path("/bettik/scan"), profile)
    lines = [x for x in script.splitlines() if x.startswith("#OAR")]
    assert lines == [
        "#OAR -n scan",
        "#OAR -l /nodes=1/core=8,walltime=12:00:00",
        "#OAR -p (gpumodel='A100') AND memcore >= 7630",
        "#OAR --project pr-aiax",
        "#OAR -O log.txt",
        "#OAR -E log.txt",
        "#OAR -t idempotent",
        "#OAR --checkpoint 120",
        "#OAR --signal 10",
    ]
    # OAR does not report the requested cores and memory to the job.
    assert "\nexport NAPARI_GEOSR_CORES=8\n" in script
    assert "\nexport NAPARI_GEOSR_MEGABYTES=61036\n" in script
    gpu = script_of("scan", Path("/scan"), profile_with("oar", gpus=2))
    assert "#OAR -l /nodes=1/gpu=2,walltime=2:00:00\n" in gpu
    # The memory belongs to the GPUs, whatever the number of cores in the profile.
    profile = profile_with("oar", gpus=1, cores=4, memory="64GB", properties="a='b'")
    gpu = script_of("scan", Path("/scan"), profile)
    assert "#OAR -p a='b'\n" in gpu
    assert "NAPARI_GEOSR_CORES" not in gpu
    assert "# OAR allocates memory with the GPUs; --mem has no effect.\n" in gpu


@pytest.mark.parametrize(
    ("resources", "options"),
    [
        ({"gpus": 2}, "--nnodes=1 --nproc-per-node=2 --standalone"),
        ({"nodes": 2}, "--nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d"),
        ({"nodes": 3, "gpus": 4}, "--nnodes=3 --nproc-per-node=4 --rdzv-backend=c10d"),
        ({"gpus": 1}, ""),
        ({}, ""),
    ],
)
@pytest.mark.parametrize("queue", ["slurm", "oar"])
def test_torchrun_starts_a_process_on_each_gpu_and_node(
    queue: str, resources: dict[str, int], options: str
) -> None:
    profile = profile_with(queue, **resources)
    script = script_of("job", Path("/data/x"), profile, "train")
    (line,) = [x for x in script.splitlines() if x.startswith("(trap")]
    ending = f" --in-queue torchrun {options}" if options else " --in-queue"
    assert f"-m napari_geosr.jobs /data/x{ending}) &" in line
    # Workers do the same for other jobs.
    assert "torchrun" not in script_of("job", Path("/data/x"), profile, "restore")


def header(script: str) -> list[str]:
    """Lines that a queue reads, anywhere in the script."""
    return [
        line for line in script.splitlines() if line.startswith(("#SBATCH", "#OAR"))
    ]


@settings(max_examples=150, deadline=None)
@given(
    name=HOSTILE,
    folder=HOSTILE,
    python=HOSTILE,
    queue=st.sampled_from(["slurm", "oar"]),
)
def test_no_name_adds_an_option_or_a_command(
    name: str, folder: str, python: str, queue: str
) -> None:
    path = Path(f"/data/{folder}#SBATCH\n#OAR" if "\n" in folder else f"/data/{folder}")
    try:
        script = script_of(name, path, profile_with(queue, python=python))
    except ConfigError:
        assert any(ord(c) < 32 for c in f"{folder}{python}")
        return
    plain = script_of("job", Path("/data/x"), profile_with(queue))
    assert len(header(script)) == len(header(plain))
    assert len(script.splitlines()) == len(plain.splitlines())
    (line,) = [x for x in script.splitlines() if x.startswith("(trap")]
    start = line.removeprefix("(trap '' USR1; exec ").removesuffix(") &")
    program = python or sys.executable
    assert shlex.split(start)[:5] == [
        program,
        "-P",
        "-m",
        "napari_geosr.jobs",
        str(path),
    ]
    (change,) = [x for x in script.splitlines() if x.startswith("cd ")]
    assert shlex.split(change) == ["cd", str(path), "||", "exit", "2"]


@settings(max_examples=150, deadline=None)
@given(
    field=st.sampled_from(["project", "partition", "properties", "memory_property"]),
    value=HOSTILE,
    queue=st.sampled_from(["slurm", "oar"]),
)
def test_no_value_adds_an_option(field: str, value: str, queue: str) -> None:
    try:
        profile = profile_with(queue, **{field: value})
    except ConfigError:
        return
    script = script_of("job", Path("/data/x"), profile)
    plain = script_of("job", Path("/data/x"), profile_with(queue))
    added = [line for line in header(script) if line not in header(plain)]
    assert len(added) <= 1
    assert script.replace("\n".join(added), "").count("\n") == plain.count("\n") + (
        1 if added else 0
    )


@pytest.mark.parametrize("field", ["setup", "options"])
def test_lines_with_line_breaks_are_refused(field: str) -> None:
    with pytest.raises(ConfigError, match="line break"):
        profile_with("slurm", **{field: ["-x\n#SBATCH --wrap=evil"]})


def test_bash_runs_a_script_with_hostile_names(tmp_path: Path) -> None:
    """The whole script, with Python replaced by a program that records arguments."""
    folder = tmp_path / "a 'b\" $(touch hacked) `touch hacked`; touch hacked & #c \\"
    folder.mkdir()
    program = tmp_path / "my $(touch hacked) python"
    write_program(
        program,
        f"#!{sys.executable}\nimport json, sys\n"
        "json.dump(sys.argv[1:], open('said.json', 'w'))\nsys.exit(7)\n",
    )
    profile = profile_with("oar", python=str(program))
    script = script_of("job", folder, profile)
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(["bash", "-c", script], cwd=elsewhere, check=False)
        assert not list(Path(elsewhere).iterdir())
    assert done.returncode == 7
    said = json.loads((folder / "said.json").read_text())
    assert said == ["-P", "-m", "napari_geosr.jobs", str(folder), "--in-queue"]
    assert not list(tmp_path.rglob("hacked"))


@pytest.mark.parametrize(
    ("name", "output"),
    [("a 20 percent", "log.txt"), ("a 20%air", "/dev/null"), ("a\\b", "/dev/null")],
)
def test_slurm_writes_no_log_into_folders_that_it_would_not_find(
    tmp_path: Path, name: str, output: str
) -> None:
    """The script itself writes the log there."""
    folder = tmp_path / name
    folder.mkdir()
    write_program(tmp_path / "python", "#!/bin/bash\necho said\nexit 3\n")
    profile = profile_with(
        "slurm", python=str(tmp_path / "python"), setup=["echo prepared"]
    )
    script = script_of("job", folder, profile)
    assert f"#SBATCH --output={output}" in script.splitlines()
    done = subprocess.run(["bash", "-c", script], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    assert (folder / "log.txt").read_text() == "prepared\nsaid\n"


@pytest.mark.parametrize("queue", ["slurm", "oar"])
def test_a_setup_that_ends_on_errors_does_not_prevent_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    """With `set -e` in the setup, bash would end at the job's exit code 99."""
    write_program(tmp_path / "python", f"#!/bin/bash\nexit {RESUBMIT}\n")
    write_program(tmp_path / "scontrol", "#!/bin/bash\ntouch requeued\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    profile = profile_with(
        queue, python=str(tmp_path / "python"), setup=["set -euo pipefail", "true"]
    )
    words = ["bash", "-c", script_of("job", tmp_path, profile)]
    assert subprocess.run(words, check=False).returncode == RESUBMIT
    assert (tmp_path / "requeued").exists() == (queue == "slurm")
    failing = profile_with(queue, setup=["set -e", "false", "touch started"])
    words = ["bash", "-c", script_of("job", tmp_path, failing)]
    assert subprocess.run(words, check=False).returncode == 1
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2:00:00", 7200),
        ("0:30", 1800),
        ("1-12:00:00", 129600),
        ("90min", 5400),
        ("1h30m", 5400),
        ("2 hours", 7200),
        ("60s", 60),
    ],
)
def test_walltimes(text: str, seconds: int) -> None:
    assert parse_walltime(text) == seconds
    assert profile_with("slurm", walltime=text).seconds == seconds


@pytest.mark.parametrize("text", ["", "2", "soon", "1:99", "2:00:00:00", "-1h", "1h x"])
def test_other_walltimes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid walltime"):
        parse_walltime(text)


def test_unclear_walltimes_are_refused_with_both_meanings() -> None:
    with pytest.raises(ConfigError, match="30:00:00 for hours .* 0:30:00 for minutes"):
        parse_walltime("30:00")
    with pytest.raises(ConfigError, match="Did you mean 1h30min"):
        parse_walltime("1h30")


@pytest.mark.parametrize("text", ["30s", "0:00:59", "0h"])
def test_short_walltimes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="too short"):
        parse_walltime(text)


def test_a_walltime_without_quotes_in_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("queue: slurm\nwalltime: 2:00:00\n")
    assert Profile.from_yaml(path).walltime == "2:00:00"


def test_a_short_walltime_is_warned_of_in_time() -> None:
    assert profile_with("slurm", walltime="60s").warning_seconds == 15


def test_an_unknown_queue_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no queue 'lsf'. Known: local, oar, slurm"):
        load_queue("lsf")


def test_this_computer_runs_the_script_that_is_shown(tmp_path: Path) -> None:
    settings = {"operation": "restore", "data": {"volume": "scan.tif"}}
    job = JobFolder.create(tmp_path / "it's a job", settings, name="job")
    profile = Profile(queue="local", python="echo", setup=("echo $((40 + 2))",))
    shown = script_of("job", job.path, profile, "restore")
    submit(job, profile)
    assert (job.path / "submit.sh").read_text() == shown
    log, end = job.path / "log.txt", time.monotonic() + 60
    while "-m" not in log.read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert log.read_text() == f"42\n-P -m napari_geosr.jobs {job.path}\n"


def test_on_windows_the_command_itself_is_shown_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(local_queue, "_HAS_BASH", False)
    monkeypatch.setattr(
        local_queue.local, "start", lambda _job, line: lines.append(line)
    )
    job = JobFolder.create(tmp_path / "a job", {"operation": "restore"}, name="job")
    profile = Profile(queue="local", python="C:\\my python.exe")
    submit(job, profile)
    assert lines == [
        f'"C:\\my python.exe" -P -m napari_geosr.jobs "{tmp_path / "a job"}"'
    ]


def test_a_setup_with_other_rules_is_not_checked() -> None:
    check_setup(profile_with("slurm", setup=("shopt -s extglob", "ls !(x)")))
    check_setup(profile_with("slurm", setup=("if true; then",), host="elsewhere"))


@pytest.mark.skipif(os.name == "nt", reason="setup commands are for bash")
@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        (('echo "hi $USER',), "unexpected EOF"),
        (("module load cuda", "if true; then"), "syntax error"),
        (("cat <<EOF", "text"), "here-document"),
    ],
)
def test_an_invalid_setup_is_refused(setup: tuple[str, ...], reason: str) -> None:
    profile = profile_with("slurm", setup=setup)
    with pytest.raises(ConfigError, match=f"(?s)not valid in bash.*{reason}.*--setup"):
        script_of("job", Path("/data/x"), profile)


@pytest.mark.skipif(os.name == "nt", reason="setup commands are for bash")
@pytest.mark.parametrize("queue", ["slurm", "local"])
@pytest.mark.parametrize("setup", ["exit 0", "set -e; false", "true"])
def test_the_log_states_that_the_setup_ended_the_script(
    queue: str, setup: str, tmp_path: Path
) -> None:
    profile = profile_with(queue, setup=(setup,), python="/bin/true")
    script = script_of("job", tmp_path, profile)
    subprocess.run(["bash"], input=script, text=True, check=False)
    log = tmp_path / "log.txt"
    said = log.read_text() if log.exists() else ""
    assert ("A setup command of the profile ended" in said) == (setup != "true")
