"""Face box, crop, mask, resizing and CLIP pixels against the released program."""

import hashlib
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from golden_fixtures import Golden, GoldenFile

from dicetalk.portrait.faces import FaceBox
from dicetalk.portrait.prepare import Portrait, crop_region, face_mask, network_size, prepare_portrait, resize
from dicetalk.video.decode import decode_frames


@pytest.fixture
def fixtures(golden: Golden) -> GoldenFile:
    return golden.file("preprocess.safetensors")


@pytest.fixture
def table(golden: Golden) -> dict[str, Any]:
    return golden.json("preprocess.json")


def prepared(fixtures: GoldenFile, case: dict[str, Any]) -> Portrait:
    return prepare_portrait(
        fixtures.tensors[f"in/{case['name']}/image_u8"].numpy(),
        box=case["box"],
        short_side=case["size"],
        mask_scale=case["area"],
        clip_size=case["clip_images"][-1],
    )


@pytest.fixture
def to_the_last_bit(fixtures: GoldenFile) -> bool:
    """Older Pillows differ in a few pixels of strong reductions: checksums hold from the fixtures' version on."""
    made_by = re.search(r"Pillow (\d+)\.", fixtures.entry.get("made_by", ""))
    return made_by is None or int(PIL.__version__.partition(".")[0]) >= int(made_by[1])


def sha256(values: torch.Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


def test_images(fixtures: GoldenFile, table: dict[str, Any]) -> None:
    assert table["images"]
    for name, case in table["images"].items():
        portrait = prepared(fixtures, case)
        made = {f"{name}/ref_img": portrait.image, f"{name}/face_mask": portrait.mask}
        for output in fixtures.output_names(f"{name}/clip_images_stride"):
            stride = int(output.rpartition("stride")[2])
            made[output] = portrait.clip_pixels[:, ::stride, ::stride]
        fixtures.check_recorded(made)


def test_images_to_the_last_bit(fixtures: GoldenFile, table: dict[str, Any], to_the_last_bit: bool) -> None:
    if not to_the_last_bit:
        pytest.skip(f"Pillow {PIL.__version__} is older than the fixtures'")
    for case in table["images"].values():
        portrait = prepared(fixtures, case)
        mask = portrait.mask.expand(3, -1, -1)  # stored with three equal channels
        for key, values in (("ref_img", portrait.image), ("face_mask", mask), ("clip_images", portrait.clip_pixels)):
            assert list(values.shape) == case[key]
            assert sha256(values) == case[f"sha256_{key}"], f"{case['name']} {key}"
        assert [portrait.mask.min().item(), portrait.mask.max().item()] == case["mask_min_max"]
        assert len(portrait.mask.unique()) == case["mask_distinct_values"]


def test_sizes_and_masks(table: dict[str, Any], to_the_last_bit: bool) -> None:
    assert table["sizes"]
    for row in table["sizes"]:
        size = network_size(row["w"], row["h"], row["image_size"])
        assert size == (row["out_w"], row["out_h"]), row
        drawn = face_mask(FaceBox(*row["face_box"]), (0, 0, row["w"], row["h"]), row["area"])
        mask = torch.from_numpy(resize(drawn, size)).float() / 255
        assert mask.sum(dtype=torch.float64).item() == pytest.approx(row["mask_sum"], rel=1e-4)
        assert not to_the_last_bit or sha256(mask.expand(3, -1, -1)) == row["mask_sha256"], row


def test_crop_table(table: dict[str, Any]) -> None:
    assert table["process_bbox"]
    for row in table["process_bbox"]:
        x0, y0, x1, y1 = row["bbox"]
        face = FaceBox(x0, y0, x1 - x0, y1 - y0)
        region = crop_region(face, row["width"], row["height"], row["expand_radio"])
        assert list(region) == row["out"], row


def test_crop_of_the_whole_program(fixtures: GoldenFile, table: dict[str, Any]) -> None:
    """The table does not say which of its pictures was cropped: one of them must give the recorded crop."""
    recorded = table["DICE_Talk.preprocess"]
    pictures = [picture.numpy() for name, picture in fixtures.inputs().items() if name.endswith("/image_u8")]
    box = np.array(recorded["box"])
    inside = [p for p in pictures if box[0] + box[2] <= p.shape[1] and box[1] + box[3] <= p.shape[0]]
    crops = [prepare_portrait(p, box=recorded["box"], crop=True, short_side=64).crop for p in inside]
    assert tuple(recorded["crop_bbox"]) in crops


class Given(torch.nn.Module):
    """Stands for the decoder: what it is handed as latents are its pictures."""

    dtype = torch.float32
    config = SimpleNamespace(scaling_factor=1.0, block_out_channels=(1,))

    def decode(self, latents: torch.Tensor, num_frames: int) -> SimpleNamespace:
        return SimpleNamespace(sample=latents)


def test_decoded_pictures_are_shifted_and_clamped(fixtures: GoldenFile) -> None:
    decoded = fixtures.inputs()["video"][0].transpose(0, 1)
    frames = torch.cat(list(decode_frames(Given(), decoded, len(decoded))))
    fixtures.check_recorded({"video": frames.transpose(0, 1)[None]})
