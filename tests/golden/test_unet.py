"""The UNet with both adapters against the released program."""

import re

import pytest
import torch
from golden_fixtures import Golden, GoldenFile

from dicetalk.config import FULL, PoseGuiderConfig, UNetConfig
from dicetalk.denoise.context import AdapterContext, AttentionContext, mask_pyramid, resize_mask
from dicetalk.denoise.pose_guider import PoseGuider
from dicetalk.denoise.unet import UNet


def load_unet(golden: Golden) -> UNet:
    fixture = golden.file("unet_tiny.safetensors")
    unet = UNet(UNetConfig.from_released(fixture.entry["config"]))
    unet.load_state_dict(fixture.weights(like=unet.state_dict()))
    return unet.eval()


@pytest.fixture(scope="module")
def unet(golden: Golden) -> UNet:
    return load_unet(golden)


@torch.inference_mode()
def run(
    unet: UNet, inputs: dict[str, torch.Tensor], scales: list[float], masked: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    sample = inputs["sample"]
    batch, frames = sample.shape[:2]
    index = torch.arange(batch * frames).reshape(batch, frames)
    mask = (
        mask_pyramid(inputs["mask"], tuple(sample.shape[-2:]), len(unet.config.block_out_channels)) if masked else None
    )
    adapters = tuple(
        AdapterContext(unet.project_adapter(i, inputs[name]), index, scale, mask)
        for i, (name, scale) in enumerate(zip(("audio", "emotion"), scales, strict=True))
    )
    context = AttentionContext(unet.project_clip(inputs["clip"]), index, adapters)
    return unet(sample, inputs["timestep"], inputs["added_time_ids"], context, inputs["spatial_condition"][0])


def cases(fixture: GoldenFile) -> dict[str, tuple[list[float], bool]]:
    """The manifest tells this file's cases in words: `a: scales [1,1] with masks; c: ..., kwargs=None`."""
    found = {}
    for name, scales, rest in re.findall(r"\b([a-z]): scales \[([^\]]*)\]([^;.]*)", fixture.entry["what"]):
        found[name] = ([float(s) for s in scales.split(",")], "None" not in rest)
    return found


def test_cases_with_and_without_masks(golden: Golden, unet: UNet) -> None:
    fixture = golden.file("unet_tiny.safetensors")
    inputs = fixture.inputs()
    checked = set()
    for case, (scales, masked) in cases(fixture).items():
        v, middle = run(unet, inputs, scales, masked)
        fixture.check(f"{case}/sample", v)
        checked.add(f"{case}/sample")
        if f"{case}/mid_block" in fixture.output_names():
            fixture.check(f"{case}/mid_block", middle)
            checked.add(f"{case}/mid_block")
    samples = {name for name in fixture.output_names() if name.endswith(("/sample", "/mid_block"))}
    assert checked == samples


def test_input_of_last_norm(golden: Golden, unet: UNet) -> None:
    fixture = golden.file("unet_tiny.safetensors")
    seen = []
    hook = unet.conv_norm_out.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for name in fixture.output_names():
        if not name.endswith("/conv_norm_out_in"):
            continue
        scales, masked = cases(fixture)[name.split("/")[0]]
        run(unet, fixture.inputs(), scales, masked)
        frames = fixture.inputs()["sample"].shape[1]
        fixture.check(name, seen.pop()[2 * frames : 2 * frames + 2])
    hook.remove()


def test_mask_levels(golden: Golden) -> None:
    fixture = golden.file("unet_tiny.safetensors")
    inputs = fixture.inputs()
    height, width = inputs["sample"].shape[-2:]
    for name in fixture.output_names():
        level = re.search(r"mask_level(\d)$", name)
        if level:
            size = height >> int(level[1]), width >> int(level[1])
            fixture.check(name, mask_pyramid(inputs["mask"], (height, width), 4)[size].flatten())


def test_extra_cases(golden: Golden, unet: UNet) -> None:
    fixture = golden.file("unet_tiny_extra.safetensors")
    for case, settings in fixture.entry["cases"].items():
        v, _ = run(unet, fixture.inputs(f"{case}/"), settings["scale"], masked=True)
        fixture.check(f"{case}/sample", v)


def test_misplaced_mask_is_understood_but_not_copied(golden: Golden) -> None:
    """The release resizes some masks to a wrong shape (a truncated square root); the numbers pin the arithmetic."""
    fixture = golden.file("unet_tiny_extra.safetensors")
    for note in fixture.entry["notes"]:
        described = re.search(
            r"out/(mask_(\d+)x(\d+)_level(\d)).*rows (\d+):(\d+), columns (\d+):(\d+).*resizes to (\d+)x(\d+)", note
        )
        if not described:
            continue
        height, width, level, top, bottom, left, right, wrong_h, wrong_w = map(int, described.groups()[1:])
        mask = torch.zeros(1, 1, height, width)
        mask[..., top:bottom, left:right] = 1
        fixture.check(described[1], resize_mask(mask, (wrong_h, wrong_w)).flatten())
        right_size = (height // 8 >> level, width // 8 >> level)
        assert mask_pyramid(mask, (height // 8, width // 8), 4)[right_size].shape[1] == wrong_h * wrong_w


def test_pose_guider(golden: Golden) -> None:
    fixture = golden.file("pose_guider.safetensors")
    config = fixture.entry["config"]
    guider = PoseGuider(
        PoseGuiderConfig(
            config["conditioning_embedding_channels"],
            config["conditioning_channels"],
            tuple(config["block_out_channels"]),
        )
    )
    guider.load_state_dict(fixture.weights(like=guider.state_dict()))
    for name, clip in fixture.inputs().items():
        with torch.inference_mode():
            features = guider(clip[0].transpose(0, 1)).transpose(0, 1)[None]
        fixture.check(name, features)


@pytest.mark.parametrize(
    ("file", "build"),
    [("unet.pth", lambda: UNet(FULL.unet)), ("pose_guider.pth", lambda: PoseGuider(FULL.pose_guider))],
)
def test_released_keys_and_shapes(golden: Golden, file: str, build) -> None:
    with torch.device("meta"):
        module = build()
    assert {k: list(v.shape) for k, v in module.state_dict().items()} == golden.json(f"keys/{file}.keys.json")
