// What the page shows of a state: verdicts, slots, facts. Invariant: each function writes the same elements again from the
// whole state, and touches only what changed, so that the reader's place and selection stay.

const byId = (id) => document.getElementById(id);

/** Makes the children of `list` as many as `items`, by `make()`, and fills each by `fill(child, item)`. */
function fillList(list, items, make, fill) {
  while (list.childElementCount > items.length) list.lastElementChild.remove();
  while (list.childElementCount < items.length) list.append(make());
  items.forEach((item, index) => fill(list.children[index], item));
}

/** Fills rows of a table: `cells` returns the cells of an item, each a text or [class, text]. */
function fillRows(body, items, cells) {
  fillList(body, items, () => element("tr"), (row, item) =>
    fillList(row, cells(item), () => element("td"), (cell, content) => {
      const [kind, text] = Array.isArray(content) ? content : ["", content];
      if (cell.className !== kind) cell.className = kind;
      setText(cell, text);
    }));
}

/** Fills a list of facts: `facts` are [name, value, class]. Those without a value are left out. */
function fillFacts(list, facts) {
  const known = facts.filter(([, value]) => value !== null && value !== undefined);
  fillList(list, known, () => element("div", {}, element("dt"), element("dd")), (row, [name, value, kind = ""]) => {
    setText(row.firstElementChild, name);
    setText(row.lastElementChild, value);
    if (row.lastElementChild.className !== kind) row.lastElementChild.className = kind;
  });
}

// --- verdicts -----------------------------------------------------------------------------------------------------------

const LEVELS = {
  ok: ["✓", "OK"],
  info: ["i", "Note"],
  warning: ["!", "Warning"],
  critical: ["✕", "Critical"],
};
/** The section that shows what a verdict is about, by the verdict's name; otherwise the pool. */
const EVIDENCE = {
  healthy: "traffic",
  "no-requests": "first-steps",
  errors: "errors",
  "acquire-timeouts": "errors",
  "slow-statements": "statements",
  "database-away": "database",
  "connect-failures": "database",
  "cache-not-used": "cache",
  "redis-down": "cache",
  "change-feed-down": "cache",
  "memory-critical": "service",
  "memory-short": "service",
  "limits-not-shared": "service",
};
/** Verdicts on what the page does not show. */
const NOT_SHOWN = new Set(["starting", "certificate-expires-soon", "certificate-expires", "certificate-not-loaded", "token-keys-old",
  "api-keys-not-confirmed", "guessed-credentials"]);
const DOCUMENTATION = "https://github.com/cenote-rs/cenote/blob/main/";

function showVerdicts(verdicts) {
  const make = () => element("li", {},
    element("span", { class: "level" }, element("span", { class: "sign", "aria-hidden": "true" }), element("b")),
    element("p", { class: "text" }),
    element("p", { class: "links" }, element("a", {}, "See it"), element("a", { rel: "noreferrer" }, "What it means")));
  fillList(byId("verdict-list"), verdicts, make, (item, verdict) => {
    const [sign, word] = LEVELS[verdict.level] ?? LEVELS.info;
    const [level, text, links] = item.children;
    if (item.className !== verdict.level) item.className = verdict.level;
    setText(level.firstElementChild, sign);
    setText(level.lastElementChild, word);
    setText(text, verdict.text);
    const [evidence, documentation] = links.children;
    evidence.hidden = NOT_SHOWN.has(verdict.name);
    evidence.href = `#${EVIDENCE[verdict.name] ?? "pool"}`;
    documentation.hidden = !verdict.doc;
    if (verdict.doc) documentation.href = DOCUMENTATION + verdict.doc;
  });
}

// --- pool ---------------------------------------------------------------------------------------------------------------

const SLOT_STATES = { "in-use": ["U", "in use"], idle: ["I", "idle"], connecting: ["C", "connecting"], cleaning: ["R", "cleaning"], closing: ["X", "closing"] };
const MOST_SLOTS = 200;
const MOST_HELD = 10;

function showPool({ slots, slots_more: hidden = 0, pool }) {
  const { paused } = pool;
  const parts = [
    paused ? `Paused until ${clock(paused.until)}` : null,
    pool.breaker_open ? "The breaker is open: callers are refused at once" : null,
    pool.leaked > 0 ? `${whole(pool.leaked)} leaked` : null,
    `${whole(pool.min)} kept open, ${whole(pool.max)} at most${pool.overflow > 0 ? `, and ${whole(pool.overflow)} under load` : ""}`,
  ];
  setText(byId("pool-summary"), `${parts.filter(Boolean).join(". ")}.`);
  const overflow = slots.filter((slot) => slot.overflow).length;
  const free = Math.max(0, pool.max - hidden - slots.length + overflow);
  const counts = Object.entries(SLOT_STATES).map(([state, [letter, word]]) => [state, letter, word, slots.filter((slot) => slot.state === state).length]);
  counts.push(["free", "", "not open", free]);
  if (overflow > 0) counts.push(["free overflow", "", "of them overflow", overflow]);
  fillList(byId("slot-counts"), counts,
    () => element("li", {}, element("span", { "aria-hidden": "true" }), element("span")),
    ({ children: [sign, text] }, [state, letter, word, count]) => {
      sign.className = `slot ${state}`;
      setText(sign, letter);
      setText(text, `${whole(count)} ${word}`);
    });
  showSlots([...slots, ...Array.from({ length: Math.min(free, MOST_SLOTS) }, () => ({ state: "free" }))], slots.length + free + hidden);
  showHeld(slots);
}

