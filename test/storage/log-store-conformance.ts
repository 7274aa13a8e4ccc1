/*
 * What every LogStore must do, in one suite that runs over each of them and over the cache in front of each. A
 * factory opens a store on something that outlives it, so that reopening is part of the contract.
 */

import assert from 'node:assert/strict'
import { afterEach, beforeEach, describe, it } from 'node:test'
import fc from 'fast-check'
import { AssertionError } from '../../raft/assert.ts'
import { type Entry, entryBytes, type HardState } from '../../raft/types.ts'
import type { SwitchingLog } from '../../storage/log-store.ts'

export interface LogStoreUnderTest {
  readonly store: SwitchingLog
  /** N of the state in force. */
  stateNumber(): number
  /** What is durable about the term and the vote. */
  hardState(): HardState
  /** Closes the store and opens what it left. */
  reopen(): Promise<LogStoreUnderTest>
  /** Closes the store and removes everything. */
  destroy(): Promise<void>
}

export function entryOf(index: number, term: number, bytes = 10): Entry {
  const data = new Uint8Array(bytes).fill(index)
  return { index, term, payload: { type: 'commands', data }, encoded: undefined }
}

export function entriesOf(from: number, to: number, term: number, bytes = 10): Entry[] {
  return Array.from({ length: to - from }, (_, i) => entryOf(from + i, term, bytes))
}

/** Entries by value: index, term and commands. */
function shapes(entries: readonly Entry[]): string[] {
  return entries.map(({ index, term, payload }) => {
    const data = payload.type === 'commands' ? Buffer.from(payload.data).toString('hex') : ''
    return `${index}@${term} ${payload.type} ${data}`
  })
}

const ALL = Number.MAX_SAFE_INTEGER

