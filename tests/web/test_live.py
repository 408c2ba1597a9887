"""Only live widgets are shown, in Classic and in Nodes 2.0, and workflows of earlier releases open."""

import json
from pathlib import Path
from typing import Any

import pytest

OLD = sorted((Path(__file__).parent / "old_workflows").glob("*.json"))
"""As they were shipped when every input was shown with every choice."""

SHOWN = "id => app.graph.getNodeById(id).widgets.filter(w => !w.hidden).map(w => w.name)"
VALUES = """id => Object.fromEntries(app.graph.getNodeById(id).widgets.map(w => [w.name, w.value]))"""
SAMPLER = [3, "fixed", "reference", 40, 3.5, 6.0, 0.0, 0.0, "tight", 20, 4, 6]
ALWAYS = [False, 1.0, 0.5, 9.0, 16.0, 0.9, 0.0, True, 512, 8]


def load(editor: Any, kind: str, values: list[Any]) -> None:
    saved = {"id": 1, "type": kind, "pos": [0, 0], "size": [400, 100], "flags": {}, "order": 0, "mode": 0}
    graph = {"nodes": [saved | {"properties": {}, "widgets_values": values}], "links": [], "version": 0.4}
    editor.page.evaluate("graph => app.loadGraphData(graph)", graph)
    editor.view(1.0)


def choose(editor: Any, name: str, value: Any) -> None:
    editor.page.evaluate(
        """([name, value]) => {
            const widget = app.graph.getNodeById(1).widgets.find(w => w.name === name);
            widget.value = value;
            widget.callback?.(value);
        }""",
        [name, value],
    )
    editor.settle()


def test_a_sampler_of_an_earlier_release_opens_with_its_values(editor: Any) -> None:
    load(editor, "DICETalk_Sampler", SAMPLER + ALWAYS)
    values = editor.page.evaluate(VALUES, 1)
    assert (values["seed"], values["preset"], values["interpolate"], values["decode_chunk"]) == (
        3,
        "reference",
        False,
        8,
    )
    assert values["noise_strength"] == 0.9 and not any(name.startswith("preset.") for name in values)
    choose(editor, "preset", "custom")
    values = editor.page.evaluate(VALUES, 1)
    assert (values["preset.steps"], values["preset.schedule"], values["preset.shift"]) == (40, "tight", 6)
    load(editor, "DICETalk_Sampler", [*SAMPLER[:2], "custom", *SAMPLER[3:], *ALWAYS])
    assert editor.page.evaluate(VALUES, 1) == values


def test_a_choice_keeps_its_values_while_another_is_chosen(editor: Any) -> None:
    load(editor, "DICETalk_Sampler", [*SAMPLER[:2], "custom", *SAMPLER[3:], *ALWAYS])
    before = editor.page.evaluate(VALUES, 1)
    choose(editor, "preset", "fast")
    assert "preset.steps" not in editor.page.evaluate(SHOWN, 1)
    prompt = editor.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert not any(name.startswith("preset.") for name in prompt["1"]["inputs"])
    choose(editor, "preset", "custom")
    assert editor.page.evaluate(VALUES, 1) == before


@pytest.mark.parametrize(
    ("kind", "values", "dead", "change", "live"),
    [
        ("LoadModel", ["tiny", "auto", "auto"], "svd", ("model", "dicetalk.safetensors"), "svd"),
        ("PortraitCrop", ["everything moves", 0, 0.5, 64, 1.3], "mask_scale", ("area", "face"), "mask_scale"),
        ("EmotionBankMix", [None, 1.0, 1.0, 0.0, 0, "fixed"], "seed", ("temperature", 0.5), "seed"),
    ],
)
def test_dead_widgets_are_hidden_until_they_live(
    editor: Any, kind: str, values: list[Any], dead: str, change: tuple[str, Any], live: str
) -> None:
    load(editor, f"DICETalk_{kind}", values)
    assert dead not in editor.page.evaluate(SHOWN, 1)
    choose(editor, *change)
    assert live in editor.page.evaluate(SHOWN, 1)


def labels(editor: Any, node_id: int) -> set[str]:
    """Names of widgets that the page shows for a node."""
    if editor.page.evaluate("() => LiteGraph.vueNodesMode"):
        return set(editor.page.locator(f"[data-node-id='{node_id}']").first.inner_text().split())
    return set(editor.page.evaluate(SHOWN, node_id))


def test_every_emotion_that_is_wired_has_its_weight(editor: Any) -> None:
    editor.page.evaluate(
        """() => {
            app.graph.clear();
            const add = (kind, x, y) => {
                const node = LiteGraph.createNode(kind);
                app.graph.add(node);
                node.pos = [x, y];
                return node;
            };
            window.mix = add("DICETalk_EmotionBankMix", 300, 0);
            window.loaders = Array.from({ length: 8 }, (_, i) => add("DICETalk_LoadEmotion", 0, 90 * i));
        }"""
    )
    editor.view(0.8)
    mix = editor.page.evaluate("() => mix.id")
    for i, letter in enumerate("abcdefgh"):
        editor.page.evaluate(
            """([i, name]) => {
                const slot = mix.inputs.findIndex((input) => input.name.endsWith(name));
                loaders[i].connect(0, mix, slot);
            }""",
            [i, f"emotion_{letter}"],
        )
        editor.settle()
        editor.settle()
        shown = {each for each in labels(editor, mix) if each.startswith("weight_")}
        assert shown == {f"weight_{each}" for each in "abcdefgh"[: i + 1]}
    inputs = editor.page.evaluate("async () => (await app.graphToPrompt()).output")[str(mix)]["inputs"]
    assert {"emotion_a", "emotion_b", *(f"more.emotion_{each}" for each in "cdefgh")} <= set(inputs)
    # Without a draw, neither the seed nor what becomes of it after a run has a part.
    assert not {"seed", "fixed"} & set(editor.page.evaluate(SHOWN, mix))
    editor.page.evaluate("() => mix.disconnectInput(mix.inputs.findIndex((input) => input.name === 'emotion_a'))")
    editor.settle()
    editor.settle()
    assert "weight_a" not in labels(editor, mix) and "weight_b" in labels(editor, mix)


@pytest.mark.parametrize("workflow", OLD, ids=lambda path: path.stem)
def test_a_workflow_of_an_earlier_release_asks_for_what_it_asked_for(editor: Any, workflow: Path) -> None:
    saved = json.loads(workflow.read_text())
    prompt = editor.page.evaluate(
        "async saved => { await app.loadGraphData(saved); return (await app.graphToPrompt()).output }", saved
    )
    for node in saved["nodes"]:
        if node["type"] == "DICETalk_PortraitCrop":
            assert prompt[str(node["id"])]["inputs"]["short_side"] == node["widgets_values"][3]
            assert prompt[str(node["id"])]["inputs"]["mask_scale"] == node["widgets_values"][4]
        if node["type"] == "DICETalk_Sampler":
            inputs = prompt[str(node["id"])]["inputs"]
            assert inputs["preset"] == "reference" and "preset.steps" not in inputs and "steps" not in inputs
            assert [inputs["interpolate"], inputs["decode_chunk"]] == [node["widgets_values"][i] for i in (12, 21)]
