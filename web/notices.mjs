/** What a run did not use of a node's inputs, or did differently than asked: written into the node below its widgets. */

import { html } from "./dom.mjs";

const NAME = "dicetalk_notices";
const LINE = 16;
const LETTER = 6.2;
const LONGEST = 8 * LINE;

/** Pixels that `texts` take in a node of `width`, about; from a few lines on they scroll. */
function heightOf(texts, width) {
  const lines = texts.map((text) => Math.ceil((text.length * LETTER) / Math.max(width - 60, 100)));
  return Math.min(lines.reduce((sum, count) => sum + count * LINE + 6, 10), LONGEST);
}

/**
 * Show the notices of a run, each once; those of the run before go away.
 *
 * @param {object} node
 * @param {object} output what the node reported; without notices of this pack it is no run of ours
 * @returns {boolean} whether anything changed
 */
export function showNotices(node, output) {
  const given = output?.[NAME];
  if (!given) return false;
  const texts = [...new Set(given)];
  const shown = node.widgets?.find((widget) => widget.name === NAME);
  if (!shown && texts.length === 0) return false;
  if (shown && JSON.stringify(shown.dicetalkTexts) === JSON.stringify(texts)) return false;
  if (shown) {
    shown.onRemove?.();
    node.widgets.splice(node.widgets.indexOf(shown), 1);
  }
  if (texts.length > 0) {
    const items = texts.map((text) => html("p", {}, text));
    const element = html("div", { class: "dicetalk-notices", role: "status" }, ...items);
    const height = () => heightOf(texts, node.size[0]);
    const widget = node.addDOMWidget(NAME, NAME, element, {
      serialize: false,
      getValue: () => "",
      setValue: () => undefined,
      getMinHeight: height,
      getMaxHeight: height,
    });
    element.style.setProperty("--comfy-widget-min-height", String(height()));
    element.style.minHeight = `${height()}px`;
    widget.serialize = false;
    widget.dicetalkTexts = texts;
  }
  return true;
}
