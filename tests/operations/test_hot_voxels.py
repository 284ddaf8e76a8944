"""A few hot voxels do not spoil a restoration, a ranking or a training."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import restore
from napari_geosr.core.steps import StepIterator, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.operations.measure import MeasureConfig, measure_steps
from napari_geosr.operations.restore import RestoreConfig, prepare_steps, restore_steps
from napari_geosr.operations.train.hot_voxels import filter_hot_voxels_steps
from napari_geosr.physics.specimens.phantoms import sphere_foam


@pytest.fixture(scope="module")
def foam() -> Volume:
    rng = np.random.default_rng(3)
    clean = sphere_foam((24, 48, 48), porosity=0.3, radius=(4, 9), gap=1.0, seed=3)
    clean = clean.fraction
    noisy = (20000 + 8000 * clean + rng.normal(0, 1500, clean.shape)).astype("uint16")
    return Volume(noisy, "ZYX", (2.0, 2.0, 2.0), "µm", name="foam")


@pytest.fixture
def spoiled(foam: Volume) -> Volume:
    data = foam.data.copy()
    places = np.random.default_rng(5).integers(1, 23, (20, 3))
    data[tuple(places.T)] = 65535
    return foam.replace(data=data)


def test_the_rest_of_the_result_stays_as_it_was(foam, spoiled):
    expected = np.asarray(restore(foam).data)
    found = np.asarray(restore(spoiled).data)
    hot = spoiled.data == 65535
    assert (found[hot] == 65535).all()
    change = np.abs(found - expected)[~hot]
    assert np.sqrt(np.mean(change**2)) < 60  # the noise is 1500


def test_they_are_counted_and_said(spoiled):
    n = int((spoiled.data == 65535).sum())
    with StepIterator(restore_steps(spoiled, RestoreConfig())) as steps:
        said = [step.message for step in steps if isinstance(step, WarningIssued)]
    result = steps.result
    assert any(
        f"{n} voxels of 'foam' have grey values far from all" in text for text in said
    )
    record = result.volume.provenance[-1]["intensities"]
    assert record["n_hot"] == n


def test_noise_and_likeness_do_not_see_them(foam, spoiled):
    config = RestoreConfig()
    plain = run_to_end(prepare_steps(foam, config))
    found = run_to_end(prepare_steps(spoiled, config))
    assert found.likeness.level == plain.likeness.level
    assert found.statistics.std == pytest.approx(plain.statistics.std, rel=1e-3)


def test_a_scan_without_any_says_nothing_of_them(foam):
    steps = restore_steps(foam, RestoreConfig())
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert not any("hot" in text for text in said)
    assert "n_hot" not in restore(foam).provenance[-1]["intensities"]


def warned(steps) -> tuple[list[str], object]:
    with StepIterator(steps) as iterator:
        said = [s.message for s in iterator if isinstance(s, WarningIssued)]
    return said, iterator.result


def test_too_many_of_them_are_called_hot_voxels_and_what_to_do(foam):
    data = foam.data.copy()
    rng = np.random.default_rng(5)
    data.ravel()[rng.choice(data.size, data.size // 200, replace=False)] = 65535
    said, result = warned(restore_steps(foam.replace(data=data), RestoreConfig()))
    (text,) = (text for text in said if "hot or dead voxels" in text)
    assert "% of the voxels of 'foam'" in text
    assert "at most 0.1 %" in text
    assert "median filter" in text
    record = result.volume.provenance[-1]["intensities"]
    assert record["crowd_share"] == pytest.approx(0.005, rel=0.3)


def test_a_measurement_names_hot_voxels_that_the_restoration_kept(foam, spoiled):
    """A threshold above all others separates only the hot voxels."""
    n = int((spoiled.data == 65535).sum())
    restored = restore(spoiled)
    said, _ = warned(measure_steps(restored, MeasureConfig(threshold=50000.0)))
    (text,) = (text for text in said if "kept" in text)
    assert f"kept {n} hot or dead voxels" in text
    assert f"only {n} voxels are solid" in text
    assert "median of their neighbours" in text
    said, _ = warned(measure_steps(restored, MeasureConfig()))
    assert not any("hot" in text for text in said)
    said, _ = warned(measure_steps(restore(foam), MeasureConfig(threshold=50000.0)))
    assert not any("hot" in text for text in said)


def test_a_training_standardises_without_them(foam, spoiled):
    config = TrainingConfig.create(patch=16, sampling="uniform")
    plain = Patches({"source": [foam]}, config)
    volumes = {"source": [spoiled], "target": [foam]}
    with StepIterator(filter_hot_voxels_steps(volumes)) as steps:
        said = list(steps)
    clean = steps.result
    assert clean["target"][0] is foam
    assert len(said) == 1
    assert "hot or dead voxels" in said[0].message
    found = Patches({"source": clean["source"]}, config)
    assert found.grey["source"].std == pytest.approx(plain.grey["source"].std, rel=1e-3)
