"""Restorations with estimated uncertainty: two volumes, in memory and in files."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.steps import (
    TileDone,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.io import writing
from napari_geosr.io.unfinished_files import journal
from napari_geosr.models import bundle, zoo
from napari_geosr.operations.restore import (
    RestoreConfig,
    deviation_path,
    prepare_steps,
    run_steps,
)
from napari_geosr.operations.restore.verdict.steps import bound_of

PLACE = {"voxel_size": (4.0, 2.0, 2.0), "unit": "µm", "origin": (1.0, 2.0, 3.0)}


@pytest.fixture
def volume(rng) -> Volume:
    data = np.full((5, 24, 28), 0.8, np.float32)
    data[1:4, 6:14, 8:19] = 0.2
    data += rng.normal(0, 0.1, data.shape).astype(np.float32)
    return Volume(data, "ZYX", name="block", **PLACE)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A fast model that does not treat rows and columns alike."""
    return small_model(tmp_path_factory.mktemp("models") / "tiny", seed=0)


def small_model(folder, seed: int, **changes) -> str:
    import torch

    from napari_geosr.networks import build_network

    torch.manual_seed(seed)
    card = zoo.find("foam-denoise").card
    kwargs = {"depth": 3, "width": 2, "adjacent_slices": 3, "dilations": [1, 2]}
    network = build_network("msdnet", residual=True, **kwargs)
    torch.nn.init.normal_(network.final_weight, std=0.1)
    values = {"name": folder.name, "network_kwargs": kwargs | {"residual": True}}
    values |= {"adjacent_slices": 3, "halo": 4, **changes}
    bundle.save(folder, card.model_copy(update=values), network)
    return str(folder)


@pytest.fixture
def many_tiles(monkeypatch) -> None:
    """One tile per plane, so that a run can be stopped between two planes."""
    monkeypatch.setattr("napari_geosr.inference.tiles.choice._SECONDS_PER_STACK", 0.0)


@pytest.fixture
def restored(tiny):
    """``restored(volume, stop_after=None, more=None, **settings)``."""

    def run(volume, stop_after=None, more=None, **settings):
        base = {"uncertainty": "tta", "uncertainty_members": 2}
        values = {"model": tiny, "threads": 1} | base | settings
        config = RestoreConfig.create(**values)
        prepared = run_to_end(prepare_steps(volume, config))
        tiles = []
        steps = run_steps(
            prepared,
            should_stop=lambda: stop_after is not None and len(tiles) >= stop_after,
            **(more or {}),
        )
        return run_to_end(
            steps, lambda s: tiles.append(s) if isinstance(s, TileDone) else None
        )

    return run


def test_the_mean_and_the_deviation_lie_in_the_place_of_the_scan(tiny, volume):
    mean, deviation = geosr.restore_with_uncertainty(
        volume, tiny, uncertainty_members=3, threads=1
    )
    plain = geosr.restore(volume, tiny, threads=1)
    for found in (mean, deviation):
        assert (found.voxel_size, found.unit) == (PLACE["voxel_size"], "µm")
        assert found.origin == PLACE["origin"]
        assert found.shape == volume.shape
        assert found.dtype == np.float32
    assert deviation.name == f"{mean.name} (std)"
    assert deviation.data.min() >= 0
    assert 0 < deviation.data.max() < 0.3
    difference = np.abs(mean.data - plain.data)
    assert 0 < difference.max() < 0.2
    facts = [v.provenance[-1]["uncertainty"] for v in (mean, deviation)]
    assert [f.pop("this") for f in facts] == ["mean", "standard deviation"]
    assert facts[0] == facts[1]
    assert facts[0]["kind"] == "tta"
    assert len(facts[0]["members"]) == 3


def test_a_result_in_integers_has_deviations_in_floats(restored, volume):
    scan = volume.replace(data=np.clip(volume.data * 200, 0, 255).astype(np.uint8))
    result = restored(scan, output_dtype="input")
    assert result.volume.dtype == np.uint8
    assert result.deviation.dtype == np.float32
    assert (result.deviation.data % 1 != 0).any()