/** Shows the first slots of `total`. */
function showSlots(slots, total) {
  const shown = slots.slice(0, MOST_SLOTS);
  const list = byId("slots");
  list.classList.toggle("many", shown.length > 60);
  fillList(list, shown, () => element("li", {}, element("span", { "aria-hidden": "true" }), element("span", { class: "visually-hidden" })),
    (item, slot) => {
      const [letter, word] = SLOT_STATES[slot.state] ?? ["", "not open"];
      const kind = `slot ${slot.state}${slot.overflow ? " overflow" : ""}`;
      if (item.className !== kind) item.className = kind;
      setText(item.firstElementChild, letter);
      setText(item.lastElementChild, slotWords(slot, word));
    });
  byId("slots-more").hidden = total <= shown.length;
  setText(byId("slots-more"), `and ${whole(total - shown.length)} more`);
}

function slotWords({ overflow, holder }, word) {
  return `${word}${overflow ? ", overflow" : ""}${holder ? `, by ${holder}` : ""}`;
}

function showHeld(slots) {
  const held = slots
    .map((slot, index) => ({ ...slot, number: index + 1 }))
    .filter(({ holder }) => holder)
    .sort((one, other) => other.age_ms - one.age_ms)
    .slice(0, MOST_HELD);
  byId("held").hidden = held.length === 0;
  byId("held-none").hidden = held.length > 0;
  fillRows(byId("held").querySelector("tbody"), held, (slot) =>
    [`${slot.number}${slot.overflow ? " (overflow)" : ""}`, ["code", slot.holder], ["number", millis(slot.age_ms)]]);
}

/** Compares the times that 99 of 100 requests, waits and uses took at most. */
function showTimes(request, wait, use) {
  const bars = [["Request", request], ["Waiting for a connection", wait], ["Holding it", use]];
  const longest = Math.max(1, request, wait, use);
  const make = () => element("div", {}, element("dt"), element("dd"), element("span", { class: "meter", "aria-hidden": "true" }, element("span")));
  fillList(byId("time-bars"), bars, make, ({ children: [name, value, bar] }, [label, time]) => {
    setText(name, label);
    setText(value, percentile(time));
    bar.firstElementChild.style.width = `${(100 * time) / longest}%`;
  });
}

// --- cache, database, service -------------------------------------------------------------------------------------------

const SOURCES = [["near", "This process"], ["shared", "Redis"], ["database", "Database"]];

/** `rates` are reads per second of each of SOURCES. */
function showSources(rates) {
  const total = rates.reduce((sum, rate) => sum + rate, 0);
  drawShares(byId("source-bar"), rates.map((rate, index) => [`line-${index}`, rate]));
  byId("source-bar").classList.toggle("empty", total === 0);
  fillFacts(byId("source-facts"), SOURCES.map(([, label], index) => [label, `${perSecond(rates[index])} · ${percent(rates[index], total)}`, `line-${index}`]));
}

function upOrProblem(server, upWord) {
  if (server === null) return ["not used", ""];
  return server.up ? [upWord, ""] : [`cannot be used: ${server.problem ?? "no reason is known"}`, "bad"];
}

function showCache({ cache, redis }) {
  const isWell = cache.state === "ok" || cache.state === "off";
  const [redisWords, redisKind] = upOrProblem(redis, "in use");
  fillFacts(byId("cache-facts"), [
    ["Mode", cache.mode],
    ["State", isWell ? cache.state : `${cache.state}: ${cache.problem ?? "no reason is known"}`, isWell ? "" : "bad"],
    ["Keys in this process", whole(cache.keys)],
    ["Their size", isNumber(cache.limit) ? `${bytes(cache.bytes)} of ${bytes(cache.limit)}` : bytes(cache.bytes)],
    ["Redis", redisWords, redisKind],
  ]);
}

function showDatabase({ database, queues }) {
  const [words] = upOrProblem(database, "answers");
  setText(byId("database-summary"), `${database.host ?? "PostgreSQL"} ${words}.`);
  byId("database-summary").classList.toggle("bad", !database.up);
  fillRows(byId("queues").querySelector("tbody"), queues, ({ name, waiting, running, batch }) =>
    [name, ["number", whole(waiting)], ["number", whole(running)], ["number", isNumber(batch) ? batch.toFixed(1) : NONE]]);
}

function showService({ memory, limits, instances }) {
  const shared = { true: "shared by all instances through Redis", false: "Redis cannot be reached: each instance has its part" };
  fillFacts(byId("service-facts"), [
    ["Memory", memory ? `${memory.level}: ${bytes(memory.used)} of ${bytes(memory.limit)}` : "not watched", memory && memory.level !== "normal" ? "bad" : ""],
    ["Callers with a limit", limits ? whole(limits.callers) : "no limits are set"],
    ["Refused by limits", limits ? whole(limits.refused) : null],
    ["Limits", limits ? (shared[limits.shared] ?? "of this instance alone") : null, limits?.shared === false ? "bad" : ""],
    ["Instances, by INSTANCES", whole(instances ?? 1)],
  ]);
}
