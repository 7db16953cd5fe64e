"""Errors for mistakes that the user can correct: one sentence that names the thing and the remedy.

The command line prints that sentence and exits with code 2.
"""


class InputError(ValueError):
    """A file, an argument or a checkpoint cannot be used as given.

    problem: what is wrong.  It may hold the whole sentence where no code needs the remedy alone.
    remedy: what to do about it.

    Code that needs one part reads its field and does not split the text: a path in the text may hold any
    punctuation.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        # Both arguments are passed on, because pickle and copy call the class with them again.
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


def naming_flag(error: ValueError) -> InputError:
    """The same error with the option's flag in place of the parameter's name, which is its first word."""
    problem, remedy = (error.problem, error.remedy) if isinstance(error, InputError) else (str(error), "")
    name, _, rest = problem.partition(" ")
    return InputError(f"--{name.replace('_', '-')} {rest}", remedy)


def needed(what: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """The same error with a message that says what needs the package and how to install it.

    A missing module of recblr itself means a broken installation: that error is returned unchanged.
    """
    package = (error.name or "").partition(".")[0]
    if package in ("", "recblr"):
        return error
    return ModuleNotFoundError(
        f"{what} needs {package}, which is not installed: pip install {package}", name=error.name
    )
