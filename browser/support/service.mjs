// A private service with a private PostgreSQL, and load for it. Invariant: all programs end with this process, and their data
// are removed, even if it is killed.

import { spawn } from "node:child_process";
import { chmod, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const PROGRAM = process.env.CENOTE ?? join(ROOT, "target/debug/cenote");
const READY_MS = 60_000;
/**
 * Runs a program until it ends, or until descriptor 3 is closed: also by the end of the process at its other end. If that
 * has ended, removes the directory `$1`.
 */
const SUPERVISOR = `directory=$1; shift
"$@" 3<&- & child=$!
{ cat <&3; kill -TERM "$child"; } >/dev/null 2>&1 & watcher=$!
exec 3<&-; wait "$child"; code=$?; kill "$watcher" 2>/dev/null
[ -z "$directory" ] || kill -0 "$PPID" 2>/dev/null || rm -rf "$directory"
exit "$code"`;

/** A program that runs beside this process. */
export class Program {
  /** @param directory is removed if this process is killed */
  constructor(program, args, { directory = "", ...options } = {}) {
    const supervised = ["-c", SUPERVISOR, "sh", directory, program, ...args];
    this.child = spawn("sh", supervised, { ...options, stdio: ["ignore", "pipe", "pipe", "pipe"] });
    this.log = "";
    this.hasEnded = false;
    for (const output of [this.child.stdout, this.child.stderr]) output.on("data", (data) => (this.log += data));
    this.ended = new Promise((resolve) => this.child.once("exit", resolve)).then(() => {
      this.hasEnded = true;
      this.child.stdio[3].destroy(); // ends what waits for it
    });
  }

  /** Asks the program to end, and waits for it. */
  async stop() {
    this.child.stdio[3].end();
    await this.ended;
  }
}

export class Service {
  /** Starts a service and waits until it is ready. `settings` are environment variables. */
  static async start(settings = {}) {
    const directory = await mkdtemp(join(tmpdir(), "cenote-browser-"));
    await chmod(directory, 0o755); // PostgreSQL may run under another account
    const service = new Service(directory, await freePort(), settings);
    try {
      await service.restart();
    } catch (error) {
      await service.remove();
      throw error;
    }
    return service;
  }

  constructor(directory, port, settings) {
    Object.assign(this, { directory, port, settings });
    this.url = `http://127.0.0.1:${port}/`;
  }

  get environment() {
    const { PATH, HOME, TMPDIR, PG_BIN } = process.env;
    const own = { HOST: "127.0.0.1", PORT: String(this.port), DATA_DIR: join(this.directory, "postgres"), MEMORY_WARN: "0", MEMORY_CRITICAL: "0", LOG_FORMAT: "pretty" };
    return Object.fromEntries(Object.entries({ PATH, HOME, TMPDIR, PG_BIN, ...own, ...this.settings }).filter(([, value]) => value !== undefined));
  }

  /** Starts the service, again on its old port and data. */
  async restart() {
    this.program = new Program(PROGRAM, ["serve"], { directory: this.directory, cwd: this.directory, env: this.environment });
    await until("the service is ready", async () => {
      if (this.program.hasEnded) throw new Error(`the service has ended:\n${this.program.log}`);
      return (await fetch(`${this.url}health/ready`).catch(() => null))?.ok;
    }, READY_MS);
  }

  stop() {
    return this.program.stop();
  }

  /** Ends the service and removes its data. */
  async remove() {
    await this.stop();
    await rm(this.directory, { recursive: true, force: true });
  }

  async write(key, value) {
    return fetch(`${this.url}write`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ key, value }) });
  }

  /** The command of psql for the private PostgreSQL. The log holds it. */
  get psqlCommand() {
    return /Look into it with: (.*)/.exec(this.program.log)[1];
  }

  psql() {
    return new Psql(this.psqlCommand);
  }

  /** The address of the private PostgreSQL, for commands that use the same database. */
  async databaseUrl() {
    const [, file, port, user] = /\(cat '?([^')]+)'?\).* -p (\d+) -U (\w+)/.exec(this.psqlCommand);
    const password = (await readFile(file, "utf8")).trim();
    return `postgresql://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}/${user}`;
  }
}

/** A session of psql. */
class Psql {
  constructor(command) {
    this.output = "";
    this.child = spawn("sh", ["-c", `${command} -qAt`], { stdio: ["pipe", "pipe", "inherit"] });
    this.ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.stdout.on("data", (data) => (this.output += data));
  }

  /** Runs statements and waits for their end. */
  async run(sql) {
    this.output = "";
    this.child.stdin.write(`${sql};\n\\echo done\n`);
    await until(`psql has run ${sql}`, () => this.output.includes("done"));
  }

  /** Ends the session, which rolls its transaction back. */
  async end() {
    this.child.stdin.end();
    await this.ended;
  }
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Waits for a condition; throws what was waited for after `limit` ms. */
export async function until(what, condition, limit = 10_000) {
  const end = Date.now() + limit;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`not within ${limit} ms: ${what}`);
    await sleep(25);
  }
}

/** Reads and writes a few hundred keys until it is stopped. */
export function load(service, { clients = 4, reads = 0.95, pause = 5 } = {}) {
  return repeat(() => {
    const key = `key-${Math.floor(Math.random() ** 2 * 400)}`;
    return Math.random() < reads ? fetch(`${service.url}read/${key}`) : service.write(key, "value");
  }, { clients, pause });
}

/** Repeats a request, `clients` at a time. Returns a function that stops it. */
export function repeat(request, { clients, pause }) {
  let isStopped = false;
  const client = async () => {
    while (!isStopped) {
      await request().then((response) => response.arrayBuffer()).catch(() => {});
      if (pause > 0) await sleep(pause);
    }
  };
  const all = Array.from({ length: clients }, client);
  return () => {
    isStopped = true;
    return Promise.all(all);
  };
}
