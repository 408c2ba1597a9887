/**
 * The emotion timeline's value: keyframes, changed by functions that return new ones.
 *
 * What is drawn is an emotion's strength, `intensity * weight`. The library mixes priors linearly, so between two
 * keyframes the strength moves as the easing says from one to the other: the curves are what the model is given, not
 * a picture of it.
 */

import {
  checkNumber,
  checkTable,
  checkWeights,
  clamp,
  EMOTIONS,
  FormatError,
  MAX_WEIGHT,
  parseTable,
  round,
  toJson,
  withWeight,
} from "./emotions.mjs";

/** How far the way to the next keyframe is done, as in `dicetalk.emotion.track`. */
export const EASINGS = {
  linear: (t) => t,
  smooth: (t) => t * t * (3 - 2 * t),
  "ease-in": (t) => t * t,
  "ease-out": (t) => t * (2 - t),
  hold: () => 0,
};

export const DEFAULT_SECONDS = 5;
/** Keyframes come no closer than this when they are moved or added, in seconds. */
export const MIN_GAP = 0.01;

/**
 * `{keyframes: [{time, weights, intensity, easing}]}` from JSON; `emotion` is another name of `weights`. Throws
 * FormatError.
 */
export function parseTimeline(text) {
  const { keyframes } = parseTable(text, ["keyframes"]);
  if (!Array.isArray(keyframes) || keyframes.length === 0) throw new FormatError("error.keyframes");
  const parsed = keyframes.map(checkKeyframe);
  for (let i = 1; i < parsed.length; i++) {
    if (parsed[i].time <= parsed[i - 1].time) {
      throw new FormatError("error.order", { earlier: parsed[i - 1].time, later: parsed[i].time });
    }
  }
  return { keyframes: parsed };
}

function checkKeyframe(value) {
  if (value?.weights !== undefined && value.emotion !== undefined) {
    throw new FormatError("error.twoNames", { name: "weights", other: "emotion" });
  }
  const {
    time,
    emotion,
    weights = emotion,
    intensity,
    easing = "linear",
  } = checkTable(value, ["time", "weights", "intensity", "easing", "emotion"]);
  if (!Object.hasOwn(EASINGS, easing)) {
    throw new FormatError("error.easing", { value: String(easing), names: Object.keys(EASINGS).join(", ") });
  }
  return {
    time: checkNumber(time, "time", 0, Infinity),
    weights: checkWeights(weights),
    intensity: checkNumber(intensity, "intensity", 0, MAX_WEIGHT, 1),
    easing,
  };
}

export const formatTimeline = ({ keyframes }) => toJson({ keyframes });

export const strength = (keyframe, emotion) => keyframe.intensity * (keyframe.weights[emotion] ?? 0);

/** Every emotion's strength at a time, by name. */
export function strengthsAt({ keyframes }, seconds) {
  const next = keyframes.findIndex((keyframe) => keyframe.time > seconds);
  const start = keyframes[Math.max(next < 0 ? keyframes.length - 1 : next - 1, 0)];
  const end = next > 0 ? keyframes[next] : start;
  const done = end === start ? 0 : EASINGS[start.easing]((seconds - start.time) / (end.time - start.time));
  return Object.fromEntries(
    EMOTIONS.map((emotion) => [emotion, strength(start, emotion) * (1 - done) + strength(end, emotion) * done]),
  );
}

/** Emotions that some keyframe shows. */
export const usedEmotions = ({ keyframes }) =>
  EMOTIONS.filter((emotion) => keyframes.some((keyframe) => strength(keyframe, emotion) > 0));

const changed = ({ keyframes }, index, change) => ({
  keyframes: keyframes.map((keyframe, i) => (i === index ? { ...keyframe, ...change } : keyframe)),
});

/** Move a keyframe in time, as far as its neighbours leave room. */
export function moved(model, index, seconds) {
  const { keyframes } = model;
  const low = index > 0 ? keyframes[index - 1].time + MIN_GAP : 0;
  const high = index + 1 < keyframes.length ? keyframes[index + 1].time - MIN_GAP : Infinity;
  // Typed keyframes may already stand closer than the gap; then there is no room at all.
  return low > high ? model : changed(model, index, { time: round(clamp(seconds, low, high)) });
}

export const withKeyframeWeight = (model, index, emotion, weight) =>
  changed(model, index, { weights: withWeight(model.keyframes[index].weights, emotion, weight) });

export const withIntensity = (model, index, intensity) =>
  changed(model, index, { intensity: round(clamp(intensity, 0, MAX_WEIGHT)) });

export const withEasing = (model, index, easing) => changed(model, index, { easing });

/**
 * Give an emotion a strength at a keyframe, by its weight. At intensity 0, where nothing shows, the others stay
 * unseen.
 */
export function withStrength(model, index, emotion, value) {
  const { intensity, weights } = model.keyframes[index];
  if (intensity > 0) {
    return changed(model, index, { weights: withWeight(weights, emotion, value / intensity) });
  }
  return value > 0 ? changed(model, index, { intensity: 1, weights: withWeight({}, emotion, value) }) : model;
}

/**
 * Add a keyframe that leaves the curves there as they are: `{model, index}`, or the index of one that is already
 * there.
 */
export function added(model, seconds) {
  const time = Math.max(round(seconds), 0);
  const near = model.keyframes.findIndex((keyframe) => Math.abs(keyframe.time - time) < MIN_GAP);
  if (near >= 0) return { model, index: near };
  const strengths = strengthsAt(model, time);
  const intensity = Math.max(1, ...Object.values(strengths).map((value) => round(value / MAX_WEIGHT)));
  let weights = {};
  for (const emotion of EMOTIONS) weights = withWeight(weights, emotion, strengths[emotion] / intensity);
  const later = model.keyframes.findIndex((keyframe) => keyframe.time > time);
  const index = later < 0 ? model.keyframes.length : later;
  const easing = model.keyframes[Math.max(index - 1, 0)].easing;
  return { model: { keyframes: model.keyframes.toSpliced(index, 0, { time, weights, intensity, easing }) }, index };
}

/** Take a keyframe away; the last one stays, for a track needs one. */
export const removed = (model, index) =>
  model.keyframes.length > 1 ? { keyframes: model.keyframes.toSpliced(index, 1) } : model;

/** The widest gap's middle after a keyframe, or a second after the last: where a new keyframe has room. */
export function roomAfter({ keyframes }, index, seconds) {
  const { time } = keyframes[index];
  const end = keyframes[index + 1]?.time ?? Math.max(seconds, time + 1);
  return (time + end) / 2;
}
