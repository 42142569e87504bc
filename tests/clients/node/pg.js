// node-postgres, with pg-copy-streams.

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { barrier, check, fails, range, same, until } from './scenarios.js'

const STATEMENTS = 300 // more than a pooler keeps per server
const MEGABYTES_20 = 20_000_000

/** Protocol-level messages that the driver has no call for, queued like any query. */
class Raw {
  constructor(send) {
    this.send = send
    this.fields = null
    this.done = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }))
  }

  submit(connection) {
    this.send(connection)
    connection.sync()
  }

  handleRowDescription(message) {
    this.fields = message.fields.map((field) => field.name)
  }

  handleError(error) {
    this.reject(error)
  }

  handleReadyForQuery() {
    this.resolve(this.fields)
  }
}

function raw(client, send) {
  const query = new Raw(send)
  client.query(query)
  return query.done
}

async function closeStatement(client, name) {
  await raw(client, (connection) => connection.close({ type: 'S', name }))
  delete client.connection.parsedStatements[name]
}

async function text(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

async function value(client, query, values) {
  const { rows } = await client.query({ text: query, values, rowMode: 'array' })
  return rows[0][0]
}

const named = (client, name, query, values = []) =>
  client
    .query({ name, text: query, values, rowMode: 'array' })
    .then(({ rows }) => rows[0][0])

export function scenarios({ dsn, run, clients }) {
  const config = (extra = {}) => ({ connectionString: dsn, ...extra })

  async function connected(use, extra) {
    const client = new pg.Client(config(extra))
    await client.connect()
    try {
      return await use(client)
    } finally {
      await client.end()
    }
  }

  const withTable = (what, columns, use) =>
    connected(async (client) => {
      const table = `fc_pg_${run}_${what}`
      await client.query(`create table ${table} (${columns})`)
      try {
        return await use(client, table)
      } finally {
        await client.query(`drop table ${table}`)
      }
    })

  async function connect() {
    const client = new pg.Client(config({ application_name: `fc_${run}` }))
    const seen = {}
    client.connection.on('parameterStatus', (m) => (seen[m.parameterName] = m.parameterValue))
    await client.connect()
    try {
      for (const name of ['server_version', 'client_encoding', 'DateStyle', 'integer_datetimes'])
        check(seen[name], `no ParameterStatus ${name}: ${JSON.stringify(seen)}`)
      same(seen.client_encoding, 'UTF8', 'client_encoding')
      same(await value(client, 'show application_name'), `fc_${run}`, 'application_name')
      check((await value(client, 'select version()')).startsWith('PostgreSQL'), 'version()')
    } finally {
      await client.end()
    }
    return `server_version ${seen.server_version}`
  }

  const simpleQuery = () =>
    connected(async (client) => {
      const several = await client.query(`select 1 as a; select 'zwei' as b; select 3 as c`)
      same(several.map(({ rows }) => rows[0]), [{ a: 1 }, { b: 'zwei' }, { c: 3 }], 'statements')
      same((await client.query('')).rows, [], 'empty query')
      same((await client.query('select 1 where false')).rowCount, 0, 'no rows')
    })

  const transactions = () =>
    withTable('tx', 'n int', async (client, table) => {
      const insert = (n) => client.query(`insert into ${table} values ($1)`, [n])
      const steps = async (...texts) => {
        for (const step of texts) await (typeof step === 'number' ? insert(step) : client.query(step))
      }
      await steps('begin', 1, 'commit')
      await steps('begin', 2, 'rollback')
      await steps('begin', 3)
      await fails(client.query('select nonsense'), '42703', 'unknown column')
      await fails(client.query('select 1'), '25P02', 'in a failed transaction')
      await steps('rollback', 'begin', 4, 'savepoint s', 5)
      await fails(client.query('select 1/0'), '22012', 'after a savepoint')
      await steps('rollback to s', 6, 'release s', 'commit')
      const { rows } = await client.query(`select n from ${table} order by n`)
      same(rows.map((row) => row.n), [1, 4, 6], 'committed rows')
    })

  const prepared = () =>
    connected(async (client) => {
      for (const n of range(100)) same(await named(client, 'twice', 'select $1::int * 2', [n]), n * 2, 'twice')
      const all = async (offset) => {
        for (const n of range(STATEMENTS))
          same(await named(client, `s${n}`, `select $1::int + ${n}`, [offset]), n + offset, `s${n}`)
      }
      await all(1)
      await all(1000)
      await client.query('begin')
      await all(2000)
      await client.query('commit')
      await client.query('begin')
      same(await named(client, 's0', 'select $1::int + 0', [5]), 5, 'after commit')
      await client.query('rollback')
      same(await named(client, 's299', 'select $1::int + 299', [5]), 304, 'after rollback')
    })

  const preparedSameName = () =>
    connected((one) =>
      connected(async (two) => {
        for (const n of range(50)) {
          const [a, b] = await Promise.all([
            named(one, 'same', `select 'one' || $1::text`, [n]),
            named(two, 'same', `select $1::int + 1000`, [n]),
          ])
          same([a, b], [`one${n}`, n + 1000], 'same name, different texts')
        }
      }),
    )

  const preparedFailed = () =>
    connected(async (client) => {
      await fails(named(client, 'again', 'selec 1'), '42601', 'Parse of nonsense')
      same(await named(client, 'again', 'select 1'), 1, 'the name after a failed Parse')
      await client.query('begin')
      await named(client, 'divides', 'select 10 / $1::int', [5])
      await fails(named(client, 'divides', 'select 10 / $1::int', [0]), '22012', 'Execute')
      await client.query('rollback')
      same(await named(client, 'divides', 'select 10 / $1::int', [2]), 5, 'after a rollback')
    })

  const preparedClose = () =>
    connected(async (client) => {
      const parse = (name, query) => raw(client, (c) => c.parse({ name, text: query, types: [] }))
      const describe = (name) => raw(client, (c) => c.describe({ type: 'S', name }))
      await parse('d', 'select 1 as first, $1::text as second')
      same(await describe('d'), ['first', 'second'], 'Describe of a statement')
      await fails(parse('d', 'select 2'), '42P05', 'Parse of a name in use')
      await closeStatement(client, 'd')
      await fails(describe('d'), '26000', 'Describe after Close')
      same(await named(client, 'd', 'select 3'), 3, 'the name after Close')
      await client.query('deallocate all')
      await fails(describe('d'), '26000', 'Describe after DEALLOCATE ALL')
      client.connection.parsedStatements = {}
      same(await named(client, 'd', 'select 4'), 4, 'the name after DEALLOCATE ALL')
      await client.query('discard all')
      await fails(describe('d'), '26000', 'Describe after DISCARD ALL')
      client.connection.parsedStatements = {}
      same(await named(client, 'd', 'select 5'), 5, 'the name after DISCARD ALL')
    })

  const types = () =>
    withTable(
      'types',
      'n int8, t text, b bytea, at timestamptz, i int[], s text[], j jsonb, f float8, d numeric, u uuid, e text',
      async (client, table) => {
        const row = {
          n: '9223372036854775807',
          t: `Grüße, 世界 🐘 '"\\ \n`,
          b: Buffer.from(range(256)),
          at: new Date('2026-02-28T23:59:59.123Z'),
          i: [1, null, -3],
          s: ['a,b', '"', '', 'ü'],
          j: { a: [1, 2, { b: null }], ü: '🐘' },
          f: -1.5e300,
          d: '12345678901234567890.0987654321',
          u: '6b1c2d3e-4f50-4a6b-8c7d-9e0fa1b2c3d4',
          e: null,
        }
        const places = range(11).map((n) => `$${n + 1}`).join(', ')
        await client.query(`insert into ${table} values (${places})`, Object.values(row))
        same((await client.query(`select * from ${table}`)).rows, [row], 'row')
        same((await client.query({ name: 'types', text: `select * from ${table}` })).rows, [row], 'prepared')
      },
    )

  const bigResults = () =>
    connected(async (client) => {
      const { rows } = await client.query({
        text: `select n, repeat('x', 100) from generate_series(1, $1::int) n`,
        values: [100_000],
        rowMode: 'array',
      })
      same(rows.length, 100_000, 'rows')
      check(rows.every(([n, x], index) => n === index + 1 && x.length === 100), 'rows differ')
      const big = 'abcdefghij'.repeat(MEGABYTES_20 / 10)
      check((await value(client, 'select $1::text', [big])) === big, '20 MB differ')
      same(await value(client, 'select 1'), 1, 'afterwards')
    })

  const copy = () =>
    withTable('copy', 'n int primary key, t text', async (client, table) => {
      const lines = range(20_000).map((n) => `${n}\tline ${n}\n`)
      await pipeline(Readable.from(lines), client.query(copyFrom(`copy ${table} from stdin`)))
      const out = client.query(copyTo(`copy (select * from ${table} order by n) to stdout`))
      check((await text(out)) === lines.join(''), 'COPY out differs from COPY in')
      const bad = pipeline(Readable.from(['x\ty\n']), client.query(copyFrom(`copy ${table} from stdin`)))
      await fails(bad, '22P02', 'COPY of bad data')
      const twice = pipeline(Readable.from(lines), client.query(copyFrom(`copy ${table} from stdin`)))
      await fails(twice, '23505', 'COPY of the same rows again')
      same(await value(client, `select count(*)::int from ${table}`), 20_000, 'rows afterwards')
    })

  const cancel = () =>
    connected((watcher) =>
      connected(async (client) => {
        const mark = `fc_${run}_cancel`
        const sleep = new pg.Query(`select pg_sleep(20) /* ${mark} */`)
        const done = new Promise((resolve, reject) => {
          sleep.on('end', resolve)
          sleep.on('error', reject)
        })
        done.catch(() => {})
        client.query(sleep)
        const running = `select count(*)::int from pg_stat_activity
          where state = 'active' and pid <> pg_backend_pid() and query like '%' || $1 || '%'`
        await until(async () => (await value(watcher, running, [mark])) === 1, 'pg_sleep runs')
        new pg.Client(config()).cancel(client, sleep)
        await fails(done, '57014', 'cancelled pg_sleep')
        for (const n of range(20)) same(await value(client, 'select $1::int', [n]), n, 'afterwards')
        await client.query('begin')
        await client.query(`set local statement_timeout = 50`)
        await fails(client.query('select pg_sleep(20)'), '57014', 'statement_timeout')
        await client.query('rollback')
        same(await value(client, 'select 1'), 1, 'after statement_timeout')
      }),
    )

  const errors = () =>
    withTable('errors', 'n int primary key', async (client, table) => {
      const insert = `insert into ${table} values ($1)`
      await client.query(insert, [1])
      for (const [code, query, values] of [
        ['42601', 'selec 1'],
        ['42601', 'selec $1', [1]],
        ['23505', insert, [1]],
        ['23505', `insert into ${table} values (1)`],
        ['22012', 'select 1 / 0'],
        ['22012', 'select 1 / $1::int', [0]],
        ['22P02', 'select $1::int', ['x']],
        ['42P01', 'select * from fc_no_such_table'],
      ]) {
        await fails(client.query(query, values), code, query)
        same(await value(client, 'select $1::int', [7]), 7, `after ${code}`)
      }
      const violation = await fails(client.query(insert, [1]), '23505', 'unique violation')
      same([violation.table, violation.constraint], [table, `${table}_pkey`], 'fields of the error')
    })

  const pipelines = () =>
    connected(
      async (client) => {
        const query = async (n) => {
          if (n % 3 === 0) return named(client, `p${n % 30}`, `select $1::int + ${n % 30}`, [n])
          if (n % 10 !== 7) return value(client, 'select $1::int', [n])
          await fails(client.query('select 1 / $1::int', [0]), '22012', 'in a pipeline')
          return n
        }
        const answers = await Promise.all(range(500).map(query))
        const expected = range(500).map((n) => (n % 3 === 0 ? n + (n % 30) : n))
        same(answers, expected, 'answers in order')
        const transaction = ['begin', 'select 1', 'select 1 / 0', 'select 2', 'rollback', 'select 3']
        const settled = await Promise.allSettled(transaction.map((step) => client.query(step)))
        same(
          settled.map(({ reason }) => reason?.code ?? 'ok'),
          ['ok', 'ok', '22012', '25P02', 'ok', 'ok'],
          'a failed transaction in a pipeline',
        )
      },
      { pipeline: true },
    )

  const hundredAtOnce = () =>
    withTable('many', 'client int, round int', async (owner, table) => {
      const ready = barrier(clients)
      const one = (id) =>
        connected(
          async (client) => {
            await ready()
            for (const round of range(5)) {
              await client.query('begin')
              await client.query(`insert into ${table} values ($1, $2)`, [id, round])
              same(await named(client, 'mine', `select $1::int + ${id * 1000}`, [round]), id * 1000 + round, 'mine')
              same(await value(client, 'show application_name'), `fc_${run}_${id}`, 'application_name')
              await client.query(round === 4 ? 'rollback' : 'commit')
              same(await value(client, `select count(*)::int from ${table} where client = $1`, [id]),
                Math.min(round + 1, 4), 'own rows')
            }
          },
          { application_name: `fc_${run}_${id}` },
        )
      await Promise.all(range(clients).map(one))
      same(await value(owner, `select count(*)::int from ${table}`), clients * 4, 'rows of all')
      return `${clients} clients`
    })

  async function pooled() {
    const pool = new pg.Pool(config({ max: 20 }))
    try {
      const answers = await Promise.all(range(500).map((n) => value(pool, 'select $1::int', [n])))
      same(answers, range(500), 'answers')
      await fails(pool.query('select 1 / 0'), '22012', 'an error in the pool')
      same(await value(pool, 'select 1'), 1, 'afterwards')
    } finally {
      await pool.end()
    }
  }

  return {
    connect,
    simple_query: simpleQuery,
    transactions,
    prepared,
    prepared_same_name: preparedSameName,
    prepared_failed: preparedFailed,
    prepared_close: preparedClose,
    types,
    big_results: bigResults,
    copy,
    cancel,
    errors,
    pipelines,
    pooled,
    hundred_at_once: hundredAtOnce,
  }
}
