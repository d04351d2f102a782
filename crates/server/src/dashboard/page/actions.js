// What an administrator may change. Invariant: each form says what the service answered, in words; nothing is repeated by
// itself.

class Actions {
  /** @param headers a function that returns the headers of a request */
  constructor(headers) {
    this.headers = headers;
    this.#form("pause", ({ seconds }) => this.#post("pause", { seconds: Number(seconds) }), ({ resumes_in_s: left }) =>
      `Paused. It resumes by itself at ${clock(Date.now() + left * 1000)}.`);
    this.#button("resume", "pause", () => this.#post("resume", {}), () => "The pool hands out connections.");
    this.#form("resize", ({ min, max, overflow }) => this.#post("resize", { min: Number(min), max: Number(max), overflow: Number(overflow) }),
      ({ min, max, overflow }) => `Now ${whole(min)} to ${whole(max)}, and ${whole(overflow)} under load.`);
    this.#form("drain", ({ host }) => this.#post("drain", { host }), () => "Out of use.");
    this.#button("restore", "drain", ({ host }) => this.#post("drain", { host, restore: true }), () => "In use again.");
    this.#form("log", ({ filter }) => this.#post("log", { filter }), ({ log }) => `The filter is ${log}.`);
    this.#form("reload", () => this.#post("reload", {}), reloadWords);
    this.#form("flush", () => this.#post("flush", {}), () => "Dropped. Nothing that was cached before is used.");
  }

  /** Shows the forms if the service allows actions and the caller may use them. What is typed in them stays. */
  async show(areAllowed) {
    const section = byId("administration");
    if (!areAllowed) {
      section.hidden = true;
      return;
    }
    try {
      const response = await fetch("admin/state", { headers: this.headers(), cache: "no-store" });
      if (!response.ok) return;
      this.#take(await response.json());
      if (section.hidden) this.#fillFields();
      section.hidden = false;
    } catch {
      // The stream says that the service is away.
    }
  }

  #form(name, send, words) {
    const form = byId(`action-${name}`);
    const { confirmation } = form.elements;
    confirmation?.addEventListener("input", () => confirmation.setCustomValidity(confirmed(confirmation, name)));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#run(form, send, words);
    });
    confirmation?.setCustomValidity(confirmed(confirmation, name));
  }

  #button(id, form, send, words) {
    byId(id).addEventListener("click", () => this.#run(byId(`action-${form}`), send, words));
  }

  async #run(form, send, words) {
    const output = form.querySelector("output");
    const fields = Object.fromEntries(new FormData(form));
    output.className = "";
    output.textContent = "Asking the service …";
    try {
      const answer = await send(fields);
      output.textContent = words(answer);
      this.#take(answer);
      if (form.elements.confirmation) {
        form.elements.confirmation.value = "";
        form.elements.confirmation.dispatchEvent(new Event("input"));
      }
    } catch (error) {
      output.className = "bad";
      output.textContent = error instanceof TypeError ? "Not known whether it happened: the service cannot be reached." : `Refused: ${error.message}`;
    }
  }

  async #post(action, body) {
    const headers = { ...this.headers(), "content-type": "application/json" };
    const response = await fetch(`admin/${action}`, { method: "POST", headers, body: JSON.stringify(body) });
    if (!response.ok) throw new Error(await problemOf(response));
    return response.json();
  }

  /** Keeps a state that the service answered with. A reload answers with something else. */
  #take(state) {
    if (!Array.isArray(state.hosts)) return;
    this.state = state;
    const { paused, in_use: used, min, max, overflow, hosts, log } = state;
    const drained = hosts.filter((host) => host.drained).map(({ host }) => host);
    setText(byId("administration-state"), [
      paused ? "The pool is paused" : "The pool hands out connections",
      `${whole(used)} in use, ${whole(min)} to ${whole(max)} and ${whole(overflow)} under load`,
      drained.length > 0 ? `out of use: ${drained.join(", ")}` : "all hosts in use",
      `log ${log}`,
    ].join(" · "));
  }

  #fillFields() {
    const { min, max, overflow, hosts, log } = this.state;
    const resize = byId("action-resize").elements;
    Object.entries({ min, max, overflow }).forEach(([name, value]) => (resize[name].value = value));
    byId("action-log").elements.filter.value = log;
    byId("action-drain").elements.host.replaceChildren(...hosts.map(({ host }) => element("option", {}, host)));
  }
}

function confirmed({ value }, word) {
  return value.trim().toLowerCase() === word ? "" : `Type the word ${word}`;
}

function reloadWords({ applied, needs_restart: waiting }) {
  const parts = [applied.length > 0 ? `Applied: ${applied.join(", ")}.` : "Nothing to apply."];
  if (waiting.length > 0) parts.push(`Changed, but needs a restart: ${waiting.join(", ")}.`);
  return parts.join(" ");
}
