// Records one order per event, over one connection that outlives the invocation.
import pg from "pg";

// Networks forget idle connections without a word; AWS does after 350 seconds.
const TRUSTED = 300_000; // ms
// A pgfunnel that has gone meanwhile answers nothing at all. Longer than its query_wait_timeout.
const PATIENCE = 20_000; // ms

let connection = null;
let lastUsed = 0;

// The module's connection: opened by the first invocation, used by those that follow.
async function connected() {
  if (Date.now() - lastUsed > TRUSTED) forget();
  if (connection === null) {
    const opened = new pg.Client({
      connectionString: process.env.DSN,
      connectionTimeoutMillis: 5000,
    });
    // Without a listener, a connection that breaks between two invocations ends the process.
    opened.on("error", () => {
      if (connection === opened) connection = null;
    });
    await opened.connect();
    connection = opened;
  }
  lastUsed = Date.now();
  return connection;
}

// Nobody waits for its goodbye: where the network has gone, it never arrives.
function forget() {
  connection?.end().catch(() => {});
  connection = null;
}

// One transaction. An order that is there already stays as it is, so this may run twice.
async function record({ id, item, quantity }) {
  const client = await connected();
  await client.query({ text: "BEGIN", query_timeout: PATIENCE });
  try {
    await client.query(
      "INSERT INTO orders (id, item, quantity) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
      [id, item, quantity],
    );
    const { rows } = await client.query("SELECT count(*)::int AS orders FROM orders");
    await client.query("COMMIT");
    return rows[0].orders;
  } catch (error) {
    await client.query("ROLLBACK").catch(forget);
    throw error;
  }
}

// The connection has gone: not an error of Postgres at all, or one of class 08 or 57P.
function lost(error) {
  return error.severity === undefined || /^(08|57P)/.test(error.code);
}

// A frozen function learns only from its next query that its connection has gone meanwhile.
export async function handler(event) {
  const warm = connection !== null;
  let orders;
  try {
    orders = await record(event);
  } catch (error) {
    if (!warm || !lost(error)) throw error;
    forget();
    orders = await record(event);
  }
  return { statusCode: 200, body: JSON.stringify({ orders }) };
}
