// Keys and actions in the dashboard: who may see it, who may act, and that it all goes by keyboard.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { promisify } from "node:util";
import { startBrowser, Visit } from "./support/browser.mjs";
import { PROGRAM, Service } from "./support/service.mjs";

let browser, service;
before(async () => (browser = await startBrowser()));
after(() => browser?.close());
afterEach(() => service?.remove());

const adminState = async (headers = {}) => (await fetch(`${service.url}admin/state`, { headers })).json();

/** Presses Tab until an element has the focus, as somebody without a mouse does. */
async function tabTo(page, selector) {
  for (let presses = 0; presses < 200; presses += 1) {
    await page.keyboard.press("Tab");
    if (await page.locator(selector).evaluate((node) => node === document.activeElement)) return;
  }
  throw new Error(`Tab does not reach ${selector}`);
}

test("all actions work by keyboard, and pause and flush want a typed word", async () => {
  service = await Service.start();
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  await visit.page.locator("#administration").waitFor();
  const { keyboard } = visit.page;
  const output = (name, pattern) => visit.shows(`#action-${name} output`, pattern);

  await tabTo(visit.page, "#action-pause [name=seconds]");
  await keyboard.type("90"); // the field's content is selected by Tab
  await tabTo(visit.page, "#action-pause [name=confirmation]");
  await keyboard.type("paus");
  await keyboard.press("Enter");
  assert.equal((await adminState()).paused, false, "the word is not complete");
  await keyboard.type("e");
  await keyboard.press("Enter");
  await output("pause", /^Paused\. It resumes by itself at \d\d:/);
  const { paused, resumes_in_s: left } = await adminState();
  assert.ok(paused && left > 80 && left <= 90, `${left} s left`);
  await visit.shows("#pool-summary", /Paused until \d\d:/);

  await tabTo(visit.page, "#resume");
  await keyboard.press("Enter");
  await output("pause", /hands out connections/);
  assert.equal((await adminState()).paused, false);

  await tabTo(visit.page, "#action-resize [name=max]");
  await keyboard.type("7");
  await keyboard.press("Enter");
  await output("resize", /^Now 2 to 7/);
  assert.equal((await adminState()).max, 7);
  await visit.shows("#pool-summary", /7 at most/);
  await visit.page.locator("#action-resize [name=max]").fill("1");
  await keyboard.press("Enter");
  await output("resize", /^Refused: max: /);
  assert.equal((await adminState()).max, 7);

  const isDrained = async () => (await adminState()).hosts[0].drained;
  await tabTo(visit.page, "#action-drain button[type=submit]");
  await keyboard.press("Enter");
  await output("drain", /^Out of use/);
  assert.equal(await isDrained(), true);
  await visit.shows("#administration-state", /out of use: /);
  await tabTo(visit.page, "#restore");
  await keyboard.press("Enter");
  await output("drain", /^In use again/);
  assert.equal(await isDrained(), false);
  await visit.shows("#administration-state", /all hosts in use/);

  await tabTo(visit.page, "#action-log [name=filter]");
  await keyboard.type("warn");
  await keyboard.press("Enter");
  await output("log", /^The filter is warn/);

  await tabTo(visit.page, "#action-reload button");
  await keyboard.press("Enter");
  await output("reload", /^(Applied|Nothing)/);

  await tabTo(visit.page, "#action-flush [name=confirmation]");
  await keyboard.type("flush");
  await keyboard.press("Enter");
  await output("flush", /^Dropped/);
  await visit.close({ requestsMayFail: true }); // of the refused resize
});

test("without a key the page asks for one, keeps it in this tab only, and shows actions to administrators", async () => {
  service = await Service.start({ AUTH: "keys", CENOTE_BOOTSTRAP_KEY_FILE: "first.key" });
  const admin = (await readFile(join(service.directory, "first.key"), "utf8")).trim();
  const { stdout } = await promisify(execFile)(PROGRAM, ["key", "create", "--name", "viewer", "--scope", "metrics"],
    { cwd: service.directory, env: { ...service.environment, DATABASE_URL: await service.databaseUrl() } });
  const viewer = stdout.trim();

  const visit = await Visit.open(browser, service.url);
  await visit.page.locator("#key").waitFor();
  await visit.assertAccessible("the key field");
  const enter = async (key) => {
    await visit.page.locator("#key-input").fill(key);
    await visit.page.keyboard.press("Enter");
  };
  await enter("cnk_wrong");
  await visit.shows("#key-problem", /refused/);
  await enter(viewer);
  await visit.isLive();
  assert.ok(await visit.page.locator("#administration").isHidden(), "a viewer may not act");
  await visit.page.locator("#forget-key").click();
  await visit.page.locator("#key").waitFor();
  await enter(admin);
  await visit.isLive();
  await visit.page.locator("#administration").waitFor();
  await visit.page.locator("#action-reload button").click();
  await visit.shows("#action-reload output", /^(Applied|Nothing)/);

  assert.ok(!visit.page.url().includes("cnk_"), "no key in the address");
  assert.equal(await visit.page.evaluate(() => Object.values(localStorage).some((value) => value.includes("cnk_"))), false);
  const other = await visit.context.newPage();
  await other.goto(service.url);
  await other.locator("#key").waitFor();
  await visit.close({ requestsMayFail: true });
});
