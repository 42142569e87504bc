// Asks /status.json every second and writes what it says. All text goes in as text, never as HTML:
// names of databases and users are whatever somebody made up.

const EVERY = 1000; // ms
const PATIENCE = 4000; // ms until an unanswered request counts as silence
const KEPT = 60; // values of each curve

const SQLSTATES = {
  "08001": "Postgres could not be reached",
  "08006": "connection to Postgres lost",
  "08P01": "broken protocol",
  "0A000": "refused by policy",
  "25P03": "idle in a transaction for too long",
  "28000": "may not come in this way",
  "28P01": "wrong password or unknown user",
  "3D000": "no such database",
  "53300": "too many clients or waiters",
  "57014": "time limit",
  "57P01": "shutting down",
  "57P05": "idle for too long",
};
const LOGINS = {
  ok: "clients let in",
  failed: "wrong password or unknown user",
  refused: "turned away: a limit, a rule, or broken protocol",
  timeout: "not finished in time",
};
const STATES = {
  login: "logging in",
  idle: "without a server",
  active: "in a transaction or query",
  pinned: "keeping a server, doing nothing",
  waiting: "waiting for a server",
  cancelling: "asking to cancel a query",
};

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en").format;
const sum = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

// -- words ----------------------------------------------------------------------------------