@pytest.mark.parametrize("suffix", ["", ".ome.tif", ".ome.zarr"])
@pytest.mark.usefixtures("many_tiles")
def test_a_stopped_run_goes_on_in_both(restored, volume, tmp_path, suffix):
    out = tmp_path / f"x{suffix}"
    more = {"out": out} if suffix else {}
    whole = restored(volume)
    part = restored(volume, 1, more)
    assert not part.complete
    reached = [np.isfinite(v.data[:]).mean() for v in (part.volume, part.deviation)]
    assert reached[0] == reached[1]
    assert 0 < reached[0] < 1
    left = {"unfinished": part.volume, "unfinished_deviation": part.deviation}
    if suffix:
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            f"x.incomplete{suffix}",
            f"x_std.incomplete{suffix}",
        ]
    result = restored(volume, more=more | left)
    assert result.complete
    np.testing.assert_array_equal(result.volume.data[:], whole.volume.data[:])
    np.testing.assert_array_equal(result.deviation.data[:], whole.deviation.data[:])
    if suffix:
        names = sorted(p.name for p in tmp_path.iterdir())
        assert names == [f"x{suffix}", f"x_std{suffix}"]
        assert result.deviation.source == deviation_path(out)


@pytest.mark.usefixtures("many_tiles")
def test_another_uncertainty_does_not_go_on(restored, volume):
    part = restored(volume, 1)
    left = {"unfinished": part.volume, "unfinished_deviation": part.deviation}
    with pytest.raises(ConfigError, match="made with different settings"):
        restored(volume, more=left, uncertainty_members=4)
    with pytest.raises(ConfigError, match="was started without standard deviations"):
        restored(volume, more={"unfinished": part.volume})
    swapped = {"unfinished": part.deviation, "unfinished_deviation": part.volume}
    with pytest.raises(ConfigError, match="different standard deviations"):
        restored(volume, more=swapped)


