"use strict";

const SHOWN_EXAMPLES = 12;
const SHOWN_HISTORY = 30;
const TOKEN = "dualtower token";

const byId = (id) => document.getElementById(id);

const page = {
  about: null,
  query: null,
  n: 0,
  historyLimit: SHOWN_HISTORY,
  lists: new Map(), // arm to its items as shown
  eventIds: new Map(), // of events that are sent and not acknowledged
  turn: Promise.resolve(),
};

/* ---- small things ---- */

/** An element; text from data enters as text and never as HTML. */
function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Works run one after the other, so that no answer overtakes another. */
function inTurn(work) {
  page.turn = page.turn.then(async () => {
    document.body.setAttribute("aria-busy", "true");
    showProblem("");
    try {
      await work();
    } catch (error) {
      byId("status").textContent = "";
      showProblem(error.message);
    } finally {
      document.body.removeAttribute("aria-busy");
    }
  });
  return page.turn;
}

function showProblem(message) {
  byId("problem").textContent = message;
  byId("problem").hidden = !message;
}

/** The JSON of a route; an error says what is wrong and what to do. */
async function ask(path, parameters = {}, body = null) {
  const search = new URLSearchParams(parameters).toString();
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.authorization = `Bearer ${token}`;
  const options = { headers, cache: "no-store" };
  if (body !== null) {
    headers["content-type"] = "application/json";
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  }
  let response;
  try {
    response = await fetch(search ? `${path}?${search}` : path, options);
  } catch {
    throw new Error("The server cannot be reached. Is it running? Try again when it is.");
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    throw new Error(`The server's answer cannot be read (status ${response.status}).`);
  }
  if (response.ok) return answer;
  if (response.status === 401) {
    byId("token-form").hidden = false;
    byId("token").focus();
    throw new Error(
      token ? "The token is not this server's. Enter the right one." : "Enter the server's token."
    );
  }
  throw new Error(answer.error || `The server refused (status ${response.status}).`);
}

/** What entered, left and moved between two lists of items. */
function changes(before, after) {
  const old = new Map(before.map((item, rank) => [item, rank]));
  const now = new Set(after);
  return {
    moves: after.map((item, rank) => (old.has(item) ? old.get(item) - rank : null)),
    left: before.filter((item) => !now.has(item)),
  };
}

function count(number, one, many) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/* ---- the parts of the page ---- */

function showAbout(about) {
  page.about = about;
  byId("n").max = about.max_n;
  const models = about.arms.map((arm) => (arm.arm === null ? arm.model : `${arm.arm}: ${arm.model}`));
  const items = Math.max(...about.arms.map((arm) => arm.corpus));
  byId("about").textContent = `${models.join(", ")} · ${count(items, "item", "items")}`;
  byId("ranked-note").hidden = !about.ranker;
  byId("no-events").hidden = about.events;
  byId("event-form").hidden = !about.events;
  byId("experiment").hidden = about.experiment === null;
  if (about.experiment !== null) {
    byId("experiment-title").textContent = `Experiment ${about.experiment}`;
    byId("experiment-note").textContent =
      `${count(about.days, "day", "days")} planned. The chart reads the whole log of events.`;
    byId("draw").disabled = !about.events;
  }
}

function showExamples(queries) {
  const pick = (query) => {
    const button = element("button", query);
    button.type = "button";
    button.addEventListener("click", () => {
      byId("query").value = query;
      inTurn(() => show(query));
    });
    const place = document.createElement("li");
    place.append(button);
    return place;
  };
  byId("picks").replaceChildren(...queries.map(pick));
  const options = queries.map((query) => {
    const option = document.createElement("option");
    option.value = query;
    return option;
  });
  byId("examples").replaceChildren(...options);
}

