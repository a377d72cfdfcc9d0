// Builds elements. Data only ever becomes text nodes and attributes, never markup.

/**
 * Creates an element: `element("a", { href: "/", onclick: close }, "text", otherElement)`.
 * A value of `true` sets an empty attribute; `false`, null and undefined leave it out.
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== false && child != null && child !== ""));
  return node;
}

/** As `element`, of SVG. */
export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  return filled(node, attributes, children);
}

const ICONS = {
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.3 15.3 20 20",
  picture: "M5 4h14a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1H5a1 1 0 0 1-1-1V5a1 1 0 0 1 1-1zM4 16l4.5-4.5L13 16l2.5-2.5L20 18M15.5 8.5h.01",
  close: "M6 6l12 12M18 6 6 18",
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M8.5 5.5v13M15.5 5.5v13",
  next: "M6 6v12l8-6zM17.5 6v12",
  previous: "M18 6v12l-8-6zM6.5 6v12",
  fullscreen: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  sound: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15.5 9a4 4 0 0 1 0 6M18 6.5a8 8 0 0 1 0 11",
  muted: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM16 9.5l5 5M21 9.5l-5 5",
  link: "M10 14a4 4 0 0 0 6 .4l3-3a4 4 0 0 0-5.7-5.7L12 7M14 10a4 4 0 0 0-6-.4l-3 3a4 4 0 0 0 5.7 5.7L12 17",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  heart: "M12 20S4.5 15.6 4.5 9.8A4 4 0 0 1 12 7.9a4 4 0 0 1 7.5 1.9C19.5 15.6 12 20 12 20z",
  similar: "M4 4h7v7H4zM13 13h7v7h-7zM16.5 4.5v5M14 7h5M7.5 14.5v5M5 17h5",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 1.5",
  tag: "M4 4h7.5l8.5 8.5-7.5 7.5L4 11.5zM8 8h.01",
  title: "M5 6h14M5 12h14M5 18h9",
  entity: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM5 20a7 7 0 0 1 14 0",
  operator: "M5 7h14M8 12h8M10.5 17h3",
};

/** A line drawing of 24 by 24, which screen readers pass over. */
export function icon(name) {
  const attributes = { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" };
  return svg("svg", attributes, svg("path", { d: ICONS[name] }));
}

/** A round button that shows an icon only. */
export function iconButton(name, label, onclick, attributes = {}) {
  const named = { class: "quiet", type: "button", "aria-label": label, title: label };
  return element("button", { ...named, onclick, ...attributes }, icon(name));
}

/** Changes what a button of `iconButton` shows. */
export function setIcon(button, name, label) {
  if (button.title === label) return;
  button.setAttribute("aria-label", label);
  button.title = label;
  button.replaceChildren(icon(name));
}
