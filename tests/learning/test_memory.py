"""If memory runs out, every optimiser still updates once per step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.core.steps import PreviewReady, WarningIssued, run_to_end

SMALL: dict[str, Any] = {
    "dimensions": "2D",
    "layers": 1,
    "width": 2,
    "critic_width": 2,
    "batch_size": 4,
    "steps": 3,
    "learning_rate": 1e-2,
}
MORE: dict[str, dict[str, Any]] = {
    "tomogan": {"network": "resnet", "features": "gradient", "critic_steps": 1},
    "pix2pix": {},
    # The random numbers of a penalty depend on the parts.
    "cyclegan": {"pool_size": 0, "distance": "least-squares"},
}
#: The loss of each method that fits for only one patch at a time.
HUNGRY = [
    ("tomogan", "generator_loss"),
    ("tomogan", "critic_loss"),
    ("pix2pix", "loss"),
    ("cyclegan", "generator_loss"),
    ("cyclegan", "critics_loss"),
]


def hungry(loss: Callable[[Any], Any], most: int, calls: int = 10**9) -> Any:
    """A loss that lacks memory for more than `most` patches, or after some calls."""
    seen: list[int] = []

    def wants_more(batch: Any) -> Any:
        seen.append(len(batch["source"]))
        if seen[-1] > most or len(seen) == calls:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(batch)

    return wants_more


def finish(trainer: Any) -> list[Any]:
    steps: list[Any] = []
    assert run_to_end(trainer.run(), steps.append) is True
    return steps


@pytest.mark.parametrize(("name", "loss"), HUNGRY)
def test_no_optimiser_moves_twice_in_a_step(
    build_trainer: Any, name: str, loss: str
) -> None:
    whole, short = (build_trainer(name, **SMALL, **MORE[name]) for _ in range(2))
    finish(whole)
    setattr(short.method, loss, hungry(getattr(short.method, loss), 1))
    said = [s.message for s in finish(short) if isinstance(s, WarningIssued)]
    assert len(said) == 1
    assert "in 4 parts" in said[0]
    assert short.parts.count == 4
    for module, other in zip(
        whole.method.modules.values(), short.method.modules.values(), strict=True
    ):
        for expected, found in zip(
            module.parameters(), other.parameters(), strict=True
        ):
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_a_part_that_fails_late_is_not_counted_twice(build_trainer: Any) -> None:
    settings = SMALL | MORE["cyclegan"]
    whole, short = (build_trainer("cyclegan", **settings) for _ in range(2))
    for trainer in (whole, short):
        trainer.parts.count = 2
    finish(whole)
    short.method.generator_loss = hungry(short.method.generator_loss, 4, calls=2)
    finish(short)
    for expected, found in zip(
        whole.average.parameters(), short.average.parameters(), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_what_fails_after_weights_moved_is_not_tried_again(build_trainer: Any) -> None:
    trainer = build_trainer("pix2pix", **SMALL)
    step = trainer.method.train_step

    def late(*given: Any) -> Any:
        step(*given)
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.method.train_step = late
    with pytest.raises(DeviceMemoryError, match="smaller batch"):
        finish(trainer)


def test_a_preview_that_does_not_fit_is_left_out(build_trainer: Any) -> None:
    trainer = build_trainer("pix2pix", **SMALL)

    def large(_network: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.preview = large
    steps = finish(trainer)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert len(said) == 1
    assert "preview" in said[0]
    assert not any(isinstance(s, PreviewReady) for s in steps)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 8.74 GB, max allowed: 9.07 GB)",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: not enough memory: "
        "you tried to allocate 34359738368 bytes.",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. "
        "Error code 12 (Cannot allocate memory)",
    ],
)
def test_what_devices_say_when_memory_runs_out(said: str) -> None:
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(ValueError(said))
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))


def test_errors_of_python_and_torch_need_no_message() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError())


@pytest.mark.parametrize("times", [1, 10**9])
def test_a_validation_that_does_not_fit_ends_nothing(
    build_trainer: Any, times: int
) -> None:
    trainer = build_trainer("pix2pix", **SMALL, validate_every=1)
    validate, calls = trainer.method.validate, []

    def large(batch: Any) -> Any:
        calls.append(batch)
        if len(calls) <= times:
            raise RuntimeError("MPS backend out of memory")
        return validate(batch)

    trainer.method.validate = large
    steps = finish(trainer)
    said = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert len(said) == (0 if times == 1 else 1)
    assert all("evaluate" in message for message in said)
    assert trainer.parts.count == 1
    result = trainer.method.modules["network"]
    assert result is not trainer.average


def test_other_faults_of_a_validation_are_faults(build_trainer: Any) -> None:
    trainer = build_trainer("pix2pix", **SMALL, validate_every=1)

    def broken(_batch: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    trainer.method.validate = broken
    with pytest.raises(RuntimeError, match="shapes"):
        finish(trainer)


def test_other_faults_of_a_preview_are_faults(build_trainer: Any) -> None:
    trainer = build_trainer("pix2pix", **SMALL)

    def broken(_network: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    trainer.preview = broken
    with pytest.raises(RuntimeError, match="shapes"):
        finish(trainer)
