"""Words, tags and subtitles."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from emotion_tracks import PRIORS, values
from hypothesis import given, settings
from hypothesis import strategies as st

from dicetalk.emotion import mix as mix_module
from dicetalk.emotion.compare import FEELINGS, preset_weights
from dicetalk.emotion.files import SavedEmotion, parse_track, save_emotion
from dicetalk.emotion.parse import parse_emotion, read_emotion
from dicetalk.emotion.prior import ALIASES, PRESET_NAMES, space_of
from dicetalk.emotion.text import track as text_track
from dicetalk.emotion.text.encoding import decode_text
from dicetalk.emotion.text.languages import LANGUAGES
from dicetalk.emotion.text.subtitles import Cue, parse_subtitles, read_text
from dicetalk.emotion.text.tagged import TaggedText, parse_tagged, read_weights
from dicetalk.emotion.text.track import FADE_SECONDS, fade_track, spread, subtitle_track, tagged_track
from dicetalk.emotion.text.words import DEGREES, WORDS, describe_emotion, known_preset
from dicetalk.emotion.voice.features import VoiceFeatures
from dicetalk.errors import EmotionError
from dicetalk.hooks import Hooks


def voice(*stretches: tuple[float, bool]) -> VoiceFeatures:
    """Somebody speaks (or not) for so many seconds."""
    loudness = np.concatenate([np.full(round(50 * s), -20.0 if spoken else -90.0) for s, spoken in stretches])
    return VoiceFeatures(loudness, np.full(len(loudness), np.nan), np.zeros(len(loudness)), np.zeros(len(loudness)))


def never() -> VoiceFeatures:
    raise AssertionError("the speech is not needed")


# Words


@pytest.mark.parametrize(
    ("phrase", "weights"),
    [
        ("happy", {"happy": 1}),
        ("  Joy ", {"happy": 1}),
        ("neutral", {}),
        ("calm", {}),
        ("happy 0.8", {"happy": 0.8}),
        ("happy .5", {"happy": 0.5}),
        ("happy 80%", {"happy": 0.8}),
        ("a little annoyed", {"angry": 0.25}),
        ("a bit down", {"sad": 0.25}),
        ("very scared", {"fear": 1.3}),
        ("really very furious", {"angry": 2.0}),
        ("worried", {"fear": 0.5, "sad": 0.15}),
        ("slightly annoyed 0.5", {"angry": 0.1}),
        ("sad but relieved", {"sad": 0.5**0.5, "happy": 0.5 * 0.5**0.5}),
        ("happy, surprised and afraid", {"happy": 3**-0.5, "surprised": 3**-0.5, "fear": 3**-0.5}),
        ("angry and annoyed", {"angry": 1.5 * 0.5**0.5}),
        ("a little bit annoyed", {"angry": 0.25}),
        ("kind of sad", {"sad": 0.6}),
        ("Pretty angry!", {"angry": 0.8}),
        ("happy a lot.", {"happy": 1.3}),
        ("very sad, and a bit afraid…", {"sad": 1.3 * 0.5**0.5, "fear": 0.5 * 0.5**0.5}),
        ("happy 0.5.", {"happy": 0.5}),
    ],
)
def test_plain_words(phrase: str, weights: dict[str, float]) -> None:
    assert describe_emotion(phrase) == pytest.approx(weights)


@pytest.mark.parametrize(
    ("phrase", "weights"),
    [
        ("fröhlich", {"happy": 1}),
        ("froehlich", {"happy": 1}),
        ("FRÖHLICHE", {"happy": 1}),
        ("sehr traurig", {"sad": 1.3}),
        ("ein bisschen wütend", {"angry": 0.5}),
        ("traurig 0,8", {"sad": 0.8}),
        ("überrascht und ängstlich", {"surprised": 0.5**0.5, "fear": 0.5**0.5}),
        ("angeekelt", {"disgusted": 1}),
        ("verächtlich", {"contempt": 1}),
        ("heureuse", {"happy": 1}),
        ("très triste", {"sad": 1.3}),
        ("un peu fâchée", {"angry": 0.5}),
        ("en colère", {"angry": 1}),
        ("surprises", {"surprised": 1}),
        ("peur", {"fear": 1}),
        ("degoute", {"disgusted": 1}),
        ("méprisant", {"contempt": 1}),
        ("feliz", {"happy": 1}),
        ("muy tristes", {"sad": 1.3}),
        ("un poco enojada", {"angry": 0.5}),
        ("sorprendida", {"surprised": 1}),
        ("miedo", {"fear": 1}),
        ("asqueado", {"disgusted": 1}),
        ("desprecio", {"contempt": 1}),
        ("开心", {"happy": 1}),
        ("開心８０％", {"happy": 0.8}),
        ("有点伤心", {"sad": 0.5}),
        ("非常憤怒", {"angry": 1.3}),
        ("惊讶", {"surprised": 1}),
        ("害怕极了", {"fear": 1.6}),
        ("厌恶", {"disgusted": 1}),
        ("輕蔑", {"contempt": 1}),
        ("又开心又伤心", {"happy": 0.5**0.5, "sad": 0.5**0.5}),
        ("不开心", {"sad": 0.6}),
        ("嬉しい", {"happy": 1}),
        ("とても悲しい", {"sad": 1.3}),
        ("少し怒っている", {"angry": 0.5}),
        ("驚き、怖い", {"surprised": 0.5**0.5, "fear": 0.5**0.5}),
        ("嬉しいけど悲しい", {"happy": 0.5**0.5, "sad": 0.5**0.5}),
        ("嫌悪", {"disgusted": 1}),
        ("軽蔑", {"contempt": 1}),
        ("無表情", {}),
        ("ｈａｐｐｙ　０．８", {"happy": 0.8}),
    ],
)
def test_words_of_other_languages(phrase: str, weights: dict[str, float]) -> None:
    assert describe_emotion(phrase) == pytest.approx(weights)


@pytest.mark.parametrize("phrase", ["nicht traurig", "pas triste", "no feliz", "不悲伤", "旅行", "音楽", "悲しくない"])
def test_what_is_denied_or_unknown_in_other_languages_is_no_emotion(phrase: str) -> None:
    with pytest.raises(EmotionError, match="unknown"):
        describe_emotion(phrase)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_all_eight_and_degrees(code: str) -> None:
    language = LANGUAGES[code]
    for name in PRESET_NAMES:
        for listed in language.words[name].split():
            word = listed.replace("_", " ")
            assert known_preset(word) == name, (word, known_preset(word))
            for degrees in language.degrees.values():
                for degree in degrees.split():
                    said = f"{degree.replace('_', ' ')}{' ' * language.spaced}{word}"
                    assert set(describe_emotion(said)) == ({name} - {"neutral"}), said


def test_the_table_is_sound() -> None:
    names = {*PRESET_NAMES, *ALIASES}
    assert not names & set(WORDS), "a word must not change the meaning of a preset's name"
    for weights in WORDS.values():
        assert set(weights) <= set(PRESET_NAMES) - {"neutral"} and all(0 < weight <= 2 for weight in weights.values())
    assert all(0 < factor < 2 for factor in DEGREES.values())
    assert not set(DEGREES) & (names | set(WORDS)), "a degree must not hide a word"


@pytest.mark.parametrize(
    "phrase", ["", " ", "hungry", "very", "a little", "happy 3", "happy x", "0.5", "hungry happy", "and", "not sad"]
)
def test_words_that_are_no_emotion(phrase: str) -> None:
    with pytest.raises(EmotionError, match="Emotion"):
        describe_emotion(phrase)


def test_unknown_words_list_what_is_known() -> None:
    with pytest.raises(EmotionError, match=r"'hungry' is unknown\. Did you mean 'angry'\? Known: neutral.*annoyed"):
        describe_emotion("very hungry")


def test_two_spellings_of_weights() -> None:
    assert read_weights("happy:0.5+sad:0.3") == {"happy": 0.5, "sad": 0.3}
    assert read_weights("happy 0.5") == {"happy": 0.5}
    assert read_weights("Joy:0.5+SAD") == {"happy": 0.5, "sad": 1.0}
    for twice in ("happy:2+joy:2", "happy+Happy"):
        with pytest.raises(EmotionError, match="'happy' occurs twice"):
            read_weights(twice)


# Tags


def test_tags() -> None:
    assert parse_tagged("Well. [happy 0.8] Good morning! [sad:0.5+fear:0.2]Oh [neutral]") == [
        TaggedText("Well.", None),
        TaggedText("Good morning!", {"happy": 0.8}),
        TaggedText("Oh", {"sad": 0.5, "fear": 0.2}),
        TaggedText("", {}),
    ]
    assert parse_tagged("") == [TaggedText("", None)]
    assert [part.length for part in parse_tagged("[sad] Oh, no! [happy] 你好。 [angry]")] == [4, 7, 0]


@pytest.mark.parametrize(
    "text", ["[happy", "happy]", "[happy] x ] y", "[[happy]] x", "[hungry] x", "[] x", "x" * 300_000]
)
def test_tags_that_are_wrong(text: str) -> None:
    with pytest.raises(EmotionError) as caught:
        parse_tagged(text)
    assert len(str(caught.value)) < 2000


@pytest.mark.long
@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (parse_tagged, describe_emotion, parse_subtitles):
        with contextlib.suppress(EmotionError):
            assert read(text) is not None


# Spread over the speech


def test_parts_take_their_share_of_the_time_in_which_somebody_speaks() -> None:
    parts = parse_tagged("[happy] aaaa [sad] aaaa [angry] aa")
    assert [t for t, _ in spread(parts, voice((10, True)))] == pytest.approx([0, 4, 8])
    late = spread(parts, voice((3, False), (10, True), (5, False)))
    assert [t for t, _ in late] == pytest.approx([0, 7, 11])
    assert [t for t, _ in spread(parts, voice((10, False)))] == pytest.approx([0, 4, 8]), "silence has no better places"


def test_changes_move_to_a_pause_nearby() -> None:
    parts = parse_tagged("[happy] aaaa [sad] aaaa")
    # A quick first sentence and a slow second one: by letters alone the change would come 1.2 s late.
    timed = spread(parts, voice((2, True), (0.6, False), (3.8, True)))
    assert [t for t, _ in timed] == pytest.approx([0, 2.3])
    short = spread(parts, voice((2, True), (0.06, False), (3.8, True)))
    assert short[1][0] == pytest.approx(2.96, abs=0.02), "a stop inside a word is no pause"
    far = spread(parts, voice((1, True), (0.6, False), (9, True)))
    assert far[1][0] == pytest.approx(5.6, abs=0.02)


def test_no_sentence_vanishes_because_two_changes_move_to_one_pause() -> None:
    parts = parse_tagged("[happy] aaaa [sad] aaaa [angry] aaaa")
    speech = voice((1, True), (0.3, False), (1, True), (0.8, False), (1, True))
    assert [t for t, _ in spread(parts, speech)] == pytest.approx([0, 1.15, 2.7])
    shown = preset_weights(fade_track(spread(parts, speech), PRIORS).at([0.5, 2.0, 3.5]).mu, PRIORS)
    assert shown.argmax(dim=1).tolist() == [FEELINGS.index(name) for name in ("happy", "sad", "angry")]
    late = spread(parse_tagged("[happy] aaaa [sad] [angry] aaaa [neutral]"), speech)
    assert [t for t, _ in late[1:3]] == [late[1][0]] * 2, "nothing is said with the second"
    assert late[3][0] == pytest.approx(4.1), "what stands behind the last word begins there"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.booleans()), min_size=1, max_size=8),
    st.lists(st.integers(1, 30), min_size=1, max_size=8),
)
def test_every_sentence_has_a_time_of_its_own(stretches: list, lengths: list[int]) -> None:
    speech = voice(*stretches, (0.1, True))
    times = [t for t, _ in spread([TaggedText("a" * length, {"happy": 1.0}) for length in lengths], speech)]
    assert (np.diff(times) > 0).all() and times[-1] < len(speech) / 50


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.booleans()), min_size=1, max_size=8),
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
)
def test_spread_is_in_order_and_inside(stretches: list, lengths: list[int]) -> None:
    speech = voice(*stretches)
    timed = spread([TaggedText("a" * length, {"happy": 1.0}) for length in lengths], speech)
    times = [t for t, _ in timed]
    assert times == sorted(times) and times[0] == 0 and times[-1] <= len(speech) / 50
    assert np.isfinite(values(fade_track(timed, PRIORS))).all()


def test_fades() -> None:
    track = fade_track([(0, {"happy": 0.8}), (1.2, {"sad": 1.0}), (1.3, {"angry": 1.0})], PRIORS)
    got = values(track)
    at = lambda seconds: got[round(seconds * 12.5)]  # noqa: E731
    assert at(0)[0] == pytest.approx(0.8) and at(1.04)[0] == pytest.approx(0.8)
    assert at(1.6)[:3] == pytest.approx([0, 0, 1])
    lone = values(fade_track([(0, {}), (1.2, {"sad": 1.0})], PRIORS))[:, 1]
    assert lone[15] == pytest.approx(0.5, abs=1e-5), "half way at the moment itself"
    assert (lone > 0.01).argmax() >= (1.2 - FADE_SECONDS / 2) * 12.5
    assert (lone > 0.999).argmax() <= (1.2 + FADE_SECONDS / 2) * 12.5 + 1


def test_tagged_track() -> None:
    got = values(tagged_track("Well [happy] aaaa", voice((1, True), (0.4, False), (1, True)), PRIORS))
    assert got[:10].max() == 0 and got[-1][0] == pytest.approx(1)


# Subtitles

SRT = """1
00:00:00,500 --> 00:00:02,000
[happy] <i>Good</i> morning

