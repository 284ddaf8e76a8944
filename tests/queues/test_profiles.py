"""Profiles: creating, showing, using and testing them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from queue_helpers import Cluster

from napari_geosr.cli.app import run
from napari_geosr.core.version import __version__
from napari_geosr.jobs.cluster.profiles import (
    TEMPLATES,
    Profile,
    load_profile,
    profiles_folder,
)


def test_a_profile_is_made_and_shown(capsys: Any) -> None:
    words = ["profiles", "new", "mine", "--template", "gricad", "--project", "pr-aiax"]
    words += ["--walltime", "12h", "--gpus", "1", "--setup", "module load cuda"]
    words += ["--setup", "ulimit -c 0", "--options=-t besteffort"]
    assert run(words) == 0
    assert (profiles_folder() / "mine.yaml").is_file()
    profile = load_profile("mine")
    assert profile == TEMPLATES["gricad"].model_copy(
        update={
            "project": "pr-aiax",
            "walltime": "12:00:00",
            "gpus": 1,
            "setup": ("module load cuda", "ulimit -c 0"),
            "options": ("-t besteffort",),
        }
    )
    capsys.readouterr()
    assert run(["profiles", "show", "mine"]) == 0
    assert "project: pr-aiax" in capsys.readouterr().out
    assert run(["profiles", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed["profiles"]) == ["mine"]
    assert set(listed["templates"]) == set(TEMPLATES)
    assert run(words) == 2
    assert "The profile 'mine' already exists" in capsys.readouterr().err


def test_a_terminal_asks_five_questions(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = io.StringIO("gricad\npr-aiax\n12h\n\n1\nmodule load cuda\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", answers)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["profiles", "new", "mine"]) == 0
    said = capsys.readouterr().err
    assert said.count(": ") >= 6
    profile = load_profile("mine")
    assert (profile.queue, profile.project, profile.walltime, profile.gpus) == (
        "oar",
        "pr-aiax",
        "12:00:00",
        1,
    )
    assert profile.setup == ("module load cuda",)
    assert profile.cores == 4


def test_each_answer_is_checked_at_its_question(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["GRICADE", "Gricad", "", "a b", "pr-aiax", "10", "10h", "many", "8", "-1"]
    answers = io.StringIO("\n".join([*words, "", ""]) + "\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", answers)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["profiles", "new", "mine"]) == 0
    said = capsys.readouterr().err
    for reason in (
        "There is no profile 'GRICADE'",
        "refuses jobs without a project",
        "must be one word",
        "Did you mean 10h or 10min?",
        "cores",
        "gpus",
    ):
        assert reason in said
    profile = load_profile("mine")
    found = (profile.queue, profile.project, profile.seconds, profile.cores)
    assert found == ("oar", "pr-aiax", 36000, 8)


def test_answers_may_end_early(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = io.StringIO("gricad\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", answers)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run(["profiles", "new", "mine"]) == 2
    assert "refuses jobs without a project" in capsys.readouterr().err


def test_answers_in_a_pipe_are_not_read(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("slurm\n"))
    assert run(["profiles", "new", "mine"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Questions are asked only in a terminal" in said


def test_names_of_templates_and_queues(capsys: Any) -> None:
    assert run(["profiles", "new", "Slurm", "--template", "SLURM"]) == 2
    assert "'Slurm' is the name of a template" in capsys.readouterr().err
    assert run(["profiles", "new", "mine", "--template", "SLURM", "--cores", "1"]) == 0
    assert load_profile("mine").queue == "slurm"
    assert run(["profiles", "list"]) == 0
    assert "slurm, 1 core, 2:00:00" in capsys.readouterr().out
    assert Profile.create(queue="OAR").queue == "oar"


def test_a_profile_without_its_project_is_not_kept(capsys: Any) -> None:
    assert run(["profiles", "new", "mine", "--template", "gricad"]) == 2
    assert "--project" in capsys.readouterr().err
    assert not profiles_folder().exists()


def test_a_damaged_profile_is_named(capsys: Any) -> None:
    profiles_folder().mkdir(parents=True)
    path = profiles_folder() / "mine.yaml"
    path.write_text("walltme: 2h\n")
    assert run(["profiles", "show", "mine"]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert "Did you mean 'walltime'" in said


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    profile = Profile.create(queue="slurm", setup=["a: b # c", "'"], memory="64GB")
    path = tmp_path / "mine.yaml"
    path.write_text(profile.to_yaml())
    assert Profile.from_yaml(path) == profile


@pytest.mark.parametrize(
    "cluster", ["oar", pytest.param("slurm", marks=pytest.mark.slow)], indirect=True
)
def test_a_probe_answers(cluster: Cluster, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "my scans"
    folder.mkdir()
    words = ["profiles", "test", cluster.name, "--folder", str(folder)]
    assert run([*words, "--timeout", "90"]) == 0
    said = capsys.readouterr().out
    assert f"{cluster.name} works: node" in said
    assert str(folder) in said
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("oar")
def test_a_probe_compares_versions(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node runs the version of the tests, and this computer another one."""
    major = __version__.partition(".")[0]
    words = ["profiles", "test", "oar", "--folder", str(tmp_path)]
    monkeypatch.setattr("napari_geosr.cli.jobs.profiles.__version__", f"{major}.987.1")
    assert run(words) == 0
    said = capsys.readouterr()
    assert "oar works" in said.out
    assert f"The node has napari-geosr {__version__}" in said.err
    assert f"this computer has {major}.987.1" in said.err
    monkeypatch.setattr("napari_geosr.jobs.cluster.probe.__version__", "7.2.1")
    assert run(words) == 2
    assert "but this computer has 7.2.1. Install the same" in capsys.readouterr().err


@pytest.mark.usefixtures("oar")
def test_a_probe_creates_no_mistyped_folder(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "scasn"
    assert run(["profiles", "test", "oar", "--folder", str(folder)]) == 2
    assert f"The folder {folder} does not exist." in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.usefixtures("oar")
def test_a_probe_says_why_python_does_not_start(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.jobs.cluster.probe._LAG_SECONDS", 0.2)
    words = ["profiles", "new", "mine", "--template", "oar", "--python", "/no/python"]
    assert run(words) == 0
    assert run(["profiles", "test", "mine", "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "could not start napari-geosr" in said
    assert "/no/python" in said


@pytest.mark.usefixtures("oar")
def test_a_probe_notices_that_nodes_do_not_see_the_folder(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.jobs.cluster.probe._LAG_SECONDS", 0.2)
    # The output of the node is written to a separate folder.
    away = "cd / && exec true"
    words = ["profiles", "new", "mine", "--template", "oar", "--setup", away]
    assert run(words) == 0
    assert run(["profiles", "test", "mine", "--folder", str(tmp_path)]) == 2
    assert "probably cannot access this folder" in capsys.readouterr().err


def test_a_damaged_profile_does_not_hide_the_others(capsys: Any) -> None:
    for name in ("a", "b"):
        assert run(["profiles", "new", name, "--template", "slurm"]) == 0
    (profiles_folder() / "a.yaml").write_text("walltime: soon\n")
    capsys.readouterr()
    assert run(["profiles", "list"]) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.out.splitlines()] == ["b", *TEMPLATES]
    assert "The profile 'a' cannot be used." in said.err
    assert run(["profiles", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert list(listed["profiles"]) == ["b"]
    assert "'soon' is not a valid walltime" in listed["damaged"]["a"]
