"""Every target; here and not in :mod:`fuzz.__main__`, because a spawned process finds it by its name."""

from fuzz import node_inputs, readers
from fuzz.case import Target


def all_targets() -> list[Target]:
    """The readers, and the nodes where their stand-in is installed."""
    return [*readers.targets(), *node_inputs.targets()]
