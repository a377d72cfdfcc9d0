// Connects the parts of the page: the address says what is shown, and every change goes through it.

import { asksSomething, readAddress, writeAddress } from "./address.js";
import { search } from "./api.js";
import { AskedNext } from "./asked_next.js";
import { createCard } from "./card.js";
import { createChips } from "./chips.js";
import { element, icon } from "./dom.js";
import { Events } from "./events.js";
import { addFilters } from "./filters.js";
import { ForYou } from "./foryou.js";
import { plural } from "./format.js";
import { Greeting } from "./greeting.js";
import { Likes } from "./likes.js";
import { allMoments } from "./moments.js";
import { keepSearch } from "./past.js";
import { addPictures } from "./pictures.js";
import { Player } from "./player.js";
import { isMeant, rewritings } from "./rewriting.js";
import { Searching } from "./searching.js";
import { addSuggestions } from "./suggestions.js";

const MAX_REWRITINGS = 6;
const MAX_FILES = 4;
const READY_PERIOD_MS = 1000; // between two attempts while the service gets ready

const find = (id) => document.getElementById(id);
const input = find("q");
const events = new Events();
const likes = new Likes(events);
const forYou = new ForYou(find("for-you"), {
  ...{ events, likes },
  onopen: openHit,
  onsimilar: addSimilar,
});
const greeting = new Greeting(find("library"), find("status-link"), () => {
  if (!asksSomething(state) && !forYou.isShown) forYou.refresh(state);
});
const askedNext = new AskedNext(find("asked-next"), (text) => {
  goSearch({ q: text });
  scrollTo({ top: 0 });
});
const searching = new Searching((isBusy) => {
  find("busy").hidden = !isBusy;
  find("hits").classList.toggle("old", isBusy);
});

let state = readAddress(location.search);
let files = []; // pictures that are part of the search
let hits = [];
let answer = null;
let openedHit = null; // of a list that is no search
let shownSearch = null; // the address of the search whose hits are shown
const filesOfEntry = new Map(); // of the history, so that "back" finds them again
let lastEntry = 0;
let readyTimer = 0;

/** Changes what the address says, and shows that. */
function go(changes, { replaces = false, newFiles = files } = {}) {
  files = newFiles;
  state = { ...state, ...changes, pictures: newFiles.length };
  lastEntry += 1;
  filesOfEntry.set(lastEntry, files);
  const entry = { entry: lastEntry, opened: Boolean(changes.video) && !replaces };
  if (replaces) history.replaceState({ ...history.state, entry: lastEntry }, "", writeAddress(state));
  else history.pushState(entry, "", writeAddress(state));
  return show();
}

/** As `go`, to another search: no video is open. */
function goSearch(changes, options) {
  return go({ video: "", seconds: null, ...changes }, options);
}

async function show() {
  const asked = { ...state, video: "", seconds: null };
  const key = [writeAddress(asked), ...files.map(nameOf)].join(" ");
  showForm();
  if (!state.video) player.close();
  if (asksSomething(state)) forYou.hide();
  if (key !== shownSearch) {
    shownSearch = key;
    await searchFor(asked);
  }
  if (state.video && shownSearch === key) showPlayer();
}

function nameOf(file) {
  return `${file.name}/${file.size}/${file.lastModified}`;
}

function showForm() {
  if (input.value.trim() !== state.q) input.value = state.q;
  document.body.classList.toggle("start", !asksSomething(state));
  document.title = state.q ? `${state.q} · reelseek` : "reelseek";
  for (const radio of document.getElementsByName("level")) radio.checked = radio.value === state.level;
  filters.show(state);
}

async function searchFor(asked) {
  notice();
  const isLost = state.pictures > 0 && !files.length; // the address was shared, or loaded again
  const asksMore = Boolean(asked.q || asked.like.length || files.length);
  if (!asksMore) {
    searching.abort();
    showHits(null, asked);
    if (asked.where) notice("Say what to look for in these videos.");
    if (isLost) tellOfLostPicture();
    if (!asksSomething(state)) greeting.refresh();
    return;
  }
  try {
    const found = await searching.run(asked, { files, user: events.pseudonym });
    if (!found) return;
    if (!isLost) keepSearch(asked.q);
    events.searched(asked, found);
    showHits(found, asked);
    if (isLost) tellOfLostPicture();
    else if (files.length) notice("A picture is part of this search. It is not in the address, so a shared link lacks it.", "note");
  } catch (error) {
    shownSearch = null;
    showHits(null, asked);
    if (error.code === "not_ready") waitUntilReady();
    else notice(error.message);
  }
}

/** The service has just been started: the same search is sent again until it answers. */
function waitUntilReady() {
  notice("Getting ready: the model is being loaded, or the first videos are being indexed.", "note waiting");
  clearTimeout(readyTimer);
  readyTimer = setTimeout(() => shownSearch ?? show(), READY_PERIOD_MS);
}

function tellOfLostPicture() {
  notice("A picture was part of this search. It is not in the address, so it cannot be shared: add it again.");
}

function notice(message = "", kind = "error") {
  find("notice").className = `notice ${kind}`;
  find("notice").textContent = message;
}

function showHits(found, asked) {
  answer = found;
  hits = [];
  find("hits").replaceChildren();
  find("chips").replaceChildren(
    ...createChips(state, found?.query, files, {
      takeback: takeBack,
      change: goSearch,
      removefile: (index) => goSearch({}, { newFiles: files.filter((_, i) => i !== index) }),
    }),
  );
  find("summary").textContent = "";
  find("more").hidden = true;
  if (found) askedNext.refresh(asked.q);
  else askedNext.hide();
  if (!found) return;
  addHits(found, asked);
  if (!hits.length) showWhyEmpty(found.why_empty);
}

