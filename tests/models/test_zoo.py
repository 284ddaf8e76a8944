from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from napari_geosr.core.errors import ModelError
from napari_geosr.models import bundle, zoo
from napari_geosr.models.card import ModelCard

#: test_bundled checks that all models exist.
BUNDLED = sorted(
    card.parent.name for card in zoo.bundled_folder().glob(f"*/{bundle.CARD_FILE}")
)


@pytest.fixture
def user_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user" / "models"
    monkeypatch.setattr(zoo, "user_folder", lambda: folder)
    return folder


def test_bundled_models_are_listed(user_models: Path) -> None:
    entries = zoo.list_models()
    assert [e.name for e in entries] == BUNDLED
    assert all(e.bundled for e in entries)
    assert not zoo.damaged()


def test_a_model_for_shapes_is_not_said_to_be_missing(user_models: Path) -> None:
    with pytest.raises(ModelError, match="is for shapes, not for grey values"):
        zoo.find("skull-complete")


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys, napari_geosr.models.zoo as z; n = len(z.list_models());"
        "assert n >= 2; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_user_models(user_models: Path, tiny: Path) -> None:
    shutil.copytree(tiny, user_models / "mine")
    entries = {e.name: e for e in zoo.list_models()}
    assert list(entries) == sorted([*BUNDLED, "tiny"])
    assert not entries["tiny"].bundled
    assert zoo.find("tiny").card.name == "tiny"


def test_damaged_user_models_hide_nothing(user_models: Path, tiny: Path) -> None:
    shutil.copytree(tiny, user_models / "broken")
    (user_models / "broken" / bundle.CARD_FILE).write_text("name: [")
    (user_models / "notes").mkdir()
    (user_models / "fake.zip").write_text("no zip")
    assert [e.name for e in zoo.list_models()] == BUNDLED
    assert sorted(p.name for p in zoo.damaged()) == ["broken", "fake.zip"]
    with pytest.raises(ModelError, match="YAML"):
        zoo.find("broken")


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the bundles whose cards are parsed, recorded when it happens."""
    names: list[str] = []
    read_card = bundle.read_card

    def read(path: Path) -> ModelCard:
        names.append(path.name)
        return read_card(path)

    monkeypatch.setattr(bundle, "read_card", read)
    return names


def _age(file: Path, seconds: float) -> None:
    """Make a file look as if it was written some time ago."""
    written = time.time() - seconds
    os.utime(file, (written, written))


@pytest.mark.parametrize("zipped", [False, True])
def test_a_card_is_parsed_once_and_again_when_it_changed(
    user_models: Path, tiny: Path, parsed: list[str], zipped: bool
) -> None:
    user_models.mkdir(parents=True)

    def put() -> None:
        path = user_models / "mine"
        if zipped:
            file = Path(shutil.make_archive(str(path), "zip", tiny))
        else:
            shutil.copytree(tiny, path, dirs_exist_ok=True)
            file = path / bundle.CARD_FILE
        _age(file, 60)

    mine = "mine.zip" if zipped else "mine"
    put()
    zoo.list_models()
    assert parsed.count(mine) == 1
    parsed.clear()
    before = zoo.find("tiny").card
    assert zoo.find(user_models / mine).card is before
    assert "tiny" in [entry.name for entry in zoo.scan_folders()[0]]
    assert not zoo.damaged()
    assert mine not in parsed
    # With the same length and time stamp.
    card = tiny / bundle.CARD_FILE
    card.write_text(card.read_text().replace("A tiny model", "A tidy model"))
    put()
    assert zoo.find("tiny").card.title == "A tidy model"
    assert parsed.count(mine) == 1
    zoo.remove("tiny")
    assert [entry.name for entry in zoo.list_models()] == BUNDLED
    with pytest.raises(ModelError, match="no model 'tiny'"):
        zoo.find("tiny")


def test_a_card_just_written_is_parsed_each_time(
    user_models: Path, tiny: Path, parsed: list[str]
) -> None:
    shutil.copytree(tiny, user_models / "mine")
    (user_models / "mine" / bundle.CARD_FILE).touch()
    for _ in range(2):
        zoo.find("tiny")
    assert parsed.count("mine") == 2


def test_a_damaged_card_is_read_again(
    user_models: Path, tiny: Path, parsed: list[str]
) -> None:
    shutil.copytree(tiny, user_models / "mine")
    card = user_models / "mine" / bundle.CARD_FILE
    content = card.read_text()
    card.write_text("name: [")
    _age(card, 60)
    assert [path.name for path in zoo.damaged()] == ["mine"]
    card.write_text(content)
    _age(card, 60)
    assert not zoo.damaged()
    assert zoo.find("tiny").card.name == "tiny"


def _damaged_zip(tiny: Path, path: Path, method: int) -> None:
    """A zip whose compressed card was changed in transit."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in tiny.iterdir():
            archive.write(file, file.name)
        info = archive.getinfo(bundle.CARD_FILE)
        start = info.header_offset + 30 + len(bundle.CARD_FILE)
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)


