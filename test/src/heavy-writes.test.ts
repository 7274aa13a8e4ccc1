/* Writes of large values beside others: when they rest, for how long, and what goes ahead of them meanwhile. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { limits } from '../../src/config.ts'
import { Caller, PARK_MS, RouterBench } from './router-bench.ts'

const heavyWrites = {
  bytesMin: 300,
  bytesPerKey: 20,
  pipelineMin: 8,
  batchBytes: 1000,
  othersMs: 5000,
  slowMs: 40,
  quickPerSlow: 3,
  restMsMax: 3000,
  checkpointMsMax: 10_000,
  restingBytesMax: 5000,
}

/** A write that is one: with what a call costs beside its arguments a little more than the least. */
function heavy(key: string, bytes = 300): string {
  return `SET ${key} ${'x'.repeat(bytes)}`
}

function bench(): RouterBench {
  const made = new RouterBench({
    heavyWrites,
    entryCommands: 1,
    backlogBytes: 1e6,
    forwardBytes: 1e6,
  })
  made.lead(1)
  return made
}

/** What was logged from an index on, by the keys. */
function logged(made: RouterBench, from: number): string[] {
  const keys: string[] = []
  for (let index = from; index <= made.log.length; index++) {
    for (const words of made.entry(index)) keys.push(words.split(' ')[1] ?? '')
  }
  return keys
}

/** So many ms pass before what is on its way is applied. */
function after(made: RouterBench, ms: number): void {
  made.now += ms
  made.apply()
  made.router.flush()
}

/** At a leader a heavy write took so many ms, and another connection has sent something meanwhile. */
function beside(ms = 20): { made: RouterBench; one: Caller; two: Caller } {
  const made = bench()
  const [one, two] = [new Caller(made), new Caller(made)]
  one.send(heavy('a'))
  two.send('SET light 1')
  after(made, ms)
  return { made, one, two }
}

/** Another connection sends so many commands, one after the other, each of which takes so many ms. */
function others(made: RouterBench, caller: Caller, count: number, ms = 1): void {
  for (let sent = 0; sent < count; sent++) {
    caller.send('SET light 1')
    after(made, ms)
  }
}

describe('a client that is alone', () => {
  test('never waits, whatever it writes', () => {
    const made = bench()
    const [one, two] = [new Caller(made), new Caller(made)]
    one.send(heavy('a'), heavy('b'), 'GET a', 'SET c 1', heavy('d', 5000))
    two.send(heavy('e'), 'GET e', heavy('f', 5000))
    assert.deepEqual(logged(made, 2), ['a', 'b', 'c', 'd', 'e', 'f'])
    made.isCheckpointing = true
    after(made, 100)
    one.send(heavy('g'))
    assert.deepEqual(logged(made, 8), ['g'])
    assert.equal(made.router.resting, 0)
  })
})

test('two that write heavily wait for nobody, whatever they began with', () => {
  const { made, one, two } = beside()
  two.send(heavy('b'))
  one.send(heavy('c'))
  assert.deepEqual(logged(made, 4), ['b', 'c'])
})