function showWhyEmpty(reason) {
  const text = reason ? `${reason[0].toUpperCase()}${reason.slice(1)}.` : "Nothing matches.";
  const hint = find("chips").childElementCount ? "Take off what limits the search above, or say it in other words." : "Say it in other words.";
  find("hits").append(element("li", { class: "empty" }, element("p", {}, text), element("p", { class: "faint" }, hint)));
}

function addHits(found, asked) {
  const query = found.query?.sentence || asked.q;
  const cards = found.hits.map((hit) => {
    const options = { onopen: openHit, onsimilar: addSimilar, likes };
    const card = createCard(hit, { state: asked, asked: query, ...options });
    events.watchCard(card, hit);
    return card;
  });
  hits.push(...found.hits);
  find("hits").append(...cards);
  find("more").hidden = !found.next_cursor;
  find("summary").textContent = summaryOf(found, asked.level);
  filters.learn(found.hits);
}

function openHit(hit, seconds, options = {}) {
  events.addOfHit("click", hit);
  openedHit = hit.surface ? hit : null;
  go({ video: hit.id, seconds }, options);
}

function summaryOf({ next_cursor: cursor, shards }, level) {
  const count = plural(hits.length, level);
  const isPart = shards && shards.answered < shards.of;
  return (cursor ? `First ${count}` : count) + (isPart ? `, of ${shards.answered} of ${shards.of} shards` : "");
}

async function showMore() {
  const before = hits.length;
  try {
    const asked = { ...state, video: "", seconds: null };
    const found = await searching.run(asked, {
      ...{ files, cursor: answer.next_cursor, user: events.pseudonym },
    });
    if (!found) return;
    answer = { ...answer, next_cursor: found.next_cursor };
    addHits(found, asked);
    find("hits").children[before]?.querySelector("h2 a")?.focus();
  } catch (error) {
    notice(error.message);
  }
}

/** Makes a phrase mean itself: the first rewriting that the service no longer reads as before. */
async function takeBack(meaning) {
  let tried = 0;
  for (const text of rewritings(state.q, meaning)) {
    tried += 1;
    try {
      const { query } = await search({ ...state, q: text }, { files, k: 1, strip: false });
      if (!isMeant(query, meaning)) return goSearch({ q: text });
    } catch (error) {
      return notice(error.message);
    }
    if (tried === MAX_REWRITINGS) break;
  }
  return notice("These words cannot be taken literally: say it in other words.");
}

function addSimilar(like) {
  goSearch({ like: state.like.includes(like) ? state.like : [...state.like, like] });
  scrollTo({ top: 0 });
}

function showPlayer() {
  const ofVideo = hits.filter((hit) => hit.id === state.video);
  const isAt = (hit) => state.seconds == null || (hit.start_seconds <= state.seconds && state.seconds < hit.end_seconds);
  player.open(state.video, state.seconds, {
    moments: allMoments(hits, state.level),
    hit: openedHit?.id === state.video ? openedHit : (ofVideo.find(isAt) ?? ofVideo[0] ?? null),
    asked: answer?.query?.sentence || state.q,
    state,
  });
}

const listener = {
  onmove: ({ hit, startSeconds }) => {
    state = { ...state, video: hit.id, seconds: startSeconds };
    history.replaceState(history.state, "", writeAddress(state));
    if (hit.id !== player.videoId) showPlayer();
  },
  onclose: () => {
    openedHit = null;
    if (!asksSomething(state)) forYou.refresh(state);
    if (!state.video) return; // the address said so
    if (history.state?.opened) history.back();
    else go({ video: "", seconds: null });
  },
  onsimilar: addSimilar,
  onopen: (hit, seconds) => openHit(hit, seconds, { replaces: true }),
  events,
  onevent: (kind, hit, fields) => events.addOfHit(kind, hit, fields),
};
const player = new Player(find("player"), listener, likes);

const suggestions = addSuggestions(
  { input, popup: find("suggestions"), list: find("options"), forget: find("forget") },
  (text) => goSearch({ q: text.trim() }),
);

const filters = addFilters(
  {
    ...{ button: find("filters-button"), panel: find("filters"), where: find("where") },
    ...{ fields: find("fields"), confidence: find("confidence"), output: find("confidence-text") },
  },
  goSearch,
);

addPictures({ button: find("choose"), input: find("files"), overlay: find("drop") }, (added) => {
  goSearch({ q: input.value.trim() }, { newFiles: [...files, ...added].slice(0, MAX_FILES) });
});

find("choose").append(icon("picture"));
find("submit").append(icon("search"));
find("search").addEventListener("submit", (event) => {
  event.preventDefault();
  suggestions.close();
  goSearch({ q: input.value.trim() });
});
for (const radio of document.getElementsByName("level")) {
  radio.addEventListener("change", () => goSearch({ level: radio.value }));
}
find("more").addEventListener("click", showMore);
addEventListener("popstate", (event) => {
  state = readAddress(location.search);
  files = filesOfEntry.get(event.state?.entry) ?? [];
  show();
});
addEventListener("keydown", (event) => {
  if (event.key !== "/" || player.isOpen || /^(input|textarea)$/i.test(event.target.tagName)) return;
  event.preventDefault();
  input.focus();
});
show();
