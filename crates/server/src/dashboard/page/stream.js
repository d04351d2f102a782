// The stream of events. Invariant: at most one connection is open, none while the tab is hidden, and none is given up:
// after each end the next attempt follows within five seconds, unless the service wants a key.

const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
const SILENCE_MS = 6000; // rows come every second; after this the connection counts as lost

/** Splits a text/event-stream. `take` returns the events that a piece completes; the rest is kept. */
class EventParser {
  constructor() {
    this.rest = "";
  }

  take(text) {
    const blocks = (this.rest + text).split("\n\n");
    this.rest = blocks.pop();
    return blocks.map(parseEvent).filter((event) => event !== null);
  }
}

/** Returns an event, or null for a block without data, such as a comment. */
function parseEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length === 0 ? null : { name, data: data.join("\n") };
}

/** Returns the pause before an attempt, in ms: doubled with each failure, of which a random half is left out. */
function pauseBefore(failures, random = Math.random()) {
  const most = Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS * 2 ** failures);
  return Math.max(SHORTEST_PAUSE_MS, most / 2 + (most / 2) * random);
}

class EventStream {
  /**
   * @param url a function that returns the address of the events
   * @param headers a function that returns the headers of a request
   * @param listener `event(name, value)`; `opened()`; `lost(reason)`, after which it goes on by itself; `refused(status, reason)`
   *   if a key is missing or not enough, after which it waits for `restart`
   */
  constructor(url, headers, listener) {
    Object.assign(this, { url, headers, listener });
    this.failures = 0;
    this.attempt = null; // the AbortController of the open connection
    this.timer = null;
    document.addEventListener("visibilitychange", () => (document.hidden ? this.stop() : this.restart()));
  }

  /** Connects now, instead of any connection or pause. */
  restart() {
    this.stop();
    this.failures = 0;
    if (!document.hidden) this.#connect();
  }

  stop() {
    clearTimeout(this.timer);
    this.attempt?.abort();
    this.attempt = null;
  }

  async #connect() {
    const attempt = new AbortController();
    this.attempt = attempt;
    let reason = "the service ended the connection";
    try {
      const response = await fetch(this.url(), { headers: this.headers(), cache: "no-store", signal: attempt.signal });
      if (response.status === 401 || response.status === 403) {
        this.attempt = null;
        this.listener.refused(response.status, await problemOf(response));
        return;
      }
      if (!response.ok) throw new Error(await problemOf(response));
      if (await this.#read(response.body, attempt)) return this.restart();
    } catch (error) {
      reason = error instanceof TypeError ? "the service cannot be reached" : error.message;
    }
    if (this.attempt !== attempt) return; // stopped or replaced
    attempt.abort();
    this.attempt = null;
    this.listener.lost(reason);
    this.timer = setTimeout(() => this.#connect(), pauseBefore(this.failures));
    this.failures += 1;
  }

  /** Reads to the end. Returns whether the service wants to be asked again at once. */
  async #read(body, attempt) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    let isOpen = false;
    for (;;) {
      const silence = setTimeout(() => attempt.abort(new Error("the service is silent")), SILENCE_MS);
      const { done, value: text } = await reader.read().finally(() => clearTimeout(silence));
      if (done || this.attempt !== attempt) return false;
      for (const { name, data } of parser.take(text)) {
        if (!isOpen) {
          isOpen = true;
          this.failures = 0;
          this.listener.opened();
        }
        const value = JSON.parse(data);
        if (name === "end" && value.reason === "renew") return true;
        if (name === "end") throw new Error("the service is stopping");
        this.listener.event(name, value);
      }
    }
  }
}

/** Returns what went wrong, in the service's words if it gave any. */
async function problemOf(response) {
  try {
    const problem = await response.json();
    const fields = (problem.errors ?? []).map(({ field, detail }) => `${field}: ${detail}`);
    return fields.length > 0 ? fields.join("; ") : (problem.detail ?? problem.title);
  } catch {
    return `the service answered ${response.status}`;
  }
}
