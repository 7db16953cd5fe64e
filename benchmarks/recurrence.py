"""The recurrence h = a h + b as an associative operator, for peers that scan with one."""

from torch._higher_order_ops.associative_scan import associative_scan


def combine(earlier, later):
    """Combine two neighbouring stretches of time; each is (product of a, final state from zero)."""
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]


def associative(a, b):
    """h of h = a h + b, by torch's associative_scan."""
    return associative_scan(combine, (a, b), dim=1, combine_mode="generic")[1]
