"""What GPU torch sees, as a line of JSON: the GPU's properties, or why there is none to use."""

import json

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


if __name__ == "__main__":
    print(json.dumps(gpu()))
