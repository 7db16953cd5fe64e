"""What is raised for mistakes that a person can mend: one sentence that names the thing and the remedy.

The command line prints that sentence and exits with code 2.
"""


class InputError(ValueError):
    """A file, argument or checkpoint that cannot be used as given.

    problem: what is wrong; or the whole sentence, where nobody asks for a part of it.
    remedy: what to do about it.

    Who wants one part reads its field: a path in the text may hold any punctuation.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        # Both, since pickle and copy call the class with what is given here.
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem


def naming_flag(error: ValueError) -> InputError:
    """The error of a parameter whose name comes first, for somebody who knows it as an option."""
    problem, remedy = (error.problem, error.remedy) if isinstance(error, InputError) else (str(error), "")
    name, _, rest = problem.partition(" ")
    return InputError(f"--{name.replace('_', '-')} {rest}", remedy)


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