export function runLogStoreConformance(
  name: string,
  factory: () => Promise<LogStoreUnderTest>,
): void {
  describe(`log store: ${name}`, () => {
    let under: LogStoreUnderTest
    beforeEach(async () => {
      under = await factory()
    })
    afterEach(() => under.destroy())

    const append = (entries: readonly Entry[]): Promise<void> =>
      under.store.persist({ hardState: undefined, entries })

    function assertLog(expected: readonly Entry[]): void {
      const { store } = under
      const base = store.base().index
      assert.equal(store.lastIndex(), base + expected.length)
      assert.deepEqual(
        shapes(store.entries(base + 1, store.lastIndex() + 1, ALL)),
        shapes(expected),
      )
      for (const { index, term } of expected) assert.equal(store.term(index), term)
    }

    it('begins empty', () => {
      const { store } = under
      assert.deepEqual(store.base(), { index: 0, term: 0 })
      assert.equal(store.lastIndex(), 0)
      assert.equal(store.term(0), 0)
      assert.equal(store.term(1), undefined)
      assert.deepEqual(store.entries(1, 1, ALL), [])
      assert.deepEqual(under.hardState(), { term: 0, vote: undefined })
    })

    it('keeps entries of every kind, also over a reopen', async () => {
      const addresses = { peerAddress: 'h:1', clientAddress: 'h:2' }
      const members = [{ id: 'a'.repeat(40), role: 'voter' as const, ...addresses }]
      const entries: Entry[] = [
        {
          index: 1,
          term: 1,
          payload: { type: 'membership', membership: { members } },
          encoded: undefined,
        },
        { index: 2, term: 2, payload: { type: 'noop' }, encoded: undefined },
        entryOf(3, 2, 0),
      ]
      await append(entries)
      assertLog(entries)
      under = await under.reopen()
      assertLog(entries)
      const [first] = under.store.entries(1, 2, ALL)
      assert.deepEqual(first?.payload, { type: 'membership', membership: { members } })
    })

    it('keeps term and vote, alone or with entries', async () => {
      await under.store.persist({ hardState: { term: 3, vote: 'x' }, entries: [] })
      assert.deepEqual(under.hardState(), { term: 3, vote: 'x' })
      await append([entryOf(1, 3)])
      await under.store.persist({
        hardState: { term: 4, vote: undefined },
        entries: [entryOf(2, 4)],
      })
      under = await under.reopen()
      assert.deepEqual(under.hardState(), { term: 4, vote: undefined })
      assertLog([entryOf(1, 3), entryOf(2, 4)])
    })

    it('shows entries only once their persist has resolved', async () => {
      const pending = append(entriesOf(1, 4, 1))
      assert.equal(under.store.lastIndex(), 0)
      assert.equal(under.store.term(1), undefined)
      await pending
      assert.equal(under.store.lastIndex(), 3)
    })

    it('cuts at the first new entry, to a shorter and to a longer log', async () => {
      await append(entriesOf(1, 11, 1))
      await append([entryOf(4, 2)])
      assertLog([...entriesOf(1, 4, 1), entryOf(4, 2)])
      assert.equal(under.store.term(5), undefined)
      await append(entriesOf(3, 20, 3))
      assertLog([...entriesOf(1, 3, 1), ...entriesOf(3, 20, 3)])
      await append(entriesOf(1, 3, 4))
      under = await under.reopen()
      assertLog(entriesOf(1, 3, 4))
    })

    it('replaces entries by entries of a lower term, as long as terms rise', async () => {
      await append([...entriesOf(1, 4, 1), ...entriesOf(4, 7, 5)])
      await append(entriesOf(4, 6, 3))
      assertLog([...entriesOf(1, 4, 1), ...entriesOf(4, 6, 3)])
      under = await under.reopen()
      assertLog([...entriesOf(1, 4, 1), ...entriesOf(4, 6, 3)])
    })

    it('limits reads by bytes, cut after the entry that exceeds them', async () => {
      await append(entriesOf(1, 9, 1, 68))
      const size = entryBytes(entryOf(1, 1, 68))
      const read = (maxBytes: number): number => under.store.entries(2, 9, maxBytes).length
      assert.equal(read(0), 1)
      assert.equal(read(size - 1), 1)
      assert.equal(read(size), 2)
      assert.equal(read(3 * size), 4)
      assert.equal(read(7 * size), 7)
      assert.equal(read(ALL), 7)
      assert.equal(under.store.entries(2, 4, ALL).length, 2)
    })

    it('refuses reads outside the log', async () => {
      await append(entriesOf(1, 10, 1))
      await under.store.compact(4)
      for (const [from, to] of [
        [4, 6],
        [0, 6],
        [5, 11],
        [11, 12],
      ] as const) {
        assert.throws(() => under.store.entries(from, to, ALL), AssertionError, `${from}-${to}`)
      }
      assert.equal(under.store.term(3), undefined)
      assert.equal(under.store.term(4), 1)
      assert.equal(under.store.term(10), undefined)
    })

    it('refuses entries that do not join the log', async () => {
      await append(entriesOf(1, 5, 1))
      await under.store.compact(2)
      for (const entries of [[entryOf(6, 1)], [entryOf(2, 1)], [entryOf(5, 1), entryOf(7, 1)]]) {
        await assert.rejects(append(entries), AssertionError)
      }
    })

    it('compacts, keeps the base and its term, and goes on', async () => {
      await append([...entriesOf(1, 400, 1), ...entriesOf(400, 801, 2)])
      await under.store.compact(0)
      assertLog([...entriesOf(1, 400, 1), ...entriesOf(400, 801, 2)])
      await under.store.compact(399)
      assert.deepEqual(under.store.base(), { index: 399, term: 1 })
      await under.store.compact(700)
      assert.deepEqual(under.store.base(), { index: 700, term: 2 })
      assertLog(entriesOf(701, 801, 2))
      await under.store.compact(800)
      assert.deepEqual(under.store.base(), { index: 800, term: 2 })
      assertLog([])
      under = await under.reopen()
      assert.deepEqual(under.store.base(), { index: 800, term: 2 })
      assertLog([])
      await append(entriesOf(801, 803, 5))
      assertLog(entriesOf(801, 803, 5))
    })

    it('switches to a state and drops a log that does not have its last entry', async () => {
      for (const [stateNumber, last] of [
        [2, { index: 3, term: 2 }],
        [3, { index: 40, term: 2 }],
      ] as const) {
        await append(entriesOf(under.store.lastIndex() + 1, under.store.lastIndex() + 6, 1))
        await under.store.switchState({ stateNumber, last, hardState: { term: 5, vote: 'v' } })
        for (let round = 0; round < 2; round++) {
          assert.deepEqual(under.store.base(), last)
          assertLog([])
          assert.deepEqual(under.hardState(), { term: 5, vote: 'v' })
          assert.equal(under.stateNumber(), stateNumber)
          under = await under.reopen()
        }
        await append([entryOf(last.index + 1, 2)])
        assertLog([entryOf(last.index + 1, 2)])
        await under.store.switchState({
          stateNumber: stateNumber + 7,
          last: { index: last.index + 9, term: 3 },
          hardState: undefined,
        })
        assert.deepEqual(under.hardState(), { term: 5, vote: 'v' })
        await under.destroy()
        under = await factory()
      }
    })

    it('switches to a state and keeps a log that has its last entry', async () => {
      const entries = entriesOf(1, 21, 2)
      await append(entries)
      await under.store.compact(4)
      const last = { index: 11, term: 2 }
      await under.store.switchState({ stateNumber: 2, last, hardState: undefined })
      for (let round = 0; round < 2; round++) {
        assert.deepEqual(under.store.base(), { index: 4, term: 2 })
        assertLog(entries.slice(4))
        assert.equal(under.stateNumber(), 2)
        under = await under.reopen()
      }
      await append(entriesOf(15, 17, 3))
      assertLog([...entries.slice(4, 14), ...entriesOf(15, 17, 3)])
    })

    it('refuses a state that is no new one, or behind its base', async () => {
      await append(entriesOf(1, 9, 1))
      await under.store.compact(4)
      const last = { index: 8, term: 1 }
      const hardState = undefined
      const { store } = under
      await assert.rejects(store.switchState({ stateNumber: 1, last, hardState }), AssertionError)
      const behind = { index: 3, term: 1 }
      await assert.rejects(
        store.switchState({ stateNumber: 2, last: behind, hardState }),
        AssertionError,
      )
      assertLog(entriesOf(5, 9, 1))
    })

    it('does whatever a plain array does', async () => {
      const step = fc.oneof(
        {
          weight: 5,
          arbitrary: fc.record({
            type: fc.constant('append' as const),
            back: fc.nat(4),
            count: fc.nat(6),
            bytes: fc.nat(40),
          }),
        },
        {
          weight: 1,
          arbitrary: fc.record({ type: fc.constant('compact' as const), keep: fc.nat(8) }),
        },
        { weight: 1, arbitrary: fc.record({ type: fc.constant('reopen' as const) }) },
      )
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
          await under.destroy()
          under = await factory()
          let base = 0
          let model: Entry[] = []
          let term = 1
          for (const at of steps) {
            if (at.type === 'append') {
              const from = Math.max(base + 1, base + model.length + 1 - at.back)
              term++
              const entries = entriesOf(from, from + at.count, term, at.bytes)
              await under.store.persist({ hardState: { term, vote: undefined }, entries })
              if (at.count > 0) model = [...model.slice(0, from - base - 1), ...entries]
            } else if (at.type === 'compact') {
              const upTo = Math.max(base, base + model.length - at.keep)
              await under.store.compact(upTo)
              model = model.slice(upTo - base)
              base = upTo
            } else {
              under = await under.reopen()
            }
            assert.equal(under.store.base().index, base)
            assertLog(model)
            const middle = base + 1 + (model.length >> 1)
            const part = under.store.entries(middle, base + model.length + 1, 60)
            assert.deepEqual(
              shapes(part),
              shapes(model.slice(middle - base - 1)).slice(0, part.length),
            )
            assert.ok(part.length > 0 || middle > base + model.length)
          }
        }),
        { numRuns: 25 },
      )
    })
  })
}
