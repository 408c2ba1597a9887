"""Motion over time on a real server: a list of core's nodes, the text that says the same, and Sonic's network."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui.prompts import Prompt, node, talking
from comfyui.server import Server
from PIL import Image
from released_files import save_torch, shapes_of
from small_models import SMALL_SONIC_MODEL

from dicetalk.audio.projection import AudioToBucket

NOTICES = "dicetalk_notices"
VALUES = [8.0, 30.0, 90.0]


def frames(server: Server, prompt: Prompt) -> tuple[bytes, Any]:
    """Pixels of the sampler's frames, and its notices.

    They are saved as PNG: equal frames may give different videos, because ComfyUI leaves what lies behind the rows to
    the encoder as it is.
    """
    run = server.run(prompt | {"pictures": node("SaveImage", images=["7", 0], filename_prefix="motion")})
    assert run.error is None, run.error
    assert run.executed.count("DICETalk_Sampler") == 1
    pictures = [Image.open(io.BytesIO(server.file(saved).read_bytes())) for saved in run.outputs["pictures"]["images"]]
    return b"".join(picture.convert("RGB").tobytes() for picture in pictures), run.outputs["7"][NOTICES]


def test_a_list_of_core_nodes_is_the_text_of_the_same_numbers(server: Server) -> None:
    prompt = talking(seed=20)
    floats = {f"f{i}": node("PrimitiveFloat", value=value) for i, value in enumerate(VALUES)}
    wires = {f"inputs.input{i}": [f"f{i}", 0] for i in range(len(VALUES))}
    prompt |= floats | {"list": node("CreateList", **wires)}
    prompt["curve"] = node("DICETalk_MotionCurve", values=["list", 0], fps=12.5)
    prompt["7"]["inputs"]["motion_bucket"] = ["curve", 0]
    listed = frames(server, prompt)
    typed = frames(server, talking(seed=20, motion_bucket_over_time=json.dumps(VALUES)))
    assert listed == typed and listed[1] == []
    assert frames(server, talking(seed=20))[0] != typed[0]


def test_a_constant_curve_is_the_number(server: Server) -> None:
    keyframes = json.dumps({"keyframes": [{"time": 0, "value": 20}, {"time": 0.3, "value": 20}]})
    curve = frames(server, talking(seed=21, expression_bucket_over_time=keyframes))
    assert curve == frames(server, talking(seed=21, expression_bucket=20.0))


def test_what_is_no_motion_is_refused_at_its_input_before_anything_runs(server: Server) -> None:
    run = server.run(talking(seed=22, motion_bucket_over_time='{"keyframes": [{"time": 0}]}'))
    (refused,) = json.loads(run.error)["node_errors"]["7"]["errors"]
    assert refused["extra_info"]["input_name"] == "motion_bucket_over_time"
    assert "'value' is missing" in refused["details"]
    assert run.executed == []


@pytest.fixture
def motion_network(base: Path) -> Iterator[Path]:
    """Sonic's motion network alone, where the Sonic packs keep it."""
    path = base / "models" / "sonic" / "audio2bucket.pth"
    path.parent.mkdir(exist_ok=True)
    save_torch(path, shapes_of(AudioToBucket(SMALL_SONIC_MODEL.bucket)))
    yield path
    path.unlink()


def test_sonics_network_drives_the_motion_of_dice_talk(server: Server, motion_network: Path) -> None:
    plain, predicted = talking(seed=23), talking(seed=23)
    predicted["1"]["inputs"]["predict_motion"] = True
    made, notices = frames(server, predicted)
    assert made != frames(server, plain)[0] and notices == []
    predicted["7"]["inputs"]["motion_bucket"] = 50.0
    again, (notice,) = frames(server, predicted)
    assert again == made and "motion_bucket 50 is not used" in notice
    predicted["7"]["inputs"]["motion_amount"] = 2.0
    assert frames(server, predicted)[0] != made


def test_a_motion_network_that_is_not_there_is_named(server: Server) -> None:
    prompt = talking(seed=24)
    prompt["1"]["inputs"]["predict_motion"] = True
    error = server.run(prompt).error
    assert "CheckpointError" in error and "audio2bucket.pth" in error and "LeonJoe13/Sonic" in error
