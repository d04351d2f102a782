// A browser that looks at dashboards. Invariant: whatever a page complains about (its console, an exception, the content
// security policy) is kept, and a test asks for it at its end.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/lib/chromium/chromium", "/usr/bin/google-chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"];
/** What Chromium logs of every request that fails, and no page can prevent. */
const FAILED_REQUEST = /^Failed to load resource/;

/** Starts Chromium, the one of CHROMIUM or one that is installed. It ends with this process. */
export function startBrowser() {
  const executablePath = process.env.CHROMIUM ?? PLACES.find((place) => existsSync(place));
  if (!executablePath) throw new Error("Chromium is not installed; scripts/setup browser installs it");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--enable-precise-memory-info"] });
}

export class Visit {
  /** Opens a page in a browser context of its own. */
  static async open(browser, url, { width = 1440, height = 900, theme = "light" } = {}) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, locale: "en-GB" });
    const visit = new Visit(context, await context.newPage());
    await visit.page.goto(url);
    return visit;
  }

  constructor(context, page) {
    Object.assign(this, { context, page });
    this.complaints = [];
    page.on("console", (message) => this.complaints.push(message.text()));
    page.on("pageerror", (error) => this.complaints.push(error.stack));
    context.exposeBinding("complain", (_, text) => this.complaints.push(text));
    page.addInitScript(() =>
      document.addEventListener("securitypolicyviolation", (event) => globalThis.complain(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
  }

  /** Waits until the page shows figures as they come. */
  async isLive() {
    await this.page.locator('body[data-link="live"] #board').waitFor();
  }

  /** Returns the text of an element as it is shown. */
  text(selector) {
    return this.page.locator(selector).innerText();
  }

  async shows(selector, pattern, timeout = 10_000) {
    await this.page.locator(selector).filter({ hasText: pattern }).first().waitFor({ timeout });
  }

  async assertAccessible(what) {
    const { violations } = await this.page.evaluate(`${AXE}; axe.run()`);
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`);
    assert.deepEqual(found, [], what);
  }

  async assertFits(what) {
    const excess = await this.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(excess, 0, `${what}: pixels to scroll sideways`);
  }

  /** Closes the page. Asserts that it had nothing to complain about, but failed requests where they are part of the test. */
  async close({ requestsMayFail = false } = {}) {
    await this.context.close();
    const complaints = this.complaints.filter((text) => !(requestsMayFail && FAILED_REQUEST.test(text)));
    assert.deepEqual(complaints, []);
  }
}
