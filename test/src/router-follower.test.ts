/* The router where another node leads, or none: parking, handing over, what comes back, and in which order. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Caller, PARK_MS, RouterBench } from './router-bench.ts'

function following(limits: ConstructorParameters<typeof RouterBench>[0] = {}): RouterBench {
  const bench = new RouterBench(limits)
  bench.follow('b', 1)
  return bench
}

/** Every call of a frame is answered by the leader. */
function answer(bench: RouterBench, frame: number, reply = '+OK', index = 9): void {
  for (const call of bench.frames[frame]?.calls ?? []) {
    bench.router.forwardAnswered(call, Buffer.from(`${reply}\r\n`), index)
  }
  bench.router.flush()
}

function refuse(bench: RouterBench, ...frames: readonly number[]): void {
  for (const frame of frames) bench.router.forwardRefused(bench.frames[frame]?.calls ?? [])
  bench.router.flush()
}

describe('without a leader', () => {
  test('commands wait for one until their deadline, and not a moment longer', () => {
    const bench = new RouterBench()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1', 'GET k')
    bench.tick(1)
    b.send('SET k 2')
    bench.tick(PARK_MS - 2)
    assert.deepEqual(a.replies, [undefined, undefined])
    bench.tick(1)
    assert.deepEqual(a.replies, ['-CLUSTERDOWN', '-CLUSTERDOWN'])
    assert.deepEqual(b.replies, [undefined])
    bench.follow('b', 1)
    assert.deepEqual(bench.handed, [['SET k 2']])
  })

  test('as many bytes may wait as are allowed, and not one more; one command always may', () => {
    const bench = new RouterBench()
    const [a, b, c] = [new Caller(bench), new Caller(bench), new Caller(bench)]
    // 64 bytes for the call, 4 for SET and k, and the value.
    const first = a.submit(`SET k ${'x'.repeat(432)}`)
    assert.equal(first.bytes, 500)
    b.send(`SET k ${'x'.repeat(433)}`)
    assert.deepEqual(b.replies, ['-CLUSTERDOWN'])
    c.send(`SET k ${'x'.repeat(432)}`)
    assert.deepEqual(c.replies, [undefined])
    const lone = new RouterBench()
    const large = new Caller(lone)
    large.send(`SET k ${'x'.repeat(5000)}`)
    assert.deepEqual(large.replies, [undefined])
    bench.tick(PARK_MS)
    assert.equal(bench.router.parked, 0)
  })

  test('reads wait for a leader as well, and go to the first one', () => {
    const bench = new RouterBench()
    const caller = new Caller(bench)
    caller.send('GET k')
    assert.equal(bench.rounds.length, 0)
    bench.follow('b', 1)
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['$-1'])
  })
})