describe('beside somebody else', () => {
  test('they rest as long as they took; what is light goes ahead, what is behind them waits with them', () => {
    const { made, one, two } = beside()
    one.send(heavy('b'), 'SET behind 1', 'GET behind', heavy('c', 700), 'SET last 1')
    assert.equal(made.router.resting, 5)
    others(made, two, 1, 19)
    assert.deepEqual(logged(made, 4), ['light'])
    others(made, two, 2, 1)
    // Nobody is owed anything: `b` with what is behind it. Beside it there is no room for `c`, so that rests again.
    assert.deepEqual(logged(made, 5), ['light', 'b', 'behind', 'light'])
    after(made, 1)
    assert.deepEqual(one.replies, ['+OK', '+OK', '+OK', '$1 1', undefined, undefined])
    others(made, two, 30, 1)
    assert.deepEqual(one.replies.slice(4), ['+OK', '+OK'])
    assert.equal(made.router.resting, 0)
  })

  test('they take turns by connection, and a batch has a bound that one alone may exceed', () => {
    const made = bench()
    const [light, ...clients] = Array.from({ length: 4 }, () => new Caller(made))
    assert.ok(light)
    clients[0]?.send(heavy('a'))
    light.send('SET light 1')
    after(made, 10)
    const first = made.log.length + 1
    for (const [at, client] of clients.entries()) client.send(heavy(`b${at}`), heavy(`c${at}`))
    others(made, light, 11, 1)
    const batch = (keys: string[]): string[] => keys.filter((key) => key !== 'light')
    assert.deepEqual(batch(logged(made, first)), ['b0', 'b1'], 'a third one would be too much')
    others(made, light, 40, 1)
    const order = ['b0', 'b1', 'b2', 'c0', 'c1', 'c2']
    assert.deepEqual(batch(logged(made, first)), order)
    after(made, 1)
    const last = made.log.length + 1
    clients[0]?.send(heavy('d', 2 * heavyWrites.batchBytes))
    others(made, light, 10, 1)
    assert.deepEqual(batch(logged(made, last)), ['d'])
  })

  test('what is light goes with the one that it is behind, however large that is', () => {
    const { made, one, two } = beside()
    one.send(heavy('b', 2 * heavyWrites.batchBytes), 'SET behind 1', 'GET behind', heavy('c'))
    others(made, two, 21, 1)
    assert.equal(made.router.resting, 1)
    assert.deepEqual(one.replies.slice(1), ['+OK', '+OK', '$1 1', undefined])
  })

  test('what a write is given and makes counts', () => {
    const made = bench()
    const [one, two] = [new Caller(made), new Caller(made)]
    made.valueLength = 150
    one.send('SETBIT a 0 1')
    two.send('SET light 1')
    after(made, 20)
    one.send('SETBIT b 0 1')
    assert.equal(made.router.resting, 1)
    made.valueLength = 50
    new Caller(made).send('SETBIT c 0 1')
    assert.equal(made.router.resting, 1)
  })

  test('and its keys do', () => {
    const { made, one } = beside()
    // 64 and 22 for the arguments, 20 for each of 10 keys: 286. With two keys more 330.
    one.send('DEL 1234567890 1 2 3 4 5 6 7 8 9')
    assert.equal(made.router.resting, 0)
    new Caller(made).send('DEL 1234567890 1 2 3 4 5 6 7 8 9 10 11')
    assert.equal(made.router.resting, 1)
  })

  test('and so do many small ones of a connection that waits for very many', () => {
    const made = bench()
    const [one, two] = [new Caller(made), new Caller(made)]
    const pipeline = (from: number, count: number): string[] => {
      return Array.from({ length: count }, (_, at) => `SET k${from + at} 1`)
    }
    one.send(...pipeline(10, 9), 'GET a')
    two.send('SET light 1')
    after(made, 20)
    one.send(...pipeline(20, 40))
    assert.equal(made.router.resting, 40 - heavyWrites.pipelineMin, 'the first are not many yet')
    others(made, two, 20, 1)
    // 64 and 7 for the arguments and 20 for the key: 10 of them are a batch.
    const names = pipeline(20 + heavyWrites.pipelineMin, 11).map((words) => words.split(' ')[1])
    const resting = logged(made, 12).filter((key) => names.includes(key))
    assert.deepEqual(resting, names.slice(0, 10))
    others(made, two, 30, 1)
    assert.equal(made.router.resting, 0)
    assert.ok(one.replies.every((reply) => reply === '+OK' || reply === '$-1'))
  })

  test('they wait while the state is written to disk', () => {
    const { made, one, two } = beside(1)
    made.isCheckpointing = true
    one.send(heavy('b'))
    others(made, two, 100, 10)
    assert.equal(made.router.resting, 1)
    made.isCheckpointing = false
    others(made, two, 1)
    assert.equal(one.replies[1], '+OK')
  })

  test('but not for ever, where one checkpoint follows the other', () => {
    const { made, one, two } = beside(1)
    made.isCheckpointing = true
    one.send(heavy('b'))
    others(made, two, 999, 10)
    others(made, two, 1, 9)
    assert.equal(made.router.resting, 1)
    others(made, two, 1, 1)
    assert.equal(made.router.resting, 0)
  })

  test('for each command of others that was slow some must be quick, or the longest rest be over', () => {
    const { made, one, two } = beside(39)
    assert.equal(two.replies[0], '+OK')
    one.send(heavy('b'))
    others(made, two, 4, 10)
    after(made, 1)
    assert.equal(one.replies[1], '+OK', 'one ms less is not slow')

    others(made, two, 4, 10)
    one.send(heavy('c'))
    two.send('SET light 1')
    after(made, 40)
    one.send(heavy('d'))
    others(made, two, 2, 20)
    assert.equal(made.router.resting, 1, 'one more is owed')
    others(made, two, 1)
    after(made, 1)
    assert.equal(one.replies[3], '+OK')

    others(made, two, 1)
    one.send(heavy('e'))
    two.send('SET light 1')
    after(made, 40)
    one.send(heavy('f'))
    // Nobody is quick: it is not their fault for ever.
    made.isCheckpointing = true
    others(made, two, 1, 50)
    made.isCheckpointing = false
    made.router.flush()
    made.now += heavyWrites.restMsMax - 1
    made.router.flush()
    two.send('SET light 1')
    assert.equal(made.router.resting, 1)
    made.now += 1
    made.router.flush()
    assert.equal(made.router.resting, 0)
  })

  test('who is slow while they rest is slow for another reason', () => {
    const { made, one, two } = beside(50)
    one.send(heavy('b'))
    others(made, two, 1, 50)
    assert.equal(made.router.resting, 0)
  })

  test('a pipeline, and a read in slices, say nothing of how long a command takes', () => {
    const made = bench()
    const [one, two, three] = [new Caller(made), new Caller(made), new Caller(made)]
    one.send(heavy('a'))
    two.send('SET light 1', 'SET light 2', 'SET light 3')
    three.send('MGET x')
    made.answerRounds(true)
    after(made, 10)
    others(made, two, 4, 1)
    one.send(heavy('b'))
    // Of these only the first one is watched; it is quick.
    two.submit('SET light 1')
    others(made, three, 1, 10)
    assert.equal(made.router.resting, 0)
  })

  test('when others have gone it goes on at once', () => {
    const { made, one } = beside(500)
    one.send(heavy('b'))
    made.isCheckpointing = true
    made.now = heavyWrites.othersMs
    made.router.flush()
    assert.equal(made.router.resting, 1)
    made.now += 1
    made.router.flush()
    assert.equal(made.router.resting, 0)
  })
})