2
00:00:02,500 --> 00:00:05,000 X1:10
It rains. [very sad] Oh &amp; no.
Two lines
"""
VTT = """WEBVTT - a title

NOTE
00:00:09.000 is not a cue

STYLE
::cue { color: red }

name
00:00.500 --> 00:02.000 align:start
[happy] <c.loud>Good</c> morning

00:00:02.500 --> 00:00:05.000
It rains. [very sad] Oh &amp; no.
Two lines
"""


@pytest.mark.parametrize("text", [SRT, VTT, SRT.replace("\n", "\r\n"), VTT.replace("\n", "\r")])
def test_subtitles(text: str) -> None:
    assert parse_subtitles(text) == [
        Cue(0.5, 2.0, "[happy] Good morning"),
        Cue(2.5, 5.0, "It rains. [very sad] Oh & no. Two lines"),
    ]


def test_emotions_of_subtitles_start_with_their_words_and_hold() -> None:
    track = subtitle_track(parse_subtitles(SRT), PRIORS)
    middle = [(a.seconds + b.seconds) / 2 for a, b in zip(track.keyframes[1::2], track.keyframes[2::2], strict=True)]
    letters = len("Itrains") / len("ItrainsOhnoTwolines")
    assert middle == pytest.approx([0.5, 2.5 + 2.5 * letters])
    assert values(track)[0].max() == 0 and values(track)[20][0] == pytest.approx(1)
    track = subtitle_track([Cue(0, 1, "[sad] a"), Cue(2, 3, "b")], PRIORS)
    assert track.at([9]).mu[0][1] == pytest.approx(PRIORS["sad"].mu[1])


def test_subtitle_order_and_errors() -> None:
    swapped = "00:00:02,000 --> 00:00:03,000\nb\n\n00:00:00,000 --> 00:00:01,000\na"
    assert [cue.text for cue in parse_subtitles(swapped)] == ["a", "b"]
    with pytest.raises(EmotionError, match="0 subtitles"):
        parse_subtitles("Hello")
    with pytest.raises(EmotionError, match="No subtitle has an emotion"):
        subtitle_track([Cue(0, 1, "Hello")], PRIORS)
    with pytest.raises(EmotionError, match=r"No subtitle has an emotion.*\[hungry\] of subtitle 1 \(at 0 s\)"):
        subtitle_track([Cue(0, 1, "[hungry] Hello")], PRIORS)
    with pytest.raises(EmotionError, match=r"Subtitle 2 \(at 2 s\): A bracket is left open"):
        subtitle_track([Cue(0, 1, "[sad] a"), Cue(2, 3, "[happy b")], PRIORS)


def test_subtitles_of_two_speakers_overlap() -> None:
    cues = [Cue(0.0, 10.0, "aaaaaa [sad] aa"), Cue(5.0, 7.0, "[happy] bb")]
    shown = subtitle_track(cues, PRIORS).at([4.0, 6.0, 8.5]).mu
    for row, name in zip(shown, ("neutral", "happy", "sad"), strict=True):
        assert torch.allclose(row, PRIORS[name].mu, atol=1e-4), name


def test_brackets_that_are_no_emotion_are_left_alone_in_subtitles() -> None:
    notices: list[str] = []
    cues = [
        Cue(0, 1, "[music]"),
        Cue(1, 3, "[MAN:] aaaa [happy] aaaa [applause] aa [sad] aa"),
        Cue(4, 5, "[door:1] [laughs] b"),
    ]
    track = subtitle_track(cues, PRIORS, Hooks(notice=notices.append))
    plain = subtitle_track([Cue(1, 3, "aaaa [happy] aaaa aa [sad] aa")], PRIORS)
    assert [k.seconds for k in track.keyframes] == [k.seconds for k in plain.keyframes]
    assert np.array_equal(values(track), values(plain))
    (notice,) = notices
    assert "[music] of subtitle 1 (at 0 s), [MAN:] of subtitle 2 (at 1 s)" in notice and notice.endswith("2 more.")
    subtitle_track([Cue(0, 1, "[sad] a")], PRIORS, Hooks(notice=notices.append))
    assert len(notices) == 1


NOBLANK = "1\n00:00:00,500 --> 00:00:01,500\n[happy] Good morning!\n2\n00:00:02,000 --> 00:00:03,000\n[sad 0.8] Rain.\n"


@pytest.mark.parametrize(
    "text",
    [
        NOBLANK,
        NOBLANK.replace("\n2\n", "\n \n2\n"),
        NOBLANK.replace("\n2\n", "\n\n\n2\n"),
        NOBLANK.replace("1\n00", "00", 1).replace("\n2\n", "\n"),
        NOBLANK.replace("\n", "\r"),
        "\ufeff" + NOBLANK.replace(",", "."),
        NOBLANK.replace("00:00:0", "00:0"),
        NOBLANK.replace("00:00:0", "0:00:0").replace("-->", "->"),
        NOBLANK.replace(",500", ":500").replace(" --> ", "-->"),
        NOBLANK.replace(",000", ""),
        NOBLANK.replace("-->", "--&gt;").replace(":", "："),
        NOBLANK.replace("1,500", "1,500 X1:100 X2:200 Y1:1 Y2:2").replace("[happy]", "{\\an8}<b>[happy]</b>"),
        NOBLANK.replace("[happy]", "&#91;happy&#93;&nbsp;"),
        "WEBVTT\nKind: captions\nLanguage: en\n\nNOTE by\n[angry] me\n\nREGION\nid:a\n\n" + NOBLANK.replace(",", "."),
        "WEBVTT\n" + NOBLANK.replace(",", "."),
    ],
)
def test_subtitles_as_people_make_them(text: str) -> None:
    cues = parse_subtitles(text)
    assert [(cue.start, cue.end, cue.text.replace("\xa0", "")) for cue in cues] == [
        (0.5, 1.5, "[happy] Good morning!"),
        (2.0, 3.0, "[sad 0.8] Rain."),
    ]


def test_text_below_a_blank_line() -> None:
    """Players of SRT show it; those of WebVTT do not, and then a tag in it is named."""
    srt = "1\n00:00:00,000 --> 00:00:01,000\nOne\n\n[sad] two\n\n2\n00:00:02,000 --> 00:00:03,000\nb"
    assert [cue.text for cue in parse_subtitles(srt)] == ["One [sad] two", "b"]
    left: list[str] = []
    assert [cue.text for cue in parse_subtitles("WEBVTT\n\n" + srt, left.append)] == ["One", "b"]
    (remark,) = left
    assert "line 6" in remark


ROLLING = """WEBVTT
Kind: captions

