"""Third-party packages that are damaged, too large or remote: rejected or stopped."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from napari_geosr.core.errors import Cancelled, ModelError
from napari_geosr.models import foreign
from napari_geosr.models.foreign import download, package_files

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra zoo)")
httpx = pytest.importorskip("httpx", reason="not installed (extra zoo)")

# bioimageio.spec relies on the garbage collector to close files.
pytestmark = [
    # Not imported here, because test collection would take two seconds in each process.
    pytest.mark.skipif(
        find_spec("bioimageio") is None, reason="not installed (extra zoo)"
    ),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ADDRESS = "https://example.org/p/rdf.yaml"


def graph(change: Callable[[Any], None] = lambda _model: None) -> bytes:
    """A graph that doubles grey values, after `change`."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    two = onnx.numpy_helper.from_array(np.array([2.0], np.float32), "two")
    axes = [1, 1, "y", "x"]
    made = helper.make_graph(
        [
            helper.make_node("Constant", [], ["one"], value_float=1.0),
            helper.make_node("Mul", ["input", "two"], ["doubled"]),
            helper.make_node("Mul", ["doubled", "one"], ["output"]),
        ],
        "doubles",
        [helper.make_tensor_value_info("input", kind, axes)],
        [helper.make_tensor_value_info("output", kind, axes)],
        [two],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)])
    change(model)
    content: bytes = model.SerializeToString()
    return content


def array(values: Any) -> bytes:
    stream = BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def files(**changes: bytes) -> dict[str, bytes]:
    """A package's files by name; `changes` by name without ending."""
    given = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    made = {
        "weights.onnx": changes.get("weights", graph()),
        "given.npy": changes.get("given", array(given)),
        "result.npy": changes.get("result", array(2 * given)),
    }

    def entry(name: str) -> dict[str, Any]:
        return {"source": name, "sha256": hashlib.sha256(made[name]).hexdigest()}

    def tensor(name: str, test: str, sizes: list[Any]) -> dict[str, Any]:
        axes: list[dict[str, Any]] = [
            {"type": "batch"},
            {"type": "channel", "channel_names": ["grey"]},
        ]
        pairs = zip("yx", sizes, strict=True)
        axes += [{"type": "space", "id": id_, "size": size} for id_, size in pairs]
        return {"id": name, "axes": axes, "test_tensor": entry(test)}

    values = {
        "type": "model",
        "format_version": "0.5.4",
        "name": "Twice as bright",
        "description": "Doubles grey values.",
        "authors": [{"name": "A. Nonymous"}],
        "cite": [{"text": "nobody", "url": "https://example.org"}],
        "license": "MIT",
        "inputs": [tensor("input", "given.npy", [{"min": 8, "step": 1}] * 2)],
        "outputs": [
            tensor(
                "output",
                "result.npy",
                [{"tensor_id": "input", "axis_id": axis} for axis in "yx"],
            )
        ],
        "weights": {"onnx": {**entry("weights.onnx"), "opset_version": 17}},
    }
    return {"rdf.yaml": yaml.safe_dump(values).encode(), **made}


def packed(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in content.items():
            archive.writestr(name, part)
    return path


# Damaged


def short(model: Any) -> None:
    model.graph.initializer[0].raw_data = b"\0"


def of_no_type(model: Any) -> None:
    model.graph.initializer[0].data_type = 99


def nameless(model: Any) -> None:
    del model.graph.node[0].attribute[:]


def without_result(model: Any) -> None:
    del model.graph.node[0].output[:]


def enormous(model: Any) -> None:
    model.graph.initializer[0].dims[:] = [2**40]


@pytest.mark.parametrize(
    "change", [short, of_no_type, nameless, without_result, enormous]
)
def test_a_damaged_graph_is_refused_in_words(
    tmp_path: Path, change: Callable[[Any], None]
) -> None:
    path = packed(tmp_path / "a.zip", files(weights=graph(change)))
    with pytest.raises(ModelError, match=r"is not supported: it is damaged \("):
        foreign.read(str(path))


def header(shape: tuple[int, ...]) -> bytes:
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"words", header((2**58,)), header((8, 8)), array(np.array(["text"]))],
    ids=["empty", "words", "enormous", "torn", "text"],
)
def test_a_damaged_test_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = packed(tmp_path / "a.zip", files(given=content))
    with pytest.raises(ModelError, match=r"test data given\.npy are damaged"):
        foreign.read(str(path))


