"""Arrays on a device: on the CPU they share memory, and to another device they go in one copy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recblr.system.device import tensors_on

ARRAYS = [np.array([3, 1, 4]), np.array([], dtype=np.int64), np.array([1, 5])]


def test_the_values_are_unchanged(device: str) -> None:
    for tensor, array in zip(tensors_on(torch.device(device), *ARRAYS), ARRAYS, strict=True):
        assert tensor.device == torch.device(device)
        assert tensor.dtype == torch.int64
        assert tensor.tolist() == array.tolist()


def test_times_stay_float64(device: str) -> None:
    times = np.array([1.7e9, 1_700_000_000.125, -0.5])
    items, moments, offsets = tensors_on(torch.device(device), ARRAYS[0], times, ARRAYS[2])
    assert (items.dtype, moments.dtype, offsets.dtype) == (torch.int64, torch.float64, torch.int64)
    assert moments.tolist() == times.tolist()
    assert offsets.tolist() == ARRAYS[2].tolist()


def test_on_the_cpu_nothing_is_copied() -> None:
    for tensor, array in zip(tensors_on(torch.device("cpu"), *ARRAYS), ARRAYS, strict=True):
        assert np.shares_memory(tensor.numpy(), array) == bool(array.size)


def test_on_another_device_all_arrays_come_in_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = []
    copy = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda x, *where, **how: copies.append(how) or copy(x, *where, **how)
    )
    found = tensors_on(torch.device("meta"), *ARRAYS)
    assert [tuple(tensor.shape) for tensor in found] == [(3,), (0,), (2,)]
    assert {tensor.device.type for tensor in found} == {"meta"}
    assert copies == [{"non_blocking": True}]
