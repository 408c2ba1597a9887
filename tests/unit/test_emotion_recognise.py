"""Classifiers of faces as scores of the eight emotions: descriptions, both engines, real and drawn faces."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from small_onnx import write_onnx
from torch import nn

from dicetalk.drawn.clips import make_clip
from dicetalk.drawn.faces.expression import emotion_weights, express
from dicetalk.drawn.faces.identity import identity_seeds, sample_identity
from dicetalk.drawn.faces.motion import head_motion
from dicetalk.drawn.faces.render import FaceRenderer
from dicetalk.drawn.faces.scene import sample_scene
from dicetalk.emotion.prior import PRESET_NAMES, EmotionPrior
from dicetalk.emotion.recognise import network
from dicetalk.emotion.recognise.description import (
    KNOWN,
    RecogniserDescription,
    find_description,
    parse_description,
    read_description,
)
from dicetalk.emotion.recognise.network import check_onnx, opencv_network
from dicetalk.emotion.recognise.recogniser import (
    Recogniser,
    blend,
    blended_prior,
    blended_track,
    classifier_input,
    load_recogniser,
)
from dicetalk.emotion.reference.clip import reference_of
from dicetalk.emotion.reference.extract import Recognition, extract_emotion
from dicetalk.errors import CheckpointError, EmotionError
from dicetalk.portrait.faces import FaceBox

TABLE = {"size": 16, "classes": ["happy", "sad"]}
PRIORS = {
    name: EmotionPrior(torch.randn(256, generator=torch.Generator().manual_seed(i)), name=name)
    for i, name in enumerate(PRESET_NAMES)
}
NEUTRAL, HAPPY, SAD = (PRESET_NAMES.index(name) for name in ("neutral", "happy", "sad"))


# Descriptions


def test_a_table_is_read_in_any_spelling() -> None:
    found = parse_description({**TABLE, "classes": ["Anger", None, "Happiness", "surprise", "contempt"]})
    assert found.classes == ("angry", None, "happy", "surprised", "contempt")
    assert (found.colour, found.layout, found.output, found.square) == ("rgb", "nchw", "logits", False)
    assert found.mean == (0.485, 0.456, 0.406) and found.std == (0.229, 0.224, 0.225)
    grey = parse_description({**TABLE, "colour": "grey"})
    assert grey.mean == (0.0,) and grey.std == (1.0,)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 8}, "'size' is 8"),
        ({"size": 10**9}, "'size'"),
        ({"size": 10**400}, "'size'"),
        ({"size": True}, "'size'"),
        ({"size": 16.0}, "'size'"),
        ({"classes": []}, "'classes'"),
        ({"classes": ["bored"]}, "bored"),
        ({"classes": ["happy", "joy"]}, "at most once"),
        ({"classes": [None]}, "'classes'"),
        ({"classes": [["happy"]]}, "'classes'"),
        ({"classes": "happy"}, "'classes'"),
        ({"colour": "cmyk"}, "cmyk"),
        ({"colour": "grey", "mean": [0.5, 0.5, 0.5]}, "'mean'"),
        ({"mean": [0.5]}, "'mean'"),
        ({"mean": 0.5}, "'mean'"),
        ({"std": [1, 1, 0]}, "'std'"),
        ({"std": [1, 1, float("nan")]}, "'std'"),
        ({"layout": ["nchw"]}, "'layout'"),
        ({"output": {}}, "'output'"),
        ({"expand": -0.5}, "'expand'"),
        ({"square": 1}, "'square'"),
        ({"weights": "x"}, "unknown entry 'weights'"),
    ],
)
def test_wrong_entries_are_named(change: dict, named: str) -> None:
    with pytest.raises(EmotionError, match=named):
        parse_description({**TABLE, **change})


def test_files_of_descriptions(tmp_path: Path) -> None:
    with pytest.raises(EmotionError, match="expected a table"):
        parse_description([1])
    with pytest.raises(EmotionError, match="'classes' is missing"):
        parse_description({"size": 16})
    for content, named in (
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON|larger"),
        (b"\xff\xfe", "no JSON"),
        (b"3", "3"),
    ):
        (tmp_path / "m.json").write_bytes(content)
        with pytest.raises(EmotionError, match=named):
            read_description(tmp_path / "m.json")
    (tmp_path / "m.json").write_text(json.dumps(TABLE))
    assert find_description(tmp_path / "m.onnx").classes == ("happy", "sad")


def test_the_models_of_emotiefflib_need_no_description(tmp_path: Path) -> None:
    found = find_description(tmp_path / "enet_b0_8_best_vgaf.onnx")
    assert found.size == 224 and found.classes[4] == "happy" and set(found.classes) == set(PRESET_NAMES)
    assert find_description(tmp_path / "enet_b2_8.onnx").size == 260
    assert set(PRESET_NAMES) - set(KNOWN["enet_b2_7"].classes) == {"contempt"}
    assert KNOWN["enet_b0_8_va_mtl"].classes[8:] == (None, None)
    with pytest.raises(EmotionError, match=r"other\.json.*enet_b0_8_best_vgaf"):
        find_description(tmp_path / "other.onnx")


# What goes in and comes out


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("colour", ["rgb", "bgr", "grey"])
def test_inputs_are_laid_out_as_described(layout: str, colour: str) -> None:
    crop = np.zeros((16, 16, 3), np.uint8)
    crop[3, 5] = 255, 51, 0
    mean, std = ((0.5,), (2.0,)) if colour == "grey" else ((0.1, 0.2, 0.3), (1.0, 2.0, 4.0))
    given = classifier_input(crop, RecogniserDescription(16, ("happy",), colour, mean, std, layout))
    pixel = given[0, :, 3, 5] if layout == "nchw" else given[0, 3, 5]
    values = {"rgb": [1, 0.2, 0], "bgr": [0, 0.2, 1], "grey": [0.299 + 0.2 * 0.587]}[colour]
    assert pixel == pytest.approx((np.array(values) - mean) / std, abs=1e-6)
    assert given.dtype == np.float32 and given.flags.c_contiguous and given.shape[0] == 1


def recogniser(given: list[float], **changes) -> Recogniser:
    description = RecogniserDescription(**{"size": 16, "classes": ("sad", None, "happy"), **changes})
    return Recogniser(lambda _: np.array([given], np.float32), description, "model.onnx")


CROPS = np.zeros((2, 16, 16, 3), np.uint8)


def test_scores_are_put_in_the_order_of_the_presets() -> None:
    scores = recogniser([1.0, 99.0, 1.0 + np.log(3)])(CROPS)
    assert scores.shape == (2, 8) and scores.dtype == np.float32
    assert scores[0, SAD] == pytest.approx(0.25) and scores[1, HAPPY] == pytest.approx(0.75)
    assert scores.sum() == pytest.approx(2)
    assert recogniser([0.1, 0.6, 0.3], output="probabilities")(CROPS)[0, HAPPY] == pytest.approx(0.75)
    assert recogniser([0, 1, 0], output="probabilities")(CROPS).sum() == 0  # all of it means nothing here


@pytest.mark.parametrize(
    ("output", "changes", "named"),
    [
        ([1, 2], {}, "2 numbers"),
        ([1, 2, float("nan")], {}, "finite"),
        ([-3, 1, 2], {"output": "probabilities"}, "logits"),
    ],
)
def test_outputs_that_were_not_described(output: list[float], changes: dict, named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        recogniser(output, **changes)(CROPS)


def small_network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 2), nn.Softmax(1))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    (tmp_path / "m.json").write_text(json.dumps({**TABLE, "output": "probabilities"}))
    return write_onnx(small_network(), tmp_path / "m.onnx", (3, 16, 16))


@pytest.mark.parametrize("engine", ["onnxruntime", "opencv"])
def test_both_engines_compute_what_torch_does(engine: str, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_recogniser(written)
    if engine == "opencv":
        monkeypatch.setattr(loaded, "network", opencv_network(written.read_bytes(), written))
    crops = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    with torch.no_grad():
        inputs = np.concatenate([classifier_input(crop, loaded.description) for crop in crops])
        expected = small_network()(torch.from_numpy(inputs)).numpy()
    assert loaded(crops)[:, [HAPPY, SAD]] == pytest.approx(expected, abs=1e-5)


def test_files_that_cannot_be_run(written: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.onnx: there is no such file"):
        load_recogniser(written.with_name("none.onnx"))
    written.with_suffix(".json").write_text(json.dumps({**TABLE, "size": 32}))
    with pytest.raises(CheckpointError, match="right size and layout"):
        load_recogniser(written)(np.zeros((1, 32, 32, 3), np.uint8))
    data = written.read_bytes()
    for content in (b"", b"no model at all", data[: len(data) // 2]):
        written.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"m\.onnx cannot be run"):
            load_recogniser(written)


# Priors


def one_hot(*presets: int) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[list(presets)]


def test_certain_scores_give_the_priors_themselves() -> None:
    mus = blend(one_hot(*range(8)), PRIORS)
    assert torch.allclose(mus, torch.stack([PRIORS[name].mu for name in PRESET_NAMES]), atol=1e-5)
    assert torch.equal(blend(one_hot(HAPPY), PRIORS, 0.0)[0], PRIORS["neutral"].mu)
    with pytest.raises(EmotionError, match="strength is 3"):
        blend(one_hot(HAPPY), PRIORS, 3.0)
    with pytest.raises(EmotionError, match="unknown"):
        blend(one_hot(HAPPY), {"neutral": PRIORS["neutral"]})


@given(st.lists(st.floats(0, 1), min_size=8, max_size=8), st.floats(0, 2), st.floats(0, 1))
def test_blending_is_linear_in_scores_and_strength(scores: list[float], strength: float, factor: float) -> None:
    row = np.array([scores], np.float32)
    neutral = PRIORS["neutral"].mu
    whole = blend(row, PRIORS, strength) - neutral
    assert whole.isfinite().all()
    assert torch.allclose(blend(factor * row, PRIORS, strength) - neutral, factor * whole, atol=1e-3)
    assert torch.allclose(blend(row, PRIORS, factor * strength) - neutral, factor * whole, atol=1e-3)


def test_spread_over_time_is_sigma_and_lost_frames_do_not_count() -> None:
    mus = blend(one_hot(HAPPY, SAD, HAPPY, SAD, NEUTRAL), PRIORS)
    prior = blended_prior(mus, np.array([True] * 4 + [False]), "clip")
    happy, sad = PRIORS["happy"].mu, PRIORS["sad"].mu
    assert torch.allclose(prior.mu, (happy + sad) / 2, atol=1e-5)
    assert torch.allclose(prior.sigma, (happy - sad).abs() / 2, atol=1e-5)
    assert blended_prior(mus[:1], np.array([True]), "picture").sigma is None


def test_a_track_is_smooth_without_delay_and_its_sigma_is_what_smoothing_took() -> None:
    scores = one_hot(*[HAPPY] * 50 + [SAD] * 50)
    mus = blend(scores, PRIORS)
    exact = blended_track(mus, 0.0, "clip")
    assert torch.equal(exact.at([2.0]).mu[0], mus[25]) and exact.keyframes[0].prior.sigma.max() < 1e-5
    smooth = blended_track(mus, 0.3, "clip")
    assert len(smooth.keyframes) == 100 and smooth.end == pytest.approx(99 / 12.5)
    way = ((smooth.at(np.arange(100) / 12.5).mu - mus[0]) @ (mus[-1] - mus[0])) / (mus[-1] - mus[0]).square().sum()
    assert (way.diff() > -1e-5).all() and way[0] == pytest.approx(0, abs=1e-4) and way[-1] == pytest.approx(1, abs=1e-4)
    assert way[49] + way[50] == pytest.approx(1, abs=1e-3)  # the middle of the change stays where it was
    expected = (mus - smooth.at(np.arange(100) / 12.5).mu).square().mean(dim=0).sqrt()
    assert torch.allclose(smooth.keyframes[7].prior.sigma, expected, atol=1e-5)


# Real faces, with the small real model of the package


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return data.astronaut()


def test_a_real_smile_is_happy(astronaut: np.ndarray) -> None:
    found = extract_emotion(reference_of(astronaut[None]), Recognition(load_recogniser(), PRIORS))
    assert found.scores.shape == (1, 8) and found.scores[0, HAPPY] > 0.9
    assert (found.emotion.mu - PRIORS["happy"].mu).norm() < 0.3 * (PRIORS["neutral"].mu - PRIORS["happy"].mu).norm()
    assert found.emotion.sigma is None and not found.lost


def test_opencv_runs_the_bundled_model_just_as_well(astronaut: np.ndarray) -> None:
    path = Path(sys.modules["dicetalk"].__file__).parent / "assets/face_expression/face_expression.onnx"
    description = find_description(path)
    crop = description.crop(astronaut, FaceBox(170, 60, 110, 140))
    slow = Recogniser(opencv_network(path.read_bytes(), path), description, "opencv")
    assert slow(crop[None]) == pytest.approx(load_recogniser()(crop[None]), abs=1e-4)
    assert slow(crop[None])[0, HAPPY] > 0.9


def test_a_film_of_a_real_face_that_is_lost_for_a_while(astronaut: np.ndarray) -> None:
    from dicetalk.hooks import Hooks

    frames = np.stack([np.roll(astronaut, (n // 2, n), (0, 1))[::2, ::2] for n in range(40)])
    frames[12:28] = 30
    notices = []
    found = extract_emotion(
        reference_of(frames), Recognition(load_recogniser(), PRIORS), as_track=True, hooks=Hooks(notice=notices.append)
    )
    assert len(found.emotion.keyframes) == 40 and (found.scores[:, HAPPY] > 0.8).all()
    (span,) = found.lost
    assert span.start == pytest.approx(12 / 12.5, abs=0.17) and span.end == pytest.approx(28 / 12.5, abs=0.17)
    assert len(notices) == 1 and "no face was seen" in notices[0]


# Files of strangers

BUNDLED = Path(sys.modules["dicetalk"].__file__).parent / "assets/face_expression"


def test_opencv_never_sees_a_file_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed byte makes its reader divide by zero, which ends the process."""
    for suffix in (".onnx", ".json"):
        (tmp_path / f"mine{suffix}").write_bytes((BUNDLED / f"face_expression{suffix}").read_bytes())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(network, "opencv_network", lambda *_: pytest.fail("OpenCV was given the file"))
    with pytest.raises(CheckpointError, match=r'pip install "dicetalk\[recognise\]"'):
        load_recogniser(tmp_path / "mine.onnx")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert load_recogniser()(np.zeros((1, 112, 112, 3), np.uint8)).shape == (1, 8), "the bundled one needs nothing"


