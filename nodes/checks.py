"""Validation of inputs before a workflow runs, with one message at the input concerned."""

from collections.abc import Callable
from typing import Any

import torch

from dicetalk.emotion.prior import PRESET_NAMES, PRIOR_DIM, EmotionPrior
from dicetalk.errors import DiceTalkError

from .prompts import Refused

NAMES_ALONE = {name: EmotionPrior(torch.zeros(PRIOR_DIM), name=name) for name in PRESET_NAMES}
"""Presets that stand for any model's, whose names are the same: enough to find what is wrong with a text."""


class Wanted(str):
    """An input's type, which in ComfyUI's message about a wire of another type says what to connect.

    Args:
        io_type: the type.
        way: what gives it.
    """

    way: str

    def __new__(cls, io_type: str, way: str) -> "Wanted":
        """A type `io_type` that says in messages by which `way` such a value is made."""
        made = super().__new__(cls, io_type)
        made.way = way
        return made

    def __deepcopy__(self, memo: Any) -> "Wanted":  # ComfyUI copies what it says of a node
        return self

    def __format__(self, form: str) -> str:
        return f"{self!s}; connect {self.way}"


def verdict(check: Callable[[], Any]) -> bool | str:
    """Result of a node's `validate_inputs` for one input: true, or the error that `check` raises.

    ComfyUI puts the answer at every input that a node's `validate_inputs` names, and stops checking the range of those,
    so that one input is named alone. It passes none for a value that comes over a wire.
    """
    try:
        check()
    except DiceTalkError as error:
        return str(error)
    return True


def choice_verdict(name: str, chosen: Any, options: tuple[str, ...]) -> bool | str:
    """Result of `validate_inputs` for a choice that decides which inputs there are.

    Args:
        name: of the input.
        chosen: what ComfyUI hands over: a table for an option that it knows, else the value as it was sent.
        options: all that can be chosen.
    """
    if isinstance(chosen, Refused):
        return chosen.why
    if isinstance(chosen, str) and chosen not in options:
        return f"{name} {chosen!r} is unknown. Choose one of: {', '.join(options)}."
    return True
