// The dashboard: joins the stream with what is shown. Invariant: figures are drawn once a frame at most, always from the
// last ten minutes of rows and the last whole state.

const HISTORY_MS = 600_000;
const ANNOUNCE_AFTER_MS = 700;
const KEY = "cenote-key"; // in sessionStorage: gone with the tab
const THEME = "cenote-theme";
const NO_FIRST_STEPS = "cenote-no-first-steps";

let columns = {}; // the index of each column in a row
let rows = [];
let state = null;
let instance = null; // its name
let started = null; // unix s
let clockAhead = 0; // ms by which the service's clock is ahead of this one
let lostAt = null; // unix ms
let lostReason = "";
let isFramePending = false;

// --- announcements for screen readers: only what the user asked for, and changed verdicts, one after a pause -----------

let announcing = null;
function announce(text) {
  clearTimeout(announcing);
  announcing = setTimeout(() => setText(byId("announcements"), text), ANNOUNCE_AFTER_MS);
}

// --- events -------------------------------------------------------------------------------------------------------------

function takeStart(start) {
  // The service was asked for later rows only. Rows from before its restart stay.
  const isSame = start.instance === instance && start.columns.every((name, index) => columns[name] === index);
  rows = isSame ? [...rows, ...start.history] : start.history;
  columns = Object.fromEntries(start.columns.map((name, index) => [name, index]));
  ({ instance, started } = start);
  clockAhead = rows.length > 0 ? rows.at(-1)[0] - Date.now() : 0;
  setText(byId("instance"), instance);
  setText(byId("release"), start.revision === "unknown" ? start.version : `${start.version} (${start.revision})`);
  document.title = `${instance} · cenote`;
  state = null;
  takeState({ verdicts: [], errors: [], statements: [], ...start.state });
  actions.show(start.actions);
}

function takeRow(row) {
  rows.push(row);
  clockAhead = row[0] - Date.now();
  const oldest = row[0] - HISTORY_MS;
  let old = 0;
  while (rows[old][0] < oldest) old += 1;
  if (old > 0) rows.splice(0, old);
  draw();
}

/** `changes` holds the members of the state that changed. */
function takeState(changes) {
  const before = state === null ? null : problemsOf(state);
  state = { ...state, ...changes };
  const problems = problemsOf(state);
  if (before !== null && namesOf(problems) !== namesOf(before))
    announce(problems.map(({ text }) => text).join(" ") || "All is well again.");
  draw();
}

const problemsOf = ({ verdicts }) => verdicts.filter(({ level }) => level === "warning" || level === "critical");
const namesOf = (verdicts) => verdicts.map(({ name }) => name).join();

const readRates = (row) => SOURCES.map(([name]) => row[columns[name]]);
const batchSize = (hundredths) => (isNumber(hundredths) ? (hundredths / 100).toFixed(1) : NONE);

// --- charts -------------------------------------------------------------------------------------------------------------

const of = (name) => (row) => row[columns[name]];
const line = (label, name, format) => ({ label, value: of(name), format });
/** A caption of the newest value of one column. */
const newest = (name, format) => ({ now: (row) => format(row[columns[name]]) });
const chart = (id, title, lines, options) => new TimeChart(byId(id), title, lines, options, announce);

const charts = [
  chart("chart-requests", "Requests", [line("Requests", "requests", perSecond)], newest("requests", perSecond)),
  chart("chart-times", "Response time (p99)", [line("p50", "p50", percentile), line("p99", "p99", percentile), line("p99.9", "p999", percentile)],
    { logarithmic: 10, least: 1000, ...newest("p99", percentile) }),
  chart("chart-errors", "Errors", [line("5xx", "errors", perSecond), line("4xx", "refused", perSecond)],
    { least: 5, ...newest("errors", perSecond) }),
  chart("chart-waiting", "Waiting callers", [line("Waiting", "waiting", whole)], { least: 4, now: waitingWords }),
  chart("chart-in-use", "In use", [line("In use", "in_use", whole)],
    { limit: () => state?.pool.max ?? null, now: inUseWords }),
  chart("chart-sources", "Reads", SOURCES.map(([name, label]) => line(label, name, perSecond)),
    { stacked: true, least: 5, now: (row) => perSecond(readRates(row).reduce((sum, rate) => sum + rate, 0)) }),
  chart("chart-statements", "Statements", [line("Statements", "statements", perSecond)],
    { least: 5, ...newest("statements", perSecond) }),
  chart("chart-batch", "Requests per statement", [line("Requests per statement", "batch", batchSize)],
    { least: 200, ...newest("batch", batchSize) }),
  chart("chart-memory", "Memory", [line("Memory", "memory", bytes)],
    { limit: () => state?.memory?.limit ?? null, least: 1024, now: (row) => (state.memory ? bytes(of("memory")(row)) : "Not watched") }),
  chart("chart-connections", "HTTP connections", [line("Connections", "connections", whole)],
    { least: 4, ...newest("connections", whole) }),
];

