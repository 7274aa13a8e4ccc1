/* The router where another node leads, or none: parking, handing over, what comes back, and in which order. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { encodeCommands } from '../../storage/codec.ts'
import { Caller, PARK_MS, RouterBench } from './router-bench.ts'

function following(limits: ConstructorParameters<typeof RouterBench>[0] = {}): RouterBench {
  const bench = new RouterBench(limits)
  bench.follow('b', 1)
  return bench
}

/** Every call of a frame is answered by the leader. */
function answer(bench: RouterBench, frame: number, reply = '+OK', index = 9): void {
  for (const tag of tagsOf(bench, frame)) {
    bench.router.forwardAnswered(tag, Buffer.from(`${reply}\r\n`), index)
  }
  bench.router.flush()
}

function tagsOf(bench: RouterBench, frame: number): number[] {
  const { first = 0, calls = [] } = bench.frames[frame] ?? {}
  return calls.map((_, i) => first + i)
}

function refuse(bench: RouterBench, ...frames: readonly number[]): void {
  for (const frame of frames) bench.router.forwardRefused(tagsOf(bench, frame))
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

  test('what has no room at a leader that answers late has no deadline; without a way to it, it has', () => {
    const bench = following({ forwardBytes: 100 })
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    b.send('SET k 2')
    assert.deepEqual(bench.handed, [['SET k 1']])
    bench.tick(10 * PARK_MS)
    assert.deepEqual([a.replies, b.replies], [[undefined], [undefined]])
    bench.linkUp = false
    answer(bench, 0, '+OK', 1)
    bench.router.flush()
    assert.deepEqual([a.replies, b.replies], [['+OK'], [undefined]])
    bench.tick(1)
    assert.deepEqual(b.replies, ['-CLUSTERDOWN'])
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
    // It was elected, but has not applied all of the log yet.
    bench.term = 2
    bench.route({ kind: 'self', term: 2, established: true })
    caller.send('APPEND k 2')
    assert.equal(bench.log.length, 0)
    refuse(bench, 0)
    assert.deepEqual(bench.entry(1), ['APPEND k 1', 'APPEND k 2'])
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
  test('and had appended the commands: they are answered where they stand in the log, reads between them', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('APPEND k 1', 'GET k', 'APPEND k 2')
    b.send('APPEND k 3')
    a.send('APPEND k 4', 'GET k')
    bench.router.forwardLost('b')
    bench.lose()
    bench.appended(0, 1)
    bench.appended(2)
    bench.apply()
    assert.deepEqual(a.replies, [':1', '$1 1', ':2', ':4', undefined])
    assert.deepEqual(b.replies, [':3'])
    // Nothing stands behind the last read: it may run anywhere.
    bench.follow('c', 2)
    bench.succeeded(2)
    bench.answerRounds(true)
    assert.equal(a.replies[4], '$4 1234')
    assert.equal(bench.frames.length, 3)
    bench.tick(1)
  })

  test('and had not: once an entry of its successor is applied they are placed there, in order', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('APPEND k 1', 'GET k', 'APPEND k 2')
    b.send('INCR n')
    bench.router.forwardLost('b')
    bench.follow('c', 2)
    a.send('APPEND k 3')
    assert.equal(bench.frames.length, 2)
    bench.succeeded(2)
    assert.deepEqual(bench.handed.slice(2), [
      ['APPEND k 1', 'GET k', 'APPEND k 2', 'APPEND k 3', 'INCR n'],
    ])
    bench.appended(2)
    bench.apply()
    assert.deepEqual(a.replies, [':1', '$1 1', ':2', ':3'])
    assert.deepEqual(b.replies, [':1'])
    bench.tick(1)
  })

  test('and had appended the first of them: only the others are placed at its successor', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('INCR n')
    caller.send('INCR n', 'GET n')
    bench.router.forwardLost('b')
    bench.appended(0)
    bench.follow('c', 2)
    bench.succeeded(2)
    assert.deepEqual(caller.replies, [':1', undefined, undefined])
    assert.deepEqual(bench.handed.slice(2), [['INCR n', 'GET n']])
  })

  test('and this node succeeds it: it appends what was not appended, and nothing twice', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('INCR n')
    caller.send('INCR n')
    bench.router.forwardLost('b')
    bench.appended(0)
    bench.lead(2)
    assert.deepEqual(caller.replies, [':1', undefined])
    bench.apply()
    assert.deepEqual(caller.replies, [':1', ':2'])
    assert.deepEqual(
      [1, 2, 3].map((index) => bench.entry(index)),
      [['INCR n'], [], ['INCR n']],
    )
  })

  test('what its entry holds is no business of an earlier process of this node', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('INCR n')
    bench.router.forwardLost('b')
    const [{ first: tag = 0, calls = [] } = {}] = bench.frames
    const logged = calls.map(({ database, args }) => ({ database, argv: args }))
    const origin = { node: 'self', incarnation: 2 }
    const data = encodeCommands(1, logged, [{ origin, place: 0, count: 1, tag }])
    bench.log.push({ term: 1, payload: { type: 'commands', data } })
    bench.apply()
    assert.deepEqual(caller.replies, [undefined])
    bench.follow('c', 2)
    bench.succeeded(2)
    assert.deepEqual(bench.handed.slice(1), [['INCR n']])
  })

  test('its link alone gives back at once what reads only', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1', 'GET k')
    bench.router.forwardAnswered(1, Buffer.from('+OK\r\n'), 1)
    b.send('SET k 2', 'GET k')
    bench.router.forwardLost('b')
    bench.router.flush()
    assert.equal(bench.rounds.length, 1)
    bench.log.push({ term: 1, payload: { type: 'noop' } })
    bench.apply()
    bench.answerRounds(true)
    assert.deepEqual(a.replies, ['+OK', '$-1'])
    assert.deepEqual(b.replies, [undefined, undefined])
  })

  test('another link that breaks concerns nobody', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.router.forwardLost('c')
    bench.router.flush()
    assert.deepEqual([caller.replies, bench.fences], [[undefined], []])
    answer(bench, 0)
    assert.deepEqual(caller.replies, ['+OK'])
  })

  test('with its office: its answer still counts until the deadline, then the outcome is unknown', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    b.send('SET k 2', 'GET k')
    bench.lose()
    bench.tick(PARK_MS - 1)
    bench.router.forwardAnswered(1, Buffer.from('+OK\r\n'), 0)
    bench.tick(1)
    assert.deepEqual([a.replies, b.replies], [['+OK'], ['-TIMEOUT', undefined]])
    bench.router.forwardAnswered(2, Buffer.from('+OK\r\n'), 1)
    bench.follow('c', 2)
    bench.answerRounds(true)
    assert.deepEqual(b.replies, ['-TIMEOUT', '$-1'])
  })

  test('a read that a write of unknown outcome would have followed is of no known outcome either', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k', 'SET k 2')
    bench.lose()
    bench.tick(PARK_MS)
    assert.deepEqual(caller.replies, ['-TIMEOUT', '-TIMEOUT', '-TIMEOUT'])
  })

  test('and found again in the same term: there is no deadline any more', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.lose()
    bench.tick(PARK_MS / 2)
    bench.follow('b', 1)
    caller.send('GET k')
    assert.equal(bench.frames.length, 2)
    bench.tick(PARK_MS * 3)
    assert.deepEqual(caller.replies, [undefined, undefined])
    answer(bench, 0)
    assert.deepEqual(caller.replies, ['+OK', undefined])
  })

  test('nor one of calls that are handed to it after others were given up', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.lose()
    bench.tick(PARK_MS)
    bench.follow('b', 1)
    caller.send('SET k 2')
    bench.tick(PARK_MS)
    assert.deepEqual(caller.replies, ['-TIMEOUT', undefined])
  })

  test('a late refusal or answer of a call that was handed on since changes nothing', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k')
    bench.router.forwardLost('b')
    bench.follow('c', 2)
    bench.succeeded(2)
    const tags = tagsOf(bench, 0)
    bench.router.forwardRefused(tags)
    for (const tag of tags) bench.router.forwardAnswered(tag, Buffer.from('+X\r\n'), 1)
    assert.deepEqual(caller.replies, [undefined, undefined])
    assert.equal(bench.router.parked, 0)
    answer(bench, 1, '+OK', 1)
    bench.tick(1)
    assert.deepEqual(caller.replies, ['+OK', '+OK'])
  })

  test('entries that a snapshot skipped may have held the commands: only their leader knows', () => {
    const bench = following()
    const [answered, lost, later] = [new Caller(bench), new Caller(bench), new Caller(bench)]
    answered.send('SET k 1')
    lost.send('SET k 2', 'GET k')
    bench.router.skippedTo(7)
    later.send('SET k 3')
    answered.send('GET k')
    assert.equal(bench.router.parked, 1)
    answer(bench, 0, '+OK', 0)
    bench.router.forwardLost('b')
    bench.follow('c', 2)
    bench.succeeded(2)
    assert.deepEqual(
      [answered.replies, lost.replies],
      [
        ['+OK', undefined],
        ['-TIMEOUT', undefined],
      ],
    )
    // What was handed over behind them is in no entry that was skipped.
    assert.deepEqual(bench.handed.slice(3), [['SET k 3']])
    bench.tick(1)
  })

  test('and while its link stands, the log of its successor does not count for them', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.router.skippedTo(7)
    bench.follow('c', 2)
    bench.succeeded(2)
    assert.deepEqual([caller.replies, bench.frames.length], [[undefined], 1])
    bench.tick(PARK_MS)
    assert.deepEqual(caller.replies, ['-TIMEOUT'])
  })
})

