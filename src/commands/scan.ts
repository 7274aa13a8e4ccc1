/*
 * The commands that look through a whole database. A SCAN cursor is the position after the last key visited: it is
 * kept nowhere, so any node can go on with it at any time, and a key that is there from the first page to the last is
 * on one of them, because its position never changes. KEYS over many keys runs in slices.
 */

import { Buffer } from 'node:buffer'
import type { Reply } from '../../resp/encoder.ts'
import { POSITIONS } from '../../storage/layout.ts'
import type { StoredValue } from '../../storage/state-store.ts'
import { argument, clampToSafe, isWord, keyOf, parseInt64 } from './arguments.ts'
import type { Args, Command, ReadDatabase, Slices } from './command.ts'
import { CommandError, inOneGo, notAnInteger, SLICE_WORK, syntaxError } from './command.ts'
import { GlobMatch, globMatches, globSteps, patternOf } from './glob.ts'

/** Redis' own. */
const SCAN_COUNT = 10
/** COUNT is a hint: a page looks at no more keys than these. */
const SCAN_COUNT_MAX = 10_000
const UINT64_MAX = 2n ** 64n - 1n
/** Matching in steps of about so many, and how many of them are as much work as looking at a key. */
const MATCH_STEPS_MAX = 500_000
const MATCH_STEPS_PER_WORK = 500
/** RANDOMKEY looks at so many keys in so many places before it takes what is left for due. */
const RANDOM_PROBES = 32
const RANDOM_SKIP = 32

const invalidCursor = new CommandError('ERR invalid cursor')

/** What has been looked at since a read gave way, and what it found. */
class Page {
  readonly #pattern: string | undefined
  readonly found: Buffer[] = []
  /** Keys that take so long to match that the match itself must give way. */
  readonly #heavy: string[] = []
  #work = 0
  seen = 0

  constructor(pattern: string | undefined) {
    this.#pattern = pattern
  }

  get isFull(): boolean {
    return this.#work >= SLICE_WORK || this.#heavy.length > 0
  }

