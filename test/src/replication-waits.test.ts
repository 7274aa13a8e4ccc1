/* WAIT and WAITAOF: when they are answered, with what, and what they refuse. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { CommandError, DataCall } from '../../src/commands/command.ts'
import { resolve } from '../../src/commands/table.ts'
import { type Copies, type Progress, ReplicationWaits } from '../../src/replication-waits.ts'
import { argv, FakeServer, wire } from './command-fixture.ts'

class Bench {
  time = 0
  own: Progress | undefined
  asked = 0
  readonly answers: Copies[] = []
  readonly waits: ReplicationWaits = new ReplicationWaits({
    now: () => this.time,
    ownProgress: () => this.own,
    ask: () => this.asked++,
  })

  /** Waits until `replicas` others have the write; `index` undefined: it has no answer yet. */
  begin(
    replicas: number,
    options: {
      index?: () => number | undefined
      local?: number
      ms?: number
      isOver?: () => boolean
    } = {},
  ): void {
    const {
      index = () => 10,
      local = 0,
      ms = Number.POSITIVE_INFINITY,
      isOver = () => false,
    } = options
    const wait = { index, wanted: { local, replicas }, deadline: this.time + ms, isOver }
    void this.waits.wait(wait).then((copies) => this.answers.push(copies))
  }

  async work(): Promise<readonly Copies[]> {
    this.waits.work()
    await Promise.resolve()
    return this.answers.splice(0)
  }
}

test('a leader answers as soon as enough members have the write', async () => {
  const bench = new Bench()
  bench.own = { durable: 10, matches: [10, 9, 0] }
  bench.begin(1)
  bench.begin(2)
  assert.deepEqual(await bench.work(), [{ local: 1, replicas: 1 }])
  bench.own = { durable: 12, matches: [11, 10, 0] }
  assert.deepEqual(await bench.work(), [{ local: 1, replicas: 2 }])
  assert.equal(bench.asked, 0)
})

test('at the deadline the answer is what there is', async () => {
  const bench = new Bench()
  bench.own = { durable: 9, matches: [10, 9] }
  bench.begin(2, { ms: 500 })
  bench.begin(0, { local: 1, ms: 500 })
  bench.time = 499
  assert.deepEqual(await bench.work(), [])
  bench.time = 500
  assert.deepEqual(await bench.work(), Array(2).fill({ local: 0, replicas: 1 }))
})

test('a write without an answer is on no disk yet', async () => {
  const bench = new Bench()
  bench.own = { durable: 99, matches: [99, 99] }
  let index: number | undefined
  bench.begin(1, { index: () => index })
  assert.deepEqual(await bench.work(), [])
  index = 100
  assert.deepEqual(await bench.work(), [])
  bench.own = { durable: 100, matches: [100, 99] }
  assert.deepEqual(await bench.work(), [{ local: 1, replicas: 1 }])
})

test('any other node asks its leader while somebody waits, and forgets what an old one said', async () => {
  const bench = new Bench()
  bench.waits.ask()
  assert.equal(bench.asked, 0)
  bench.begin(2, { ms: 100 })
  bench.waits.ask()
  assert.equal(bench.asked, 2)
  bench.waits.told({ durable: 10, matches: [10, 10] })
  assert.deepEqual(await bench.work(), [{ local: 1, replicas: 2 }])
  bench.waits.follow()
  bench.begin(1, { ms: 100 })
  assert.deepEqual(await bench.work(), [])
  bench.time = 100
  assert.deepEqual(await bench.work(), [{ local: 0, replicas: 0 }])
  bench.waits.ask()
  assert.equal(bench.asked, 3, 'nobody waits any more')
})

test('a connection that is gone is waited for no longer', async () => {
  const bench = new Bench()
  let isOver = false
  bench.begin(1, { isOver: () => isOver })
  assert.deepEqual(await bench.work(), [])
  isOver = true
  assert.equal((await bench.work()).length, 1)
})

async function run(server: FakeServer, line: string): Promise<string> {
  const args = argv(line.split(' '))
  const command = resolve(args)
  if (command instanceof ErrorReply) return wire(command)
  assert.ok(command.kind === 'local')
  try {
    const reply = await command.run(server.connect(), args, server)
    assert.ok(typeof reply !== 'symbol' && !(reply instanceof DataCall))
    return wire(reply)
  } catch (error) {
    assert.ok(error instanceof CommandError)
    return wire(error.reply)
  }
}

test('the arguments and replies of WAIT and WAITAOF', async () => {
  const notInteger = '-ERR value is not an integer or out of range\r\n'
  const server = new FakeServer()
  for (const [line, reply] of [
    ['WAIT 1 0', ':2\r\n'],
    ['WAIT -1 9007199254740', ':2\r\n'],
    ['WAITAOF 1 2 50', '*2\r\n:1\r\n:2\r\n'],
    ['WAIT x 0', notInteger],
    ['WAIT 0 x', '-ERR timeout is not an integer or out of range\r\n'],
    ['WAIT 0 -1', '-ERR timeout is negative\r\n'],
    ['WAIT 0 9223372036854775807', '-ERR timeout is out of range\r\n'],
    ['WAITAOF 2 0 0', '-ERR value is out of range, value must between 0 and 1\r\n'],
    ['WAITAOF x 0 0', notInteger],
    ['WAITAOF 0 -1 0', '-ERR value is out of range, must be positive\r\n'],
    ['WAIT 1', "-ERR wrong number of arguments for 'wait' command\r\n"],
  ] as const) {
    assert.equal(await run(server, line), reply, line)
  }
  assert.deepEqual(server.waits, [
    [{ local: 0, replicas: 1 }, 0],
    [{ local: 0, replicas: -1 }, 9_007_199_254_740],
    [{ local: 1, replicas: 2 }, 50],
  ])
})
