"""OME-Zarr at an address: read lazily, with names that contain no credentials."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import h5py
import numpy as np
import pytest
import zarr
from fsspec.implementations.memory import MemoryFile
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import FsspecStore

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.addresses import (
    as_address,
    clean_reason,
    has_secrets,
    without_secrets,
)
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats.ome_zarr import writer as zarr_writer

SHAPE = (64, 48, 48)
ADDRESS = "memory://bucket/scan.ome.zarr"


@pytest.fixture
def scan(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Volume]:
    """A volume on this computer and at an address."""
    monkeypatch.setattr(zarr_writer, "SHARD_BYTES", 64 << 10)
    data = rng.normal(0.8, 0.1, SHAPE).astype(np.float32)
    data[10:20, 20:40, 20:40] -= 0.6
    path = io.write(
        Volume(data, "ZYX", (2.0,) * 3, "µm", name="scan"), tmp_path / "scan.ome.zarr"
    )
    system = fsspec.filesystem("memory")
    for file in path.rglob("*"):
        if file.is_file():
            system.pipe(
                f"/bucket/scan.ome.zarr/{file.relative_to(path)}", file.read_bytes()
            )
    yield io.read(path)
    system.rm("/bucket", recursive=True)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of requested shards."""
    names = list[str]()
    get = FsspecStore.get

    async def counting(self: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        if "/c/" in key:
            names.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(FsspecStore, "get", counting)
    return names


@pytest.mark.parametrize("kind", [str, Path])
def test_the_same_volume(scan: Volume, kind: Any) -> None:
    there = io.read(kind(ADDRESS))
    np.testing.assert_array_equal(there.data, scan.data)
    assert (there.axes, there.voxel_size, there.unit) == (
        scan.axes,
        scan.voxel_size,
        scan.unit,
    )
    assert there.name == "scan"
    assert there.metadata["address"] == ADDRESS
    assert there.source is None


def test_a_slab_fetches_its_shards_alone(scan: Volume, asked: list[str]) -> None:
    there = io.read(ADDRESS)
    assert asked == []
    shards = zarr.open_array(f"{scan.source}/0").shards
    assert SHAPE[0] // shards[0] >= 4
    there.data[: shards[0]]
    assert asked
    assert {name.split("/")[-3] for name in asked} == {"0"}


@pytest.mark.usefixtures("scan")
def test_another_process_opens_it_again(asked: list[str]) -> None:
    there = io.read(ADDRESS)
    again = pickle.loads(pickle.dumps(there.data))
    assert asked == []
    np.testing.assert_array_equal(again[3], there.data[3])


@pytest.mark.usefixtures("scan")
def test_restore_takes_an_address(tmp_path: Path) -> None:
    out = tmp_path / "clean.ome.tif"
    words = ["-m", "gaussian", "--threads", "1", "-o", str(out)]
    assert run(["restore", ADDRESS, *words]) == 0
    assert io.read(out).shape == SHAPE
    (given_,) = io.read(out).provenance[-1]["inputs"].values()
    assert given_["path"] == ADDRESS
    assert given_["checksum"].startswith("sha256-metadata:")


@pytest.mark.usefixtures("scan")
def test_info_and_measure_take_an_address(tmp_path: Path, capsys: Any) -> None:
    assert run(["info", ADDRESS, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["address"] == ADDRESS
    assert run(["measure", ADDRESS, "-o", str(tmp_path / "report")]) == 0
    report = next((tmp_path / "report").glob("*.json")).read_text()
    assert f'"path": "{ADDRESS}"' in report


@pytest.mark.usefixtures("scan")
def test_a_submitted_job_keeps_the_address(tmp_path: Path, capsys: Any) -> None:
    words = ["submit", "restore", ADDRESS, "-m", "gaussian", "--queue", "local"]
    out = str(tmp_path / "x.ome.tif")
    assert run([*words, "-o", out, "--dry-run"]) == 0
    words[2] = "memory://me:secret@bucket/scan.ome.zarr"
    capsys.readouterr()
    assert run([*words, "-o", out]) == 2
    said = capsys.readouterr().err
    assert "would be visible in the job's settings" in said
    assert "secret" not in said
    assert not list(tmp_path.glob("*.job"))


def test_metadata_decide_the_checksum(scan: Volume) -> None:
    first = io.read(ADDRESS).metadata["metadata_checksum"]
    assert io.read(ADDRESS).metadata["metadata_checksum"] == first
    system = fsspec.filesystem("memory")
    place = "/bucket/scan.ome.zarr/0/zarr.json"
    text = system.cat_file(place).decode().replace('"fill_value"', '"fill_value" ')
    system.pipe(place, text.encode())
    # has the same meaning
    assert io.read(ADDRESS).metadata["metadata_checksum"] == first
    system.pipe(place, text.replace('"clevel": 1', '"clevel": 2').encode())
    assert io.read(ADDRESS).metadata["metadata_checksum"] != first


# HDF5


@pytest.fixture
def hdf5(tmp_path: Path, rng: np.random.Generator) -> Iterator[Path]:
    """A file on this computer and at an address."""
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b", data=rng.random((512, 64, 64)), chunks=(4, 64, 64))
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/scan.h5", path.read_bytes())
    yield path
    system.rm("/bucket", recursive=True)


def test_an_hdf5_file(hdf5: Path, tmp_path: Path, capsys: Any) -> None:
    there = io.read("memory://bucket/scan.h5::a/b")
    np.testing.assert_array_equal(there.data[5:9], io.read(hdf5).data[5:9])
    assert there.metadata["metadata_checksum"].startswith("sha256-size-and-time:")
    again = pickle.loads(pickle.dumps(there.data))
    np.testing.assert_array_equal(again[7], there.data[7])
    assert run(["info", "memory://bucket/scan.h5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [512, 64, 64]
    assert "has no dataset 'c'" in refused("memory://bucket/scan.h5::c")
    fsspec.filesystem("memory").pipe("/bucket/bad.h5", b"no HDF5")
    assert "memory://bucket/bad.h5 cannot be read" in refused("memory://bucket/bad.h5")


def test_a_slab_of_hdf5_fetches_a_part(
    hdf5: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_read = 0
    read = MemoryFile.read

    def counting(self: Any, *args: Any) -> Any:
        nonlocal n_read
        n_read += len(content := read(self, *args))
        return content

    def counting_into(self: Any, buffer: Any) -> int:
        content = counting(self, len(buffer))
        buffer[: len(content)] = content
        return len(content)

    monkeypatch.setattr(MemoryFile, "read", counting)
    monkeypatch.setattr(MemoryFile, "readinto", counting_into)
    there = io.read("memory://bucket/scan.h5")
    there.data[100:104]
    assert 0 < n_read < hdf5.stat().st_size / 20


# Unreadable addresses


def refused(address: str) -> str:
    with pytest.raises(FileError) as caught:
        io.read(address)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://me:secret@host/scan.zarr", "http://host/scan.zarr is not an https"),
        ("ftp://host/scan.zarr", "ftp:// cannot be read. Use s3://"),
        ("file:///tmp/scan.zarr", "file:///tmp/scan.zarr cannot be read. Give the"),
        ("https://me:secret@host/scan.tif", "host/scan.tif is neither zarr nor HDF5"),
        ("https://me:secret@:0/scan.zarr", "https://:0/scan.zarr contains no server"),
        ("https://host/scan.zarr?key=hidden", "a zarr consists of many"),
        ("memory://none.h5?key=hidden", "memory://none.h5 cannot be read"),
        ("memory://none.zarr", "memory://none.zarr cannot be read"),
        ("memory://none.zarr?key=hidden", "memory://none.zarr cannot be read"),
    ],
)
def test_refused_in_a_sentence(address: str, why: str) -> None:
    said = refused(address)
    assert why in said
    assert "secret" not in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("address", "advice"),
    [
        ("https://host/scan.zarr", "'napari-geosr[remote]'"),
        ("s3://bucket/scan.zarr", "'napari-geosr[remote]'"),
        ("sftp://host/scan.zarr", "pip install paramiko"),
    ],
)
def test_without_the_extra(
    address: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.registry import _registry

    for name in ("aiohttp", "s3fs", "paramiko"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("http", "sftp"):
        monkeypatch.delitem(sys.modules, f"fsspec.implementations.{name}", False)
    monkeypatch.delitem(_registry, address.partition(":")[0], False)
    assert advice in refused(address)


@pytest.mark.usefixtures("scan")
def test_a_lost_connection_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ADDRESS.replace("scan", "it") + "?token=hidden"
    there = io.read(ADDRESS)

    async def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError(f"cannot connect to {secret}")

    monkeypatch.setattr(FsspecStore, "get", fail)
    there.data.source.address = secret
    with pytest.raises(FileError) as caught:
        there.data[0]
    said = str(caught.value)
    assert "cannot connect to memory://bucket/it.ome.zarr" in said
    assert "network connection" in said
    assert "hidden" not in said
    assert caught.value.__suppress_context__


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://h/a.zarr", "https://h/a.zarr"),
        ("HTTPS:/h/a.zarr", "https://h/a.zarr"),
        ("s3:/bucket/a.zarr", "s3://bucket/a.zarr"),
        ("C:/a.zarr", None),
        ("scan.zarr::A/1/0", None),
        ("a folder/scan.tif", None),
        ("file:///tmp/scan.tif", "file:///tmp/scan.tif"),
        ("file:/tmp/scan.tif", "file:///tmp/scan.tif"),
        ("FILE://server/scan.tif", "file://server/scan.tif"),
        ("file://localhost/tmp/scan.tif", "file:///tmp/scan.tif"),
        (Path("file://localhost/tmp/scan.tif"), "file:///tmp/scan.tif"),
        ("file:///localhost/scan.tif", "file:///localhost/scan.tif"),
        ("https:///scan.tif", None),
    ],
)
def test_addresses_and_paths(text: str | Path, address: str | None) -> None:
    assert as_address(text) == address


@pytest.mark.parametrize("start", ["file:///C:/", "file:///", "file://localhost/"])
def test_names_of_local_files_are_not_shortened(start: str) -> None:
    """Only an address on another computer has a query, a fragment or a user."""
    address = f"{start}me@x y#1?token=abcdef.tif"
    assert without_secrets(address) == address
    assert not has_secrets(address)
    assert clean_reason(OSError(f"no {address}"), address) == f"no {address}"
    assert without_secrets("file://me:word@server/x.tif?a#b") == "file://server/x.tif"


def test_a_file_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    assert as_address("s3:/b") is None


def test_short_values_of_a_query_leave_the_message_readable() -> None:
    address = "https://host/scan.h5?v=1&token=abcdef"
    said = clean_reason(OSError(f"1 of 12 bytes of {address}: abcdef"), address)
    assert said == "1 of 12 bytes of https://host/scan.h5: …"


_WORD = st.text(st.characters(exclude_characters="/?#@:\n", exclude_categories=["Cs"]))


@given(user=_WORD, password=_WORD, query=_WORD)
def test_no_secret_is_shown(user: str, password: str, query: str) -> None:
    secret = f"user-{user}", f"word-{password}", f"query-{query}"
    address = "https://{}:{}@host:8000/a/b.zarr?k={}#f".format(*secret)
    assert has_secrets(address)
    assert without_secrets(address) == "https://host:8000/a/b.zarr"
    said = clean_reason(OSError(f"no {address} for {secret[1]}"), address)
    assert said.startswith("no https://host:8000/a/b.zarr for …")
    assert secret[1] not in said
    assert not has_secrets("https://host:8000/a/b.zarr")
