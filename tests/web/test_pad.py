"""The emotion pad in a real browser, in Classic and in Nodes 2.0."""

import json
import math

import pytest

PAD = "DICETalk_EmotionBankMix"
HAPPY = '{"weights": {"happy": 1.0}, "intensity": 1.0}'
HALF_WIDTH = 1.72  # of the drawing, where an emotion's corner has the distance 1 from neutral
CORNERS = ("surprised", "happy", "contempt", "disgusted", "angry", "sad", "fear")


def on_screen(editor, emotion: str, part: float = 1.0) -> tuple[float, float]:
    """Where the pad shows `part` of an emotion."""
    box = editor.page.locator(".dicetalk-pad .dicetalk-drawing").bounding_box()
    unit = box["width"] / 2 / HALF_WIDTH
    angle = 2 * math.pi * CORNERS.index(emotion) / len(CORNERS)
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return middle[0] + part * unit * math.sin(angle), middle[1] - part * unit * math.cos(angle)


def drag(editor, *places: tuple[float, float]) -> None:
    editor.page.mouse.move(*places[0])
    editor.page.mouse.down()
    for place in places[1:]:
        editor.page.mouse.move(*place, steps=4)
    editor.page.mouse.up()
    editor.settle()


def handle(editor):
    return editor.page.locator(".dicetalk-handle")


def handle_place(editor) -> tuple[float, float]:
    return tuple(float(handle(editor).get_attribute(name)) for name in ("cx", "cy"))


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.4])
def test_drag_at_several_zooms(editor, node, scale: float) -> None:
    editor.load(node(PAD, HAPPY), scale=scale)
    before = editor.page.evaluate("() => [...app.graph.getNodeById(1).pos]")
    drag(editor, on_screen(editor, "happy", 0.97), on_screen(editor, "sad", 0.5))
    weights = editor.value()["weights"]
    assert weights.pop("sad") == pytest.approx(0.5, abs=0.03)
    assert sum(weights.values()) < 0.03
    assert editor.page.evaluate("() => [...app.graph.getNodeById(1).pos]") == before


