"""Checks of a command's options before any work: paths, outputs that are inputs, options that change nothing."""

import argparse
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from dicetalk.errors import SettingError
from dicetalk.files import check_no_input
from dicetalk.paths import checked_path

OUTPUTS = ("out", "json")
"""Options that name what is written."""

_WEIGHT = re.compile(r"\s*\d*\.?\d+\s*\*\s*")


def check_paths(options: argparse.Namespace) -> None:
    """Refuse paths that no system takes: too long, with a zero byte.

    Raises:
        SettingError: there is one.
    """
    for value in vars(options).values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Path):
                checked_path(each)


def refuse_inputs_as_outputs(options: argparse.Namespace) -> None:
    """Compare what a command shall write with every path among its other options.

    An option that is text names a file if there is such a file, also behind a weight, as in ``0.5*mine.npy``.

    Raises:
        OutputError: an output is an input.
    """
    inputs = dict(_inputs(options))
    for name in OUTPUTS:
        target = getattr(options, name, None)
        if isinstance(target, Path):
            check_no_input(target, inputs)


def _inputs(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    for name, value in vars(options).items():
        if name in OUTPUTS:
            continue
        for each in value if isinstance(value, list) else [value]:
            path = each if isinstance(each, Path) else _named_file(each)
            if path is not None:
                yield f"the input {path} ({name.replace('_', '-')})", path


def _named_file(text: object) -> Path | None:
    """The file that a text names."""
    if not isinstance(text, str):
        return None
    for name in (text, _WEIGHT.sub("", text, count=1)):
        try:
            if Path(name).is_file():
                return Path(name)
        except (OSError, ValueError):  # a sentence can be too long for a name
            continue
    return None


def refuse_idle(options: argparse.Namespace, names: Collection[str], when: str, otherwise: str) -> None:
    """Refuse what is not at its default.

    Args:
        options: as parsed; `default_of` among them is the parser's ``get_default``.
        names: of the options that have no influence.
        when: that is so, after "has no influence".
        otherwise: what else to do, after "Leave it out, or".

    Raises:
        SettingError: an option is given.
    """
    for name in names:
        if getattr(options, name) != options.default_of(name):
            raise SettingError(f"--{name.replace('_', '-')} has no influence {when}. Leave it out, or {otherwise}.")
