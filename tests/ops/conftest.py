"""Every device for the operators' tests."""

from __future__ import annotations

from devices import device, gpu

__all__ = ["device", "gpu"]
