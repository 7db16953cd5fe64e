"""The words for a device that options take; `recblr.training.device` finds what they stand for."""

import re

from recblr.errors import InputError

MEANING = "auto (a GPU that the CUDA kernels serve, else the CPU), cpu, cuda or cuda:N."

_WORDS = re.compile("auto|cpu|cuda(:[0-9]+)?")


def check_device(asked: str) -> None:
    """InputError where `asked` is no word for a device; whether that device is there is not looked at."""
    if not _WORDS.fullmatch(asked):
        raise InputError(f"--device must be auto, cpu, cuda or cuda:N, but is {asked!r}")
