/** Widgets that have no part are not shown, and a choice's widgets keep their values while another is chosen. */

import { choiceOf, renew } from "./old_values.mjs";

const LETTERS = "abcdefgh";

const valueOf = (node, name) => node.widgets?.find((widget) => widget.name === name)?.value;
const isWired = (node, ...names) => node.inputs?.some((input) => names.includes(input.name) && input.link != null);

/** Names of dead widgets, by the type of the node: the same rules as the server's, where a prompt is settled. */
const DEAD = {
  DICETalk_LoadModel: (node) => ({ svd: valueOf(node, "model") === "tiny" }),
  DICETalk_PortraitCrop: (node) => ({
    mask_scale: valueOf(node, "area") === "everything moves",
    "area.face_index": isWired(node, "box", "mask"),
  }),
  DICETalk_ExtractEmotionPrior: (node) => ({
    fps: !isWired(node, "images"),
    audio_stream: !isWired(node, "video"),
  }),
  DICETalk_EmotionBankMix(node) {
    const drawn = valueOf(node, "temperature") > 0 || isWired(node, "temperature");
    const weights = [...LETTERS].map((letter) => [
      `weight_${letter}`,
      !isWired(node, `emotion_${letter}`, `more.emotion_${letter}`),
    ]);
    return { ...Object.fromEntries(weights), seed: !drawn };
  },
  DICETalk_Sampler: (node) => ({ frame_rate: valueOf(node, "interpolate") === false }),
};

/** Show what is live. `changed` is called if that changed anything. */
export function showLive(node, changed) {
  let any = false;
  for (const [name, dead] of Object.entries(DEAD[node.comfyClass]?.(node) ?? {})) {
    const main = node.widgets?.find((each) => each.name === name);
    // A seed's control goes with it; its name is the seed's option.
    for (const widget of main ? [main, ...(main.linkedWidgets ?? [])] : []) {
      if (Boolean(widget.hidden) === dead) continue;
      widget.hidden = dead;
      widget.options.hidden = dead;
      any = true;
    }
  }
  if (!any) return;
  // Nodes 2.0 does not notice what a widget says of itself, but that there are more or fewer of them.
  node.widgets.push(node.widgets.at(-1));
  node.widgets.pop();
  changed(node);
}

/** The widgets of a choice, which the editor makes anew for every option; their values are noted as they change. */
function note(node, choice) {
  node.dicetalkValues ??= {};
  for (const widget of node.widgets ?? []) {
    if (!widget.name.startsWith(`${choice}.`) || widget.dicetalkNoted) continue;
    widget.dicetalkNoted = true;
    node.dicetalkValues[widget.name] = widget.value;
    after(widget, () => (node.dicetalkValues[widget.name] = widget.value));
  }
}

/** After another option was chosen: the values that its widgets had before. */
function restore(node, choice) {
  for (const widget of node.widgets) {
    if (widget.name.startsWith(`${choice}.`) && widget.name in node.dicetalkValues) {
      widget.value = node.dicetalkValues[widget.name];
    }
  }
  note(node, choice);
}

function after(widget, then) {
  const { callback } = widget;
  widget.callback = function (...args) {
    const answer = callback?.apply(this, args);
    then();
    return answer;
  };
}

/** Watch one node from its making on. */
export function watchNode(node, changed) {
  if (!(node.comfyClass in DEAD)) return;
  const choice = choiceOf(node.comfyClass);
  if (choice) note(node, choice);
  const update = () => showLive(node, changed);
  for (const widget of node.widgets ?? []) {
    if (!["model", "area", "result", "temperature", "preset", "interpolate"].includes(widget.name)) continue;
    after(widget, () => {
      if (widget.name === choice) restore(node, choice);
      update();
    });
  }
  const { onConnectionsChange, onConfigure } = node;
  node.onConnectionsChange = function (...args) {
    onConnectionsChange?.apply(this, args);
    update();
    setTimeout(update); // inputs that grow come and go later
  };
  node.onConfigure = function (...args) {
    onConfigure?.apply(this, args);
    if (choice) note(node, choice);
    update();
  };
  update();
}

/** Have nodes of `type` open as earlier releases saved them. */
export function openOld(type) {
  const { configure } = type.prototype;
  type.prototype.configure = function (info) {
    const dead = renew(info);
    configure.call(this, info);
    Object.assign((this.dicetalkValues ??= {}), dead);
  };
}
