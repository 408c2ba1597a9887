"""Motion over a clip: its forms, the voice, the network, and that it reaches every call of the UNet."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_files import SMALL
from small_models import write_small_model
from torch import nn

from dicetalk.audio.features import SpeechFeatures
from dicetalk.audio.projection import AudioToBucket
from dicetalk.checkpoints.load import DiceModel
from dicetalk.checkpoints.motion import find_motion_network, load_motion_network, with_predicted_motion
from dicetalk.checkpoints.variants import FULL
from dicetalk.cli.options import sampler_settings
from dicetalk.cli.parser import build_parser
from dicetalk.config import BucketConfig
from dicetalk.denoise.conditioning import EncodedPortrait
from dicetalk.denoise.guided import GuidedUNet
from dicetalk.denoise.windows import padding, window_schedule
from dicetalk.emotion.prior import PRIOR_DIM, EmotionPrior
from dicetalk.emotion.track import Curve, EmotionTrack
from dicetalk.emotion.voice.features import VoiceFeatures
from dicetalk.errors import CheckpointError, SettingError, SpeechError
from dicetalk.hooks import Hooks
from dicetalk.layers import sdpa_attention
from dicetalk.motion.parse import follow_voice, parse_motion
from dicetalk.parameters import FromVoice
from dicetalk.pipeline import denoise
from dicetalk.settings import SCHEDULES, SamplerSettings

FRAMES = 11
SIZES = replace(SMALL, audio=replace(SMALL.audio, layers=2, channels=8))
EMOTION = EmotionTrack.constant(EmotionPrior(torch.ones(PRIOR_DIM)))
SETTINGS = SamplerSettings(steps=2, window=4, overlap=1, shift=3)


# Forms


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (8, 8.0),
        ("12.5", 12.5),
        ([8, 9.5], (8.0, 9.5)),
        ((3,), (3.0,)),
        (np.array([1, 2], np.int32), (1.0, 2.0)),
        (torch.tensor([1.0, 2.5]), (1.0, 2.5)),
        ("[4, 5]", (4.0, 5.0)),
        ('{"values": [0, 2], "fps": 6.25}', (0.0, 1.0, 2.0)),
        ({"values": [0, 50, 100], "fps": 25}, (0.0, 100.0)),
        ('{"keyframes": [{"time": 0, "value": 10}, {"time": 0.16, "value": 20}]}', (10.0, 15.0, 20.0)),
        ({"keyframes": [{"time": 0.16, "value": 7}]}, (7.0, 7.0, 7.0)),
        (
            {"keyframes": [{"time": 0, "value": 1, "easing": "hold"}, {"time": 0.16, "value": 5}]},
            (1.0, 1.0, 5.0),
        ),
        (
            {"keyframes": [{"time": 0, "value": 0, "easing": "ease-in"}, {"time": 0.16, "value": 8}]},
            (0.0, 2.0, 8.0),
        ),
        (Curve(np.array([0, 0.16]), np.array([1, 3])), (1.0, 2.0, 3.0)),
        ("voice", FromVoice()),
        ("voice:30", FromVoice(30.0)),
        (FromVoice(4.0), FromVoice(4.0)),
    ],
    ids=repr,
)
def test_every_form_is_read(given: Any, expected: Any) -> None:
    made = parse_motion(given)
    if isinstance(expected, tuple):
        assert made == pytest.approx(expected) and isinstance(made, tuple)
    else:
        assert made == expected


def test_a_file_is_read_as_its_text(tmp_path: Path) -> None:
    text = '{"keyframes": [{"time": 0, "value": 10}, {"time": 0.16, "value": 20}]}'
    path = tmp_path / "motion.json"
    path.write_text(text)
    assert parse_motion(path) == parse_motion(str(path)) == parse_motion(text)
    path.write_text('{"values": [1, "two"]}')
    with pytest.raises(SettingError, match=r"motion\.json: values\[1\]: expected a number, got 'two'"):
        parse_motion(path)
    with pytest.raises(SettingError, match="missing"):
        parse_motion(str(tmp_path / "missing.json"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("loud", "'loud' is no amount of motion"),
        ("voice:loud", "'voice:loud' is no amount"),
        (True, "expected a number, got True"),
        (None, "expected a number, got None"),
        ([], "1 to 100000 entries"),
        ([[1, 2]], r"values\[0\]: expected a number"),
        ("{", "not JSON"),
        ("[NaN]", "NaN is not a number"),
        ('{"keyframes": [], "values": []}', "'keyframes' or 'values'"),
        ('{"values": [1], "values": [2]}', "occurs twice"),
        ('{"values": [1], "rate": 2}', "unknown entry 'rate'"),
        ('{"values": [1], "fps": 0}', "'fps' is 0"),
        ('{"values": 3}', "'values': expected a list"),
        ('{"keyframes": [3]}', r"keyframes\[0\]: expected a table"),
        ('{"keyframes": [{"time": 0}]}', r"keyframes\[0\]: 'value' is missing"),
        ('{"keyframes": [{"time": -1, "value": 2}]}', "'time' is -1"),
        ('{"keyframes": [{"time": 1e9, "value": 2}]}', "expected 0 to 3660 seconds"),
        ('{"keyframes": [{"time": 0, "value": 2, "easing": "jump"}]}', "easing 'jump' is unknown"),
        ('{"keyframes": [{"time": 1, "value": 2}, {"time": 1, "value": 3}]}', "in order of time"),
        ('{"values": [1, 2], "fps": 1e-9}', "end at"),
        ("3.json.", "no amount of motion"),
    ],
)
def test_what_is_wrong_is_named(given: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        parse_motion(given)


@pytest.mark.parametrize(
    "given", [(8.0, 300.0), (float("nan"),), (), FromVoice(200.0), FromVoice(-1.0), "voice", [8.0]]
)
def test_settings_refuse_what_is_out_of_range(given: Any) -> None:
    with pytest.raises(SettingError, match="motion_bucket"):
        SamplerSettings(motion_bucket=given)


# The voice


def voice(loudness: np.ndarray, flux: np.ndarray | None = None) -> VoiceFeatures:
    """Somebody who speaks throughout, at 50 Hz, with the same pitch."""
    steps = len(loudness)
    flat = np.zeros(steps)
    return VoiceFeatures(loudness, flat, flat, flat + 1 if flux is None else flux)


def test_louder_and_faster_speech_moves_more() -> None:
    steps = np.arange(1000)
    for features in (
        voice(np.where(steps < 500, -25.0, -15.0)),
        voice(np.full(1000, -20.0) + 0.1 * (steps % 2), np.where(steps < 500, 0.5, 2.0)),
    ):
        settings = SamplerSettings(motion_bucket=FromVoice(), expression_bucket=FromVoice(20.0))
        made = follow_voice(settings, lambda features=features: features)
        head, face = np.array(made.motion_bucket), np.array(made.expression_bucket)
        assert len(head) == len(face) == 250
        np.testing.assert_allclose(face, head * 20 / 8)
        assert head[:100].mean() < 8 < head[-100:].mean()
        assert head.min() >= 4 and head.max() <= 16
    unchanged = SamplerSettings(motion_bucket=(3.0, 4.0))
    assert follow_voice(unchanged, lambda: pytest.fail("the voice is not needed")) is unchanged


# Through the pipeline


@pytest.fixture(scope="module")
def model() -> DiceModel:
    """DICE-Talk with small random networks."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = {network.field: network.build(SIZES, nn, sdpa_attention).eval() for network in FULL.networks}
    others = ("vae", "image_encoder", "whisper", "flownet", "embedder", "expression_reader", "detector_path")
    return DiceModel(**built, **dict.fromkeys(others), priors={}, config=SIZES, dtype=torch.float32)