def test_drag_outside_stops_at_the_edge(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    drag(editor, on_screen(editor, "happy", 0.5), on_screen(editor, "surprised", 4.0))
    assert editor.value()["weights"]["surprised"] == pytest.approx(1.0, abs=0.02)
    assert sum(editor.value()["weights"].values()) <= 1


def test_keys(editor, node) -> None:
    editor.load(node(PAD, '{"weights": {}, "intensity": 1.0}'))
    handle(editor).focus()
    assert handle(editor).get_attribute("aria-valuetext") == "neutral"
    for _ in range(4):
        editor.page.keyboard.press("ArrowUp")
    assert editor.value()["weights"] == {"surprised": 0.2}
    editor.page.keyboard.press("Shift+ArrowUp")
    assert editor.value()["weights"] == {"surprised": 0.21}
    assert handle(editor).get_attribute("aria-valuetext") == "surprised 0.21"
    editor.page.keyboard.press("Delete")
    assert editor.value()["weights"] == {}
    assert editor.page.evaluate("() => app.graph.nodes.length") == 1


def test_tab_leads_to_the_handle_and_shows_it(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    stroke = "element => getComputedStyle(element).stroke"
    quiet = handle(editor).evaluate(stroke)
    editor.page.get_by_label("Type the value as JSON").focus()
    editor.page.keyboard.press("Tab")
    assert handle(editor).evaluate("element => element === document.activeElement")
    assert handle(editor).evaluate(stroke) != quiet
    editor.page.keyboard.press("Tab")
    assert editor.page.get_by_label("Weight of surprised").evaluate("element => element === document.activeElement")


def test_typed_numbers(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    sad = editor.page.get_by_label("Weight of sad")
    sad.fill("0.4")
    assert editor.value()["weights"] == {"happy": 1.0, "sad": 0.4}
    assert "dicetalk-typed" in handle(editor).get_attribute("class")
    sad.fill("9")
    sad.press("Enter")
    assert editor.value()["weights"]["sad"] == 2
    assert sad.input_value() == "2"
    sad.fill("")
    sad.press("Tab")
    assert sad.input_value() == "2"
    sad.press("ArrowDown")
    assert editor.value()["weights"]["sad"] == 1.95


def test_intensity(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    editor.page.locator(".dicetalk-pad input[type=range]").press("ArrowRight")
    assert editor.value()["intensity"] == 1.05
    editor.page.locator(".dicetalk-pad .dicetalk-toolbar .dicetalk-number").fill("0.3")
    assert editor.value() == {"weights": {"happy": 1.0}, "intensity": 0.3}


def test_typed_json(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    editor.page.get_by_label("Type the value as JSON").click()
    area = editor.page.locator(".dicetalk-json")
    message = editor.page.locator(".dicetalk-message")
    area.fill('{"weights": {"hapy": 1}}')
    assert "hapy" in message.text_content() and message.is_visible()
    assert json.loads(editor.text()) == json.loads(HAPPY)
    area.fill('{"weights": {"fear": 0.5}, "intensity": 2}')
    assert message.is_hidden()
    assert editor.value() == {"weights": {"fear": 0.5}, "intensity": 2}
    editor.page.get_by_label("Type the value as JSON").click()
    assert editor.page.get_by_label("Weight of fear").input_value() == "0.5"


def test_undo_and_redo(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    drag(editor, on_screen(editor, "happy", 0.97), on_screen(editor, "sad", 0.5))
    dragged = editor.text()
    assert dragged != HAPPY
    editor.page.keyboard.press("Control+z")
    editor.page.wait_for_function("text => app.graph.nodes[0]?.widgets[0].value === text", arg=HAPPY)
    editor.settle()
    assert editor.page.get_by_label("Weight of happy").input_value() == "1"
    editor.page.keyboard.press("Control+y")
    editor.page.wait_for_function("text => app.graph.nodes[0]?.widgets[0].value === text", arg=dragged)


def test_copies_are_independent(editor, node) -> None:
    editor.load(node(PAD, '{"weights": {"fear": 0.25}, "intensity": 1.0}'))
    editor.page.evaluate("() => { app.canvas.selectItems([app.graph.getNodeById(1)]); app.canvas.copyToClipboard(); }")
    editor.page.evaluate("() => app.canvas.pasteFromClipboard({ position: [520, 0] })")
    editor.settle()
    ids = editor.page.evaluate("() => app.graph.nodes.map(node => node.id)")
    assert len(ids) == 2
    assert editor.text(ids[1]) == editor.text(ids[0])
    field = editor.page.get_by_label("Weight of fear").nth(1)
    field.fill("0.75")
    assert sorted(editor.value(i)["weights"]["fear"] for i in ids) == [0.25, 0.75]


def test_saved_and_opened_again(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    drag(editor, on_screen(editor, "happy", 0.97), on_screen(editor, "disgusted", 0.6))
    text, place = editor.text(), handle_place(editor)
    saved = editor.page.evaluate("() => app.graph.serialize()")
    assert saved["nodes"][0]["widgets_values"][0] == text
    editor.load(node(PAD, HAPPY))
    editor.page.evaluate("graph => app.loadGraphData(graph)", saved)
    editor.settle()
    assert editor.text() == text
    assert handle_place(editor) == pytest.approx(place, abs=1e-6)


def test_old_workflows_without_a_value(editor, node) -> None:
    for values in ([], [None], [""]):
        editor.load(node(PAD, None, values=values))
        assert editor.value() == json.loads(HAPPY)


def test_a_value_it_does_not_understand_is_kept_and_reported(editor, node) -> None:
    strange = '{"weights": {"elated": 1}, "intensity": 1.0}'
    editor.load(node(PAD, strange))
    assert editor.page.locator(".dicetalk-message").is_visible()
    assert editor.text() == strange
    drag(editor, on_screen(editor, "happy", 0.5), on_screen(editor, "happy", 1.0))
    assert editor.page.locator(".dicetalk-message").is_hidden()
    assert editor.value()["weights"]["happy"] == pytest.approx(1, abs=0.02)


def test_what_is_queued_is_what_is_shown(editor, node) -> None:
    editor.load(node(PAD, HAPPY))
    editor.page.get_by_label("Weight of angry").fill("0.5")
    prompt = editor.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert json.loads(prompt["1"]["inputs"]["emotions"]) == {"weights": {"happy": 1.0, "angry": 0.5}, "intensity": 1.0}


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("nodes2", [False, True], ids=["classic", "nodes2"])
def test_names_stand_out_from_the_ground(open_editor, node, theme: str, nodes2: bool) -> None:
    editor = open_editor(theme=theme, nodes2=nodes2)
    editor.load(node(PAD, HAPPY))
    colours = editor.page.evaluate(
        """() => {
            const of = (selector, name) => [...document.querySelectorAll(selector)].map(e => getComputedStyle(e)[name]);
            const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
            const rgb = text => {
                canvas.fillStyle = text;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
            };
            return {
                ground: rgb(of(".dicetalk-stage", "backgroundColor")[0]),
                texts: of(".dicetalk-label > span, .dicetalk-label > input, .dicetalk-name", "color").map(rgb),
            };
        }"""
    )
    editor.page.close()
    assert len(colours["texts"]) == 15
    for text in colours["texts"]:
        assert contrast(text, colours["ground"]) >= 3, text


def contrast(first: list[int], second: list[int]) -> float:
    """WCAG's ratio of the luminances of two colours."""

    def luminance(rgb: list[int]) -> float:
        linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("locale", "happy", "intensity"), [("zh", "高兴", "强度"), ("ja", "喜び", "強さ")])
def test_words_in_the_editors_language(open_editor, node, locale: str, happy: str, intensity: str) -> None:
    editor = open_editor(locale=locale)
    editor.load(node(PAD, HAPPY))
    assert editor.page.locator(".dicetalk-label > span").all_text_contents()[1] == happy
    assert editor.page.locator(".dicetalk-pad .dicetalk-name").text_content() == intensity
    editor.page.close()


def test_no_errors_in_the_page(editor) -> None:
    assert [error for error in editor.errors if "dicetalk" in error.lower()] == []
