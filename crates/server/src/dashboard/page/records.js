// The tables of the last errors and slow statements. Invariant: ages are counted from the service's times, and refreshed
// while nothing new arrives.

/** `now` is the service's time in unix ms. */
function showErrors(errors, now) {
  const counts = new Map();
  for (const { code, status } of errors) counts.set(code ?? status, (counts.get(code ?? status) ?? 0) + 1);
  const kinds = [...counts].sort(([, one], [, other]) => other - one);
  fillList(byId("error-counts"), kinds, () => element("li"), (item, [kind, count]) => setText(item, `${whole(count)} × ${kind}`));
  byId("errors-none").hidden = errors.length > 0;
  for (const id of ["error-table", "errors-log"]) byId(id).hidden = errors.length === 0;
  fillRows(byId("error-table").querySelector("tbody"), errors, ({ at, route, status, code, took_us: took, request_id: id }) =>
    [["nowrap", age(now - at)], ["code", route], whole(status), ["nowrap", code ?? NONE], ["number", micros(took)], ["code", id ?? NONE]]);
}

function showStatements(statements, now) {
  byId("statements-none").hidden = statements.length > 0;
  for (const id of ["statement-table", "statement-legend"]) byId(id).hidden = statements.length === 0;
  const longest = Math.max(1, ...statements.map(({ queue_us: queue, wait_us: wait, execute_us: execute }) => queue + wait + execute));
  const make = () => element("tr", {},
    ...["nowrap", "nowrap", "number", "number", "number"].map((kind) => element("td", { class: kind })),
    element("td", {}, element("span", { class: "share", "aria-hidden": "true" })),
    ...["number", "code", "code"].map((kind) => element("td", { class: kind })));
  fillList(byId("statement-table").querySelector("tbody"), statements, make, ({ children }, statement) => {
    const { queue_us: queue, wait_us: wait, execute_us: execute } = statement;
    const texts = [age(now - statement.at), statement.name, micros(queue), micros(wait), micros(execute), null, whole(statement.rows), statement.holder ?? NONE, statement.request_id ?? NONE];
    texts.forEach((text, index) => text !== null && setText(children[index], text));
    drawShares(children[5].firstElementChild, [["queue", queue], ["wait", wait], ["execute", execute], ["rest", longest - queue - wait - execute]]);
  });
}