describe('at a follower', () => {
  test('reads run here; writes of a turn go to the leader in one frame', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.submit('SET k 1')
    b.submit('SET k 2')
    const reader = new Caller(bench)
    reader.submit('GET k')
    bench.router.flush()
    assert.deepEqual(bench.handed, [['SET k 1', 'SET k 2']])
    bench.answerRounds(true)
    assert.deepEqual(reader.replies, ['$-1'])
    answer(bench, 0)
    assert.deepEqual([a.replies, b.replies], [['+OK'], ['+OK']])
  })

  test('behind a command handed over, everything of its connection is handed over, in order', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('GET before', 'SET k 1', 'GET k')
    caller.send('DBSIZE')
    assert.deepEqual(bench.handed, [['GET before', 'SET k 1', 'GET k'], ['DBSIZE']])
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, Array(4).fill(undefined))
    answer(bench, 0)
    answer(bench, 1)
    caller.send('GET k')
    assert.equal(bench.rounds.length, 1)
    assert.equal(bench.frames.length, 2)
  })

  test('a read does not see less than the reply before it', () => {
    const bench = following()
    bench.options.readConsistency = 'stale'
    const caller = new Caller(bench)
    caller.send('SET k 1')
    answer(bench, 0, '+OK', 1)
    caller.send('GET k')
    assert.deepEqual(caller.replies, ['+OK', undefined])
    bench.log.push({ term: 1, payload: { type: 'noop' } })
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', '$-1'])
  })

  test('a node that never catches up gives such a read up', () => {
    const bench = following()
    bench.options.readConsistency = 'stale'
    const caller = new Caller(bench)
    caller.send('SET k 1')
    answer(bench, 0, '+OK', 5)
    caller.send('GET k')
    bench.tick(5000)
    assert.deepEqual(caller.replies, ['+OK', '-CLUSTERDOWN'])
  })

  test('frames are as large as entries', () => {
    const bench = following({ entryCommands: 3, entryBytes: 300 })
    const caller = new Caller(bench)
    caller.send(...Array.from({ length: 7 }, (_, i) => `SET k ${i}`))
    caller.send(`SET k ${'x'.repeat(500)}`, 'SET k 8')
    const sizes = bench.frames.map(({ calls }) => calls.length)
    assert.deepEqual(sizes, [3, 3, 1, 1, 1])
  })

  test('so many bytes may be handed over; the rest waits for answers', () => {
    const bench = following({ forwardBytes: 150 })
    const caller = new Caller(bench)
    caller.send('SET k 1', 'SET k 2', 'SET k 3')
    assert.deepEqual(bench.handed, [['SET k 1', 'SET k 2']])
    assert.equal(bench.router.parked, 1)
    answer(bench, 0)
    assert.deepEqual(bench.handed[1], ['SET k 3'])
    answer(bench, 1)
    assert.deepEqual(caller.replies, ['+OK', '+OK', '+OK'])
    bench.tick(1)
  })

  test('while the link is down nothing is lost or reordered, and each tick tries again', () => {
    const bench = following()
    bench.linkUp = false
    const caller = new Caller(bench)
    caller.send('GET k', 'SET k 1')
    caller.send('SET k 2')
    assert.equal(bench.router.parked, 2)
    bench.linkUp = true
    bench.router.flush()
    assert.equal(bench.frames.length, 0)
    bench.tick(10)
    assert.deepEqual(bench.handed, [['GET k', 'SET k 1', 'SET k 2']])
  })

  test('a command for which there is no link in time was certainly not executed', () => {
    const bench = following()
    bench.linkUp = false
    const caller = new Caller(bench)
    caller.send('SET k 1')
    for (let ms = 0; ms < PARK_MS; ms += 10) bench.tick(10)
    assert.deepEqual(caller.replies, ['-CLUSTERDOWN'])
  })
})

describe('redirection', () => {
  test('keyed commands are told slot and address; those without keys are handed over', () => {
    const bench = following()
    bench.options.redirect = 'moved'
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k', 'FLUSHALL', 'DBSIZE')
    assert.deepEqual(caller.replies.slice(0, 2), ['-MOVED 7 b:6379', '-MOVED 7 b:6379'])
    assert.deepEqual(bench.handed, [['FLUSHALL', 'DBSIZE']])
  })

  test('without a leader nobody is named: commands wait', () => {
    const bench = new RouterBench()
    bench.options.redirect = 'moved'
    const caller = new Caller(bench)
    caller.send('SET k 1')
    assert.deepEqual(caller.replies, [undefined])
    bench.follow('c', 2)
    assert.deepEqual(caller.replies, ['-MOVED 7 c:6379'])
  })

  test('a leader redirects nobody', () => {
    const bench = new RouterBench()
    bench.options.redirect = 'moved'
    bench.lead(1)
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK'])
  })
})

