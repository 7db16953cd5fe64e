"""What is raised for mistakes that a person can mend: one sentence that names the thing and the remedy.

The command line prints that sentence and exits with code 2.
"""


class InputError(ValueError):
    """A file, argument or checkpoint that cannot be used as given."""


def naming_flag(error: ValueError) -> InputError:
    """The error of a parameter whose name comes first, for somebody who knows it as an option."""
    name, _, rest = str(error).partition(" ")
    return InputError(f"--{name.replace('_', '-')} {rest}")


def needed(what: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The same error in words: what needs the package, and how to install it.

    A module of recblr that is missing is a broken installation: its error is returned as it is.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "recblr"):
        return error
    return ModuleNotFoundError(
        f"{what} needs {package}, which is not installed: pip install {package}", name=error.name
    )
