/*
 * A new connection's state: what HELLO, SELECT and CLIENT start from.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MultiQueue, WatchSet } from '../../src/multi.ts'
import { Session } from '../../src/session.ts'

test('a connection begins in RESP2, in database 0, without names, at the time it was accepted', () => {
  const options = { id: 7, address: 'c:1', localAddress: 's:2', now: 12, authenticated: false }
  const { push, close, ...state } = new Session(options)
  assert.deepEqual([push(null), close()], [undefined, undefined])
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
    waits: new Set(),
    name: '',
    libName: '',
    libVersion: '',
    subscriptions: { channels: new Set(), patterns: new Set() },
    writes: { sent: 0, answered: 0, index: 0 },
    isClosed: false,
    hasFinished: false,
    isMonitor: false,
    isReadonly: false,
    noEvict: false,
    noTouch: false,
    replies: 'on',
    closeAfterReply: false,
    lastCommandAt: 12,
    lastCommand: '',
    inputBytes: 0,
    outputBytes: 0,
    memoryBytes: 0,
    receivedBytes: 0,
    sentBytes: 0,
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

test('RESET makes a session as it was when it began', () => {
  const options = { id: 7, address: 'c:1', localAddress: 's:2', now: 12, authenticated: true }
  const session = new Session(options)
  const text = (one: Session): string => JSON.stringify({ ...one, watches: one.watches.keys })
  const fresh = text(session)
  session.protocol = 3
  session.database = 4
  session.authenticated = false
  session.multi = new MultiQueue()
  session.watches.add({ database: 0, key: Buffer.from('k'), version: 1, isMissing: false })
  session.name = 'n'
  session.isMonitor = true
  session.isReadonly = true
  session.noEvict = true
  session.noTouch = true
  session.replies = 'off'
  session.reset(true)
  assert.equal(text(session), fresh)
})

test('CLIENT REPLY SKIP silences one command, OFF all of them', () => {
  const options = { id: 7, address: 'c:1', localAddress: 's:2', now: 12, authenticated: true }
  const session = new Session(options)
  assert.equal(session.takeMute(), false)
  session.replies = 'skip'
  assert.deepEqual([session.takeMute(), session.takeMute()], [true, false])
  session.replies = 'off'
  assert.deepEqual([session.takeMute(), session.takeMute()], [true, true])
})
