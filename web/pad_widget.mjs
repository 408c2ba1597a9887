/** The emotion pad: seven emotions around neutral, a handle to mix two neighbours, and a number for each. */

import { button, color, describe, jsonView, numberField, Value } from "./controls.mjs";
import { html, onDrag, onKeys, svg } from "./dom.mjs";
import { clamp, EMOTIONS, MAX_WEIGHT, withWeight } from "./emotions.mjs";
import { CORNERS, formatPad, inside, isOnPad, parsePad, placeOf, weightsAt } from "./pad_model.mjs";

export const DEFAULT_PAD = '{"weights": {"happy": 1.0}, "intensity": 1.0}';

/** Half the width and half the height of the drawing, where the corners have the distance 1 from the centre. */
const HALF = { x: 1.72, y: 1.5 };
const KEY_STEP = 0.05;

const points = (places) => places.map(({ x, y }) => `${x},${y}`).join(" ");
const percent = (part, half) => `${50 + (50 * part) / half}%`;

/**
 * @param {{text: string, host: object}} options `host` has `t(key)`, `changed()` for after each change and
 *   `commit()` for after each step of undo
 * @returns {{element: HTMLElement, getText: () => string, setText: (text: string) => void}}
 */
export function createPad({ text, host }) {
  const value = new Value({ parse: parsePad, format: formatPad, text, onChange: () => host.changed() });
  const change = (part) => {
    value.set({ ...value.model, ...part });
    draw();
  };

  const toNeutral = () => change({ weights: {} });

  const spokes = CORNERS.map((_, i) =>
    svg("line", { class: "dicetalk-spoke", x1: 0, y1: 0, stroke: color(EMOTIONS[i]) }),
  );
  const handle = svg("circle", {
    class: "dicetalk-handle",
    r: 0.085,
    tabindex: 0,
    role: "slider",
    "aria-roledescription": host.t("pad.handle"),
    "aria-label": host.t("pad.label"),
    "aria-valuemin": 0,
    "aria-valuemax": 1,
  });
  const drawing = svg(
    "svg",
    { viewBox: `${-HALF.x} ${-HALF.y} ${2 * HALF.x} ${2 * HALF.y}`, class: "dicetalk-drawing" },
    ...[1, 2 / 3, 1 / 3].map((r) =>
      svg("polygon", { class: "dicetalk-ring", points: points(CORNERS.map(({ x, y }) => ({ x: r * x, y: r * y }))) }),
    ),
    ...CORNERS.map(({ x, y }) => svg("line", { class: "dicetalk-ring", x1: 0, y1: 0, x2: x, y2: y })),
    ...spokes,
    ...CORNERS.map(({ x, y }, i) => svg("circle", { cx: x, cy: y, r: 0.045, fill: color(EMOTIONS[i]) })),
    handle,
  );
  const fields = EMOTIONS.map((emotion) =>
    numberField({
      label: host.t("weightOf", { emotion: host.t(`emotion.${emotion}`) }),
      min: 0,
      max: MAX_WEIGHT,
      step: KEY_STEP,
      onEnd: host.commit,
      onInput: (weight) => change({ weights: withWeight(value.model.weights, emotion, weight) }),
    }),
  );
  const labels = EMOTIONS.map((emotion, i) =>
    label(host.t(`emotion.${emotion}`), fields[i].element, CORNERS[i], emotion),
  );
  const neutral = html("span", { class: "dicetalk-neutral" }, host.t("emotion.neutral"));
  const square = html("div", { class: "dicetalk-square" }, glow(), drawing, neutral, ...labels);
  const stage = html("div", { class: "dicetalk-stage dicetalk-pad-stage" }, square);

  const intensity = intensityControls(host, (number) => change({ intensity: number }));
  const json = jsonView({ value, host, stage, redraw: () => draw() });
  const reset = button({ label: host.t("pad.neutral"), text: "⊙", onClick: () => (toNeutral(), host.commit()) });
  const toolbar = html("div", { class: "dicetalk-toolbar" }, ...intensity.elements, reset, json.toggle);
  const element = html(
    "div",
    { class: "dicetalk dicetalk-pad" },
    toolbar,
    html("div", { class: "dicetalk-body" }, stage, json.area, json.message),
  );

  const at = (event) => {
    const box = drawing.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * 2 * HALF.x - HALF.x,
      y: ((event.clientY - box.top) / box.height) * 2 * HALF.y - HALF.y,
    };
  };
  onDrag(drawing, {
    start(event) {
      handle.focus({ preventScroll: true });
      const follow = (moved) => change({ weights: weightsAt(at(moved)) });
      follow(event);
      return follow;
    },
    end: host.commit,
  });
  const nudge = (dx, dy) => (event) => {
    const { x, y } = placeOf(value.model.weights);
    const size = event.shiftKey ? KEY_STEP / 5 : KEY_STEP;
    change({ weights: weightsAt(inside({ x: x + dx * size, y: y + dy * size })) });
  };
  onKeys(
    handle,
    {
      ArrowLeft: nudge(-1, 0),
      ArrowRight: nudge(1, 0),
      ArrowUp: nudge(0, -1),
      ArrowDown: nudge(0, 1),
      Home: toNeutral,
      Delete: toNeutral,
      Backspace: toNeutral,
    },
    host.commit,
  );

  function draw() {
    const { weights, intensity: amount } = value.model;
    const place = placeOf(weights);
    handle.setAttribute("cx", place.x);
    handle.setAttribute("cy", place.y);
    handle.classList.toggle("dicetalk-typed", !isOnPad(weights));
    handle.setAttribute("aria-valuenow", Math.hypot(place.x, place.y).toFixed(2));
    handle.setAttribute("aria-valuetext", describe(weights, host));
    EMOTIONS.forEach((emotion, i) => {
      const weight = weights[emotion] ?? 0;
      spokes[i].toggleAttribute("hidden", weight === 0);
      spokes[i].setAttribute("x2", clamp(weight, 0, 1) * CORNERS[i].x);
      spokes[i].setAttribute("y2", clamp(weight, 0, 1) * CORNERS[i].y);
      fields[i].show(weight);
      labels[i].classList.toggle("dicetalk-off", weight === 0);
    });
    intensity.show(amount);
    json.draw();
  }
  draw();

  return {
    element,
    getText: () => value.text,
    setText(newText) {
      value.load(newText);
      draw();
    },
  };
}

