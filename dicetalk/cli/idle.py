"""Options that would change nothing are refused: whoever gives one expects that it does."""

import argparse
from collections.abc import Mapping
from typing import Any

from dicetalk.errors import SettingError


def refuse_idle(options: argparse.Namespace, defaults: Mapping[str, Any], when: str, otherwise: str) -> None:
    """Refuse what is not at its default.

    Args:
        options: as parsed.
        defaults: of the options that have no influence, by name.
        when: that is so, after "has no influence".
        otherwise: what else to do, after "Leave it out, or".

    Raises:
        SettingError: an option is given.
    """
    for name, default in defaults.items():
        if getattr(options, name) != default:
            raise SettingError(f"--{name.replace('_', '-')} has no influence {when}. Leave it out, or {otherwise}.")
