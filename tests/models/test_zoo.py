from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from napari_geosr.core.errors import ModelError
from napari_geosr.models import bundle, zoo

BUNDLED = ["ct-denoise", "fluo-denoise", "foam-denoise", "foam-sr-x2"]


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


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys, napari_geosr.models.zoo as z; n = len(z.list_models());"
        "assert n >= 2; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_user_models(user_models: Path, tiny: Path) -> None:
    shutil.copytree(tiny, user_models / "mine")
    entries = {e.name: e for e in zoo.list_models()}
    assert list(entries) == [*BUNDLED, "tiny"]
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


def _damaged_zip(tiny: Path, path: Path, method: int) -> None:
    """A zip whose packed card has changed on the way."""
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


def test_the_folder_of_a_training_stands_for_its_model(
    tmp_path: Path, tiny: Path
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    with pytest.raises(ModelError, match=r"no card\.yaml"):
        zoo.find(job)
    (job / "config.yaml").touch()
    with pytest.raises(ModelError, match=rf"no model yet. It will be in {job}/result"):
        zoo.find(job)
    shutil.copytree(tiny, job / "result" / "one")
    assert zoo.find(job).path == job / "result" / "one"
    shutil.copytree(tiny, job / "result" / "two")
    with pytest.raises(ModelError, match=rf"Give one of them: {job}/result/one, "):
        zoo.find(job)


def test_user_folder_belongs_to_us() -> None:
    assert "napari-geosr" in zoo.user_folder().parts