function label(name, field, { x, y }, emotion) {
  const side = Math.abs(x) < 0.1 ? "middle" : x > 0 ? "right" : "left";
  const element = html(
    "label",
    { class: `dicetalk-label dicetalk-${side}${y > 0.8 ? " dicetalk-below" : ""}` },
    html("span", {}, name),
    field,
  );
  element.style.left = percent(x * (y > 0.8 ? 0.95 : 1.1), HALF.x);
  element.style.top = percent(y * 1.1, HALF.y);
  element.style.setProperty("--dicetalk-color", color(emotion));
  return element;
}

/** The polygon in the emotions' colours, each fading towards neutral. */
function glow() {
  const element = html("div", { class: "dicetalk-glow" });
  const place = ({ x, y }) => `${percent(x, HALF.x)} ${percent(y, HALF.y)}`;
  element.style.clipPath = `polygon(${CORNERS.map(place).join(", ")})`;
  element.style.background = CORNERS.map(
    (corner, i) => `radial-gradient(circle closest-side at ${place(corner)}, ${color(EMOTIONS[i])}, transparent)`,
  ).join(", ");
  return element;
}

function intensityControls(host, onInput) {
  const name = host.t("intensity");
  const range = html("input", {
    type: "range",
    class: "dicetalk-range",
    min: 0,
    max: MAX_WEIGHT,
    step: 0.05,
    "aria-label": name,
  });
  const field = numberField({ label: name, min: 0, max: MAX_WEIGHT, step: 0.05, onInput, onEnd: host.commit });
  range.addEventListener("pointerdown", (event) => event.stopPropagation());
  range.addEventListener("input", () => onInput(range.valueAsNumber));
  range.addEventListener("change", host.commit);
  return {
    elements: [html("span", { class: "dicetalk-name" }, name), range, field.element],
    show(value) {
      range.value = String(value);
      field.show(value);
    },
  };
}
