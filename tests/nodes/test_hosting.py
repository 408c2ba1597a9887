"""ComfyUI's memory, progress, Cancel and replacements, lent to the library."""

import gc
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from comfyui.prompts import FACE, SAMPLER, nested
from PIL import Image
from torch import nn

from dicetalk.emotion.reference.face_track import LOOK_EVERY
from dicetalk.video.decode import LatentPreview

ROOT = Path(__file__).parents[2]


SMILE = ROOT / "examples" / "portrait.jpg"


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Any], dict[str, Any]]]:
    """What the manager was asked to load."""
    import comfy.model_management

    calls: list[tuple[list[Any], dict[str, Any]]] = []
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda models, **how: calls.append((models, how)))
    return calls


def test_networks_of_one_stage_are_asked_for_in_one_call(model: Any, loads: Any) -> None:
    dice = model.dice
    with model.residency(dice.unet, dice.audio_projection, dice.emotion_model, memory_required=123) as device:
        assert device == torch.device("cpu")
    ((patchers, how),) = loads
    assert [patcher.model.network for patcher in patchers] == [dice.unet, dice.audio_projection, dice.emotion_model]
    assert how == {"memory_required": 123, "force_full_load": False}
    with model.residency(dice.unet):
        pass
    assert loads[1][0][0] is patchers[0]  # the manager recognises it


def test_the_manager_knows_each_network_by_its_own_name(model: Any, loads: Any) -> None:
    dice = model.dice
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))
    with model.residency(dice.unet, dice.vae, scripted):
        pass
    names = [type(patcher.model).__name__ for patcher in loads[0][0]]
    assert names == ["UNet", "AutoencoderKLTemporalDecoder", "Linear"]


def test_networks_of_other_libraries_are_loaded_as_a_whole(model: Any, loads: Any) -> None:
    for network in (model.dice.vae, model.dice.image_encoder, model.dice.whisper, model.dice.flownet):
        with model.residency(network):
            pass
    assert [how["force_full_load"] for _, how in loads] == [True] * 4


def test_what_the_manager_left_behind_is_brought_over_and_taken_back(
    node_module: Any, loads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("meta"))
    network = nn.Linear(2, 2)
    for end in (None, comfy.model_management.InterruptProcessingException()):
        moves = []
        network = nn.Linear(2, 2)
        move = network.to
        monkeypatch.setattr(network, "to", lambda device, moves=moves, move=move: moves.append(device) or move("meta"))
        with (
            pytest.raises(type(end)) if end else nullcontext(),
            node_module("residency").ComfyResidency()(network) as device,
        ):
            assert device.type == "meta" and network.weight.device.type == "meta"
            if end:
                raise end
        assert [torch.device(place).type for place in moves] == ["meta", "cpu"]


def test_layers_may_be_anywhere_when_they_are_used(model: Any, node_module: Any) -> None:
    hosting = node_module("residency")
    for network in (model.dice.unet, model.dice.audio_projection, model.dice.emotion_model, model.dice.pose_guider):
        assert hosting.can_be_split(network)
        kinds = {type(m) for m in network.modules() if list(m.parameters(recurse=False))}
        plain = {kind.__name__ for kind in kinds if not issubclass(kind, hosting.LAYERS)}
        assert plain <= {"AlphaBlender"}  # it moves its one number itself


def test_nothing_of_others_is_unloaded() -> None:
    source = "".join(path.read_text() for path in (ROOT / "nodes").glob("*.py"))
    for call in ("unload_all_models", "empty_cache", ".cuda(", "manual_seed"):
        assert call not in source


def test_progress_fills_one_bar(node_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.utils

    shown = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda self, *values: shown.append(values))
    hooks = node_module("hooks").comfy_hooks({"sample": 80, "decode": 20})
    hooks.report("sample", 1, 2)
    hooks.report("speech", 1, 1)
    hooks.report("sample", 2, 2)
    hooks.report("decode", 5, 10)
    assert [value for value, _, _ in shown] == [400, 800, 900]


