/*
 * A log whose every entry follows from its index, and a plain model of the state that it leads to: whoever holds a
 * prefix of it, whatever crashed in between, can be compared with the model at that index.
 */

import { assert } from '../../raft/assert.ts'
import type { Entry } from '../../raft/types.ts'
import { decodeCommands, encodeCommands, type LoggedCommand } from '../../storage/codec.ts'
import type { StateStore } from '../../storage/state-store.ts'

const HASH_KEY = Buffer.from('01234567')
const KEYS = 60
const TERM_ENTRIES = 40

/** Entry `index` of the one log: the hash key first, then writes to a few databases, now and then a flush. */
export function entryAt(index: number): Entry {
  const random = generator(index)
  const commands: LoggedCommand[] = []
  if (index === 1) commands.push(command(0, 'HASHKEY', HASH_KEY))
  for (let left = 1 + random(4); left > 0; left--) {
    const key = `${'k'.repeat(random(3) === 0 ? 2000 : 1)}${random(KEYS)}`
    const database = random(3)
    const dice = random(40)
    if (dice === 0) commands.push(command(database, 'FLUSH'))
    else if (dice < 10) commands.push(command(database, 'DEL', Buffer.from(key)))
    else commands.push(command(database, 'SET', Buffer.from(key), Buffer.alloc(random(300), index)))
  }
  const payload = { type: 'commands', data: encodeCommands(index * 10, commands) } as const
  return { index, term: 1 + Math.floor(index / TERM_ENTRIES), payload, encoded: undefined }
}

export function applyTo(state: StateStore, entry: Entry): void {
  const { index, term, payload } = entry
  assert(payload.type === 'commands', () => payload.type)
  const { at, commands } = decodeCommands(payload.data)
  for (const { database, argv } of commands) {
    const [name, key, value] = argv
    const text = Buffer.from(key ?? []).toString('latin1')
    switch (Buffer.from(name ?? []).toString()) {
      case 'HASHKEY':
        state.setHashKey(key ?? new Uint8Array(0))
        break
      case 'SET':
        state.put(database, text, {
          type: 'string',
          expireAt: 0,
          version: index,
          value: value ?? new Uint8Array(0),
        })
        break
      case 'DEL':
        state.delete(database, text)
        break
      default:
        state.clear(database)
    }
  }
  state.commitEntry({ index, term, clock: at })
}

/** Throws unless the state is exactly what the first `state.appliedIndex()` entries make of it. */
export function assertState(state: StateStore): void {
  const databases = Array.from({ length: 3 }, () => new Map<string, string>())
  for (let index = 1; index <= state.appliedIndex(); index++) {
    const { payload } = entryAt(index)
    assert(payload.type === 'commands', () => payload.type)
    for (const { database, argv } of decodeCommands(payload.data).commands) {
      const [name, key, value] = argv.map((argument) => Buffer.from(argument).toString('latin1'))
      if (name === 'SET') databases[database]?.set(key ?? '', `${index} ${value}`)
      else if (name === 'DEL') databases[database]?.delete(key ?? '')
      else if (name === 'FLUSH') databases[database]?.clear()
    }
  }
  for (const [database, model] of databases.entries()) {
    assert(state.size(database) === model.size, () => {
      return `database ${database} has ${state.size(database)} keys, not ${model.size}`
    })
    for (let i = 0; i < KEYS; i++) {
      for (const key of [`k${i}`, `${'k'.repeat(2000)}${i}`]) {
        const found = state.get(database, key)
        const text = found && `${found.version} ${Buffer.from(found.value).toString('latin1')}`
        assert(text === model.get(key), () => `${key.length} ${i}: ${text}, not ${model.get(key)}`)
      }
    }
  }
}

function command(database: number, name: string, ...argv: Uint8Array[]): LoggedCommand {
  return { database, argv: [Buffer.from(name), ...argv] }
}

/** Integers below a limit from a seed (xorshift32 over a scrambled seed). */
function generator(seed: number): (limit: number) => number {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1
  return (limit) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % limit
  }
}
