/*
 * What clients may see while nodes and links fail, checked on values that grow: every write appends a token of its
 * own, so the final value of a key is the list of all writes that happened, in their order, and what any client was
 * told can be held against it. It knows no cluster: exchanges go in, the first contradiction comes out as an error.
 */

import assert from 'node:assert/strict'
import type { Exchange, RespConnection, SimReply } from './resp-connection.ts'

export const TOKEN_CHARS = 8

/** The only errors that a fault may turn into, and what they say of the command. */
export function outcome(reply: SimReply | undefined): 'done' | 'unknown' | 'not executed' {
  if (reply === undefined) return 'unknown'
  if (typeof reply !== 'string' || !reply.startsWith('-')) return 'done'
  if (reply.startsWith('-CLUSTERDOWN ')) return 'not executed'
  assert.match(reply, /^-TIMEOUT /)
  return 'unknown'
}

export function tokensOf(value: SimReply | undefined): readonly string[] {
  if (value === null || value === undefined) return []
  assert.ok(typeof value === 'string' && value.length % TOKEN_CHARS === 0, `no tokens: ${value}`)
  return value.match(new RegExp(`.{${TOKEN_CHARS}}`, 'g')) ?? []
}

/**
 * One connection and the keys that only it used: replies pair with their commands, and the commands took effect one
 * after another, each of them once, or not at all where it was told so.
 */
export function checkConnection(
  { exchanges }: RespConnection,
  final: ReadonlyMap<string, SimReply | undefined>,
): void {
  const answered = exchanges.findIndex(({ reply }) => reply === undefined)
  if (answered >= 0) {
    assert.ok(exchanges.slice(answered).every(({ reply }) => reply === undefined))
  }
  for (const { words, reply } of exchanges) {
    if (words[0] === 'ECHO' && reply !== undefined) assert.equal(reply, words[1])
  }
  for (const [key, value] of final) {
    const own = exchanges.filter(({ words }) => words[1] === key)
    if (own.some(({ words }) => words[0] === 'INCR')) checkCounter(own, value)
    else checkList(own, tokensOf(value))
  }
}

/**
 * The own list. A read sees everything that was acknowledged or read before it and nothing that was sent after it;
 * of the writes of unknown outcome between, it sees those that have happened by then: they may still happen later.
 */
function checkList(exchanges: readonly Exchange[], final: readonly string[]): void {
  const sent = exchanges.flatMap(({ words }) => (words[0] === 'APPEND' ? [words[2]] : []))
  const happened = sent.filter((token) => final.includes(token ?? ''))
  assert.deepEqual(final, happened, 'every write once, in the order in which they were sent')
  let known = 0
  let possible = 0
  for (const { words, reply } of exchanges) {
    const at: number = words[0] === 'APPEND' ? final.indexOf(words[2] ?? '') : -1
    const result = outcome(reply)
    possible = Math.max(possible, at + 1)
    if (words[0] === 'APPEND') {
      if (result === 'done') {
        assert.ok(at >= 0, `${words[2]} was acknowledged with ${reply} and lost`)
        assert.equal(reply, (at + 1) * TOKEN_CHARS)
        known = at + 1
      } else if (result === 'not executed') {
        assert.equal(at, -1, `${words[2]} was told not to be executed: ${reply}`)
      }
    } else if (result === 'done') {
      const seen = tokensOf(reply)
      assert.deepEqual(seen, final.slice(0, seen.length), `${words.join(' ')} of ${final}`)
      const text = `${words.join(' ')} sees ${seen.length} of ${known} to ${possible}`
      assert.ok(seen.length >= known && seen.length <= possible, text)
      known = seen.length
    }
  }
}

/** The own counter: as many as were acknowledged, and those of unknown fate once at most. */
function checkCounter(exchanges: readonly Exchange[], final: SimReply | undefined): void {
  const count = (wanted: string): number =>
    exchanges.filter(({ reply }) => outcome(reply) === wanted).length
  const value = Number(final ?? 0)
  const text = `${value} after ${count('done')} done, ${count('unknown')} unknown`
  assert.ok(value >= count('done') && value <= count('done') + count('unknown'), text)
  const replies = exchanges.flatMap(({ reply }) => (typeof reply === 'number' ? [reply] : []))
  assert.deepEqual(
    replies,
    replies.toSorted((a, b) => a - b),
  )
  assert.equal(new Set(replies).size, replies.length)
}

/**
 * A list that all connections append to and read: linearizable. Every operation has a place in the order of the
 * final list; whatever began after another had ended must not come before it.
 */
export function checkShared(exchanges: readonly Exchange[], final: readonly string[]): void {
  assert.equal(new Set(final).size, final.length, 'no write happened twice')
  const done: { from: number; to: number; place: number; words: readonly string[] }[] = []
  for (const { words, reply, sentAt, repliedAt } of exchanges) {
    const at = words[0] === 'APPEND' ? final.indexOf(words[2] ?? '') : -1
    const result = outcome(reply)
    if (words[0] === 'APPEND' && result === 'not executed') assert.equal(at, -1, `${words[2]}`)
    if (result !== 'done') continue
    if (words[0] === 'APPEND') {
      assert.ok(at >= 0, `${words[2]} was acknowledged and lost`)
      assert.equal(reply, (at + 1) * TOKEN_CHARS)
      done.push({ from: sentAt, to: repliedAt, place: at + 1, words })
    } else {
      const seen = tokensOf(reply)
      assert.deepEqual(seen, final.slice(0, seen.length), 'a read sees a prefix')
      done.push({ from: sentAt, to: repliedAt, place: seen.length, words })
    }
  }
  const ended = done.toSorted((a, b) => a.to - b.to)
  let floor = 0
  let next = 0
  for (const operation of done.toSorted((a, b) => a.from - b.from)) {
    while (next < ended.length && (ended[next]?.to ?? 0) < operation.from) {
      floor = Math.max(floor, ended[next++]?.place ?? 0)
    }
    const text = `${operation.words.join(' ')} at ${operation.from} is at place ${operation.place}`
    assert.ok(operation.place >= floor, `${text}, after one at place ${floor} had ended`)
  }
}
