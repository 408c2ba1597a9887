/**
 * The emotion pad's value and how places on the pad and weights of emotions belong together.
 *
 * Each emotion stands at a corner `v_i` of a regular polygon of radius 1 with neutral at its centre. A place `p`
 * between the corners `v_i` and `v_(i+1)` is `p = w_i v_i + w_(i+1) v_(i+1)`, and these two are the weights:
 * barycentric coordinates in the triangle of neutral and the two corners, neutral taking the rest. They change
 * continuously over the whole pad (on the border of two triangles the outer weight is 0), and `sum_i w_i v_i` leads
 * back from weights to the place exactly. Weights that no place has (three emotions, or two that are no neighbours,
 * or a sum above 1) can be typed; the handle then stands at the nearest place of that sum and is drawn hollow.
 */

import {
  checkNumber,
  checkWeights,
  clamp,
  EMOTIONS,
  MAX_WEIGHT,
  parseTable,
  round,
  toJson,
  withWeight,
} from "./emotions.mjs";

const STEP = (2 * Math.PI) / EMOTIONS.length;

/** The corners, x to the right and y down; the first is at the top. */
export const CORNERS = EMOTIONS.map((_, i) => ({ x: Math.sin(i * STEP), y: -Math.cos(i * STEP) }));

/** `{weights, intensity}` from JSON; throws FormatError. */
export function parsePad(text) {
  const { weights, intensity } = parseTable(text, ["weights", "intensity"]);
  return {
    weights: checkWeights(weights),
    intensity: checkNumber(intensity, "intensity", 0, MAX_WEIGHT, 1),
  };
}

export const formatPad = ({ weights, intensity }) => toJson({ weights, intensity });

/** The corners on both sides of a place and how far it is along each. */
function sector({ x, y }) {
  const angle = Math.atan2(x, -y);
  const turns = (angle < 0 ? angle + 2 * Math.PI : angle) / STEP;
  const first = Math.floor(turns) % EMOTIONS.length;
  const second = (first + 1) % EMOTIONS.length;
  const [v, w] = [CORNERS[first], CORNERS[second]];
  const area = v.x * w.y - v.y * w.x;
  return { first, second, a: (x * w.y - y * w.x) / area, b: (v.x * y - v.y * x) / area };
}

/** The nearest place inside the polygon on the way to its centre. */
export function inside(place) {
  const { a, b } = sector(place);
  const scale = Math.max(a + b, 1);
  return { x: place.x / scale, y: place.y / scale };
}

/** Weights at a place; outside the polygon those on its edge. */
export function weightsAt(place) {
  const { first, second, a, b } = sector(inside(place));
  const rounded = round(clamp(a, 0, 1));
  // The second is rounded to what the first leaves, so that the sum stays inside and the place is found again.
  const weights = withWeight({}, EMOTIONS[first], rounded);
  return withWeight(weights, EMOTIONS[second], Math.min(b, 1 - rounded));
}

/** The place of `weights`. */
export function placeOf(weights) {
  const sum = { x: 0, y: 0 };
  EMOTIONS.forEach((emotion, i) => {
    sum.x += (weights[emotion] ?? 0) * CORNERS[i].x;
    sum.y += (weights[emotion] ?? 0) * CORNERS[i].y;
  });
  return inside(sum);
}

/** Whether the pad has a place with just these weights. */
export function isOnPad(weights) {
  const back = weightsAt(placeOf(weights));
  return EMOTIONS.every((emotion) => Math.abs((back[emotion] ?? 0) - (weights[emotion] ?? 0)) < 0.002);
}
