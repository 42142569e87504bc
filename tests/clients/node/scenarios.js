// Runs named scenarios and prints one JSON line for each.

import { setTimeout as delay } from 'node:timers/promises'

const SCENARIO_SECONDS = 30

export function check(condition, message) {
  if (!condition) throw new Error(message)
}

export function same(actual, expected, what) {
  const [got, wanted] = [JSON.stringify(actual), JSON.stringify(expected)]
  check(got === wanted, `${what}: got ${shorten(got)}, expected ${shorten(wanted)}`)
}

/** Resolves with the error that `promise` fails with; fails unless its SQLSTATE is `code`. */
export async function fails(promise, code, what) {
  const error = await promise.then(() => null, (reason) => reason)
  check(error !== null, `${what}: no error, expected ${code}`)
  check(error.code === code, `${what}: ${error.code} ${error.message}, expected ${code}`)
  return error
}

export async function until(condition, what) {
  for (let attempt = 0; attempt < 1000; attempt++) {
    if (await condition()) return
    await delay(10)
  }
  throw new Error(`waited 10 s in vain: ${what}`)
}

export function range(count) {
  return Array.from({ length: count }, (_, index) => index)
}

/** Releases everybody once `count` callers wait. */
export function barrier(count) {
  let open
  const opened = new Promise((resolve) => (open = resolve))
  return () => {
    if (--count === 0) open()
    return opened
  }
}

function shorten(text) {
  return text && text.length > 200 ? `${text.slice(0, 200)}… (${text.length})` : text
}

function explain(error) {
  const at = (error.stack ?? '').split('\n').find((line) => /\/(pg|postgres-js|scenarios)\.js:/.test(line))
  return `${error.code ?? error.name}: ${error.message}${at ? ` ${at.trim()}` : ''}`
}

async function outcome(run) {
  const limit = new AbortController()
  const late = delay(SCENARIO_SECONDS * 1000, null, { signal: limit.signal }).then(() => {
    throw new Error(`not finished after ${SCENARIO_SECONDS} s`)
  })
  late.catch(() => {})
  try {
    return { ok: true, detail: (await Promise.race([run(), late])) ?? '' }
  } catch (error) {
    return { ok: false, detail: explain(error) }
  } finally {
    limit.abort()
  }
}

/** Runs each of `scenarios` in order; resolves with whether all passed. */
export async function runAll(driver, scenarios) {
  let passed = true
  for (const [scenario, run] of Object.entries(scenarios)) {
    const { ok, detail } = await outcome(run)
    console.log(JSON.stringify({ driver, scenario, ok, detail }))
    passed &&= ok
  }
  return passed
}
