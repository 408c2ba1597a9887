"""``dicetalk emotion`` from files to files, and what ``generate`` takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from emotion_tracks import PRIORS, values
from PIL import Image
from released_files import SMALL

from dicetalk.checkpoints.convert import convert_model
from dicetalk.cli import emotion_show, main
from dicetalk.cli.parser import build_parser
from dicetalk.emotion.files import load_emotion
from dicetalk.emotion.mix import mix
from dicetalk.emotion.prior import PRESET_NAMES, save_prior, space_of
from dicetalk.residency import CPU
from dicetalk.talk import DiceTalk

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "examples" / "speech.wav"
SPACE = space_of(PRIORS)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with presets alone."""
    folder = tmp_path / "models" / "emotion"
    folder.mkdir(parents=True)
    for name, prior in PRIORS.items():
        np.save(folder / f"{name}.npy", {"mu": prior.mu.numpy()[None]})
    return folder.parent


def run(models: Path, *arguments: str) -> int:
    quiet = [] if arguments[0] == "show" else ["--quiet"]
    return main(["emotion", *arguments, "--models", str(models), *quiet])


def made(models: Path, out: Path, *arguments: str) -> np.ndarray:
    assert run(models, *arguments, "--out", str(out)) == 0
    return values(load_emotion(out, SPACE).track)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mix", "happy", "sad", "--path", "sphere"], "--path has no influence without --blend"),
        (["mix", "happy", "--seed", "3"], "--seed has no influence without --sample"),
        (["mix", "happy", "--drift", "2"], "--drift has no influence without --sample"),
        (
            ["voice", "a.wav", "--emotion", "happy", "--strength", "2"],
            "--strength has no influence without",
        ),
        (
            ["voice", "a.wav", "--classifier", "c", "--speaker", "b.wav"],
            "--speaker has no influence on what",
        ),
        (["voice", "a.wav", "--classifier", "c", "--direction", "softer"], "--direction has no influence"),
        (["mix", "happy", "--out", "x.npy"], "saved as .safetensors"),
        (["text", "[happy] a", "--out", "missing/x.safetensors"], "missing does not exist"),
    ],
)
def test_what_changes_nothing_or_cannot_be_saved_is_refused_first(
    models: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    out = [] if "--out" in words else ["--out", str(tmp_path / "x.safetensors")]
    assert run(models, *words, *out) == 1
    assert message in capsys.readouterr().err


def test_mix(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out.safetensors"
    got = made(models, out, "mix", "0.5*happy", "0.25 * very sad", "--source", "me", "--licence", "CC0")
    assert got[0][:2] == pytest.approx([0.5, 0.325], abs=1e-5)
    saved = load_emotion(out, SPACE)
    assert (saved.source, saved.licence) == ("me", "CC0") and saved.track.is_constant
    assert capsys.readouterr().out == f"{out}: one emotion\n"

    way = made(models, out, "mix", "happy", "sad", "--blend", "0:1", "--seconds", "2")
    assert way[5][:2] == pytest.approx([0.8, 0.2], abs=1e-5) and way[29][:2] == pytest.approx([0, 1], abs=1e-5)
    assert capsys.readouterr().out == f"{out}: a track of 2.00 s\n"
    around = made(models, out, "mix", "happy", "sad", "--blend", "0.5", "--path", "sphere")
    assert around[0][:2] == pytest.approx([0.5**0.5] * 2, abs=1e-5)
    through = made(models, out, "mix", "happy", "sad", "--blend", "0.75", "--path", "neutral")
    assert through[0][:2] == pytest.approx([0, 0.5], abs=1e-5)


def test_each_change(models: Path, tmp_path: Path) -> None:
    out, track = tmp_path / "out.safetensors", tmp_path / "track.json"
    track.write_text('{"values": ["happy", "sad"], "fps": 0.5}')
    plain = made(models, out, "mix", str(track))
    assert made(models, out, "mix", str(track), "--intensity", "0.5") == pytest.approx(plain / 2, abs=1e-5)
    ramp = made(models, out, "mix", "happy", "--intensity", "0:1", "--seconds", "1.6")[:, 0]
    assert ramp[10] == pytest.approx(0.5, abs=1e-5) and ramp[25] == pytest.approx(1, abs=1e-5)
    assert made(models, out, "mix", "happy:1.5", "--limit", "1")[0][0] == pytest.approx(1, abs=1e-5)
    smooth = made(models, out, "mix", str(track), "--smooth", "0.5")
    assert 0.001 < np.abs(smooth - plain).max() < 0.3
    assert made(models, out, "mix", str(track), "--fps", "2") == pytest.approx(plain, abs=1e-5)
    assert [k.seconds for k in load_emotion(out, SPACE).track.keyframes] == [0, 0.5, 1, 1.5, 2]
    made(models, out, "mix", str(track), "--fps", "2", "--audio", str(SPEECH))
    assert load_emotion(out, SPACE).track.end == 3.0, "as long as the speech"
    voice = made(models, out, "mix", "angry", "--intensity-from-voice", "--audio", str(SPEECH))[:, 2]
    assert voice.std() > 0.02 and 0.2 < voice.mean() < 1.4


def test_sampling(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for name, prior in PRIORS.items():
        (models / "emotion" / f"{name}.npy").unlink()
        spread = type(prior)(prior.mu, prior.mu.abs(), name)
        save_prior(spread, models / "emotion" / f"{name}.safetensors")
    out = tmp_path / "out.safetensors"
    drawn = []
    for options in (["--seed", "1"], ["--seed", "1"], ["--seed", "2"], ["--drift", "1", "--seconds", "3"]):
        assert run(models, "mix", "happy", "--sample", "1", *options, "--out", str(out)) == 0
        drawn.append(load_emotion(out, SPACE).track.at([0.0, 3.0]).mu)
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert (drawn[0][0] == drawn[0][1]).all() and (drawn[3][0] != drawn[3][1]).any()
    track = tmp_path / "track.json"
    track.write_text('{"values": ["happy", "sad"], "fps": 0.5}')
    assert run(models, "mix", str(track), "--sample", "1", "--drift", "1", "--out", str(out)) == 0
    assert load_emotion(out, SPACE).track.end == 2.0, "a track has a length of its own"


def test_voice(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    got = made(models, out, "voice", str(SPEECH), "--emotion", "angry", "--silence", "0.1", "--highest", "2")[:, 2]
    assert got.min() >= 0.1 - 1e-5 and got.std() > 0.05
    other = made(models, out, "voice", str(SPEECH), "--emotion", "angry", "--speaker", str(SPEECH))[:, 2]
    assert np.abs(got - other).max() > 0.05


def test_text(models: Path, tmp_path: Path) -> None:
    out, subtitles = tmp_path / "out.safetensors", tmp_path / "a.vtt"
    text = "[happy 0.8] Good morning! [a little sad] It rains all day."
    got = made(models, out, "text", text, "--audio", str(SPEECH))
    assert got[0][:2] == pytest.approx([0.8, 0], abs=1e-5)
    assert load_emotion(out, SPACE).track.at([60]).mu[0][1] == pytest.approx(
        float(PRIORS["sad"].mu[1] + PRIORS["neutral"].mu[1]) / 2, abs=1e-5
    )
    subtitles.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n[sad] It rains.\n")
    got = made(models, out, "text", str(subtitles))
    assert got[0][1] == 0 and got[20][1] == pytest.approx(1, abs=1e-5)


def test_show(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    track = tmp_path / "a track.json"
    track.write_text('{"values": ["happy", "sad"], "fps": 1}')
    assert run(models, "show", "happy:0.5+sad:0.25", str(track)) == 0
    table = capsys.readouterr().out
    cosines, row = (line for line in table.splitlines() if line.startswith("happy:0.5+sad:0.25"))
    assert "1.12" in row and row.endswith("happy:0.50+sad:0.25")
    mixed = mix({"happy": 0.5, "sad": 0.25}, PRIORS).mu
    expected = [torch.cosine_similarity(mixed, PRIORS[name].mu, dim=0).item() for name in PRESET_NAMES]
    assert [float(cell) for cell in cosines.split()[1:]] == pytest.approx(expected, abs=6e-4)
    assert "a track.json 1.0 s" in table and "prototypes" not in table, "there is no bank in this folder"
    pytest.importorskip("matplotlib")
    pytest.importorskip("sklearn")
    out = tmp_path / "pictures"
    assert run(models, "show", str(track), "angry", "--audio", str(SPEECH), "--out", str(out)) == 0
    assert sorted(path.name for path in out.iterdir()) == ["map.png", "track-a_track.json.png"]
    assert Image.open(out / "map.png").size == (1120, 560)


def test_show_tells_apart_what_has_one_name(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, object] = {}
    blank = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(emotion_show, "read_emotion_model", lambda folder: object())
    monkeypatch.setattr(emotion_show, "bank_attention", lambda model, mu: torch.ones(len(mu), 4) / 4)
    monkeypatch.setattr(emotion_show, "plot_bank_attention", lambda names, rows: drawn.setdefault(names[0], blank))
    monkeypatch.setattr(
        emotion_show, "plot_priors", lambda tracks, priors: drawn.setdefault("map", list(tracks)) and blank
    )
    monkeypatch.setattr(emotion_show, "plot_track", lambda track, priors, waveform, title: blank)
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "out.json")
        files[-1].write_text('{"values": ["happy", "sad"], "fps": 0.02}')
    spoken = "[happy] " + "Good morning! " * 40
    texts = [f"{spoken}[sad] a", f"{spoken}[sad] b"]
    given = [*map(str, files), *texts, "angry", "angry"]
    assert run(models, "show", *given, "--audio", str(SPEECH), "--out", str(tmp_path / "pictures")) == 0
    assert drawn["map"] == [*map(str, files), *texts, "angry", "angry (2)"]
    assert len(drawn) == 2, "the presets and 58 moments are one page"
    assert len(list((tmp_path / "pictures").glob("track-*.png"))) == 4
    assert max(map(len, capsys.readouterr().out.splitlines())) < 160
    many = [str(tmp_path / "a" / f"{number}.json") for number in range(4)]
    for path in many:
        Path(path).write_text('{"values": ["happy", "sad"], "fps": 0.02}')
    assert run(models, "show", *many, "--out", str(tmp_path / "more")) == 0
    assert sorted(path.name for path in (tmp_path / "more").glob("bank*")) == ["bank-2.png", "bank.png"]


def test_show_reads_the_bank(models: Path, released: Path, capsys: pytest.CaptureFixture) -> None:
    convert_model(released, models / "dicetalk.safetensors", config=SMALL)
    assert run(models, "show", "happy") == 0
    assert "prototypes of the emotion bank (entropy at most" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mix", "hungry"], "'hungry' is unknown"),
        (["mix", "3*happy"], "weight is 3"),
        (["mix", "happy", "--blend", "0.5"], "give two"),
        (["mix", "2*happy", "sad", "--blend", "0.5"], "without weights"),
        (["mix", "happy", "--intensity", "0:1"], "--audio"),
        (["mix", "happy", "--intensity", "0:1", "--seconds", "0"], "--seconds 0"),
        (["mix", "happy", "--intensity-from-voice"], "--audio"),
        (["mix", "happy", "--sample", "1"], "no known spread"),
        (["mix", "happy", "--sample", "1", "--seed", "1" + "0" * 30], "seed is 1000"),
        (["mix", "happy", "--sample", "1", "--drift", "1"], "--seconds"),
        (["mix", "happy", "--fps", "1000", "--seconds", "600"], "600001 keyframes; expected at most 100000"),
        (["mix", "[happy] Hello"], "--audio"),
        (["mix", "nowhere.safetensors"], "nowhere.safetensors"),
        (["text", "Hello [hungry]", "--audio", str(SPEECH)], "hungry"),
        (["voice", "nowhere.wav", "--emotion", "happy"], "nowhere.wav"),
        (["voice", str(SPEECH), "--emotion", "happy", "--silence", "3"], "silence"),
        (["voice", str(SPEECH), "--classifier", "nowhere"], "nowhere"),
    ],
)
def test_errors(
    models: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.safetensors"
    assert run(models, *arguments, "--out", str(out)) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error
    assert not out.exists()


def test_models_without_presets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path, "mix", "happy", "--out", str(tmp_path / "x.safetensors")) == 1
    error = capsys.readouterr().err
    assert "contempt" in error and "dicetalk download" in error


def test_a_file_of_another_model(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "mine.safetensors"
    made(models, out, "mix", "happy")
    np.save(models / "emotion" / "fear.npy", {"mu": PRIORS["happy"].mu.numpy()[None]})
    assert run(models, "mix", str(out), "--out", str(tmp_path / "x.safetensors")) == 1
    assert "belongs to another model" in capsys.readouterr().err


# What generate takes


def generated(tmp_path: Path, *options: str) -> np.ndarray:
    files = ["--image", "x.png", "--audio", str(SPEECH), "--out", str(tmp_path / "x.mp4")]
    parsed = build_parser().parse_args(["generate", *files, *options])
    model = type("Model", (), {"priors": PRIORS, "has_emotions": True})
    given = parsed.emotion_track or parsed.emotion or "neutral"  # as DiceTalk.generate without one
    return values(DiceTalk(model, CPU).emotion(given, SPEECH, intensity_from_voice=parsed.intensity_from_voice))


def test_generate_takes_every_way(models: Path, tmp_path: Path) -> None:
    saved, track = tmp_path / "mine.safetensors", tmp_path / "track.json"
    made(models, saved, "mix", "happy:0.5")
    track.write_text(json.dumps({"values": ["happy:0.5"]}))
    for options in (
        ["--emotion", "happy:0.5"],
        ["--emotion", "a little happy"],
        ["--emotion", str(saved)],
        ["--emotion", "[happy 0.5] Good morning"],
        ["--emotion-track", str(saved)],
        ["--emotion-track", str(track)],
    ):
        assert generated(tmp_path, *options)[:, 0] == pytest.approx(0.5, abs=1e-5), options
    assert not generated(tmp_path).any()
    louder = generated(tmp_path, "--emotion", "happy", "--intensity-from-voice")[:, 0]
    softer = generated(tmp_path, "--emotion", "happy", "--intensity-from-voice", "softer")[:, 0]
    assert louder.std() > 0.02 and softer.std() > 0.02 and np.abs(louder - softer).max() > 0.05