@pytest.mark.parametrize(
    "card",
    [
        "1: x\n",
        "~: 3\n",
        "cls: 3\n",
        "name: 2023-99-99\n",
        'halo: !!int ""\n',
        "halo: !!timestamp x\n",
        "? [1]\n: 2\n",
        "network_kwargs: {1: 2}\n",
        "[" * 5000,
    ],
)
def test_no_damaged_card_hides_the_others(
    user_models: Path, tiny: Path, card: str
) -> None:
    shutil.copytree(tiny, user_models / "broken")
    (user_models / "broken" / bundle.CARD_FILE).write_text(card)
    assert [e.name for e in zoo.list_models()] == BUNDLED
    assert [p.name for p in zoo.damaged()] == ["broken"]


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
)
def test_no_damaged_zip_hides_the_others(
    user_models: Path, tiny: Path, method: int
) -> None:
    user_models.mkdir(parents=True)
    _damaged_zip(tiny, user_models / "broken.zip", method)
    assert [e.name for e in zoo.list_models()] == BUNDLED
    assert [p.name for p in zoo.damaged()] == ["broken.zip"]


def test_find(user_models: Path, tiny: Path) -> None:
    assert zoo.find("foam-denoise").card.task == "denoise"
    assert zoo.find(str(tiny)).card.name == "tiny"
    assert zoo.find(tiny).path == tiny
    with pytest.raises(ModelError, match=r"no model 'nothing'.*foam-denoise"):
        zoo.find("nothing")


def test_the_cards_of_other_bundled_models_are_not_read(
    user_models: Path, tiny: Path, parsed: list[str]
) -> None:
    zoo._parsed.cache_clear()
    assert zoo.find("gaussian").path == zoo.bundled_folder() / "gaussian"
    assert parsed == ["gaussian"]
    # The user's own model, in a folder of any name, takes precedence.
    shutil.copytree(tiny, user_models / "mine")
    card = user_models / "mine" / bundle.CARD_FILE
    card.write_text(card.read_text().replace("name: tiny", "name: gaussian"))
    assert zoo.find("gaussian").path == user_models / "mine"


def test_the_folder_of_a_training_stands_for_its_model(
    tmp_path: Path, tiny: Path
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    with pytest.raises(ModelError, match=r"no card\.yaml"):
        zoo.find(job)
    (job / "config.yaml").touch()
    with pytest.raises(
        ModelError, match=rf"not produced a model yet .it will be in {job}/result"
    ):
        zoo.find(job)
    shutil.copytree(tiny, job / "result" / "one")
    assert zoo.find(job).path == job / "result" / "one"
    shutil.copytree(tiny, job / "result" / "two")
    with pytest.raises(ModelError, match=rf"Give one of them: {job}/result/one, "):
        zoo.find(job)


def test_user_folder_belongs_to_us() -> None:
    assert "napari-geosr" in zoo.user_folder().parts
