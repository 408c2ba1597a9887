"""Colour match and pasting back into the full picture."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.errors import PortraitError, SettingError
from dicetalk.portrait import paste
from dicetalk.portrait.paste import ColourMatch, CutOut, PasteBack, crop_weight, paste_mask
from dicetalk.portrait.prepare import Portrait, prepare_portrait
from dicetalk.portrait.read import read_picture

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "portraits"
PORTRAITS = sorted(FOLDER.iterdir()) if FOLDER.is_dir() else []


def smooth_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 8).astype(float)
    return ((blurred - blurred.min()) / np.ptp(blurred) * 200 + 20).astype(np.uint8)


def full(portrait: Portrait) -> torch.Tensor:
    return torch.from_numpy(portrait.source).permute(2, 0, 1) / 255


def frames_of(portrait: Portrait, count: int = 1) -> torch.Tensor:
    return ((portrait.image + 1) / 2).expand(count, -1, -1, -1).clone()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(100, 400),
    st.integers(100, 400),
    st.floats(-0.2, 0.8),
    st.floats(-0.2, 0.8),
    st.sampled_from([256, 320]),
)
def test_the_crop_itself_gives_the_picture_back(height: int, width: int, x: float, y: float, short_side: int) -> None:
    box = (x * width, y * height, 0.3 * width, 0.3 * height)
    portrait = prepare_portrait(smooth_picture(height, width), box=box, crop=True, short_side=short_side)
    (pasted,) = PasteBack(portrait)(ColourMatch(portrait)(frames_of(portrait)))
    difference = (pasted - full(portrait)).abs()
    assert difference.mean() < 0.5 / 255 and difference.max() < 10 / 255
    x0, y0, x1, y1 = portrait.crop
    difference[:, y0:y1, x0:x1] = 0
    assert difference.max() == 0  # nothing outside the crop changes


@pytest.mark.skipif(not PORTRAITS, reason=f"{FOLDER} is absent")
@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.name)
def test_a_real_crop_gives_the_picture_back(path: Path) -> None:
    portrait = prepare_portrait(read_picture(path), crop=True, short_side=384)
    (pasted,) = PasteBack(portrait)(frames_of(portrait))
    assert (pasted - full(portrait)).abs().mean() < 1.5 / 255


def test_without_scaling_the_identity_is_exact() -> None:
    portrait = prepare_portrait(smooth_picture(128, 192), whole_picture=True, short_side=128)
    torch.testing.assert_close(PasteBack(portrait)(frames_of(portrait, 2))[1], full(portrait), atol=1e-6, rtol=0)


def test_the_feather_fades_inside_the_crop_but_not_at_the_border() -> None:
    (weight,) = crop_weight((20, 0, 84, 64), 200, 64)
    assert weight.shape == (64, 64)
    assert (weight[:, 4:60] == 1).all() and (weight[0] == weight[-1]).all()
    assert 0 < weight[0, 0] < 0.1 and (np.diff(weight[0, :5]) > 0).all() and (np.diff(weight[0, 59:]) < 0).all()
    np.testing.assert_allclose(weight, weight[:, ::-1])
    assert (crop_weight((0, 0, 200, 64), 200, 64) == 1).all()
    corner = crop_weight((136, 0, 200, 40), 200, 64)[0]
    assert corner[0, -1] == 1 and corner[-1, -1] < 0.2 and corner[0, 0] < 0.1


def test_a_black_frame_leaves_no_seam() -> None:
    portrait = prepare_portrait(
        np.full((300, 300, 3), 255, np.uint8), box=(100, 100, 80, 80), crop=True, short_side=128
    )
    (pasted,) = PasteBack(portrait)(torch.zeros(1, 3, 128, 128))
    x0, y0, x1, y1 = portrait.crop
    assert (x0, y0, x1, y1) == (60, 60, 220, 220)
    assert pasted[0, 140, 140] == 0 and (pasted[0, 140, :60] == 1).all()
    steps = pasted[0, 140].diff().abs()
    assert steps.max() < 0.2


def test_streaming_cuts_large_pictures_into_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    portrait = prepare_portrait(smooth_picture(200, 300), box=(100, 50, 80, 80), crop=True, short_side=64)
    chunks = [torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    paste_back = PasteBack(portrait)
    whole = torch.cat([paste_back(chunk) for chunk in chunks])
    assert [len(part) for part in paste_back.stream(iter(chunks))] == [5, 5]
    monkeypatch.setattr(paste, "PART_BYTES", 2 * 200 * 300 * 3 * 4)
    parts = list(paste_back.stream(iter(chunks)))
    assert [len(part) for part in parts] == [2, 2, 1, 2, 2, 1]
    assert torch.equal(torch.cat(parts), whole)
    monkeypatch.setattr(paste, "PART_BYTES", 1)
    assert [len(part) for part in paste_back.stream(iter(chunks[:1]))] == [1] * 5


def drifting(portrait: Portrait, count: int, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """The portrait's image, whose colours drift from nothing to `gain` and `shift` at the last frame."""
    amount = torch.linspace(0, 1, count)[:, None, None, None]
    return frames_of(portrait, count) * (1 + amount * (gain[:, None, None] - 1)) + amount * shift[:, None, None]


@pytest.fixture
def portrait() -> Portrait:
    return prepare_portrait(smooth_picture(256, 256), box=(80, 80, 100, 100), short_side=128)


