// The panel of filters: a `where` condition, and how probable a match must be.

import { element } from "./dom.js";
import { percent } from "./format.js";

const DELAY_MS = 250;
// Fields that every video has, each with an example of a condition.
const EXAMPLES = {
  duration: "duration < 60",
  date: "date >= 2025-01",
  tag: "tag = 'cat'",
  key: "key like 'holiday/%'",
};

/**
 * @param {object} parts elements: `button`, `panel`, `where`, `fields`, `confidence`, `output`
 * @param {(changes: object) => void} onchange a part of the address is to change
 */
export function addFilters({ button, panel, where, fields, confidence, output }, onchange) {
  const known = new Map(Object.entries(EXAMPLES));
  let timer = 0;

  const setOpen = (isOpen) => {
    panel.hidden = !isOpen;
    button.setAttribute("aria-expanded", String(isOpen));
  };
  button.addEventListener("click", () => setOpen(panel.hidden));
  panel.addEventListener("submit", (event) => {
    event.preventDefault();
    onchange({ where: where.value.trim() });
  });
  confidence.addEventListener("input", () => {
    describe();
    clearTimeout(timer);
    timer = setTimeout(() => onchange({ minConfidence: Number(confidence.value) }), DELAY_MS);
  });

  function describe() {
    const value = Number(confidence.value);
    output.textContent = value ? `at least ${percent(value)}` : "any";
    confidence.setAttribute("aria-valuetext", output.textContent);
  }

  function insert(example) {
    const before = where.value.trim();
    where.value = before ? `${before} and ${example}` : example;
    where.focus();
  }

  function showFields() {
    const buttons = [...known].map(([name, example]) =>
      element("button", { class: "field-name", type: "button", onclick: () => insert(example) }, name),
    );
    fields.replaceChildren(...buttons);
  }
  showFields();

  return {
    /** Shows what the address says. */
    show(state) {
      where.value = state.where;
      confidence.value = String(state.minConfidence);
      describe();
    },
    /** Offers the fields that the metadata of these hits has. */
    learn(hits) {
      const before = known.size;
      for (const { metadata } of hits) {
        for (const [name, value] of Object.entries(metadata ?? {})) {
          const isPlain = ["string", "number", "boolean"].includes(typeof value);
          if (isPlain && /^[a-z]\w*$/i.test(name) && !known.has(name)) {
            known.set(name, exampleOf(name, value));
          }
        }
      }
      if (known.size > before) showFields();
    },
  };
}

function exampleOf(name, value) {
  if (typeof value !== "string") return `${name} = ${value}`;
  return value.length > 30 ? `${name} contains ''` : `${name} = '${value.replaceAll("'", "''")}'`;
}