00:00:00.000 --> 00:00:02.000 align:start position:0%
{space}
[happy]<00:00:00.500><c> good</c><00:00:01.000><c> morning</c>

00:00:02.000 --> 00:00:02.010 align:start position:0%
[happy] good morning
{space}

00:00:02.010 --> 00:00:04.000 align:start position:0%
[happy] good morning
it<00:00:02.500><c> [sad] rains</c><00:00:03.000><c> again</c>

00:00:04.000 --> 00:00:04.010 align:start position:0%
it [sad] rains again
{space}
""".replace("{space}", " ")


def test_rolling_captions_say_each_word_once_at_its_own_time() -> None:
    cues = parse_subtitles(ROLLING)
    assert [cue.text for cue in cues] == ["[happy] good morning", "", "it [sad] rains again", ""]
    track = subtitle_track(cues, PRIORS)
    middle = [(a.seconds + b.seconds) / 2 for a, b in zip(track.keyframes[1::2], track.keyframes[2::2], strict=True)]
    assert middle == pytest.approx([0.5, 2.5])


def test_captions_that_grow_say_each_word_once() -> None:
    growing = [(0, "[happy] good"), (1, "[happy] good morning"), (2, "[happy] good morning [sad] rain")]
    text = "\n\n".join(f"00:00:0{i},000 --> 00:00:0{i + 1},000\n{said}" for i, said in growing)
    assert [cue.text for cue in parse_subtitles(text)] == ["[happy] good", "morning", "[sad] rain"]


def test_what_somebody_says_twice_is_said_twice() -> None:
    said = ["Yes.", "No.", "No.", "Never.", "Well.", "Maybe."]
    text = "\n\n".join(f"00:00:0{i},000 --> 00:00:0{i + 1},000\n{word}" for i, word in enumerate(said))
    assert [cue.text for cue in parse_subtitles(text)] == said


def test_times_that_cannot_be_are_named() -> None:
    left: list[str] = []
    text = (
        "1\n-00:00:01,000 --> 00:00:00,500\n[happy] a\n\n"
        "2\n00:00:02,000 --> 00:00:01,000\n[sad] bb [angry] bb\n\n"
        "3\n00:00:0x,000 --> 00:00:03,000\n[fear] c\n\n"
        "4\n00:00:04,000 --> 00:00:05,000\n[neutral] d\n"
    )
    cues = parse_subtitles(text, left.append)
    assert cues == [Cue(0, 0.5, "[happy] a"), Cue(2, 4, "[sad] bb [angry] bb"), Cue(4, 5, "[neutral] d")]
    assert len(left) == 3 and all(
        line in remark for line, remark in zip(("line 10", "line 2", "line 6"), left, strict=True)
    )
    shown = subtitle_track(cues, PRIORS).at([0.5, 2.5, 3.5, 4.9]).mu
    for row, name in zip(shown, ("happy", "sad", "angry", "neutral"), strict=True):
        assert torch.allclose(row, PRIORS[name].mu, atol=1e-4), name


# Encodings

SAID = "1\n00:00:00,500 --> 00:00:02,000\n[{}] {}\n\n2\n00:00:02,500 --> 00:00:04,000\n[{}] {}\n"
CHINESE = SAID.format("开心", "早上好，今天天气真好！", "悲伤 0.8", "又下雨了。")
JAPANESE = SAID.format("嬉しい", "おはようございます！", "悲しい 0.8", "また雨が降っています。")
GERMAN = SAID.format("fröhlich", "Schönen guten Morgen!", "traurig 0.8", "Es regnet schon wieder, für Stunden.")


@pytest.mark.parametrize(
    ("text", "encoding", "assumed"),
    [
        (CHINESE, "utf-8", None),
        (CHINESE, "utf-8-sig", None),
        (CHINESE, "utf-16", None),
        (CHINESE, "utf-32", None),
        (CHINESE, "utf-16-le", "UTF-16, little-endian"),
        (CHINESE, "utf-16-be", "UTF-16, big-endian"),
        (CHINESE, "gbk", "GBK"),
        (JAPANESE, "shift_jis", "Shift-JIS"),
        (JAPANESE, "iso2022_jp", "ISO-2022-JP"),
        (CHINESE, "utf-32-le", "UTF-32, little-endian"),
        (CHINESE, "utf-32-be", "UTF-32, big-endian"),
        (GERMAN, "mac_roman", "Mac Roman"),
        (GERMAN, "cp850", "code page 850"),
        (JAPANESE, "euc_jp", "EUC-JP"),
        (SAID.format("開心", "早安，今天天氣真好！", "悲傷 0.8", "又下雨了。"), "big5", "Big5"),
        (GERMAN, "cp1252", "Windows-1252"),
    ],
)
def test_any_usual_encoding(tmp_path: Path, text: str, encoding: str, assumed: str | None) -> None:
    (tmp_path / "a.srt").write_bytes(text.encode(encoding))
    notices: list[str] = []
    track = read_emotion(tmp_path / "a.srt", PRIORS, never, Hooks(notice=notices.append))
    assert [keyframe.prior.name for keyframe in track.keyframes[2::2]] == ["happy:1", "sad:0.8"]
    assert read_text(tmp_path / "a.srt", Hooks(notice=lambda _: None)) == text
    assert (assumed is None) == (not notices) and all(assumed in notice for notice in notices)


def test_short_texts_are_recognised_by_their_tags(tmp_path: Path) -> None:
    for text, encoding in (
        ("【开心】早上好！【悲伤】下雨了。", "gbk"),
        ("[嬉しい]やあ[悲しい]雨", "shift_jis"),
        ("[fröhlich] Hi", "cp1252"),
    ):
        assert decode_text(text.encode(encoding))[0] == text


def test_texts_that_are_none_or_damaged() -> None:
    for content in (b"\0" * 99, b"\xff\xfe" + b"\0\xd8" * 99):
        with pytest.raises(EmotionError, match="UTF-"):
            decode_text(content)
    damaged = bytearray(CHINESE.encode())
    damaged[60] = 0xFF
    text, assumed = decode_text(bytes(damaged))
    assert "[悲伤 0.8]" in text and "line 3" in assumed
    assert decode_text(CHINESE.encode("utf-16")[:-1])[1] is not None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xff\xfe\0\0"]))
def test_any_bytes_are_a_text_or_refused(content: bytes, mark: bytes) -> None:
    with contextlib.suppress(EmotionError):
        assert isinstance(decode_text(mark + content)[0], str)


# What is not used


def test_brackets_of_other_keyboards() -> None:
    text = "【happy】早上好！［sad ０．８］下雨了。〔angry〕〖neutral〗"
    assert [part.weights for part in parse_tagged(text)] == [{"happy": 1}, {"sad": 0.8}, {"angry": 1}, {}]
    spoken = lambda: voice((4, True), (1, False))  # noqa: E731
    assert not parse_emotion("【开心】早上好！", PRIORS, spoken).keyframes[0].prior.mu.equal(PRIORS["neutral"].mu)
    assert read_weights("开心：0.5＋sad:0.3") == {"happy": 0.5, "sad": 0.3}
    assert [part.length for part in parse_tagged("「happy」と言った [sad] x")][-1] == 1, "these are quotation marks"


def test_tags_that_are_never_seen_are_named(tmp_path: Path) -> None:
    notices: list[str] = []
    hooks = Hooks(notice=notices.append)
    tagged_track("[happy]\n[sad] aaaa\n[angry] aaaa [fear]", voice((4, True)), PRIORS, hooks)
    (notice,) = notices
    assert "[happy] in line 1" in notice and "[fear] in line 3" in notice and "sad" not in notice
    notices.clear()
    (tmp_path / "a.srt").write_text(
        "[fear] before\n1\n00:00:00,000 --> 00:00:01,000\n[happy] [sad] a\n\n"
        "2\n00:00:09,000 --> 00:00:10,000\n[angry] b"
    )
    read_emotion(tmp_path / "a.srt", PRIORS, never, hooks, seconds=5.0)
    assert "line 1," in notices[0] and "[happy] of subtitle 1 (line 3" in notices[1]
    assert "[angry] of subtitle 2 (line 7, at 9 s), after the end of the speech at 5.00 s" in notices[1]
    notices.clear()
    (tmp_path / "a.json").write_text('{"keyframes": [{"time": 0, "emotion": "sad"}, {"time": 9, "emotion": "happy"}]}')
    read_emotion(tmp_path / "a.json", PRIORS, never, hooks, seconds=5.0)
    assert "goes on to 9.00 s" in notices[0] and "1 of its 2 keyframes" in notices[0]


def test_a_text_that_would_come_out_neutral_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("(happy) Good morning!")
    with pytest.raises(EmotionError, match=r"a\.txt: The text has no tag"):
        read_emotion(tmp_path / "a.txt", PRIORS, lambda: voice((1, True)))
    (tmp_path / "a.srt").write_text("00:00:09,000 --> 00:00:10,000\n[angry] b")
    with pytest.raises(EmotionError, match=r"a\.srt: .*at 9 s, after the end of the speech, which is 5\.00 s"):
        read_emotion(tmp_path / "a.srt", PRIORS, never, seconds=5.0)
    assert parse_emotion("[neutral] Hello", PRIORS, lambda: voice((1, True))), "neutral that was asked for is none"


def test_an_unknown_tag_of_a_text_is_named_with_its_line() -> None:
    with pytest.raises(EmotionError, match=r"The tag \[hungry\] in line 3"):
        parse_tagged("[happy] a\n\n[hungry] b")


def test_long_texts_are_read_in_steps_that_grow_with_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are looked for once, equal emotions are mixed once, and a description has a limit."""
    counts = dict.fromkeys(("pauses", "mixed"), 0)

    def counted(name: str, function: Callable) -> Callable:
        def call(*arguments: object) -> object:
            counts[name] += 1
            return function(*arguments)

        return call

    monkeypatch.setattr(text_track, "_pauses", counted("pauses", text_track._pauses))
    monkeypatch.setattr(mix_module, "EmotionPrior", counted("mixed", mix_module.EmotionPrior))
    tagged_track("[sad] aa [happy] aa " * 2000, voice(*((1.0, True), (0.2, False)) * 200), PRIORS)
    assert counts == {"pauses": 1, "mixed": 2}
    parse_track({"values": ["sad", "happy:0.5"] * 5000}, PRIORS)
    assert counts["mixed"] == 4
    for phrase in ("very " * 20_000 + "sad", "sad and " * 20_000 + "sad", "sad" + " " * 90_000 + "x"):
        with pytest.raises(EmotionError, match="at most 500"):
            describe_emotion(phrase)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=2, max_size=6), st.integers(1, 40))
