"""Speech for the made-up faces: espeak-ng, with the pitch, pace and loudness of an emotion.

espeak-ng is a program; nothing outside :mod:`dicetalk.train` and :mod:`dicetalk.evaluate` needs it.
"""

import io
import shutil
import subprocess
import wave
from dataclasses import dataclass
from html import escape

import numpy as np

from dicetalk.drawn.faces.identity import Split
from dicetalk.emotion.prior import PRESET_NAMES
from dicetalk.errors import EmotionError, SettingError, SpeechError

PROGRAM = "espeak-ng"
TIMEOUT_SECONDS = 30

HIGH_VOICES = ("en-us+f1", "en-us+f2", "en-us+f3", "en-us+f4", "en-gb-scotland+f3", "en-gb-x-rp+f2")
LOW_VOICES = ("en-us+m1", "en-us+m2", "en-us+m3", "en-us+m7", "en-gb-scotland+m3", "en-gb-x-rp+m3")
WORDS_PER_MINUTE = 165
LEVEL_DB = -21.0
"""Mean level of neutral speech, of full scale."""


@dataclass(frozen=True)
class Prosody:
    """How an emotion sounds, relative to a neutral voice.

    Args:
        pitch: factor on the mean pitch.
        range: factor on how far the pitch swings.
        rate: factor on the pace.
        gain_db: loudness.
        gap_seconds: more silence between words.
        tilt: brighter (positive) or duller (negative).
    """

    pitch: float = 1.0
    range: float = 1.0
    rate: float = 1.0
    gain_db: float = 0.0
    gap_seconds: float = 0.0
    tilt: float = 0.0

    def at(self, intensity: float) -> "Prosody":
        """The way from neutral to this, done by `intensity`."""
        neutral = Prosody()
        return Prosody(**{k: (1 - intensity) * getattr(neutral, k) + intensity * v for k, v in vars(self).items()})


PROSODY = {
    "neutral": Prosody(),
    "happy": Prosody(1.25, 1.6, 1.12, 3.0, 0.0, 0.2),
    "sad": Prosody(0.84, 0.45, 0.74, -6.0, 0.09, -0.4),
    "angry": Prosody(1.08, 1.3, 1.18, 6.0, 0.03, 0.6),
    "surprised": Prosody(1.5, 2.0, 1.0, 2.0, 0.04, 0.1),
    "fear": Prosody(1.4, 0.7, 1.34, -2.0, 0.0, 0.3),
    "disgusted": Prosody(0.8, 1.2, 0.82, 1.0, 0.06, 0.0),
    "contempt": Prosody(0.88, 0.6, 0.9, -2.5, 0.02, -0.15),
}

SENTENCES = {
    "train": (
        "The kettle is already warm.",
        "We walked home along the canal.",
        "My brother keeps bees behind the barn.",
        "There was no bread left this morning.",
        "She opened the window and looked outside.",
        "Nobody told me about the new timetable.",
        "Put the heavy boxes under the stairs.",
        "I will call you when the train arrives.",
        "The garden needs water every evening.",
        "He painted the whole kitchen yellow.",
        "They found an old map in the attic.",
        "Our neighbours have a very loud clock.",
        "It rained on the first day of the trip.",
        "Please leave the keys on the table.",
        "The library closes at half past five.",
        "Somebody parked in front of our gate.",
        "We counted eleven boats in the harbour.",
        "I have never seen that picture before.",
        "The soup tastes better on the second day.",
        "Her grandmother taught her how to whistle.",
        "You should wear a warmer coat tonight.",
        "The dog is waiting behind the door.",
        "A letter came for you last week.",
        "Turn left after the little bridge.",
        "All the lights went out at once.",
        "He forgot his umbrella on the bus.",
        "The children built a house of cards.",
        "I cannot find the other glove.",
        "We are moving to a smaller flat in May.",
        "That song always reminds me of summer.",
        "The doctor will see you in a moment.",
        "Give him a chance to explain it.",
        "Those apples fell from a neighbour's tree.",
        "There is a spider above the mirror.",
        "She repaired the radio with a hairpin.",
        "They moved the meeting to Thursday.",
        "The river was frozen from bank to bank.",
        "I made a cake without any sugar.",
        "His shoes were covered with mud.",
        "Everything is ready for the concert.",
        "The old mill has a new roof now.",
        "Ask the driver where to get off.",
        "My watch is seven minutes slow.",
        "We saw the fireworks from the hill.",
        "The post office moved across the road.",
        "Do you hear the wind in the chimney?",
        "Who left the milk on the windowsill?",
        "Why did you sell the blue bicycle?",
        "Where have all the teaspoons gone?",
        "When will the paint be dry?",
        "Can you hold this rope for me?",
        "How far is it to the lighthouse?",
        "The baker gives us yesterday's rolls.",
        "Every window on the street was open.",
        "You never said that you could sing.",
        "The cat slept on top of the piano.",
        "I read your message twice.",
        "They planted beans along the fence.",
        "Our ferry leaves before sunrise.",
        "He laughed at his own story.",
        "The tailor lost two of my buttons.",
        "She swims in the lake even in winter.",
        "We have to talk about the money.",
        "That chair belongs to my uncle.",
    ),
    "test": (
        "The market was empty by noon.",
        "I packed a sandwich for the journey.",
        "Her horse jumped over the low wall.",
        "You can borrow my torch tonight.",
        "A fox crossed the field at dawn.",
        "The tenants never met their landlord.",
        "We fixed the boat with some tape.",
        "He wrote his name in the wet sand.",
        "Nothing grows in the shadow of that oak.",
        "They sold the farm two years ago.",
        "My sister drives a yellow van.",
        "The pharmacy is around the corner.",
        "Wait until the music stops.",
        "Both of the pens have run dry.",
        "She knows the name of every star.",
        "There were footprints on the roof.",
        "Is anybody sitting on this bench?",
        "What did the plumber say to you?",
        "The snow had melted before we woke up.",
        "I thought you would be much taller.",
        "Our teacher comes from a small island.",
        "The jar of honey fell off the shelf.",
        "He answered without lifting his head.",
        "Tomorrow we will sleep until ten.",
    ),
}


