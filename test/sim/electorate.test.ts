/*
 * What the simulator believes of the members: each test is a run in which it believed what was not so.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Entry, Member, NodeId, Term } from '../../raft/types.ts'
import { encodeEntry } from '../../storage/codec.ts'
import { writeUint64 } from '../../storage/integers.ts'
import { Canon } from './canon.ts'
import { Electorate } from './electorate.ts'
import { Machine } from './machine.ts'
import { SimNetwork, SimTime, seededRandom } from './network.ts'
import { drawSwarm } from './swarm.ts'

const random = seededRandom(1)

function machine(network: SimNetwork, index: number): Machine {
  const swarm = drawSwarm(random, { long: false, early: false })
  const [own] = swarm.nodes
  assert.ok(own !== undefined)
  const ignore = (): void => {}
  const events = {
    ...{ touched: ignore, died: ignore, opened: ignore, differs: ignore, silent: ignore },
    ...{ build: (): undefined => undefined, cameBack: ignore, forcing: ignore, forced: ignore },
    ...{ landing: ignore, broken: ignore, applied: ignore, read: ignore, persisting: ignore },
    ...{ compacting: ignore, switching: ignore, switched: ignore },
  }
  const name = `127.0.0.${index + 1}`
  const made = new Machine({
    ...{ index, name, contacts: [], own, seed: 1, swarm, network, events },
    takesOver: undefined,
  })
  made.id = id(index)
  return made
}

function id(index: number): NodeId {
  return String(index).repeat(40)
}

function member(index: number): Member {
  const name = `127.0.0.${index + 1}`
  return {
    ...{ id: id(index), role: 'voter' },
    ...{ peerAddress: `${name}:1`, clientAddress: `${name}:2` },
  }
}

function change(index: number, term: Term, members: readonly Member[]): Entry {
  return {
    index,
    term,
    payload: { type: 'membership', membership: { members } },
    encoded: undefined,
  }
}

test('a membership that was overwritten everywhere is not under way', async () => {
  // Seed 1473105487: nothing that waits for calm ever began again.
  const network = new SimNetwork(new SimTime(), random)
  const canon = new Canon()
  const electorate = new Electorate(canon)
  const one = machine(network, 0)
  electorate.opened(one)
  one.disk.attach((ms, action) => void network.time.after(ms, action))
  const opening = one.disk.openLog('log', ['log'])
  await network.time.runFor(1000)
  const log = await opening
  const land = async (entry: Entry): Promise<void> => {
    electorate.landed(one, entry)
    const key = new Uint8Array(8)
    writeUint64(key, 0, entry.index)
    const value = encodeEntry(entry)
    const writing = log.commit([{ type: 'put', database: 'log', key, value }])
    await network.time.runFor(1000)
    await writing
  }
  const first = change(1, 1, [member(0)])
  await land(first)
  canon.add(first)
  assert.ok(electorate.isSettled)
  await land(change(2, 1, [member(0), member(1)]))
  assert.ok(!electorate.isSettled, 'it may still be committed')
  one.lost = 'its disk was emptied'
  assert.ok(electorate.isSettled, 'it went with its only disk')
  one.lost = undefined
  await land({ index: 2, term: 2, payload: { type: 'noop' }, encoded: undefined })
  assert.ok(electorate.isSettled, 'it is on no disk any more')
})
