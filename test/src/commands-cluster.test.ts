/*
 * CLUSTER byte by byte, as shared/clients.md 2.1 lists it, in RESP2 and RESP3: each client library takes these replies
 * apart by place, so a field that moves breaks it silently.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { DataCall, noReply } from '../../src/commands/command.ts'
import type { RaftStatus } from '../../src/commands/local-server.ts'
import { resolve } from '../../src/commands/table.ts'
import { argv, FakeServer, following, leaderless, leading, wire } from './command-fixture.ts'

const A = 'a'.repeat(40)
const B = 'b'.repeat(40)
const C = 'c'.repeat(40)

/** What this node answers to `CLUSTER <words>`, with line ends as '|'. */
async function asked(
  status: RaftStatus,
  protocol: 2 | 3,
  ...words: readonly string[]
): Promise<string> {
  const server = new FakeServer()
  server.status = status
  const session = server.connect()
  session.protocol = protocol
  const args = argv(['CLUSTER', ...words])
  const command = resolve(args)
  assert.ok(!(command instanceof ErrorReply) && command.kind === 'local')
  const reply = await command.run(session, args, server)
  assert.ok(!(reply instanceof DataCall) && reply !== noReply)
  return wire(reply, protocol).replaceAll('\r\n', '|')
}

/** A bulk string. */
function bulk(text: string): string {
  return `$${text.length}|${text}|`
}

/** Names and values, each value as it is on the wire. */
function map(protocol: 2 | 3, pairs: readonly (readonly [string, string])[]): string {
  const head = protocol === 3 ? `%${pairs.length}|` : `*${pairs.length * 2}|`
  return head + pairs.map(([name, value]) => bulk(name) + value).join('')
}

for (const protocol of [2, 3] as const) {
  const none = protocol === 3 ? '%0|' : '*0|'
  const nodeA = `*4|${bulk('10.0.0.1')}:6379|${bulk(A)}${none}`
  const nodeB = `*4|${bulk('::1')}:6380|${bulk(B)}${none}`
  const nodeC = `*4|${bulk('10.0.0.3')}:6381|${bulk(C)}${none}`
  const text = (body: string): string =>
    protocol === 3 ? `=${body.length + 4}|txt:${body}|` : bulk(body)

  test(`CLUSTER SLOTS in RESP${protocol}: one range, the leader is its first node`, async () => {
    const range = '*1|*5|:0|:16383|'
    assert.equal(await asked(leading, protocol, 'SLOTS'), range + nodeA + nodeB + nodeC)
    assert.equal(await asked(following, protocol, 'SLOTS'), range + nodeB + nodeA + nodeC)
    const known = { ...leaderless, lastLeader: following.leader }
    assert.equal(await asked(known, protocol, 'SLOTS'), range + nodeB + nodeA + nodeC)
    assert.equal(await asked({ ...leaderless, lastLeader: undefined }, protocol, 'SLOTS'), '*0|')
  })

  test(`CLUSTER SHARDS in RESP${protocol}: one shard, its slots and its nodes`, async () => {
    const shard = (id: string, host: string, port: number, rest: readonly string[]): string => {
      const [role = '', offset = '', health = ''] = rest
      return map(protocol, [
        ['id', bulk(id)],
        ['port', `:${port}|`],
        ['ip', bulk(host)],
        ['endpoint', bulk(host)],
        ['role', bulk(role)],
        ['replication-offset', `:${offset}|`],
        ['health', bulk(health)],
      ])
    }
    const nodes = [
      shard(A, '10.0.0.1', 6379, ['master', '41', 'online']),
      shard(B, '::1', 6380, ['replica', '40', 'online']),
      shard(C, '10.0.0.3', 6381, ['replica', '12', 'fail']),
    ]
    const expected = map(protocol, [
      ['slots', '*2|:0|:16383|'],
      ['nodes', `*3|${nodes.join('')}`],
    ])
    assert.equal(await asked(leading, protocol, 'SHARDS'), `*1|${expected}`)
    assert.equal(await asked({ ...leaderless, lastLeader: undefined }, protocol, 'SHARDS'), '*0|')
  })

  test(`CLUSTER NODES in RESP${protocol}: one line each, slots at the leader only`, async () => {
    const whole = text(
      `${A} 10.0.0.1:6379@16379 myself,master - 0 0 7 connected 0-16383\n` +
        `${B} ::1:6380@16380 slave ${A} 0 1699999998623 7 connected\n` +
        `${C} 10.0.0.3:6381@16381 slave,fail ${A} 0 1699999910123 7 disconnected\n`,
    )
    assert.equal(await asked(leading, protocol, 'NODES'), whole)
    const followers = text(
      `${B} ::1:6380@16380 master - 0 1699999998623 7 connected 0-16383\n` +
        `${A} 10.0.0.1:6379@16379 myself,slave ${B} 0 0 7 connected\n` +
        `${C} 10.0.0.3:6381@16381 slave,fail ${B} 0 0 7 disconnected\n`,
    )
    assert.equal(await asked(following, protocol, 'NODES'), followers)
  })

  test(`CLUSTER INFO in RESP${protocol}`, async () => {
    const body = (state: string, ok: number): string =>
      [
        `cluster_state:${state}`,
        'cluster_slots_assigned:16384',
        `cluster_slots_ok:${ok}`,
        'cluster_slots_pfail:0',
        `cluster_slots_fail:${16_384 - ok}`,
        'cluster_known_nodes:3',
        'cluster_size:1',
        'cluster_current_epoch:7',
        'cluster_my_epoch:7',
      ]
        .map((line) => `${line}\r\n`)
        .join('')
    const shown = (lines: string): string => text(lines).replaceAll('\r\n', '|')
    assert.equal(await asked(leading, protocol, 'INFO'), shown(body('ok', 16_384)))
    assert.equal(await asked(leaderless, protocol, 'INFO'), shown(body('fail', 0)))
  })

  test(`CLUSTER MYID, MYSHARDID, KEYSLOT and LINKS in RESP${protocol}`, async () => {
    assert.equal(await asked(following, protocol, 'MYID'), bulk(A))
    assert.equal(await asked(following, protocol, 'MYSHARDID'), bulk('f'.repeat(40)))
    assert.equal(await asked(following, protocol, 'KEYSLOT', '123456789'), ':12739|')
    assert.equal(await asked(following, protocol, 'KEYSLOT', '{tag}key'), ':8338|')
    assert.equal(await asked(following, protocol, 'LINKS'), '*0|')
  })
}
