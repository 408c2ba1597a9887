/** What the emotion timeline draws, as numbers and path texts: no elements here. */

import { clamp, EMOTIONS, round } from "./emotions.mjs";
import { DEFAULT_SECONDS, EASINGS, strength } from "./timeline_model.mjs";

const MARGIN = { left: 26, right: 12, top: 22, bottom: 36 };
/** Points on a curve between two keyframes; enough that no corner shows. */
const SAMPLES = 24;

/** The top of the strength axis: 1, or 2 or 4 where keyframes exaggerate. */
export function topOf({ keyframes }) {
  const highest = Math.max(...keyframes.flatMap((keyframe) => EMOTIONS.map((emotion) => strength(keyframe, emotion))));
  return highest <= 1 ? 1 : highest <= 2 ? 2 : 4;
}

/** The seconds the axis shows: all of the speech and all keyframes. */
export function secondsOf({ keyframes }, speechSeconds) {
  const last = keyframes.at(-1).time;
  const seconds = speechSeconds ?? DEFAULT_SECONDS;
  return last <= seconds ? seconds : last * 1.05;
}

/** From seconds and strengths to pixels of a `width` x `height` drawing, and back. */
export function scale({ width, height, seconds, top }) {
  const inner = {
    width: Math.max(width - MARGIN.left - MARGIN.right, 1),
    height: Math.max(height - MARGIN.top - MARGIN.bottom, 1),
  };
  const left = MARGIN.left;
  const bottom = MARGIN.top + inner.height;
  return {
    left,
    bottom,
    top: MARGIN.top,
    right: left + inner.width,
    x: (time) => round(left + (inner.width * time) / seconds, 2),
    y: (value) => round(bottom - (inner.height * value) / top, 2),
    time: (x) => ((x - left) / inner.width) * seconds,
    value: (y) => clamp(((bottom - y) / inner.height) * top, 0, top),
  };
}

/** One emotion's curve as an SVG path; where the emotion does not show there is none. */
export function curve(model, emotion, seconds, { x, y }) {
  const { keyframes } = model;
  const stops = [{ ...keyframes[0], time: 0, easing: "hold" }, ...keyframes, { ...keyframes.at(-1), time: seconds }];
  let path = "";
  for (let i = 0; i + 1 < stops.length; i++) {
    const [start, end] = [strength(stops[i], emotion), strength(stops[i + 1], emotion)];
    if ((start === 0 && end === 0) || stops[i].time === stops[i + 1].time) continue;
    const { time, easing } = stops[i];
    const length = stops[i + 1].time - time;
    path += `M${x(time)} ${y(start)}`;
    const samples = easing === "linear" || easing === "hold" || start === end ? 1 : SAMPLES;
    for (let k = 1; k <= samples; k++) {
      const done = k === samples && easing !== "hold" ? 1 : EASINGS[easing](k / samples);
      path += `L${x(time + (length * k) / samples)} ${y(start + (end - start) * done)}`;
    }
    if (easing === "hold") path += `V${y(end)}`;
  }
  return path;
}

/**
 * The waveform, mirrored around the middle, as an SVG path: it tells when there is speech, so the loudest peak fills
 * the height.
 */
export function waveform(peaks, speechSeconds, { x, top, bottom }) {
  const middle = (top + bottom) / 2;
  const half = (bottom - top) / 2 / Math.max(...peaks, 0.01);
  const at = (i) => x((speechSeconds * i) / Math.max(peaks.length - 1, 1));
  const side = (sign) => peaks.map((peak, i) => `${at(i)} ${round(middle - sign * half * peak, 2)}`);
  return `M${side(1).join("L")}L${side(-1).reverse().join("L")}Z`;
}

/** Times with a label, about `count` of them, 1, 2 or 5 of some power of ten apart. */
export function ticks(seconds, count) {
  const rough = seconds / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  return Array.from({ length: Math.floor(seconds / step + 1e-9) + 1 }, (_, i) => round(i * step, 6));
}

/** Where each used emotion's name stands: at its highest keyframe, names that would overlap one below the other. */
export function names(model, emotions, { x, y }) {
  const placed = [];
  for (const emotion of emotions) {
    const best = model.keyframes.reduce((a, b) => (strength(b, emotion) > strength(a, emotion) ? b : a));
    let line = y(strength(best, emotion)) - 7;
    while (placed.some((other) => Math.abs(other.x - x(best.time)) < 60 && Math.abs(other.y - line) < 12)) line += 12;
    placed.push({ emotion, x: x(best.time), y: line });
  }
  return placed;
}