def test_damaged_recognisers_never_end_the_process(tmp_path: Path) -> None:
    """In a process of its own, of which only the exit status shows a crash."""
    (tmp_path / "m.json").write_bytes((BUNDLED / "face_expression.json").read_bytes())
    program = """
import sys, random, pathlib
from dicetalk.emotion.recognise.recogniser import load_recogniser
from dicetalk.errors import DiceTalkError
import numpy as np
whole, target, rng = pathlib.Path(sys.argv[1]).read_bytes(), pathlib.Path(sys.argv[2]), random.Random(7)
for _ in range(60):
    content = bytearray(whole)
    for _ in range(rng.randint(1, 3)):
        # Names, attributes and shapes stand between the weights; half of the changes go to the start and the end.
        place = rng.choice([rng.randrange(len(content)), rng.randrange(600), len(content) - 1 - rng.randrange(4000)])
        content[place] = rng.choice([0, 255, rng.randrange(256)])
    target.write_bytes(content)
    try:
        load_recogniser(target)(np.zeros((1, 112, 112, 3), np.uint8))
    except DiceTalkError:
        pass
print("whole")
"""
    arguments = [sys.executable, "-c", program, str(BUNDLED / "face_expression.onnx"), str(tmp_path / "m.onnx")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip().endswith("whole"), done.stderr[-2000:]


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "weights.bin", "C:\\secret.bin"])
def test_weights_in_another_file_are_refused(tmp_path: Path, location: str) -> None:
    onnx = pytest.importorskip("onnx")
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))
    model = onnx.load(write_onnx(layers, tmp_path / "m.onnx", (3, 16, 16)))
    (tmp_path / "m.json").write_text(json.dumps(TABLE))
    assert load_recogniser(tmp_path / "m.onnx")
    for place in ("initializer", "attribute"):
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        tensor = changed.graph.initializer[0]
        if place == "attribute":
            constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
            changed.graph.node.insert(0, constant)
            tensor = changed.graph.node[0].attribute[0].t
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        (tmp_path / "m.onnx").write_bytes(changed.SerializeToString())
        with pytest.raises(CheckpointError, match="weights lie in another file"):
            load_recogniser(tmp_path / "m.onnx")