def test_drift_is_removed(portrait: Portrait) -> None:
    frames = drifting(portrait, 120, torch.tensor([0.85, 0.9, 0.8]), torch.tensor([0.08, -0.04, 0.05]))
    match = ColourMatch(portrait)
    matched = torch.cat([match(chunk) for chunk in frames.split(7)])
    before = (frames - frames[:1]).abs().mean(dim=(1, 2, 3))
    after = (matched - frames[:1]).abs().mean(dim=(1, 2, 3))
    assert before[-1] > 0.03 and after.max() < 0.2 * before[-1]
    assert after[0] < 1e-5


def test_how_the_clip_is_cut_makes_no_difference(portrait: Portrait) -> None:
    frames = drifting(portrait, 20, torch.tensor([0.8, 1.0, 1.1]), torch.tensor([0.0, 0.1, 0.0]))
    at_once, by_one = ColourMatch(portrait), ColourMatch(portrait)
    torch.testing.assert_close(at_once(frames), torch.cat([by_one(frame[None]) for frame in frames]))


def test_what_happens_in_the_face_does_not_matter(portrait: Portrait) -> None:
    frames = frames_of(portrait, 3)
    inside = portrait.mask[0] >= 0.5
    frames[1:, :, inside] = 1 - frames[1:, :, inside]
    torch.testing.assert_close(ColourMatch(portrait)(frames), frames, atol=1e-5, rtol=0)


def test_without_a_still_region_everything_is_measured() -> None:
    portrait = prepare_portrait(smooth_picture(128, 128), whole_picture=True, short_side=64)
    frames = frames_of(portrait, 1) * 0.9
    torch.testing.assert_close(ColourMatch(portrait)(frames), frames_of(portrait, 1), atol=0.02, rtol=0)


def test_a_single_odd_frame_does_not_make_its_neighbours_flicker(portrait: Portrait) -> None:
    frames = frames_of(portrait, 20)
    frames[10] = (frames[10] * 0.5).clamp(0, 1)
    matched = ColourMatch(portrait)(frames)
    assert (matched[11] - matched[9]).abs().mean() < 0.2 * (frames[10] - frames[9]).abs().mean()


def test_the_correction_is_bounded(portrait: Portrait) -> None:
    noise = 0.001 * torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    matched = ColourMatch(portrait)(noise)
    assert matched.isfinite().all() and matched.max() <= 0.25 + 0.01
    assert ColourMatch(portrait)(torch.ones(1, 3, 128, 128)).min() >= 0.75 - 0.01


def test_frames_of_another_portrait(portrait: Portrait) -> None:
    for tool in (ColourMatch(portrait), PasteBack(portrait)):
        with pytest.raises(PortraitError, match=r"\(1, 3, 64, 128\).*\(frames, 3, 128, 128\)"):
            tool(torch.zeros(1, 3, 64, 128))
        with pytest.raises(PortraitError):
            tool(torch.zeros(3, 128, 128))


def test_upscaled_frames_are_matched_and_pasted_like_the_frames_themselves(portrait: Portrait) -> None:
    frames = ((portrait.image[None] + 1) / 2 * 0.8).clamp(0, 1)
    upscaled = torch.nn.functional.interpolate(frames, scale_factor=2, mode="nearest")
    assert torch.allclose(ColourMatch(portrait)(upscaled)[..., ::2, ::2], ColourMatch(portrait)(frames), atol=1e-5)
    pasted = [PasteBack(portrait)(these) for these in (frames, upscaled)]
    assert pasted[0].shape == pasted[1].shape
    assert (pasted[0] - pasted[1]).abs().mean() < 0.02


def test_the_feather_is_as_wide_as_asked() -> None:
    hard, narrow, wide = (crop_weight((20, 20, 120, 120), 200, 200, feather)[0] for feather in (0.0, 0.1, 0.4))
    assert (hard[1:-1, 1:-1] == 1).all()
    assert (narrow[10:-10, 10:-10] == 1).all() and (narrow[50, :9] < 1).all()
    assert (wide[40:-40, 40:-40] == 1).all() and (wide[50, :39] < 1).all()


@pytest.mark.parametrize("feather", [-0.1, 0.6, float("nan")])
def test_a_feather_out_of_range_is_refused(feather: float) -> None:
    picture = np.full((100, 100, 3), 128, np.uint8)
    with pytest.raises(SettingError, match="feather is"):
        PasteBack(prepare_portrait(picture, whole_picture=True, short_side=64), feather)


def test_an_edge_between_black_and_white_does_not_overshoot() -> None:
    portrait = prepare_portrait(smooth_picture(300, 300), box=(100, 100, 100, 100), crop=True, short_side=128)
    frame = torch.zeros(1, 3, 128, 128)
    frame[..., 64:] = 1
    x0, y0, x1, y1 = portrait.crop
    assert x1 - x0 > 128, "enlarged, where Lanczos rings"
    inside = PasteBack(portrait, 0.0)(frame)[..., y0:y1, x0:x1]
    assert inside.min() == 0 and inside.max() == 1


@pytest.mark.parametrize("feather", [0, 1 / 16, 0.3])
def test_a_cut_out_over_the_picture_is_paste_back(feather: float) -> None:
    portrait = prepare_portrait(smooth_picture(200, 260), box=(150, 90, 60, 60), crop=True, short_side=128)
    frames = 1 - frames_of(portrait, 2)
    (cut,) = CutOut(portrait, feather).stream([frames])
    colours, alpha = cut[:, :3], cut[:, 3:]
    assert torch.equal(alpha[0, 0], paste_mask(portrait, feather))
    assert alpha.min() == 0 and alpha.max() == 1
    torch.testing.assert_close(colours * alpha + full(portrait) * (1 - alpha), PasteBack(portrait, feather)(frames))
    outside = (alpha == 0).expand_as(colours)
    if feather == 0:
        assert torch.equal(colours[outside], full(portrait).expand_as(colours)[outside])
