// The dashboard of a healthy service in Chromium: what it shows first, that everybody can read it, and what it costs.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, test } from "node:test";
import { startBrowser, Visit } from "./support/browser.mjs";
import { Proxy } from "./support/proxy.mjs";
import { load, Service, until } from "./support/service.mjs";

let browser, service;
before(async () => ([browser, service] = await Promise.all([startBrowser(), Service.start()])));
after(async () => {
  await browser?.close();
  await service?.remove();
});

test("a new service says what to do first, and the commands it shows work", async () => {
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  assert.ok(await visit.page.locator("#first-steps").isVisible());
  for (const id of ["#curl-write", "#curl-read"]) {
    const done = spawnSync("sh", ["-c", `${await visit.text(id)} --fail --silent`], { encoding: "utf8" });
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.stdout, /greeting/);
  }
  await visit.page.locator("#first-steps").waitFor({ state: "hidden", timeout: 3000 });
  await visit.close();
});

test("figures follow the load, and a page opens with what was before it", async (t) => {
  t.after(load(service));
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  await visit.shows("#chart-requests .now", /[1-9]/);
  await visit.shows("#source-facts", /This process\s*[1-9]/);
  await visit.shows("#verdict-list", /\w/);
  const rows = () => visit.page.locator("#chart-requests-table tbody tr").count();
  await until("the hidden table has rows", async () => (await rows()) > 3, 15_000);
  const second = await Visit.open(browser, service.url);
  await second.isLive();
  assert.ok((await second.page.locator("#chart-requests .stroke").getAttribute("d")).includes("L"), "a line of the past");
  await visit.close();
  await second.close();
});

test("axe finds nothing and nothing scrolls sideways, in both themes, wide and narrow", async () => {
  for (const theme of ["light", "dark"])
    for (const width of [1440, 768, 320]) {
      const what = `${theme}, ${width} pixels`;
      const visit = await Visit.open(browser, service.url, { theme, width });
      await visit.isLive();
      await visit.page.locator("#administration").waitFor();
      await visit.assertAccessible(what);
      await visit.assertFits(what);
      await visit.close();
    }
});

test("the theme can be chosen, and is kept", async () => {
  const visit = await Visit.open(browser, service.url, { theme: "light" });
  const ground = () => visit.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await ground();
  await visit.page.locator("#theme").click();
  assert.equal(await ground(), light);
  await visit.page.locator("#theme").click();
  assert.equal(await visit.text("#theme"), "Theme: dark");
  const dark = await ground();
  assert.notEqual(dark, light);
  await visit.page.reload();
  assert.equal(await ground(), dark);
  await visit.close();
});

test("every chart is read by keyboard: arrows move a cursor, and a screen reader hears it", async () => {
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  const figures = visit.page.locator("figure");
  assert.ok((await figures.count()) >= 10);
  for (const figure of await figures.all()) {
    assert.match(await figure.getAttribute("aria-label"), /\w/);
    assert.match(await figure.locator(".now").innerText(), /\w|–/);
    await figure.focus();
    await visit.page.keyboard.press("ArrowLeft");
    await visit.page.keyboard.press("ArrowLeft");
    assert.match(await figure.locator(".readout").innerText(), /^\d\d:\d\d:\d\d: /);
  }
  const readout = await figures.last().locator(".readout").innerText();
  await visit.shows("#announcements", readout.slice(0, 8));
  await visit.page.keyboard.press("Escape");
  assert.equal(await figures.last().locator(".cursor").getAttribute("visibility"), "hidden");
  await visit.close();
});

test("nothing that changes by itself all the time is announced", async () => {
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  const live = await visit.page.locator('[aria-live], [role="status"], [role="alert"], output').evaluateAll((nodes) => nodes.map(({ id, tagName }) => id || tagName));
  assert.deepEqual(live.filter((name) => name !== "OUTPUT"), ["announcements"]);
  await visit.close();
});

test("it works below a prefix", async (t) => {
  const proxy = await Proxy.start(service, { prefix: "/tools/pool/" });
  t.after(() => proxy.stop());
  const visit = await Visit.open(browser, proxy.url);
  await visit.isLive();
  assert.match(await visit.text("#chart-requests .now"), /\/s/);
  await visit.close();
});

