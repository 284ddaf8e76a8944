"""A few hot voxels do not spoil a restoration, a ranking or a training."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import restore
from napari_geosr.core.steps import StepIterator, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.learning.patches import Patches
from napari_geosr.operations.restore import RestoreConfig, prepare_steps, restore_steps
from napari_geosr.operations.train.hot_voxels import filter_hot_voxels_steps
from napari_geosr.physics.phantoms import sphere_foam


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
