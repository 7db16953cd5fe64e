"""The one exception for mistakes that a person can mend.

The library raises it with one sentence that names the thing and the remedy; the command
line prints that sentence and exits with code 2.
"""


class InputError(ValueError):
    """A file, argument or checkpoint that cannot be used as given."""
