"""The flags of a run, made from its options.  The help has one panel for each table of a config file."""

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, TypeAlias

import typer
from rich.markup import escape

from recblr.config import OPTIONS, DataConfig, Option, TrainingConfig

OptionValue: TypeAlias = bool | int | float | str | tuple[str, ...] | None
"""The value of an option of a run; None if it is not given."""

_METAVARS = {int: "N", float: "X", str: "WORD"}
_PANELS = {"data": "Data", "model": "Model", "optimisation": "Optimisation", "loss": "Loss", "run": "Run"}


def with_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for every option of a run to a command.  The last parameter of the command is ``**typed``.

    The value of a flag that was not typed is None; a config file can then give the value.  Options that are
    lists get no flag: the command takes them as arguments.
    """
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    flags = [_parameter(option) for option in OPTIONS.values() if option.type is not tuple]
    command.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    return command


def typed_options(typed: Mapping[str, OptionValue]) -> dict[str, OptionValue]:
    """{key: value} of the flags that were typed.  typed: the ``**typed`` of the command."""
    return {key: value for key in OPTIONS if (value := typed.get(_name(key))) is not None}


def configs_from(*sources: Mapping[str, OptionValue]) -> tuple[TrainingConfig, DataConfig]:
    """The options of several sources, each {key: value}.  A later source overrides an earlier one."""
    values = {key: value for source in sources for key, value in source.items()}
    return TrainingConfig.from_options(values), DataConfig.from_options(values)


def _parameter(option: Option) -> inspect.Parameter:
    flag = f"--{option.key}/--no-{option.key}" if option.type is bool else f"--{option.key}"
    default = (
        "" if option.default is None else f" [dim]{escape(f'[default: {_shown(option.default)}]')}[/dim]"
    )
    about = typer.Option(
        flag,
        help=escape(option.help) + default,
        metavar=_METAVARS.get(option.type),
        show_default=False,
        rich_help_panel=_PANELS[option.table],
    )
    return inspect.Parameter(
        _name(option.key),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[option.type | None, about],
    )


def _name(key: str) -> str:
    return key.replace("-", "_")


def _shown(default: OptionValue) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    return str(default)
