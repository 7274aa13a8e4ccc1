/*
 * A byte that the disk changes under a running node: it is found, never served, and the node gets the state of another
 * member and goes on, all by itself. The follower first, then the leader.
 */

import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs, successful } from './cluster.ts'
import { turnBit } from './damage.ts'
import { ReplyError, textOf } from './resp-client.ts'
import { type Verdict, Workload } from './workload.ts'

const SOUND: Verdict = { lost: [], happened: [], counter: [] }
const PATIENCE_MS = 30_000
const VALUE = 'a value that nobody else has, in one piece on one page'

function stateFile({ dir }: NodeProcess): string {
  const name = readdirSync(dir).find((entry) => /^state-[0-9]+$/.test(entry))
  assert.ok(name !== undefined)
  return join(dir, name, 'data.mdb')
}

/** The value is in the state that this node has on its disk. */
async function store(cluster: Cluster, node: NodeProcess): Promise<void> {
  successful(await node.ask('SET', 'precious', VALUE))
  await cluster.caughtUp(node)
  successful(await node.ask('SAVE'))
}

/** Anything but the value is an error. */
async function seen(node: NodeProcess): Promise<string | undefined> {
  const reply = await node.ask('GET', 'precious').catch(() => undefined)
  return reply === undefined || reply instanceof ReplyError ? undefined : textOf(reply)
}

describe('a byte flips under a running node', () => {
  for (const role of ['follower', 'leader'] as const) {
    test(`of the ${role}: found by the scrub, never served, replaced`, async (context) => {
      const flags = ['--scrub-bytes-per-second', '64mb']
      const cluster = await Cluster.start({ nodes: 3, flags })
      context.after(() => cluster.end())
      await showingLogs(
        () => cluster,
        async () => {
          const victim = await (role === 'leader' ? cluster.leader() : cluster.follower())
          const before = await victim.status()
          await store(cluster, victim)
          const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 1, name: role })
          workload.start()
          context.after(() => workload.stop())
          turnBit(stateFile(victim), VALUE)
          await victim.prints('the state is damaged: the record of key', PATIENCE_MS)
          const served = new Set<string | undefined>()
          await until(
            'another state',
            async () => {
              served.add(await seen(victim))
              return victim.output.includes('the state of another member was installed')
            },
            PATIENCE_MS,
          )
          await victim.ready(PATIENCE_MS)
          served.add(await seen(victim))
          assert.deepEqual(
            [...served].filter((one) => one !== undefined),
            [VALUE],
          )
          await cluster.caughtUp(victim, PATIENCE_MS)
          await workload.stop()
          for (const node of cluster.nodes) assert.deepEqual(await workload.verify(node), SOUND)
          const after = await victim.status()
          assert.equal(after?.nodeId, before?.nodeId, 'it is the same member as before')
          assert.ok(cluster.running.length === 3, 'no process has ended')
          assert.ok(readdirSync(victim.dir).includes('state-2'))
        },
      )(context)
    })
  }

  test('killed before it has another state, it still serves nothing', async (context) => {
    const flags = ['--scrub-bytes-per-second', '64mb']
    const cluster = await Cluster.start({ nodes: 3, flags })
    context.after(() => cluster.end())
    await showingLogs(
      () => cluster,
      async () => {
        const victim = await cluster.follower()
        await store(cluster, victim)
        const others = cluster.nodes.filter((node) => node !== victim)
        for (const node of others) node.signal('SIGSTOP')
        turnBit(stateFile(victim), VALUE)
        await victim.prints('"msg":"stopped"', PATIENCE_MS)
        victim.signal('SIGKILL')
        await victim.end()
        victim.start()
        await victim.prints('the state was damaged before this start', PATIENCE_MS)
        assert.equal(await seen(victim), undefined)
        for (const node of others) node.signal('SIGCONT')
        await victim.prints('the state of another member was installed', PATIENCE_MS)
        await victim.ready(PATIENCE_MS)
        assert.equal(await seen(victim), VALUE)
      },
    )(context)
  })

  test('the members compare their states, and find them equal', async (context) => {
    const cluster = await Cluster.start({ nodes: 3, flags: ['--digest-interval-ms', '300'] })
    context.after(() => cluster.end())
    await showingLogs(
      () => cluster,
      async () => {
        const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 2, name: 'compared' })
        workload.start()
        context.after(() => workload.stop())
        const counts = (): number[] =>
          cluster.nodes.map(({ output }) => output.split('"msg":"checkpoint"').length - 1)
        await until('some digests', () => counts().every((count) => count >= 5), PATIENCE_MS)
        await workload.stop()
        for (const node of cluster.nodes) {
          assert.deepEqual(await workload.verify(node), SOUND)
          assert.doesNotMatch(node.output, /damaged|differ/)
        }
      },
    )(context)
  })

  test('of the only node: it ends, and says that nobody else has it', async (context) => {
    const cluster = await Cluster.start({ nodes: 1, flags: ['--scrub-bytes-per-second', '64mb'] })
    context.after(() => cluster.end())
    const node = cluster.node(0)
    successful(await node.ask('SET', 'precious', VALUE))
    successful(await node.ask('SAVE'))
    turnBit(stateFile(node), VALUE)
    const ended = await node.end(PATIENCE_MS)
    assert.equal(ended.signal, 'SIGKILL')
    assert.match(
      node.output,
      /the state is damaged: the record of key [0-9a-f]+ is damaged on disk/,
    )
    assert.match(node.output, /no other member has it/)
  })
})
