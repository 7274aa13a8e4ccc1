/*
 * What is done to the cluster: each nemesis begins a fault and says how to end it. A fault picks its victims by
 * chance, and leaders more often, because that is where it hurts. Another nemesis is another entry of the list.
 */

import type { Testbed } from './testbed.ts'

export interface Fault {
  /** For the history and the picture: what was done to whom. */
  readonly what: string
  readonly ms: number
  heal(): Promise<void>
}

export interface Nemesis {
  readonly name: string
  /** It leaves the processes alone, so that another fault may happen meanwhile. */
  readonly isBackground: boolean
  /** Its heal waits for the cluster, so whatever else lasts is healed before. */
  readonly healsLast?: true
  begin(testbed: Testbed, random: () => number): Promise<Fault>
}

const HOUR_S = 3600

function between(random: () => number, least: number, most: number): number {
  return least + random() * (most - least)
}

function shuffled(count: number, random: () => number): number[] {
  return Array.from({ length: count }, (_, at) => ({ at, order: random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ at }) => at)
}

/** One node, every second time the leader; a majority; or all. */
async function victims(testbed: Testbed, random: () => number): Promise<readonly number[]> {
  const count = testbed.nodes.length
  const order = shuffled(count, random)
  const kind = random()
  if (kind < 0.6) return [(random() < 0.5 ? await testbed.leader() : undefined) ?? order[0] ?? 0]
  return kind < 0.85 ? order.slice(0, Math.floor(count / 2) + 1) : order
}

function named(testbed: Testbed, nodes: readonly number[]): string {
  return nodes.map((at) => testbed.node(at).name).join(' ')
}

const kill: Nemesis = {
  name: 'kill',
  isBackground: false,
  async begin(testbed, random) {
    const nodes = await victims(testbed, random)
    await Promise.all(nodes.map((at) => testbed.kill(at)))
    return {
      what: `kill -9 ${named(testbed, nodes)}`,
      ms: between(random, 200, 4000),
      heal: async () => {
        for (const at of nodes) testbed.start(at)
      },
    }
  },
}

const restart: Nemesis = {
  name: 'restart',
  isBackground: false,
  async begin(testbed, random) {
    const nodes = await victims(testbed, random)
    await Promise.all(nodes.map((at) => testbed.stop(at)))
    return {
      what: `SIGTERM ${named(testbed, nodes)}`,
      ms: between(random, 0, 1000),
      heal: async () => {
        for (const at of nodes) testbed.start(at)
      },
    }
  },
}

const pause: Nemesis = {
  name: 'pause',
  isBackground: false,
  async begin(testbed, random) {
    const nodes = await victims(testbed, random)
    for (const at of nodes) testbed.node(at).signal('SIGSTOP')
    return {
      what: `SIGSTOP ${named(testbed, nodes)}`,
      // Short ones are what a busy machine does by itself, long ones outlast every timeout.
      ms: random() < 0.5 ? between(random, 100, 1000) : between(random, 1000, 10_000),
      heal: async () => {
        for (const at of nodes) testbed.node(at).signal('SIGCONT')
      },
    }
  },
}

const partition: Nemesis = {
  name: 'partition',
  isBackground: true,
  async begin(testbed, random) {
    const count = testbed.nodes.length
    const order = shuffled(count, random)
    const kinds = [halves, alone, oneWay, slow, unplugged]
    const kind = kinds[Math.floor(random() * kinds.length)] ?? halves
    const leader = (await testbed.leader()) ?? order[0] ?? 0
    return {
      what: kind({ testbed, order, leader, random }),
      ms: between(random, 1000, 8000),
      heal: async () => testbed.healNetwork(),
    }
  },
}

interface Cut {
  readonly testbed: Testbed
  readonly order: readonly number[]
  readonly leader: number
  readonly random: () => number
}

function halves({ testbed, order }: Cut): string {
  const small = order.slice(0, Math.floor(order.length / 2))
  const large = order.slice(small.length)
  for (const a of small) for (const b of large) testbed.cut(a, b)
  return `cut ${named(testbed, small)} | ${named(testbed, large)}`
}

function alone({ testbed, order, leader }: Cut): string {
  for (const other of order) if (other !== leader) testbed.cut(leader, other)
  return `cut off leader ${named(testbed, [leader])}`
}

function oneWay({ testbed, order, leader, random }: Cut): string {
  const outward = random() < 0.5
  for (const other of order) {
    if (other === leader) continue
    testbed.proxy.way(...((outward ? [leader, other] : [other, leader]) as [number, number])).cut =
      true
  }
  const name = named(testbed, [leader])
  return outward ? `nobody hears leader ${name}` : `leader ${name} hears nobody`
}

