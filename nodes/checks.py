"""What is refused before a workflow runs: wires of another kind, and values that no run could use."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from comfy_api.latest import io

from dicetalk.emotion.prior import PRESET_NAMES, PRIOR_DIM, EmotionPrior
from dicetalk.errors import DiceTalkError

WAYS = {
    "DICE_MODEL": "Load DICE Model",
    "DICE_SPEECH": "Audio Encode's speech",
    "DICE_EMOTION": "an emotion of Emotion Bank Mix, Emotion Timeline, Extract Emotion Prior or Load Emotion",
    "DICE_PORTRAIT": "Portrait Crop's portrait",
    "IMAGE": "images, for example of Load Image",
    "AUDIO": "sound, for example of Load Audio",
    "VIDEO": "a video, for example of Load Video",
    "MASK": "a mask, for example of Load Image",
    "BOUNDING_BOX": "the box of a face detector",
}
"""What to connect to an input, by its type."""

ANY = "*"

NAMES_ALONE = {name: EmotionPrior(torch.zeros(PRIOR_DIM), name=name) for name in PRESET_NAMES}
"""Presets that stand for any model's, whose names are the same: enough to find what is wrong with a text."""


class CheckedNode(io.ComfyNode):
    """A node whose wires say what to connect instead of what does not fit.

    A node with values to check overrides :meth:`validate_inputs` with :func:`verdict`. ComfyUI passes none for a value
    that comes over a wire, leaves out what is missing, and stops checking the range of a value that is named there.
    """

    @classmethod
    def validate_inputs(cls, input_types: Mapping[str, Any]) -> bool | str:
        return verdict(cls, input_types)


def verdict(node: type[io.ComfyNode], input_types: Mapping[str, Any], *checks: Callable[[], Any]) -> bool | str:
    """What `validate_inputs` returns: true, or all that is wrong.

    Args:
        node: whose inputs they are.
        input_types: type of what is connected, by input. Who asks ComfyUI for it has to compare the types.
        checks: of values; each raises :class:`dicetalk.errors.DiceTalkError` for what is wrong.
    """
    expected = {port.id: port.get_io_type() for port in node.define_schema().inputs}
    problems = [
        f"{name}: got {received}; connect {WAYS.get(expected[name], expected[name])}."
        for name, received in input_types.items()
        if name in expected and not fits(received, expected[name])
    ]
    for check in checks:
        try:
            check()
        except DiceTalkError as error:
            problems.append(str(error))
    return " ".join(problems) or True


def fits(received: Any, expected: str) -> bool:
    """Whether an output of the type `received` may be connected to an input of the type `expected`.

    Either may be several types with commas between, of which one in common is enough.
    """
    # Older packs have a type for everything that is no other text than any: it answers "not equal" with no.
    if not received != expected:  # noqa: SIM202
        return True
    # The options of a list stand for its type in older packs; what adapts its type is checked by the editor.
    if not isinstance(received, str) or received == io.MatchType.io_type:
        return True
    offered, taken = ({kind.strip() for kind in types.split(",")} for types in (received, expected))
    return ANY in offered or bool(offered & taken)
