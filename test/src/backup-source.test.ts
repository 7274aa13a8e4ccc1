/*
 * What a node gives to those who back it up: everything that was applied when they asked, in parts, to one of them at
 * a time, and for no longer than somebody takes it.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BackupError, BackupSource } from '../../src/backup-source.ts'
import { limits } from '../../src/config.ts'
import type { Logger } from '../../src/logger.ts'
import { Session } from '../../src/session.ts'
import { decodeToReceiver, type ToReceiver } from '../../src/snapshot-messages.ts'
import { StateBuild } from '../../storage/state-build.ts'
import { STATE_DATABASES, type StateMeta } from '../../storage/state-meta.ts'
import type { StateStore } from '../../storage/state-store.ts'
import { MemoryEngine } from '../storage/memory-engine.ts'
import { put, startedStore } from '../storage/store-fixture.ts'

const silent: Logger = {
  trace: () => {},
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  fatal: () => {},
  child: () => silent,
}

interface Scene {
  readonly state: StateStore
  readonly source: BackupSource
  /** Why the node is not ready; undefined: it is. */
  unready: string | undefined
  /** The timers that are set: what happens, and after how long. */
  readonly timers: Map<() => void, number>
}

async function scene(): Promise<Scene> {
  const { store: state } = await startedStore(new MemoryEngine())
  const timers = new Map<() => void, number>()
  const made: Scene = {
    state,
    unready: undefined,
    timers,
    source: new BackupSource({
      state,
      log: silent,
      timers: {
        after: (ms, action) => {
          timers.set(action, ms)
          return () => timers.delete(action)
        },
      },
      ready: () => Promise.resolve(made.unready),
      checkpoints: {
        save: async () => {
          await state.checkpoint()
        },
      },
    }),
  }
  return made
}

function session(id: number): Session {
  return new Session({ id, address: `a:${id}`, localAddress: 'b:1', now: 0, authenticated: true })
}

/** Reads a backup to its end and verifies it as any receiver would. */
async function take(source: BackupSource, owner: Session): Promise<StateMeta> {
  const build = new StateBuild(STATE_DATABASES, () => {})
  const types: ToReceiver['type'][] = [decodeToReceiver(await source.begin(owner)).type]
  for (let part = await source.next(owner); part !== undefined; part = await source.next(owner)) {
    const message = decodeToReceiver(part)
    types.push(message.type)
    if (message.type === 'chunk') build.add(Uint8Array.from(message.bytes))
  }
  assert.deepEqual([types[0], types.at(-1)], ['begin', 'end'])
  return build.finish()
}

test('gives all that was applied when it was asked, and what is written meanwhile does not matter', async () => {
  const { source, state } = await scene()
  for (let i = 0; i < 100; i++) put(state, `k${i}`, 'v'.repeat(10_000))
  const owner = session(1)
  const asked = [source.begin(owner), ...Array.from({ length: 8 }, () => source.next(owner))]
  await asked[0]
  put(state, 'later', 'v')
  const parts = await Promise.all(asked)
  const messages = parts.flatMap((part) => (part === undefined ? [] : [decodeToReceiver(part)]))
  const build = new StateBuild(STATE_DATABASES, () => {})
  for (const message of messages) {
    if (message.type === 'chunk') build.add(Uint8Array.from(message.bytes))
  }
  assert.equal(build.finish().index, 101)
  assert.equal(parts.at(-1), undefined, 'behind the end comes nothing')
  assert.equal((await take(source, owner)).index, 102, 'and it may be asked again')
  await source.close()
  await state.close()
})

test('one connection at a time, until it has gone', async () => {
  const { source, state } = await scene()
  const [one, other] = [session(1), session(2)]
  await assert.rejects(source.next(one), BackupError)
  await source.begin(one)
  await assert.rejects(source.begin(other), /another connection/)
  await assert.rejects(source.next(other), BackupError)
  assert.notEqual(await source.next(one), undefined)
  one.isClosed = true
  assert.equal((await take(source, other)).index, 1)
  await source.close()
  await state.close()
})

test('whoever asks for nothing any more is dropped', async () => {
  const { source, state, timers } = await scene()
  const owner = session(1)
  await source.begin(owner)
  assert.deepEqual([...timers.values()], [limits.snapshotPatienceMs])
  for (const action of timers.keys()) action()
  await assert.rejects(source.next(owner), BackupError)
  await take(source, session(2))
  await source.close()
  await state.close()
})

test('no backup of a node that is not ready, or gets another state', async () => {
  const behind = await scene()
  behind.unready = 'no leader'
  await assert.rejects(behind.source.begin(session(1)), /no leader/)
  behind.unready = undefined
  await take(behind.source, session(2))
  const owner = session(3)
  await behind.source.begin(owner)
  behind.source.giveUp()
  await assert.rejects(behind.source.next(owner), BackupError)
})

test('closing waits for a stream that is being opened, and ends it', async () => {
  const { source, state } = await scene()
  const stream = await state.stream(4096)
  let opened = (): void => {}
  let closed = 0
  state.stream = () =>
    new Promise((resolve) => {
      opened = () => resolve({ next: () => stream.next(), close: async () => void closed++ })
    })
  const refused = assert.rejects(source.begin(session(1)), BackupError)
  // A few microtasks: until it has asked for the stream.
  await new Promise((resolve) => setImmediate(resolve))
  const closing = source.close().then(() => assert.equal(closed, 1))
  opened()
  await closing
  await refused
  await stream.close()
  await state.close()
})
