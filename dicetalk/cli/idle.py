"""Options that would change nothing are refused: whoever gives one expects that it does."""

import argparse
from collections.abc import Collection

from dicetalk.errors import SettingError


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
