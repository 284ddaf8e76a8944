"""Untrusted models: nothing in them ends the program or fills the memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from napari_geosr.core.errors import ModelError
from napari_geosr.models import archives, bundle, foreign, weights_header, zoo
from napari_geosr.models.bundle_files import read_file
from napari_geosr.operations.models.importing import import_steps


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user" / "models"
    folder.mkdir(parents=True)
    monkeypatch.setattr(zoo, "user_folder", lambda: folder)
    return folder


# Cards


def test_a_card_that_is_nested_too_deeply_ends_no_listing(tmp_path: Path) -> None:
    """The parser's own recursion ended the program, so another process must check."""
    folder = tmp_path / "napari-geosr" / "models" / "deep"
    folder.mkdir(parents=True)
    (folder / bundle.CARD_FILE).write_text("[" * 100_000)
    command = [sys.executable, "-m", "napari_geosr", "models", "list", "--json"]
    found = subprocess.run(
        command,
        env=os.environ | {"XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    listed = json.loads(found.stdout)
    assert "foam-denoise" in {model["name"] for model in listed["models"]}
    (reason,) = listed["damaged"].values()
    assert "levels of nesting" in reason


@pytest.mark.parametrize(
    "card",
    [
        b"- " * 100_000,
        b"a: &a [x, x]\nb: &b [*a, *a]",
        b"#" * (bundle.MAX_CARD_BYTES + 1),
        b"name: " + b"1:1" * 1000,
        b"\xff\xfe",
    ],
    ids=["block", "aliases", "long", "number", "no text"],
)
def test_a_damaged_card_is_listed_with_a_sentence(own: Path, card: bytes) -> None:
    (own / "bad").mkdir()
    (own / "bad" / bundle.CARD_FILE).write_bytes(card)
    entries, damaged = zoo.scan_folders()
    assert "foam-denoise" in [entry.name for entry in entries]
    assert list(damaged) == [own / "bad"]
    assert zoo.find("foam-denoise").card.name == "foam-denoise"
    with pytest.raises(ModelError, match="bad"):
        zoo.find("bad")


# Zips


def zipped(path: Path, content: dict[str, bytes | int]) -> Path:
    """A zip of files; a number means this many zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in content.items():
            with archive.open(name, "w") as stream:
                if isinstance(part, bytes):
                    stream.write(part)
                    continue
                for _ in range(part // 10**6):
                    stream.write(bytes(10**6))
    return path


def refused(look: Callable[[], object], reason: str, most: int = 10**7) -> None:
    """It is rejected, and memory use stays below this number of bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=reason):
            look()
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def test_a_small_zip_of_large_weights_is_refused_by_what_it_says(
    tiny: Path, tmp_path: Path
) -> None:
    card = (tiny / bundle.CARD_FILE).read_bytes()
    files = {bundle.CARD_FILE: card, bundle.WEIGHTS_FILE: 2 * 10**7}
    path = zipped(tmp_path / "a.zip", files)
    assert path.stat().st_size < 10**5
    refused(lambda: bundle.verify(path), "unpacks to .* times its size")
    refused(lambda: zoo.adopt(path), "unpacks to .* times its size")


def test_weights_without_a_header_are_not_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MAX_RATIO", 10**6)
    card = (tiny / bundle.CARD_FILE).read_bytes()
    path = tmp_path / "a.zip"
    zipped(path, {bundle.CARD_FILE: card, bundle.WEIGHTS_FILE: 2 * 10**7})
    refused(lambda: bundle.verify(path), "not a safetensors file")
    with (tiny / bundle.WEIGHTS_FILE).open("wb") as stream:
        stream.truncate(10**9)  # needs no space
    refused(lambda: bundle.verify(tiny), "not a safetensors file")


def test_a_zip_of_very_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", {f"{i}.txt": b"" for i in range(30)})
    monkeypatch.setattr(archives, "MAX_ENTRIES", 20)
    with pytest.raises(ModelError, match="contains 30 files"):
        bundle.verify(path)
    monkeypatch.setattr(archives, "_MAX_TABLE", 1000)
    with pytest.raises(ModelError, match="table of contents is too long"):
        bundle.verify(path)
    assert not zoo.is_bundle(path)


@pytest.mark.parametrize("name", ["../card.yaml", "/card.yaml", "a\\..\\..\\card.yaml"])
def test_a_zip_with_files_outside_of_it_is_refused(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.zip", {name: b"x"})
    with pytest.raises(ModelError, match="outside the archive"):
        bundle.verify(path)


def test_a_description_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("bioimageio.spec", reason="not installed (extra zoo)")
    deep = b"[" * 100_000
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "rdf.yaml").write_bytes(deep)
    packed = zipped(tmp_path / "p.zip", {"my.rdf.yaml": deep})
    for source in (tmp_path / "p", tmp_path / "p" / "rdf.yaml", packed):
        with pytest.raises(ModelError, match="levels of nesting"):
            foreign.read(str(source))


# Folders


def test_the_files_of_a_folder_are_copied(own: Path, tiny: Path) -> None:
    (tiny / "more").mkdir()
    (tiny / "more" / "notes.txt").write_text("x")
    (tiny / "link.txt").symlink_to(tiny / "more" / "notes.txt")
    target = zoo.adopt(tiny)
    assert (target / "more" / "notes.txt").read_text() == "x"
    assert (target / "link.txt").read_text() == "x"
    assert not (target / "link.txt").is_symlink()


@pytest.mark.parametrize("what", ["file", "folder", "nothing", "itself", "device"])
def test_links_that_leave_the_folder_are_not_followed(
    own: Path, tiny: Path, tmp_path: Path, what: str
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.txt").write_text("secret")
    places = {
        "file": tmp_path / "secret" / "a.txt",
        "folder": tmp_path / "secret",
        "nothing": tmp_path / "none",
        "itself": tiny / "link",
        "device": Path("/dev/zero"),
    }
    (tiny / "link").symlink_to(places[what])
    with pytest.raises(ModelError, match="link to a location outside"):
        zoo.adopt(tiny)
    assert not list(own.iterdir())


def test_a_link_within_the_folder_to_a_folder_makes_no_circle(
    own: Path, tiny: Path
) -> None:
    (tiny / "again").symlink_to(tiny)
    with pytest.raises(ModelError, match="not a regular file"):
        zoo.adopt(tiny)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_what_is_no_file_is_not_copied(own: Path, tiny: Path) -> None:
    os.mkfifo(tiny / "pipe")
    with pytest.raises(ModelError, match="not a regular file"):
        zoo.adopt(tiny)


def test_a_folder_of_too_much_is_not_copied(
    own: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tiny / "large").open("wb") as stream:
        stream.truncate(10**10)
    with pytest.raises(ModelError, match="more than any model needs"):
        zoo.adopt(tiny)
    (tiny / "large").unlink()
    monkeypatch.setattr(archives, "MAX_FILES", 1)
    with pytest.raises(ModelError, match="more than 1 files"):
        zoo.adopt(tiny)
    assert not list(own.iterdir())


# Headers


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**40]},
        {"shape": [-1]},
        {"shape": [1] * 100},
        {"data_offsets": [0, 2**40]},
        {"data_offsets": [0]},
        {"shape": None},
    ],
    ids=str,
)
def test_a_header_that_promises_other_sizes_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | change
    header = json.dumps({"a": tensor}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with (
        path.open("rb") as stream,
        pytest.raises(ModelError, match="not a safetensors file"),
    ):
        weights_header.check_header(stream, path.stat().st_size, path.name)
    with pytest.raises(ModelError, match="not a safetensors file"):
        foreign.read(str(path))


def test_whole_weights_are_read(tiny: Path) -> None:
    path = tiny / bundle.WEIGHTS_FILE
    with path.open("rb") as stream:
        start = weights_header.check_header(stream, path.stat().st_size, path.name)
    assert path.read_bytes().startswith(start)
    assert bundle.verify(tiny).name == "tiny"
    packed = shutil.make_archive(str(tiny.with_name("packed")), "zip", tiny)
    assert bundle.verify(packed).name == "tiny"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("name", [bundle.CARD_FILE, "weights.safetensors"])
def test_a_pipe_in_a_bundle_is_not_waited_for(tiny: Path, name: str) -> None:
    (tiny / name).unlink()
    os.mkfifo(tiny / name)
    reason = f"{name} is not a regular file"
    refused(lambda: read_file(tiny, name, 10**6), reason)


@pytest.mark.parametrize("suffix", ["", ".zip"])
def test_an_invalid_url_is_said(suffix: str) -> None:
    pytest.importorskip("httpx", reason="not installed (extra zoo)")
    with pytest.raises(ModelError, match="not a valid URL"):
        deque(import_steps(f"https://[zz/x{suffix}"), maxlen=0)