describe('what a leader did not take', () => {
  test('goes to the next leader before newer commands, although its frames come back one by one', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('APPEND k 1')
    caller.send('APPEND k 2')
    caller.send('APPEND k 3')
    bench.follow('c', 2)
    caller.send('APPEND k 4')
    refuse(bench, 0)
    caller.send('APPEND k 5')
    refuse(bench, 1)
    refuse(bench, 2)
    const handed = bench.handed.slice(3).flat()
    assert.deepEqual(
      handed,
      [1, 2, 3, 4, 5].map((i) => `APPEND k ${i}`),
    )
  })

  test('also when the new leader is not known yet', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('APPEND k 1')
    caller.send('APPEND k 2')
    refuse(bench, 0)
    // It is asked no more before the next tick, and then what it did not take goes first.
    bench.tick(10)
    assert.equal(bench.frames.length, 2)
    refuse(bench, 1)
    caller.send('APPEND k 3')
    bench.lose()
    bench.follow('c', 2)
    assert.deepEqual(bench.handed.slice(2).flat(), ['APPEND k 1', 'APPEND k 2', 'APPEND k 3'])
  })

  test('waits for what went before it: an earlier command may still be answered', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('APPEND k 1')
    caller.send('APPEND k 2')
    bench.follow('c', 2)
    caller.send('APPEND k 3')
    refuse(bench, 1)
    assert.equal(bench.frames.length, 2)
    assert.equal(bench.router.parked, 2)
    answer(bench, 0, ':1')
    assert.deepEqual(bench.handed.slice(2), [['APPEND k 2', 'APPEND k 3']])
    assert.deepEqual(caller.replies, [':1', undefined, undefined])
  })

  test('holds the newer ones also where this node has come to lead', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('APPEND k 1')
    bench.lead(2)
    caller.send('APPEND k 2')
    assert.equal(bench.log.length, 1)
    refuse(bench, 0)
    assert.deepEqual(bench.entry(2), ['APPEND k 1', 'APPEND k 2'])
  })

  test('counts as waiting: whoever holds much back is congested', () => {
    const bench = following({ backlogBytes: 300 })
    const caller = new Caller(bench)
    caller.send('SET k 0')
    bench.follow('c', 2)
    for (let i = 1; i < 6; i++) caller.send(`SET k ${i}`)
    assert.equal(bench.router.congested, true)
    answer(bench, 0)
    assert.equal(bench.router.congested, false)
  })

  test('other connections go on meanwhile', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    bench.follow('c', 2)
    a.send('SET k 2')
    b.send('SET k 3')
    assert.deepEqual(bench.handed.slice(1), [['SET k 3']])
  })
})

describe('a leader that is lost', () => {
  test('with its link: writes are of unknown outcome, reads are asked again unless a write followed', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1', 'GET k')
    b.send('SET k 2', 'GET k', 'SET k 3')
    bench.router.forwardLost('b')
    bench.router.flush()
    assert.deepEqual(a.replies, ['-TIMEOUT', undefined])
    assert.deepEqual(b.replies, ['-TIMEOUT', '-TIMEOUT', '-TIMEOUT'])
    bench.answerRounds(true)
    assert.deepEqual(a.replies, ['-TIMEOUT', '$-1'])
    bench.tick(1)
  })

  test('another link that breaks concerns nobody', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.router.forwardLost('c')
    assert.deepEqual(caller.replies, [undefined])
    answer(bench, 0)
    assert.deepEqual(caller.replies, ['+OK'])
  })

  test('with its office: its answer still counts until the deadline', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    b.send('SET k 2')
    bench.lose()
    bench.tick(PARK_MS - 1)
    const [first, second] = bench.frames.flatMap(({ calls }) => calls)
    assert.ok(first && second)
    bench.router.forwardAnswered(first, Buffer.from('+OK\r\n'), 1)
    bench.tick(1)
    assert.deepEqual([a.replies, b.replies], [['+OK'], ['-TIMEOUT']])
    bench.router.forwardAnswered(second, Buffer.from('+OK\r\n'), 1)
    assert.deepEqual(b.replies, ['-TIMEOUT'])
  })

  test('and found again in the same term: there is no deadline any more', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.lose()
    bench.tick(PARK_MS / 2)
    bench.follow('b', 1)
    bench.tick(PARK_MS * 3)
    assert.deepEqual(caller.replies, [undefined])
    answer(bench, 0)
    assert.deepEqual(caller.replies, ['+OK'])
  })

  test('a late refusal or answer of a call that was handed on since changes nothing twice', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k')
    const [frame] = bench.frames
    assert.ok(frame)
    bench.router.forwardLost('b')
    bench.router.flush()
    bench.router.forwardRefused(frame.calls)
    bench.router.flush()
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['-TIMEOUT', '$-1'])
    bench.router.forwardRefused(frame.calls)
    for (const call of frame.calls) bench.router.forwardAnswered(call, Buffer.from('+X\r\n'), 1)
    bench.tick(1)
    assert.equal(bench.router.parked, 0)
  })
})
