// The page: search an item, click through a history, and see what is recommended next, and why.
// The history lives in this page only: nothing is written to the server.
"use strict";

const SHOWN = 10; // recommendations
const REASONS = 5; // events of an explanation
const TYPING_PAUSE = 120; // milliseconds

const byId = (id) => document.getElementById(id);
const taken = []; // the history: {item, title, time}
let token = sessionStorage.getItem("token");
let before = new Map(); // item -> its rank in the last list
let asked = 0; // counts requests for recommendations, so that an old answer never replaces a new one
let searched = 0;

async function ask(path, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const options = { headers };
  if (body) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (answer.status === 401) {
    byId("token-form").hidden = false;
    byId("token").focus();
  }
  if (!answer.ok) {
    throw new Error(content.error.message);
  }
  return content;
}

async function guarded(work) {
  try {
    await work();
    byId("problem").hidden = true;
  } catch (error) {
    byId("problem").textContent = error instanceof TypeError ? "The server does not answer." : error.message;
    byId("problem").hidden = false;
  }
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value);
  }
  made.append(...children); // as text: a title is never read as HTML
  return made;
}

const nameOf = (entry) => entry.title || entry.item;

function asHistory() {
  return { history: taken.map((e) => e.item), times: taken.map((e) => e.time) };
}

function take(entry) {
  const last = taken.length ? taken[taken.length - 1].time : 0;
  taken.push({ item: entry.item, title: entry.title, time: Math.max(Date.now() / 1000, last) });
  changed();
}

function changed() {
  const list = byId("history");
  list.replaceChildren(
    ...taken.map((entry, place) => {
      const remove = () => {
        taken.splice(place, 1);
        changed();
        (list.querySelectorAll("button")[Math.max(0, place - 1)] || byId("query")).focus();
      };
      const label = `Remove ${nameOf(entry)}`;
      return element(
        "li",
        { class: "row" },
        element("span", { class: "take" }, nameOf(entry)),
        element("button", { "aria-label": label, title: label, onclick: remove }, "×"),
      );
    }),
  );
  byId("empty-history").hidden = taken.length > 0;
  byId("clear").hidden = taken.length === 0;
  // The history is in the address, so that it can be kept, sent, and loaded again.
  const hash = taken.map((entry) => encodeURIComponent(entry.item)).join(",");
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname);
  guarded(recommend);
}

async function recommend() {
  const turn = ++asked;
  if (!taken.length) {
    before = new Map();
    byId("best").replaceChildren();
    byId("status").textContent = "They come with the first item.";
    return;
  }
  const started = performance.now();
  const { items } = await ask("v1/recommend", { ...asHistory(), k: SHOWN, titles: true });
  if (turn !== asked) return;
  const focused = document.activeElement?.dataset?.item;
  byId("best").replaceChildren(...items.map((entry, rank) => recommendation(entry, rank)));
  if (focused !== undefined && !document.activeElement?.dataset?.item) {
    byId("best").querySelector("button")?.focus();
  }
  before = new Map(items.map((entry, rank) => [entry.item, rank]));
  const events = taken.length === 1 ? "1 item" : `${taken.length} items`;
  const milliseconds = (performance.now() - started).toFixed(0);
  byId("status").textContent = `After ${events}, in ${milliseconds} ms. Take one, or ask why.`;
}

function recommendation(entry, rank) {
  const old = before.get(entry.item);
  const up = old === undefined ? 0 : old - rank;
  const words = old === undefined ? (before.size ? "new" : "") : up ? `${up > 0 ? "▲" : "▼"} ${Math.abs(up)}` : "";
  const moved = element("span", { class: `moved ${up > 0 ? "up" : up < 0 ? "down" : ""}` }, words);
  const why = element("button", { "aria-expanded": "false", "aria-label": `Why ${nameOf(entry)}?` }, "why?");
  const line = element(
    "li",
    {},
    element(
      "div",
      { class: "row" },
      element("button", { class: "take", "data-item": entry.item, onclick: () => take(entry) }, nameOf(entry)),
      moved,
      element("span", { class: "score", title: "score" }, entry.score.toFixed(2)),
      why,
    ),
  );
  why.addEventListener("click", () => guarded(() => explain(entry, line, why)));
  return line;
}

async function explain(entry, line, why) {
  const shown = line.querySelector(".why");
  if (shown) {
    shown.remove();
    why.setAttribute("aria-expanded", "false");
    return;
  }
  const asking = { ...asHistory(), item: entry.item, titles: true };
  const { events } = await ask("v1/explain", asking);
  const largest = Math.max(...events.map((event) => Math.abs(event.change)), 1e-9);
  const strongest = [...events].sort((a, b) => Math.abs(b.change) - Math.abs(a.change)).slice(0, REASONS);
  const reasons = strongest.map((event) => {
    const bar = element("span", { class: event.change < 0 ? "bar less" : "bar" });
    bar.style.width = `${(100 * Math.abs(event.change)) / largest}%`;
    const change = `${event.change < 0 ? "−" : "+"}${Math.abs(event.change).toFixed(2)}`;
    return element("li", {}, element("span", {}, nameOf(event)), bar, element("span", { class: "score" }, change));
  });
  if (line.querySelector(".why")) return;
  line.append(element("ul", { class: "why", "aria-label": "What each item adds to the score" }, ...reasons));
  why.setAttribute("aria-expanded", "true");
}

async function search() {
  const turn = ++searched;
  const query = encodeURIComponent(byId("query").value.trim());
  const { items } = await ask(`v1/items?k=20&query=${query}`);
  if (turn !== searched) return;
  byId("results").replaceChildren(
    ...items.map((entry) =>
      element("li", {}, element("button", { class: "take", onclick: () => take(entry) }, nameOf(entry))),
    ),
  );
  if (!items.length) {
    byId("results").append(element("li", { class: "quiet" }, "No item has these words."));
  }
}

// The arrow keys go from the search through the items of a list.
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const here = document.activeElement;
  if (!step || !here) return;
  if (here === byId("query")) {
    if (step > 0) byId("results").querySelector("button")?.focus();
  } else {
    const list = here.closest(".items");
    if (!list) return;
    const buttons = [...list.querySelectorAll(".row > button:first-child, li > button.take")];
    const place = buttons.indexOf(here.closest("li").querySelector("button"));
    const next = buttons[place + step];
    if (next) next.focus();
    else if (step < 0 && list.id === "results") byId("query").focus();
  }
  event.preventDefault();
});

let pause;
byId("query").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => guarded(search), TYPING_PAUSE);
});
byId("query").addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    clearTimeout(pause);
    guarded(async () => {
      await search();
      byId("results").querySelector("button")?.click();
    });
  }
});
byId("clear").addEventListener("click", () => {
  taken.length = 0;
  changed();
  byId("query").focus();
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  sessionStorage.setItem("token", token);
  byId("token-form").hidden = true;
  guarded(start);
});

// Takes the history that the address names; the items are a minute apart.
async function start() {
  await search();
  const items = location.hash.slice(1).split(",").filter(Boolean).map(decodeURIComponent);
  taken.length = 0;
  for (const [place, item] of items.entries()) {
    const found = (await ask(`v1/items?k=100&query=${encodeURIComponent(item)}`)).items;
    const entry = found.find((one) => one.item === item) || { item };
    taken.push({ ...entry, time: Date.now() / 1000 - 60 * (items.length - place) });
  }
  changed();
}

window.addEventListener("hashchange", () => guarded(start));
guarded(start);
