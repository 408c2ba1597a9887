"""The widgets' logic: their own tests under Node.js, and the same curves as the library's."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from dicetalk.emotion.files import track_from_json
from dicetalk.emotion.prior import PRESET_NAMES, PRIOR_DIM, EmotionPrior
from dicetalk.emotion.track import EASINGS

HERE = Path(__file__).parent
WEB = HERE.parents[1] / "web"
FPS = 10.0

TRACK = {
    "keyframes": [
        {"time": 0.4, "weights": {"sad": 0.9}, "intensity": 1.5, "easing": "smooth"},
        {"time": 1.0, "weights": {"sad": 0.3, "surprised": 0.8}, "easing": "ease-in"},
        {"time": 2.0, "weights": {"happy": 1}, "intensity": 0.9, "easing": "hold"},
        {"time": 2.55, "weights": {"happy": 0.4, "fear": 0.2}, "easing": "ease-out"},
        {"time": 4.0, "weights": {"angry": 2}, "intensity": 0.5, "easing": "linear"},
        {"time": 5.0, "weights": {"contempt": 1}},
    ]
}


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("No Node.js on the path: the widgets' logic is not tested.")
    return found


def test_own_tests(node: str) -> None:
    ran = subprocess.run([node, "--test", HERE / "models.test.mjs"], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stdout


def test_drawn_curves_are_the_librarys(node: str) -> None:
    """The library, given a one for each emotion instead of a prior, computes what the widget draws."""
    ones = torch.eye(len(PRESET_NAMES), PRIOR_DIM)
    ones[PRESET_NAMES.index("neutral")] = 0
    priors = {name: EmotionPrior(row, name=name) for name, row in zip(PRESET_NAMES, ones, strict=True)}
    distinct, index = track_from_json(json.dumps(TRACK), priors).priors(60, FPS)
    script = f"""
        import {{ parseTimeline, strengthsAt }} from {json.dumps((WEB / "timeline_model.mjs").as_uri())};
        const model = parseTimeline({json.dumps(json.dumps(TRACK))});
        console.log(JSON.stringify(Array.from({{ length: 60 }}, (_, i) => strengthsAt(model, i / {FPS}))));
    """
    ran = subprocess.run([node, "--input-type=module", "--eval", script], capture_output=True, text=True, check=True)
    drawn = json.loads(ran.stdout)
    for frame, prior in zip(drawn, distinct[index], strict=True):
        given = {name: prior[i].item() for i, name in enumerate(PRESET_NAMES) if name != "neutral"}
        assert frame == pytest.approx(given, abs=1e-6)


def test_names_and_limits_are_the_librarys(node: str) -> None:
    script = f"""
        import {{ EMOTIONS, NEUTRAL, MAX_WEIGHT }} from {json.dumps((WEB / "emotions.mjs").as_uri())};
        import {{ EASINGS }} from {json.dumps((WEB / "timeline_model.mjs").as_uri())};
        console.log(JSON.stringify({{ names: [NEUTRAL, ...EMOTIONS], MAX_WEIGHT, easings: Object.keys(EASINGS) }}));
    """
    ran = subprocess.run([node, "--input-type=module", "--eval", script], capture_output=True, text=True, check=True)
    known = json.loads(ran.stdout)
    assert sorted(known["names"]) == sorted(PRESET_NAMES)
    assert known["MAX_WEIGHT"] == 2
    assert known["easings"] == list(EASINGS)