@given(st.binary(max_size=60))
def test_any_bytes_are_an_onnx_file_or_refused(content: bytes) -> None:
    for start in (b"", b"\x08\x08", b"\x3a\x10\x0a\x08"):
        with contextlib.suppress(ValueError):
            check_onnx(start + content)


# Drawn faces, with a small network that is trained here


SIDE = 32


class Drawn:
    """A detector that knows where the face was drawn."""

    def __init__(self, box: FaceBox):
        self.box = box

    def detect(self, picture: np.ndarray) -> list[FaceBox]:
        return [self.box]


def drawn_crops(people: range, each: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Faces that show every emotion `each` times, ``(n, 3, side, side)`` in 0..1, and the number of the emotion."""
    crop = RecogniserDescription(SIDE, ("happy",), expand=0.1, square=True).crop
    weights = np.concatenate([emotion_weights(emotion, 1.0, each) for emotion in PRESET_NAMES])
    silent = np.zeros(len(weights))
    crops = []
    for number in people:
        rng = np.random.default_rng(number)
        person = sample_identity(identity_seeds("train")[number])
        units = express(person.manner, weights, silent, silent, 12.5, rng)
        drawn = FaceRenderer(person, sample_scene(rng), 64).draw_clip(units, head_motion(weights, silent, 12.5, rng))
        crops += [crop(frame.pixels, FaceBox(*frame.box.tolist())) for frame in drawn]
    labels = torch.arange(len(PRESET_NAMES)).repeat_interleave(each).repeat(len(people))
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255, labels


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    """A network of three layers that has seen some drawn people, written as ONNX and read back."""
    faces, labels = drawn_crops(range(90), 1)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 48, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48 * (SIDE // 8) ** 2, 8)),
        )
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    for _ in range(400):
        rows = torch.randint(len(faces), (64,), generator=generator)
        flipped = faces[rows].flip(-1) if torch.rand((), generator=generator) < 0.5 else faces[rows]
        loss = F.cross_entropy(network((flipped - 0.5) / 0.25), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder = tmp_path_factory.mktemp("recogniser")
    path = write_onnx(network, folder / "drawn.onnx", (3, SIDE, SIDE))
    table = {"size": SIDE, "classes": PRESET_NAMES, "mean": [0.5] * 3, "std": [0.25] * 3, "expand": 0.1, "square": True}
    path.with_suffix(".json").write_text(json.dumps(table))
    return load_recogniser(path)


def test_emotions_of_drawn_strangers_are_recognised(trained: Recogniser) -> None:
    right = 0
    for number, emotion in enumerate(PRESET_NAMES * 2):
        person = identity_seeds("test")[number]
        clip = make_clip(person, emotion, 1.0, None, number, size=64, fps=2.5)
        found = extract_emotion(
            reference_of(clip.frames, 2.5), Recognition(trained, PRIORS), detector=Drawn(clip.face)
        ).emotion
        distances = {name: float((found.mu - prior.mu).norm()) for name, prior in PRIORS.items()}
        right += min(distances, key=distances.get) == emotion
        assert found.sigma is not None
    assert right >= 11  # two by chance
