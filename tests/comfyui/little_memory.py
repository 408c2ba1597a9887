"""Makes a clip under ComfyUI's own model manager with no free memory on the device; run by ComfyUI's interpreter.

    python little_memory.py COMFYUI PACK MODELS STATE

The only device here is the CPU, which the manager would fill without counting: it is given another device's name.
STATE is one of the manager's ways to run with little memory, NO_VRAM or LOW_VRAM. Prints as JSON how far the clip is
from the one that the library makes by itself, how many layers were left behind, and how many there are.
"""

import importlib
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

COMFYUI, PACK, MODELS, STATE = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, COMFYUI)

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management as memory  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

FREE_BYTES = 200_000
"""Memory for a few layers."""


def main() -> None:
    """Make the clip both ways and compare."""
    spec = spec_from_file_location("pack", Path(PACK) / "__init__.py", submodule_search_locations=[PACK])
    sys.modules["pack"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pack"])
    sys.modules["pack"]._provide_library()

    from dicetalk.audio.speech import load_speech
    from dicetalk.checkpoints.load import load_model
    from dicetalk.emotion.track import EmotionTrack
    from dicetalk.pipeline import generate_latents, render
    from dicetalk.portrait.prepare import prepare_portrait
    from dicetalk.residency import CPU
    from dicetalk.settings import SamplerSettings

    hosting = importlib.import_module("pack.nodes.residency")
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    hum = np.sin(np.arange(6400) / 20, dtype=np.float32)
    settings = SamplerSettings(steps=2, schedule="tight", window=5)

    def clip(residency: object, **how: object) -> torch.Tensor:
        model = load_model(MODELS, dtype=torch.float32, **how)
        portrait = prepare_portrait(
            picture, whole_picture=True, short_side=64, clip_size=model.config.image_encoder.image_size
        )
        track = EmotionTrack.constant(model.priors["happy"])
        speech = load_speech((hum, 16_000))
        latents = generate_latents(model, portrait, speech, track, settings, residency=residency)
        return torch.cat(list(render(model, latents, residency=residency).chunks))

    memory.is_device_cpu = lambda device: False
    memory.vram_state = memory.VRAMState[STATE]
    memory.get_free_memory = lambda *device: FREE_BYTES
    memory.minimum_inference_memory = lambda: 0
    with torch.inference_mode():  # as ComfyUI runs nodes
        residency = hosting.ComfyResidency()
        difference = (clip(residency, operations=hosting.Operations) - clip(CPU)).abs().max().item()
    layers = [
        layer for network in residency.patchers for layer in network.modules() if isinstance(layer, hosting.LAYERS)
    ]
    left = sum(hasattr(layer, "prev_comfy_cast_weights") for layer in layers)
    print(json.dumps({"difference": difference, "left": left, "layers": len(layers)}))


main()
