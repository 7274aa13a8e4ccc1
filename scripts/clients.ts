/*
 * `npm run test:clients`: unmodified client libraries, plain, as Redis Cluster and as Sentinel clients, while the leader
 * is killed again and again (test/clients/failovers.ts).
 *
 *   -- --failovers 20   how often
 *   -- --only ioredis   libraries whose name contains this
 *
 * The last line is `N passed, M failed`, counted in clients.
 */

import { addressesOf, clientKinds, failOver, Runner } from '../test/clients/failovers.ts'
import {
  type CommandLine,
  calledWrongly,
  exitOnSignals,
  numberFrom,
  runScript,
} from '../test/command-line.ts'
import { Cluster } from '../test/e2e/cluster.ts'

const EXPECTED = 'set OK, get one, pipeline two, multi 1, expire 1, ttl true'

const OPTIONS = {
  failovers: { type: 'string', default: '20' },
  only: { type: 'string', default: '' },
} as const

async function main({ values }: CommandLine<typeof OPTIONS>): Promise<number> {
  const { only } = values
  const count = numberFrom('failovers', values.failovers, { least: 0, whole: true })
  if (clientKinds.every(({ name }) => !name.includes(only))) {
    const names = clientKinds.map(({ name }) => name).join(', ')
    throw calledWrongly(`no client's name contains '${only}'; there are ${names}`)
  }
  const cluster = await Cluster.start({
    nodes: 3,
    sentinels: true,
    flags: ['--close-on-step-down', 'yes'],
  })
  process.once('exit', () => cluster.abandon())
  exitOnSignals()
  try {
    return await run(cluster, count, only)
  } catch (error) {
    process.stdout.write(`${cluster.logs()}\n`)
    throw error
  } finally {
    await cluster.end()
  }
}

async function run(cluster: Cluster, count: number, only: string): Promise<number> {
  const stays = await cluster.follower()
  const addresses = addressesOf(cluster, stays)
  const faults = new Map<string, string[]>()
  const runners: Runner[] = []
  for (const { name, connect } of clientKinds.filter((kind) => kind.name.includes(only))) {
    const runner = new Runner(name, await connect(addresses))
    const seen = (await runner.basics()).join(', ').replace('set true', 'set OK')
    faults.set(name, seen === EXPECTED ? [] : [`${name}: ${seen}`])
    runners.push(runner)
  }
  process.stdout.write(`${runners.length} clients are connected; ${stays.name} stays up\n`)
  for (const runner of runners) runner.start()
  for (let round = 1; round <= count; round++) {
    const what = await failOver(cluster, stays)
    await Promise.all(
      runners.map((runner) =>
        runner.serves().catch((error: unknown) => {
          faults.get(runner.tally.name)?.push(String(error))
        }),
      ),
    )
    process.stdout.write(`failover ${round} of ${count}: ${what}; every client serves\n`)
  }
  await Promise.all(runners.map((runner) => runner.stop()))
  for (const runner of runners) {
    const { tally } = runner
    const own = faults.get(tally.name)
    own?.push(...(await runner.faults(count)))
    process.stdout.write(
      `${tally.name}: ${tally.acknowledged} of ${tally.attempted} INCRs, ${tally.errors.length} errors\n`,
    )
    for (const error of new Set(tally.errors)) {
      const times = tally.errors.filter((other) => other === error).length
      process.stdout.write(`  ${times} x ${error}\n`)
    }
    await runner.close()
  }
  const broken = [...faults.values()].filter((list) => list.length > 0)
  for (const line of broken.flat()) process.stdout.write(`WRONG: ${line}\n`)
  process.stdout.write(
    `clients: ${runners.length - broken.length} passed, ${broken.length} failed\n`,
  )
  return broken.length === 0 ? 0 : 1
}

await runScript({ url: import.meta.url, options: OPTIONS }, main)
