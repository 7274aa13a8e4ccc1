/* RAFT's commands that change the members: what they ask of the server, and what they answer. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { CommandError, DataCall, noReply } from '../../src/commands/command.ts'
import { resolve } from '../../src/commands/table.ts'
import { argv, FakeServer, leaderless, wire } from './command-fixture.ts'

const id = 'AB'.repeat(20)

async function raft(server: FakeServer, ...words: string[]): Promise<string> {
  const args = argv(['RAFT', ...words])
  const command = resolve(args)
  if (command instanceof ErrorReply) return wire(command)
  assert.ok(command.kind === 'local')
  try {
    const reply = await command.run(server.connect(), args, server)
    assert.ok(reply !== noReply && !(reply instanceof DataCall))
    return wire(reply)
  } catch (error) {
    assert.ok(error instanceof CommandError)
    return wire(error.reply)
  }
}

test('each asks for one change, and answers with what became of it', async () => {
  const server = new FakeServer()
  for (const words of [
    ['REMOVE', id],
    ['promote', id, 'force'],
    ['Demote', id],
    ['TRANSFER'],
    ['TRANSFER', id],
  ]) {
    assert.equal(await raft(server, ...words), '+OK\r\n')
  }
  const member = id.toLowerCase()
  assert.deepEqual(server.requests, [
    { type: 'remove', id: member, force: false },
    { type: 'promote', id: member, force: true },
    { type: 'demote', id: member, force: false },
    { type: 'transfer', from: 'a'.repeat(40), to: undefined },
    { type: 'transfer', from: 'a'.repeat(40), to: member },
  ])
  server.outcome = { ok: false, text: 'the reason' }
  assert.equal(await raft(server, 'REMOVE', id), '-ERR the reason\r\n')
  assert.equal(await raft(server, 'ADD', 'h:1'), '-ERR the reason\r\n')
})

test('an addition answers with the id of the new member', async () => {
  const server = new FakeServer()
  server.outcome = { ok: true, text: 'e'.repeat(40) }
  assert.equal(await raft(server, 'ADD', 'Host:1', 'learner'), `$40\r\n${'e'.repeat(40)}\r\n`)
  assert.equal(await raft(server, 'ADD', '[::1]:2'), `$40\r\n${'e'.repeat(40)}\r\n`)
  assert.deepEqual(server.requests, [
    { type: 'add', address: 'host:1', learner: true },
    { type: 'add', address: '[::1]:2', learner: false },
  ])
})

test('what names nobody is refused before anybody is asked', async () => {
  const server = new FakeServer()
  for (const words of [
    ['REMOVE', 'x'],
    ['REMOVE', `${id}0`],
    ['PROMOTE', ''],
    ['TRANSFER', '127.0.0.1:1'],
  ]) {
    assert.match(await raft(server, ...words), /^-ERR a member is named by its id, 40 hex digits/)
  }
  for (const words of [
    ['ADD', 'x'],
    ['ADD', 'x:0'],
    ['ADD', ''],
  ]) {
    assert.match(await raft(server, ...words), /^-ERR .* is not host:peerport/)
  }
  for (const words of [
    ['REMOVE', id, 'please'],
    ['ADD', 'h:1', 'force'],
    ['TRANSFER', id, 'force'],
  ]) {
    assert.equal(await raft(server, ...words), '-ERR syntax error\r\n')
  }
  assert.match(await raft(server, 'REMOVE'), /^-ERR wrong number of arguments/)
  server.status = leaderless
  assert.match(await raft(server, 'TRANSFER'), /^-ERR no leader is known/)
  assert.deepEqual(server.requests, [])
})

test('MEMBERS and STATUS show roles, a change that is not over, and a removal', async () => {
  const server = new FakeServer()
  const [first, ...rest] = server.status.members
  assert.ok(first)
  const joining = { ...first, member: { ...first.member, role: 'joining' } as const }
  server.status = { ...server.status, members: [joining, ...rest], changing: true }
  assert.match(await raft(server, 'MEMBERS'), /\$10\r\nmembership\r\n\$7\r\njoining\r\n/)
  assert.match(await raft(server, 'STATUS'), /\$19\r\nmembership_changing\r\n\$3\r\nyes\r\n/)
  assert.doesNotMatch(await raft(server, 'STATUS'), /removed/)
  server.status = { ...server.status, removed: true }
  assert.match(await raft(server, 'STATUS'), /\$7\r\nremoved\r\n\$3\r\nyes\r\n/)
})