function inUseWords(row) {
  const { max, overflow } = state.pool;
  return `${whole(of("in_use")(row))} of ${whole(max)}${overflow > 0 ? ` + ${whole(overflow)}` : ""}`;
}

function waitingWords(row) {
  const waiting = of("waiting")(row);
  return waiting > 0 ? `${whole(waiting)}, up to ${micros(of("longest_wait")(row))}` : "None";
}

// --- drawing ------------------------------------------------------------------------------------------------------------

function draw() {
  if (isFramePending) return;
  isFramePending = true;
  requestAnimationFrame(() => {
    isFramePending = false;
    drawAll();
  });
}

function drawAll() {
  if (state === null) return;
  const last = rows.at(-1);
  const now = Date.now() + clockAhead;
  for (const chart of charts) chart.draw(rows, last ? last[0] : now, HISTORY_MS);
  showVerdicts(state.verdicts);
  showPool(state);
  showCache(state);
  showDatabase(state);
  showService(state);
  showErrors(state.errors, now);
  showStatements(state.statements, now);
  if (last) {
    showTimes(last[columns.p99], last[columns.wait_p99], last[columns.use_p99]);
    showSources(readRates(last));
  }
  setText(byId("uptime"), `up ${age(now - started * 1000)}`);
  byId("first-steps").hidden = localStorage.getItem(NO_FIRST_STEPS) !== null || !isUnused();
  byId("waiting").hidden = true;
  byId("board").hidden = false;
}

const isUnused = () => state.verdicts.some(({ name }) => name === "no-requests");

// --- the connection -----------------------------------------------------------------------------------------------------

function setLink(link) {
  document.body.dataset.link = link;
  if (link !== "lost") setText(byId("link"), link === "live" ? "Live" : "Connecting");
}

function showLost() {
  if (lostAt !== null) setText(byId("link"), `Disconnected for ${age(Date.now() - lostAt)}: ${lostReason}`);
}

function headers() {
  const key = sessionStorage.getItem(KEY);
  return key === null ? {} : { authorization: `Bearer ${key}` };
}

const address = () => `dashboard/events?since=${rows.at(-1)?.[0] ?? 0}`;
const stream = new EventStream(address, headers, {
  opened() {
    if (lostAt !== null) announce("Connected again.");
    lostAt = null;
    byId("key").hidden = true;
    byId("forget-key").hidden = sessionStorage.getItem(KEY) === null;
    setLink("live");
  },
  event(name, value) {
    if (name === "start") takeStart(value);
    else if (name === "row") takeRow(value);
    else if (name === "state") takeState(value);
  },
  lost(reason) {
    if (lostAt === null) announce(`Disconnected: ${reason}.`);
    lostAt ??= Date.now();
    lostReason = reason;
    setLink("lost");
    showLost();
  },
  refused(status, reason) {
    lostAt = null;
    setLink("connecting");
    setText(byId("link"), "A key is needed");
    setText(byId("key-problem"), sessionStorage.getItem(KEY) === null ? "The service shows its figures only to callers that it knows." : `The key was refused: ${reason}.`);
    byId("waiting").hidden = true;
    byId("board").hidden = true;
    byId("key").hidden = false;
    byId("forget-key").hidden = true;
    byId("key-input").focus();
  },
});
const actions = new Actions(headers);
setInterval(showLost, 1000);

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key-input").value.trim());
  byId("key-input").value = "";
  stream.restart();
});
byId("forget-key").addEventListener("click", () => {
  sessionStorage.removeItem(KEY);
  location.reload();
});

// --- theme, first steps -------------------------------------------------------------------------------------------------

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText(byId("theme"), `Theme: ${theme}`);
}
const chosenTheme = () => localStorage.getItem(THEME) ?? "system";
byId("theme").addEventListener("click", () => {
  localStorage.setItem(THEME, THEMES[(THEMES.indexOf(chosenTheme()) + 1) % THEMES.length]);
  setTheme(chosenTheme());
});
setTheme(chosenTheme());

const here = new URL(".", location.href).href;
setText(byId("curl-write"), `curl ${here}write -H 'content-type: application/json' -d '{"key":"greeting","value":"hello"}'`);
setText(byId("curl-read"), `curl ${here}read/greeting`);
byId("hide-first-steps").addEventListener("click", () => {
  localStorage.setItem(NO_FIRST_STEPS, "yes");
  byId("first-steps").hidden = true;
});

stream.restart();
