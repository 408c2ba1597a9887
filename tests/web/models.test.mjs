// Run by test_logic.py, or by hand: node --test tests/web/

import assert from "node:assert/strict";
import { test } from "node:test";

import { EMOTIONS, FormatError } from "../../web/emotions.mjs";
import { translator } from "../../web/i18n.mjs";
import { CORNERS, formatPad, inside, isOnPad, parsePad, placeOf, weightsAt } from "../../web/pad_model.mjs";
import * as timeline from "../../web/timeline_model.mjs";
import { curve, names, scale, secondsOf, ticks, topOf, waveform } from "../../web/timeline_view.mjs";

/** The same places in every run. */
function* places(count) {
  let state = 12345;
  const next = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  for (let i = 0; i < count; i++) yield { x: 2.4 * next() - 1.2, y: 2.4 * next() - 1.2 };
}

const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
const total = (weights) => Object.values(weights).reduce((a, b) => a + b, 0);
const refusal = (key) => (error) => error instanceof FormatError && error.key === key;

test("a corner of the pad is its emotion alone, and the centre is neutral", () => {
  EMOTIONS.forEach((emotion, i) => assert.deepEqual(weightsAt(CORNERS[i]), { [emotion]: 1 }));
  assert.deepEqual(weightsAt({ x: 0, y: 0 }), {});
});

test("half way to a corner is half of its emotion", () => {
  const { x, y } = CORNERS[1];
  assert.deepEqual(weightsAt({ x: x / 2, y: y / 2 }), { happy: 0.5 });
});

test("every place is found again from its weights", () => {
  for (const place of places(2000)) {
    const weights = weightsAt(place);
    assert.ok(distance(placeOf(weights), inside(place)) < 0.002, JSON.stringify(place));
    assert.ok(total(weights) <= 1 + 1e-9);
    assert.deepEqual(weightsAt(placeOf(weights)), weights);
    assert.ok(isOnPad(weights));
  }
});

test("weights change by no more than the place does", () => {
  for (const place of places(2000)) {
    const near = { x: place.x + 0.003, y: place.y - 0.002 };
    const [before, after] = [weightsAt(place), weightsAt(near)];
    for (const emotion of EMOTIONS) {
      assert.ok(
        Math.abs((before[emotion] ?? 0) - (after[emotion] ?? 0)) < 0.015,
        JSON.stringify({ place, before, after }),
      );
    }
  }
});

test("weights that no place has are recognised, and their place stays inside", () => {
  for (const weights of [{ happy: 0.8, sad: 0.2 }, { happy: 2 }, { happy: 0.3, sad: 0.3, fear: 0.3 }]) {
    assert.equal(isOnPad(weights), false);
    const place = placeOf(weights);
    assert.ok(distance(place, inside(place)) < 1e-9);
  }
});

test("the pad's value survives being written and read", () => {
  const value = { weights: { happy: 0.8, sad: 0.2 }, intensity: 1.5 };
  assert.deepEqual(parsePad(formatPad(value)), value);
  assert.equal(formatPad(value), '{"weights": {"happy": 0.8, "sad": 0.2}, "intensity": 1.5}');
});

test("typed pads: other spellings, missing parts and neutral", () => {
  assert.deepEqual(parsePad('{"weights": {"Joy": 0.5, "neutral": 1, "sad": 0}}'), {
    weights: { happy: 0.5 },
    intensity: 1,
  });
  assert.deepEqual(parsePad('{"weights": {}}'), { weights: {}, intensity: 1 });
  assert.deepEqual(parsePad('{"weights": "happy:0.5 + sad"}').weights, { happy: 0.5, sad: 1 });
});

test("what is no pad is refused with its reason", () => {
  const cases = {
    "{": "error.json",
    "[1]": "error.table",
    "{}": "error.weights",
    '{"weights": "happy:"}': "error.range",
    '{"weight": {}}': "error.entry",
    '{"weights": [1]}': "error.weights",
    '{"weights": {"hapy": 1}}': "error.emotion",
    '{"weights": {"happy": 1, "joy": 1}}': "error.twice",
    '{"weights": {"happy": "1"}}': "error.range",
    '{"weights": {"happy": 2.1}}': "error.range",
    '{"weights": {}, "intensity": -0.1}': "error.range",
    '{"weights": {}, "intensity": null}': "error.range",
  };
  for (const [text, key] of Object.entries(cases)) assert.throws(() => parsePad(text), refusal(key), text);
});

const TRACK = timeline.parseTimeline(
  `{"keyframes": [
    {"time": 0, "weights": {"sad": 0.8}, "easing": "smooth"},
    {"time": 2, "weights": {"sad": 0.2, "happy": 1}, "intensity": 0.5, "easing": "hold"},
    {"time": 4, "weights": {"happy": 1}, "easing": "linear"},
    {"time": 5, "weights": {}}]}`,
);

test("strengths: at, between, before and after keyframes", () => {
  const at = (seconds) => timeline.strengthsAt(TRACK, seconds);
  assert.equal(at(0).sad, 0.8);
  assert.equal(at(1).sad, 0.45);
  assert.equal(at(1).happy, 0.25);
  assert.equal(at(3.999).happy, 0.5);
  assert.equal(at(4).happy, 1);
  assert.equal(at(4.5).happy, 0.5);
  assert.equal(at(99).happy, 0);
});

