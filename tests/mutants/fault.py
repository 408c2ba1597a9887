"""Faults put in on purpose, and the tests that have to notice them.

A fault whose `equivalent` is filled changes nothing that anyone could see, for the reason given there; its tests must
stay green.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: what goes wrong.
        file: in the repository.
        before: a place that is in the file exactly once.
        after: what stands there instead.
        tests: files that are run.
        equivalent: why nobody can see it; empty if somebody must.
    """

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]
    equivalent: str = ""


def faults_in(file: str, tests: tuple[str, ...], *places: tuple[str, ...]) -> list[Fault]:
    """Faults of one file: name, before, after, and why it is equivalent if it is."""
    return [Fault(name, file, before, after, tests, *rest) for name, before, after, *rest in places]
