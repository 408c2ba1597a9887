/** The emotion timeline: the speech's waveform, one curve per emotion, and keyframes to drag, step and type. */

import { button, color, describe, jsonView, Value } from "./controls.mjs";
import { html, onDrag, onKeys, svg } from "./dom.mjs";
import { round } from "./emotions.mjs";
import { createDetails } from "./timeline_details.mjs";
import * as edit from "./timeline_model.mjs";
import { curve, names, scale, secondsOf, ticks, topOf, waveform } from "./timeline_view.mjs";

export const DEFAULT_TIMELINE =
  '{"keyframes": [{"time": 0.0, "weights": {"happy": 1.0}, "intensity": 1.0, "easing": "smooth"}]}';

const TIME_STEP = 0.04;
const INTENSITY_STEP = 0.05;
/** Two presses within this time are a double click. */
const TWICE_MS = 500;

/**
 * @param {{text: string, host: object}} options `host` has `t(key)`, `changed()` for after each change and
 *   `commit()` for after each step of undo
 * @returns {{element: HTMLElement, getText: () => string, setText: (text: string) => void,
 *   setSpeech: (output: object) => void}}
 */
export function createTimeline({ text, host }) {
  const { t } = host;
  const value = new Value({
    parse: edit.parseTimeline,
    format: edit.formatTimeline,
    text,
    onChange: () => host.changed(),
  });
  let selected = 0;
  let speech = { seconds: undefined, peaks: [] };
  let pressed = {}; // what the last press was on, and when
  let held; // the axes while something is dragged: they must not move under the pointer

  const change = (model, index = selected) => {
    selected = index;
    value.set(model);
    draw();
  };
  const select = (index) => {
    selected = index;
    draw();
  };
  const remove = () => change(edit.removed(value.model, selected), Math.max(selected - 1, 0));
  const add = (seconds) => {
    const { model, index } = edit.added(value.model, seconds);
    change(model, index);
  };

  const back = svg("g");
  const curves = svg("g");
  const stems = svg("g");
  const points = svg("g");
  const drawing = svg(
    "svg",
    { class: "dicetalk-drawing", role: "group", "aria-label": t("timeline.label") },
    back,
    curves,
    stems,
    points,
  );
  const stage = html("div", { class: "dicetalk-stage" }, drawing);
  const json = jsonView({ value, host, stage, redraw: () => draw() });
  const details = createDetails({ host, value, change, selectedIndex: () => selected });
  const addButton = button({
    label: t("timeline.add"),
    text: "+",
    onClick: () => (add(edit.roomAfter(value.model, selected, axes().seconds)), host.commit()),
  });
  const removeButton = button({ label: t("timeline.remove"), text: "−", onClick: () => (remove(), host.commit()) });
  const hint = html("span", { class: "dicetalk-hint" });
  const toolbar = html("div", { class: "dicetalk-toolbar" }, addButton, removeButton, hint, json.toggle);
  const body = html("div", { class: "dicetalk-body" }, stage, json.area, json.message);
  const element = html("div", { class: "dicetalk dicetalk-timeline" }, toolbar, body, details.element);

  function axes() {
    if (held) return held;
    const seconds = secondsOf(value.model, speech.seconds);
    const top = topOf(value.model);
    const { clientWidth: width, clientHeight: height } = stage;
    return { seconds, topValue: top, width, height, ...scale({ width, height, seconds, top }) };
  }

  /** Seconds and strength under the pointer, whatever the canvas is zoomed to. */
  function under(event, view) {
    const box = drawing.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * view.width;
    const y = ((event.clientY - box.top) / box.height) * view.height;
    return { seconds: view.time(x), value: view.value(y) };
  }

  onDrag(drawing, {
    start(event) {
      const { keyframe, emotion } = event.target.dataset;
      // The editor's own double click does not come: the point is drawn anew in between.
      const same = keyframe === pressed.keyframe && emotion === pressed.emotion;
      pressed = { keyframe, emotion, time: event.timeStamp, twice: same && event.timeStamp - pressed.time < TWICE_MS };
      if (keyframe === undefined) return undefined;
      // What is being typed belongs to the keyframe that is selected now.
      if (element.contains(document.activeElement)) document.activeElement.blur();
      select(Number(keyframe));
      stems.children[selected].querySelector(".dicetalk-diamond").focus({ preventScroll: true });
      held = axes();
      const from = under(event, held).seconds - value.model.keyframes[selected].time;
      return (moved) => {
        pressed.twice = false;
        const { seconds, value: strength } = under(moved, held);
        const model = edit.moved(value.model, selected, Math.min(seconds - from, held.seconds));
        change(emotion ? edit.withStrength(model, selected, emotion, strength) : model);
      };
    },
    end() {
      held = undefined;
      draw();
      host.commit();
      if (pressed.twice) details.edit(pressed.emotion); // its number, to type another
    },
  });
  drawing.addEventListener("dblclick", (event) => {
    event.stopPropagation();
    if (pressed.keyframe !== undefined) return;
    add(Math.max(under(event, axes()).seconds, 0));
    host.commit();
    focusSelected();
  });
  const focusSelected = () => stems.children[selected].querySelector(".dicetalk-diamond").focus({ preventScroll: true });

  function stem(index) {
    const diamond = svg("path", { class: "dicetalk-diamond", d: "M0-7 6 0 0 7-6 0Z", tabindex: 0, role: "slider" });
    const group = svg("g", { class: "dicetalk-stem" }, svg("line"), svg("line", { class: "dicetalk-grab" }), diamond);
    for (const part of group.children) part.dataset.keyframe = index;
    diamond.addEventListener("focus", () => selected !== index && select(index));
    const nudge = (sign) => (event) => {
      const size = event.shiftKey ? edit.MIN_GAP : TIME_STEP;
      change(edit.moved(value.model, index, value.model.keyframes[index].time + sign * size));
    };
    const turn = (sign) => () =>
      change(edit.withIntensity(value.model, index, value.model.keyframes[index].intensity + sign * INTENSITY_STEP));
    const removeFocused = () => (remove(), focusSelected());
    const addAfter = () => (addButton.click(), focusSelected());
    onKeys(
      diamond,
      {
        ArrowLeft: nudge(-1),
        ArrowRight: nudge(1),
        ArrowUp: turn(1),
        ArrowDown: turn(-1),
        Delete: removeFocused,
        Backspace: removeFocused,
        Insert: addAfter,
        "+": addAfter,
      },
      host.commit,
    );
    return group;
  }

  function draw() {
    selected = Math.min(selected, value.model.keyframes.length - 1);
    drawAxes();
    drawCurves();
    drawStems();
    removeButton.disabled = value.model.keyframes.length === 1;
    hint.textContent =
      speech.seconds === undefined
        ? t("timeline.noSpeech")
        : t("timeline.speech", { seconds: round(speech.seconds, 2) });
    hint.title = hint.textContent;
    details.draw();
    json.draw();
  }

  function drawAxes() {
    const view = axes();
    drawing.setAttribute("viewBox", `0 0 ${Math.max(view.width, 1)} ${Math.max(view.height, 1)}`);
    const parts = [];
    if (speech.peaks.length > 0) {
      const end = view.x(speech.seconds);
      parts.push(svg("path", { class: "dicetalk-wave", d: waveform(speech.peaks, speech.seconds, view) }));
      parts.push(
        svg("rect", {
          class: "dicetalk-silence",
          x: end,
          y: view.top,
          width: view.right - end,
          height: view.bottom - view.top,
        }),
      );
    }
    for (const strength of [0, view.topValue / 2, view.topValue]) {
      const y = view.y(strength);
      parts.push(svg("line", { class: "dicetalk-grid", x1: view.left, x2: view.right, y1: y, y2: y }));
      parts.push(svg("text", { class: "dicetalk-tick dicetalk-end", x: view.left - 5, y: y + 4 }, String(strength)));
    }
    for (const time of ticks(view.seconds, (view.right - view.left) / 50)) {
      const x = view.x(time);
      parts.push(svg("line", { class: "dicetalk-grid", x1: x, x2: x, y1: view.top, y2: view.bottom }));
      parts.push(svg("text", { class: "dicetalk-tick", x, y: view.bottom + 30 }, `${time} s`));
    }
    back.replaceChildren(...parts);
  }

  function drawCurves() {
    const view = axes();
    const used = edit.usedEmotions(value.model);
    const lines = used.map((emotion) =>
      svg("path", {
        class: "dicetalk-curve",
        d: curve(value.model, emotion, view.seconds, view),
        stroke: color(emotion),
      }),
    );
    const dots = value.model.keyframes.flatMap((keyframe, index) =>
      used
        .filter((emotion) => edit.strength(keyframe, emotion) > 0)
        .map((emotion) => {
          const point = svg(
            "circle",
            {
              class: "dicetalk-point",
              cx: view.x(keyframe.time),
              cy: view.y(edit.strength(keyframe, emotion)),
              r: 5,
              fill: color(emotion),
            },
            svg("title", {}, `${t(`emotion.${emotion}`)} ${round(edit.strength(keyframe, emotion))}`),
          );
          Object.assign(point.dataset, { keyframe: index, emotion });
          return point;
        }),
    );
    const labels = names(value.model, used, view).map(({ emotion, x, y }) => {
      const end = x > view.right - 70;
      return svg(
        "text",
        { class: `dicetalk-curve-name${end ? " dicetalk-end" : ""}`, x: end ? x - 6 : x + 6, y, fill: color(emotion) },
        t(`emotion.${emotion}`),
      );
    });
    curves.replaceChildren(...lines, ...labels);
    points.replaceChildren(...dots);
  }

  function drawStems() {
    const view = axes();
    const { keyframes } = value.model;
    while (stems.children.length > keyframes.length) stems.lastChild.remove();
    while (stems.children.length < keyframes.length) stems.append(stem(stems.children.length));
    keyframes.forEach((keyframe, index) => {
      const group = stems.children[index];
      const [line, grab, diamond] = group.children;
      const x = view.x(keyframe.time);
      for (const stroke of [line, grab]) {
        for (const [name, number] of Object.entries({ x1: x, x2: x, y1: view.top, y2: view.bottom + 10 }))
          stroke.setAttribute(name, number);
      }
      group.classList.toggle("dicetalk-selected", index === selected);
      diamond.setAttribute("transform", `translate(${x} ${view.bottom + 10})`);
      const label = { number: index + 1, count: keyframes.length };
      diamond.setAttribute("aria-label", t("timeline.keyframe", label));
      diamond.setAttribute("aria-valuemin", 0);
      diamond.setAttribute("aria-valuemax", round(view.seconds));
      diamond.setAttribute("aria-valuenow", keyframe.time);
      diamond.setAttribute(
        "aria-valuetext",
        `${keyframe.time} s, ${t("intensity")} ${keyframe.intensity}: ${describe(keyframe.weights, host)}`,
      );
    });
  }

  new ResizeObserver(() => draw()).observe(stage);
  draw();

  return {
    element,
    getText: () => value.text,
    setText(newText) {
      value.load(newText);
      draw();
    },
    /** What the node reports after a run. */
    setSpeech({ dicetalk_waveform: peaks, dicetalk_duration: seconds }) {
      if (!peaks || !seconds) return;
      speech = { peaks, seconds: Number(seconds) };
      draw();
    },
  };
}