# Too large


def test_a_whole_package_is_read(tmp_path: Path) -> None:
    draft = foreign.read(str(packed(tmp_path / "a.zip", files())))
    assert draft.title == "Twice as bright"
    assert [float(t) for t in draft.weights.values()] == [2.0, 1.0]


def test_a_package_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = files(given=array(np.zeros((1, 1, 500, 500), np.float32)))
    path = packed(tmp_path / "a.zip", content)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr(package_files, "MAX_WEIGHTS_BYTES", 100_000)
    with pytest.raises(
        ModelError, match=r"given\.npy in .* unpacks to 1 MB; the limit"
    ):
        foreign.read(str(path))
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, part in content.items():
        (folder / name).write_bytes(part)
    with pytest.raises(ModelError, match=r"given\.npy is larger than 100 kB"):
        foreign.read(str(folder))


def test_a_long_description_is_refused(tmp_path: Path) -> None:
    content = files()
    content["rdf.yaml"] += b"#" * package_files.MAX_CARD_BYTES
    with pytest.raises(ModelError, match=r"rdf\.yaml in .* the limit is 1 MB"):
        foreign.read(str(packed(tmp_path / "a.zip", content)))


def test_no_file_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for name, content in files().items():
        (folder / name).write_bytes(content)
    (folder / "given.npy").rename(tmp_path / "given.npy")
    (folder / "given.npy").symlink_to(tmp_path / "given.npy")
    with pytest.raises(ModelError, match="link to a location outside"):
        foreign.read(str(folder))
    values = yaml.safe_load((folder / "rdf.yaml").read_text())
    values["inputs"][0]["test_tensor"]["source"] = "../given.npy"
    (folder / "rdf.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match="outside its folder"):
        foreign.read(str(folder))


# From addresses


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Requests to a server that has the package, also as one zip."""
    content = files()
    content["p.zip"] = packed(tmp_path / "served.zip", files()).read_bytes()
    found: list[str] = []

    def answer(request: Any) -> Any:
        name = request.url.path.rpartition("/")[2]
        found.append(name)
        if name not in content:
            return httpx.Response(404)
        return httpx.Response(200, content=content[name])

    from bioimageio.spec import ValidationContext

    transport = httpx.MockTransport(answer)
    with (
        httpx.Client(transport=transport) as client,
        ValidationContext(disable_cache=True),
    ):
        monkeypatch.setattr(httpx, "get", lambda url, **_: client.get(str(url)))
        monkeypatch.setattr(
            httpx, "stream", lambda method, url, **_: client.stream(method, url)
        )
        public = [(2, 1, 6, "", ("93.184.215.14", 443))]
        monkeypatch.setattr(download.socket, "getaddrinfo", lambda *_, **__: public)
        yield found


def test_without_the_extra_an_address_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ModelError, match=r"pip install 'napari-geosr\[zoo\]'"):
        foreign.read("https://example.org/p.zip")


def test_a_package_at_an_address(asked: list[str]) -> None:
    draft = foreign.read(ADDRESS)
    assert draft.title == "Twice as bright"
    assert sorted(asked) == ["given.npy", "rdf.yaml", "result.npy", "weights.onnx"]
    asked.clear()
    assert foreign.read("https://example.org/p.zip?download=1").title == draft.title
    assert asked == ["p.zip"]
    with pytest.raises(ModelError, match=r"none\.zip cannot be downloaded .*404"):
        foreign.read("https://example.org/none.zip")


def test_a_download_can_be_stopped(asked: list[str]) -> None:
    for address in (ADDRESS, "https://example.org/p.zip"):
        with pytest.raises(Cancelled, match="download was cancelled"):
            foreign.read(address, should_stop=lambda: True)
    assert asked == ["rdf.yaml", "p.zip"]


def test_a_download_without_end_is_refused(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_WEIGHTS_BYTES", 50)
    with pytest.raises(ModelError, match=r"weights\.onnx is larger than 50 B"):
        foreign.read(ADDRESS)
