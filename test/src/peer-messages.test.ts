/* Notes as bytes: what one side says is what the other reads; whatever is no note is refused. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MembershipRequest } from '../../src/membership-plan.ts'
import { decodeNote, encodeNote, type Note } from '../../src/peer-messages.ts'
import { encodeFrame } from '../../storage/codec.ts'

const id = (letter: string): string => letter.repeat(40)
const unsaid = { replaces: undefined, level: undefined }
const newcomer = { id: id('a'), peerAddress: 'host:1', clientAddress: 'host:2' }

test('wishes about the members arrive as they were told', () => {
  const requests: readonly MembershipRequest[] = [
    { type: 'add', address: 'host:1', learner: true },
    { type: 'admit', newcomer: { ...newcomer, ...unsaid }, learner: false },
    { type: 'admit', newcomer: { ...newcomer, ...unsaid, replaces: id('b') }, learner: true },
    { type: 'admit', newcomer: { ...newcomer, ...unsaid, level: 3 }, learner: true },
    { type: 'admit', newcomer: { ...newcomer, replaces: id('b'), level: 3 }, learner: false },
    { type: 'remove', id: 'b', force: false },
    { type: 'promote', id: 'b', force: true },
    { type: 'demote', id: 'b', force: false },
    { type: 'transfer', from: 'a', to: undefined },
    { type: 'transfer', from: 'a', to: 'b' },
  ]
  for (const request of requests) {
    const note: Note = { type: 'membership-asked', number: 7, request }
    assert.deepEqual(decodeNote(encodeNote(note)), note)
  }
})

test('an admission that replaces nobody and tells no level has the form of earlier builds', () => {
  const request = { type: 'admit', newcomer, learner: false } as const
  const bytes = encodeNote({ type: 'membership-asked', number: 7, request })
  const { id, peerAddress, clientAddress } = newcomer
  const fields = ['admit', id, peerAddress, clientAddress, false]
  assert.deepEqual(bytes, encodeFrame(['membership-asked', 7, fields]))
})

test('an admission with something behind it is no note', () => {
  const { id, peerAddress, clientAddress } = newcomer
  for (const rest of [[7], ['c'.repeat(65)], ['c', 'd'], ['c', 1, 2], [null, 1.5]]) {
    const fields = ['admit', id, peerAddress, clientAddress, false, ...rest]
    assert.throws(() => decodeNote(encodeFrame(['membership-asked', 7, fields])), {
      code: 'BADMESSAGE',
    })
  }
})
