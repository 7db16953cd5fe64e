"""Print the GPU that torch sees, as a line of JSON: its properties, or the reason why torch sees none.

With --kernels it prints instead which kernels the operators use.  It then fails if the installed recblr does
not compute a scan on the GPU with its own kernel.
"""

import json
import sys

import torch


def gpu():
    """Properties of the first GPU, or the reason why torch cannot use one."""
    if torch.version.cuda is None:
        return {"why": f"torch {torch.__version__} is built without CUDA"}
    if not torch.cuda.is_available():
        return {"why": f"torch {torch.__version__} finds no GPU"}
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "l2_cache": properties.L2_cache_size,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def kernels():
    """Which kernels the operators use; exits with an error if the GPU's scan is not native or is wrong."""
    import recblr

    served = recblr.build_info()["ops"]
    half, one = (torch.full((1, 3, 1), value, device="cuda") for value in (0.5, 1.0))
    got = torch.ops.recblr.scan(half, one, None, None, False).flatten().tolist()
    if got != [1.0, 1.5, 1.75] or served["cuda"] != "native":
        raise SystemExit(f"a scan on the GPU returned {got}; the operators use {served}")
    return served


if __name__ == "__main__":
    print(json.dumps(kernels() if "--kernels" in sys.argv else gpu()))