function showHistory(history) {
  byId("history-title").textContent = `History of ${history.query_id}`;
  const total = history.stored + history.live;
  const shown = history.events.length;
  let note = `${count(total, "event", "events")}, ${history.live.toLocaleString("en")} since the bundle was built`;
  if (total === 0) note = "No events: the server answers as for a new query";
  if (shown < total) note += `; the latest ${shown.toLocaleString("en")}`;
  if (history.events.some((event) => event.category !== null)) note += ", as item · category";
  byId("history-note").textContent = `${note}.`;
  byId("earlier").hidden = shown === total || shown === page.about.max_n;
  byId("history-list").tabIndex = shown > SHOWN_HISTORY ? 0 : -1; // "earlier" focuses it
  const places = history.events.map((event) => {
    const place = element("li", event.item);
    if (event.category !== null) place.append(" · ", element("span", event.category, "quiet"));
    if (event.live) {
      place.className = "live";
      place.append(" ", element("span", "live", "tag"));
    }
    return place;
  });
  byId("history-list").replaceChildren(...places);
}

function armTable(arm, moves) {
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  const titles = [["#", "number"], ["item", "item"], ["category", "category"], ["score", "number"]];
  if (moves) titles.push(["change", "change"]);
  if (page.about.events) titles.push(["event", ""]);
  for (const [title, className] of titles) {
    const cell = element("th", title, className);
    cell.scope = "col";
    if (className === "item") cell.dataset.category = "category";
    head.append(cell);
  }
  const body = table.createTBody();
  arm.items.forEach((item, rank) => {
    const row = body.insertRow();
    const category = arm.categories[rank] ?? "–";
    const named = element("td", item, "item");
    named.dataset.category = category; // a phone shows it below the item
    row.append(element("td", String(rank + 1), "number"), named);
    row.append(element("td", category, "category"));
    row.append(element("td", arm.scores[rank].toFixed(4), "number"));
    if (moves) row.append(changeCell(row, moves[rank]));
    if (page.about.events) {
      const button = element("button", "click");
      button.type = "button";
      button.setAttribute("aria-label", `Send event: click on ${item}`);
      button.addEventListener("click", () => send(page.query, item, button, [arm.arm, rank]));
      const cell = document.createElement("td");
      cell.append(button);
      row.append(cell);
    }
  });
  const box = element("div", "", "table");
  box.append(table);
  return box;
}

function changeCell(row, move) {
  if (move === null) {
    row.className = "new";
    return element("td", "entered", "change new");
  }
  if (move === 0) return element("td", "same", "change quiet");
  const up = move > 0;
  const cell = element("td", up ? "▲ " : "▼ ", `change ${up ? "up" : "down"}`);
  cell.append(element("span", up ? "up " : "down ", "word"), String(Math.abs(move)));
  return cell;
}

/** The arms' lists; returns in words what changed, where `compare` asks for it. */
function showArms(arms, compare) {
  const words = [];
  const sections = arms.map((arm) => {
    const section = element("section", "", "arm");
    const name = arm.arm ?? arm.model;
    section.dataset.arm = name;
    const title = element("h3", name);
    section.append(title);
    section.setAttribute("aria-label", `Candidates of ${name}`);
    if (arm.answers && arm.arm !== null) {
      section.classList.add("answers");
      section.append(element("p", "The arm that answers this query", "tag"));
    }
    const found = compare ? changes(page.lists.get(arm.arm) ?? [], arm.items) : null;
    if (arm.items.length === 0) section.append(element("p", "No items are left for this query."));
    else section.append(armTable(arm, found?.moves));
    if (found) {
      const entered = found.moves.filter((move) => move === null).length;
      const moved = found.moves.filter((move) => move !== null && move !== 0).length;
      words.push(`${name}: ${entered} entered, ${found.left.length} left, ${moved} moved`);
      if (found.left.length) {
        section.append(element("p", `Left: ${found.left.join(", ")}`, "left"));
      }
    }
    return section;
  });
  byId("arms").replaceChildren(...sections);
  page.lists = new Map(arms.map((arm) => [arm.arm, arm.items]));
  return words.join("; ");
}

/* ---- what the user does ---- */

/** Show a query; after an event say what that changed. */
async function show(query, after = "") {
  const n = Number(byId("n").value);
  const compare = after !== "" && query === page.query && n === page.n;
  const historyLimit = Math.min(
    query === page.query ? page.historyLimit : SHOWN_HISTORY, page.about.max_n
  );
  const [history, found] = await Promise.all([
    ask("history", { query_id: query, limit: historyLimit }),
    ask("candidates", { query_id: query, n }),
  ]);
  Object.assign(page, { query, n, historyLimit });
  showHistory(history);
  const words = showArms(found.arms, compare);
  byId("view").hidden = false;
  byId("status").textContent = after + words || `Showing ${query}.`;
}

