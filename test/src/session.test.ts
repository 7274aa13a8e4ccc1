/*
 * A new connection's state: what HELLO, SELECT and CLIENT start from.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WatchSet } from '../../src/multi.ts'
import { Session } from '../../src/session.ts'

test('a connection begins in RESP2, in database 0, without names, at the time it was accepted', () => {
  const options = { id: 7, address: 'c:1', localAddress: 's:2', now: 12, authenticated: false }
  const { push, ...state } = new Session(options)
  assert.equal(push(null), undefined)
  assert.deepEqual(state, {
    id: 7,
    address: 'c:1',
    localAddress: 's:2',
    createdAt: 12,
    protocol: 2,
    authenticated: false,
    database: 0,
    multi: undefined,
    watches: new WatchSet(),
    mayWait: true,
    name: '',
    libName: '',
    libVersion: '',
    subscriptions: { channels: new Set(), patterns: new Set() },
    writes: { sent: 0, answered: 0, index: 0 },
    isClosed: false,
    closeAfterReply: false,
    lastCommandAt: 12,
    lastCommand: '',
    inputBytes: 0,
    outputBytes: 0,
  })
})

test('a copy decides as the session does, and leaves it as it is', () => {
  const session = new Session({
    id: 7,
    address: 'c:1',
    localAddress: 's:2',
    now: 12,
    authenticated: true,
  })
  session.protocol = 3
  session.database = 5
  const copy = session.copy()
  assert.deepEqual([copy.protocol, copy.database, copy.authenticated], [3, 5, true])
  copy.protocol = 2
  copy.database = 6
  assert.deepEqual([session.protocol, session.database], [3, 5])
})
