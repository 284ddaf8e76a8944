"""``napari-geosr models``: listing, importing, exporting and removing models."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from napari_geosr.cli import models as commands
from napari_geosr.cli.app import run
from napari_geosr.core.text import vocabulary
from napari_geosr.models import zoo
from napari_geosr.operations.models import catalogue


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setattr(zoo, "user_folder", lambda: folder)
    return folder


def listed(capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    assert run(["models", "list", "--json", *flags]) == 0
    return [row["name"] for row in json.loads(capsys.readouterr().out)["models"]]


def test_models_are_listed_by_what_they_are_for(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = listed(capsys)
    assert everything == [entry.name for entry in zoo.list_models()]
    finer = listed(capsys, "--task", "super-resolution")
    assert "foam-sr-x2" in finer
    assert "foam-denoise" not in finer
    light = listed(capsys, "--modality", "fluorescence")
    assert "fluo-denoise" in light
    assert "ct-denoise" not in light
    assert listed(capsys, "--task", "segment") == []
    # Most bundled models suit any voxel size; one trained for a specific size does not.
    any_size = [name for name in everything if name != "bone-sr-x8"]
    assert listed(capsys, "--voxel-size", "3.5") == any_size
    source = zoo.bundled_folder() / "foam-denoise"
    shutil.copytree(source, own / "sized")
    card = (own / "sized" / "card.yaml").read_text().replace(
        "name: foam-denoise", "name: sized"
    )  # fmt: skip
    card = card.replace("voxel_size: null", "voxel_size: [10, 20]")
    card = card.replace("unit: null", "unit: µm")
    (own / "sized" / "card.yaml").write_text(card)
    for size, unit, fits in (
        ("5.1", "um", True),
        ("39", "µm", True),
        ("4.9", "µm", False),
        ("15000", "nm", True),
        ("15", "mm", False),
    ):
        found = listed(capsys, "--voxel-size", size, "--unit", unit)
        assert ("sized" in found) is fits
    assert run(["models", "list", "--task", "guess"]) == 2
    assert run(["models", "list", "--unit", "cubit"]) == 2
    capsys.readouterr()
    assert run(["models", "list", "--modality", "ct"]) == 0
    assert "foam-denoise" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "words"),
    [("task", vocabulary.TASKS), ("modality", vocabulary.MODALITIES)],
)
def test_the_flags_know_all_that_have_words(flag: str, words: dict[str, str]) -> None:
    hint = get_type_hints(commands.list_models)[flag]
    offered = [v for part in get_args(hint) for v in get_args(part)]
    assert offered == list(words)


def test_names_are_whole_in_a_narrow_terminal(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name to be typed after ``--model``; Rich truncates text that does not fit."""
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["models", "list"]) == 0
    shown = capsys.readouterr().out
    for entry in zoo.list_models():
        assert f"{entry.name} " in shown


def test_words_find_models(own: Path) -> None:
    def found(words: str) -> list[str]:
        return [
            e.name for e in catalogue.list_models(catalogue.ModelFilter(words=words))
        ]

    assert "foam-sr-x2" in found("Foam x2")
    assert "foam-denoise" not in found("Foam x2")
    assert set(found("fluorescence noise")) == {
        "fluo-denoise",
        "fluo-sr-x2",
        "photon-denoise",
    }
    assert found("no model has this word") == []
    assert found("bundled") == [e.name for e in zoo.list_models()]
    assert found("own") == []


