// A proxy before a service, as an operator may have one. Invariant: it changes nothing but the path, and the events if it
// is told to make them up.

import { createServer, request } from "node:http";
import { freePort } from "./service.mjs";

export class Proxy {
  /**
   * Serves the service at `prefix`, such as `/pool/`. `events`, if given, answers `dashboard/events` instead of the service:
   * it gets the response.
   */
  static async start(service, { prefix = "/", events = null } = {}) {
    const proxy = new Proxy();
    const port = await freePort();
    proxy.url = `http://127.0.0.1:${port}${prefix}`;
    proxy.server = createServer((incoming, outgoing) => {
      if (!incoming.url.startsWith(prefix)) return outgoing.writeHead(404).end();
      const path = `/${incoming.url.slice(prefix.length)}`;
      if (events && path.startsWith("/dashboard/events")) return events(outgoing);
      const { method, headers } = incoming;
      const forwarded = request({ host: "127.0.0.1", port: service.port, path, method, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode, answer.headers);
        answer.pipe(outgoing);
      });
      forwarded.on("error", () => outgoing.destroy());
      outgoing.on("close", () => forwarded.destroy());
      incoming.pipe(forwarded);
    });
    await new Promise((resolve) => proxy.server.listen(port, "127.0.0.1", resolve));
    return proxy;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }
}
