"""The front door: README's three lines, every form of input, and the same result as the command line."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from small_models import write_small_model

import dicetalk
from dicetalk import DiceTalk, EmotionTrack, SamplerSettings
from dicetalk.cli import main
from dicetalk.errors import EmotionError, SettingError
from dicetalk.hooks import Hooks

ROOT = Path(__file__).parents[2]
PORTRAIT = ROOT / "examples" / "portrait.jpg"
QUICK = {"steps": 1, "short_side": 64, "box": (150, 100, 220, 260)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def talk(models: Path) -> DiceTalk:
    return DiceTalk.load(models, device="cpu")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate = soundfile.read(ROOT / "examples" / "speech.wav")
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, samples[rate // 2 : rate + rate // 10], rate)
    return path


def test_the_package_is_imported_without_torch() -> None:
    code = "import dicetalk, sys; print(dicetalk.__version__, 'torch' in sys.modules); dicetalk.DiceTalk"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.split() == [dicetalk.__version__, "False"]
    assert set(dicetalk.__all__) <= set(dir(dicetalk))
    assert not hasattr(dicetalk, "Dicetalk")


def test_the_version_is_that_of_the_package() -> None:
    assert f'version = "{dicetalk.__version__}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.long
def test_a_clip_is_what_the_command_line_makes(talk: DiceTalk, models: Path, speech: Path, tmp_path: Path) -> None:
    clip = talk.generate(
        str(PORTRAIT), str(speech), emotion="happy:0.8", crop=True, paste_back=True, seed=3, overlap=2, **QUICK
    )
    made = clip.save(tmp_path / "python.mp4")
    box = ",".join(map(str, QUICK["box"]))
    options = ["--crop", "--paste-back", "--seed", "3", "--overlap", "2", "--steps", "1", "--short-side", "64"]
    files = ["--image", PORTRAIT, "--audio", speech, "--models", models, "--out", tmp_path / "command.mp4"]
    command = ["generate", *files, "--emotion", "happy:0.8", "--box", box, *options, "--device", "cpu", "--quiet"]
    assert main([*map(str, command)]) == 0
    assert made.read_bytes() == (tmp_path / "command.mp4").read_bytes()

    frames = list(clip.frames())
    assert len(frames) == len(clip) and frames[0].dtype == np.uint8
    assert frames[0].shape == np.asarray(Image.open(PORTRAIT)).shape
    with av.open(str(made)) as container:
        assert float(container.streams.video[0].average_rate) == clip.fps
        assert container.streams.video[0].frames == len(clip)
        assert container.streams.audio


def test_a_folder_holds_the_same_frames(talk: DiceTalk, speech: Path, tmp_path: Path) -> None:
    clip = talk.generate(PORTRAIT, speech, **QUICK)
    folder = clip.save(tmp_path / "frames")
    written = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    assert np.array_equal(written, list(clip.frames()))
    with pytest.raises(SettingError, match=r"out\.avi: write an \.mp4"):
        clip.save("out.avi")


@pytest.mark.long
def test_every_form_of_input_gives_the_same_clip(talk: DiceTalk, speech: Path) -> None:
    picture = Image.open(PORTRAIT).convert("RGB")
    samples, rate = soundfile.read(speech, dtype="float32")
    happy = talk.model.priors["happy"]
    expected = talk.generate(PORTRAIT, speech, "happy", **QUICK).latents.values
    prepared = talk.portrait(PORTRAIT, short_side=64, box=QUICK["box"])
    for portrait in (str(PORTRAIT), picture, np.asarray(picture), torch.from_numpy(np.array(picture))):
        assert torch.equal(talk.generate(portrait, speech, "happy", **QUICK).latents.values, expected)
    for sound in (str(speech), (samples, rate), (torch.from_numpy(samples), rate)):
        assert torch.equal(talk.generate(prepared, sound, "happy", steps=1).latents.values, expected)
    assert torch.equal(talk.generate(prepared, speech, "joy", steps=1).latents.values, expected)
    sad = talk.generate(prepared, speech, "sad", steps=1).latents.values
    for emotion in (happy, EmotionTrack.constant(happy)):  # words are a mix, which rounds
        made = talk.generate(prepared, speech, emotion, steps=1).latents.values
        assert (made - expected).abs().max() < 0.01 * (sad - expected).abs().max()


def test_what_is_left_open_is_what_the_model_was_made_for() -> None:
    talk = DiceTalk.load("tiny", device="cpu")
    sampling = talk.model.config.sampling
    assert talk.settings == SamplerSettings(
        steps=sampling.steps,
        portrait_guidance=sampling.portrait_guidance,
        expression_guidance=sampling.expression_guidance,
    )
    assert talk.portrait(PORTRAIT, whole_picture=True).image.shape[-1] == sampling.short_side


def test_a_misspelt_setting_names_the_nearest(talk: DiceTalk, speech: Path) -> None:
    with pytest.raises(SettingError, match=r"There is no setting 'step'\. Did you mean 'steps'\?"):
        talk.generate(PORTRAIT, speech, step=3)
    with pytest.raises(SettingError, match=r"There is no setting 'fruit'\. Known: steps, "):
        talk.generate(PORTRAIT, speech, fruit=3)
    with pytest.raises(SettingError, match="crop has no influence on a portrait that was prepared"):
        talk.generate(talk.portrait(PORTRAIT, whole_picture=True), speech, crop=True)
    with pytest.raises(SettingError, match="device moon: torch cannot use it here"):
        DiceTalk.load("tiny", device="moon")
    with pytest.raises(SettingError, match="dtype 'int3' is unknown"):
        DiceTalk.load("tiny", dtype="int3")


def test_an_emotion_that_follows_the_speech_needs_it(talk: DiceTalk, speech: Path) -> None:
    with pytest.raises(EmotionError, match="none was given"):
        talk.emotion("[happy] Hello. [sad] Goodbye.")
    with pytest.raises(EmotionError, match="cannot be made from float"):
        talk.emotion(0.5)
    assert len(talk.emotion("[happy] Hello. [sad] Goodbye.", speech).keyframes) > 1
    assert len(talk.emotion("happy", speech, intensity_from_voice="louder").keyframes) > 1


def test_an_extracted_emotion_goes_straight_into_a_clip(talk: DiceTalk, speech: Path) -> None:
    found = talk.extract(PORTRAIT)
    assert found.scores is not None and found.scores.mean(axis=0).argmax() == 1  # happy: the example portrait smiles
    by_hand = talk.emotion(found.emotion)
    clips = [talk.generate(PORTRAIT, speech, emotion, **QUICK).latents.values for emotion in (found, by_hand)]
    assert torch.equal(*clips)


@pytest.mark.long
def test_a_missing_interpolation_is_reported_once(models: Path, speech: Path) -> None:
    notices: list[str] = []
    talk = DiceTalk.load("tiny", device="cpu", hooks=Hooks(notice=notices.append))
    clip = talk.generate(PORTRAIT, speech, steps=1, whole_picture=True)
    assert clip.fps == 12.5
    assert len(list(clip.frames())) == len(list(clip.frames())) == len(clip)
    assert sum("frame interpolation" in notice for notice in notices) == 1
