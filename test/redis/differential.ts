/*
 * The differential test: the same commands to a real Redis and to Holdfast, replies compared byte by byte. A run is
 * many short histories, each from a number; each begins on empty servers with new connections. One that differs is
 * made as short as it can be while it still differs, because forty commands tell nobody what is wrong.
 */

import { seededRandom } from '../linearizability/simulation.ts'
import { excused, hasParted, normalised, watchesOf } from './exceptions.ts'
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
    const untouched =
      hasParted(context, redis, holdfast) && wasAsWatched(servers.redis, context.steps, protocol)
    if (await untouched) return undefined
    return { steps: context.steps, redis, holdfast }
  }
  return undefined
}

/**
 * The one exception after which the data differ: a watched key that did not exist, came, and is gone again. It is as it
 * was when it was watched, so its transaction runs here; Redis remembers that it was touched. Redis itself is asked
 * whether it was so: once more the same steps, with a question behind WATCH and one before EXEC.
 */
async function wasAsWatched(
  port: number,
  steps: readonly Step[],
  protocol: 2 | 3,
): Promise<boolean> {
  const client = steps.at(-1)?.client ?? 0
  const other = (client + 1) % CLIENTS
  for (const watch of watchesOf(steps)) {
    const keys = steps[watch]?.command.slice(1) ?? []
    const asked = (by: number) =>
      keys.map((key): Step => ({ client: by, command: ['EXISTS', key] }))
    const before = steps.slice(0, watch + 1)
    const info = { client, command: ['CLIENT', 'INFO'] }
    const about = await replies(port, [...before, info], protocol)
    const database = / db=(\d+) /.exec(about.at(-1)?.toString() ?? '')?.[1] ?? '0'
    // The client itself is in its transaction by then: the other one looks, whatever it was doing.
    const look: readonly Step[] = [
      { client: other, command: ['DISCARD'] },
      { client: other, command: ['SELECT', database] },
      ...asked(other),
    ]
    const between = steps.slice(watch + 1, -1)
    const all = await replies(port, [...before, ...asked(client), ...between, ...look], protocol)
    const isMissing = (place: number): boolean => all[place]?.toString() === ':0\r\n'
    const later = all.length - keys.length
    if (keys.some((_, key) => isMissing(before.length + key) && isMissing(later + key))) return true
  }
  return false
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
