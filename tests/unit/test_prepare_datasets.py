"""Names and tables become labels, and data sets are found."""

from pathlib import Path, PurePath

import numpy as np
import pytest

from dicetalk.train.clip_record import ClipLabels, DatasetError
from dicetalk.train.prepare.datasets import find_videos
from dicetalk.train.prepare.labels import parse_cremad, parse_mead, parse_ravdess, split_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("M003/video/front/happy/level_3/001.mp4", ("M003", "happy", 1.0, "M003-happy-3-001")),
        ("some/where/W011/video/front/sad/level_1/030.mp4", ("W011", "sad", 0.3, "W011-sad-1-030")),
        ("M003/video/front/neutral/level_1/002.mp4", ("M003", "neutral", 0.0, "M003-neutral-1-002")),
        ("M003/video/left_30/happy/level_3/001.mp4", None),
        ("M003/video/front/joyful/level_3/001.mp4", None),
        ("M003/video/front/happy/level_4/001.mp4", None),
        ("001.mp4", None),
    ],
)
def test_mead(name: str, expected: tuple | None) -> None:
    named = parse_mead(PurePath(name))
    if expected is None:
        assert named is None
    else:
        labels = named.labels
        assert (labels.identity, labels.emotion, labels.intensity, labels.video) == expected
        assert str(named.sound) == name.replace("video/front", "audio").replace(".mp4", ".m4a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Actor_12/01-01-03-02-01-01-12.mp4", ("ravdess-12", "happy", 1.0)),
        ("01-01-06-01-02-02-03.mp4", ("ravdess-03", "fear", 0.6)),
        ("01-01-02-02-01-01-12.mp4", ("ravdess-12", "neutral", 0.0)),  # calm
        ("01-01-07-01-01-01-24.MP4", ("ravdess-24", "disgusted", 0.6)),
        ("02-01-03-02-01-01-12.mp4", None),  # no sound
        ("01-02-03-02-01-01-12.mp4", None),  # sung
        ("03-01-03-02-01-01-12.wav", None),
        ("01-01-09-02-01-01-12.mp4", None),
    ],
)
def test_ravdess(name: str, expected: tuple | None) -> None:
    named = parse_ravdess(PurePath(name))
    found = named and (named.labels.identity, named.labels.emotion, named.labels.intensity)
    assert found == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1001_DFA_ANG_XX.flv", ("cremad-1001", "angry", None)),
        ("VideoFlash/1091_IEO_SAD_LO.flv", ("cremad-1091", "sad", 0.3)),
        ("1091_IEO_FEA_HI.mp4", ("cremad-1091", "fear", 1.0)),
        ("1091_TAI_NEU_X.flv", ("cremad-1091", "neutral", 0.0)),
        ("1091_TAI_SUR_XX.flv", None),
        ("1091_TAI_NEU.flv", None),
    ],
)
def test_cremad(name: str, expected: tuple | None) -> None:
    named = parse_cremad(PurePath(name))
    found = named and (named.labels.identity, named.labels.emotion, named.labels.intensity)
    assert found == expected


def test_identities_keep_their_side() -> None:
    for known, names in (
        ({"04", "10", "24"}, [f"{n:02}" for n in range(1, 25)]),  # RAVDESS; a change here leaks test identities
    ):
        assert {n for n in names if split_of(f"ravdess-{n}") == "test"} == known
        assert sum(split_of(f"ravdess-{n}") == "val" for n in names) >= 2
    for split in ("test", "val"):
        assert 0.08 < np.mean([split_of(f"someone {n}") == split for n in range(2000)]) < 0.12


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_data_sets_are_found(tmp_path: Path) -> None:
    mead, ravdess, cremad = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    touch(mead, *(f"M003/video/front/happy/level_1/{n:03}.mp4" for n in range(3)), "M003/audio/happy/level_1/001.m4a")
    touch(mead, "M003/video/top/happy/level_1/001.mp4")
    touch(
        ravdess,
        "Actor_12/01-01-03-02-01-01-12.mp4",
        "Actor_12/02-01-03-02-01-01-12.mp4",
        "again/01-01-03-02-01-01-12.mp4",
    )
    touch(cremad, "1001_DFA_ANG_XX.flv", "1002_DFA_HAP_HI.flv")
    videos, skipped = find_videos(mead)
    assert not skipped and {v.name for v in videos} == {f"M003-happy-1-{n:03}" for n in range(3)}
    assert {v.name: v.sound.name for v in videos} == {
        "M003-happy-1-000": "000.mp4",
        "M003-happy-1-001": "001.m4a",
        "M003-happy-1-002": "002.mp4",
    }
    assert [v.name for v in find_videos(ravdess)[0]] == ["01-01-03-02-01-01-12"]
    assert {v.labels.emotion for v in find_videos(cremad, "cremad")[0]} == {"angry", "happy"}
    with pytest.raises(DatasetError, match="holds no videos"):
        find_videos(cremad, "mead")
    with pytest.raises(DatasetError, match="holds no videos"):
        find_videos(tmp_path / "b" / "Actor_12", "cremad")
    with pytest.raises(DatasetError, match="is no folder"):
        find_videos(tmp_path / "none")
    with pytest.raises(DatasetError, match="mead, ravdess"):
        find_videos(mead, "hdtf")


