// The page of the status: asks again every two seconds while it is visible.

import { status } from "./api.js";
import { element } from "./dom.js";
import { plural, timeLeft } from "./format.js";

const PERIOD_MS = 2000;
const STATES = {
  idle: "Everything is indexed.",
  running: "Indexing is under way.",
  stopped: "Indexing waits for a change to the index.",
  failed: "Indexing failed; it is tried again.",
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

function show(found) {
  const { videos, segments, generation, indexing, failures, missing, watching } = found;
  const [numFailed, numMissing] = [found.num_failed, found.num_missing];
  const counts = { videos, moments: segments, generation, failed: numFailed, missing: numMissing };
  const items = Object.entries(counts).map(([name, count]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, count.toLocaleString("en"))),
  );
  find("counts").replaceChildren(...items);
  showProgress(indexing);
  showLearning(found.learning);
  setText(find("watching"), watching.length ? `Watching ${watching.join(", ")}` : "");
  const failed = failures.map(({ video, reason }) => [element("b", {}, video), element("span", {}, reason)]);
  showList(find("failures"), failed, numFailed);
  showList(find("missing"), missing.map((video) => [element("b", {}, video)]), numMissing);
}

function showProgress({ state, done, total, failed, seconds_left: left, reason }) {
  const isRunning = state === "running";
  setText(find("state"), [STATES[state] ?? state, reason].filter(Boolean).join(" "));
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

/** What the learner says of itself; nothing where there is none. */
function showLearning(learning) {
  find("learning").hidden = !learning;
  if (!learning) return;
  setText(find("learning-state"), learningState(learning));
  const { position, rows, last_hour: hour } = learning;
  const [lag, rate] = [learning.lag_events, learning.events_per_second];
  const counts = {
    ...{ "log position": position, served: learning.served_position, "events behind": lag },
    ...{ "events/s": rate, "table rows": rows, "examples of the last hour": hour?.num_examples },
    ...{ "AUC of the last hour": hour?.AUC, "predicted : observed": hour?.calibration?.ratio },
  };
  const items = Object.entries(counts)
    .filter(([, count]) => count != null)
    .map(([name, count]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, count.toLocaleString("en"))),
    );
  find("learning-counts").replaceChildren(...items);
}

function learningState({ runs, frozen, lag_seconds: lag }) {
  if (frozen) return `Frozen at its last good state: ${frozen.reason ?? "the learner says so"}.`;
  if (!runs) return "The learner does not run; what it learned before goes on.";
  return lag >= 1 ? `Learning, ${Math.round(lag)} s behind.` : "Learning, up to date.";
}

function showList(section, rows, count) {
  section.hidden = count === 0;
  const items = rows.map((row) => element("li", {}, ...row));
  if (count > rows.length) items.push(element("li", {}, `and ${plural(count - rows.length, "other")}`));
  section.querySelector("ul").replaceChildren(...items);
}

/** Leaves alone what has not changed, so that screen readers are silent. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

document.addEventListener("visibilitychange", () => !document.hidden && refresh());
refresh();
