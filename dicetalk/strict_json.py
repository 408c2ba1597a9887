"""JSON of users, read strictly: no doubled entries, no NaN, no entries that nobody reads.

`error` is the class that is raised; messages name the entry and its value.
"""

import json
from typing import Any

from dicetalk.errors import DiceTalkError


def parse_json(content: str | bytes, error: type[DiceTalkError]) -> Any:
    """The value of JSON text."""

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in pairs:
            if name in made:
                raise error(f"The entry {excerpt(name)} occurs twice in one table.")
            made[name] = value
        return made

    def no_constant(name: str) -> float:
        raise error(f"The value {name} is not a number.")

    try:
        return json.loads(content, object_pairs_hook=table, parse_constant=no_constant)
    except (ValueError, RecursionError) as fault:
        raise error(f"this is not JSON: {fault}.") from fault


def number(value: Any, what: str, error: type[DiceTalkError]) -> float:
    """`value`, if it is a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise error(f"{what}: expected a number, got {excerpt(value)}.")
    try:
        return float(value)
    except OverflowError:
        raise error(f"{what}: the number is too large.") from None


def check_names(table: dict[str, Any], names: set[str], what: str, error: type[DiceTalkError]) -> None:
    """Refuse a table with other entries than `names`."""
    unknown = sorted(set(table) - names)
    if unknown:
        raise error(f"{what} has the unknown entry {excerpt(unknown[0])}. Known: {', '.join(sorted(names))}.")


def excerpt(value: Any) -> str:
    """`value` for a message, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
