// postgres.js.

import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import postgres from 'postgres'
import { barrier, check, fails, range, same, until } from './scenarios.js'

const STATEMENTS = 300 // more than a pooler keeps per server
const MEGABYTES_20 = 20_000_000

async function text(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

export function scenarios({ dsn, run, clients }) {
  async function connected(use, options = {}) {
    const sql = postgres(dsn, { max: 1, onnotice: () => {}, ...options })
    try {
      return await use(sql)
    } finally {
      await sql.end({ timeout: 5 })
    }
  }

  const withTable = (what, columns, use, options) =>
    connected(async (sql) => {
      const table = `fc_postgresjs_${run}_${what}`
      await sql.unsafe(`create table ${table} (${columns})`)
      try {
        return await use(sql, table)
      } finally {
        await sql.unsafe(`drop table ${table}`)
      }
    }, options)

  const connect = () =>
    connected(
      async (sql) => {
        const [{ name, version }] = await sql`
          select current_setting('application_name') as name, version() as version`
        same(name, `fc_${run}`, 'application_name')
        check(version.startsWith('PostgreSQL'), 'version()')
        for (const parameter of ['server_version', 'client_encoding', 'DateStyle', 'integer_datetimes'])
          check(sql.parameters[parameter], `no ParameterStatus ${parameter}`)
        return `server_version ${sql.parameters.server_version}`
      },
      { connection: { application_name: `fc_${run}` } },
    )

  const simpleQuery = () =>
    connected(async (sql) => {
      const several = await sql`select 1 as a; select 'zwei' as b; select 3 as c`.simple()
      same(several.map(([row]) => row), [{ a: 1 }, { b: 'zwei' }, { c: 3 }], 'statements')
      same((await sql`select 1 where false`).count, 0, 'no rows')
    })

  const transactions = () =>
    withTable('tx', 'n int', async (sql, table) => {
      const insert = (tx, n) => tx`insert into ${sql(table)} values (${n})`
      const stop = new Error('stop')
      await sql.begin((tx) => insert(tx, 1))
      const rolledBack = sql.begin(async (tx) => {
        await insert(tx, 2)
        throw stop
      })
      check((await rolledBack.catch((error) => error)) === stop, 'rollback')
      const failed = sql.begin(async (tx) => {
        await insert(tx, 3)
        await fails(tx`select nonsense`, '42703', 'unknown column')
        await tx`select 1`
      })
      await fails(failed, '42703', 'transaction with an error')
      await sql.begin(async (tx) => {
        await insert(tx, 4)
        const inner = tx.savepoint(async (sp) => {
          await insert(sp, 5)
          await sp`select 1 / 0`
        })
        await fails(inner, '22012', 'savepoint')
        await tx.savepoint((sp) => insert(sp, 6))
      })
      const rows = await sql`select n from ${sql(table)} order by n`
      same(rows.map(({ n }) => n), [1, 4, 6], 'committed rows')
    })

  const prepared = () =>
    connected(async (sql) => {
      for (const n of range(100)) same((await sql`select ${n}::int * 2 as n`)[0].n, n * 2, 'twice')
      const all = async (on, offset) => {
        for (const n of range(STATEMENTS)) {
          const [row] = await on.unsafe(`select $1::int + ${n} as n`, [offset], { prepare: true })
          same(row.n, n + offset, `statement ${n}`)
        }
      }
      await all(sql, 1)
      await all(sql, 1000)
      await sql.begin((tx) => all(tx, 2000))
      await sql.begin((tx) => all(tx, 3000))
      const unnamed = await sql.unsafe('select $1::int as n', [5], { prepare: false })
      same(unnamed[0].n, 5, 'unnamed statement')
    })

  const preparedTwoConnections = () =>
    connected((one) =>
      connected(async (two) => {
        for (const n of range(50)) {
          const [[a], [b]] = await Promise.all([
            one`select 'one' || ${String(n)} as v`,
            two`select ${n}::int + 1000 as v`,
          ])
          same([a.v, b.v], [`one${n}`, n + 1000], 'two connections')
        }
      }),
    )

  const preparedFailed = () =>
    connected(async (sql) => {
      const divide = (on, by) => on`select 10 / ${by}::int as n`
      for (const attempt of range(3)) await fails(sql`selec ${attempt}`, '42601', 'Parse of nonsense')
      same((await divide(sql, 5))[0].n, 2, 'before')
      await fails(sql.begin((tx) => divide(tx, 0)), '22012', 'Execute in a transaction')
      same((await divide(sql, 2))[0].n, 5, 'after a rollback')
    })

  const preparedClose = () =>
    connected(async (sql) => {
      const described = await sql`select 1 as first, ${'x'}::text as second`.describe()
      same(described.columns.map(({ name }) => name), ['first', 'second'], 'columns')
      same(described.types, [25], 'parameter types')
      const twice = async (n) => (await sql`select ${n}::int * 2 as n`)[0].n
      for (const command of ['deallocate all', 'discard all']) {
        same(await twice(21), 42, `before ${command}`)
        await sql.unsafe(command)
        same(await twice(4), 8, `prepared again after ${command}`)
      }
    })

  const types = () =>
    withTable(
      'types',
      'n int8, t text, b bytea, at timestamptz, i int[], s text[], j jsonb, f float8, d numeric, e text',
      async (sql, table) => {
        const row = {
          n: '9223372036854775807',
          t: `Grüße, 世界 🐘 '"\\ \n`,
          b: Buffer.from(range(256)),
          at: new Date('2026-02-28T23:59:59.123Z'),
          i: [1, 2, -3],
          s: ['a,b', '"', '', 'ü'],
          j: { a: [1, 2, { b: null }], ü: '🐘' },
          f: -1.5e300,
          d: '12345678901234567890.0987654321',
          e: null,
        }
        await sql`insert into ${sql(table)} ${sql({ ...row, j: sql.json(row.j) })}`
        for (const attempt of range(2)) same(await sql`select * from ${sql(table)}`, [row], `row ${attempt}`)
      },
    )

  const bigResults = () =>
    connected(async (sql) => {
      const rows = await sql`
        select n, repeat('x', 100) as x from generate_series(1, ${100_000}::int) n`.values()
      same(rows.length, 100_000, 'rows')
      check(rows.every(([n, x], index) => n === index + 1 && x.length === 100), 'rows differ')
      let next = 1
      await sql`select n from generate_series(1, 10000) n`.cursor(1000, (part) => {
        for (const { n } of part) same(n, next++, 'cursor')
      })
      same(next, 10_001, 'rows of the cursor')
      const big = 'abcdefghij'.repeat(MEGABYTES_20 / 10)
      check((await sql`select ${big}::text as v`)[0].v === big, '20 MB differ')
      same((await sql`select 1 as n`)[0].n, 1, 'afterwards')
    })

  const copy = () =>
    withTable('copy', 'n int primary key, t text', async (sql, table) => {
      const lines = range(20_000).map((n) => `${n}\tline ${n}\n`)
      const start = () => sql`copy ${sql(table)} from stdin`.writable()
      await pipeline(Readable.from(lines), await start())
      // The driver may leave its socket paused after more than a stream's buffer (16 KiB): stay below.
      const out = await sql`
        copy (select * from ${sql(table)} where n < 800 order by n) to stdout`.readable()
      check((await text(out)) === lines.slice(0, 800).join(''), 'COPY out differs from COPY in')
      // The driver swallows the server's error here: what counts is that nothing was copied.
      const broken = Readable.from((function* () {
        yield '20000\tlost\n'
        throw Object.assign(new Error('source broke'), { code: 'BROKEN' })
      })())
      await fails(pipeline(broken, await start()), 'BROKEN', 'COPY from a broken source')
      const [{ n }] = await sql`select count(*)::int as n from ${sql(table)}`
      same(n, 20_000, 'rows afterwards')
    })

  const cancel = () =>
    connected((watcher) =>
      connected(async (sql) => {
        const mark = `fc_${run}_cancel`
        const sleep = sql.unsafe(`select pg_sleep(20) /* ${mark} */`)
        const done = fails(sleep.execute(), '57014', 'cancelled pg_sleep')
        await until(async () => {
          const [{ n }] = await watcher`select count(*)::int as n from pg_stat_activity
            where state = 'active' and pid <> pg_backend_pid() and query like '%' || ${mark} || '%'`
          return n === 1
        }, 'pg_sleep runs')
        await sleep.cancel()
        await done
        for (const n of range(20)) same((await sql`select ${n}::int as n`)[0].n, n, 'afterwards')
        const late = sql.begin(async (tx) => {
          await tx`set local statement_timeout = 50`
          await tx`select pg_sleep(20)`
        })
        await fails(late, '57014', 'statement_timeout')
        same((await sql`select 1 as n`)[0].n, 1, 'after statement_timeout')
      }),
    )

  const errors = () =>
    withTable('errors', 'n int primary key', async (sql, table) => {
      const insert = (n) => sql`insert into ${sql(table)} values (${n})`
      await insert(1)
      for (const [code, query] of [
        ['42601', () => sql`selec 1`],
        ['42601', () => sql`selec 1`.simple()],
        ['23505', () => insert(1)],
        ['22012', () => sql`select 1 / ${0}::int`],
        ['22012', () => sql`select 1 / 0`.simple()],
        ['42P01', () => sql`select * from fc_no_such_table`],
      ]) {
        await fails(query(), code, String(query))
        same((await sql`select ${7}::int as n`)[0].n, 7, `after ${code}`)
      }
      const violation = await fails(insert(1), '23505', 'unique violation')
      same([violation.table_name, violation.constraint_name], [table, `${table}_pkey`], 'fields')
    })

  const pipelines = () =>
    connected(
      async (sql) => {
        const one = (n) =>
          n % 10 === 7
            ? fails(sql`select 1 / ${0}::int`, '22012', 'in a pipeline').then(() => n)
            : sql.unsafe(`select $1::int + ${n % 30} - ${n % 30} as n`, [n], { prepare: true })
                .then(([row]) => row.n)
        same(await Promise.all(range(500).map(one)), range(500), 'answers in order')
        const inTransaction = await sql.begin((tx) => range(50).map((n) => tx`select ${n}::int as n`))
        same(inTransaction.map(([row]) => row.n), range(50), 'pipeline in a transaction')
      },
      { max_pipeline: 100 },
    )

  const pooled = () =>
    connected(
      async (sql) => {
        const one = async (n) => (await sql`select ${n}::int as n`)[0].n
        same(await Promise.all(range(500).map(one)), range(500), 'answers')
        await fails(sql`select 1 / 0`, '22012', 'an error in the pool')
        same(await one(1), 1, 'afterwards')
      },
      { max: 20 },
    )

  const hundredAtOnce = () =>
    withTable('many', 'client int, round int', async (owner, table) => {
      const ready = barrier(clients)
      const rounds = async (sql, id) => {
        await sql`select 1`
        await ready()
        for (const round of range(5)) {
          await sql.begin(async (tx) => {
            await tx`insert into ${sql(table)} values (${id}, ${round})`
            const [mine] = await tx.unsafe(`select $1::int + ${id * 1000} as n`, [round], { prepare: true })
            same(mine.n, id * 1000 + round, 'mine')
            const [{ name }] = await tx`select current_setting('application_name') as name`
            same(name, `fc_${run}_${id}`, 'application_name')
          })
          const [{ n }] = await sql`select count(*)::int as n from ${sql(table)} where client = ${id}`
          same(n, round + 1, 'own rows')
        }
      }
      const one = (id) =>
        connected((sql) => rounds(sql, id), { connection: { application_name: `fc_${run}_${id}` } })
      await Promise.all(range(clients).map(one))
      const [{ n }] = await owner`select count(*)::int as n from ${owner(table)}`
      same(n, clients * 5, 'rows of all')
      return `${clients} clients`
    })

  return {
    connect,
    simple_query: simpleQuery,
    transactions,
    prepared,
    prepared_two_connections: preparedTwoConnections,
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
