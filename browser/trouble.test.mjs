// The dashboard of a service in trouble: what it says of a held connection and an exhausted pool, and that it outlives the
// service.

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { startBrowser, Visit } from "./support/browser.mjs";
import { load, Service } from "./support/service.mjs";

let browser, service;
before(async () => (browser = await startBrowser()));
after(() => browser?.close());
afterEach(() => service?.remove());

test("a held connection is shown with its source line and age", async (t) => {
  service = await Service.start();
  await service.write("held", "before");
  const psql = service.psql();
  t.after(() => psql.end());
  await psql.run("BEGIN; SELECT 1 FROM kv WHERE key = 'held' FOR UPDATE");
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  const write = service.write("held", "after");
  await visit.shows("#held tbody tr", /\.rs:\d+.*\d/s, 6000);
  assert.match(await visit.text("#slots"), /U/);
  assert.match(await visit.page.locator("#slots").evaluate((list) => list.textContent), /in use, by .*\.rs:\d+/);
  await psql.end();
  assert.equal((await write).status, 200);
  await visit.page.locator("#held-none").waitFor();
  await visit.close();
});

test("an exhausted pool is said in words within two seconds", async (t) => {
  service = await Service.start({ DB_POOL_MIN_SIZE: "1", DB_POOL_MAX_SIZE: "1", DB_POOL_TIMEOUT: "0.5" });
  await service.write("held", "before");
  const psql = service.psql();
  t.after(() => psql.end());
  await psql.run("BEGIN; LOCK TABLE kv");
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  await visit.shows("#verdict-list .ok, #verdict-list .info", /\w/);
  t.after(load(service, { clients: 6, reads: 0.5 }));
  await visit.shows("#verdict-list .critical, #verdict-list .warning", /[Ww]ait|in use/, 2000);
  await visit.shows("#error-table tbody tr", /503\s*pool-timeout/, 6000);
  await visit.shows("#announcements", /\w/);
  await visit.assertAccessible("exhausted");
  await psql.end();
  await visit.close();
});

test("it survives a restart of the service, and says meanwhile since when its figures are old", async (t) => {
  service = await Service.start();
  const visit = await Visit.open(browser, service.url);
  await visit.isLive();
  await service.stop();
  await visit.shows("#link", /^Disconnected for \d+.s: \w/, 5000);
  await visit.shows("#announcements", /^Disconnected: \w/);
  for (const theme of ["light", "dark"])
    for (const width of [1440, 320]) {
      await visit.page.emulateMedia({ colorScheme: theme });
      await visit.page.setViewportSize({ width, height: 900 });
      await visit.assertAccessible(`disconnected, ${theme}, ${width} pixels`);
      await visit.assertFits(`disconnected, ${theme}, ${width} pixels`);
    }
  await service.restart();
  await visit.shows("#link", /^Live$/, 6000);
  await visit.shows("#announcements", /Connected again|All is well/);
  t.after(load(service));
  await visit.shows("#chart-requests .now", /[1-9]/);
  await visit.close({ requestsMayFail: true });
});