@pytest.fixture(scope="module")
def network() -> AudioToBucket:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return AudioToBucket(BucketConfig(channels=8, image_dim=SIZES.unet.cross_attention_dim, intermediate_dim=16))


def some(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def portrait() -> EncodedPortrait:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:48, 16:56] = 1
    token = some(1, 1, SIZES.unet.cross_attention_dim, seed=1)
    pose = some(1, SIZES.unet.block_out_channels[0], 8, 8, seed=5)
    return EncodedPortrait(token, some(4, 8, 8, seed=2), some(4, 8, 8, seed=3), mask, pose)


def speech(frames: int = FRAMES) -> SpeechFeatures:
    states = torch.zeros(4 + 4 * frames + 6, 2, 8)
    states[4:-6] = 2 * some(4 * frames, 2, 8, seed=4)
    return SpeechFeatures(states, frames, frames / 12.5)


def sampled(
    model: DiceModel, settings: SamplerSettings, hooks: Hooks | None = None, features: SpeechFeatures | None = None
) -> tuple[torch.Tensor, list[list[int]], torch.Tensor]:
    """Latents, the windows in their order and the added ids ``(calls, 3)`` of each."""
    windows, ids = [], []

    def watched(*arguments: Any) -> Any:
        guided = GuidedUNet(*arguments)

        def predict(x: torch.Tensor, sigma: torch.Tensor, frames: list[int], step: int) -> torch.Tensor:
            windows.append(frames)
            return guided(x, sigma, frames, step)

        return predict

    def keep(_unet: nn.Module, given: tuple) -> None:
        assert (given[2] == given[2][:1]).all()
        ids.append(given[2][0])

    hook = model.unet.register_forward_pre_hook(keep)
    try:
        made = denoise(
            model, portrait(), features or speech(), EMOTION, settings, hooks=hooks or Hooks(), guided=watched
        )
    finally:
        hook.remove()
    return made.values, windows, torch.stack(ids)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_window_has_the_mean_over_its_frames(model: DiceModel, schedule: str) -> None:
    head, face = tuple(10.0 + i * i for i in range(FRAMES)), (5.0, 40.0)
    settings = replace(SETTINGS, schedule=schedule, motion_bucket=head, expression_bucket=face)
    if schedule == "ring":
        settings = replace(settings, window=25)  # every frame stands in it several times
    _, windows, ids = sampled(model, settings)
    total = FRAMES + padding(schedule, settings.window)
    planned = window_schedule(schedule, total, settings.window, settings.overlap, settings.shift)
    assert windows == [frames for step in range(2) for frames in planned(step)]
    for frames, (fps, motion, expression) in zip(windows, ids.tolist(), strict=True):
        assert fps == 12.5
        assert motion == pytest.approx(sum(head[min(f, FRAMES - 1)] for f in frames) / len(frames))
        assert expression == pytest.approx(sum(face[min(f, 1)] for f in frames) / len(frames))
    assert len({round(value, 4) for value in ids[:, 1].tolist()}) > 1 or schedule == "ring"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_constant_curve_is_the_number_bit_for_bit(model: DiceModel, dtype: torch.dtype) -> None:
    number = replace(SETTINGS, motion_bucket=8.3, expression_bucket=16.1)
    curve = replace(SETTINGS, motion_bucket=(8.3,) * FRAMES, expression_bucket=(16.1,) * 3)
    if dtype == torch.float16:  # slow on a CPU: the ids alone
        handed = []

        def keep(_unet: nn.Module, conditioning: Any, *rest: Any) -> Any:
            guided = GuidedUNet.__new__(GuidedUNet)
            guided.added_ids, guided.device, guided.dtype = conditioning.added_ids, torch.device("cpu"), dtype
            handed.append(guided._added_ids([0, 1, 2]))
            return lambda x, sigma, frames, step: torch.zeros_like(x)

        for settings in (number, curve):
            denoise(model, portrait(), speech(), EMOTION, settings, guided=keep)
        assert torch.equal(*handed) and torch.equal(handed[0], torch.tensor([12.5, 8.3, 16.1]))
        return
    (made, _, ids), (other, _, other_ids) = sampled(model, number), sampled(model, curve)
    assert torch.equal(made, other) and torch.equal(ids, other_ids)
    changed, _, _ = sampled(model, replace(number, motion_bucket=(8.3,) * (FRAMES - 1) + (90.0,)))
    assert not torch.equal(made, changed)


