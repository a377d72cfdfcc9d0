// The page of the status: asks again every two seconds while it is visible.

import { status } from "./api.js";
import { element } from "./dom.js";
import { plural, timeLeft } from "./format.js";

const PERIOD_MS = 2000;
const MAX_LISTED = 200;
const STATES = {
  idle: "Everything is indexed.",
  running: "Indexing is under way.",
  stopped: "Indexing is stopped.",
  failed: "Indexing failed; the service's log says why.",
};

const find = (id) => document.getElementById(id);
let timer = 0;

async function refresh() {
  clearTimeout(timer);
  try {
    show(await status());
    setText(find("problem"), "");
  } catch (error) {
    setText(find("problem"), error.message);
  }
  if (!document.hidden) timer = setTimeout(refresh, PERIOD_MS);
}

function show({ videos, segments, generation, indexing = {}, failures = [], missing = [], watching = [] }) {
  const counts = { videos, moments: segments, generation, failed: failures.length, missing: missing.length };
  const items = Object.entries(counts)
    .filter(([, count]) => count != null)
    .map(([name, count]) => element("div", {}, element("dt", {}, name), element("dd", {}, count.toLocaleString("en"))));
  find("counts").replaceChildren(...items);
  showProgress(indexing);
  setText(find("watching"), watching.length ? `Watching ${watching.join(", ")}` : "");
  const failed = failures.map(({ video, reason }) => [element("b", {}, video), element("span", {}, reason)]);
  showList(find("failures"), failed);
  showList(find("missing"), missing.map((video) => [element("b", {}, video.video ?? video)]));
}

function showProgress({ state = "idle", done = 0, total = 0, failed = 0, seconds_left: left = null }) {
  const isRunning = state === "running";
  setText(find("state"), STATES[state] ?? state);
  const bar = find("progress");
  bar.hidden = !isRunning;
  bar.max = Math.max(1, total);
  if (total) bar.value = done;
  else bar.removeAttribute("value"); // how many there are is not known yet
  const parts = [`${done.toLocaleString("en")} of ${plural(total, "video")}`];
  if (failed) parts.push(`${failed.toLocaleString("en")} failed`);
  if (left != null) parts.push(`${timeLeft(left)} left`);
  setText(find("progress-text"), isRunning && total ? parts.join(" · ") : "");
}

function showList(section, rows) {
  section.hidden = rows.length === 0;
  const items = rows.slice(0, MAX_LISTED).map((row) => element("li", {}, ...row));
  if (rows.length > MAX_LISTED) items.push(element("li", {}, `and ${rows.length - MAX_LISTED} more`));
  section.querySelector("ul").replaceChildren(...items);
}

/** Leaves alone what has not changed, so that screen readers are silent. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

document.addEventListener("visibilitychange", () => !document.hidden && refresh());
refresh();
