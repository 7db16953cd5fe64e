"""How two stretches of h = a h + b combine, for peers that scan with an associative operator."""


def combine(earlier, later):
    """Each is (product of a, state from zero)."""
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]
