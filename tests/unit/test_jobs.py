"""Several clips in one run of ``dicetalk generate``: tables and folders of jobs."""

import argparse
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

from dicetalk.cli import main
from dicetalk.cli.jobs import KINDS, Job, read_jobs
from dicetalk.cli.parser import build_parser
from dicetalk.errors import OutputError, SettingError
from dicetalk.hooks import Hooks
from dicetalk.talk import DiceTalk

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings and a portrait."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 3200).astype(np.float32)
    for name in ("ann", "bob"):
        soundfile.write(tmp_path / f"{name}.wav", noise, 16000)
    Image.new("RGB", (96, 128), "tan").save(tmp_path / "face.png")
    return tmp_path


def parsed(*arguments: object) -> argparse.Namespace:
    return build_parser().parse_args(["generate", *map(str, arguments)])


def read(table: Path, text: str, *arguments: object) -> list[Job]:
    table.write_text(text, encoding="utf-8")
    return read_jobs(parsed("--jobs", table, *arguments), Hooks())


def test_rows_stand_before_the_command_line(folder: Path) -> None:
    text = "image,audio,out,steps,emotion\nface.png,ann.wav,ann.mp4,7,sad\nface.png,bob.wav,bob.mp4,,\n"
    ann, bob = (job.options for job in read(folder / "jobs.csv", text, "--steps", "3", "--emotion", "happy"))
    assert (ann.audio, ann.out, ann.steps, ann.emotion) == (folder / "ann.wav", folder / "ann.mp4", 7, "sad")
    assert (bob.image, bob.out, bob.steps, bob.emotion) == (folder / "face.png", folder / "bob.mp4", 3, "happy")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_as_spreadsheets_save_them(folder: Path, separator: str) -> None:
    rows = [["--Image", "audio", "OUT", "whole-picture"], ["face.png", "ann.wav", "größe.mp4", "yes"]]
    rows += [["", "", "", ""], ["face.png", "bob.wav", "b.mp4", "no"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    (folder / "jobs.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    jobs = [job.options for job in read_jobs(parsed("--jobs", folder / "jobs.csv"), Hooks())]
    assert [(job.out.name, job.whole_picture) for job in jobs] == [("größe.mp4", True), ("b.mp4", False)]


def test_a_row_replaces_the_other_of_two_that_exclude_each_other(folder: Path) -> None:
    text = "image,audio,out,emotion,face_index\nface.png,ann.wav,a.mp4,sad,1\nface.png,ann.wav,b.mp4,,\n"
    first, second = (
        job.options
        for job in read(folder / "jobs.csv", text, "--emotion-track", folder / "all.json", "--box", "1,2,30,40")
    )
    assert (first.emotion, first.emotion_track, first.face_index, first.box) == ("sad", None, 1, None)
    assert (second.emotion_track, second.box) == (folder / "all.json", (1, 2, 30, 40))


def test_the_table_of_the_documents(folder: Path) -> None:
    text = (EXAMPLES.parent / "docs" / "commands.md").read_text()
    table = text.partition("```csv\n")[2].partition("```")[0]
    first, second = (job.options for job in read(folder / "jobs.csv", table))
    assert (first.emotion, first.steps) == ("happy:0.8", None)
    assert (second.emotion, second.steps) == ("[neutral] Good evening. [sad] It rains.", 12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,audio,out\n", "no jobs"),
        ("image,audio\nface.png,ann.wav\n", r"line 2: --out is missing"),
        ("image,audio,out,mood\nface.png,ann.wav,a.mp4,sad\n", "a column 'mood'. Known: "),
        ("image,audio,out,models\nface.png,ann.wav,a.mp4,tiny\n", "'models'. It is given once, for all jobs"),
        ("image,audio,out,steps\nface.png,ann.wav,a.mp4,few\n", "line 2: argument --steps: .*'few'"),
        ("image,audio,out,crop\nface.png,ann.wav,a.mp4,maybe\n", "line 2: crop is 'maybe'. Write yes or no"),
        ("image,audio,out\nface.png,ann.wav\n", "line 2 has another number of values than the 3 columns"),
        ("image,audio,out\nface.png,ann.wav,a.mp4,x\n", "line 2 has another number of values"),
        ("image,audio,out\nface.png,ann.wav,a.mp4\nface.png,bob.wav,a.mp4\n", "line 3: .*written by line 2 already"),
        ("image,audio,out,out\nface.png,ann.wav,a.mp4,b.mp4\n", "two columns of one name"),
        ("image,audio,out\nface.png,ann.wav,bob.wav\nface.png,bob.wav,b.mp4\n", "line 2: .* is read by line 3"),
        ("image,audio,out,emotion,emotion_track\nface.png,ann.wav,a.mp4,sad,a.json\n", "line 2: .*not allowed with"),
        ('image,audio,out\n"face.png,ann.wav,a.mp4\n', "is no CSV"),
    ],
)
def test_wrong_tables_are_refused_by_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises((SettingError, OutputError), match=message):
        read(folder / "jobs.csv", text)


def test_a_folder_pairs_files_by_name(folder: Path) -> None:
    shutil.copy(folder / "face.png", folder / "ann.png")
    (folder / "ann.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\n[happy] Hello\n")
    (folder / "readme.md").write_text("notes")
    notes: list[str] = []
    options = parsed("--jobs", folder, "--image", folder / "face.png", "--out", folder / "videos", "--emotion", "sad")
    ann, bob = (job.options for job in read_jobs(options, Hooks(notice=notes.append)))
    assert (ann.image, ann.emotion_track, ann.out) == (
        folder / "ann.png",
        folder / "ann.srt",
        folder / "videos" / "ann.mp4",
    )
    assert (bob.image, bob.emotion_track, bob.emotion) == (folder / "face.png", None, "sad")
    (note,) = notes
    assert "face.png" in note and "readme.md" in note


def test_two_pictures_of_one_job_are_refused(folder: Path) -> None:
    for name in ("ann.png", "ann.jpg"):
        Image.new("RGB", (64, 64)).save(folder / name)
    with pytest.raises(SettingError, match=r"ann.jpg and ann.png are of one job"):
        read_jobs(parsed("--jobs", folder, "--out", folder / "videos"), Hooks())


def test_kinds_of_files_do_not_overlap() -> None:
    kinds = list(KINDS.values())
    assert sum(map(len, kinds)) == len(set().union(*kinds))


@pytest.mark.long
def test_one_failure_does_not_stop_the_others_and_the_next_run_goes_on(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    monkeypatch.setattr(DiceTalk, "load", lambda *a, _load=DiceTalk.load, **k: loads.append(a) or _load(*a, **k))
    (folder / "broken.wav").write_bytes(b"no sound")
    text = "audio,out\nann.wav,ann.mp4\nbroken.wav,broken.mp4\nbob.wav,bob.mp4\n"
    (folder / "jobs.csv").write_text(text)
    arguments = ["generate", "--jobs", folder / "jobs.csv", "--image", folder / "face.png", "--models", "tiny"]
    arguments += ["--whole-picture", "--steps", "1", "--no-interpolation", "--device", "cpu", "--quiet"]
    assert main([str(each) for each in arguments]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "2 made, 0 there already, 1 failed."
    assert "line 3 failed: " in said.err and "broken.wav" in said.err
    assert len(loads) == 1
    for name in ("ann.mp4", "bob.mp4"):
        with av.open(str(folder / name)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 3
    assert not list(folder.glob("*.part"))

    before = (folder / "ann.mp4").stat().st_mtime_ns
    shutil.copy(folder / "ann.wav", folder / "broken.wav")
    assert main([str(each) for each in arguments]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 made, 2 there already, 0 failed."
    assert (folder / "ann.mp4").stat().st_mtime_ns == before


@pytest.mark.parametrize("arguments", [[], ["--again", "--image", "a", "--audio", "b", "--out", "c"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", *arguments])
    assert ended.value.code == 2
    assert "required: --image, --audio, --out" in (said := capsys.readouterr().err) or "--again" in said
