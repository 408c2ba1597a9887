"""Workflows of the older DICE-Talk pack open with this pack's nodes."""

from comfy_api.latest import ComfyAPI, io

OLD_NODES = {
    "Dice_Talk_Loader": "DICETalk_LoadModel",
    "Dice_Talk_PreData": "DICETalk_AudioEncode",
    "Dice_Talk_Sampler": "DICETalk_Sampler",
}


async def register_replacements() -> None:
    """Offer a node of this pack for each of the old ones.

    Inputs and outputs are carried over where they have the same name, which is ComfyUI's rule where none is given: the
    old sampler's one input of prepared data is here a portrait, speech and an emotion.
    """
    api = ComfyAPI()
    for old, new in OLD_NODES.items():
        await api.node_replacement.register(io.NodeReplace(new_node_id=new, old_node_id=old))
