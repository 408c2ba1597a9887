/** Nodes as workflows of earlier releases hold them, brought into the form of this one. */

/**
 * Choices that decide which widgets there are.
 *
 * Before, all widgets were there with every choice: `all` names them in the order of their values, from `at` on, and
 * `kept` those that each option still has.
 */
const CHOICES = {
  DICETalk_Sampler: {
    name: "preset",
    at: 2,
    count: 22,
    all: [
      "steps",
      "portrait_guidance",
      "expression_guidance",
      "portrait_guidance_change",
      "expression_guidance_change",
      "schedule",
      "window",
      "overlap",
      "shift",
    ],
    kept: { custom: true, reference: [], fast: [] },
  },
  DICETalk_PortraitCrop: {
    name: "area",
    at: 0,
    count: 5,
    all: ["face_index", "margin"],
    kept: { face: true, "whole picture": ["face_index"], "everything moves": [] },
  },
  DICETalk_ExtractEmotionPrior: {
    name: "result",
    at: 0,
    count: 5,
    all: ["strength", "smoothing", "window"],
    kept: { "emotion over time": true, "one emotion": ["strength"] },
  },
};

export const choiceOf = (type) => CHOICES[type]?.name;

/**
 * The serialised node `info`, changed in place; dead values, by the widgets' names, are given back.
 *
 * With an option that keeps all widgets the old and the new values are the same. With the others the old ones are more,
 * and by that they are known.
 */
export function renew(info) {
  const choice = CHOICES[info.type];
  if (!choice) return {};
  renameInputs(info, choice);
  const values = info.widgets_values;
  if (!Array.isArray(values) || values.length < choice.count) return {};
  const kept = choice.kept[values[choice.at]];
  if (kept === undefined || kept === true) return {};
  const first = choice.at + 1;
  const old = Object.fromEntries(choice.all.map((name, i) => [name, values[first + i]]));
  info.widgets_values = [
    ...values.slice(0, first),
    ...kept.map((name) => old[name]),
    ...values.slice(first + choice.all.length),
  ];
  // Named values of the old form would be taken instead of these.
  delete info.widgets_values_named;
  return Object.fromEntries(Object.entries(old).map(([name, value]) => [`${choice.name}.${name}`, value]));
}

/** Inputs of widgets that became a choice's, with their wires; those that are dead now go. */
function renameInputs(info, choice) {
  const named = info.widgets_values?.[choice.at];
  const kept = choice.kept[named] === true ? choice.all : (choice.kept[named] ?? choice.all);
  info.inputs = info.inputs
    ?.filter((input) => !choice.all.includes(input.name) || kept.includes(input.name))
    .map((input) => {
      if (!choice.all.includes(input.name)) return input;
      const name = `${choice.name}.${input.name}`;
      return { ...input, name, ...(input.widget && { widget: { ...input.widget, name } }) };
    });
}
