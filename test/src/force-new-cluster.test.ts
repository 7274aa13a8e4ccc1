/*
 * What a survivor of a lost quorum becomes: everything that its log held, and a cluster of its own behind it, or, where
 * the disk did not finish, what it was.
 */

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Entry, Membership } from '../../raft/types.ts'
import { readClusterList } from '../../src/bootstrap.ts'
import { limits } from '../../src/config.ts'
import { type ForceOptions, forceNewCluster } from '../../src/force-new-cluster.ts'
import { OperatorError } from '../../src/operator-error.ts'
import { openStorage, type Storage } from '../../storage/open.ts'
import { until } from '../processes.ts'
import { entryOf } from '../storage/log-store-conformance.ts'
import { MemoryEngine } from '../storage/memory-engine.ts'

const OPTIONS = { memtableBytes: 1 << 20, cacheBytes: 0, views: limits.stateViews, now: () => 0 }
const OLD = '0'.repeat(40)
const NEW = '07'.repeat(20)

const open = (engine: MemoryEngine): Promise<Storage> => openStorage(engine, OPTIONS)

function membershipOf(...ids: readonly string[]): Membership {
  return {
    members: ids.map((id, at) => ({
      id,
      role: 'voter',
      peerAddress: `127.0.0.1:${17_001 + at}`,
      clientAddress: `127.0.0.1:${7001 + at}`,
    })),
  }
}

function changeTo(index: number, membership: Membership): Entry {
  return { index, term: 2, payload: { type: 'membership', membership }, encoded: undefined }
}

/** A node of a cluster of three with entries 1 to 9, of which entry 5 may be another membership. */
async function member(engine: MemoryEngine, change?: Membership): Promise<Storage> {
  const storage = await open(engine)
  const { nodeId } = storage.log.identity()
  const entries = [changeTo(1, membershipOf(nodeId, 'b'.repeat(40), 'c'.repeat(40)))]
  for (let index = 2; index < 10; index++) entries.push(entryOf(index, 2))
  if (change !== undefined) entries[4] = changeTo(5, change)
  await storage.log.bind({ clusterId: OLD, hardState: { term: 4, vote: 'b' }, entries })
  return storage
}

function options(storage: Storage): ForceOptions & { readonly said: [object, string][] } {
  const said: [object, string][] = []
  return {
    storage,
    said,
    list: readClusterList([], '127.0.0.1:19000'),
    clientAddress: '127.0.0.1:9000',
    randomBytes: (count) => new Uint8Array(count).fill(7),
    ready: async () => 'connect ECONNREFUSED 127.0.0.1:7002',
    log: { warn: (fields, text) => void said.push([fields, text]) },
  }
}

async function reopened(engine: MemoryEngine, storage: Storage): Promise<Storage> {
  await storage.state.close()
  await storage.log.close()
  return open(engine)
}