@pytest.mark.usefixtures("many_tiles")
def test_the_command_writes_both_files_and_goes_on(
    restored, tiny, volume, tmp_path, capsys
):
    scan = str(io.write(volume, tmp_path / "scan.tif"))
    out = tmp_path / "r.ome.tif"
    words = ["restore", scan, "--model", tiny, "--out", str(out)]
    words += ["--uncertainty", "tta", "--uncertainty-members", "2", "--json"]
    opened = io.read(scan)
    part = restored(opened, 1, {"out": out}, threads=None)
    assert not part.complete
    assert command([*words, "--continue"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["standard_deviation"] == str(tmp_path / "r_std.ome.tif")
    mean, deviation = io.read(out), io.read(deviation_path(out))
    for found in (mean, deviation):
        assert found.voxel_size == PLACE["voxel_size"]
        assert found.origin == PLACE["origin"]
    both = restored(volume)
    np.testing.assert_array_equal(mean.data[:], both.volume.data)
    np.testing.assert_array_equal(deviation.data[:], both.deviation.data)
    assert command(words) == 2
    assert "r.ome.tif" in capsys.readouterr().err
    out.unlink()
    assert command(words) == 2
    assert "r_std.ome.tif" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.usefixtures("many_tiles")
def test_killed_between_its_two_files_it_goes_on(
    restored, tiny, volume, tmp_path, suffix, monkeypatch, capsys
):
    """The deviations then have their final name, but the result does not."""
    monkeypatch.setattr(journal, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(journal, "_INTERVAL_FACTOR", 0.0)
    scan = str(io.write(volume, tmp_path / "scan.tif"))
    folder = tmp_path / "running"
    folder.mkdir()
    real, kept = writing.move_into_place, tmp_path / "killed"

    def killed_after(temporary, path, overwrite):
        real(temporary, path, overwrite)
        if not kept.exists():
            shutil.copytree(folder, kept)

    monkeypatch.setattr(writing, "move_into_place", killed_after)
    restored(io.read(scan), more={"out": folder / f"r{suffix}"}, threads=None)
    monkeypatch.setattr(writing, "move_into_place", real)
    for file in kept.glob(".*.journal.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"pid": 2**22 + 1}))
    for file in kept.glob(".*"):
        dead = file.name.replace(f"{os.getpid():08x}", f"{2**22 + 1:08x}")
        file.rename(file.with_name(dead))
    out = kept / f"r{suffix}"
    names = {p.name for p in kept.iterdir() if not p.name.startswith(".")}
    assert names == {f"r_std{suffix}"}
    words = ["restore", scan, "--model", tiny, "--out", str(out)]
    words += ["--uncertainty", "tta", "--uncertainty-members", "2"]
    assert command([*words, "--continue"]) == 0, capsys.readouterr().err
    whole = folder / f"r{suffix}"
    for one, other in ((out, whole), (deviation_path(out), deviation_path(whole))):
        np.testing.assert_array_equal(io.read(one).data[:], io.read(other).data[:])
        assert io.read(one).provenance[-1]["complete"] is True
    assert {p.name for p in kept.iterdir()} == {p.name for p in folder.iterdir()}


@pytest.mark.usefixtures("many_tiles")
def test_deviations_of_something_else_do_not_go_on(
    restored, tiny, volume, tmp_path, capsys
):
    scan = str(io.write(volume, tmp_path / "scan.tif"))
    out = tmp_path / "r.ome.tif"
    restored(io.read(scan), 1, {"out": out}, threads=None)
    other = io.write(volume, deviation_path(out))
    before = other.read_bytes()
    words = ["restore", scan, "--model", tiny, "--out", str(out)]
    words += ["--uncertainty", "tta", "--uncertainty-members", "2", "--continue"]
    assert command(words) == 2
    assert "r_std.ome.tif" in capsys.readouterr().err
    assert other.read_bytes() == before


def test_super_resolution_says_it_on_the_finer_grid(restored, volume):
    low = volume.replace(data=volume.data[:, ::2, ::2])
    result = restored(low, model="foam-sr-x2")
    assert result.deviation.shape == (10, 24, 28)
    assert result.deviation.voxel_size == result.volume.voxel_size
    assert result.deviation.origin == result.volume.origin


def test_two_models_make_an_ensemble(restored, volume, tiny, tmp_path):
    second = small_model(tmp_path / "second", seed=1)
    both = {"uncertainty": "ensemble", "uncertainty_members": None}
    result = restored(volume, ensemble_with=second, **both)
    one, two = (geosr.restore(volume, name, threads=1).data for name in (tiny, second))
    np.testing.assert_allclose(result.volume.data, (one + two) / 2, atol=1e-5)
    expected = np.abs(one - two) / np.sqrt(2)
    assert expected.max() > 0.01
    np.testing.assert_allclose(result.deviation.data, expected, atol=1e-5)
    facts = result.volume.provenance[-1]["uncertainty"]
    assert facts["members"] == ["tiny", "second"]
    twice = restored(volume, ensemble_with=[second], **both)
    np.testing.assert_array_equal(twice.deviation.data, result.deviation.data)


@pytest.mark.parametrize("bound", [4.0, None])
def test_an_ensemble_is_bounded_only_if_all_its_models_are(
    restored, volume, tiny, tmp_path, bound
):
    second = small_model(tmp_path / "second", seed=1, noise_bound=bound)
    both = {
        "uncertainty": "ensemble",
        "uncertainty_members": None,
        "ensemble_with": (second,),
    }
    config = RestoreConfig(model=tiny, device="cpu", threads=1, **both)
    prepared = run_to_end(prepare_steps(volume, config))
    assert bound_of(prepared) == bound
    if bound is None:
        with pytest.raises(GeoSRError, match=r"'second' does not use the noise level"):
            restored(volume, strength=0.5, **both)
    else:
        restored(volume, strength=0.5, **both)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"uncertainty": "dropout"}, "one of 'none', 'diffusion', 'ensemble', 'tta'"),
        ({"uncertainty_members": 1}, "uncertainty members"),
        ({"uncertainty": "none"}, "only if the uncertainty"),
        (
            {"ensemble_with": "ct-denoise"},
            "Additional models are used by the uncertainty method 'ensemble'",
        ),
        (
            {"uncertainty": "ensemble", "uncertainty_members": None},
            "name at least one more",
        ),
        (
            {"uncertainty": "ensemble", "ensemble_with": "ct-denoise"},
            "one member per model",
        ),
        (
            {
                "uncertainty": "ensemble",
                "ensemble_with": "foam-sr-x2",
                "uncertainty_members": None,
            },
            "task differs",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    restored, volume, settings, reason
):
    with pytest.raises(GeoSRError, match=reason):
        restored(volume, **settings)


def test_the_mean_of_several_scans_has_no_uncertainty(tiny, volume):
    with pytest.raises(ConfigError, match="cannot be combined"):
        geosr.restore([volume, volume], tiny, uncertainty="tta")
