"""The UNet with its adapters against the released programs."""

import re
from dataclasses import dataclass

import pytest
import torch
from golden_fixtures import Golden, GoldenFile

from dicetalk.config import FULL, PoseGuiderConfig, UNetConfig
from dicetalk.denoise.attention import AdapterContext, AttentionContext, mask_pyramid, resize_mask
from dicetalk.denoise.conditioning import PoseGuider
from dicetalk.denoise.unet import UNet

FILES = r"(sonic_)?unet.*\.safetensors"
ADAPTERS = ("audio", "emotion")  # Sonic has the first alone


@pytest.fixture(scope="module")
def unet(file: GoldenFile) -> UNet:
    """The network of `file`; a file without sizes continues another one's cases and uses its network."""
    owner = (
        file
        if "config" in file.entry
        else next((other for other in map(file.golden.file, file.golden.names(FILES)) if "config" in other.entry), file)
    )
    unet = UNet(UNetConfig.from_released(owner.entry["config"]))
    unet.load_state_dict(owner.weights(like=unet.state_dict()))
    return unet.eval()


@dataclass(frozen=True)
class Settings:
    """Scale of each adapter, and the face mask ``(1, 1, H, W)`` or `None`."""

    scales: list[float]
    mask: torch.Tensor | None


def settings_of(file: GoldenFile, case: str) -> Settings:
    """From the table of cases, or else from prose (`a: scales [1,1] with masks; c: ..., kwargs=None`)."""
    table, said, inputs = file.cases[case], file.said_of(case), file.inputs_of(case)
    scales = table.get("scale", table.get("scales"))
    if scales is None:
        written = re.search(r"scales? (?:\[([^\]]*)\]|([\d.]+))", said)
        if not written:
            pytest.skip(f"{file.name}, case {case}: the manifest says nowhere which scales it has")
        scales = [float(number) for number in (written[1] or written[2]).split(",")]
    scales = scales if isinstance(scales, list) else [scales] * len(ADAPTERS)
    masked = table.get("masked")
    if masked is None and "mask_rect" in table:
        masked = table["mask_rect"] is not None
    if masked is None and re.search(r"\bNone\b|\b(?:without|no) masks?", said):
        masked = False
    if masked is None:
        masked = bool(re.search(r"\bmasks?\b", said)) or "mask" in inputs
    return Settings(scales, mask_of(file, case) if masked else None)


def mask_of(file: GoldenFile, case: str) -> torch.Tensor:
    """The stored mask of `case`, or the rectangle that the manifest describes."""
    inputs, table = file.inputs_of(case), file.cases[case]
    if "mask" in inputs:
        return inputs["mask"]
    rectangle = table.get("mask_rect")
    if rectangle is None:
        written = re.search(r"ones in rows (\d+):(\d+), columns (\d+):(\d+)", file.words)
        rectangle = [int(number) for number in written.groups()] if written else None
    if rectangle is None:
        return inputs["mask"]  # skips the test and says what is missing
    top, bottom, left, right = rectangle
    height, width = inputs["sample"].shape[-2:]
    mask = torch.zeros(1, 1, 8 * height, 8 * width)
    mask[..., top:bottom, left:right] = 1
    return mask


def pyramid(unet: UNet, inputs: dict[str, torch.Tensor], mask: torch.Tensor) -> dict[tuple[int, int], torch.Tensor]:
    return mask_pyramid(mask, tuple(inputs["sample"].shape[-2:]), len(unet.config.block_out_channels))


@torch.inference_mode()
def run(unet: UNet, inputs: dict[str, torch.Tensor], settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    names = ADAPTERS[: unet.config.num_adapters]
    sample = inputs["sample"]
    batch, frames = sample.shape[:2]
    index = torch.arange(batch * frames).reshape(batch, frames)
    mask = None if settings.mask is None else pyramid(unet, inputs, settings.mask)
    adapters = tuple(
        AdapterContext(unet.project_adapter(i, inputs[name]), index, scale, mask)
        for i, (name, scale) in enumerate(zip(names, settings.scales[: len(names)], strict=True))
    )
    context = AttentionContext(unet.project_clip(inputs["clip"]), index, adapters)
    pose = inputs["spatial_condition"][0] if "spatial_condition" in inputs else None
    return unet(sample, inputs["timestep"], inputs["added_time_ids"], context, pose)


@pytest.mark.cases_of_set(FILES)
def test_case(file: GoldenFile, unet: UNet, case: str) -> None:
    inputs, settings = file.inputs_of(case), settings_of(file, case)
    seen = []
    hook = unet.conv_norm_out.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    v, middle = run(unet, inputs, settings)
    hook.remove()
    made = {f"{case}/sample": v, f"{case}/mid_block": middle}
    last = f"{case}/conv_norm_out_in"
    if last in file.output_names():
        start = 2 * inputs["sample"].shape[1]  # of the third guidance branch, only its first frames are recorded
        made[last] = seen[0][start : start + len(file.tensors[f"out/{last}"])]
    if settings.mask is not None:
        for level, resized in enumerate(pyramid(unet, inputs, settings.mask).values()):
            made[f"{case}/mask_level{level}"] = resized.flatten()
    file.check_recorded(made)


@pytest.mark.files_of_set(FILES)
def test_misplaced_mask_is_understood_but_not_copied(file: GoldenFile) -> None:
    """The release resizes some masks to a wrong shape (a truncated square root); the numbers pin the arithmetic."""
    described_masks = re.finditer(
        r"out/(mask_(\d+)x(\d+)_level(\d)).*rows (\d+):(\d+), columns (\d+):(\d+).*resizes to (\d+)x(\d+)", file.words
    )
    found = [described for described in described_masks if described[1] in file.output_names()]
    if not found:
        pytest.skip(f"{file.name} records no such mask")
    for described in found:
        height, width, level, top, bottom, left, right, wrong_h, wrong_w = map(int, described.groups()[1:])
        mask = torch.zeros(1, 1, height, width)
        mask[..., top:bottom, left:right] = 1
        file.check(described[1], resize_mask(mask, (wrong_h, wrong_w)).flatten())
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
        fixture.check_recorded({name: features})


@pytest.mark.parametrize(
    ("file", "build"),
    [("unet.pth", lambda: UNet(FULL.unet)), ("pose_guider.pth", lambda: PoseGuider(FULL.pose_guider))],
)
def test_released_keys_and_shapes(golden: Golden, file: str, build) -> None:
    with torch.device("meta"):
        module = build()
    assert {k: list(v.shape) for k, v in module.state_dict().items()} == golden.json(f"keys/{file}.keys.json")