describe('a link that breaks under a leader that stays', () => {
  test('what it took is answered from the log, what it did not take is placed again behind a fence', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('APPEND k 1')
    a.send('APPEND k 2', 'GET k', 'APPEND k 3')
    bench.router.forwardLost('b')
    bench.router.flush()
    assert.equal(bench.fences.length, 1)
    a.send('APPEND k 4')
    // Others need not wait.
    b.send('APPEND l x')
    assert.deepEqual(bench.handed.slice(2), [['APPEND l x']])
    bench.appended(0)
    bench.apply()
    assert.deepEqual(a.replies, [':1', undefined, undefined, undefined, undefined])
    bench.fenced(0)
    bench.apply()
    bench.router.flush()
    assert.deepEqual(bench.handed.slice(3), [['APPEND k 2', 'GET k', 'APPEND k 3', 'APPEND k 4']])
    // The fence says nothing of what was handed over behind it.
    assert.deepEqual(b.replies, [undefined])
    bench.appended(2, 3)
    bench.apply()
    assert.deepEqual(a.replies, [':1', ':2', '$2 12', ':3', ':4'])
    assert.deepEqual(b.replies, [':1'])
    bench.tick(1)
    assert.equal(bench.fences.length, 1)
  })

  test('a fence that found no link is sent at the next tick, before anything else', () => {
    const bench = following()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    bench.router.forwardLost('b')
    bench.linkUp = false
    b.send('SET l 1')
    assert.deepEqual([bench.fences.length, bench.router.parked], [0, 1])
    bench.linkUp = true
    bench.tick(10)
    assert.ok((bench.fences[0]?.tag ?? 0) < (bench.frames[1]?.first ?? 0))
  })

  test('a fence that is refused, answered with an error or lost with its link is sent again', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.router.forwardLost('b')
    bench.router.flush()
    bench.router.forwardRefused([2])
    bench.router.flush()
    assert.equal(bench.fences.length, 1)
    bench.tick(10)
    assert.equal(bench.fences.length, 2)
    bench.router.forwardAnswered(3, Buffer.from('-CLUSTERDOWN full\r\n'), 1)
    bench.router.flush()
    assert.equal(bench.fences.length, 3)
    bench.router.forwardLost('b')
    bench.router.flush()
    assert.equal(bench.fences.length, 4)
    // That it was appended counts where it is applied, and not before.
    bench.router.forwardAnswered(5, Buffer.from('+OK\r\n'), 1)
    bench.router.flush()
    assert.equal(bench.frames.length, 1)
    bench.fenced(3)
    bench.apply()
    bench.router.flush()
    assert.deepEqual(bench.handed.slice(1), [['SET k 1']])
    bench.tick(10)
    assert.equal(bench.fences.length, 4)
  })

  test('without a fence in time the outcome is unknown', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.linkUp = false
    bench.router.forwardLost('b')
    bench.tick(PARK_MS - 1)
    assert.deepEqual(caller.replies, [undefined])
    bench.tick(1)
    assert.deepEqual(caller.replies, ['-TIMEOUT'])
  })

  test('a command that the leader had turned down before it took a later one is not executed', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    caller.send('SET k 2')
    bench.router.forwardLost('b')
    bench.appended(1)
    bench.apply()
    assert.deepEqual(caller.replies, ['-CLUSTERDOWN', '+OK'])
    bench.tick(1)
  })
})

