/* The router where its node leads: entries, riders, read rounds, a full log, and the end of its office. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ErrorReply } from '../../resp/encoder.ts'
import { Call, Stream } from '../../src/call.ts'
import { limits } from '../../src/config.ts'
import { fence } from '../../src/keyspace.ts'
import { Caller, PARK_MS, RouterBench } from './router-bench.ts'

function leading(limits: ConstructorParameters<typeof RouterBench>[0] = {}): RouterBench {
  const bench = new RouterBench(limits)
  bench.lead(1)
  return bench
}

describe('entries', () => {
  test('the writes of a turn, of all connections, share one entry', () => {
    const bench = leading()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.submit('SET k 1')
    b.submit('INCR n')
    a.submit('APPEND k 2')
    bench.router.flush()
    assert.deepEqual(bench.entry(2), ['SET k 1', 'INCR n', 'APPEND k 2'])
    bench.apply()
    assert.deepEqual([a.replies, b.replies], [['+OK', ':2'], [':1']])
  })

  test('while an entry is on its way the next one collects, until that is through or its time is up', () => {
    const bench = leading({ entryWaitMs: 5, entryCommands: 3 })
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    assert.deepEqual(bench.entry(2), ['SET k 1'], 'nothing is on its way: no wait')
    a.send('SET k 2', 'GET k')
    b.send('INCR n')
    assert.equal(bench.log.length, 2)
    bench.wakes = 0
    bench.apply()
    assert.ok(bench.wakes > 0, 'the next turn is asked for')
    bench.router.flush()
    assert.deepEqual(bench.entry(3), ['SET k 2', 'INCR n'])
    a.send('SET k 3')
    bench.now += 4
    bench.router.flush()
    assert.equal(bench.log.length, 3)
    bench.tick(1)
    assert.deepEqual(bench.entry(4), ['SET k 3'], 'it has waited for 5 ms')
    b.send('INCR n', 'INCR n', 'INCR n', 'INCR n')
    assert.deepEqual(bench.entry(5), ['INCR n', 'INCR n', 'INCR n'], 'a full one does not wait')
    assert.equal(bench.log.length, 5)
    bench.apply()
    bench.router.flush()
    bench.apply()
    assert.deepEqual(a.replies, ['+OK', '+OK', '$1 2', '+OK'])
    assert.deepEqual(b.replies, [':1', ':2', ':3', ':4', ':5'])
  })

  test('the clients that an entry answered have a moment to come back, so that none has a round alone', () => {
    const bench = leading({ entryWaitMs: 5 })
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    b.send('INCR n')
    bench.now += 4
    bench.apply()
    a.send('SET k 2')
    assert.deepEqual(bench.entry(3), ['INCR n', 'SET k 2'], 'both are there: no wait')
    bench.now += 4
    bench.apply()
    a.send('SET k 3')
    assert.equal(bench.log.length, 3, 'b may come back')
    const [timer, ...others] = bench.timers
    assert.deepEqual([timer?.at, others.length], [bench.now + 2, 0])
    bench.now += 2
    timer?.due()
    bench.router.flush()
    assert.deepEqual(bench.entry(4), ['SET k 3'], 'b does not, and a waits no longer')
    bench.apply()
    a.send('SET k 4')
    assert.deepEqual(bench.entry(5), ['SET k 4'], 'b is not expected any more')
  })

  test('what collects when the office ends was certainly not appended', () => {
    const bench = leading({ entryWaitMs: 5 })
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('SET k 1')
    b.send('SET n 2', 'GET n')
    bench.follow('other', 2)
    assert.deepEqual(bench.handed, [['SET n 2', 'GET n']])
  })

  test('an entry closes at its number of commands, and all of a turn are proposed in it', () => {
    const bench = leading({ entryCommands: 3 })
    const caller = new Caller(bench)
    caller.send(...Array.from({ length: 8 }, (_, i) => `SET k ${i}`))
    const sizes = [2, 3, 4].map((index) => bench.entry(index).length)
    assert.deepEqual(sizes, [3, 3, 2])
    assert.equal(bench.router.parked, 0)
    bench.apply()
    assert.deepEqual(caller.replies, Array(8).fill('+OK'))
  })

  test('an entry closes at its bytes; one larger command stands alone', () => {
    const bench = leading({ entryBytes: 300 })
    const caller = new Caller(bench)
    const large = `SET big ${'x'.repeat(400)}`
    caller.send('SET a 1', 'SET b 2', 'SET c 3', 'SET d 4', large, 'SET e 5')
    assert.deepEqual(
      [2, 3, 4, 5].map((index) => bench.entry(index).length),
      [4, 1, 1, 0],
    )
    assert.deepEqual(bench.entry(3), [large])
  })

  test('an entry closes at the keys that its writes name', () => {
    const bench = leading({ entryKeys: 5 })
    const caller = new Caller(bench)
    caller.send('DEL a b c', 'MSET d 1 e 2', 'SET f 1', 'DEL 1 2 3 4 5 6 7', 'FLUSHALL', 'SET g 1')
    const words = [2, 3, 4, 5].map((index) => bench.entry(index))
    assert.deepEqual(words, [
      ['DEL a b c', 'MSET d 1 e 2'],
      ['SET f 1'],
      ['DEL 1 2 3 4 5 6 7'],
      ['FLUSHALL', 'SET g 1'],
    ])
  })

  test('an entry closes before its writes handle too many bytes of values', () => {
    const bench = leading({ entryWeight: 40 })
    bench.valueLength = 10
    const caller = new Caller(bench)
    // Each is given so many bytes and makes as many; the second APPEND of a key is given what the first will make.
    caller.send('SETBIT a 0 1', 'SETBIT b 0 1', 'SETBIT c 0 1', 'SET d 1', 'SETRANGE c 0 x')
    caller.send('APPEND e x', 'SETBIT f 8 1', 'SETRANGE g 100 x', 'APPEND g x', 'SET h 1')
    const words = [2, 3, 4, 5, 6, 7].map((index) => bench.entry(index))
    assert.deepEqual(words, [
      ['SETBIT a 0 1', 'SETBIT b 0 1'],
      ['SETBIT c 0 1', 'SET d 1', 'SETRANGE c 0 x'],
      ['APPEND e x'],
      ['SETBIT f 8 1'],
      ['SETRANGE g 100 x'],
      ['APPEND g x'],
    ])
  })

  test('a write of more keys than the limit is refused, the one before it is not', () => {
    const bench = leading({ writeKeys: 3 })
    const [caller, remote] = [new Caller(bench), new Caller(bench, { remote: true })]
    caller.send('MSET a 1 b 2 c 3', 'MSET a 1 b 2 c 3 d 4', 'DEL a b c d', 'MGET a b c d e')
    remote.send('DEL 1 2 3 4')
    assert.deepEqual(caller.replies.slice(1, 3), ['-ERR', '-ERR'])
    assert.deepEqual([bench.entry(2), bench.entry(3)], [['MSET a 1 b 2 c 3'], ['DEL 1 2 3 4']])
    bench.apply()
    assert.equal(caller.replies[0], '+OK')
  })

  test('a write that would work on more of values than the limit is refused, where nothing is on its way', () => {
    const bench = leading()
    bench.options.writeWorkMax = 30
    bench.valueLength = 10
    const [caller, other] = [new Caller(bench), new Caller(bench)]
    // Given 10, made 20; one byte more; and what only hands a value on may be of any length.
    caller.send('SETBIT a 159 1', 'SETBIT b 160 1', 'EXPIRE c 100')
    assert.equal(caller.replies[1], undefined, 'what is on its way may leave a shorter value')
    other.send('SET d 1')
    assert.deepEqual(bench.entry(2), ['SETBIT a 159 1'])
    const { wakes } = bench
    bench.apply()
    assert.ok(bench.wakes > wakes, 'it is looked at again at once')
    bench.router.flush()
    assert.deepEqual(caller.replies, [':0', '-ERR', undefined])
    assert.deepEqual(bench.entry(3), ['EXPIRE c 100', 'SET d 1'])
    bench.options.writeWorkMax = 29
    bench.apply()
    caller.send('SETBIT a 159 1')
    assert.match(caller.lastText ?? '', /-ERR .* 30 bytes of values .*write-work-max is 29$/)
    assert.equal(bench.router.parked, 0)
  })

  test('a full log holds everything back, in order, and encodes nothing twice', () => {
    const bench = leading({ entryCommands: 2 })
    const [a, b] = [new Caller(bench), new Caller(bench)]
    bench.room = 1
    a.send('SET k 1', 'SET k 2', 'SET k 3')
    b.send('APPEND k 4', 'GET k')
    assert.equal(bench.log.length, 2)
    assert.equal(bench.router.parked, 2)
    for (let turn = 0; turn < 5; turn++) bench.router.flush()
    assert.equal(bench.encoded, 2)
    bench.room = 10
    bench.router.flush()
    assert.equal(bench.encoded, 3)
    bench.apply()
    assert.deepEqual(a.replies, ['+OK', '+OK', '+OK'])
    assert.deepEqual(b.replies, [':2', '$2 34'])
  })

  test('as many bytes may be proposed and not applied as are allowed, and not one more', () => {
    for (const [size, proposed] of [
      [500, 2],
      [501, 1],
    ] as const) {
      const bench = leading({ entryCommands: 1, unappliedBytes: 1000 })
      const [a, b, c] = [new Caller(bench), new Caller(bench), new Caller(bench)]
      // 64 bytes for the call, 4 for SET and k, and the value.
      assert.equal(a.submit(`SET k ${'x'.repeat(432)}`).bytes, 500)
      b.send(`SET k ${'x'.repeat(size - 68)}`)
      assert.equal(bench.router.pendingEntries, proposed)
      c.send('SET k 1')
      assert.equal(bench.router.pendingEntries, proposed)
      bench.apply()
      bench.router.flush()
      assert.equal(bench.router.parked, 0)
      bench.apply()
      assert.deepEqual([a.replies, b.replies, c.replies], [['+OK'], ['+OK'], ['+OK']])
    }
  })

  test('one entry larger than that stands alone', () => {
    const bench = leading({ entryCommands: 1, unappliedBytes: 1000 })
    const [small, large] = [new Caller(bench), new Caller(bench)]
    small.send('SET k 1')
    large.send(`SET k ${'x'.repeat(2000)}`)
    assert.equal(bench.router.pendingEntries, 1)
    bench.wakes = 0
    bench.apply()
    assert.equal(bench.wakes, 1, 'now that there is room a turn is asked for')
    bench.router.flush()
    assert.equal(bench.router.pendingEntries, 1)
    bench.apply()
    assert.deepEqual(large.replies, ['+OK'])
  })

  test('what waits for room has no deadline; when its leader is lost, the time of a new command', () => {
    const bench = leading({ entryCommands: 1 })
    const caller = new Caller(bench)
    bench.room = 1
    caller.send('SET k 1', 'SET k 2', 'SET k 3')
    bench.tick(10 * PARK_MS)
    assert.deepEqual(caller.replies, [undefined, undefined, undefined])
    bench.apply()
    bench.room = 1
    bench.tick(1)
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', '+OK', undefined])
    bench.route({ kind: 'none' })
    bench.tick(PARK_MS - 1)
    assert.equal(caller.replies[2], undefined)
    bench.tick(1)
    assert.equal(caller.replies[2], '-CLUSTERDOWN')
  })

  test('the frontend is told to stop while too much waits for room, and to go on', () => {
    const bench = leading({ entryCommands: 1, backlogBytes: 500 })
    const caller = new Caller(bench)
    bench.room = 0
    for (let i = 0; i < 10; i++) caller.send(`SET k ${i}`)
    assert.equal(bench.router.congested, true)
    bench.room = 100
    bench.router.flush()
    assert.equal(bench.router.congested, false)
    assert.equal(bench.router.parked, 0)
  })

  test('nothing is placed before everything of earlier terms is applied', () => {
    const bench = new RouterBench()
    bench.term = 4
    bench.route({ kind: 'self', term: 4, established: false })
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k')
    assert.deepEqual([bench.log.length, bench.rounds.length], [0, 0])
    bench.route({ kind: 'self', term: 4, established: true })
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', '$1 1'])
  })
})

describe('reads', () => {
  test('the reads of a turn share one round, and run when it is confirmed', () => {
    const bench = leading()
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.submit('GET k')
    b.submit('GET k')
    a.submit('DBSIZE')
    bench.router.flush()
    assert.equal(bench.rounds.length, 1)
    assert.deepEqual(a.replies, [undefined, undefined])
    bench.answerRounds(true)
    assert.deepEqual([a.replies, b.replies], [['$-1', ':0'], ['$-1']])
  })

  test('of a turn reads have only so much time; the others go on in the next ones, and no connection is left out', () => {
    const bench = leading({ readTurnMs: 8 })
    const [many, one] = [new Caller(bench), new Caller(bench)]
    const run = bench.keyspace.readAt.bind(bench.keyspace)
    let readMs = 4
    bench.keyspace.readAt = (...read) => {
      bench.now += readMs
      return run(...read)
    }
    const answered = (): readonly number[] =>
      [many, one].map(({ replies }) => replies.filter((reply) => reply !== undefined).length)
    for (let i = 0; i < 7; i++) many.submit('GET k')
    one.submit('GET k')
    bench.router.flush()
    bench.answerRounds(true)
    assert.deepEqual(answered(), [1, 1])
    bench.wakes = 0
    bench.router.afterApply()
    assert.ok(bench.wakes > 0, 'the next turn is asked for')
    assert.deepEqual(answered(), [1, 1])
    // However late it is: they are confirmed, and wait for nothing but their share.
    bench.now += 100_000
    bench.router.expire()
    bench.router.flush()
    assert.deepEqual(answered(), [3, 1])
    one.submit('GET k')
    bench.router.flush()
    bench.answerRounds(true)
    assert.deepEqual(answered(), [5, 1], 'whoever comes later waits as well')
    readMs = 9
    bench.router.flush()
    assert.deepEqual(answered(), [6, 1], 'one runs, however long it takes')
    bench.router.flush()
    assert.deepEqual(answered(), [6, 2])
    bench.router.flush()
    assert.deepEqual(answered(), [7, 2])
    bench.wakes = 0
    bench.router.afterApply()
    assert.equal(bench.wakes, 0)
  })

  test('a write takes along reads that a turn had no time for', () => {
    const bench = leading({ readTurnMs: 0 })
    const caller = new Caller(bench)
    for (let i = 0; i < 3; i++) caller.submit('GET k')
    bench.router.flush()
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['$-1', undefined, undefined])
    caller.submit('SET k 1')
    bench.router.flush()
    bench.apply()
    assert.deepEqual(caller.replies.slice(1, 4), ['$-1', '$-1', '+OK'])
  })

  test('reads wait for the round before theirs, and then for the clients that it answered', () => {
    const bench = leading({ readWaitMs: 5 })
    const callers = [1, 2, 3].map(() => new Caller(bench))
    const [a, b, c] = callers as [Caller, Caller, Caller]
    a.send('GET k')
    assert.equal(bench.rounds.length, 1, 'nothing is asked for: no wait')
    b.send('GET k')
    c.send('GET k')
    assert.equal(bench.rounds.length, 1)
    bench.wakes = 0
    bench.answerRounds(true)
    bench.router.afterApply()
    assert.ok(bench.wakes > 0, 'the next turn is asked for')
    bench.router.flush()
    assert.equal(bench.rounds.length, 0, 'a may come back')
    bench.wakes = 0
    bench.router.afterApply()
    assert.ok(bench.wakes > 0, 'and the sockets are looked at once more')
    a.send('GET k')
    assert.equal(bench.rounds.length, 1, 'all are there')
    bench.answerRounds(true)
    a.send('GET k')
    b.send('GET k')
    assert.equal(bench.rounds.length, 0, 'c may come back')
    bench.router.flush()
    assert.equal(bench.rounds.length, 1, 'it does not')
    bench.answerRounds(true)
    assert.deepEqual(
      callers.map(({ replies }) => replies.length),
      [3, 2, 1],
    )
    assert.ok(callers.every(({ replies }) => replies.every((reply) => reply === '$-1')))
  })

  test('reads wait for a round no longer than is allowed, because it may be lost', () => {
    const bench = leading({ readWaitMs: 5 })
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('GET k')
    b.send('GET k')
    bench.tick(4)
    assert.equal(bench.rounds.length, 1)
    bench.tick(1)
    assert.equal(bench.rounds.length, 2)
    bench.rounds.pop()?.(true)
    assert.deepEqual([a.replies, b.replies], [[undefined], ['$-1']])
  })

  test('reads that wait when the leader is lost ask for no turn after another', () => {
    const bench = leading({ readWaitMs: 5 })
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send('GET k')
    b.send('GET k')
    bench.lose()
    bench.answerRounds(false)
    bench.router.flush()
    bench.wakes = 0
    bench.router.afterApply()
    assert.equal(bench.wakes, 0)
    bench.lead(2)
    bench.answerRounds(true)
    assert.deepEqual([a.replies, b.replies], [['$-1'], ['$-1']])
  })

  test('a round with many reads waits for no more of them', () => {
    const bench = leading({ readWaitMs: 5 })
    const gets = (count: number): string[] => Array(count).fill('GET k')
    const [a, b] = [new Caller(bench), new Caller(bench)]
    a.send(...gets(500))
    bench.answerRounds(true)
    a.send(...gets(127))
    assert.equal(bench.rounds.length, 0)
    b.send('GET k')
    assert.equal(bench.rounds.length, 1)
  })

  test('a read before a later write of its connection never sees it, however late its round', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k old')
    bench.apply()
    caller.send('GET k')
    caller.send('SET k new')
    bench.apply()
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['+OK', '$3 old', '+OK'])
  })

  test('a read behind a write of its connection sees it, in its entry or after it', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k', 'SET k 2', 'GET k')
    caller.send('GET k')
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, Array(5).fill(undefined))
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', '$1 1', '+OK', '$1 2', '$1 2'])
  })

  test('a read of another connection does not wait for the entry', () => {
    const bench = leading()
    const [writer, reader] = [new Caller(bench), new Caller(bench)]
    writer.send('SET k 1')
    reader.send('GET k')
    bench.answerRounds(true)
    assert.deepEqual([writer.replies, reader.replies], [[undefined], ['$-1']])
  })

  test('reads of one connection keep their order when a later round is confirmed first', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('GET a')
    caller.send('GET b')
    const [first, second] = bench.rounds.splice(0)
    second?.(true)
    assert.deepEqual(caller.replies, [undefined, undefined])
    first?.(false)
    bench.router.flush()
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['$-1', '$-1'])
  })

  test('a round that no leader confirms is asked for again, until the deadline of its reads', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('GET k')
    bench.tick(PARK_MS - 1)
    bench.answerRounds(false)
    bench.router.flush()
    assert.equal(bench.rounds.length, 1)
    bench.tick(1)
    assert.deepEqual(caller.replies, [undefined])
    bench.answerRounds(false)
    assert.deepEqual(caller.replies, ['-CLUSTERDOWN'])
  })

  test('a key due by the time of the leader only is waited for, until an entry says that it is due', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k v PXAT 5000', 'SET other v')
    bench.apply()
    bench.leaderNow = 4999
    caller.send('GET k')
    bench.answerRounds(true)
    bench.leaderNow = 5000
    caller.send('GET k', 'GET other')
    bench.answerRounds(true)
    assert.deepEqual(caller.replies.slice(2), ['$1 v', undefined, undefined])
    assert.deepEqual(bench.awaited, [5000])
    // Another entry may come first, whose clock does not suffice.
    bench.now = 3999
    bench.router.proposeOwn()
    bench.apply()
    assert.deepEqual(caller.replies.slice(3), [undefined, undefined])
    bench.now = 4000
    bench.router.proposeOwn()
    bench.router.flush()
    bench.apply()
    assert.deepEqual(caller.replies.slice(2), ['$1 v', '$-1', '$1 v'])
    assert.equal(bench.keyspace.size(0), 1)
  })

  test('who waits for a clock asks again every tick, in a round of its own, and what it hears then counts', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k v PXAT 5000')
    bench.apply()
    bench.leaderNow = 9000
    caller.send('GET k')
    bench.answerRounds(true)
    bench.tick(1)
    assert.equal(bench.rounds.length, 1)
    bench.answerRounds(true)
    assert.deepEqual(bench.awaited, [9000, 9000])
    // Another leader, whose clock is behind: by its time the key is there.
    bench.leaderNow = 4000
    bench.tick(1)
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['+OK', '$1 v'])
  })

  test('a write takes along the reads that wait for a clock, and they run by that of its entry', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k v PXAT 5000')
    bench.apply()
    bench.leaderNow = 5000
    caller.send('GET k')
    bench.answerRounds(true)
    bench.now = 3000
    caller.send('SET other v')
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', '$1 v', '+OK'])
    // What was waited for comes, and nothing happens twice.
    bench.now = 4000
    bench.router.proposeOwn()
    bench.apply()
    bench.tick(1)
    bench.answerRounds(true)
    assert.equal(caller.replies.length, 3)
  })

  test('no clock is proposed before entries that wait for room', () => {
    const bench = leading()
    const caller = new Caller(bench)
    bench.room = 0
    caller.send('SET k v')
    bench.room = 5
    assert.equal(bench.router.proposeOwn(), undefined)
    bench.router.flush()
    assert.notEqual(bench.router.proposeOwn(), undefined)
  })

  test('a long read runs in slices beside everything else, over what it saw when it began', () => {
    const bench = leading()
    const [caller, other] = [new Caller(bench), new Caller(bench)]
    for (let i = 0; i < 5; i++) {
      const pairs = Array.from({ length: 500 }, (_, j) => `k${i * 500 + j} v`)
      caller.send(`MSET ${pairs.join(' ')}`)
    }
    bench.apply()
    caller.send('KEYS *', 'GET k0')
    bench.answerRounds(true)
    assert.deepEqual(caller.replies.slice(5), [undefined, '$1 v'])
    other.send('FLUSHALL', 'KEYS *')
    bench.apply()
    assert.deepEqual(other.replies, ['+OK', '*0'])
    bench.longReads.work(false)
    assert.deepEqual(caller.replies.slice(5), [undefined, '$1 v'], 'more slices than of one turn')
    for (let turn = 0; turn < 5; turn++) bench.longReads.work(false)
    assert.match(caller.replies[5] ?? '', /^\*2500 \$/)
    assert.equal(new Set(caller.replies[5]?.match(/k[0-9]+/g)).size, 2500)
  })

  test('a long read that rides sees what its connection wrote before it and not what it wrote after', () => {
    const bench = leading()
    const caller = new Caller(bench)
    const many = Array.from({ length: 2500 }, (_, i) => `k${i} v`).join(' ')
    caller.send(`MSET ${many}`, 'KEYS k*', 'SET later v', 'DBSIZE')
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', undefined, '+OK', ':2501'])
    for (let turn = 0; turn < 5; turn++) bench.longReads.work(false)
    assert.match(caller.replies[1] ?? '', /^\*2500 \$/)
    bench.tick(1)
    assert.equal(bench.router.pendingEntries, 0)
  })

  test('riders behind others that read very much run later, each as of its place', () => {
    const bench = leading({ entryBytes: 2 ** 30, unappliedBytes: 2 ** 30, backlogBytes: 2 ** 30 })
    const caller = new Caller(bench)
    const zeros = (limits.rideBytesMax / 2) * 8
    caller.send(`SETBIT k ${zeros - 1} 0`)
    bench.apply()
    const bit = 'GETBIT k 0'
    caller.send(bit, bit, 'BITCOUNT k', 'STRLEN none')
    caller.send('SETBIT k 0 1', bit, 'BITCOUNT k', 'GET none', 'DEL k')
    bench.apply()
    const late = [undefined, undefined]
    assert.deepEqual(caller.replies.slice(1), [':0', ':0', ...late, ':0', ...late, undefined, ':1'])
    caller.send('SETBIT k 0 1')
    bench.apply()
    // What runs later runs in slices itself.
    bench.longReads.work(false)
    assert.deepEqual(caller.replies.slice(3, 4), [undefined])
    while (caller.replies[8] === undefined) bench.longReads.work(false)
    const answers = [':0', ':0', ':0', ':0', ':0', ':1', ':1', '$-1', ':1']
    assert.deepEqual(caller.replies.slice(1, 10), answers)
    // One byte less is no reason to wait.
    caller.send(`SETBIT less ${zeros - 9} 0`)
    bench.apply()
    caller.send('GETBIT less 0', 'GETBIT less 0', 'GETBIT less 0', 'GET none', 'DEL less')
    bench.apply()
    assert.deepEqual(caller.replies.slice(12), [':0', ':0', ':0', undefined, ':1'])
    while (caller.replies[15] === undefined) bench.longReads.work(false)
  })

  test('as many long reads run as there are views; one more waits, and one that rides is refused', () => {
    const bench = leading()
    const caller = new Caller(bench)
    const many = Array.from({ length: 2500 }, (_, i) => `k${i} v`).join(' ')
    caller.send(`MSET ${many}`)
    bench.apply()
    const readers = [new Caller(bench), new Caller(bench), new Caller(bench)]
    for (const reader of readers) reader.submit('KEYS *')
    bench.router.flush()
    bench.answerRounds(true)
    caller.send('KEYS *', 'SET k0 v')
    bench.apply()
    assert.deepEqual(caller.replies.slice(1), ['-ERR', '+OK'])
    for (let turn = 0; turn < 20; turn++) {
      bench.longReads.work(false)
      bench.router.afterApply()
    }
    for (const reader of readers) assert.match(reader.replies[0] ?? '', /^\*2500 /)
  })

  test('a round that is never answered is given up as well', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('GET k')
    bench.tick(4999)
    assert.deepEqual(caller.replies, [undefined])
    bench.tick(1)
    assert.deepEqual(caller.replies, ['-CLUSTERDOWN'])
    bench.answerRounds(true)
    caller.send('GET k')
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, ['-CLUSTERDOWN', '$-1'])
  })
})

describe('stale reads', () => {
  test('are answered at once, also without a leader, but not before what the connection wrote', () => {
    const bench = leading()
    bench.options.readConsistency = 'stale'
    const caller = new Caller(bench)
    caller.send('GET k')
    assert.deepEqual(caller.replies, ['$-1'])
    caller.send('SET k 1', 'GET k')
    caller.send('GET k')
    assert.deepEqual(caller.replies.slice(1), [undefined, undefined, undefined])
    bench.apply()
    assert.deepEqual(caller.replies.slice(1), ['+OK', '$1 1', '$1 1'])
    bench.lose()
    caller.send('GET k')
    assert.equal(caller.replies.at(-1), '$1 1')
    assert.equal(bench.rounds.length, 0)
  })

  test('another node that forwards a read may want it linearizable', () => {
    const bench = leading()
    bench.options.readConsistency = 'stale'
    const remote = new Caller(bench, { remote: true })
    remote.send('GET k')
    assert.deepEqual(remote.replies, [undefined])
    assert.equal(bench.rounds.length, 1)
    bench.answerRounds(true)
    assert.deepEqual(remote.replies, ['$-1'])
  })
})

describe('reads of connections of which nothing else is on its way', () => {
  test('wait for no room in the log that others wait for', () => {
    const bench = leading({ entryCommands: 1 })
    const [a, b, own, remote] = [false, false, false, true].map(
      (isRemote) => new Caller(bench, { remote: isRemote }),
    )
    bench.room = 0
    a?.send('SET k 1')
    b?.send('SET k 2')
    own?.send('GET k')
    remote?.send('GET k')
    bench.answerRounds(true)
    assert.deepEqual([own?.replies, remote?.replies], [['$-1'], ['$-1']])
    // Behind a write of their own connection they do.
    b?.send('GET k')
    bench.answerRounds(true)
    bench.room = 3
    bench.router.flush()
    bench.apply()
    bench.answerRounds(true)
    assert.deepEqual([a?.replies, b?.replies], [['+OK'], ['+OK', '$1 2']])
  })

  test('nor for a link to the leader, unless a follower is to redirect them', () => {
    for (const redirect of ['forward', 'moved'] as const) {
      const bench = new RouterBench()
      bench.options.redirect = redirect
      bench.linkUp = false
      bench.follow('b', 1)
      const [writer, reader] = [new Caller(bench), new Caller(bench)]
      writer.send('FLUSHALL')
      reader.send('GET k')
      bench.answerRounds(true)
      const expected = redirect === 'forward' ? '$-1' : undefined
      assert.deepEqual([writer.replies, reader.replies], [[undefined], [expected]])
      bench.linkUp = true
      bench.tick(10)
      if (redirect === 'moved') assert.deepEqual(reader.replies, ['-MOVED 7 b:6379'])
    }
  })

  test('still wait for a leader', () => {
    const bench = new RouterBench()
    bench.route({ kind: 'self', term: 1, established: false })
    const caller = new Caller(bench)
    caller.send('GET k')
    assert.equal(bench.rounds.length, 0)
    bench.tick(PARK_MS)
    assert.deepEqual(caller.replies, ['-CLUSTERDOWN'])
  })
})

describe('the end of an office', () => {
  test('what was not appended is placed at the next leader, before newer commands', () => {
    const bench = leading()
    const caller = new Caller(bench)
    bench.room = 0
    caller.send('SET k 1', 'GET k', 'SET k 2')
    caller.send('SET k 3')
    bench.follow('b', 2)
    caller.send('SET k 4')
    const handed = bench.handed.flat()
    assert.deepEqual(handed, ['SET k 1', 'GET k', 'SET k 2', 'SET k 3', 'SET k 4'])
    assert.equal(bench.frames[0]?.term, 2)
  })

  test('what another node forwarded goes back to it, read or write, placed or not', () => {
    const bench = leading({ entryCommands: 1 })
    const remotes = Array.from({ length: 3 }, () => new Caller(bench, { remote: true }))
    const [placed, waiting, reading] = remotes
    bench.room = 0
    placed?.send('GET k', 'SET k 1')
    waiting?.send('SET k 2')
    bench.room = 0
    reading?.submit('GET k')
    bench.follow('b', 2)
    assert.deepEqual(placed?.replies, ['refused', 'refused'])
    assert.deepEqual(waiting?.replies, ['refused'])
    assert.deepEqual(reading?.replies, ['refused'])
  })

  test('a round lost with the office sends the reads of other nodes back, and asks again for the own', () => {
    const bench = leading()
    const [own, remote] = [new Caller(bench), new Caller(bench, { remote: true })]
    own.submit('GET k')
    remote.submit('GET k')
    bench.router.flush()
    bench.follow('b', 2)
    bench.answerRounds(false)
    bench.router.flush()
    assert.deepEqual([own.replies, remote.replies], [[undefined], ['refused']])
    bench.answerRounds(true)
    assert.deepEqual(own.replies, ['$-1'])
  })

  test('an appended command gets its real reply when its entry is applied all the same', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k')
    bench.follow('b', 2)
    bench.tick(PARK_MS - 1)
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', '$1 1'])
  })

  test('an entry that another one replaced certainly did not happen: its commands are placed again', () => {
    const bench = leading({ entryCommands: 1 })
    const [own, remote] = [new Caller(bench), new Caller(bench, { remote: true })]
    own.send('APPEND k 1', 'GET k', 'APPEND k 2')
    remote.send('APPEND k x', 'GET k')
    own.send('GET k')
    bench.follow('b', 2)
    own.send('APPEND k 3')
    bench.answerRounds(true)
    assert.equal(bench.frames.length, 0)
    bench.overwrite(2)
    bench.apply()
    bench.router.flush()
    const again = ['APPEND k 1', 'GET k', 'APPEND k 2', 'GET k', 'APPEND k 3']
    assert.deepEqual(bench.handed.flat(), again)
    assert.deepEqual(remote.replies, ['refused', 'refused'])
    assert.equal(bench.router.pendingEntries, 0)
  })

  test('newer commands wait for what was appended before them, and follow it', () => {
    const bench = leading()
    const [caller, other] = [new Caller(bench), new Caller(bench)]
    caller.send('APPEND k 1')
    bench.follow('b', 2)
    caller.send('APPEND k 2', 'GET k')
    other.send('APPEND l 1')
    assert.deepEqual(bench.handed, [['APPEND l 1']])
    bench.apply()
    bench.router.flush()
    assert.deepEqual(caller.replies, [':1', undefined, undefined])
    assert.deepEqual(bench.handed.slice(1), [['APPEND k 2', 'GET k']])
  })

  test('at its deadline the outcome is unknown, and whatever comes later is for nobody', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k 1', 'GET k')
    bench.follow('b', 2)
    bench.tick(PARK_MS - 1)
    assert.deepEqual(caller.replies, [undefined, undefined])
    bench.tick(1)
    assert.deepEqual(caller.replies, ['-TIMEOUT', '-TIMEOUT'])
    assert.match(caller.lastText ?? '', /outcome unknown/)
    bench.apply()
    assert.equal(bench.router.pendingEntries, 0)
  })

  test('to another node nothing is said at the deadline: it will see for itself', () => {
    const bench = leading()
    const remote = new Caller(bench, { remote: true })
    remote.send('GET k', 'SET k 1')
    bench.follow('b', 2)
    bench.tick(PARK_MS)
    assert.deepEqual(remote.replies, ['dropped', 'dropped'])
    bench.apply()
    assert.equal(bench.router.pendingEntries, 0)
  })

  test('an entry that a snapshot skipped may have happened or not', () => {
    const bench = leading()
    const [skipped, behind] = [new Caller(bench), new Caller(bench)]
    skipped.send('SET k 1')
    behind.send('SET k 2')
    bench.follow('b', 2)
    bench.router.skippedTo(2)
    assert.deepEqual([skipped.replies, behind.replies], [['-TIMEOUT'], [undefined]])
    bench.overwrite(2)
    bench.log.push({ term: 2, payload: { type: 'noop' } })
    bench.apply()
    bench.router.flush()
    assert.deepEqual(bench.handed, [['SET k 2']])
  })

  test('a read of another node behind what is given up does not run without it: it is refused', () => {
    // Seed 1065734207: the write was committed after all, and the client saw the state before it.
    const bench = leading()
    const remote = new Caller(bench, { remote: true })
    remote.send('SET k 1')
    remote.send('GET k')
    bench.answerRounds(true)
    assert.deepEqual(remote.replies, [undefined, undefined])
    bench.follow('b', 2)
    bench.tick(PARK_MS)
    assert.deepEqual(remote.replies, ['dropped', 'refused'])
  })

  test('no deadline while it leads, however slow the disks are', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    bench.tick(60_000)
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK'])
  })

  test('an old entry whose index a new one of the same node took is not waited for for ever', () => {
    const bench = leading()
    const [old, later] = [new Caller(bench), new Caller(bench)]
    old.send('SET k 1')
    old.send('SET k 2')
    bench.follow('b', 2)
    // The other leader's log ends before them; then this node leads again, and proposes at the same index.
    bench.log.splice(1)
    bench.lead(3)
    later.send('SET k 3')
    assert.deepEqual([bench.entry(3), bench.entry(4)], [['SET k 1', 'SET k 2'], ['SET k 3']])
    bench.apply()
    assert.deepEqual([old.replies, later.replies], [['+OK', '+OK'], ['+OK']])
    assert.equal(bench.router.pendingEntries, 0)
  })

  test('a read waits for the appended write before it, also after a change of office', () => {
    const bench = leading()
    const caller = new Caller(bench)
    caller.send('SET k 1')
    caller.send('GET k')
    bench.follow('b', 2)
    bench.answerRounds(false)
    bench.router.flush()
    bench.answerRounds(true)
    assert.deepEqual(caller.replies, [undefined, undefined])
    bench.apply()
    assert.deepEqual(caller.replies, ['+OK', '$1 1'])
  })
})

describe('writes that are refused', () => {
  test('a fence is not: another node waits for it', () => {
    const bench = leading()
    bench.options.refusal = new ErrorReply('OOM full')
    const stream = new Stream()
    const owner = { answered: () => assert.fail(), refused: () => assert.fail(), dropped: () => {} }
    const origin = { node: 'n', incarnation: 1 }
    const call = { ...fence, owner, stream, database: 0, protocol: 2, deadline: PARK_MS } as const
    bench.router.submit(new Call({ ...call, origin, tag: 1 }))
    bench.router.flush()
    assert.equal(bench.log.length, 2)
    const caller = new Caller(bench)
    caller.send('SET k v')
    assert.equal(bench.log.length, 2)
    assert.deepEqual(caller.replies, ['-OOM'])
  })
})
