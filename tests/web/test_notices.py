"""Notices of a run in the node, in Classic and in Nodes 2.0; what a run shows and how a node grows by it."""

import random
from typing import Any

import pytest

PAD, ENCODE = "DICETalk_EmotionBankMix", "DICETalk_AudioEncode"
HAPPY = '{"weights": {"happy": 1.0}, "intensity": 1.0}'
NEUTRAL = '{"weights": {"happy": 1.0}, "intensity": 0.0}'
TEXTS = ["emotion_a is connected, but has no part: its weight is 0.", "The intensity is 0."]
RUN = """() => new Promise((done, fail) => {
    app.api.addEventListener("execution_success", () => done(), { once: true });
    const refuse = event => fail(new Error(event.detail.exception_message));
    app.api.addEventListener("execution_error", refuse, { once: true });
    app.queuePrompt(0, 1);
})"""
GRAPH = """text => {
    app.graph.clear();
    const make = (type, x) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, 0];
        app.graph.add(node);
        return node;
    };
    const model = make("DICETalk_LoadModel", 0), pad = make("DICETalk_EmotionBankMix", 400);
    model.widgets.find(widget => widget.name === "model").value = "dicetalk.safetensors";
    pad.widgets.find(widget => widget.name === "emotions").value = text;
    model.connect(0, pad, pad.findInputSlot("model"));
    pad.connect(1, make("PreviewImage", 900), 0);
    return pad.id;
}"""


def shown(editor: Any) -> list[str]:
    return editor.page.locator(".dicetalk-notices > p").all_text_contents()


def height(editor: Any, node_id: int = 1) -> float:
    return editor.page.evaluate("id => app.graph.getNodeById(id).size[1]", node_id)


def test_notices_come_and_go_with_runs(editor: Any, node: Any) -> None:
    editor.load(node(PAD, HAPPY))
    before, saved = height(editor), editor.page.evaluate("() => app.graph.serialize().nodes[0].widgets_values")
    editor.run_reported({"dicetalk_notices": [*TEXTS, TEXTS[0]]})
    editor.page.locator(".dicetalk-notices").wait_for()
    assert shown(editor) == TEXTS
    box, body = (editor.page.locator(each).bounding_box() for each in (".dicetalk-notices", ".dicetalk-pad"))
    assert box["height"] >= 30 and box["y"] >= body["y"] + body["height"] - 1  # below the pad, not over it
    assert height(editor) > before
    assert editor.page.evaluate("() => app.graph.serialize().nodes[0].widgets_values") == saved
    editor.run_reported({"dicetalk_notices": []})
    assert shown(editor) == []
    assert height(editor) == pytest.approx(before, abs=2)


def test_a_run_of_the_server_shows_its_notice_and_no_picture_in_the_pad(editor: Any, node: Any) -> None:
    """The intensity 0 is noted; the picture of the bank is shown by the node that is there for it alone."""
    editor.load(node(PAD, HAPPY))  # the page has opened its own workflow by then
    # A weight that no run before had: the first time nothing comes from the cache.
    weight = random.randrange(1, 2000) / 1000
    pad = editor.page.evaluate(GRAPH, NEUTRAL.replace("1.0", str(weight)))
    editor.view(0.7)
    editor.page.locator(".dicetalk-pad").wait_for()
    before = height(editor, pad)
    editor.page.evaluate(RUN)
    editor.page.locator(".dicetalk-notices").wait_for()
    (text,) = shown(editor)
    assert "intensity is 0" in text
    editor.page.wait_for_timeout(500)
    assert height(editor, pad) < before + 120  # the picture would take twice that
    assert editor.page.evaluate("id => app.graph.getNodeById(id).imgs?.length ?? 0", pad) == 0

    editor.page.evaluate(GRAPH, NEUTRAL.replace("1.0", str(weight)))  # as on a page that was opened anew
    editor.page.locator(".dicetalk-notices").wait_for(state="detached")
    editor.page.evaluate(RUN)
    editor.page.locator(".dicetalk-notices").wait_for()  # nothing was run: it comes from the cache
    assert shown(editor) == [text]


def test_the_wheel_zooms_over_the_pad(editor: Any, node: Any) -> None:
    editor.load(node(PAD, HAPPY))
    box = editor.page.locator(".dicetalk-pad .dicetalk-drawing").bounding_box()
    editor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    scale = "() => app.canvas.ds.scale"
    before = editor.page.evaluate(scale)
    editor.page.mouse.wheel(0, -120)
    editor.page.wait_for_function("before => app.canvas.ds.scale > before", arg=before)
    zoomed = editor.page.evaluate(scale)
    assert zoomed == pytest.approx(before * 1.1, rel=0.05)  # one notch once, not twice
    editor.page.mouse.wheel(0, 120)
    editor.page.wait_for_function("zoomed => app.canvas.ds.scale < zoomed", arg=zoomed)
    assert editor.value()["weights"] == {"happy": 1.0}