def test_import_and_remove(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = zoo.bundled_folder() / "foam-denoise"
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", source)
    assert run(["models", "import", packed, "--name", "mine", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"name": "mine", "path": str(own / "mine"), "notes": []}
    assert "mine" in listed(capsys)
    [entry] = catalogue.list_models(catalogue.ModelFilter(words="own"))
    assert (entry.name, entry.location) == ("mine", f"own: {own / 'mine'}")
    assert run(["models", "import", packed, "--name", "mine"]) == 2
    assert "already" in capsys.readouterr().err
    assert run(["models", "remove", "mine"]) == 0
    assert str(own / "mine") in capsys.readouterr().out
    assert list(own.iterdir()) == []
    assert run(["models", "remove", "mine"]) == 2
    assert "no model 'mine' among your own" in capsys.readouterr().err
    assert run(["models", "remove", "foam-denoise"]) == 2
    assert "is part of napari-geosr" in capsys.readouterr().err
    assert (source / "card.yaml").exists()


def test_removing_uncovers_a_bundled_namesake_and_takes_damaged_ones(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = zoo.bundled_folder() / "foam-denoise"
    shutil.copytree(source, own / "foam-denoise")
    assert run(["models", "remove", "foam-denoise"]) == 0
    assert zoo.find("foam-denoise").path == source
    (own / "torn.zip").write_text("no zip")
    assert run(["models", "remove", "torn.zip"]) == 0
    assert not zoo.damaged()
    capsys.readouterr()


def test_what_cannot_be_imported_is_said_in_a_sentence(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pth").write_bytes(b"no weights")
    assert run(["models", "import", str(tmp_path / "a.pth")]) == 2
    said = capsys.readouterr().err
    assert "a.pth is damaged" in said
    assert "Traceback" not in said
    assert (
        run(["models", "export", "foam-denoise", "--format", "tiff", "--out", "a"]) == 2
    )
    assert (
        run(["models", "export", "foam-denoise", "--format", "onnx", "--out", "a.b"])
        == 2
    )
    assert "must have the suffix .onnx" in capsys.readouterr().err
    assert not own.exists()


def test_the_card_says_what_has_to_be_known() -> None:
    from napari_geosr.models.bundle import read_card

    card = read_card(zoo.bundled_folder() / "foam-denoise")
    odd = card.model_copy(
        update={"remarks": ("It is odd.",), "local": False, "method": "spandrel"}
    )
    text = catalogue.card_text(odd)
    assert "- It is odd." in text
    assert "uses the whole image" in text
    assert "Made with:   spandrel" in text


@pytest.mark.parametrize("entry", zoo.list_models(), ids=lambda entry: entry.name)
def test_figures_of_a_card_are_columns_that_fit_80(entry: zoo.ZooEntry) -> None:
    text = catalogue.card_text(entry.card)
    tables = [part.splitlines()[1:] for part in text.split("Results on ")[1:]]
    assert bool(tables) is bool(entry.card.figures)
    for heading, *rows in tables:
        assert max(map(len, (heading, *rows))) <= 80
        n_columns = len(re.split(r"\s{2,}", heading.strip()))
        for row in filter(str.strip, rows):
            cells = re.split(r"\s{2,}", row.strip())
            assert len(cells) in (1, n_columns + 1)  # 1: the rest of a long name
    figures = text.partition("Results on ")[2]
    assert not re.search(r"\s-\d", figures)  # a real minus sign, as in the docks


def test_the_columns_of_a_card_are_explained() -> None:
    entries = [entry for entry in zoo.list_models() if entry.card.figures]
    assert entries
    for entry in entries:
        text = catalogue.card_text(entry.card)
        legend = text.partition("How to read the results:\n")[2].partition("\n\n")[0]
        heading = text.partition("Results on ")[2].splitlines()[1]
        explained = {line[1:].split("  ")[0] for line in legend.splitlines()}
        assert explained == set(re.split(r"\s{2,}", heading.strip()))


def test_models_for_shapes_have_cards_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "list"]) == 0
    assert "shape-sr-x2" in capsys.readouterr().out.splitlines()[-1]
    assert run(["models", "show", "shape-sr-x2"]) == 0
    assert "Doubles the resolution of a binary shape" in capsys.readouterr().out
    assert run(["models", "show", "skull-complete", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "skull-complete"
