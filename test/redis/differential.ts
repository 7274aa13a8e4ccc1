/*
 * The differential test: the same commands to a real Redis and to Holdfast, replies compared byte by byte. A run is
 * many short histories, each from a number; each begins on empty servers with new connections. One that differs is
 * made as short as it can be while it still differs, because forty commands tell nobody what is wrong.
 */

import { seededRandom } from '../linearizability/simulation.ts'
import { excused, hasParted, normalised } from './exceptions.ts'
import { type Command, generate } from './grammar.ts'
import { RawConnection } from './raw-connection.ts'

const COMMANDS_PER_HISTORY = 60
/** Two clients, so that a WATCH can lose its race. */
const CLIENTS = 2

export interface Servers {
  readonly redis: number
  readonly holdfast: number
}

export interface Step {
  readonly client: number
  readonly command: Command
}

export interface Difference {
  readonly steps: readonly Step[]
  /** Of the last step. */
  readonly redis: Buffer
  readonly holdfast: Buffer
}

/** A history and its protocol follow from its number. */
export function history(seed: number): { steps: readonly Step[]; protocol: 2 | 3 } {
  const random = seededRandom(seed)
  let client = 0
  const steps = Array.from({ length: COMMANDS_PER_HISTORY }, () => {
    if (random() < 0.1) client = Math.floor(random() * CLIENTS)
    return { client, command: generate(random) }
  })
  return { steps, protocol: seed % 2 === 0 ? 2 : 3 }
}

/** The shortest difference found for the history, or undefined when there is none. */
export async function compare(servers: Servers, seed: number): Promise<Difference | undefined> {
  const { steps, protocol } = history(seed)
  const found = await run(servers, steps, protocol)
  return found === undefined ? undefined : shrink(servers, found, protocol)
}

async function shrink(servers: Servers, found: Difference, protocol: 2 | 3): Promise<Difference> {
  let best = found
  for (let size = Math.ceil(best.steps.length / 2); size >= 1; size = Math.floor(size / 2)) {
    // The last step is the one that differs.
    for (let at = 0; at < best.steps.length - 1; ) {
      const fewer = best.steps.filter((_, index) => index < at || index >= at + size)
      const again = fewer.length === 0 ? undefined : await run(servers, fewer, protocol)
      if (again === undefined) at += size
      else best = again
    }
  }
  return best
}

/** The history up to its first difference; undefined when the servers agree. */
export async function run(
  servers: Servers,
  steps: readonly Step[],
  protocol: 2 | 3,
): Promise<Difference | undefined> {
  const [theirs, ours] = await Promise.all([
    replies(servers.redis, steps, protocol),
    replies(servers.holdfast, steps, protocol),
  ])
  for (const [at, { command }] of steps.entries()) {
    const redis = theirs[at] as Buffer
    const holdfast = ours[at] as Buffer
    if (redis.equals(holdfast)) continue
    const context = { steps: steps.slice(0, at + 1), command }
    if (normalised(context, redis).equals(normalised(context, holdfast))) continue
    if (excused(context, redis, holdfast)) continue
    if (hasParted(context, redis, holdfast)) return undefined
    return { steps: context.steps, redis, holdfast }
  }
  return undefined
}

async function replies(
  port: number,
  steps: readonly Step[],
  protocol: 2 | 3,
): Promise<readonly Buffer[]> {
  const clients: RawConnection[] = []
  try {
    for (let at = 0; at < CLIENTS; at++) clients.push(await RawConnection.connect(port))
    await clients[0]?.pipeline([['FLUSHALL']])
    await Promise.all(clients.map((client) => client.call('HELLO', protocol)))
    const all: Buffer[] = []
    for (let from = 0; from < steps.length; ) {
      const { client } = steps[from] as Step
      let to = from
      while (to < steps.length && steps[to]?.client === client) to++
      const commands = steps.slice(from, to).map(({ command }) => command)
      all.push(...((await clients[client]?.pipeline(commands)) ?? []))
      from = to
    }
    return all
  } finally {
    for (const client of clients) client.close()
  }
}

/** For a person: the commands as redis-cli would take them, and both replies. */
export function describe({ steps, redis, holdfast }: Difference): string {
  const lines = steps.map(
    ({ client, command }) => `  ${client}> ${command.map((argument) => shown(argument)).join(' ')}`,
  )
  return [...lines, `  redis:    ${shown(redis)}`, `  holdfast: ${shown(holdfast)}`].join('\n')
}

function shown(argument: string | number | Buffer): string {
  const text = Buffer.isBuffer(argument) ? argument.toString('latin1') : String(argument)
  return JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}...` : text)
}