function slow({ testbed, order, random }: Cut): string {
  const delayMs = Math.round(between(random, 10, 300))
  const loss = random() * 0.1
  for (const a of order) {
    for (const b of order) if (a !== b) Object.assign(testbed.proxy.way(a, b), { delayMs, loss })
  }
  return `delay ${delayMs} ms, loss ${(loss * 100).toFixed(0)} %`
}

function unplugged(cut: Cut): string {
  const { testbed, order } = cut
  const [at = 0] = order
  return testbed.unplug(at) ? `link down ${named(testbed, [at])}` : halves(cut)
}

const clock: Nemesis = {
  name: 'clock',
  isBackground: true,
  async begin(testbed, random) {
    const always = Math.floor(random() * testbed.clocks.length)
    const moved = testbed.clocks.flatMap((wall, at) => {
      if (at !== always && random() < 0.4) return []
      const seconds = Math.round(between(random, -1, 1) * between(random, 1, 10 * HOUR_S))
      wall.set(seconds)
      return [`${testbed.node(at).name} ${seconds} s`]
    })
    return {
      what: `clocks: ${moved.join(', ')}`,
      ms: between(random, 1000, 5000),
      heal: async () => {
        for (const wall of testbed.clocks) wall.set(0)
      },
    }
  },
}

/** Members that leave for good, and come back as somebody else; voters that are none for a while; hand-overs. */
const member: Nemesis = {
  name: 'member',
  isBackground: false,
  healsLast: true,
  async begin(testbed, random) {
    const order = shuffled(testbed.nodes.length, random)
    const at = (random() < 0.5 ? await testbed.leader() : undefined) ?? order[0] ?? 0
    const kinds = [replaced, replaced, demoted, handedOver]
    const kind = kinds[Math.floor(random() * kinds.length)] ?? replaced
    return await kind(testbed, at, random)
  },
}

async function replaced(testbed: Testbed, at: number, random: () => number): Promise<Fault> {
  const name = named(testbed, [at])
  const id = testbed.idOf(at)
  // A member that is dead already is replaced, too; a living one learns that it was removed.
  const isDead = random() < 0.5
  if (isDead) await testbed.kill(at)
  const answer = await testbed.operate(at, 'REMOVE', id)
  return {
    what: `remove ${isDead ? 'the dead ' : ''}${name}: ${answer}`,
    ms: between(random, 500, 4000),
    heal: async () => {
      await testbed.achieve(at, 'REMOVE', id)
      if (!isDead) await testbed.kill(at)
      await testbed.renew(at)
    },
  }
}

async function demoted(testbed: Testbed, at: number, random: () => number): Promise<Fault> {
  const id = testbed.idOf(at)
  const answer = await testbed.operate(at, 'DEMOTE', id)
  return {
    what: `demote ${named(testbed, [at])}: ${answer}`,
    ms: between(random, 500, 4000),
    heal: () => testbed.achieve(at, 'PROMOTE', id),
  }
}

async function handedOver(testbed: Testbed, at: number, random: () => number): Promise<Fault> {
  const answer = await testbed.operate(at, 'TRANSFER', testbed.idOf(at))
  return {
    what: `hand over to ${named(testbed, [at])}: ${answer}`,
    ms: between(random, 0, 1000),
    heal: async () => {},
  }
}

/** The disk under the log of one node: slow, or broken, which ends the process. */
const disk: Nemesis = {
  name: 'disk',
  isBackground: false,
  async begin(testbed, random) {
    const order = shuffled(testbed.nodes.length, random)
    const at = (random() < 0.5 ? await testbed.leader() : undefined) ?? order[0] ?? 0
    const name = named(testbed, [at])
    const ms = between(random, 1000, 6000)
    if (random() < 0.5) {
      const delayMs = Math.round(between(random, 20, 400))
      const mend = await testbed.spoilDisk(at, 'fdatasync', `delay_enter=${delayMs * 1000}`)
      return { what: `fdatasync of ${name} takes ${delayMs} ms more`, ms, heal: mend }
    }
    const [calls, error] = random() < 0.5 ? ['fdatasync', 'EIO'] : ['pwrite64,writev', 'ENOSPC']
    await testbed.breakDisk(at, calls, error)
    return {
      what: `${calls} of ${name} returned ${error}`,
      ms,
      heal: async () => testbed.start(at),
    }
  },
}

export const nemeses: readonly Nemesis[] = [kill, pause, partition, clock, restart, member, disk]
