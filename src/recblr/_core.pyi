from typing import Any

import numpy as np
from numpy.typing import NDArray

def scan(
    a: NDArray[Any],
    b: NDArray[Any],
    initial: NDArray[Any] | None = None,
    offsets: NDArray[np.int64] | NDArray[np.int32] | None = None,
    reverse: bool = False,
) -> NDArray[Any]: ...
def scan_with_final(
    a: NDArray[Any],
    b: NDArray[Any],
    initial: NDArray[Any] | None = None,
    offsets: NDArray[np.int64] | NDArray[np.int32] | None = None,
    reverse: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
def build_info() -> dict[str, str]: ...
