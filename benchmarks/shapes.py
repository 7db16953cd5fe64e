"""The shapes of the kernel benchmarks: sizes of recommenders and of language models, larger than a cache."""

BATCHED = ((256, 200, 128), (64, 1000, 128), (8, 4096, 256), (1, 65536, 64), (2048, 50, 128))
PACKED = (51_200, 128)  # rows, channels
LONGEST = 4096
QUICK = (4, 20, 16)


def shapes(quick=False):
    """The name of every shape: batch × time × channels, or packed rows × channels."""
    return [_name(shape) for shape in ((QUICK, QUICK[1:]) if quick else (*BATCHED, PACKED))]


def _name(shape):
    return ("packed " if len(shape) == 2 else "") + "×".join(map(str, shape))


def is_packed(name):
    return name.startswith("packed ")


def dimensions(name):
    """The shape of a tensor, from its name."""
    return tuple(int(size) for size in name.removeprefix("packed ").split("×"))


def offsets_of(name):
    """Offsets of packed sequences, or None; lengths follow a power law, as lengths of histories do."""
    if not is_packed(name):
        return None
    import torch  # here, so that programs without torch can read the shapes' names

    rows, _ = dimensions(name)
    chance = torch.rand(rows, generator=torch.Generator().manual_seed(0))
    lengths = (5 * chance ** (-1 / 1.2)).clamp(max=LONGEST).long()
    ends = lengths.cumsum(0)
    ends = torch.cat([ends[ends < rows], torch.tensor([rows])])
    return torch.cat([torch.tensor([0]), ends])
