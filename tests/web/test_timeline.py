"""The emotion timeline in a real browser, in Classic and in Nodes 2.0."""

import json

import pytest

TIMELINE = "DICETalk_EmotionTimeline"
TRACK = json.dumps(
    {
        "keyframes": [
            {"time": 0.0, "weights": {"sad": 0.8}, "intensity": 1.0, "easing": "linear"},
            {"time": 2.0, "weights": {"happy": 0.5}, "intensity": 1.0, "easing": "smooth"},
            {"time": 4.0, "weights": {"happy": 1.0}, "intensity": 1.0, "easing": "hold"},
        ]
    }
)


def keyframes(editor, node_id: int = 1) -> list[dict]:
    return editor.value(node_id)["keyframes"]


def point(editor, index: int, emotion: str):
    return editor.page.locator(f'.dicetalk-point[data-keyframe="{index}"][data-emotion="{emotion}"]')


def diamond(editor, index: int):
    return editor.page.locator(".dicetalk-diamond").nth(index)


def middle(locator) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag_by(editor, locator, dx: float, dy: float) -> None:
    x, y = middle(locator)
    editor.page.mouse.move(x, y)
    editor.page.mouse.down()
    editor.page.mouse.move(x + dx, y + dy, steps=5)
    editor.page.mouse.up()
    editor.settle()


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.3])
def test_a_point_is_dragged(editor, node, scale: float) -> None:
    editor.load(node(TIMELINE, TRACK), scale=scale)
    before = editor.page.evaluate("() => [...app.graph.getNodeById(1).pos]")
    (x0, low), (x1, high) = middle(point(editor, 1, "happy")), middle(point(editor, 2, "happy"))
    # Half a second to the right and a quarter of the axis up.
    drag_by(editor, point(editor, 1, "happy"), (x1 - x0) / 4, (high - low) / 2)
    moved = keyframes(editor)[1]
    assert moved["time"] == pytest.approx(2.5, abs=0.03)
    assert moved["weights"]["happy"] == pytest.approx(0.75, abs=0.03)
    assert [keyframes(editor)[i]["time"] for i in (0, 2)] == [0, 4]
    assert editor.page.evaluate("() => [...app.graph.getNodeById(1).pos]") == before


