"""The fixture `device` for the operators' tests: every device of the machine."""

from __future__ import annotations

from devices import device, gpu

__all__ = ["device", "gpu"]
