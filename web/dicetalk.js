import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { addStyles } from "./dom.mjs";
import { translator } from "./i18n.mjs";
import { openOld, watchNode } from "./live.mjs";
import { showNotices } from "./notices.mjs";
import { createPad, DEFAULT_PAD } from "./pad_widget.mjs";
import { createTimeline, DEFAULT_TIMELINE } from "./timeline_widget.mjs";

let t = translator({}, "en");

/**
 * What a widget needs of ComfyUI: words, a word to the graph after each change, and a step of undo after each
 * gesture.
 */
function hostOf(getWidget) {
  return {
    t: (key, params) => t(key, params),
    commit() {
      app.canvas.emitBeforeChange();
      app.canvas.emitAfterChange();
    },
    changed() {
      const widget = getWidget();
      widget?.callback?.(widget.value);
    },
  };
}

/** A custom widget whose value is the text of what `create` draws. */
function addWidget(node, inputName, inputData, { type, create, fallback, minimum }) {
  let widget;
  const made = create({ text: inputData[1]?.default ?? fallback, host: hostOf(() => widget) });
  widget = node.addDOMWidget(inputName, type, made.element, {
    getValue: made.getText,
    // Workflows of before a widget had a value hold null or nothing in its place.
    setValue: (text) => made.setText(text || fallback),
  });
  zoomOnWheel(made.element);
  return { widget, made, ...minimum };
}

/** Zoom under a widget, where the editor does not (it does in Nodes 2.0); text that scrolls keeps the wheel. */
function zoomOnWheel(element) {
  element.addEventListener(
    "wheel",
    (event) => {
      const { target } = event;
      const scrolls = target.matches?.("textarea") && target.scrollHeight > target.clientHeight;
      if (LiteGraph.vueNodesMode || scrolls) return;
      event.stopPropagation();
      app.canvas.processMouseWheel(event);
    },
    { passive: false },
  );
}

/** Show a run's notices in a node of the pack, which grows by their height and gives it back. */
function note(node, output) {
  if (!node.comfyClass?.startsWith("DICETalk_")) return;
  const before = node.computeSize()[1];
  if (!showNotices(node, output)) return;
  const [width, height] = node.computeSize();
  const { size } = node;
  node.setSize([Math.max(size[0], width), Math.max(size[1] + height - before, height)]);
  app.canvas?.setDirty(true, true);
}

/** The timelines by their nodes, to tell them of the speech. */
const timelines = new WeakMap();

/**
 * After nodes have come anew (undo, another workflow, a subgraph).
 *
 * In Nodes 2.0 a node under an id that was shown before keeps the element of the node before it: its own takes the
 * place. And a new timeline does not know of the run before it, but ComfyUI does.
 */
function catchUp() {
  const { graph } = app.canvas;
  for (const node of graph?.nodes ?? []) {
    for (const { type, element } of node.widgets ?? []) {
      // Other packs' widgets may have no type, or one that is no text.
      if (!String(type).startsWith("DICETALK_") || element.isConnected) continue;
      document.querySelector(`[data-node-id="${node.id}"] .dicetalk`)?.replaceWith(element);
    }
    const key = graph.isRootGraph ? node.id : `${graph.id}:${node.id}`;
    timelines.get(node)?.setSpeech(app.nodeOutputs[key] ?? {});
    note(node, app.nodeOutputs[key]);
  }
}

app.registerExtension({
  name: "DICETalk.Widgets",

  async init() {
    addStyles();
    t = translator(await api.getCustomNodesI18n(), app.ui.settings.getSettingValue("Comfy.Locale") ?? "en");
  },

  beforeRegisterNodeDef(type, { name }) {
    if (name.startsWith("DICETalk_")) openOld(type);
  },

  nodeCreated(node) {
    watchNode(node, ({ size, computeSize }) => {
      const [width, height] = computeSize.call(node);
      node.setSize([Math.max(size[0], width), node.comfyClass === "DICETalk_EmotionBankMix" ? Math.max(size[1], height) : height]);
      app.canvas?.setDirty(true, true);
    });
    const { onExecuted } = node;
    node.onExecuted = function (output) {
      onExecuted?.call(this, output);
      note(this, output);
    };
  },

  setup() {
    app.canvas.canvas.addEventListener("litegraph:set-graph", () => setTimeout(catchUp));
  },

  afterConfigureGraph() {
    setTimeout(catchUp);
  },

  getCustomWidgets: () => ({
    DICETALK_EMOTION_PAD(node, inputName, inputData) {
      return addWidget(node, inputName, inputData, {
        type: "DICETALK_EMOTION_PAD",
        create: createPad,
        fallback: DEFAULT_PAD,
        minimum: { minWidth: 380, minHeight: 350 },
      });
    },

    DICETALK_EMOTION_TIMELINE(node, inputName, inputData) {
      const added = addWidget(node, inputName, inputData, {
        type: "DICETALK_EMOTION_TIMELINE",
        create: createTimeline,
        fallback: DEFAULT_TIMELINE,
        minimum: { minWidth: 560, minHeight: 380 },
      });
      const { made } = added;
      timelines.set(node, made);
      const { onExecuted } = node;
      node.onExecuted = function (output) {
        onExecuted?.call(this, output);
        made.setSpeech(output);
      };
      return added;
    },
  }),
});
