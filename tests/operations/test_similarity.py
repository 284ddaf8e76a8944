"""Training patches that resemble a position: index, sentence, models without index."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle, zoo
from napari_geosr.models.similarity import (
    MAX_INDEX_BYTES,
    SIMILARITY_FILE,
    PatchSource,
    build_index,
)
from napari_geosr.operations.explain import ExplainConfig, explain_steps

pytestmark = pytest.mark.filterwarnings("ignore::napari_geosr.core.errors.GeoSRWarning")


def foam(seed: int, shape: tuple[int, int, int] = (12, 96, 96)) -> Volume:
    """Round pores in a solid, and noise."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape)
    pores = np.zeros(shape, bool)
    for _ in range(60):
        middle = [rng.uniform(0, n) for n in shape]
        radius = rng.uniform(3, 7)
        distance = sum((g - m) ** 2 for g, m in zip(grid, middle, strict=True))
        pores |= distance < radius**2
    grey = 100.0 - 60.0 * pores + rng.normal(0, 6, shape)
    return Volume(grey.astype("f4"), "ZYX", (4.0, 2.0, 2.0), "µm", (10.0, 20.0, 30.0))


def weave(like: Volume) -> Volume:
    """Fine stripes, a texture that does not occur in foams."""
    _, y, x = np.indices(like.shape)
    grey = 70.0 + 40.0 * np.sign(np.sin(y * 2.2) * np.sin(x * 1.1))
    return like.replace(data=grey.astype("f4"), name="weave")


def trained(folder: Path, source: Any, **settings: Any) -> Any:
    values = {
        "steps": 20,
        "batch_size": 2,
        "patch": 32,
        "dimensions": "2D",
        "layers": 4,
        "width": 4,
        "device": "cpu",
        "threads": 1,
        "similarity_index": True,
    }
    return geosr.train("noise2void", folder, source, **(values | settings))


@pytest.fixture(scope="module")
def scan() -> Volume:
    return foam(1)