  /** `key` is undefined for one that is due. */
  look(key: string | undefined): void {
    this.seen++
    this.#work++
    if (key === undefined) return
    if (this.#pattern === undefined) {
      this.#take(key)
      return
    }
    const steps = globSteps(this.#pattern, key)
    this.#work += steps / MATCH_STEPS_PER_WORK
    if (steps > MATCH_STEPS_MAX) this.#heavy.push(key)
    else if (globMatches(this.#pattern, key)) this.#take(key)
  }

  *settle(): Generator<readonly Reply[], void> {
    for (const key of this.#heavy) {
      const match = new GlobMatch(this.#pattern ?? '', key)
      let matches = match.advance(MATCH_STEPS_MAX)
      for (; matches === undefined; matches = match.advance(MATCH_STEPS_MAX)) yield []
      if (matches) this.#take(key)
    }
  }

  #take(key: string): void {
    this.found.push(Buffer.from(key, 'latin1'))
  }
}

/** A pattern of nothing but a star is none. */
function patternArgument(bytes: Uint8Array): string | undefined {
  const pattern = patternOf(bytes)
  return pattern === '*' ? undefined : pattern
}

/** Looks at keys from `from` on, until `stop` says so at the end of a position; gives where to go on, 0 at the end. */
function visitKeys(
  db: ReadDatabase,
  from: number,
  visit: (key: string | undefined, load: () => StoredValue) => void,
  stop: () => boolean,
): number {
  let last = -1
  let next = 0
  db.scan(from, (position, key, load) => {
    // A page never ends inside equal positions: the rest of them would be skipped.
    if (position !== last && last >= 0 && stop()) {
      next = last + 1
      return false
    }
    last = position
    visit(key, load)
    return true
  })
  return next
}

function* keys(db: ReadDatabase, args: Args): Slices {
  const pattern = patternArgument(argument(args, 1))
  let from = 0
  for (;;) {
    const page = new Page(pattern)
    from = visitKeys(
      db,
      from,
      (key) => page.look(key),
      () => page.isFull,
    )
    yield* page.settle()
    if (from === 0) return { elements: page.found }
    yield page.found
  }
}

function* scan(db: ReadDatabase, args: Args): Slices {
  let next = cursorOf(argument(args, 1))
  const { count, pattern, type } = scanOptions(args)
  const found: Buffer[] = []
  let left = count
  do {
    const page = new Page(pattern)
    next = visitKeys(
      db,
      next,
      (key, load) => {
        const wanted = key === undefined || type === undefined || isWord(type, load().type)
        page.look(wanted ? key : undefined)
      },
      () => page.seen >= left || page.isFull,
    )
    yield* page.settle()
    found.push(...page.found)
    left -= page.seen
    if (next !== 0 && left > 0) yield []
  } while (next !== 0 && left > 0)
  return { reply: [String(next), found] }
}

/**
 * As C's strtoul reads it: an empty text is 0, and a minus counts from 2^64 down. What is beyond every position is the
 * end.
 */
function cursorOf(bytes: Uint8Array): number {
  const text = keyOf(bytes)
  const nul = text.indexOf('\0')
  const [, sign, digits] =
    /^([+-]?)0*([0-9]{0,20})$/.exec(nul < 0 ? text : text.slice(0, nul)) ?? []
  if (digits === undefined || (sign !== '' && text.length === 1)) throw invalidCursor
  const cursor = BigInt(digits)
  if (cursor > UINT64_MAX) throw invalidCursor
  return sign === '-' && cursor > 0n ? POSITIONS : Math.min(Number(cursor), POSITIONS)
}

interface ScanOptions {
  readonly count: number
  readonly pattern: string | undefined
  /** The name of a type; of one that there is not, there are no keys. */
  readonly type: Uint8Array | undefined
}

function scanOptions(args: Args): ScanOptions {
  let count = SCAN_COUNT
  let pattern: string | undefined
  let type: Uint8Array | undefined
  for (let i = 2; i < args.length; i += 2) {
    const option = argument(args, i)
    const value = args[i + 1]
    if (value === undefined) throw syntaxError
    if (isWord(option, 'count')) {
      const number = parseInt64(value)
      if (number === undefined) throw notAnInteger
      if (number < 1) throw syntaxError
      count = Math.min(clampToSafe(number), SCAN_COUNT_MAX)
    } else if (isWord(option, 'match')) pattern = patternArgument(value)
    else if (isWord(option, 'type')) type = value
    else throw syntaxError
  }
  return { count, pattern, type }
}

/** Some key: of a small database any with the same chance, of a larger one any near a random position. */
function randomkey(db: ReadDatabase): Reply {
  const size = db.size()
  if (size === 0) return null
  const skips = Math.min(size, RANDOM_SKIP)
  let first = 0
  db.scan(0, (position) => {
    first = position
    return false
  })
  // Keys may all lie close together: the range in which to look shrinks to where they are.
  let end = size <= RANDOM_SKIP ? first : POSITIONS
  for (let probe = 0; probe < RANDOM_PROBES; probe++) {
    const from = first + Math.floor(db.random() * (end - first))
    const { key, isEnd } = someKey(db, from, Math.floor(db.random() * skips))
    if (key !== undefined) return Buffer.from(key, 'latin1')
    if (isEnd) end = from
  }
  return null
}

/**
 * The key that follows `skip` others from a position on, or the last one before that; `isEnd`: there is none, due or
 * not.
 */
function someKey(
  db: ReadDatabase,
  from: number,
  skip: number,
): { key: string | undefined; isEnd: boolean } {
  let found: string | undefined
  let seen = 0
  db.scan(from, (_position, key) => {
    found = key ?? found
    seen++
    return seen <= skip || (found === undefined && seen < 2 * RANDOM_SKIP)
  })
  return { key: found, isEnd: seen === 0 }
}

export const scanCommands: readonly Command[] = [
  {
    name: 'keys',
    arity: 2,
    flags: [],
    categories: ['keyspace', 'dangerous'],
    doc: {
      summary: 'Returns every key that matches a pattern.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(N) where N is the number of keys in the database.',
      arguments: [{ name: 'pattern', type: 'pattern' }],
    },
    kind: 'read',
    run: (db, args) => inOneGo(keys(db, args)),
    slices: keys,
  },
  {
    name: 'randomkey',
    arity: 1,
    flags: [],
    categories: ['keyspace'],
    doc: {
      summary: 'Returns some key.',
      since: '1.0.0',
      group: 'generic',
      complexity: 'O(1)',
    },
    kind: 'read',
    run: randomkey,
  },
  {
    name: 'scan',
    arity: -2,
    flags: [],
    categories: ['keyspace'],
    doc: {
      summary: 'Returns some of the keys and where to go on.',
      since: '2.8.0',
      group: 'generic',
      complexity: 'O(N) where N is COUNT.',
      arguments: [
        { name: 'cursor', type: 'integer' },
        { name: 'pattern', type: 'pattern', token: 'MATCH', optional: true },
        { name: 'count', type: 'integer', token: 'COUNT', optional: true },
        { name: 'type', type: 'string', token: 'TYPE', since: '6.0.0', optional: true },
      ],
    },
    kind: 'read',
    run: (db, args) => inOneGo(scan(db, args)),
    slices: scan,
  },
]
