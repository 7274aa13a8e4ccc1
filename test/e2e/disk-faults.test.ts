/*
 * A disk that fails under one node: an fsync that returns an error, a disk that is full, a commit that never comes
 * back. That node ends by itself, soon and with the reason in its log; the others go on, and nothing that was
 * acknowledged is lost. strace makes the real system calls of the real LMDB fail.
 */

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, type TestContext, test } from 'node:test'
import { lapse, until } from '../processes.ts'
import { needs } from '../tools.ts'
import { Cluster, type NodeProcess, showingLogs } from './cluster.ts'
import { RespClient } from './resp-client.ts'
import { type Verdict, Workload } from './workload.ts'

const SOUND: Verdict = { lost: [], happened: [], counter: [] }
/** What the issue allows between the failure and the end of the process. */
const END_MS_MAX = 1000
const NO_SPACE = /No space left on device/
const CHECKPOINT_FAILED = /"level":60,[^\n]*a checkpoint to [^\n]*state-1 failed/

const traces = mkdtempSync(join(tmpdir(), 'holdfast-trace-'))
after(() => rmSync(traces, { recursive: true, force: true }))

interface Fault {
  /** The environment whose file is hit. */
  readonly environment: 'log' | 'state-1'
  readonly calls: string
  /** As strace writes it: what happens, and from which call of a thread on. */
  readonly inject: string
}

/** What glibc says before it aborts a process whose heap was overrun. */
const OF_ALLOCATOR = /^(?:malloc|free|realloc)\(\): |corrupted/m

let traceCount = 0

/** Starts `node` with a disk that will fail; returns the file of the trace. */
function startWithFault(node: NodeProcess, fault: Fault): string {
  const { environment, calls, inject } = fault
  const trace = join(traces, `trace-${++traceCount}`)
  const output = ['-f', '-qq', '-ttt', '-o', trace]
  const file = join(node.dir, environment, 'data.mdb')
  const filter = ['--seccomp-bpf', '-P', file, '-e', `trace=${calls}`]
  const under = ['strace', ...output, ...filter, '-e', `inject=${calls}:${inject}`]
  node.start({ under, flags: ['--memtable-size', '1mb', '--commit-timeout-ms', '1000'] })
  return trace
}

/** Ms between the first call that failed and the last thing that was seen of the process. */
function sufferedMs(trace: string): number {
  const lines = readFileSync(trace, 'utf8').trimEnd().split('\n')
  const failed = lines.find((line) => line.includes('(INJECTED)'))
  const timeOf = (line: string | undefined): number => 1000 * Number(line?.split(/ +/)[1])
  return timeOf(lines.at(-1)) - timeOf(failed)
}

interface Scene {
  readonly cluster: Cluster
  readonly victim: NodeProcess
  readonly trace: string
}

/** A cluster under load until the disk of one node fails; its end, and what is left afterwards. */
function withFault(
  at: number,
  fault: Fault,
  judge: (scene: Scene) => Promise<void>,
): (context: TestContext) => Promise<void> {
  return async (context) => {
    const cluster = await Cluster.prepare({ nodes: 3, flags: ['--memtable-size', '1mb'] })
    context.after(() => cluster.end())
    await showingLogs(
      () => cluster,
      async () => {
        const victim = cluster.node(at)
        const trace = startWithFault(victim, fault)
        for (const node of cluster.nodes) if (node !== victim) node.start()
        await cluster.ready()
        const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 2, name: 'faulty' })
        workload.start()
        await writeUntilEnd(cluster, victim)
        await judge({ cluster, victim, trace })
        const from = workload.acknowledged
        await until('the others go on', () => workload.acknowledged >= from + 200)
        await workload.stop()
        for (const node of cluster.running) assert.deepEqual(await workload.verify(node), SOUND)
        // With a sound disk it is a member as before.
        victim.start()
        await victim.ready()
        await cluster.caughtUp(victim)
        assert.deepEqual(await workload.verify(victim), SOUND)
      },
    )(context)
  }
}

/** Large writes through a node that is not the victim, so that its checkpoints come soon. */
async function writeUntilEnd(cluster: Cluster, victim: NodeProcess): Promise<void> {
  const healthy = cluster.nodes.find((node) => node !== victim)
  const client = await RespClient.connect(healthy?.port ?? 0)
  const value = 'x'.repeat(16_384)
  const deadline = performance.now() + 20_000
  while (victim.running) {
    if (performance.now() > deadline) throw new Error('the disk never failed')
    await Promise.all(
      Array.from({ length: 8 }, (_, key) => client.call('SET', `big:${key}`, value)),
    )
  }
  client.close()
}

/**
 * Where a page cannot be written, LMDB prints why and then overruns the memory of its own error text (mdb.c,
 * mdb_page_flush: 100 bytes for a line that may be longer). So the process may be aborted by its allocator before it
 * can log a line of its own; what LMDB has printed is the reason then, or the allocator's complaint where it came
 * first. That the failed write was the cause is seen in the trace.
 */