@pytest.fixture(scope="module")
def scan_file(scan: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return io.write(scan, tmp_path_factory.mktemp("scan") / "scan_a.ome.tif")


@pytest.fixture(scope="module")
def model(scan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return trained(tmp_path_factory.mktemp("job"), scan_file, name="indexed")


def found(volume: Volume, model: Any, at: tuple[int, ...]) -> Any:
    config = ExplainConfig.create(
        model=str(model.path), method="similar", at=at, threads=1, device="cpu"
    )
    result = run_to_end(explain_steps(volume, config))
    return result.explanations[0].findings["similar"]


def test_a_training_patch_is_found_at_its_place(scan: Volume, model: Any) -> None:
    index = model.similarity_index()
    for number in (0, 7, 20):
        corner = index.places[number, 1:]
        middle = corner + np.array(index.edge) // 2
        finding = found(scan, model, tuple(int(i) for i in middle))
        first = finding.figures["patches"][0]
        assert first["first_voxel"] == corner.tolist()
        assert first["distance"] < 0.05
        assert len(finding.figures["patches"]) == 5
        assert finding.figures["verdict"] == "similar"
        centre = [
            o + v * (c + (e - 1) / 2)
            for o, v, c, e in zip(
                scan.origin, scan.voxel_size, corner, index.edge, strict=True
            )
        ]
        assert first["position"] == pytest.approx(centre)
        place = ", ".join(f"{p:.4g}" for p in centre)
        assert finding.sentence.startswith(
            f"Closest training patch: 'scan_a.ome.tif' at Z, Y, X = {place} µm; its "
        )


PLACES = [(z, y, x) for z in (3, 8) for y in (24, 48, 72) for x in (30, 60)]


@pytest.fixture(scope="module")
def model_of_three(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Trained on three foams that are not used for testing."""
    folder = tmp_path_factory.mktemp("job_of_three")
    return trained(folder, [foam(seed) for seed in (11, 12, 13)], name="three")


@pytest.mark.slow
def test_another_foam_is_usual_after_training_on_several(model_of_three: Any) -> None:
    assert model_of_three.similarity_index().is_across_volumes
    findings = [found(foam(2), model_of_three, at) for at in PLACES]
    verdicts = [finding.figures["verdict"] for finding in findings]
    assert verdicts.count("unlike") <= 1
    assert verdicts.count("similar") >= 9
    assert findings[0].figures["across_volumes"]
    assert not findings[0].notes


def test_another_texture_is_unlike_one_foam_and_several(
    scan: Volume, model: Any, model_of_three: Any
) -> None:
    for trained_model in (model, model_of_three):
        for at in PLACES[:2]:
            finding = found(weave(scan), trained_model, at)
            figures = finding.figures
            assert figures["verdict"] == "unlike"
            assert figures["distance"] > figures["percentile_99"] > 1
            assert "the training data contain nothing similar" in finding.sentence


def test_the_verdict_of_one_volume_holds_for_that_volume(
    scan: Volume, model: Any
) -> None:
    finding = found(scan, model, PLACES[0])
    assert not finding.figures["across_volumes"]
    assert "in the only training volume" in finding.sentence
    assert "applies only to that volume" in finding.notes[0]


def test_distances_are_to_patches_of_other_volumes() -> None:
    """Two volumes far apart, the patches of each close together."""
    rng = np.random.default_rng(0)
    maps = rng.normal(0, 0.1, (40, 6))
    maps[20:] += 10
    places = np.zeros((40, 4), int)
    places[:, 3] = 16 * np.arange(40)
    source = PatchSource(name="a", voxel_size=(1, 1, 1), unit="µm")
    within = build_index(maps[:20], places[:20], (1, 16, 16), [source])
    places[20:, 0] = 1
    across = build_index(maps, places, (1, 16, 16), [source, source])
    assert (within.is_across_volumes, across.is_across_volumes) == (False, True)
    spread = np.linalg.norm(across.features[:20].astype(float).std(axis=0))
    assert across.distances[0] > 5 * spread


def test_held_out_blocks_are_not_in_the_index(scan: Volume, model: Any) -> None:
    index = model.similarity_index()
    used = np.zeros(scan.shape, bool)
    for _, z, y, x in index.places:
        dz, dy, dx = index.edge
        used[z : z + dz, y : y + dy, x : x + dx] = True
    columns = [used.any(axis=tuple({0, 1, 2} - {a})) for a in range(3)]
    assert any(not c[:8].any() or not c[-8:].any() for c in columns[1:])


def test_an_index_is_part_of_the_bundle(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (model.path / SIMILARITY_FILE).stat().st_size <= MAX_INDEX_BYTES
    bundle.verify(model.path)
    assert set(bundle.contents(model.path)) == {
        "card.yaml",
        "weights.safetensors",
        SIMILARITY_FILE,
    }
    monkeypatch.setattr(zoo, "user_folder", lambda: tmp_path / "own")
    kept = zoo.adopt(model.path)
    assert bundle.load(kept).similarity_index() is not None
    assert zoo.list_models()
    assert not list(model.path.parent.parent.glob(".index*"))


def test_the_same_training_makes_the_same_index(
    scan_file: Path, model: Any, tmp_path: Path
) -> None:
    again = trained(tmp_path / "again", scan_file, name="indexed")
    assert again.card.similarity_sha256 == model.card.similarity_sha256


def test_without_the_setting_nothing_is_added(scan_file: Path, tmp_path: Path) -> None:
    plain = trained(
        tmp_path / "job", scan_file, name="plain", similarity_index=False, steps=1
    )
    assert not (plain.path / SIMILARITY_FILE).exists()
    assert "similarity" not in (plain.path / "card.yaml").read_text("utf-8")
    assert plain.similarity_index() is None


def test_a_model_without_an_index_names_the_setting(
    scan: Volume, scan_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match="setting similarity_index") as error:
        geosr.explain(scan, "ct-denoise", at=(6, 40, 40), method=("similar",))
    assert "\n" not in str(error.value)
    words = f"explain {scan_file} -m ct-denoise --at 6,40,40 --method similar -o"
    assert run([*words.split(), str(tmp_path / "why")]) == 2
    assert "--similarity-index" in capsys.readouterr().err


def test_the_command_writes_the_patches(
    scan_file: Path, model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "why"
    words = f"explain {scan_file} --at 6,40,40 --method reach,similar --device cpu"
    assert run([*words.split(), "-m", str(model.path), "-o", str(out)]) == 0
    assert "similar: Closest training patch: 'scan_a.ome.tif' at" in (
        capsys.readouterr().out
    )
    written = json.loads((out / "explanation.json").read_text("utf-8"))
    assert len(written["places"][0]["similar"]["patches"]) == 5


@pytest.mark.parametrize(
    ("network", "settings"),
    [
        ("unet", {"dimensions": "2D", "layers": 2}),
        ("noise_bounded", {"dimensions": "2.5D", "adjacent_slices": 3, "layers": 1}),
    ],
)
def test_other_networks_have_features_too(
    scan_file: Path, tmp_path: Path, network: str, settings: dict[str, Any]
) -> None:
    made = trained(
        tmp_path / "job", scan_file, network=network, steps=2, **settings, width=8
    )
    index = made.similarity_index()
    corner = index.places[3, 1:]
    at = corner + np.array(index.edge) // 2
    finding = found(io.read(scan_file), made, tuple(int(i) for i in at))
    first = finding.figures["patches"][0]
    assert first["first_voxel"] == corner.tolist()
    assert first["distance"] < 0.05


def test_volumes_and_finer_results(tmp_path: Path) -> None:
    """A 3D network that halves the voxel size; positions are those of the scan."""
    fine = foam(3, (48, 64, 64))
    coarse = fine.replace(
        data=np.asarray(fine.data).reshape(24, 2, 32, 2, 32, 2).mean((1, 3, 5)),
        voxel_size=(8.0, 4.0, 4.0),
        origin=(12.0, 21.0, 31.0),
        name="coarse",
    )
    made = geosr.train(
        "supervised",
        tmp_path / "job",
        coarse,
        target=fine,
        upscale_factor=2,
        network="light_sr",
        dimensions="3D",
        steps=2,
        batch_size=1,
        patch=16,
        layers=1,
        width=8,
        device="cpu",
        threads=1,
        similarity_index=True,
    )
    index = made.similarity_index()
    assert min(index.edge) > 1
    corner = index.places[0, 1:]
    at = 2 * (corner + np.array(index.edge) // 2)
    finding = found(coarse, made, tuple(int(i) for i in at))
    first = finding.figures["patches"][0]
    assert (first["source"], first["first_voxel"]) == ("coarse", corner.tolist())
    assert first["distance"] < 0.05


def test_an_image_has_two_coordinates(tmp_path: Path) -> None:
    image = Volume(np.asarray(foam(5).data)[6], "YX", (2.0, 2.0), "µm", name="image")
    made = trained(tmp_path / "job", image, steps=1)
    finding = found(image, made, (40, 40))
    assert finding.sentence.startswith("Closest training patch: 'image' at Y, X = ")


def test_labels_and_small_volumes_are_told(tmp_path: Path) -> None:
    image = Volume(np.asarray(foam(5).data)[6], "YX", (2.0, 2.0), "µm", name="image")
    labels = image.replace(data=(np.asarray(image.data) > 70).astype("u1"))
    with pytest.raises(ConfigError, match="switch similarity_index off"):
        geosr.train(
            "supervised",
            tmp_path / "labels",
            image,
            target=labels,
            labels=2,
            similarity_index=True,
            dimensions="2D",
            steps=1,
            patch=16,
        )
    tiny = image.replace(data=np.asarray(image.data)[:24, :24])
    with pytest.warns(match="has no similarity index: only . patches fit"):
        made = trained(tmp_path / "tiny", tiny, steps=1, patch=8)
    assert made.similarity_index() is None


def test_a_scan_smaller_than_a_patch_is_refused(model: Any, scan: Volume) -> None:
    small = scan.replace(data=np.asarray(scan.data)[:, :12, :12])
    with pytest.raises(ModelError, match="fewer than a patch"):
        found(small, model, (3, 4, 4))


def test_a_damaged_index_is_refused(model: Any, tmp_path: Path, scan: Volume) -> None:
    folder = tmp_path / "m"
    zoo.copy_folder(model.path, folder, 10**9)
    content = bytearray((folder / SIMILARITY_FILE).read_bytes())
    content[-1] ^= 0xFF
    (folder / SIMILARITY_FILE).write_bytes(bytes(content))
    with pytest.raises(ModelError, match="is damaged"):
        found(scan, bundle.load(folder), (6, 40, 40))
    with pytest.raises(ModelError, match="is damaged"):
        bundle.check_weights(bundle.load(folder))
    # Restoring does not need it.
    assert geosr.restore(scan, bundle.load(folder), threads=1).shape == scan.shape
    expected = hashlib.sha256((model.path / SIMILARITY_FILE).read_bytes()).hexdigest()
    assert expected == model.card.similarity_sha256
