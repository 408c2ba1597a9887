/**
 * The released emotions, in the order in which they stand around the pad, and the limits of what may be asked of
 * them.
 */

export const NEUTRAL = "neutral";

/**
 * Clockwise from the top. Neighbours are what people show together (disgust and anger, fear and surprise), because the
 * pad mixes neighbours.
 */
export const EMOTIONS = ["surprised", "happy", "contempt", "disgusted", "angry", "sad", "fear"];

/** Largest weight and largest intensity, as in `dicetalk.emotion.mix`. */
export const MAX_WEIGHT = 2;

/** Other spellings, as in `dicetalk.emotion.prior`. */
const ALIASES = {
  happiness: "happy",
  joy: "happy",
  sadness: "sad",
  anger: "angry",
  surprise: "surprised",
  afraid: "fear",
  fearful: "fear",
  disgust: "disgusted",
  contemptuous: "contempt",
};

/** What a person typed is not a value of the widget; `key` and `params` name the translated message. */
export class FormatError extends Error {
  constructor(key, params = {}) {
    super(`${key} ${JSON.stringify(params)}`);
    this.key = key;
    this.params = params;
  }
}

export const round = (number, digits = 3) => Number(number.toFixed(digits));
export const clamp = (number, low, high) => Math.min(Math.max(number, low), high);

const isTable = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** Parse JSON that must be a table with no entries but `known`; throws FormatError. */
export function parseTable(text, known) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new FormatError("error.json");
  }
  return checkTable(value, known);
}

export function checkTable(value, known) {
  if (!isTable(value)) throw new FormatError("error.table", { names: known.join(", ") });
  const stranger = Object.keys(value).find((name) => !known.includes(name));
  if (stranger !== undefined) throw new FormatError("error.entry", { name: stranger, names: known.join(", ") });
  return value;
}

/** A number in low..high, or `missing` where there is none; throws FormatError. */
export function checkNumber(value, name, low, high, missing) {
  if (value === undefined && missing !== undefined) return missing;
  if (!Number.isFinite(value) || value < low || value > high) {
    const shown = JSON.stringify(value) ?? "?";
    throw high === Infinity
      ? new FormatError("error.least", { name, value: shown, low })
      : new FormatError("error.range", { name, value: shown, low, high });
  }
  return value;
}

/** Text as on the command line, `happy:0.5+sad:0.3`, as pairs of a name and a weight. */
const fromText = (text) =>
  text.split("+").map((part) => {
    const [name, weight = "1"] = part.split(":").map((word) => word.trim());
    return [name, weight === "" ? NaN : Number(weight)];
  });

/** Weights by the emotions' own names; neutral and zeros, which change nothing, are left out. Throws FormatError. */
export function checkWeights(value) {
  if (typeof value !== "string" && !isTable(value)) throw new FormatError("error.weights");
  const weights = {};
  const seen = new Set();
  for (const [name, weight] of typeof value === "string" ? fromText(value) : Object.entries(value)) {
    const emotion = ALIASES[name.toLowerCase()] ?? name.toLowerCase();
    if (emotion !== NEUTRAL && !EMOTIONS.includes(emotion)) {
      throw new FormatError("error.emotion", { name, names: [NEUTRAL, ...EMOTIONS].join(", ") });
    }
    if (seen.has(emotion)) throw new FormatError("error.twice", { name: emotion });
    seen.add(emotion);
    checkNumber(weight, name, 0, MAX_WEIGHT);
    if (weight > 0 && emotion !== NEUTRAL) weights[emotion] = weight;
  }
  return weights;
}

/** `weights` with one of them set; a zero is left out. */
export function withWeight(weights, emotion, weight) {
  const { [emotion]: _old, ...rest } = weights;
  const rounded = round(clamp(weight, 0, MAX_WEIGHT));
  return rounded > 0 ? { ...rest, [emotion]: rounded } : rest;
}

/** One line of JSON with a space after each colon and comma, as Python writes it. */
export function toJson(value) {
  if (Array.isArray(value)) return `[${value.map(toJson).join(", ")}]`;
  if (!isTable(value)) return JSON.stringify(value);
  const entries = Object.entries(value).map(([name, entry]) => `${JSON.stringify(name)}: ${toJson(entry)}`);
  return `{${entries.join(", ")}}`;
}
