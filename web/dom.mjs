/** Small helpers to build and watch elements. */

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export const html = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

/**
 * Drags with the main button, whatever the canvas is zoomed to; the canvas itself sees none of it.
 *
 * `start(event)` gives the function that follows the pointer, or nothing where there is nothing to drag.
 */
export function onDrag(element, { start, end }) {
  let follow;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    follow = start(event);
    if (!follow) return;
    event.stopPropagation();
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    if (!follow) return;
    event.stopPropagation();
    follow(event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element.addEventListener(name, (event) => {
      if (!follow) return;
      event.stopPropagation();
      follow = undefined;
      end();
    });
  }
}

/**
 * Calls the function that `keys` has for a key, and keeps the key from the canvas, where Delete would take the node
 * away. `end` follows when the key is let go, so that a key held down is one step.
 */
export function onKeys(element, keys, end) {
  const mine = (event) => !event.ctrlKey && !event.metaKey && !event.altKey && Object.hasOwn(keys, event.key);
  element.addEventListener("keydown", (event) => {
    if (!mine(event)) return;
    event.preventDefault();
    event.stopPropagation();
    keys[event.key](event);
  });
  element.addEventListener("keyup", (event) => mine(event) && end());
}

let styled = false;

/** Puts the style sheet into the page, once. */
export function addStyles() {
  if (styled) return;
  styled = true;
  document.head.append(html("link", { rel: "stylesheet", href: new URL("./dicetalk.css", import.meta.url).href }));
}