describe('a survivor that is forced', () => {
  it('keeps its whole log and is the only member of a new cluster, in a new term', async () => {
    const engine = new MemoryEngine()
    const before = await member(engine)
    const { nodeId } = before.log.identity()
    const entries = before.log.entries(1, 10, 1e9)
    const forced = options(before)
    await forceNewCluster(forced)
    const { log } = await reopened(engine, before)
    assert.deepEqual(log.identity(), { nodeId, clusterId: NEW })
    assert.deepEqual(log.hardState(), { term: 5, vote: undefined })
    assert.deepEqual(
      log.entries(1, 10, 1e9).map(({ index, term, payload }) => ({ index, term, payload })),
      entries.map(({ index, term, payload }) => ({ index, term, payload })),
    )
    assert.equal(log.lastIndex(), 10)
    const [last] = log.entries(10, 11, 1e9)
    assert.equal(last?.term, 5)
    const own = { peerAddress: '127.0.0.1:19000', clientAddress: '127.0.0.1:9000' }
    const membership = { members: [{ id: nodeId, role: 'voter', ...own }] }
    assert.deepEqual(last?.payload, { type: 'membership', membership })
    const [[fields, text] = [{}, '']] = forced.said
    assert.match(text, /^FORCED A NEW CLUSTER/)
    assert.deepEqual(fields, {
      oldClusterId: OLD,
      newClusterId: NEW,
      index: 10,
      left: [`${'b'.repeat(40)} at 127.0.0.1:17002`, `${'c'.repeat(40)} at 127.0.0.1:17003`],
    })
  })

  it('is what it was when the disk did not finish', async () => {
    const engine = new MemoryEngine()
    const before = await member(engine)
    engine.holdCommits()
    void forceNewCluster(options(before))
    await until('the commit', () => engine.heldCommits === 1)
    engine.crash()
    const { log } = await open(engine)
    assert.equal(log.identity().clusterId, OLD)
    assert.deepEqual(log.hardState(), { term: 4, vote: 'b' })
    assert.equal(log.lastIndex(), 9)
    assert.equal(log.wasForced(), false)
  })

  it('is forced once, until a start without the flag', async () => {
    const engine = new MemoryEngine()
    let storage = await member(engine)
    await forceNewCluster(options(storage))
    storage = await reopened(engine, storage)
    const again = options(storage)
    await forceNewCluster(again)
    assert.match(again.said[0]?.[1] ?? '', /is not followed again/)
    assert.equal(storage.log.lastIndex(), 10)
    await storage.log.forgetForced()
    storage = await reopened(engine, storage)
    await forceNewCluster(options(storage))
    assert.equal(storage.log.lastIndex(), 11)
    assert.deepEqual(storage.log.hardState(), { term: 6, vote: undefined })
  })

  it('must be a member by the last membership in its log', async () => {
    const gone = membershipOf('b'.repeat(40), 'c'.repeat(40))
    const storage = await member(new MemoryEngine(), gone)
    await assert.rejects(forceNewCluster(options(storage)), (error: unknown) => {
      return error instanceof OperatorError && /was removed from cluster 0+,/.test(error.message)
    })
    assert.equal(storage.log.identity().clusterId, OLD)
    assert.equal(storage.log.lastIndex(), 9)
  })

  it('must not be forced while another member serves the cluster that it would leave', async () => {
    const storage = await member(new MemoryEngine())
    const asked: [string, string][] = []
    const ready = async (address: string, clusterId: string): Promise<string | undefined> => {
      asked.push([address, clusterId])
      return address === '127.0.0.1:7003' ? undefined : 'NOTREADY no leader is known to this node'
    }
    await assert.rejects(forceNewCluster({ ...options(storage), ready }), (error: unknown) => {
      const says = new RegExp(`node c{40} at 127.0.0.1:7003 serves cluster ${OLD}, so its quorum`)
      return error instanceof OperatorError && says.test(error.message)
    })
    assert.deepEqual(asked, [
      ['127.0.0.1:7002', OLD],
      ['127.0.0.1:7003', OLD],
    ])
    assert.equal(storage.log.identity().clusterId, OLD)
    assert.deepEqual(storage.log.hardState(), { term: 4, vote: 'b' })
    assert.equal(storage.log.lastIndex(), 9)
  })

  it('must not be forced while another member lives and keeps to itself whether it serves', async () => {
    const storage = await member(new MemoryEngine())
    for (const says of [
      'NOAUTH Authentication required.',
      'WRONGPASS invalid username-password pair or user is disabled.',
      'ERR AUTH <password> called without any password configured for the default user.',
      'DENIED Holdfast is running in protected mode',
      'ERR max number of clients reached',
    ]) {
      const ready = async (address: string): Promise<string> =>
        address === '127.0.0.1:7003' ? says : 'no answer within 2000 ms'
      await assert.rejects(forceNewCluster({ ...options(storage), ready }), (error: unknown) => {
        const told = /node c{40} at 127.0.0.1:7003 lives, and does not tell.*requirepass/
        return error instanceof OperatorError && told.test(error.message)
      })
      assert.equal(storage.log.identity().clusterId, OLD)
    }
  })

  it('must have a cluster, and have heard of it', async () => {
    const storage = await open(new MemoryEngine())
    await assert.rejects(forceNewCluster(options(storage)), /belongs to no cluster/)
    await storage.log.bind({
      clusterId: OLD,
      hardState: { term: 0, vote: undefined },
      entries: [],
    })
    await assert.rejects(forceNewCluster(options(storage)), /nothing of cluster 0+ has arrived/)
  })
})
