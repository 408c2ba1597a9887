/** What both widgets have: the value as text and as a model, number fields, and the view of the plain JSON. */

import { clamp, EMOTIONS, FormatError, round } from "./emotions.mjs";
import { html } from "./dom.mjs";

/**
 * A widget's value: the text that the graph keeps, the model that is drawn, and what is wrong if there is anything.
 *
 * Text that means nothing leaves the last good model. If it came with a workflow it stays the value, so that saving
 * loses nothing and the server has the last word; if it was typed here, the last good value stays.
 */
export class Value {
  constructor({ parse, format, text, onChange }) {
    this.parse = parse;
    this.format = format;
    this.onChange = onChange;
    this.text = text;
    this.model = parse(text);
  }

  /** From outside: a workflow, a paste, an undo. */
  load(text) {
    this.text = text;
    this.attempt(text, (model) => (this.model = model));
  }

  /** Typed as JSON. */
  type(text) {
    this.attempt(text, (model) => this.set(model));
  }

  /** By hand. */
  set(model) {
    this.model = model;
    this.text = this.format(model);
    this.error = this.rejected = undefined;
    this.onChange();
  }

  attempt(text, accept) {
    this.error = this.rejected = undefined;
    try {
      accept(this.parse(text));
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      this.error = error;
      this.rejected = text;
    }
  }
}

/**
 * A number that is typed or stepped with the arrow keys: `onInput` hears every number in range while it is typed,
 * `onEnd` when it is done. A number out of range becomes the nearest one in range then.
 */
export function numberField({ label, min, max, step, onInput, onEnd }) {
  const input = html("input", {
    type: "number",
    class: "dicetalk-number",
    min,
    max,
    step,
    "aria-label": label,
    title: label,
  });
  let shown = 0;
  let typing = false; // "0." on the way to "0.5" is left to whoever types it
  const show = (value) => {
    shown = value;
    if (!typing) input.value = String(round(shown));
  };
  input.addEventListener("input", () => {
    typing = true;
    const value = input.valueAsNumber;
    if (value >= min && value <= max) onInput(value);
  });
  input.addEventListener("change", () => {
    const value = input.valueAsNumber;
    if (!Number.isNaN(value)) onInput(clamp(value, min, max));
    onEnd();
  });
  for (const name of ["change", "blur"]) {
    input.addEventListener(name, () => {
      typing = false;
      show(shown);
    });
  }
  return { element: input, show };
}

/** An emotion's colour in the theme. */
export const color = (emotion) => `var(--dicetalk-${emotion})`;

/** Weights in words, for the ear. */
export function describe(weights, host) {
  const shown = EMOTIONS.filter((emotion) => weights[emotion]);
  return (
    shown.map((emotion) => `${host.t(`emotion.${emotion}`)} ${weights[emotion]}`).join(", ") ||
    host.t("emotion.neutral")
  );
}

export function button({ label, text, onClick }) {
  const element = html("button", { type: "button", class: "dicetalk-button", "aria-label": label, title: label }, text);
  element.addEventListener("click", onClick);
  return element;
}

/** The plain JSON in place of the drawing, and the message that says what is wrong with it. */
export function jsonView({ value, host, stage, redraw }) {
  const area = html("textarea", {
    class: "dicetalk-json",
    spellcheck: "false",
    "aria-label": host.t("json"),
    hidden: true,
  });
  const message = html("p", { class: "dicetalk-message", role: "alert", hidden: true });
  const toggle = button({ label: host.t("showJson"), text: "{ }", onClick: () => show(area.hidden) });
  toggle.setAttribute("aria-pressed", "false");

  function show(open) {
    area.hidden = !open;
    stage.hidden = open;
    toggle.setAttribute("aria-pressed", String(open));
    if (open) area.focus();
    redraw();
  }

  area.addEventListener("input", () => {
    value.type(area.value);
    redraw();
  });
  area.addEventListener("change", host.commit);

  return {
    area,
    message,
    toggle,
    draw() {
      message.hidden = !value.error;
      message.textContent = value.error
        ? `${host.t(value.error.key, value.error.params)} ${host.t("error.drawn")}`
        : "";
      if (document.activeElement !== area) area.value = value.rejected ?? value.text;
    },
  };
}
