/*
 * Backing up and restoring with real processes: everything that was acknowledged before the backup is in it, while
 * writes go on; what is restored is a cluster of its own; and whatever is not right is one clear line.
 */

import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { Child, temporaryDirectory, until } from '../processes.ts'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { textOf } from './resp-client.ts'
import { type Verdict, Workload } from './workload.ts'

const SOUND: Verdict = { lost: [], happened: [], counter: [] }
const COMMAND_MS_MAX = 30_000
/** More than one chunk of the stream. */
const LARGE = 'x'.repeat(600_000)

interface Result {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function holdfast(context: TestContext, ...args: readonly string[]): Promise<Result> {
  const child = new Child(context, 'src/main.js', args)
  const { code } = await child.end(COMMAND_MS_MAX)
  return { code, stdout: child.stdout, stderr: child.stderr }
}

/** Exit code 1, and one line that says why. */
function assertRefused({ code, stdout, stderr }: Result, why: RegExp): void {
  assert.equal(code, 1, stderr)
  assert.equal(stdout, '')
  assert.match(stderr, /^holdfast: [^\n]+\n$/)
  assert.match(stderr, why)
}

function addressOf({ host, port }: NodeProcess): string {
  return `${host}:${port}`
}

/** Where a node lies and what it is called, as options. */
function placeOf({ port, peerPort, dir }: NodeProcess): readonly string[] {
  return ['--dir', dir, '--port', `${port}`, '--peer-port', `${peerPort}`]
}

describe('backup and restore', () => {
  test('what was acknowledged is in it, and it is the state of a new cluster', async (context) => {
    const cluster = await Cluster.start({ nodes: 3 })
    context.after(() => cluster.end())
    const fresh = await Cluster.prepare({ nodes: 1 })
    context.after(() => fresh.end())
    await showingLogs(
      () => cluster,
      async () => {
        const follower = await cluster.follower()
        const earlier = new Workload({ nodes: cluster.nodes, writersPerNode: 2, name: 'earlier' })
        earlier.start()
        await until('some writes', () => earlier.acknowledged >= 100, COMMAND_MS_MAX)
        await earlier.stop()
        await follower.ask('SET', 'large', LARGE)
        await follower.ask('SET', 'expires', 'later', 'EX', '1000')
        const during = new Workload({ nodes: cluster.nodes, writersPerNode: 2, name: 'during' })
        during.start()
        const file = join(temporaryDirectory(context), 'backup')
        const backup = await holdfast(context, 'backup', '--from', addressOf(follower), file)
        assert.deepEqual([backup.code, backup.stderr], [0, ''])
        assert.match(backup.stdout, /backup holds the state at entry \d+: \d+ keys\n$/)
        await during.stop()
        for (const node of cluster.nodes) assert.deepEqual(await during.verify(node), SOUND)

        const restored = fresh.node(0)
        const restore = await holdfast(context, 'restore', file, ...placeOf(restored))
        assert.deepEqual([restore.code, restore.stderr], [0, ''])
        restored.start()
        await restored.ready()
        assert.deepEqual(await earlier.verify(restored), SOUND)
        assert.equal(textOf(await restored.ask('GET', 'large')), LARGE)
        assert.ok(Number(await restored.ask('TTL', 'expires')) > 900)
        await restored.ask('SET', 'new', 'life')
        const [was, is] = await Promise.all([follower.status(), restored.status()])
        assert.notEqual(is?.clusterId, was?.clusterId)
        assert.ok(restore.stdout.includes(is?.clusterId ?? 'none'), restore.stdout)
        assert.equal(is?.role, 'leader')
        // It is a node as any other: it can be ended and started again.
        await restored.stop()
        restored.start()
        await restored.ready()
        assert.equal(textOf(await restored.ask('GET', 'new')), 'life')
      },
    )(context)
  })

  test('what is not right is one line, and changes nothing', async (context) => {
    const cluster = await Cluster.start({ nodes: 1 })
    context.after(() => cluster.end())
    const node = cluster.node(0)
    await node.ask('SET', 'large', LARGE)
    const folder = temporaryDirectory(context)
    const file = join(folder, 'backup')
    const from = ['backup', '--from', addressOf(node)]
    assert.equal((await holdfast(context, ...from, file)).code, 0)
    assertRefused(await holdfast(context, ...from, file), /backup exists already/)
    assertRefused(await holdfast(context, ...from), /the name of the file is missing/)
    assertRefused(await holdfast(context, 'backup', file), /--from: value ''; allowed: host:port/)
    const nowhere = join(folder, 'none', 'backup')
    assertRefused(
      await holdfast(context, ...from, nowhere),
      /the folder .*none of the backup does not exist/,
    )
    await node.ask('CONFIG', 'SET', 'requirepass', 'sesame')
    const second = join(folder, 'second')
    assertRefused(await holdfast(context, ...from, second), /says: NOAUTH/)
    const proved = await holdfast(context, ...from, '--requirepass', 'sesame', second)
    assert.equal(proved.code, 0, proved.stderr)
    // As it looks while another one writes there: its bytes are left alone.
    const third = join(folder, 'third')
    writeFileSync(`${third}.part`, "another's")
    const beside = await holdfast(context, ...from, '--requirepass', 'sesame', third)
    assertRefused(beside, /third\.part exists: another backup is writing it/)
    assert.equal(readFileSync(`${third}.part`, 'utf8'), "another's")
    assert.deepEqual(readdirSync(folder).sort(), ['backup', 'second', 'third.part'])

    const dir = join(folder, 'data')
    const restore = (name: string): Promise<Result> =>
      holdfast(context, 'restore', name, '--dir', dir)
    const whole = readFileSync(file)
    const damaged = join(folder, 'damaged')
    const flipped = Buffer.from(whole)
    flipped[300_000] = (flipped[300_000] ?? 0) ^ 1
    const cases: readonly (readonly [Buffer, RegExp])[] = [
      [flipped, /damaged cannot be restored: .*checksum/],
      [whole.subarray(0, -40), /damaged cannot be restored: .*cut off/],
      [Buffer.from('no backup'), /damaged cannot be restored: it does not begin as a backup does/],
    ]
    for (const [bytes, why] of cases) {
      writeFileSync(damaged, bytes)
      assertRefused(await restore(damaged), why)
      assert.deepEqual(readdirSync(dir), [])
    }
    assertRefused(await restore(join(folder, 'missing')), /missing does not exist/)
    assert.equal((await restore(file)).code, 0)
    assertRefused(await restore(file), /holds data already/)
    assertRefused(await holdfast(context, 'restore', file, '--dir', node.dir), /in use by process/)
    assert.ok(existsSync(join(dir, 'log')))
  })

  test('a node without a leader gives none', async (context) => {
    const cluster = await Cluster.start({ nodes: 3 })
    context.after(() => cluster.end())
    const [one, two, three] = cluster.nodes
    assert.ok(one !== undefined && two !== undefined && three !== undefined)
    await Promise.all([two.kill(), three.kill()])
    const file = join(temporaryDirectory(context), 'backup')
    assertRefused(await holdfast(context, 'backup', '--from', addressOf(one), file), /leader/)
    assert.ok(!existsSync(file))
  })
})
