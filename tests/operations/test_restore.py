"""The operation restore: fit, statistics, cancelling, unusual voxels, output types."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr import io, restore
from napari_geosr.core.errors import (
    ConfigError,
    DeviceMemoryError,
    GeoSRError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.steps import (
    StepIterator,
    TargetReady,
    TileDone,
    WarningIssued,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import (
    PreparedRestoration,
    RestoreConfig,
    prepare_steps,
    preview_steps,
    restore_steps,
)
from napari_geosr.operations.restore.targets import check_budget


@pytest.fixture
def noisy(rng) -> Volume:
    data = np.full((7, 40, 44), 0.8, np.float32)
    data[2:5, 10:20, 12:25] = 0.2
    data += rng.normal(0, 0.1, data.shape).astype(np.float32)
    return Volume(data, "ZYX", (2.0, 2.0, 2.0), "µm", name="block")


def test_a_volume_keeps_its_place_and_gets_a_record(noisy):
    result = restore(noisy)
    assert result.shape == noisy.shape
    assert result.dtype == np.float32
    assert result.voxel_size == noisy.voxel_size
    assert result.provenance[-1]["settings"]["model"] == "ct-denoise"
    assert np.abs(result.data - noisy.data).mean() < 0.2


def test_grey_values_scale_with_the_input(noisy):
    """Normalisation uses the volume, so gain and offset are passed through."""
    plain = restore(noisy).data
    scaled = restore(noisy.replace(data=noisy.data * 1000 + 300)).data
    np.testing.assert_allclose((scaled - 300) / 1000, plain, atol=2e-4)


def test_integers_can_stay_integers(noisy):
    data = (noisy.data.clip(0, 1) * 255).astype(np.uint8)
    result = restore(noisy.replace(data=data), output_dtype="input")
    assert result.dtype == np.uint8
    # Grey values in a pore of three planes are uncertain, but pore and solid differ.
    assert result.data[3, 12:18, 14:23].mean() < 100
    assert 190 < result.data[:, 25:, 30:].mean() < 218


def test_a_single_image_can_be_denoised_but_not_given_to_a_3d_model(noisy):
    plane = noisy.replace(
        data=noisy.data[3], axes="YX", voxel_size=(2.0, 2.0), origin=(0.0, 0.0)
    )
    assert restore(plane).shape == plane.shape
    with pytest.raises(ModelError, match="single Y, X image"):
        restore(plane, model="foam-sr-x2")


def test_odd_voxels_are_reported_and_replaced_or_refused(noisy):
    data = noisy.data.copy()
    data[1, 2, 3], data[4, 5, 6] = np.nan, np.inf
    odd = noisy.replace(data=data)
    warnings = [
        step.message
        for step in restore_steps(odd, RestoreConfig())
        if isinstance(step, WarningIssued)
    ]
    assert any("1 NaN and 1 infinite" in message for message in warnings)
    assert any("stay NaN in the result" in message for message in warnings)
    assert np.array_equal(np.isnan(restore(odd).data), ~np.isfinite(data))
    steps = prepare_steps(odd, RestoreConfig(nonfinite="refuse"))
    with pytest.raises(VolumeError, match="1 NaN and 1 infinite.*repair"):
        list(steps)


@pytest.mark.parametrize(("offset", "coarse"), [(1e7, True), (1e4, False)])
def test_an_offset_too_large_for_float32_is_told(noisy, offset, coarse):
    odd = noisy.replace(data=noisy.data.astype(np.float64) * 100 + offset)
    steps = restore_steps(odd, RestoreConfig())
    told = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert any("smallest difference" in sentence for sentence in told) is coarse


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_nothing_to_restore_is_refused(noisy, value):
    empty = noisy.replace(data=np.full(noisy.shape, value, np.float32))
    with pytest.raises(VolumeError, match="block"):
        restore(empty)


def test_memory_is_an_amount_or_bytes():
    assert RestoreConfig.create(memory=4 * 10**9).memory == "4000000000"
    with pytest.raises(ConfigError, match=r"^memory: '4XB' is not an [^']*$"):
        RestoreConfig.create(memory="4XB")


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="memory"):
        restore(Volume(np.zeros((4, 4)), "YX"), memory="much")


def test_a_preview_is_the_same_as_the_run(noisy):
    prepared = run_to_end(prepare_steps(noisy, RestoreConfig()))
    assert isinstance(prepared, PreparedRestoration)
    region = (slice(3, 4), slice(8, 30), slice(5, 40))
    preview = run_to_end(preview_steps(prepared, region))
    whole = restore(noisy)
    assert preview.shape == (1, 22, 35)
    assert preview.origin == (6.0, 16.0, 10.0)
    np.testing.assert_allclose(preview.data, whole.data[region], atol=1e-5)


@pytest.mark.parametrize("to_file", [False, True])
def test_cancel_keeps_what_is_finished(noisy, tmp_path, to_file):
    big = noisy.replace(data=np.tile(noisy.data, (6, 1, 1)))
    out = tmp_path / "result.tif" if to_file else None
    stop = False
    steps = restore_steps(
        big, RestoreConfig(memory="120MB"), out=out, should_stop=lambda: stop
    )
    target, done = None, []
    iterator = StepIterator(steps)
    for step in iterator:
        if isinstance(step, TargetReady):
            target = step.volume
        elif isinstance(step, TileDone):
            done.append(step.slices)
            stop = True
    result = iterator.result
    assert target is not None
    assert not result.complete
    assert result.volume.provenance[-1]["complete"] is False
    first = done[0]
    assert np.asarray(result.volume.data[first]).std() > 0
    if to_file:
        assert not out.exists()
        assert result.path.name == "result.incomplete.tif"
        assert io.read(result.path).shape == big.shape


def test_an_existing_output_is_not_touched(noisy, tmp_path):
    out = tmp_path / "precious.tif"
    out.write_bytes(b"mine")
    with pytest.raises(GeoSRError, match=r"precious\.tif"):
        list(restore_steps(noisy, RestoreConfig(), out=out))
    assert out.read_bytes() == b"mine"


@pytest.mark.parametrize("to_file", [True, False])
def test_the_first_budget_that_a_refusal_names_is_accepted(to_file, rng, tmp_path):
    """Blocks restored to assess the run need less memory than the run."""
    solid = ndimage.gaussian_filter(rng.normal(size=(12, 48, 48)), 3) > 0
    volume = Volume((solid + rng.normal(0, 0.1, solid.shape)).astype("f4"), "ZYX")
    out = tmp_path / "out.ome.tif" if to_file else None

    def restore_with(memory: str) -> None:
        config = RestoreConfig.create(memory=memory, device="cpu", threads=1)
        run_to_end(restore_steps(volume, config, out=out, look=True))

    with pytest.raises(DeviceMemoryError) as refused:
        restore_with("30MB")
    found = re.search(r"needs ([\d.]+ MB) of memory", str(refused.value))
    assert found is not None
    restore_with(found[1])


def test_the_budget_named_while_the_sharpness_is_measured_is_accepted(rng):
    """The boxes for it need less memory than the run."""
    solid = ndimage.gaussian_filter(rng.normal(size=(24, 48, 48)), 3) > 0
    volume = Volume((solid + rng.normal(0, 0.1, solid.shape)).astype("f4"), "ZYX")

    def prepare_with(memory: str) -> None:
        config = RestoreConfig.create(
            model="foam-sr-x2", memory=memory, device="cpu", threads=1
        )
        check_budget(run_to_end(prepare_steps(volume, config)), "out.ome.tif")

    with pytest.raises(DeviceMemoryError) as refused:
        prepare_with("30MB")
    found = re.search(r"needs ([\d.]+ MB) of memory", str(refused.value))
    assert found is not None
    prepare_with(found[1])
