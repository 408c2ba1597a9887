"""Workflows of the older DICE-Talk pack open with this pack's nodes."""

from typing import Any

from comfy_api.latest import ComfyAPI, io

from .audio_encode import AudioEncode
from .load_model import LoadModel
from .sampler import DiceSampler

OLD_NODES: dict[str, type[io.ComfyNode]] = {
    "Dice_Talk_Loader": LoadModel,
    "Dice_Talk_PreData": AudioEncode,
    "Dice_Talk_Sampler": DiceSampler,
}


async def register_replacements() -> None:
    """Offer a node of this pack for each of the old ones, with this pack's defaults.

    The old nodes' inputs are not these nodes' (the old sampler's one input of prepared data is here a portrait, speech
    and an emotion), so nothing is carried over and the wires are to be connected anew. That has to be said value by
    value: without a mapping the editor takes the old values by their place, into whatever stands there now.
    """
    api = ComfyAPI()
    for old, new in OLD_NODES.items():
        schema = new.define_schema()
        values = [
            {"new_id": port.id, "set_value": _value_of_a_new_node(port)}
            for port in schema.inputs
            if isinstance(port, io.WidgetInput)
        ]
        await api.node_replacement.register(
            io.NodeReplace(new_node_id=schema.node_id, old_node_id=old, input_mapping=values)
        )


def _value_of_a_new_node(port: io.WidgetInput) -> Any:
    """The default; of options without one the first."""
    return port.options[0] if port.default is None else port.default
