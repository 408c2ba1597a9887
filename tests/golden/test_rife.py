"""The flow network against the released program's flows, masks and middle frames."""

import re

import pytest
import torch
import torch.nn.functional as F
from golden_fixtures import Golden, GoldenFile

from dicetalk.video.interpolate import interpolate_frames
from dicetalk.video.rife import FlowNet


@pytest.fixture(scope="module")
def rife(golden: Golden) -> GoldenFile:
    return golden.file("rife.safetensors")


@pytest.fixture(scope="module")
def flownet(rife: GoldenFile) -> FlowNet:
    flownet = FlowNet(rife.entry["config"]["c"])
    unused_in_inference = {
        k: torch.zeros_like(v) for k, v in flownet.state_dict().items() if k.startswith("block_tea.")
    }
    used = {k: v for k, v in flownet.state_dict().items() if k not in unused_in_inference}
    flownet.load_state_dict(unused_in_inference | rife.weights(like=used))
    return flownet.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def frames(rife: GoldenFile) -> torch.Tensor:
    """(N, 3, H, W)"""
    return rife.inputs()["frames"][0].transpose(0, 1)


def test_keys_and_shapes_are_the_released_ones(golden: Golden) -> None:
    released = golden.json("keys/flownet.pkl.keys.json")
    ours = {f"module.{k}": list(v.shape) for k, v in FlowNet().state_dict().items()}
    assert ours == released


def test_scales_are_the_released_ones(rife: GoldenFile) -> None:
    assert list(FlowNet.scales) == rife.entry["config"]["scale_list"]


def test_every_output(rife: GoldenFile, flownet: FlowNet, frames: torch.Tensor) -> None:
    estimates = list(flownet.estimates(frames[:1], frames[1:2]))
    for name in rife.output_names():
        kind, numbers, scale = re.fullmatch(r"([a-z]+)(\d+)(?:_scale(.+))?", name).groups()
        if kind == "mid":
            i, j = (int(digit) for digit in numbers)
            actual = flownet(frames[i : i + 1], frames[j : j + 1], float(scale or 1))
        else:
            estimate = estimates[int(numbers)]
            actual = {"flow": estimate.flow, "mask": estimate.mask, "merged": estimate.middle}[kind]
        rife.check(name, actual)


def test_interpolated_clip(rife: GoldenFile, flownet: FlowNet, frames: torch.Tensor) -> None:
    clip = torch.cat(list(interpolate_frames(flownet, [frames], len(frames))))
    assert len(clip) == 2 * len(frames) - 1
    assert torch.equal(clip[::2], frames)
    recorded = {f"mid{i}{i + 1}": i for i in range(len(frames) - 1) if f"mid{i}{i + 1}" in rife.output_names()}
    if not recorded:
        pytest.skip(f"{rife.name}: no middle frame of neighbours is recorded")
    for name, i in recorded.items():
        middle = clip[2 * i + 1]
        rife.check(name, middle[None], rife.tensors[f"out/{name}"].clamp(0, 1))


def test_sizes_that_the_released_program_takes_are_not_padded(rife: GoldenFile, flownet: FlowNet) -> None:
    width, heights = rife.entry["size_scan"]["width"], rife.entry["size_scan"]["heights"]
    multiple = flownet.size_multiple()
    assert all(height % multiple == 0 for height in [width, *heights["ok"]])
    assert all(int(height) % multiple for height in heights["fails"])
    for height in heights["ok"]:
        first, second = pair(height, width)
        _, middle, _ = interpolated(flownet, first, second)
        assert torch.equal(middle, flownet(first, second)[0].clamp(0, 1))


def test_sizes_that_the_released_program_fails_on_are_padded_by_their_edge(rife: GoldenFile, flownet: FlowNet) -> None:
    width, heights = rife.entry["size_scan"]["width"], rife.entry["size_scan"]["heights"]
    for height in map(int, heights["fails"]):
        for turned in (False, True):
            first, second = pair(height, width, turned)
            _, middle, _ = interpolated(flownet, first, second)
            padding = (0, -first.shape[3] % flownet.size_multiple(), 0, -first.shape[2] % flownet.size_multiple())
            padded = flownet(*(F.pad(x, padding, mode="replicate") for x in (first, second)))
            assert torch.equal(middle, padded[0, :, : first.shape[2], : first.shape[3]].clamp(0, 1))


def pair(height: int, width: int, turned: bool = False) -> torch.Tensor:
    noise = torch.rand(2, 1, 3, height, width, generator=torch.Generator().manual_seed(height))
    return noise.transpose(3, 4) if turned else noise


def interpolated(flownet: FlowNet, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return torch.cat(list(interpolate_frames(flownet, [first, second], 2)))