def espeak() -> str:
    """Where the program is.

    Raises:
        SpeechError: it is not installed.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise SpeechError(
            f"{PROGRAM} is not installed; drawn faces speak with it. Install it: apt-get install {PROGRAM}."
        )
    return program


def sentences(split: Split) -> tuple[str, ...]:
    """The sentences that may be trained on, or measured on; none is in both.

    Raises:
        SettingError: `split` is neither "train" nor "test".
    """
    if split not in SENTENCES:
        raise SettingError(f"The split {split!r} is unknown. Known: {', '.join(SENTENCES)}.")
    return SENTENCES[split]


@dataclass(frozen=True)
class Voice:
    """One speaker.

    Args:
        name: of the voice in espeak-ng, with its variant.
        pitch: of espeak-ng, 0 to 99.
        words_per_minute: when neutral.
    """

    name: str
    pitch: int
    words_per_minute: int


def sample_voice(seed: int, high: bool) -> Voice:
    """The voice that belongs to `seed`, always the same; from the high ones or from the low ones."""
    rng = np.random.default_rng([seed, 0x7])
    names = HIGH_VOICES if high else LOW_VOICES
    pace = round(WORDS_PER_MINUTE * rng.uniform(0.93, 1.07))
    return Voice(str(rng.choice(names)), int(rng.integers(40, 61)), pace)


def speak(
    text: str, voice: Voice, emotion: str = "neutral", intensity: float = 1.0, seed: int | None = None
) -> tuple[np.ndarray, int]:
    """Say `text` with an emotion.

    Args:
        text: what is said.
        voice: who says it.
        emotion: one of the eight presets.
        intensity: 0 (neutral) to 1.
        seed: of small changes of pitch, range, pace and loudness from one utterance to the next; none if none.

    Returns:
        Sound, float32 ``(samples,)`` in -1..1, and its sample rate.

    Raises:
        EmotionError: the emotion is unknown, or the intensity is not between 0 and 1.
        SpeechError: espeak-ng is missing, lacks the voice, or fails; or there is nothing to say.
    """
    if emotion not in PROSODY:
        raise EmotionError(f"The emotion {emotion!r} is unknown. Known: {', '.join(PRESET_NAMES)}.")
    if not 0 <= intensity <= 1:
        raise EmotionError(f"The intensity of {emotion} is {intensity:g}; expected 0 to 1.")
    prosody = PROSODY[emotion].at(intensity)
    pitch, swing, rate, louder = (
        (0, 0, 0, 0) if seed is None else np.random.default_rng(seed).normal(0, 1, 4).clip(-2, 2)
    )
    marked = (
        f'<speak><prosody pitch="{100 * (prosody.pitch * (1 + 0.025 * pitch) - 1):+.1f}%" '
        f'range="{100 * prosody.range * (1 + 0.08 * swing):.0f}%">{escape(text)}</prosody></speak>'
    )
    words_per_minute = round(voice.words_per_minute * prosody.rate * (1 + 0.025 * rate))
    gap = str(round(100 * prosody.gap_seconds))
    sound, sample_rate = _espeak(
        marked, "-v", voice.name, "-p", str(voice.pitch), "-s", str(words_per_minute), "-g", gap
    )
    if not sound.any():
        raise SpeechError(f"espeak-ng said nothing for {text!r}. Give a sentence with words.")
    sound = np.convolve(sound, (1 + prosody.tilt, -prosody.tilt), "same")
    level = 10 ** ((LEVEL_DB + prosody.gain_db + 0.6 * louder) / 20)
    loud = np.abs(sound) > 0.02 * np.abs(sound).max()
    sound = sound * (level / np.sqrt((sound[loud] ** 2).mean()))
    # Peaks are rounded off rather than cut.
    return np.tanh(sound).astype(np.float32), sample_rate


def _espeak(marked: str, *options: str) -> tuple[np.ndarray, int]:
    """Run espeak-ng on text with SSML marks; float32 ``(samples,)`` and the sample rate."""
    command = [espeak(), "-m", *options, "--stdin", "--stdout"]
    try:
        done = subprocess.run(command, input=marked.encode(), capture_output=True, timeout=TIMEOUT_SECONDS, check=True)
    except subprocess.TimeoutExpired as error:
        raise SpeechError(f"{PROGRAM} did not finish within {TIMEOUT_SECONDS} s.") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise SpeechError(f"{PROGRAM} failed with {' '.join(options)}: {said}") from error
    with wave.open(io.BytesIO(done.stdout)) as file:
        # The length in the header of a stream is unknown; what is there is read.
        data = file.readframes(file.getnframes())
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768, file.getframerate()
