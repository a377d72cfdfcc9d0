// The drop-down of the search box: a combobox by the ARIA Authoring Practices, whose focus stays in
// the box.

import { suggest } from "./api.js";
import { element, icon } from "./dom.js";
import { forgetSearches, hasPastSearches, pastSearches } from "./past.js";

const DELAY_MS = 120;
const MAX_PAST = 3; // beside suggestions of the service
const MAX_PAST_ALONE = 8;
const ICONS = { past: "clock", query: "clock", tag: "tag", entity: "entity", operator: "operator" };

/**
 * @param {object} parts elements: `input`, `popup`, `list`, `forget`
 * @param {(text: string) => void} onchoose a suggestion that is a whole search was chosen
 */
export function addSuggestions({ input, popup, list, forget }, onchoose) {
  let timer = 0;
  let request = null;
  let options = [];
  let active = -1;

  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(update, DELAY_MS);
  });
  input.addEventListener("click", () => popup.hidden && update());
  input.addEventListener("keydown", onKey);
  input.addEventListener("blur", (event) => popup.contains(event.relatedTarget) || close());
  popup.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus
  forget.addEventListener("click", () => {
    forgetSearches();
    input.focus();
    update();
  });
  forget.addEventListener("blur", close);

  async function update() {
    request?.abort();
    request = new AbortController();
    const { signal } = request;
    const text = input.value.trimStart();
    const past = pastSearches(text, text ? MAX_PAST : MAX_PAST_ALONE);
    let found = [];
    if (text) {
      try {
        found = (await suggest(text, { signal })).suggestions;
      } catch {
        if (signal.aborted) return; // something newer is under way
      }
    }
    if (signal.aborted || document.activeElement !== input) return;
    const known = new Set(past);
    show([
      ...past.map((value) => ({ text: value, kind: "past", detail: "searched before" })),
      ...found.filter((one) => !known.has(one.text)),
    ]);
  }

  function show(suggestions) {
    options = suggestions.map(({ text, kind, detail }, i) =>
      element(
        "li",
        { id: `option-${i}`, role: "option", "aria-selected": "false", onclick: () => choose(i) },
        icon(ICONS[kind] ?? "title"),
        element("span", { class: "text" }, ...emphasised(text, input.value.trim())),
        element("span", { class: "detail" }, detail || (ICONS[kind] && kind !== "past" ? kind : "")),
      ),
    );
    options.forEach((option, i) => Object.assign(option, { suggestion: suggestions[i] }));
    list.replaceChildren(...options);
    forget.hidden = !hasPastSearches() || !suggestions.some((one) => one.kind === "past");
    activate(-1);
    popup.hidden = options.length === 0;
    input.setAttribute("aria-expanded", String(!popup.hidden));
  }

  function activate(index) {
    options[active]?.setAttribute("aria-selected", "false");
    active = index;
    const option = options[active];
    option?.setAttribute("aria-selected", "true");
    option?.scrollIntoView({ block: "nearest" });
    if (option) input.setAttribute("aria-activedescendant", option.id);
    else input.removeAttribute("aria-activedescendant");
  }

  function choose(index) {
    const { text, kind } = options[index].suggestion;
    input.value = text;
    close();
    input.focus();
    // An operator without a value is only the beginning of a search.
    if (kind === "operator" && /[:=<>#]\s*$|\s$/.test(text)) update();
    else onchoose(text);
  }

  function close() {
    clearTimeout(timer);
    request?.abort();
    if (popup.contains(document.activeElement)) return;
    popup.hidden = true;
    input.setAttribute("aria-expanded", "false");
    activate(-1);
  }

  function onKey(event) {
    if (event.isComposing) return; // the keys belong to an input method
    if (event.key === "Escape" && !popup.hidden) {
      event.preventDefault(); // else the browser empties the box
      close();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (popup.hidden) update();
      else move(event.key === "ArrowDown" ? 1 : -1);
    } else if (event.key === "Enter" && active >= 0) {
      event.preventDefault();
      choose(active);
    }
  }

  /** Past either end lies the box itself, where nothing is active. */
  function move(step) {
    const places = options.length + 1;
    activate(((active + 1 + step + places) % places) - 1);
  }

  return { close };
}

/** What would be added to the typed text, in bold. */
function emphasised(text, typed) {
  const start = text.toLowerCase().indexOf(typed.toLowerCase());
  if (!typed || start < 0) return [text];
  const end = start + typed.length;
  const added = (part) => (part ? element("b", {}, part) : "");
  return [added(text.slice(0, start)), text.slice(start, end), added(text.slice(end))];
}
