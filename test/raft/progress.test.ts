/* One peer's machine by itself: the transitions of the chart in raft/progress.ts, and what must not move it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Progress } from '../../raft/progress.ts'

const limits = { messages: 2, bytes: 100 }

function replicating(match: number): Progress {
  const progress = new Progress(match + 1, limits)
  progress.acknowledged(match, 0)
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
  progress.acknowledged(3, 0)
  assert.deepEqual([progress.state, progress.match, progress.next], ['replicate', 3, 4])
})

test('the window closes by messages and by bytes, and an acknowledgement opens it', () => {
  const progress = replicating(3)
  progress.sentEntries(1, 10)
  progress.sentEntries(0, 0)
  assert.equal(progress.canSend(), true)
  progress.sentEntries(2, 10)
  assert.deepEqual([progress.canSend(), progress.next], [false, 7])
  progress.acknowledged(3, 0)
  assert.equal(progress.canSend(), false)
  progress.acknowledged(4, 0)
  assert.equal(progress.canSend(), true)
  progress.sentEntries(1, 200)
  assert.equal(progress.canSend(), false)
  progress.acknowledged(9, 0)
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
  progress.acknowledged(4, 0)
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
  progress.acknowledged(4, 0)
  assert.equal(progress.state, 'reverted', 'an older acknowledgement proves nothing')
  progress.acknowledged(5, 0)
  assert.deepEqual([progress.state, progress.reliable, progress.next], ['replicate', 5, 6])
})

test('no rejection moves next to or below the match; one below the base asks for a snapshot', () => {
  const progress = new Progress(10, limits)
  progress.rejected(9, 6, 8, 6)
  assert.deepEqual([progress.state, progress.next], ['probe', 7])
  progress.rejected(6, 5, 8, 6)
  assert.deepEqual([progress.state, progress.takeSnapshotDue()], ['snapshot', true])
  assert.deepEqual([progress.takeSnapshotDue(), progress.canSend()], [false, false], 'asked once')
})

/** A peer that has acknowledged 2, while the log begins after `base`. */
function needsSnapshot(base: number): Progress {
  const progress = replicating(2)
  progress.compacted(base)
  assert.deepEqual([progress.state, progress.takeSnapshotDue()], ['snapshot', true])
  return progress
}

test('a peer whose next entry is gone needs a snapshot, one whose next entry is the first does not', () => {
  const progress = replicating(2)
  progress.sentEntries(3, 10)
  progress.compacted(5)
  assert.equal(progress.state, 'replicate')
  assert.equal(progress.needsFrom, 2)
  progress.compacted(6)
  assert.deepEqual([progress.state, progress.takeSnapshotDue()], ['snapshot', true])
  assert.equal(progress.needsFrom, Number.POSITIVE_INFINITY, 'nothing kept would help it')
})

test('a snapshot pins the log from its index on, until an acknowledgement from there', () => {
  const progress = needsSnapshot(6)
  progress.snapshotBegun(8)
  assert.deepEqual([progress.pinned, progress.needsFrom], [8, 8])
  progress.toProbe()
  progress.heartbeatAnswered()
  progress.acknowledged(5, 6)
  progress.rejected(2, 1, 2, 6)
  assert.deepEqual([progress.state, progress.match, progress.pinned], ['snapshot', 5, 8])
  progress.snapshotEnded(true, 6)
  assert.deepEqual([progress.state, progress.next, progress.canSend()], ['probe', 9, true])
  assert.deepEqual([progress.pinned, progress.needsFrom], [8, 8], 'it may still need what follows')
  progress.acknowledged(8, 8)
  assert.deepEqual([progress.state, progress.next, progress.pinned], ['replicate', 9, undefined])
})

test('an acknowledgement ends a sending that nobody has heard the end of', () => {
  const progress = needsSnapshot(6)
  progress.snapshotBegun(8)
  progress.acknowledged(9, 6)
  assert.deepEqual([progress.state, progress.next, progress.pinned], ['replicate', 10, undefined])
  progress.snapshotEnded(true, 6)
  progress.snapshotBegun(9)
  assert.deepEqual([progress.state, progress.next, progress.pinned], ['replicate', 10, undefined])
})

test('after a snapshot that could not be sent the peer is asked again, once per heartbeat', () => {
  const progress = needsSnapshot(6)
  progress.snapshotBegun(8)
  progress.snapshotEnded(false, 7)
  assert.deepEqual([progress.state, progress.next, progress.pinned], ['probe', 8, undefined])
  assert.equal(progress.canSend(), false, 'not before it has answered a heartbeat')
  progress.heartbeatAnswered()
  assert.equal(progress.canSend(), true)
  progress.sentProbe()
  progress.rejected(7, 2, 2, 7)
  assert.deepEqual([progress.state, progress.takeSnapshotDue()], ['snapshot', true])
})

test('a snapshot that the log has left behind is given up for a newer one', () => {
  const progress = needsSnapshot(6)
  progress.compacted(7)
  assert.equal(progress.takeSnapshotDue(), false, 'it was asked for already')
  progress.snapshotBegun(8)
  progress.compacted(8)
  assert.equal(progress.pinned, 8)
  progress.compacted(9)
  assert.deepEqual([progress.pinned, progress.takeSnapshotDue()], [undefined, true])
  progress.snapshotBegun(9)
  progress.snapshotEnded(true, 10)
  assert.deepEqual([progress.state, progress.takeSnapshotDue()], ['snapshot', true])
})

test('a peer that lost what it acknowledged gets no snapshot, whatever was compacted', () => {
  const progress = replicating(4)
  progress.toProbe()
  progress.rejected(4, 1, 1, 3)
  progress.compacted(6)
  assert.deepEqual([progress.state, progress.next], ['reverted', 7], 'asked where the log begins')
  progress.snapshotEnded(true, 6)
  assert.equal(progress.state, 'reverted')
  progress.acknowledged(5, 6)
  assert.deepEqual([progress.state, progress.next], ['probe', 7], 'it was a false alarm')
  const behind = replicating(4)
  behind.compacted(6)
  behind.snapshotEnded(false, 6)
  behind.rejected(6, 1, 1, 6)
  assert.equal(behind.state, 'reverted', 'its log ends below what it acknowledged')
})