describe('what rests', () => {
  test('is not placed any more when its client is gone, and of others all is', () => {
    const { made, one, two } = beside()
    one.send(heavy('b'), 'SET behind 1')
    const three = new Caller(made)
    three.send(heavy('c'))
    assert.equal(made.router.resting, 3)
    made.router.abandon(one.stream)
    assert.equal(made.router.resting, 1)
    assert.deepEqual(one.replies, ['+OK', '-ERR', '-ERR'])
    others(made, two, 21, 1)
    assert.deepEqual(
      logged(made, 4).filter((key) => key !== 'light'),
      ['c'],
    )
    made.router.abandon(three.stream)
  })

  test('has a bound, above which clients are read no further', () => {
    const { made, one, two } = beside()
    const most = heavyWrites.restingBytesMax
    const overhead = 64 + 'SETb'.length
    one.send(heavy('b', most - overhead))
    assert.equal(made.router.congested, false)
    one.send('GET b')
    assert.equal(made.router.congested, true)
    others(made, two, 21, 1)
    assert.equal(made.router.congested, false)
  })

  test('is kept when the leader is lost, however much may wait for one', () => {
    const { made, one } = beside()
    made.options.parkBytes = 100
    one.send(heavy('b'), heavy('c'))
    made.lose()
    assert.deepEqual([made.router.resting, made.router.parked], [0, 2])
    one.send('SET d 1')
    assert.deepEqual(one.replies, ['+OK', undefined, undefined, '-CLUSTERDOWN'])
    made.lead(2)
    made.apply()
    assert.deepEqual(one.replies.slice(1, 3), ['+OK', '+OK'])
  })

  test('waits for the end of CLIENT PAUSE, too', () => {
    const { made, one, two } = beside()
    one.send(heavy('b'))
    made.router.pauseUntil(1000)
    others(made, two, 1, 979)
    assert.equal(made.router.resting, 1)
    others(made, two, 1)
    assert.equal(made.router.resting, 0)
  })

  test('a read among it has as long for its round as one that comes then', () => {
    const { made, one, two } = beside()
    one.send(heavy('b'), 'GET a')
    made.isCheckpointing = true
    others(made, two, 300, 10)
    made.isCheckpointing = false
    const call = one.calls.at(-1)
    assert.ok(call && call.deadline < made.now)
    made.router.flush()
    assert.equal(made.router.resting, 0)
    assert.equal(call.deadline, made.now + PARK_MS)
  })
})

test('what is answered at once does not rest', () => {
  const { made, one } = beside()
  made.options.refusal = new ErrorReply('OOM full')
  one.send(heavy('b'))
  assert.equal(one.lastText, '-OOM full')
  made.options.refusal = undefined
  made.follow('leader', 2)
  made.options.redirect = 'moved'
  one.send(heavy('c'))
  assert.match(one.lastText ?? '', /^-MOVED 7 leader/)
})

test('at the leader, connections of other nodes that write heavily are nobody to wait for', () => {
  const made = bench()
  const [one, remote] = [new Caller(made), new Caller(made, { remote: true })]
  one.send(heavy('a'))
  remote.send('SET first 1')
  remote.send(heavy('b'))
  after(made, 20)
  one.send(heavy('c'))
  assert.equal(made.router.resting, 0)
})