def test_the_order_is_mixed_and_stable(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{a}_DFA_{e}_XX.flv" for a in range(1001, 1041) for e in ("ANG", "HAP", "SAD", "FEA")))
    names = [v.name for v in find_videos(tmp_path)[0]]
    assert names == [v.name for v in find_videos(tmp_path)[0]] and names != sorted(names)
    assert len({name[:4] for name in names[:20]}) > 10 and len({name[9:12] for name in names[:20]}) == 4


def test_a_table(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(
        "\ufeffidentity,video,emotion,intensity,split,notes\n"
        "Anna,films/a b.mp4,Happiness,0.5,test,x\n"
        "Ben,films/ä.mov,,,,\n"
        "Ben,../secret.mp4,sad,,,\n"
        "Ben,/etc/passwd,sad,,,\n"
        "Ben,,sad,,,\n"
        "Ben,.,sad,,,\n"
        "Ben,c.mp4,bored,,,\n"
        "Ben,c.mp4,sad,much,,\n"
        "Ben,c.mp4,sad,nan,,\n"
        ",c.mp4,sad\n"
        "Ben,c.mp4,sad,1,training,\n"
        "Anna,films/a b.mp4,sad,,,\n"
        "Ben,c\0.mp4,sad,,,\n",
        encoding="utf-8",
    )
    videos, skipped = find_videos(tmp_path)
    by_path = {v.path: v for v in videos}
    anna, ben = by_path[tmp_path / "films/a b.mp4"], by_path[tmp_path / "films/ä.mov"]
    assert anna.labels == ClipLabels("Anna", "happy", 0.5, "films/a b.mp4", "test")
    assert ben.labels == ClipLabels("Ben", None, None, "films/ä.mov", split_of("Ben"))
    assert anna.name.startswith("films-a-b-") and ben.name != anna.name
    reasons = {int(s.reason.split("line ")[1].split(":")[0]): s.reason for s in skipped}
    assert set(by_path) == {anna.path, ben.path, tmp_path}  # the last is no file, which its reader says
    for line, word in (
        (4, "inside"),
        (5, "inside"),
        (6, "inside"),
        (8, "bored"),
        (9, "much"),
        (10, "nan"),
        (14, "inside"),
    ):
        assert word in reasons[line]
    assert "identity" in reasons[11] and "training" in reasons[12] and "earlier line" in reasons[13]


@pytest.mark.parametrize(
    "text", ["video,emotion\na.mp4,sad\n", "", "video;identity;emotion\n", b"video,identity,emotion\n\xff\xfe"]
)
def test_a_table_that_is_none(tmp_path: Path, text: str | bytes) -> None:
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DatasetError, match=r"t\.csv"):
        find_videos(tmp_path, "csv")
    with pytest.raises(DatasetError, match=r"t\.csv is no such table; --kind csv"):
        find_videos(tmp_path)
    (tmp_path / "u.csv").write_bytes(b"")
    with pytest.raises(DatasetError, match="several CSV"):
        find_videos(tmp_path, "csv")


def test_tables_that_a_data_set_brings_are_passed_by(tmp_path: Path) -> None:
    """CREMA-D has several; one with the columns of a list of videos counts."""
    touch(tmp_path, "1001_DFA_ANG_XX.flv")
    (tmp_path / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n")
    (tmp_path / "SentenceFilenames.csv").write_text("Stimulus_Number,Filename\n1,1001_DFA_ANG_XX\n")
    assert [v.name for v in find_videos(tmp_path)[0]] == ["1001_DFA_ANG_XX"]
    (tmp_path / "videos.csv").write_text("video,identity,emotion\na.mp4,Ben,sad\n")
    assert [v.labels.identity for v in find_videos(tmp_path)[0]] == ["Ben"]
    (tmp_path / "more.csv").write_text("video,identity,emotion\nb.mp4,Ben,sad\n")
    with pytest.raises(DatasetError, match="several CSV"):
        find_videos(tmp_path)
