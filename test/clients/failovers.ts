/*
 * Client libraries through failovers: each counts and writes without a pause while the leader is killed again and
 * again, and none may need a restart, or find at the end a write wrong or lost that it was told of. An error is allowed
 * only while a fault lasts, and only one that the contract of the README names, or the library's word for a connection
 * that is gone.
 */

import type { Cluster, NodeProcess } from '../e2e/cluster.ts'
import { lapse, until } from '../processes.ts'
import type { Addresses, ClientKind, Driver } from './driver.ts'
import { ioredisKinds } from './ioredis-drivers.ts'
import { nodeRedisKinds } from './node-redis-drivers.ts'
import { pythonKinds } from './python-drivers.ts'

export const clientKinds: readonly ClientKind[] = [
  ...ioredisKinds,
  ...nodeRedisKinds,
  ...pythonKinds,
]

const PAUSE_MS = 20
const RECOVERY_MS = 30_000
/** A command that a library neither answers nor gives up for so long hangs. */
const COMMAND_MS_MAX = 60_000
const ALLOWED =
  /CLUSTERDOWN|TIMEOUT|MOVED|connection|Connection|socket|Socket|closed|ECONN|EPIPE|reset|max(?:imum)? (?:retries|number)|Too many|refused|Broken pipe|MasterNotFound|No master|offline|disconnect|Failed to refresh slots|None of the|cluster slots/i

/** node-redis 6 gives a command up after 5 s, also one that it keeps for a node that is down, by an error without words. */
function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.message === '' ? error.constructor.name : error.message
}

/** What one client did and was told. */
export class Tally {
  readonly name: string
  acknowledged = 0
  attempted = 0
  /** Highest reply of the counter. */
  highest = 0
  readonly errors: string[] = []
  /** Writes of the register, in order; the last acknowledged one. */
  readonly writes: string[] = []
  lastWritten = -1

  constructor(name: string) {
    this.name = name
  }
}

export class Runner {
  readonly tally: Tally
  readonly #driver: Driver
  readonly #prefix: string
  #stopping = false
  #running: Promise<void> = Promise.resolve()

  constructor(name: string, driver: Driver) {
    this.tally = new Tally(name)
    this.#driver = driver
    // One slot per client: cluster clients want the keys of a transaction together.
    this.#prefix = `{${name.replaceAll(' ', '-')}}`
  }

  /** What every library does first, on a healthy cluster. */
  async basics(): Promise<readonly string[]> {
    const key = `${this.#prefix}:basics`
    const seen = [
      `set ${await this.#driver.set(key, 'one')}`,
      `get ${await this.#driver.get(key)}`,
      `pipeline ${await this.#driver.pipeline(key, 'two')}`,
      `multi ${await this.#driver.multi(key, `${key}:counter`)}`,
      `expire ${Number(await this.#driver.expire(key, 100))}`,
    ]
    const ttl = await this.#driver.ttl(key)
    return [...seen, `ttl ${ttl > 90 && ttl <= 100}`]
  }

  start(): void {
    this.#running = this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await this.#running
  }

  close(): Promise<void> {
    return this.#driver.close()
  }

  async #run(): Promise<void> {
    const { tally } = this
    for (let step = 0; !this.#stopping; step++) {
      try {
        await within(step % 2 === 0 ? this.#count() : this.#write(), tally.name)
      } catch (error) {
        tally.errors.push(wordsOf(error))
      }
      await lapse(PAUSE_MS)
    }
  }

  async #count(): Promise<void> {
    const { tally } = this
    tally.attempted++
    const reply = Number(await this.#driver.incr(`${this.#prefix}:counter`))
    tally.acknowledged++
    tally.highest = Math.max(tally.highest, reply)
  }

  async #write(): Promise<void> {
    const { tally } = this
    const at = tally.writes.push(`value ${tally.writes.length}`) - 1
    await this.#driver.set(`${this.#prefix}:register`, tally.writes[at] ?? '')
    tally.lastWritten = at
  }

  /** Serves again by itself: commands succeed that are sent from now on. */
  async serves(): Promise<void> {
    const { tally } = this
    const before = tally.acknowledged
    await until(`${tally.name} serves again`, () => tally.acknowledged > before + 1, RECOVERY_MS)
  }

  /** What is wrong; the cluster is healthy and the client has stopped. */
  async faults(failovers: number): Promise<readonly string[]> {
    const { tally } = this
    const faults: string[] = []
    const counter = Number(await this.#driver.get(`${this.#prefix}:counter`))
    if (counter < tally.highest || counter < tally.acknowledged) {
      faults.push(
        `${tally.name}: the counter is ${counter}, ${tally.acknowledged} were acknowledged, up to ${tally.highest}`,
      )
    }
    // Most libraries send again what was on its way when a connection broke: at a kill, and at a step-down.
    if (counter > tally.attempted + 2 * failovers) {
      faults.push(`${tally.name}: the counter is ${counter} after ${tally.attempted} INCRs`)
    }
    const value = await this.#driver.get(`${this.#prefix}:register`)
    const at = tally.writes.indexOf(value ?? '')
    if (at < tally.lastWritten) {
      faults.push(
        `${tally.name}: reads '${value}', '${tally.writes[tally.lastWritten]}' was acknowledged later`,
      )
    }
    for (const error of new Set(tally.errors)) {
      if (!ALLOWED.test(error))
        faults.push(`${tally.name}: an error that no contract names: ${error}`)
    }
    return faults
  }
}

async function within(action: Promise<void>, name: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${name}: a command hangs`)), COMMAND_MS_MAX)
  })
  await Promise.race([action, late]).finally(() => clearTimeout(timer))
}

export function addressesOf(cluster: Cluster, stays: NodeProcess): Addresses {
  const others = cluster.nodes.filter((node) => node !== stays)
  return {
    ports: [stays, ...others].map(({ port }) => port),
    sentinelPorts: [stays, ...others].map(({ sentinelPort }) => sentinelPort),
    masterName: 'mymaster',
  }
}

/** Kills the leader, unless it is the node that stays up: that one is only silent for a while. */
export async function failOver(cluster: Cluster, stays: NodeProcess): Promise<string> {
  const leader = await cluster.leader()
  if (leader === stays) {
    leader.signal('SIGSTOP')
    const others = cluster.nodes.filter((node) => node !== leader)
    await until('another leader', async () => {
      const states = await Promise.all(others.map((node) => node.status()))
      return states.some((state) => state?.role === 'leader')
    })
    leader.signal('SIGCONT')
    return `${leader.name} was stopped for a while`
  }
  await leader.kill()
  await until('a new leader', async () => {
    const states = await Promise.all(cluster.running.map((node) => node.status()))
    return states.some((state) => state?.role === 'leader')
  })
  leader.start()
  await cluster.ready()
  await cluster.caughtUp(leader)
  return `${leader.name} was killed`
}
