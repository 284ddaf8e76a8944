"""Exported models give the same results in other programs, and can be re-imported."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from napari_geosr.core.errors import Cancelled, ConfigError, FileError, ModelError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.models import bundle, zoo
from napari_geosr.models.card import ModelCard, Normalisation
from napari_geosr.models.exports import _graph
from napari_geosr.models.foreign import bioimageio
from napari_geosr.models.foreign.scales import BACK_REMARK, apply
from napari_geosr.networks import build_network
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.models.exporting import ExportResult, export_steps
from napari_geosr.operations.models.formats import formats
from napari_geosr.operations.models.importing import import_steps

# bioimageio.spec relies on the garbage collector to close files.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def missing(*names: str) -> bool:
    return any(find_spec(name) is None for name in names)


needs_onnx = pytest.mark.skipif(
    missing("onnx", "onnxruntime"), reason="onnx is not installed (extra zoo)"
)
needs_bioimageio = pytest.mark.skipif(
    missing("onnx", "onnxruntime", "bioimageio"),
    reason="bioimageio.spec is not installed (extra zoo)",
)
MSDNET = {"depth": 3, "width": 2, "dilations": [1, 2]}
STORED = Normalisation(
    kind="stored", mean=1000.0, std=50.0, output_mean=30.0, output_std=7.0
)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setattr(zoo, "user_folder", lambda: folder)
    return folder


def make(folder: Path, network: str = "msdnet", **changes: Any) -> Path:
    """A bundle with random weights."""
    kwargs = changes.pop("network_kwargs", MSDNET)
    torch.manual_seed(0)
    made = build_network(network, **kwargs)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    spec: Any = made.spec
    card = bundle.read_card(zoo.bundled_folder() / "foam-denoise")
    card = card.model_copy(update={"noise_bound": None})
    values = card.model_dump() | {
        "name": "tiny",
        "title": "Tiny: a/b",
        "network": network,
        "network_kwargs": kwargs,
        "axes": spec.axes,
        "adjacent_slices": spec.adjacent_slices,
        "upscale_factor": spec.upscale_factor[0],
        "halo": max(spec.halo),
        "figures": (),
    }
    bundle.save(folder / "tiny", ModelCard.from_values(values | changes), made)
    return folder / "tiny"


def export(model: Path, kind: str, out: Path, **options: Any) -> ExportResult:
    found: ExportResult = run_to_end(export_steps(model, kind, out, **options))
    return found


def session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


CASES: list[dict[str, Any]] = [
    {},
    {"network_kwargs": {**MSDNET, "adjacent_slices": 3}, "normalisation": STORED},
    {"network_kwargs": {**MSDNET, "ndim": 3}},
    {"network": "light_sr", "network_kwargs": {"features": 4, "blocks": 1},
     "task": "super-resolution"},
    {"network": "fsrcnn", "task": "super-resolution",
     "network_kwargs": {"features": 4, "inner": 2, "blocks": 1}},
    {"network": "rcan", "task": "super-resolution",
     "network_kwargs": {"ndim": 2, "features": 4, "groups": 1, "blocks": 1}},
    {"network": "unet", "network_kwargs": {"features": 2, "levels": 2}},
]  # fmt: skip


@needs_onnx
@pytest.mark.parametrize("changes", CASES)
def test_an_onnx_graph_gives_the_same_at_any_size(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = make(tmp_path, **changes)
    out = tmp_path / "tiny.onnx"
    found = export(folder, "onnx", out)
    assert found.difference < 1e-4
    model = bundle.load(folder)
    card, network = model.card, model.network()
    graph = session(out)
    assert graph.get_modelmeta().custom_metadata_map["name"] == "tiny"
    size = (21, 34) if card.axes == "YX" else (9, 14, 12)
    rng = np.random.default_rng(0)
    x = rng.normal(900, 60, (1, card.adjacent_slices, *size)).astype(np.float32)
    [theirs] = graph.run(None, {"input": x})
    mean, std = x.mean(), x.std()
    back = (mean, std)
    if card.normalisation.kind == "stored":
        (mean, std), back = (1000.0, 50.0), (30.0, 7.0)
    with torch.no_grad():
        ours = network(torch.from_numpy((x - mean) / std)).numpy() * back[1] + back[0]
    assert np.abs(theirs - ours).max() < 1e-3 * ours.std()


def told(model: Path, kind: str, out: Path) -> list[str]:
    """Export, and return the accompanying messages."""
    found: list[str] = []
    run_to_end(
        export_steps(model, kind, out),
        lambda step: (
            found.append(step.message) if isinstance(step, WarningIssued) else None
        ),
    )
    return found


@needs_onnx
def test_one_grey_value_stays_what_it_is(tmp_path: Path) -> None:
    export(make(tmp_path), "onnx", tmp_path / "tiny.onnx")
    flat = np.full((1, 1, 20, 24), 7.0, np.float32)
    [result] = session(tmp_path / "tiny.onnx").run(None, {"input": flat})
    np.testing.assert_allclose(result, flat, atol=1e-4)


@needs_onnx
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"network_kwargs": {**MSDNET, "adjacent_slices": 3}},
            "each input passed to the model (3 adjacent slices); the command "
            "restore uses those of the whole volume",
        ),
        ({"network_kwargs": {**MSDNET, "ndim": 3}}, "Pass whole volumes"),
        ({"normalisation": STORED}, ""),
        ({"normalisation": Normalisation(kind="unit")}, "to 0 … 1 first"),
    ],
)
def test_what_comes_out_otherwise_in_pieces_is_said(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    folder, out = make(tmp_path, **changes), tmp_path / "tiny.onnx"
    remarks = told(folder, "onnx", out)
    assert len(remarks) == bool(says)
    assert says in " ".join(remarks)
    # The file itself also contains the information.
    inside = session(out).get_modelmeta().custom_metadata_map["grey_scale"]
    assert inside == " ".join(remarks)


@needs_onnx
def test_the_remark_is_true(tmp_path: Path) -> None:
    """A slice alone is scaled differently from the same slice in a volume of increasing
    brightness.
    """
    folder, out = make(tmp_path), tmp_path / "tiny.onnx"
    [remark] = told(folder, "onnx", out)
    assert "(one slice)" in remark
    rng = np.random.default_rng(0)
    bright = np.linspace(0, 300, 6).reshape(6, 1, 1)
    volume = (rng.normal(900, 60, (6, 24, 28)) + bright).astype(np.float32)
    network = bundle.load(folder).network()
    mean, std = volume.mean(), volume.std()
    with torch.no_grad():
        x = torch.from_numpy((volume[:, None] - mean) / std)
        whole = network(x).numpy()[:, 0] * std + mean
    [pieces] = session(out).run(None, {"input": volume[:, None]})
    assert np.abs(pieces[:, 0] - whole).max() > 0.1 * whole.std()


@needs_onnx
def test_a_graph_that_differs_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.models.exports import _graph

    monkeypatch.setattr(_graph, "TOLERANCE", -1.0)
    with pytest.raises(ModelError, match="differs from that of its network"):
        export(make(tmp_path), "onnx", tmp_path / "tiny.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_what_cannot_be_written_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {name: kind.suffix for name, kind in formats().items()} == {
        "bioimageio": ".zip",
        "onnx": ".onnx",
    }
    folder = make(tmp_path)
    with pytest.raises(ConfigError, match="no format of exported models 'tiff'"):
        export(folder, "tiff", tmp_path / "a.tif")
    with pytest.raises(ConfigError, match=r"must have the suffix \.onnx"):
        export(folder, "onnx", tmp_path / "a.zip")
    (tmp_path / "a.onnx").write_bytes(b"mine")
    with pytest.raises(FileError, match="exists already"):
        export(folder, "onnx", tmp_path / "a.onnx")
    with pytest.raises(FileError, match="does not exist"):
        export(folder, "onnx", tmp_path / "none" / "a.onnx")
    with pytest.raises(Cancelled):
        export(folder, "onnx", tmp_path / "b.onnx", should_stop=lambda: True)
    assert (tmp_path / "a.onnx").read_bytes() == b"mine"
    monkeypatch.setattr(_graph, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'napari-geosr\[zoo\]'"):
        export(folder, "onnx", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def without_ours(package: Path, out: Path) -> Path:
    """The package as if written by another program."""
    ours = (bundle.CARD_FILE, bundle.WEIGHTS_FILE)
    with zipfile.ZipFile(package) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "rdf.yaml":
                values = yaml.safe_load(content)
                assert {a["source"] for a in values.pop("attachments")} == set(ours)
                content = yaml.safe_dump(values).encode()
            if name not in ours:
                target.writestr(name, content)
    return out


@needs_bioimageio
def test_a_package_is_a_bundle_too(own: Path, tmp_path: Path) -> None:
    folder = make(tmp_path)
    package = tmp_path / "tiny.zip"
    assert export(folder, "bioimageio", package).difference < 1e-4
    assert catalogue.verify(package).name == "tiny"
    found = run_to_end(import_steps(package))
    assert found.path == own / "tiny"
    assert found.card.network == "msdnet"


@needs_bioimageio
@pytest.mark.parametrize("kind", ["stored", "standardise"])
def test_a_package_of_others_is_taken_by_its_graph(
    own: Path, tmp_path: Path, kind: str
) -> None:
    scale = STORED if kind == "stored" else Normalisation()
    folder = make(
        tmp_path, normalisation=scale, licence="ask us", citation="A. Nonymous"
    )
    export(folder, "bioimageio", tmp_path / "tiny.zip")
    theirs = without_ours(tmp_path / "tiny.zip", tmp_path / "theirs.zip")
    notes: list[str] = []
    found = run_to_end(
        import_steps(theirs),
        lambda step: (
            notes.append(step.message) if isinstance(step, WarningIssued) else None
        ),
    )
    theirs.unlink()
    card = catalogue.verify(found.path)
    assert (card.name, card.network, card.task) == ("tiny-a-b", "foreign", "denoise")
    assert card.modalities == ("ct",)
    assert card.citation.startswith("A. Nonymous")
    # Scaling by the whole image inside the graph makes every voxel affect all others.
    assert card.local is (kind == "stored")
    assert bool(notes) is (kind == "standardise")
    if card.local:
        assert card.halo == bundle.read_card(folder).halo
    x = torch.rand(1, 1, 30, 41) * 100 + 950
    ours = bundle.load(folder).network()
    with torch.no_grad():
        restored = bundle.load(found.path).network()(x)
        if kind == "stored":
            expected = ours((x - 1000) / 50) * 7 + 30
        else:
            std = x.std(correction=0)
            expected = ours((x - x.mean()) / std) * std + x.mean()
    assert (restored - expected).abs().max() < 1e-3 * expected.std()


@needs_bioimageio
@pytest.mark.parametrize(
    "scale",
    [
        Normalisation(kind="unit"),
        Normalisation(kind="percentiles", percentiles=(2.0, 99.0)),
    ],
)
def test_a_package_asks_for_the_scale_that_its_network_takes(
    tmp_path: Path, scale: Normalisation
) -> None:
    folder, package = make(tmp_path, normalisation=scale), tmp_path / "tiny.zip"
    [remark] = told(folder, "bioimageio", package)
    assert "scaled to 0 … 1 using " in remark
    with zipfile.ZipFile(package) as archive:
        values = yaml.safe_load(archive.read("rdf.yaml"))
        assert remark in archive.read("README.md").decode()
        given, expected = (
            np.load(archive.open(f"test_{which}.npy")) for which in ("input", "output")
        )
    operations = values["inputs"][0]["preprocessing"]
    [before] = [op for op in operations if op["id"] != "ensure_dtype"]
    low, high = scale.percentiles or (0, 100)
    assert before["id"] == "scale_range"
    kwargs = before["kwargs"]
    assert kwargs.get("min_percentile", 0) == low
    assert kwargs.get("max_percentile", 100) == high
    # Its own test uses the whole image; also test other grey values.
    settings = {"min_percentile": low, "max_percentile": high, **kwargs}
    settings["eps"] = float(kwargs["eps"])  # a text for YAML 1.1
    named = [("scale_range", SimpleNamespace(**settings))]
    x = torch.from_numpy(apply(named, given * 70 + 900, None).astype(np.float32))
    with torch.no_grad():
        result = bundle.load(folder).network()(x).numpy()
    assert np.abs(result - expected).max() < 1e-3 * expected.std()


@needs_bioimageio
def test_a_package_whose_test_fails_is_not_kept(own: Path, tmp_path: Path) -> None:
    from bioimageio.spec.utils import get_sha256

    export(make(tmp_path), "bioimageio", tmp_path / "tiny.zip")
    folder = tmp_path / "package"
    with zipfile.ZipFile(without_ours(tmp_path / "tiny.zip", tmp_path / "a.zip")) as z:
        z.extractall(folder)
    expected = np.load(folder / "test_output.npy")
    np.save(folder / "test_output.npy", expected + expected.std())
    values = yaml.safe_load((folder / "rdf.yaml").read_text())
    tensor = values["outputs"][0]["test_tensor"]
    with pytest.raises(ModelError, match=r"test_output\.npy is missing or damaged"):
        run_to_end(import_steps(_packed(folder, tmp_path / "b.zip")))
    tensor["sha256"] = str(get_sha256(folder / "test_output.npy"))
    (folder / "rdf.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match="differs from the expected one by 1"):
        run_to_end(import_steps(_packed(folder, tmp_path / "c.zip")))
    assert not own.exists()


def _scaled_around(folder: Path, before: list[Any], after: list[Any]) -> None:
    """Let an unpacked package scale grey values before and after its graph."""
    from bioimageio.spec.utils import get_sha256

    values = yaml.safe_load((folder / "rdf.yaml").read_text())
    values["inputs"][0]["preprocessing"] = before
    values["outputs"][0]["postprocessing"] = after
    given = 100 + 20 * np.load(folder / "test_input.npy")

    def to_the_letter(operations: list[Any], x: Any) -> Any:
        named = [(op["id"], SimpleNamespace(**op["kwargs"])) for op in operations]
        return apply(named, x, given)

    graph = session(folder / "weights.onnx")
    x = to_the_letter(before, given).astype(np.float32)
    result = to_the_letter(after, graph.run(None, {graph.get_inputs()[0].name: x})[0])
    for part, name, array in (
        ("inputs", "test_input.npy", given),
        ("outputs", "test_output.npy", result),
    ):
        np.save(folder / name, array.astype(np.float32))
        sha = str(get_sha256(folder / name))
        values[part][0]["test_tensor"]["sha256"] = sha
    (folder / "rdf.yaml").write_text(yaml.safe_dump(values))


@needs_bioimageio
def test_what_people_get_is_compared_with_the_packages_test(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Normalisation(
        kind="stored", mean=0.0, std=1.0, output_mean=0.0, output_std=1.0
    )
    export(make(tmp_path, normalisation=bare), "bioimageio", tmp_path / "tiny.zip")
    folder = tmp_path / "package"
    with zipfile.ZipFile(without_ours(tmp_path / "tiny.zip", tmp_path / "a.zip")) as z:
        z.extractall(folder)
    kwargs = {"axes": ["channel", "y", "x"], "eps": 1e-6}
    before = [
        {"id": "zero_mean_unit_variance", "kwargs": kwargs},
        {"id": "scale_linear", "kwargs": {"gain": 0.5, "offset": 0.25}},
    ]
    notes: list[str] = []

    def taken(name: str) -> Any:
        notes.clear()
        return run_to_end(
            import_steps(_packed(folder, tmp_path / f"{name}.zip"), name=name),
            lambda step: (
                notes.append(step.message) if isinstance(step, WarningIssued) else None
            ),
        )

    _scaled_around(folder, before, [])
    assert BACK_REMARK in taken("back").card.remarks
    assert not any("differs from the expected result" in note for note in notes)
    like = {"id": "scale_mean_variance"}
    like["kwargs"] = {**kwargs, "reference_tensor": "input"}
    _scaled_around(folder, before, [like])
    card = taken("like").card
    assert "differs from the expected result by up to" in notes[-1]
    assert card.remarks[-1] == notes[-1]
    # A wrong translation would be noticed, although the network is correct.
    _scaled_around(folder, before, [])
    right = bioimageio.scales.scales_of
    wrong = Normalisation(
        kind="stored", mean=90.0, std=20.0, output_mean=90.0, output_std=20.0
    )
    monkeypatch.setattr(
        bioimageio.scales,
        "scales_of",
        lambda *given, **how: replace(right(*given, **how), normalisation=wrong),
    )
    with pytest.raises(ModelError, match="restored test image of the package"):
        taken("wrong")
    assert not (own / "wrong").exists()


def _packed(folder: Path, out: Path) -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    return out


@needs_bioimageio
def test_packages_that_cannot_be_had(own: Path, tmp_path: Path) -> None:
    slices = {**MSDNET, "adjacent_slices": 3}
    export(make(tmp_path, network_kwargs=slices), "bioimageio", tmp_path / "a.zip")
    theirs = without_ours(tmp_path / "a.zip", tmp_path / "b.zip")
    with pytest.raises(ModelError, match="takes 3 channels .slice_minus_1, "):
        run_to_end(import_steps(theirs))
    (tmp_path / "c.zip").write_bytes(b"words")
    with pytest.raises(ModelError, match="not a readable zip"):
        run_to_end(import_steps(tmp_path / "c.zip"))
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        archive.writestr("rdf.yaml", "type: model\nname: x\n")
    with pytest.raises(ModelError, match=r"not a valid BioImage\.IO model"):
        run_to_end(import_steps(tmp_path / "d.zip"))