test("a new keyframe leaves the curves at its time as they are", () => {
  for (const seconds of [0.5, 1, 1.7, 3, 4.25, 7]) {
    const { model, index } = timeline.added(TRACK, seconds);
    assert.equal(model.keyframes[index].time, seconds);
    assert.equal(model.keyframes.length, TRACK.keyframes.length + 1);
    for (const emotion of EMOTIONS) {
      const [now, before] = [
        timeline.strengthsAt(model, seconds)[emotion],
        timeline.strengthsAt(TRACK, seconds)[emotion],
      ];
      assert.ok(Math.abs(now - before) < 0.002);
    }
    timeline.parseTimeline(timeline.formatTimeline(model));
  }
});

test("a new keyframe keeps what is exaggerated beyond the largest weight", () => {
  const loud = timeline.parseTimeline('{"keyframes": [{"time": 0, "weights": {"happy": 2}, "intensity": 2}]}');
  const { model, index } = timeline.added(loud, 1);
  assert.equal(timeline.strength(model.keyframes[index], "happy"), 4);
});

test("where a keyframe is, none is added", () =>
  assert.deepEqual(timeline.added(TRACK, 2.001), { model: TRACK, index: 1 }));

test("a keyframe does not pass its neighbours", () => {
  assert.equal(timeline.moved(TRACK, 1, 9).keyframes[1].time, 3.99);
  assert.equal(timeline.moved(TRACK, 1, -9).keyframes[1].time, 0.01);
  assert.equal(timeline.moved(TRACK, 0, -9).keyframes[0].time, 0);
  assert.equal(timeline.moved(TRACK, 3, 60).keyframes[3].time, 60);
});

test("the last keyframe cannot be taken away", () => {
  let model = TRACK;
  for (let i = 0; i < 9; i++) model = timeline.removed(model, 0);
  assert.equal(model.keyframes.length, 1);
});

test("a strength is set by the weight, within its limits", () => {
  assert.equal(timeline.withStrength(TRACK, 1, "happy", 0.25).keyframes[1].weights.happy, 0.5);
  assert.equal(timeline.withStrength(TRACK, 1, "happy", 4).keyframes[1].weights.happy, 2);
  assert.deepEqual(timeline.withStrength(TRACK, 0, "sad", 0).keyframes[0].weights, {});
  const silent = timeline.withIntensity(TRACK, 0, 0);
  assert.deepEqual(timeline.withStrength(silent, 0, "fear", 0.4).keyframes[0], {
    time: 0,
    weights: { fear: 0.4 },
    intensity: 1,
    easing: "smooth",
  });
});

test("what is no timeline is refused with its reason", () => {
  const cases = {
    "": "error.json",
    "{}": "error.keyframes",
    '{"keyframes": []}': "error.keyframes",
    '{"keyframes": [1]}': "error.table",
    '{"keyframes": [{"weights": {}}]}': "error.least",
    '{"keyframes": [{"time": 0}]}': "error.weights",
    '{"keyframes": [{"time": -1, "weights": {}}]}': "error.least",
    '{"keyframes": [{"time": 1, "emotion": "sad"}, {"time": 1, "weights": {}}]}': "error.order",
    '{"keyframes": [{"time": 1, "easing": "toString"}]}': "error.easing",
    '{"keyframes": [{"time": 1, "weights": {}, "mood": 1}]}': "error.entry",
  };
  for (const [text, key] of Object.entries(cases))
    assert.throws(() => timeline.parseTimeline(text), refusal(key), text);
});

test("the axes hold the speech and all keyframes", () => {
  assert.equal(secondsOf(TRACK, 7.4), 7.4);
  assert.equal(secondsOf(TRACK, undefined), 5);
  assert.ok(secondsOf(TRACK, 3) > 5);
  assert.equal(topOf(TRACK), 1);
  assert.equal(topOf(timeline.withIntensity(TRACK, 2, 1.2)), 2);
  assert.deepEqual(ticks(5, 6), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(ticks(0.3, 3), [0, 0.1, 0.2, 0.3]);
});

test("pixels lead back to seconds and strengths", () => {
  const view = scale({ width: 500, height: 200, seconds: 7.4, top: 2 });
  assert.ok(Math.abs(view.time(view.x(3.21)) - 3.21) < 1e-3);
  assert.ok(Math.abs(view.value(view.y(1.3)) - 1.3) < 0.01);
  assert.equal(view.value(-50), 2);
});

test("a curve is drawn where its emotion shows, and a held one jumps", () => {
  const plain = { x: (time) => time, y: (strength) => strength };
  assert.equal(curve(TRACK, "fear", 6, plain), "");
  assert.ok(curve(TRACK, "happy", 6, plain).endsWith("M2 0.5L4 0.5V1M4 1L5 0"));
  assert.ok(curve(TRACK, "sad", 6, plain).startsWith("M0 0.8L"));
});

test("names of emotions with the same peak do not overlap", () => {
  const both = timeline.parseTimeline('{"keyframes": [{"time": 0, "weights": {"happy": 1, "fear": 1}}]}');
  const [a, b] = names(both, ["happy", "fear"], { x: (t) => t, y: (s) => s });
  assert.ok(Math.abs(a.y - b.y) >= 12);
});

test("the waveform is mirrored and fills its box, however quiet it is", () => {
  const path = waveform([0, 0.2, 0.1], 2, { x: (time) => 10 * time, top: 0, bottom: 100 });
  assert.equal(path, "M0 50L10 0L20 25L20 75L10 100L0 50Z");
});

test("words fall back from a dialect to its language to English to the key", () => {
  const messages = { en: { dicetalk: { a: "one", b: "{n} of {m}" } }, zh: { dicetalk: { a: "一" } } };
  const t = translator(messages, "zh-TW");
  assert.equal(t("a"), "一");
  assert.equal(t("b", { n: 1 }), "1 of {m}");
  assert.equal(t("c.d"), "c.d");
});