/** Show all events of the query that the server gives in one answer. */
async function showEarlier() {
  page.historyLimit = page.about.max_n;
  showHistory(await ask("history", { query_id: page.query, limit: page.historyLimit }));
  byId("history-list").focus();
}

/** Run the work of a button that cannot be pressed again meanwhile, and gets its focus back. */
function once(button, work) {
  button.disabled = true;
  return inTurn(async () => {
    try {
      await work();
    } finally {
      button.disabled = false;
      if (document.activeElement === document.body) button.focus();
    }
  });
}

/** Send a click, and show what it changes; `place` is where the keyboard's focus goes on. */
function send(query, item, button, place = null) {
  return once(button, async () => {
    const top = button.getBoundingClientRect().top;
    const key = JSON.stringify([query, item]);
    const eventId = page.eventIds.get(key) ?? newEventId();
    page.eventIds.set(key, eventId); // a repeat after a failure is the same event
    const event = { event_id: eventId, query_id: query, item_id: item, kind: "click" };
    await ask("events", {}, { events: [{ ...event, timestamp: Date.now() / 1000 }] });
    page.eventIds.delete(key);
    if (query === page.query) await show(query, `Stored: ${query} clicked ${item}. `);
    if (place !== null) focusAt(...place, top);
  });
}

function newEventId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return "page-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The button at a rank of an arm, where the one stood that is gone with its item. */
function focusAt(arm, rank, top) {
  const place = [...page.lists.keys()].indexOf(arm);
  const buttons = byId("arms").children[place]?.querySelectorAll("td button") ?? [];
  const next = buttons[Math.min(rank, buttons.length - 1)];
  if (next) scrollBy(0, next.getBoundingClientRect().top - top); // the history above has grown
  (next ?? byId("history-title")).focus();
}

/** The arms' latency, errors, empty and short answers; `rows` begin with the titles. */
function guardrailTable([titles, ...arms]) {
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const title of titles) {
    const cell = element("th", title);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const cells of arms) body.insertRow().append(...cells.map((cell) => element("td", cell)));
  const box = element("div", "", "table");
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Guardrails, with 95% intervals");
  table.className = "guardrails";
  box.append(table);
  return box;
}

async function drawCharts() {
  byId("status").textContent = "Reading the log …";
  const found = await ask("experiment/chart");
  for (const old of byId("charts").querySelectorAll("img")) URL.revokeObjectURL(old.src);
  const charts = found.charts.map(({ arm, svg }) => {
    const box = element("div", "", "chart");
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `Chart of ${arm}`);
    const image = document.createElement("img");
    image.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    image.alt = `Cumulative lift of ${arm} over the control day by day, with intervals; in words below.`;
    box.append(image);
    return box;
  });
  if (found.guardrails.length) {
    charts.push(element("h3", "Guardrails, with 95% intervals"), guardrailTable(found.guardrails));
  }
  byId("charts").replaceChildren(...charts);
  byId("verdicts").replaceChildren(...found.verdicts.map((line) => element("li", line)));
  byId("notes").replaceChildren(...found.notes.map((line) => element("li", line)));
  byId("draw").textContent = "Draw it again";
  byId("status").textContent = "The chart is drawn.";
}

async function begin() {
  showAbout(await ask("about"));
  showExamples((await ask("queries", { limit: SHOWN_EXAMPLES })).queries);
  byId("token-form").hidden = true;
}

byId("query-form").addEventListener("submit", (event) => {
  event.preventDefault();
  inTurn(async () => {
    if (page.about === null) await begin();
    await show(byId("query").value);
  });
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value);
  inTurn(async () => {
    await begin();
    byId("query").focus();
  });
});
byId("event-form").addEventListener("submit", (event) => {
  event.preventDefault();
  send(page.query, byId("item").value, byId("event-form").querySelector("button"));
});
byId("earlier").addEventListener("click", () => once(byId("earlier"), showEarlier));
byId("draw").addEventListener("click", () => once(byId("draw"), drawCharts));
inTurn(begin);
