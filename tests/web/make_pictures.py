"""Makes the help pages' pictures, where the tests of this folder run: ``python tests/web/make_pictures.py``.

Not a test: pictures differ by a few pixels between fonts, so they are made when a node changes and looked at.
"""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "web" / "docs"
MARGIN = 14
SIZES = {"DICETalk_EmotionBankMix": (400, 540), "DICETalk_EmotionTimeline": (580, 480)}
VALUES = {
    "DICETalk_EmotionBankMix": [
        '{"weights": {"happy": 0.55, "surprised": 0.3}, "intensity": 1.0}',
        1.0,
        1.0,
        0.0,
        0,
        "fixed",
    ],
    "DICETalk_EmotionTimeline": [
        '{"keyframes": [{"time": 0.0, "weights": {"sad": 0.9}, "intensity": 1.0, "easing": "smooth"}, '
        '{"time": 0.8, "weights": {"sad": 0.25, "surprised": 0.8}, "intensity": 1.0, "easing": "smooth"}, '
        '{"time": 1.7, "weights": {"happy": 1.0}, "intensity": 0.9, "easing": "smooth"}, '
        '{"time": 2.7, "weights": {"happy": 0.35}, "intensity": 1.0, "easing": "linear"}]}'
    ],
}


def test_make_pictures(open_editor, node_definitions) -> None:
    editor = open_editor(nodes2=True)
    speech = speech_report()
    for node_id in node_definitions:
        size = SIZES.get(node_id, (380, 100))
        node = {"id": 1, "type": node_id, "pos": [0, 60], "size": list(size), "flags": {}, "mode": 0, "properties": {}}
        if node_id in VALUES:
            node["widgets_values"] = VALUES[node_id]
        editor.page.evaluate("graph => app.loadGraphData(graph)", {"nodes": [node], "links": [], "version": 0.4})
        editor.view(1.0)
        editor.page.mouse.move(1190, 990)
        if node_id == "DICETalk_EmotionTimeline":
            editor.run_reported(speech)
            editor.page.locator(".dicetalk-diamond").nth(1).dispatch_event("focus")
        if node_id not in VALUES and (more := editor.page.get_by_text("Show advanced inputs")).count():
            more.click()
            editor.page.mouse.move(1190, 990)
            editor.page.evaluate("() => app.canvas.deselectAll()")
        editor.page.wait_for_timeout(700)
        box = editor.page.locator("[data-node-id='1']").first.bounding_box()
        clip = {
            "x": box["x"] - MARGIN,
            "y": box["y"] - MARGIN,
            "width": box["width"] + 2 * MARGIN,
            "height": box["height"] + 2 * MARGIN,
        }
        editor.page.screenshot(path=DOCS / f"{node_id}.png", clip=clip)


def speech_report() -> dict:
    """What the timeline would report of the example's speech."""
    import numpy as np
    import soundfile

    samples, sample_rate = soundfile.read(ROOT / "examples" / "speech.wav")
    starts = np.linspace(0, len(samples), 800, endpoint=False).astype(int)
    peaks = np.maximum.reduceat(np.abs(samples), starts)
    return {"dicetalk_waveform": peaks.clip(max=1).round(3).tolist(), "dicetalk_duration": [len(samples) / sample_rate]}


if __name__ == "__main__":
    sys.exit(pytest.main([__file__, "-q", "-p", "no:cacheprovider"]))
