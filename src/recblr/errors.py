"""The one exception for mistakes that a person can mend.

The library raises it with one sentence that names the thing and the remedy; the command
line prints that sentence and exits with code 2.
"""


class InputError(ValueError):
    """A file, argument or checkpoint that cannot be used as given."""


def naming_flag(error: ValueError) -> InputError:
    """The error of a parameter whose name comes first, for somebody who knows it as an option."""
    name, _, rest = str(error).partition(" ")
    return InputError(f"--{name.replace('_', '-')} {rest}")