def test_previews_are_drawn_if_the_user_wants_them(node_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import comfy.utils
    from comfy.cli_args import LatentPreviewMethod, args

    shown = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda self, *values: shown.append(values[2]))
    monkeypatch.setattr(args, "preview_size", 512, raising=False)
    hooks_module = node_module("hooks")
    draw = hooks_module.clip_preview(LatentPreview(torch.zeros(5, 3)), frames=9)
    hooks = hooks_module.with_preview(hooks_module.comfy_hooks({"sample": 1}), draw)
    for method in (LatentPreviewMethod.NoPreviews, LatentPreviewMethod.Auto):
        monkeypatch.setattr(args, "preview_method", method)
        hooks.report("sample", 1, 2, torch.zeros(12, 4, 6, 5))
    assert shown[0] is None
    kind, picture, size = shown[1]
    assert (kind, size) == ("JPEG", 512) and isinstance(picture, Image.Image) and picture.size == (4 * 5, 6)


@pytest.mark.parametrize("frames", [1, 2, 100])
def test_a_preview_shows_the_clip_and_not_its_padding(node_module: Any, frames: int) -> None:
    latents = torch.zeros(frames + 25, 4, 2, 2)
    latents[frames:] = 1e6
    weights = torch.zeros(5, 3)
    weights[0] = 1
    picture = node_module("hooks").clip_preview(LatentPreview(weights), frames)(latents)
    assert picture.size == (2 * min(frames, 4), 2) and picture.getextrema() == ((0, 0),) * 3


def test_cancel_leaves_by_comfyuis_own_exception(node_module: Any) -> None:
    import comfy.model_management as management

    hooks = node_module("hooks").comfy_hooks({"sample": 1})
    hooks.check()
    management.interrupt_current_processing(True)
    with pytest.raises(management.InterruptProcessingException):
        hooks.check()
    hooks.check()


def test_cancel_reaches_every_long_stage(nodes: dict[str, Any], model: Any, audio: Any, image: Any, box: Any) -> None:
    import comfy.model_management as management

    crop = (FACE, 64, 1.1)
    stages = {
        "load": lambda: nodes["DICETalk_LoadModel"].execute("dicetalk.safetensors", "auto", "fp32"),
        "speech": lambda: nodes["DICETalk_AudioEncode"].execute(model, audio, 0.0, 0.0),
        "portrait": lambda: nodes["DICETalk_PortraitCrop"].execute(model, image, *crop, box=box),
        "interpolate": lambda: nodes["DICETalk_FrameInterpolate"].execute(model, image.repeat(3, 1, 1, 1), 12.5, "2"),
    }
    for stage in stages.values():
        management.interrupt_current_processing(True)
        with pytest.raises(management.InterruptProcessingException):
            stage()
    assert not management.processing_interrupted()


@pytest.mark.parametrize(
    ("stage", "first", "last"),
    [("sample", 51, 849), ("decode", 851, 949), ("watch", 1, 599)],
)
def test_cancel_in_the_middle_of_a_stage_calls_no_network_more_and_leaves_nothing(
    nodes: dict[str, Any], model: Any, portrait: Any, speech: Any, stage: str, first: int, last: int, monkeypatch: Any
) -> None:
    """`first` and `last` are where the bar stands within the stage, see the nodes' shares; decoding goes hand in hand
    with interpolating. The networks' own place is the manager's affair, and what is brought over beside it is taken
    back, which a test above shows: here it is about everything else."""
    import comfy.model_management as management
    import comfy.utils

    emotion = model.emotion(model.dice.priors["happy"])
    short = nested(SAMPLER | {"preset.steps": 4, "decode_chunk": 1})
    smile = torch.from_numpy(np.array(Image.open(SMILE).convert("RGB").resize((256, 256))))[None] / 255

    def work() -> None:
        if stage == "watch":
            extract = nodes["DICETalk_ExtractEmotionPrior"].execute
            extract(model, {"result": "one emotion", "strength": 1.0}, 12.5, images=smile.expand(40, -1, -1, -1))
        else:
            nodes["DICETalk_Sampler"].execute(model, portrait, speech, emotion, **short)

    pressed, updates, calls = [], [], []

    def update(bar: Any, value: int, *rest: Any) -> None:
        updates.append(value)
        if armed and not pressed and first <= value <= last:
            pressed.append(len(calls))
            management.interrupt_current_processing(True)

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", update)
    dice = model.dice
    watched = [each.register_forward_hook(lambda *_: calls.append(1)) for each in (dice.unet, dice.flownet)]
    watched.append(dice.vae.decoder.register_forward_hook(lambda *_: calls.append(1)))
    try:
        armed = False
        work()  # what is kept between runs is there from here on
        armed = True
        before = living_bytes()
        updates.clear()
        with pytest.raises(management.InterruptProcessingException):
            work()
    finally:
        for hook in watched:
            hook.remove()
    assert pressed == [len(calls)]
    assert len([value for value in updates if value > first]) <= 1 + LOOK_EVERY * (stage == "watch")
    assert max(updates) <= last
    assert living_bytes() <= before
    assert not management.processing_interrupted()


