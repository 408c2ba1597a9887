/** The numbers of the timeline's selected keyframe. */

import { color, numberField } from "./controls.mjs";
import { html } from "./dom.mjs";
import { EMOTIONS, MAX_WEIGHT } from "./emotions.mjs";
import * as edit from "./timeline_model.mjs";

const STEP = 0.05;
const LONGEST_SECONDS = 36000;

/**
 * @param {{host: object, value: object, change: (model: object) => void, selectedIndex: () => number}} options
 * @returns {{element: HTMLElement, draw: () => void, edit: (emotion?: string) => void}} `edit` leads the keyboard to the
 *   weight of an emotion, or to the intensity
 */
export function createDetails({ host, value, change, selectedIndex }) {
  const { t } = host;
  const field = (label, limits, onInput) => numberField({ label, ...limits, onInput, onEnd: host.commit });
  const time = field(t("timeline.time"), { min: 0, max: LONGEST_SECONDS, step: 0.01 }, (seconds) =>
    change(edit.moved(value.model, selectedIndex(), seconds)),
  );
  const intensity = field(t("intensity"), { min: 0, max: MAX_WEIGHT, step: STEP }, (number) =>
    change(edit.withIntensity(value.model, selectedIndex(), number)),
  );
  const weights = EMOTIONS.map((emotion) =>
    field(t("weightOf", { emotion: t(`emotion.${emotion}`) }), { min: 0, max: MAX_WEIGHT, step: STEP }, (weight) =>
      change(edit.withKeyframeWeight(value.model, selectedIndex(), emotion, weight)),
    ),
  );
  const easing = html(
    "select",
    { class: "dicetalk-select", "aria-label": t("timeline.easing"), title: t("timeline.easing") },
    ...Object.keys(edit.EASINGS).map((name) => html("option", { value: name }, t(`easing.${name}`))),
  );
  easing.addEventListener("change", () => {
    change(edit.withEasing(value.model, selectedIndex(), easing.value));
    host.commit();
  });
  const cell = (name, control, style = "") =>
    html("label", { class: "dicetalk-cell", style }, html("span", {}, name), control);
  const chips = EMOTIONS.map((emotion, i) =>
    cell(t(`emotion.${emotion}`), weights[i].element, `--dicetalk-color: ${color(emotion)}`),
  );
  chips.forEach((chip) => chip.classList.add("dicetalk-chip"));
  const element = html(
    "div",
    { class: "dicetalk-details" },
    html(
      "div",
      { class: "dicetalk-cells" },
      cell(t("timeline.time"), time.element),
      cell(t("intensity"), intensity.element),
      cell(t("timeline.easing"), easing),
    ),
    html("div", { class: "dicetalk-chips" }, ...chips),
  );
  return {
    element,
    edit(emotion) {
      const { element: field } = emotion ? weights[EMOTIONS.indexOf(emotion)] : intensity;
      field.focus({ preventScroll: true });
      field.select();
    },
    draw() {
      const keyframe = value.model.keyframes[selectedIndex()];
      time.show(keyframe.time);
      intensity.show(keyframe.intensity);
      easing.value = keyframe.easing;
      EMOTIONS.forEach((emotion, i) => {
        weights[i].show(keyframe.weights[emotion] ?? 0);
        chips[i].classList.toggle("dicetalk-off", !keyframe.weights[emotion]);
      });
    },
  };
}