test("a hidden tab closes its stream, and catches up when it is shown", async (t) => {
  let open = 0;
  const proxy = await Proxy.start(service, {
    events: (response) => {
      open += 1;
      response.on("close", () => (open -= 1));
      response.writeHead(200, { "content-type": "text/event-stream" }).write(": nothing\n\n");
    },
  });
  t.after(() => proxy.stop());
  const visit = await Visit.open(browser, proxy.url);
  const setHidden = (hidden) => visit.page.evaluate((value) => {
    Object.defineProperty(document, "hidden", { value, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);
  await until("the stream is open", () => open === 1);
  await setHidden(true);
  await until("the stream is closed", () => open === 0);
  await setHidden(false);
  await until("the stream is open again", () => open === 1);
  await visit.close({ requestsMayFail: true });
});

test("the page is small and is there at once", async () => {
  const visit = await Visit.open(browser, service.url);
  const entries = await visit.page.evaluate(() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .filter(({ name }) => !name.includes("/events") && !name.includes("admin/") && !name.startsWith("data:"))
    .map(({ name, encodedBodySize, decodedBodySize }) => ({ name, encodedBodySize, decodedBodySize })));
  const sum = (member) => entries.reduce((total, entry) => total + entry[member], 0);
  assert.equal(entries.length, 3, "one HTML, one CSS, one JS");
  assert.ok(sum("decodedBodySize") <= 120_000, `${sum("decodedBodySize")} bytes`);
  assert.ok(sum("encodedBodySize") <= 45_000, `${sum("encodedBodySize")} bytes compressed`);
  await visit.page.reload();
  const paint = () => visit.page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  await until("it is painted", async () => (await paint()) > 0);
  console.log(`${sum("decodedBodySize")} bytes, ${sum("encodedBodySize")} compressed; first paint after ${Math.round(await paint())} ms`);
  await visit.close();
});

const STATE_EVERY = 4;

test("an hour of events leaves no memory behind", async (t) => {
  const EVENTS = 7200;
  let send = null;
  const proxy = await Proxy.start(service, { events: (response) => (send = response) });
  t.after(() => proxy.stop());
  const visit = await Visit.open(browser, proxy.url);
  await until("the page asks for events", () => send !== null);
  const start = await firstEvent(service);
  send.writeHead(200, { "content-type": "text/event-stream" }).write(`event: start\ndata: ${JSON.stringify(start)}\n\n`);
  await visit.isLive();
  let time = Date.now();
  const play = async (count) => {
    for (let event = 0; event < count; event += 1) {
      time += 500;
      send.write(eventsAt(start, time, event));
      if (event % 20 === 0) await visit.page.evaluate(() => new Promise((resolve) => requestAnimationFrame(resolve)));
    }
    await until("all are shown", async () => (await visit.page.evaluate(() => document.querySelector("#held tbody td:nth-child(2)")?.textContent)) === `src/line.rs:${count - STATE_EVERY}`);
  };
  await play(1400); // more than the ten minutes that are kept
  const earlier = await heapOf(visit);
  await play(EVENTS);
  const grown = (await heapOf(visit)) - earlier;
  console.log(`the heap grew by ${(grown / 2 ** 20).toFixed(2)} MiB over ${EVENTS} events`);
  assert.ok(grown < 5_000_000, `${grown} bytes`);
  await visit.close({ requestsMayFail: true });
});

test("a viewer takes less than a megabyte an hour", async (t) => {
  const SECONDS = 30;
  t.after(load(service, { clients: 8, pause: 2 }));
  const response = await fetch(`${service.url}dashboard/events`);
  const reader = response.body.getReader();
  let bytes = 0;
  let begun = null;
  while (begun === null || Date.now() - begun < SECONDS * 1000) {
    const { value } = await reader.read();
    if (begun !== null) bytes += value.length;
    else if (new TextDecoder().decode(value).includes("event: row")) begun = Date.now();
  }
  await reader.cancel();
  const hourly = (bytes * 3600) / SECONDS;
  console.log(`${(hourly / 1e6).toFixed(2)} MB an hour under load`);
  assert.ok(hourly < 1e6, `${hourly} bytes an hour`);
});

/** Returns the first event of a stream of the service. */
async function firstEvent({ url }) {
  const response = await fetch(`${url}dashboard/events`);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    text += (await reader.read()).value;
    const [, data] = /event: start\ndata: (.*)\n\n/.exec(text) ?? [];
    if (data) {
      await reader.cancel();
      return JSON.parse(data);
    }
  }
}

/** Makes up a row and a state of which everything changes: other holders, errors and statements each time. */
function eventsAt(start, time, event) {
  const row = start.columns.map((name, index) => (name === "t" ? time : (event * (index + 7)) % 5000));
  if (event % STATE_EVERY > 0) return `event: row\ndata: ${JSON.stringify(row)}\n\n`;
  const state = {
    slots: [{ state: "in-use", overflow: false, age_ms: 100 + event, holder: `src/line.rs:${event}` }],
    errors: Array.from({ length: 50 }, (_, index) => ({ at: time - index, route: "/read/{key}", status: 503, code: `code-${(event + index) % 997}`, request_id: `${event}-${index}`, took_us: index })),
    statements: Array.from({ length: 50 }, (_, index) => ({ at: time - index, name: "read keys", queue_us: event, wait_us: index, execute_us: event + index, rows: index, holder: `src/line.rs:${event}` })),
  };
  return `event: row\ndata: ${JSON.stringify(row)}\n\nevent: state\ndata: ${JSON.stringify(state)}\n\n`;
}

/** Returns the bytes of the page's heap after garbage was collected. */
async function heapOf(visit) {
  const session = await visit.context.newCDPSession(visit.page);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  await session.detach();
  return usedSize;
}