def test_a_network_predicts_both_buckets_of_any_model(model: DiceModel, network: AudioToBucket) -> None:
    with torch.no_grad():
        states = torch.nn.functional.pad(speech().states[4:-6, -1], (0, 0, 24, 26))
        windows = torch.stack([states[4 * frame : 4 * frame + 50] for frame in range(FRAMES)])
        buckets = 1.5 * network.buckets(windows, portrait().clip_token[0])
    with_network = replace(model, audio_to_bucket=network)
    notices: list[str] = []
    hooks = Hooks(notice=notices.append)
    settings = replace(SETTINGS, schedule="tight", motion_amount=1.5)
    made, planned, ids = sampled(with_network, settings, hooks)
    expected = torch.stack([buckets[frames].mean(dim=0) for frames in planned])
    torch.testing.assert_close(ids[:, 1:], expected, rtol=0, atol=1e-4)
    assert notices == []
    # A curve stands above the prediction, a number does not and is reported.
    mixed = replace(settings, motion_bucket=(30.0,), expression_bucket=99.0)
    other, _, ids = sampled(with_network, mixed, hooks)
    assert set(ids[:, 1].tolist()) == {30.0}
    torch.testing.assert_close(ids[:, 2], expected[:, 1], rtol=0, atol=1e-4)
    assert len(notices) == 1 and "expression_bucket 99 is not used" in notices[0] and "[99]" in notices[0]
    assert not torch.equal(made, other)