describe('a read that a write behind it overtook, because it is a long one', () => {
  test('runs here, where that write stands in the log, when its leader is lost', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    answer(bench, 0, '+OK', 0)
    bench.log.push({ term: 1, payload: { type: 'noop' } })
    bench.apply()
    caller.send('GET k', 'SET k 2')
    bench.router.forwardAnswered(3, Buffer.from('+OK\r\n'), 0)
    bench.router.forwardLost('b')
    bench.router.flush()
    assert.deepEqual([caller.replies.slice(1), bench.rounds.length], [[undefined, '+OK'], 0])
    bench.appended(1)
    bench.apply()
    // The first write is in no entry of this log.
    assert.deepEqual(caller.replies, ['+OK', '$-1', '+OK'])
    bench.tick(1)
  })

  test('and given up with it otherwise', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('GET k', 'SET k 2')
    bench.router.forwardAnswered(2, Buffer.from('+OK\r\n'), 0)
    bench.lose()
    bench.tick(PARK_MS)
    assert.deepEqual(caller.replies, ['-TIMEOUT', '+OK'])
  })

  test('may run anywhere when that write changed nothing', () => {
    const bench = following()
    const caller = new Caller(bench)
    caller.send('GET k', 'INCR x')
    bench.router.forwardAnswered(2, Buffer.from('-ERR value\r\n'), 0)
    bench.router.forwardLost('b')
    bench.router.flush()
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['$-1', '-ERR'])
  })
})
