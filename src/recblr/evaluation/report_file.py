"""Reports on disk: a reader that trusts nothing and a writer that leaves nothing half-written."""

import json
import os
from pathlib import Path

from recblr.errors import InputError
from recblr.evaluation.schema import Report, check_report
from recblr.io.atomic import atomic_path


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as UTF-8 JSON, atomically: `path` holds the old file or the new one, never a part.

    Raises InputError if the folder cannot be written to, ValueError or TypeError (before anything is
    written) if the report is not plain, finite JSON.
    """
    path = Path(path)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")


def read_report(path: str | os.PathLike[str]) -> Report:
    """The report in `path`. Raises InputError if it is missing, unreadable, damaged or not a report."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"there is no report {path}; evaluate the run to write one") from error
    except OSError as error:
        raise InputError(
            f"cannot read the report {path}: {error.strerror}; give the path of a readable report.json"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a recblr report: it is not UTF-8 text; give the path of a report.json"
        ) from error
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the report {path} is damaged: it is not valid JSON; evaluate the run again to write a new one"
        ) from error
    return check_report(report, str(path))