function assertEndedByWrite({ victim, trace }: Scene, why: RegExp, line: RegExp): void {
  const signal = victim.ended?.signal
  assert.ok(signal === 'SIGKILL' || signal === 'SIGABRT', `it ended by ${signal}`)
  const complains = signal === 'SIGABRT' && OF_ALLOCATOR.test(victim.output)
  if (!complains) assert.match(victim.output, why)
  if (signal === 'SIGKILL') assert.match(victim.output, line)
  const ms = sufferedMs(trace)
  assert.ok(ms < END_MS_MAX, `it ended ${ms} ms after the failure`)
}

describe('a failing disk', needs('strace'), () => {
  test(
    'fdatasync returns EIO',
    withFault(
      0,
      { environment: 'log', calls: 'fdatasync', inject: 'error=EIO:when=25+' },
      async ({ victim, trace }) => {
        assert.equal(victim.ended?.signal, 'SIGKILL')
        assert.match(victim.output, /"level":60,[^\n]*a commit to [^\n]*log failed/)
        const ms = sufferedMs(trace)
        assert.ok(ms < END_MS_MAX, `it ended ${ms} ms after the failure`)
      },
    ),
  )

  test(
    'the disk is full',
    withFault(
      1,
      { environment: 'log', calls: 'pwrite64,writev', inject: 'error=ENOSPC:when=100+' },
      async (scene) => {
        assertEndedByWrite(scene, NO_SPACE, /"level":60,[^\n]*a commit to [^\n]*log failed/)
      },
    ),
  )

  test(
    'the disk is full when a checkpoint is written',
    withFault(
      0,
      { environment: 'state-1', calls: 'pwrite64,writev', inject: 'error=ENOSPC:when=60+' },
      async (scene) => {
        assertEndedByWrite(scene, NO_SPACE, CHECKPOINT_FAILED)
      },
    ),
  )

  test(
    'a page cannot be written',
    withFault(
      2,
      { environment: 'log', calls: 'pwrite64,writev', inject: 'error=EIO:when=100+' },
      async (scene) => {
        const line = /"level":60,[^\n]*a commit to [^\n]*log failed/
        assertEndedByWrite(scene, /Input\/output error/, line)
      },
    ),
  )

  test(
    'fdatasync returns EIO when a checkpoint is written',
    withFault(
      1,
      { environment: 'state-1', calls: 'fdatasync', inject: 'error=EIO:when=3+' },
      async ({ victim, trace }) => {
        assert.equal(victim.ended?.signal, 'SIGKILL')
        assert.match(victim.output, CHECKPOINT_FAILED)
        const ms = sufferedMs(trace)
        assert.ok(ms < END_MS_MAX, `it ended ${ms} ms after the failure`)
      },
    ),
  )

  test(
    'a commit does not come back',
    withFault(
      0,
      // In microseconds: longer than the commit-timeout-ms of the node, by more than a busy machine may add. strace
      // lets go of the dead process only when the delay is over.
      { environment: 'log', calls: 'fdatasync', inject: 'delay_enter=4000000:when=25+' },
      async ({ victim }) => {
        assert.equal(victim.ended?.signal, 'SIGKILL')
        assert.match(victim.output, /a commit of the log has not come back for 1000 ms/)
      },
    ),
  )
})

/** Bounds of the watchdog, and a stop of three times as long: 30 s at the default of commit-timeout-ms. */
const COMMIT_MS = 1000
const STOPPED_MS = 3 * COMMIT_MS

test('a node that was stopped under load goes on, and does not take its own sleep for a dead disk', async (context) => {
  const flags = ['--commit-timeout-ms', `${COMMIT_MS}`, '--memtable-size', '1mb']
  const cluster = await Cluster.start({ nodes: 3, flags })
  context.after(() => cluster.end())
  await showingLogs(
    () => cluster,
    async () => {
      const workload = new Workload({ nodes: cluster.nodes, writersPerNode: 3, name: 'stopped' })
      workload.start()
      const victims = [await cluster.leader(), await cluster.follower()]
      for (const victim of victims) {
        const before = workload.acknowledged
        await until('some writes', () => workload.acknowledged >= before + 100)
        victim.signal('SIGSTOP')
        await lapse(STOPPED_MS)
        victim.signal('SIGCONT')
        await cluster.caughtUp(victim)
        const from = workload.acknowledged
        await until('the load goes on', () => workload.acknowledged >= from + 200)
        assert.ok(victim.running, victim.lastLines())
      }
      await workload.stop()
      for (const node of cluster.nodes) assert.deepEqual(await workload.verify(node), SOUND)
      assert.ok(cluster.running.length === 3)
    },
  )(context)
})
