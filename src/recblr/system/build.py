"""What this installation is: versions, instruction set, and what serves the operators on each device."""

from typing import Any


def commit() -> str | None:
    """The commit that the native module was built from; None where it is not known."""
    try:
        from recblr import _core
    except ImportError:
        return None
    return _core.build_info()["commit"] or None


def build_info() -> dict[str, Any]:
    """Facts about this build, as plain values.

    Keys: ``version``, ``commit``, ``compiler``, ``torch_abi`` (the oldest torch served), ``cuda`` (the
    version that compiled the CUDA kernels, or empty) and ``cuda_architectures``, ``isa`` and
    ``isa_available`` (see RECBLR_ISA), and ``ops``: for each device "native" or "reference (why)".
    ``ops`` is None where torch is not installed.
    """
    from recblr import _core

    info: dict[str, Any] = dict(_core.build_info())
    try:
        from recblr.ops.common import native
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        info["ops"] = None
    else:
        info["ops"] = dict(native.status)
    return info


def runs_on(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether kernels built for these, as CMake names them, run on a GPU of this capability."""
    for built in architectures.split():
        digits, _, kind = built.partition("-")
        if not digits.isdecimal():  # native, all: as CMake found
            return True
        major, minor = divmod(int(digits), 10)
        if kind != "virtual" and major == capability[0] and minor <= capability[1]:
            return True
        if kind != "real" and (major, minor) <= capability:  # from PTX
            return True
    return False
