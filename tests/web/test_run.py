"""From the browser through a run of the real nodes, with small random models, and back to the widgets."""

import json
import random

GRAPH = """() => {
    app.graph.clear();
    const make = (type, x, y) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        return node;
    };
    const model = make("DICETalk_LoadModel", 0, 0), sound = make("LoadAudio", 0, 220);
    const encode = make("DICETalk_AudioEncode", 0, 520);
    const line = make("DICETalk_EmotionTimeline", 400, 0), pad = make("DICETalk_EmotionBankMix", 1020, 0);
    model.widgets.find(widget => widget.name === "model").value = "dicetalk.safetensors";
    sound.widgets.find(widget => widget.name === "audio").value = "speech.wav";
    for (const node of [encode, line, pad]) model.connect(0, node, node.findInputSlot("model"));
    sound.connect(0, encode, encode.findInputSlot("audio"));
    encode.connect(0, line, line.findInputSlot("speech"));
    for (const [node, x] of [[line, 400], [pad, 1020]]) {
        node.connect(1, make("PreviewImage", x, 700), 0);
    }
    return { line: line.id, pad: pad.id };
}"""


def test_queued_in_the_browser(editor, server_url: str) -> None:
    ids = editor.page.evaluate(GRAPH)
    editor.view(0.6)
    editor.page.locator(".dicetalk-pad").wait_for()
    editor.page.locator('.dicetalk-pad input[aria-label="Weight of sad"]').fill("0.3")
    editor.page.get_by_label("Add a keyframe").click()
    # A weight that no run before had, or the node would come out of the cache and report nothing.
    weight = random.randrange(1, 2000) / 1000
    editor.page.locator('.dicetalk-details input[aria-label="Weight of sad"]').fill(str(weight))
    texts = [editor.text(ids["line"]), editor.text(ids["pad"])]
    assert len(json.loads(texts[0])["keyframes"]) == 2

    done = """() => new Promise((done, fail) => {
        app.api.addEventListener("execution_success", () => done(), { once: true });
        const refuse = event => fail(new Error(event.detail.exception_message));
        app.api.addEventListener("execution_error", refuse, { once: true });
        app.queuePrompt(0, 1);
    })"""
    editor.page.evaluate(done)
    editor.page.locator(".dicetalk-wave").wait_for(state="attached")
    assert editor.page.locator(".dicetalk-hint").text_content().endswith("s of speech")

    history = editor.page.evaluate("async () => await (await app.api.fetchApi('/history?max_items=1')).json()")
    (run,) = history.values()
    queued = run["prompt"][2]
    assert [queued[str(ids["line"])]["inputs"]["keyframes"], queued[str(ids["pad"])]["inputs"]["emotions"]] == texts