function lasting(seconds) {
  if (seconds < 0.9995) return `${+(seconds * 1000).toPrecision(2)} ms`;
  if (seconds < 10) return `${+seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

function between(range) {
  if (!range) return "–";
  const [above, upto] = range;
  return upto === null ? `over ${lasting(above)}` : `≤ ${lasting(upto)}`;
}

function rate(value) {
  if (value === null || value === undefined) return "–";
  return value < 10 ? String(value) : whole(Math.round(value));
}

function traffic(octets) {
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (octets < 1000 || unit === "GB") return `${+octets.toPrecision(3)} ${unit}/s`;
    octets /= 1000;
  }
}

// -- writing, only where something changed --------------------------------------------------

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function sized(parent, wanted, create) {
  while (parent.children.length > wanted) parent.lastElementChild.remove();
  while (parent.children.length < wanted) parent.append(create(parent.children.length));
  return [...parent.children];
}

// columns: {head, kind, draw?}; rows: arrays of text, or of what the column's own draw takes.
// Roles are spelled out because the layout for narrow screens takes them away.
function fill(table, columns, rows, otherwise) {
  if (!table.tBodies.length) begin(table, columns);
  table.tHead.hidden = !rows.length;
  const body = table.tBodies[0];
  if (!rows.length) return nothing(body, columns.length, otherwise);
  if (body.firstElementChild?.dataset.nothing) body.replaceChildren();
  sized(body, rows.length, () => newRow(columns)).forEach((row, i) => {
    columns.forEach((column, j) => (column.draw ?? say)(row.children[j], rows[i][j]));
  });
}

function begin(table, columns) {
  table.setAttribute("role", "table");
  const heads = columns.map(({ head, kind = "" }) => {
    const cell = make("th", { scope: "col", className: kind, textContent: head });
    cell.setAttribute("role", "columnheader");
    return cell;
  });
  const row = make("tr", {}, ...heads);
  const [head, body] = [make("thead", {}, row), make("tbody")];
  row.setAttribute("role", "row");
  head.setAttribute("role", "rowgroup");
  body.setAttribute("role", "rowgroup");
  table.append(head, body);
}

function newRow(columns) {
  const row = make("tr");
  row.setAttribute("role", "row");
  for (const { head, kind = "" } of columns) {
    const cell = make("td", { className: kind });
    cell.dataset.label = head;
    cell.setAttribute("role", "cell");
    row.append(cell);
  }
  return row;
}

function nothing(body, width, words) {
  if (body.firstElementChild?.dataset.nothing) return;
  const row = newRow([{ head: "", kind: "whole" }]);
  row.dataset.nothing = "yes";
  row.firstElementChild.colSpan = width;
  row.firstElementChild.textContent = words;
  body.replaceChildren(row);
}

function withMore(cell, [text, more, alert = ""]) {
  const [first, second, third] = sized(cell, 1, () =>
    make("div", {}, make("span"), make("span", { className: "more" }), make("span", { className: "alert" })),
  )[0].children;
  say(first, text);
  say(second, more);
  say(third, alert);
}

function bar(cell, [text, parts, most]) {
  const [words, drawn] = sized(cell, 1, () =>
    make("div", {}, make("span"), make("div", { className: "bar", ariaHidden: "true" })),
  )[0].children;
  say(words, text);
  const scale = Math.max(most, sum(parts), 1);
  const kinds = Object.entries(parts);
  sized(drawn, kinds.length, (i) => make("span", { className: kinds[i][0] })).forEach((part, i) => {
    part.style.width = `${(100 * kinds[i][1]) / scale}%`;
  });
}

// -- the parts of the page ------------------------------------------------------------------

const curves = new Map();

function tile(name, figure, rest, value) {
  return { name, figure, rest, value };
}

function tiles(status) {
  const { recent, clients, servers } = status;
  const oldest = Math.max(0, ...status.pools.map((pool) => pool.oldest_wait_s));
  const inUse = servers.active + servers.resetting + servers.cancelling;
  const seen = sum(clients) - clients.login;
  const p99 = recent?.transaction.p99_s;
  return [
    tile("Transactions", `${rate(recent?.transactions_per_s)}/s`,
      recent ? `${rate(recent.queries_per_s)} queries/s` : "", recent?.transactions_per_s),
    tile("Transaction time", `p99 ${between(p99)}`, `p50 ${between(recent?.transaction.p50_s)}`, p99?.[0]),
    tile("Wait for a server", `p99 ${between(recent?.wait.p99_s)}`, `p50 ${between(recent?.wait.p50_s)}`,
      recent?.wait.p99_s?.[0]),
    tile("Waiters", whole(status.waiters), status.waiters ? `the first for ${lasting(oldest)}` : "nobody waits",
      status.waiters),
    tile("Servers in use", whole(inUse), `${whole(servers.idle)} idle, ${whole(sum(servers))} in all`, inUse),
    tile("Clients", whole(seen), `of ${whole(status.max_client_conn)}; ${whole(clients.login)} logging in`, seen),
    tile("Traffic", recent ? traffic(recent.bytes_sent_per_s) : "–",
      recent ? `to clients; ${traffic(recent.bytes_received_per_s)} from them` : "", recent?.bytes_sent_per_s),
  ];
}

function newTile() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${KEPT - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "polyline"));
  const figures = ["figure", "rest"].map((className) => make("div", { className }));
  return make("div", {}, make("dt"), make("dd", {}, ...figures, svg));
}

function writeTiles(status) {
  const all = tiles(status);
  sized($("tiles"), all.length, newTile).forEach((element, i) => {
    const { name, figure, rest, value } = all[i];
    const [words, svg] = [element.querySelectorAll("dt, .figure, .rest"), element.querySelector("polyline")];
    [name, figure, rest].forEach((text, j) => say(words[j], text));
    const curve = curves.get(name) ?? [];
    curves.set(name, [...curve, value ?? 0].slice(-KEPT));
    svg.setAttribute("points", points(curves.get(name)));
  });
}

function points(values) {
  const top = Math.max(...values, 1e-9);
  const first = KEPT - values.length;
  return values.map((value, i) => `${first + i},${(19 - (18 * value) / top).toFixed(1)}`).join(" ");
}

function poolRow(pool) {
  const idle = pool.servers.idle ?? 0;
  const changing = sum(pool.servers) - pool.in_use - idle;
  const words = [`${pool.in_use} of ${pool.size} in use`, `${idle} idle`, changing ? `${changing} changing` : ""];
  const bars = [words.filter(Boolean).join(", "), { used: pool.in_use, changing, idle }, pool.size];
  const waiting = pool.waiting ? `the first for ${lasting(pool.oldest_wait_s)}` : "";
  const failing = pool.failing ? `no login to Postgres: ${pool.failing}` : "";
  return [
    [pool.database, `as ${pool.user}`, failing],
    bars,
    [whole(pool.waiting), waiting],
    whole(pool.clients),
    rate(pool.transactions_per_s),
  ];
}

function writePools({ pools, pool_count }) {
  const columns = [
    { head: "Pool", kind: "name wide", draw: withMore },
    { head: "Servers", kind: "wide", draw: bar },
    { head: "Waiters", draw: withMore },
    { head: "Clients", kind: "number" },
    { head: "Trans./s", kind: "number" },
  ];
  fill($("pools"), columns, pools.map(poolRow), "No pool yet: the first client makes one.");
  const left = pool_count - pools.length;
  say($("more-pools"), left ? `${whole(left)} pools with less to do are not shown.` : "");
}

function writeClients({ clients }) {
  const columns = [
    { head: "State", draw: withMore },
    { head: "Now", kind: "number" },
  ];
  const rows = Object.entries(clients).map(([state, n]) => [[state, STATES[state] ?? ""], whole(n)]);
  fill($("clients"), columns, rows, "");
}

function writePins({ pins, pinned }) {
  const reasons = [
    { head: "Reason", draw: withMore },
    { head: "Clients", kind: "number" },
    { head: "How to do without", kind: "wide" },
  ];
  const rows = pins.map(({ reason, meaning, clients, advice }) => [[reason, meaning], whole(clients), advice]);
  fill($("pins"), reasons, rows, "Nobody is pinned.");
  $("pinned").hidden = $("pinned-title").hidden = !pinned.length;
  const longest = [
    { head: "Client", draw: withMore },
    { head: "Reason" },
    { head: "For", kind: "number" },
    { head: "Statement", kind: "code wide" },
  ];
  const each = pinned.map((pin) => [
    [pin.client, `${pin.database} as ${pin.user}`], pin.reason, lasting(pin.seconds), pin.statement || "–",
  ]);
  fill($("pinned"), longest, each, "");
}

function writeLogins({ logins, refusals, pools }) {
  const columns = [
    { head: "What", draw: withMore },
    { head: "So far", kind: "number" },
  ];
  const rows = Object.entries(LOGINS).map(([word, meaning]) => [[`login ${word}`, meaning], whole(logins[word] ?? 0)]);
  const [ok, failed] = ["server_logins", "server_login_failures"].map((name) => pools.reduce((n, pool) => n + pool[name], 0));
  rows.push([["Postgres login ok", "servers opened, of the pools above"], whole(ok)]);
  rows.push([["Postgres login failed", "servers that could not be opened"], whole(failed)]);
  for (const [sqlstate, n] of Object.entries(refusals)) {
    rows.push([[`told ${sqlstate}`, SQLSTATES[sqlstate] ?? "an error of Postgres"], whole(n)]);
  }
  fill($("logins"), columns, rows, "");
}

function writeTroubles({ troubles, time }) {
  const columns = [
    { head: "What", kind: "wide", draw: withMore },
    { head: "Where", kind: "name", draw: withMore },
    { head: "Times", kind: "number" },
    { head: "Last", kind: "number" },
  ];
  const rows = troubles.map((one) => [
    [[one.side, one.reason, one.sqlstate].filter(Boolean).join(" · "), one.words || one.meaning],
    [one.database || "–", one.user ? `as ${one.user}` : ""],
    whole(one.times),
    `${lasting(Math.max(1, Math.round(time - one.at)))} ago`,
  ]);
  fill($("troubles"), columns, rows, "None so far.");
}

function write(status) {
  say($("version"), status.version);
  const up = `up ${lasting(Math.max(1, Math.round(status.uptime_s)))}`;
  say($("state"), status.ready ? `✓ Serving, ${up}` : `✗ Not taking new clients: ${status.why_not_ready}, ${up}`);
  say($("window"), status.recent ? `Rates and times: the last ${status.recent.seconds} s.` : "Rates and times in a second.");
  for (const part of [writeTiles, writePools, writeClients, writePins, writeLogins, writeTroubles]) part(status);
}

// -- asking ---------------------------------------------------------------------------------

let heard = null;

async function ask() {
  const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  return answer.json();
}

function silent(error) {
  const why = error.name === "TimeoutError" ? "it does not answer" : error instanceof TypeError ? "it cannot be reached" : error.message;
  const since = heard ? ` What is below is of ${heard.toLocaleTimeString()}.` : "";
  say($("alarm"), `⚠ Nothing heard from pgfunnel: ${why}.${since}`);
  document.documentElement.classList.add("old");
  document.title = "⚠ pgfunnel";
}

function heardOf(status) {
  heard = new Date();
  say($("alarm"), "");
  document.documentElement.classList.remove("old");
  document.title = "pgfunnel";
  write(status);
}

async function turn() {
  await ask().then(heardOf, silent);
}

async function run() {
  for (;;) {
    if (!document.hidden) await turn();
    await new Promise((done) => setTimeout(done, EVERY));
  }
}

run();
