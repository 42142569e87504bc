// usage: TARGET_DSN=postgresql://… [TARGET_CLIENTS=100] node main.js pg|postgres.js

import { runAll } from './scenarios.js'

const programs = { pg: './pg.js', 'postgres.js': './postgres-js.js' }
const driver = process.argv[2]

if (!(driver in programs) || !process.env.TARGET_DSN) {
  console.error('usage: TARGET_DSN=postgresql://… node main.js pg|postgres.js')
  process.exit(2)
}

const dsn = new URL(process.env.TARGET_DSN)
if (!dsn.searchParams.has('sslmode')) dsn.searchParams.set('sslmode', 'disable')

const run = `${process.pid}_${Date.now().toString(36)}`
const clients = Number(process.env.TARGET_CLIENTS ?? 100)
const { scenarios } = await import(programs[driver])
const passed = await runAll(driver, scenarios({ dsn: dsn.href, run, clients }))
process.exit(passed ? 0 : 1)