def test_what_is_not_used_is_reported(model: DiceModel) -> None:
    notices: list[str] = []
    settings = replace(SETTINGS, steps=1, motion_amount=2.0, motion_bucket=(9.0,) * (FRAMES + 5))
    sampled(model, settings, Hooks(notice=notices.append))
    assert ["motion_amount" in note for note in notices] == [True, False]
    assert f"the last 5 of {FRAMES + 5} values" in notices[1]
    with pytest.raises(SettingError, match="motion_bucket follows the voice"):
        sampled(model, replace(SETTINGS, motion_bucket=FromVoice()))


def test_speech_too_short_to_predict_from_is_refused(model: DiceModel, network: AudioToBucket) -> None:
    with_network = replace(model, audio_to_bucket=network)
    with pytest.raises(SpeechError, match=r"0\.40 s long.*0\.44 s or more.*pad_end"):
        sampled(with_network, SETTINGS, features=speech(5))
    sampled(with_network, replace(SETTINGS, steps=1), features=speech(6))


# Its file beside another model


def test_a_network_is_found_and_loaded_strictly(network: AudioToBucket, tmp_path: Path) -> None:
    (tmp_path / "Sonic").mkdir()
    path = tmp_path / "Sonic" / "audio2bucket.pth"
    with pytest.raises(CheckpointError, match=r"audio2bucket\.pth.*is not there.*LeonJoe13/Sonic"):
        find_motion_network(tmp_path)
    torch.save(network.state_dict(), path)
    sizes = replace(SIZES, image_encoder=replace(SIZES.image_encoder, projection_dim=SIZES.unet.cross_attention_dim))
    assert find_motion_network(tmp_path) == find_motion_network(path) == path
    # A file of a model stands for its folder.
    released, converted = tmp_path / "unet.pth", write_small_model(tmp_path / "other") / "dicetalk.safetensors"
    released.touch()
    assert find_motion_network(released) == find_motion_network(converted, [tmp_path]) == path
    loaded = load_motion_network(path, sizes)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    with pytest.raises(CheckpointError, match=r"proj1\.weight"):
        load_motion_network(path, replace(sizes, audio=replace(sizes.audio, channels=16)))
    torch.save(network.state_dict() | {"more": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="unexpected"):
        load_motion_network(path, sizes)


def test_a_model_takes_the_network(model: DiceModel, network: AudioToBucket, tmp_path: Path) -> None:
    path = tmp_path / "audio2bucket.pth"
    torch.save(network.state_dict(), path)
    sizes = replace(SIZES, image_encoder=replace(SIZES.image_encoder, projection_dim=SIZES.unet.cross_attention_dim))
    made = with_predicted_motion(replace(model, config=sizes), path)
    assert made.audio_to_bucket is not None and made.unet is model.unet


# Command line


def parsed(*arguments: str) -> SamplerSettings:
    options = build_parser().parse_args(
        ["generate", "--image", "a.png", "--audio", "a.wav", "--out", "a.mp4", *arguments]
    )
    return sampler_settings(options)


def test_options_take_motion_over_time(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "face.json"
    path.write_text('{"keyframes": [{"time": 0, "value": 10}, {"time": 0.16, "value": 20}]}')
    made = parsed("--motion-bucket", "voice:30", "--expression-bucket", str(path), "--motion-amount", "1.5")
    assert (made.motion_bucket, made.expression_bucket, made.motion_amount) == (
        FromVoice(30.0),
        (10.0, 15.0, 20.0),
        1.5,
    )
    assert parsed().motion_bucket == 8
    with pytest.raises(SettingError, match="motion_bucket is 900"):
        parsed("--motion-bucket", "[1, 900]")
    with pytest.raises(SystemExit):
        parsed("--motion-bucket", "loud")
    assert "motion_bucket: 'loud' is no amount of motion" in capsys.readouterr().err


def test_json_of_numbers_is_what_json_writes() -> None:
    values = [0.1 * i for i in range(20)]
    assert parse_motion(json.dumps(values)) == tuple(values)