def test_subtitles_that_follow_one_another_make_a_track(milliseconds: list[int], letters: int) -> None:
    """A tag at a subtitle's end and one at the next one's start are one moment, whatever sums are rounded to."""
    ends = np.cumsum(milliseconds).tolist()
    text = f"{'a' * letters} [sad]"
    cues = [Cue(a / 1000, b / 1000, f"[happy] {text}") for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    assert subtitle_track(cues, PRIORS).end == pytest.approx(ends[-1] / 1000, abs=FADE_SECONDS)


@pytest.mark.parametrize(
    "text",
    ["<" * 200_000, "00:00:00,000 --> " * 20_000, "\n \n" * 100_000, "{\\" * 100_000, "[a" * 99_000, "9" * 200_000],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    started = time.process_time()
    for said in (text, f"00:00:00,000 --> 00:00:01,000\n{text}"):
        with contextlib.suppress(EmotionError):
            subtitle_track(parse_subtitles(said), PRIORS)
    for read in (parse_tagged, describe_emotion):
        with contextlib.suppress(EmotionError):
            read(text)
    assert time.process_time() - started < 2


# However it is given


def test_every_way_to_give_an_emotion(tmp_path: Path) -> None:
    spoken = lambda: voice((1, True), (0.4, False), (1, True))  # noqa: E731
    first = lambda track: values(track)[0].tolist()  # noqa: E731
    happy = [0.5, 0, 0, 0, 0, 0, 0]
    assert first(parse_emotion("happy:0.5", PRIORS, never)) == pytest.approx(happy)
    assert first(parse_emotion("a little happy", PRIORS, never)) == pytest.approx(happy)
    assert first(parse_emotion("[happy 0.5] aaaa [sad] aaaa", PRIORS, spoken)) == pytest.approx(happy)
    (tmp_path / "a.json").write_text('{"values": ["happy:0.5", "sad"]}')
    (tmp_path / "a.srt").write_text("\ufeff1\n00:00:00,000 --> 00:00:02,000\n[happy 0.5] Good\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("[happy 0.5] aaaa [sad] aaaa")
    np.save(tmp_path / "a.npy", parse_emotion("happy:0.5", PRIORS, never).keyframes[0].prior.mu.numpy())
    saved = SavedEmotion(parse_emotion("happy:0.5", PRIORS, never), space_of(PRIORS))
    save_emotion(saved, tmp_path / "a.safetensors")
    for name in ("a.json", "a.srt", "a.txt", "a.npy", "a.safetensors"):
        assert first(read_emotion(tmp_path / name, PRIORS, spoken)) == pytest.approx(happy), name
        assert first(parse_emotion(str(tmp_path / name), PRIORS, spoken)) == pytest.approx(happy), name


def test_a_file_may_have_a_bracket_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "[take 2] mine.json"
    path.write_text('{"values": ["happy:0.5"]}')
    assert values(parse_emotion(str(path), PRIORS, never))[0][0] == pytest.approx(0.5)
    spoken = lambda: voice((2, True))  # noqa: E731
    assert values(parse_emotion("[sad] Look at notes.txt", PRIORS, spoken))[0][1] == pytest.approx(1)


def test_files_that_are_no_emotion(tmp_path: Path) -> None:
    with pytest.raises(EmotionError, match=r"a\.mp3: .*\.safetensors"):
        read_emotion(tmp_path / "a.mp3", PRIORS, never)
    (tmp_path / "a.srt").write_bytes(b"\0\0\0\0")
    with pytest.raises(EmotionError, match=r"a\.srt: .*UTF-8"):
        read_emotion(tmp_path / "a.srt", PRIORS, never)
    (tmp_path / "big.txt").write_bytes(b" " * (5 << 20))
    with pytest.raises(EmotionError, match="4 MB"):
        read_text(tmp_path / "big.txt")
    with pytest.raises(EmotionError, match=r"none\.vtt"):
        read_emotion(tmp_path / "none.vtt", PRIORS, never)


@pytest.mark.parametrize("text", ["happy & sad", "happy/sad", "glücklich & traurig", "happy:0,7071+sad:0,7071"])
def test_signs_between_words_and_in_numbers(text: str) -> None:
    assert read_weights(text) == pytest.approx({"happy": 0.5**0.5, "sad": 0.5**0.5}, abs=1e-4)