def living_bytes() -> int:
    """Of all tensors that anything still holds: weights, and whatever a run left behind."""
    gc.collect()
    return sum(
        each.untyped_storage().nbytes() for each in gc.get_objects() if type(each) in (torch.Tensor, nn.Parameter)
    )


def test_one_device_may_have_two_names(node_module: Any) -> None:
    same = node_module("residency")._same
    assert same(torch.device("mps"), torch.device("mps:0")) and same(torch.device("cpu"), torch.device("cpu"))
    assert not same(torch.device("cuda:1"), torch.device("cuda")) and not same(
        torch.device("cpu"), torch.device("meta")
    )


@pytest.mark.parametrize(
    ("answered", "has_fp16", "taken"),
    [
        (torch.bfloat16, True, torch.bfloat16),
        (torch.float8_e4m3fn, True, torch.float16),
        (torch.float64, False, torch.float32),
    ],
)
def test_a_number_format_for_all_unets_that_this_one_does_not_have(
    node_module: Any, answered: torch.dtype, has_fp16: bool, taken: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    import comfy.model_management as management

    monkeypatch.setattr(management, "unet_dtype", lambda *_: answered, raising=False)
    monkeypatch.setattr(management, "should_use_fp16", lambda *_: has_fp16, raising=False)
    assert node_module("load_model")._fitting_dtype() == taken


def test_old_nodes_are_replaced(replacements: list[Any], nodes: dict[str, Any]) -> None:
    assert {each.old_node_id for each in replacements} == {
        "Dice_Talk_Loader",
        "Dice_Talk_PreData",
        "Dice_Talk_Sampler",
    }
    assert {each.new_node_id for each in replacements} <= set(nodes)


def test_no_value_of_an_old_node_lands_in_another_field(replacements: list[Any], nodes: dict[str, Any]) -> None:
    for each in replacements:
        ports = {port.id: port for port in nodes[each.new_node_id].define_schema().inputs}
        fields = {name: port for name, port in ports.items() if hasattr(port, "default")}
        mapping = each.as_dict()["input_mapping"]
        assert all(entry.keys() == {"new_id", "set_value"} for entry in mapping)
        values = {entry["new_id"]: entry["set_value"] for entry in mapping}
        assert values.keys() == fields.keys() and None not in values.values()
        assert all(values[name] == port.default for name, port in fields.items() if port.default is not None)
    loader = next(each for each in replacements if each.old_node_id == "Dice_Talk_Loader")
    assert {"new_id": "svd", "set_value": "auto"} in loader.input_mapping


def test_a_second_copy_of_the_pack_is_refused(pack: ModuleType, tmp_path: Path, monkeypatch: Any) -> None:
    elsewhere = ModuleType("dicetalk")
    elsewhere.__file__ = str(tmp_path / "dicetalk" / "__init__.py")
    monkeypatch.setitem(sys.modules, "dicetalk", elsewhere)
    with pytest.raises(ImportError, match="twice"):
        pack._provide_library()
