// The page's pure parts, without a browser: the parser of events, the pauses between attempts, numbers as text; and that the
// page knows every verdict of the service.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import vm from "node:vm";

const read = (name) => readFileSync(new URL(`../crates/server/src/dashboard/page/${name}`, import.meta.url), "utf8");
const verdicts = (name) => readFileSync(new URL(`../crates/server/src/dashboard/verdicts/${name}`, import.meta.url), "utf8");
const { EventParser, pauseBefore, micros, perSecond, bytes, age, percent } = vm.runInThisContext(
  `(() => { ${read("format.js")} ${read("stream.js")}; return { EventParser, pauseBefore, micros, perSecond, bytes, age, percent }; })()`);

test("events are the same however the stream is cut", () => {
  const text = 'retry: 1000\n\n: a comment\n\nevent: row\ndata: [1,2]\n\nevent: state\ndata: {"a":\ndata: 1}\n\nevent: row\ndata: [3';
  const expected = [{ name: "row", data: "[1,2]" }, { name: "state", data: '{"a":\n1}' }];
  for (let size = 1; size <= text.length; size += 1) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < text.length; at += size) events.push(...parser.take(text.slice(at, at + size)));
    assert.deepEqual(events, expected, `pieces of ${size}`);
  }
});

test("pauses grow from half a second to five, and differ between pages", () => {
  for (let failures = 0; failures < 20; failures += 1)
    for (const random of [0, 0.5, 0.999]) {
      const pause = pauseBefore(failures, random);
      assert.ok(pause >= 500 && pause <= 5000, `${failures} failures: ${pause}`);
    }
  assert.equal(pauseBefore(0, 0.5), 500);
  assert.ok(pauseBefore(9, 0.9) - pauseBefore(9, 0.1) > 1000);
});

test("numbers are short and have a unit", () => {
  const plain = (text) => text.replaceAll("\u202f", " ");
  assert.deepEqual([0, 7, 999, 1240, 34_000, 412_345, 2_500_000, 90e6].map(micros).map(plain),
    ["0", "7 µs", "999 µs", "1.24 ms", "34.0 ms", "412 ms", "2.50 s", "1.50 min"]);
  assert.deepEqual([0, 812, 9999, 10_400, 123_456].map(perSecond), ["0/s", "812/s", "9,999/s", "10.4k/s", "123k/s"]);
  assert.deepEqual([512, 2048, 31_457_280].map(bytes).map(plain), ["512 B", "2.00 KiB", "30.0 MiB"]);
  assert.deepEqual([-5, 12_400, 200_000, 8_000_000, 200_000_000].map(age).map(plain), ["0 s", "12 s", "3 min", "2 h", "2 d"]);
  assert.equal(percent(0, 0), "–");
  assert.equal(micros(undefined), "–");
});

test("every verdict leads to a section of the page that shows what it is about, or is known not to be shown", () => {
  const { EVIDENCE, NOT_SHOWN } = vm.runInThisContext(`(() => { ${read("panels.js")}; return { EVIDENCE, NOT_SHOWN }; })()`);
  const names = [...verdicts("rules.rs").matchAll(/rule\(\s*"([a-z-]+)"/g)].map(([, name]) => name).concat("healthy");
  assert.ok(names.length > 20, `${names}`);
  const page = read("index.html");
  for (const [name, section] of Object.entries(EVIDENCE)) assert.ok(page.includes(`<section id="${section}"`), `${name}: ${section}`);
  for (const name of [...Object.keys(EVIDENCE), ...NOT_SHOWN]) assert.ok(names.includes(name), `the service has no verdict ${name}`);
});