def test_a_keyframe_stays_between_its_neighbours(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    drag_by(editor, diamond(editor, 1), 2000, 0)
    assert keyframes(editor)[1]["time"] == 3.99


def test_added_and_removed(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    (x0, _), (x1, y) = middle(diamond(editor, 0)), middle(diamond(editor, 1))
    editor.page.mouse.dblclick((x0 + x1) / 2, y - 60)
    editor.settle()
    new = keyframes(editor)[1]
    assert len(keyframes(editor)) == 4
    assert new["time"] == pytest.approx(1.0, abs=0.03)
    assert new["weights"] == pytest.approx({"sad": 0.4, "happy": 0.25}, abs=0.01)
    assert diamond(editor, 1).evaluate("element => element === document.activeElement")
    editor.page.keyboard.press("ArrowUp")
    assert keyframes(editor)[1]["intensity"] > new["intensity"]
    editor.page.keyboard.press("ArrowDown")
    editor.page.get_by_label("Remove the selected keyframe").click()
    assert editor.value() == json.loads(TRACK)
    editor.page.get_by_label("Add a keyframe").click()
    assert len(keyframes(editor)) == 4


def test_a_double_click_on_a_keyframe_leads_to_its_number(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    editor.page.mouse.dblclick(*middle(point(editor, 1, "happy")))
    editor.page.keyboard.type("0.25")
    assert keyframes(editor)[1]["weights"] == {"happy": 0.25}
    editor.page.mouse.dblclick(*middle(diamond(editor, 2)))
    editor.page.keyboard.type("0.75")
    editor.page.keyboard.press("Enter")
    assert keyframes(editor)[2]["intensity"] == 0.75
    assert len(keyframes(editor)) == 3


def test_keys(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    diamond(editor, 1).focus()
    editor.page.keyboard.press("ArrowRight")
    editor.page.keyboard.press("Shift+ArrowRight")
    editor.page.keyboard.press("ArrowUp")
    assert (keyframes(editor)[1]["time"], keyframes(editor)[1]["intensity"]) == (2.05, 1.05)
    assert diamond(editor, 1).get_attribute("aria-label") == "Keyframe 2 of 3"
    assert diamond(editor, 1).get_attribute("aria-valuetext") == "2.05 s, Intensity 1.05: happy 0.5"
    editor.page.keyboard.press("Delete")
    editor.page.keyboard.press("Delete")
    assert len(keyframes(editor)) == 1
    editor.page.keyboard.press("Delete")
    assert len(keyframes(editor)) == 1
    assert editor.page.evaluate("() => app.graph.nodes.length") == 1


def test_typed_details(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    diamond(editor, 1).focus()
    editor.page.get_by_label("Seconds").fill("1.25")
    editor.page.get_by_label("Weight of fear").fill("0.6")
    editor.page.locator(".dicetalk-select").select_option("ease-out")
    changed = keyframes(editor)[1]
    assert changed == {"time": 1.25, "weights": {"happy": 0.5, "fear": 0.6}, "intensity": 1.0, "easing": "ease-out"}
    assert editor.page.locator(".dicetalk-curve").count() == 3


def test_what_is_typed_belongs_to_the_keyframe_that_was_selected(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    before = json.loads(TRACK)["keyframes"]
    diamond(editor, 0).focus()
    field = editor.page.locator('.dicetalk-details input[aria-label="Intensity"]')
    field.select_text()
    editor.page.keyboard.type("0.3")
    x, y = middle(diamond(editor, 1))
    editor.page.mouse.click(x, y)
    editor.settle()
    first, second, _ = keyframes(editor)
    assert (first["intensity"], second["intensity"]) == (0.3, before[1].get("intensity", 1.0))
    assert field.input_value() == str(before[1].get("intensity", 1)).removesuffix(".0")


def test_a_keyframe_added_by_key_is_where_the_keys_go(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    diamond(editor, 0).focus()
    editor.page.keyboard.press("Insert")
    times = [keyframe["time"] for keyframe in keyframes(editor)]
    editor.page.keyboard.press("ArrowRight")
    moved = [keyframe["time"] for keyframe in keyframes(editor)]
    assert [i for i in range(4) if moved[i] != times[i]] == [1]


def test_a_time_typed_beyond_a_neighbour_is_not_changed_while_it_is_typed(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK.replace('"time": 0.0', '"time": 0.3')))
    diamond(editor, 1).focus()
    field = editor.page.get_by_label("Seconds")
    field.select_text()
    editor.page.keyboard.type("0.75")
    assert field.input_value() == "0.75"
    assert keyframes(editor)[1]["time"] == 0.75
    field.fill("9")
    field.press("Enter")
    assert (field.input_value(), keyframes(editor)[1]["time"]) == ("3.99", 3.99)


def test_typed_json(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    editor.page.get_by_label("Type the value as JSON").click()
    area, message = editor.page.locator(".dicetalk-json"), editor.page.locator(".dicetalk-message")
    area.fill('{"keyframes": [{"time": 1, "weights": {"sad": 1}}, {"time": 0, "weights": {}}]}')
    assert message.is_visible()
    assert editor.value() == json.loads(TRACK)
    area.fill('{"keyframes": [{"time": 0.5, "emotion": "fear:0.5"}]}')
    assert message.is_hidden()
    assert keyframes(editor) == [{"time": 0.5, "weights": {"fear": 0.5}, "intensity": 1, "easing": "linear"}]


def test_undo_keeps_the_speech(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    editor.run_reported({"dicetalk_waveform": [0.0, 0.4, 1.0, 0.2], "dicetalk_duration": [9.3]})
    drag_by(editor, point(editor, 1, "happy"), 30, -30)
    assert editor.text() != TRACK
    editor.page.keyboard.press("Control+z")
    editor.page.wait_for_function("text => app.graph.nodes[0]?.widgets[0].value === text", arg=TRACK)
    editor.settle()
    assert editor.page.locator(".dicetalk-diamond").count() == 3
    assert editor.page.locator(".dicetalk-wave").count() == 1


def test_another_workflow_shows_its_own_values(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    editor.run_reported({"dicetalk_waveform": [0.0, 1.0], "dicetalk_duration": [9.3]})
    editor.load(node(TIMELINE, '{"keyframes": [{"time": 0, "weights": {"fear": 1}}]}'))
    assert editor.page.locator(".dicetalk-diamond").count() == 1
    assert editor.page.locator(".dicetalk-wave").count() == 0
    editor.page.get_by_label("Weight of fear").fill("0.5")
    assert keyframes(editor)[0]["weights"] == {"fear": 0.5}


def test_copies_are_independent(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    editor.page.evaluate("() => { app.canvas.selectItems([app.graph.getNodeById(1)]); app.canvas.copyToClipboard(); }")
    editor.page.evaluate("() => app.canvas.pasteFromClipboard({ position: [0, 520] })")
    editor.settle()
    ids = editor.page.evaluate("() => app.graph.nodes.map(node => node.id)")
    assert [editor.text(i) for i in ids] == [TRACK, TRACK]
    editor.page.get_by_label("Weight of fear").nth(1).fill("0.5")
    assert sorted("fear" in keyframes(editor, i)[0]["weights"] for i in ids) == [False, True]


def test_saved_opened_and_queued(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    drag_by(editor, point(editor, 2, "happy"), -20, 25)
    text = editor.text()
    saved = editor.page.evaluate("() => app.graph.serialize()")
    editor.load(node(TIMELINE, TRACK))
    editor.page.evaluate("graph => app.loadGraphData(graph)", saved)
    editor.settle()
    assert editor.text() == text
    prompt = editor.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert prompt["1"]["inputs"]["keyframes"] == text


def test_old_workflows_without_a_value(editor, node) -> None:
    for values in ([], [None], [""]):
        editor.load(node(TIMELINE, None, values=values))
        assert len(keyframes(editor)) == 1


def test_speech_is_drawn_after_a_run(editor, node) -> None:
    editor.load(node(TIMELINE, TRACK))
    last = ".dicetalk-tick:last-of-type"
    assert editor.page.locator(".dicetalk-wave").count() == 0
    assert editor.page.locator(last).last.text_content() == "5 s"
    editor.run_reported({"dicetalk_waveform": [0.0, 0.4, 1.0, 0.2], "dicetalk_duration": [9.3]})
    assert editor.page.locator(".dicetalk-wave").count() == 1
    assert editor.page.locator(".dicetalk-hint").text_content() == "9.3 s of speech"
    assert editor.page.locator(last).last.text_content() == "9 s"


def test_no_errors_in_the_page(editor) -> None:
    assert [error for error in editor.errors if "dicetalk" in error.lower()] == []
