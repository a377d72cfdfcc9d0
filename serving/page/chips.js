// What was searched for and what the service took it to mean, as chips that can be taken off.

import { readLike } from "./address.js";
import { thumbnailPath, videoRecord } from "./api.js";
import { element, icon } from "./dom.js";
import { percent, span, videoName } from "./format.js";

/**
 * Creates the chips.
 * @param {object} state see `address.js`
 * @param {object | null} query as the service understood it
 * @param {File[]} files pictures that are part of the search
 * @param {object} on
 * @param {(meaning: object) => void} on.takeback what the words were taken to mean, see `rewriting.js`
 * @param {(changes: object) => void} on.change a part of the address is to change
 * @param {(index: number) => void} on.removefile
 * @returns {HTMLElement[]}
 */
export function createChips(state, query, files, on) {
  const chips = [
    ...files.map((file, i) => fileChip(file, () => on.removefile(i))),
    ...state.like.map((like) => likeChip(like, () => on.change({ like: state.like.filter((one) => one !== like) }))),
  ];
  for (const meaning of meaningsOf(query)) {
    const remove = () => on.takeback(meaning);
    chips.push(chip(meaning.kind, meaning.label, remove, meaning.title));
  }
  if (state.where) chips.push(chip("where", `where ${state.where}`, () => on.change({ where: "" })));
  if (state.minConfidence) {
    const label = `at least ${percent(state.minConfidence)} probable`;
    chips.push(chip("confidence", label, () => on.change({ minConfidence: 0 })));
  }
  return chips;
}

/** What the words were taken to mean, each with what `rewriting.js` needs to take it back. */
function meaningsOf(query) {
  if (!query) return [];
  // "from 2019 to 2021" is two filters of one source.
  const bySource = new Map();
  for (const { source, phrase, where } of query.filters) {
    if (source) bySource.set(source, [...(bySource.get(source) ?? []), phrase || where]);
  }
  const filters = [...bySource].map(([phrase, labels]) => ({
    ...{ kind: "filter", phrase, label: labels.join(" and ") },
    title: `Take off: ${labels.join(" and ")} (look for the words “${phrase}” instead)`,
  }));
  const excluded = query.excluded.map((phrase) => ({
    ...{ kind: "excluded", phrase, label: `not ${phrase}`, title: `Take off: not ${phrase}` },
    others: query.excluded.filter((other) => other !== phrase),
  }));
  const corrections = query.corrections.map(({ original, corrected }) => ({
    ...{ kind: "correction", phrase: original, label: `${corrected}, not ${original}` },
    title: `Take off: ${corrected}, not ${original} (look for “${original}” as it is)`,
  }));
  const inOrder = `in order: ${query.steps.join(" → ")}`;
  const order = { kind: "steps", phrases: query.steps, label: inOrder, title: `Take off: ${inOrder}` };
  return [...corrections, ...filters, ...excluded, ...(query.steps.length ? [order] : [])];
}

function chip(kind, label, onremove, title = `Take off: ${label}`) {
  const attributes = { class: `chip ${kind}`, type: "button", "aria-label": title, title };
  const button = element("button", { ...attributes, onclick: onremove }, element("span", {}, label), icon("close"));
  return element("li", {}, button);
}

function likeChip(like, onremove) {
  const { id, startSeconds, endSeconds } = readLike(like);
  const image = element("img", { alt: "", width: "48", height: "27" });
  const name = element("span", {}, "like a video");
  const button = element("button", { class: "chip like", type: "button", onclick: onremove }, image, name, icon("close"));
  const describe = (record) => {
    const time = startSeconds == null ? "" : ` ${span(startSeconds, endSeconds)}`;
    const middle = startSeconds == null ? record.duration_seconds / 2 : (startSeconds + endSeconds) / 2;
    name.textContent = `like ${videoName(record)}${time}`;
    image.src = thumbnailPath(id, middle, 160);
    button.setAttribute("aria-label", `Take off: ${name.textContent}`);
  };
  videoRecord(id).then(describe, () => image.remove());
  return element("li", {}, button);
}

function fileChip(file, onremove) {
  const canvas = element("canvas", { width: "96", height: "54", "aria-hidden": "true" });
  const label = `Take off: the picture ${file.name}`;
  const isImage = file.type.startsWith("image/");
  const attributes = { class: "chip like", type: "button", "aria-label": label, title: label, onclick: onremove };
  if (isImage) drawInto(canvas, file);
  const name = element("span", {}, `like ${file.name || "the picture"}`);
  return element("li", {}, element("button", attributes, isImage && canvas, name, icon("close")));
}

/** Shows a file without an address of its own, which the content security policy need not allow. */
async function drawInto(canvas, file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    bitmap.close();
  } catch {
    canvas.remove(); // of a kind that the server reads and this browser does not
  }
}