describe('at a follower', () => {
  /** Leader 2's entries: commands of clients that are not connected here. */
  function strangers(made: RouterBench, words: string): void {
    made.logOf(2, words)
    made.apply()
  }

  function follower(): RouterBench {
    const made = bench()
    made.apply()
    made.follow('leader', 2)
    return made
  }

  test('beside clients of other nodes only, they rest several times as long as they took', () => {
    const made = follower()
    const one = new Caller(made)
    for (const [at, { bytes, took, rest }] of [
      { bytes: 300, took: 10, rest: 30 },
      { bytes: 300, took: 50, rest: 150 },
      { bytes: 600, took: 39, rest: 3 * 39 },
      { bytes: 600, took: 40, rest: 24 * 40 },
      { bytes: 600, took: 200, rest: heavyWrites.restMsMax },
    ].entries()) {
      one.send(heavy('a', bytes))
      strangers(made, 'SET light 1')
      made.now += took
      made.appended(2 * at)
      made.apply()
      assert.equal(one.replies[2 * at], '+OK')
      one.send(heavy('b'))
      for (const ms of [rest - 1, 1]) {
        assert.equal(made.frames.length, 2 * at + 1)
        strangers(made, 'SET light 1')
        made.now += ms
        made.router.flush()
      }
      assert.equal(made.frames.length, 2 * at + 2)
      made.appended(2 * at + 1)
      made.apply()
    }
  })

  test('and not longer for a long pipeline', () => {
    const made = follower()
    const one = new Caller(made)
    one.send(heavy('a'), heavy('b'))
    strangers(made, 'SET light 1')
    made.now += 100
    made.appended(0, 1)
    made.apply()
    one.send(heavy('c'))
    for (const ms of [299, 1]) {
      assert.equal(made.frames.length, 2)
      strangers(made, 'SET light 1')
      made.now += ms
      made.router.flush()
    }
    assert.equal(made.frames.length, 3)
  })

  test('and beside them for the longest time behind a checkpoint', () => {
    const made = follower()
    const one = new Caller(made)
    one.send(heavy('a'))
    strangers(made, 'SET light 1')
    made.appended(0)
    made.apply()
    made.isCheckpointing = true
    one.send(heavy('b'))
    made.isCheckpointing = false
    made.now += heavyWrites.restMsMax - 1
    strangers(made, 'SET light 1')
    made.router.flush()
    assert.equal(made.frames.length, 1)
    made.now += 1
    made.router.flush()
    assert.equal(made.frames.length, 2)
  })

  test('heavy writes of other nodes are nobody to wait for', () => {
    const made = follower()
    const one = new Caller(made)
    one.send(heavy('a'))
    strangers(made, heavy('b', limits.heavyWrites.bytesMin))
    made.logOf(2, ...Array.from({ length: 512 }, () => 'SET long:pipeline 1'))
    made.apply()
    made.now += 10
    made.appended(0)
    made.apply()
    one.send(heavy('c'))
    assert.equal(made.frames.length, 2)
  })

  test('what rests when the leader is lost has as long as a command that comes then', () => {
    const made = follower()
    const [one, two] = [new Caller(made), new Caller(made)]
    one.send(heavy('a'))
    two.send('SET light 1')
    made.appended(0, 1)
    after(made, 100)
    made.isCheckpointing = true
    one.send(heavy('b'), 'SET behind 1')
    for (let waited = 0; waited < 3 * PARK_MS; waited += 500) {
      two.send('SET light 1')
      made.appended(made.frames.length - 1)
      after(made, 500)
      made.router.expire()
    }
    assert.deepEqual(one.replies.slice(1), [undefined, undefined])
    made.lose()
    made.tick(PARK_MS - 1)
    assert.deepEqual(one.replies.slice(1), [undefined, undefined])
    made.follow('next', 3)
    assert.deepEqual(made.handed.slice(-2), [[heavy('b')], ['SET behind 1']])
  })

  test('and is answered that no leader is known when there is none for so long', () => {
    const made = follower()
    const [one, two] = [new Caller(made), new Caller(made)]
    one.send(heavy('a'))
    two.send('SET light 1')
    made.appended(0, 1)
    after(made, 100)
    one.send(heavy('b'), 'SET behind 1')
    assert.equal(made.router.resting, 2)
    made.lose()
    made.tick(PARK_MS)
    assert.deepEqual(one.replies, ['+OK', '-CLUSTERDOWN', '-CLUSTERDOWN'])
    assert.deepEqual([made.router.resting, made.router.parked], [0, 0])
  })
})
