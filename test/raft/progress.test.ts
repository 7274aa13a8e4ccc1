/* One peer's machine by itself: the transitions of the chart in raft/progress.ts, and what must not move it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Progress } from '../../raft/progress.ts'

const limits = { messages: 2, bytes: 100 }

function replicating(match: number): Progress {
  const progress = new Progress(match + 1, limits)
  progress.acknowledged(match)
  return progress
}

test('probing sends one append at a time, until an answer or the answer to a heartbeat', () => {
  const progress = new Progress(8, limits)
  assert.equal(progress.canSend(), true)
  progress.sentProbe()
  assert.equal(progress.canSend(), false)
  assert.equal(progress.heartbeatAnswered(), false)
  assert.equal(progress.canSend(), true)
  progress.sentProbe()
  progress.rejected(7, 3, 5, 0)
  assert.deepEqual([progress.canSend(), progress.next], [true, 4])
  progress.acknowledged(3)
  assert.deepEqual([progress.state, progress.match, progress.next], ['replicate', 3, 4])
})

test('the window closes by messages and by bytes, and an acknowledgement opens it', () => {
  const progress = replicating(3)
  progress.sentEntries(1, 10)
  progress.sentEntries(0, 0)
  assert.equal(progress.canSend(), true)
  progress.sentEntries(2, 10)
  assert.deepEqual([progress.canSend(), progress.next], [false, 7])
  progress.acknowledged(3)
  assert.equal(progress.canSend(), false)
  progress.acknowledged(4)
  assert.equal(progress.canSend(), true)
  progress.sentEntries(1, 200)
  assert.equal(progress.canSend(), false)
  progress.acknowledged(9)
  assert.deepEqual([progress.canSend(), progress.match, progress.next], [true, 9, 10])
})

test('entries are only sent where the logs are known to agree', () => {
  assert.throws(() => new Progress(1, limits).sentEntries(1, 1), /in state probe/)
  assert.throws(() => new Progress(0, limits), /next must be positive/)
})

test('a broken link forgets what was on its way, and keeps the best guess while probing', () => {
  const progress = replicating(3)
  progress.sentEntries(2, 10)
  progress.toProbe()
  assert.deepEqual([progress.state, progress.match, progress.next], ['probe', 3, 4])
  const probing = new Progress(8, limits)
  probing.sentProbe()
  probing.toProbe()
  assert.deepEqual([probing.canSend(), probing.next], [true, 8])
})

test('a stalled peer is noticed at the second heartbeat without progress, an idle one never', () => {
  const idle = replicating(3)
  for (let beat = 0; beat < 3; beat++) assert.equal(idle.heartbeatAnswered(), false)
  const progress = replicating(3)
  progress.heartbeatAnswered()
  progress.sentEntries(1, 1)
  progress.sentEntries(1, 1)
  assert.equal(progress.heartbeatAnswered(), true)
  progress.acknowledged(4)
  assert.equal(progress.heartbeatAnswered(), false, 'something was acknowledged since')
  assert.equal(progress.heartbeatAnswered(), true)
})

test('a rejection while replicating: late ones change nothing, a gap makes it probe at the match', () => {
  const progress = replicating(5)
  progress.sentEntries(3, 10)
  progress.rejected(5, 4, 5, 0)
  progress.rejected(2, 1, 6, 0)
  assert.deepEqual([progress.state, progress.next], ['replicate', 9])
  progress.rejected(8, 5, 5, 0)
  assert.deepEqual([progress.state, progress.next], ['probe', 6])
})

test('a log that ends before its match is asked, and reverted when it rejects its match', () => {
  const progress = replicating(5)
  progress.rejected(3, 1, 2, 0)
  assert.deepEqual([progress.state, progress.reliable], ['probe', 5])
  progress.sentProbe()
  progress.rejected(5, 2, 2, 0)
  assert.deepEqual([progress.state, progress.match, progress.reliable], ['reverted', 5, 0])
  assert.equal(progress.canSend(), false, 'one question per heartbeat')
  progress.toProbe()
  progress.rejected(5, 2, 2, 0)
  assert.equal(progress.state, 'reverted')
  progress.heartbeatAnswered()
  assert.equal(progress.canSend(), true)
  progress.acknowledged(4)
  assert.equal(progress.state, 'reverted', 'an older acknowledgement proves nothing')
  progress.acknowledged(5)
  assert.deepEqual([progress.state, progress.reliable, progress.next], ['replicate', 5, 6])
})

test('no rejection moves next to or below the match, or below the base of the log', () => {
  const progress = new Progress(10, limits)
  progress.rejected(9, 6, 8, 6)
  assert.deepEqual([progress.state, progress.next], ['probe', 7])
  progress.rejected(6, 5, 8, 6)
  assert.deepEqual([progress.state, progress.next], ['reverted', 7])
})
