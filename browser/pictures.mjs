// Takes the pictures in docs/pictures: of a private service with Redis, under load for MINUTES (10), then in trouble, in the
// browser and by `cenote top`.
// Invariant: every picture is of a running service; nothing in it is made up.

import { spawn } from "node:child_process";
import { mkdir, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startBrowser, Visit } from "./support/browser.mjs";
import { freePort, load, Program, PROGRAM, repeat, Service } from "./support/service.mjs";

const PICTURES = fileURLToPath(new URL("../docs/pictures/", import.meta.url));
const MINUTES = Number(process.env.MINUTES ?? 10);
const LARGEST = 200_000;
const TERMINAL = { rows: 28, cols: 116 };
const SIZE = { width: 1280, height: 1120 };

async function save(name, picture) {
  await writeFile(PICTURES + name, picture);
  const { size } = await stat(PICTURES + name);
  console.log(`${name}: ${Math.round(size / 1000)} kB`);
  if (size > LARGEST) throw new Error(`${name} is larger than ${LARGEST} bytes`);
}

async function takeDashboard(browser, service, name, theme) {
  const visit = await Visit.open(browser, service.url, { ...SIZE, theme });
  await visit.isLive();
  await sleep(1500);
  await save(name, await visit.page.screenshot());
  await visit.close();
}

/** Takes `cenote top` as a terminal shows it. */
async function takeTop(browser, service, name) {
  const shown = await runInTerminal(`${PROGRAM} top ${service.url}`, TERMINAL, 4000);
  const page = await browser.newPage({ viewport: SIZE });
  const xterm = createRequire(import.meta.url).resolve("@xterm/xterm/package.json");
  await page.setContent('<body style="margin: 0"><div id="terminal" style="display: inline-block; padding: 16px; background: #0e1418"></div>');
  await page.addStyleTag({ path: join(xterm, "../css/xterm.css") });
  await page.addScriptTag({ path: join(xterm, "../lib/xterm.js") });
  await page.evaluate(([text, size]) => {
    const terminal = new globalThis.Terminal({ ...size, fontSize: 14, fontFamily: "'DejaVu Sans Mono', monospace", theme: { background: "#0e1418" }, cursorInactiveStyle: "none" });
    terminal.open(document.getElementById("terminal"));
    return new Promise((resolve) => terminal.write(text, resolve));
  }, [shown, TERMINAL]);
  await sleep(500);
  await save(name, await page.locator("#terminal").screenshot());
  await page.close();
}

/** Runs a command in a terminal that `script` provides, then presses q. Returns what it wrote until then. */
async function runInTerminal(command, { rows, cols }, time) {
  const inside = `stty rows ${rows} cols ${cols}; TERM=xterm-256color exec ${command}`;
  const child = spawn("script", ["-qfec", inside, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  let shown = "";
  child.stdout.setEncoding("utf8").on("data", (data) => (shown += data));
  await sleep(time);
  const until = shown;
  child.stdin.write("q");
  await ended;
  return until;
}

/** Load that swells and ebbs, with a change of its strength every few seconds. */
async function loadFor(service, minutes) {
  const end = Date.now() + minutes * 60_000;
  while (Date.now() < end) {
    const swell = 1 + Math.sin(Date.now() / 45_000);
    const stop = load(service, { clients: 3 + Math.round(4 * swell), reads: 0.9, pause: 8 });
    await sleep(4000);
    await stop();
  }
}

await mkdir(PICTURES, { recursive: true });
const redisPort = await freePort();
const redis = new Program("redis-server", ["--port", String(redisPort), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
const service = await Service.start({
  REDIS_URL: `redis://127.0.0.1:${redisPort}`, DB_POOL_MAX_SIZE: "10", DB_POOL_MAX_OVERFLOW: "2", DB_POOL_TIMEOUT: "0.5",
  MEMORY_WARN: undefined, MEMORY_CRITICAL: undefined,
});
const browser = await startBrowser();
try {
  await loadFor(service, MINUTES);
  const stop = load(service, { clients: 9, reads: 0.9, pause: 8 });
  await takeDashboard(browser, service, "dashboard-light.png", "light");
  await takeDashboard(browser, service, "dashboard-dark.png", "dark");

  const psql = service.psql();
  await psql.run("BEGIN; LOCK TABLE users");
  const stopUsers = repeat(() => fetch(`${service.url}users/`), { clients: 30, pause: 20 });
  await sleep(4000);
  await takeDashboard(browser, service, "dashboard-trouble.png", "light");
  await takeTop(browser, service, "top.png");
  await psql.end();
  await Promise.all([stopUsers(), stop()]);
} finally {
  await browser.close();
  await service.remove();
  await redis.stop();
}
