/* Calls from a follower's router to a leader's and back, frame by frame, over a link in the test's hand. */

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Term } from '../../raft/types.ts'
import { EXEC_READS, EXEC_WRITES } from '../../src/commands/transactions.ts'
import { ForwardReceiver, ForwardSender } from '../../src/forwarding.ts'
import type { Body } from '../../src/peer-frame.ts'
import { CodecError, encodeFrame } from '../../storage/codec.ts'
import { encodeTransaction, formCommand } from '../../storage/logged-command.ts'
import { Caller, RouterBench } from './router-bench.ts'

function joined(body: Body): Uint8Array {
  return body instanceof Uint8Array ? body : Buffer.concat(body)
}

/** A follower (node f) and a leader (node l) of term 1, with what is on its way between them. */
class Link {
  readonly follower = new RouterBench({ forwardBytes: 10_000_000 })
  readonly leader = new RouterBench()
  readonly sender: ForwardSender
  readonly receiver: ForwardReceiver
  readonly requests: Uint8Array[] = []
  readonly replies: Uint8Array[] = []
  /** What the follower's end takes and the leader's end has room for. */
  takes = true
  room = Number.POSITIVE_INFINITY
  readonly channel = {
    origin: { node: 'self', incarnation: 3 },
    reply: (body: Body): boolean => {
      this.replies.push(joined(body))
      return true
    },
    hasRoomFor: (bytes: number): boolean => bytes <= this.room,
  }

  constructor() {
    const { follower, leader } = this
    this.sender = new ForwardSender(
      {
        send: (to, body) => {
          assert.equal(to, 'l')
          if (this.takes) this.requests.push(joined(body))
          return this.takes
        },
        parkTimeoutMs: () => 1000,
      },
      follower.router,
    )
    follower.forward = (to, term, calls) => this.sender.send(to, term, calls)
    follower.fence = (to, term, tag) => this.sender.fence(to, term, tag)
    this.receiver = new ForwardReceiver(
      { now: () => leader.now, ledTerm: () => leader.term, wake: () => {} },
      leader.router,
    )
    leader.lead(1)
    follower.follow('l', 1)
  }

  /** The leader reads what has arrived, does its work and sends its replies. */
  turn(count: number = this.requests.length): void {
    for (const body of this.requests.splice(0, count)) this.receiver.received(body, this.channel)
    this.leader.router.flush()
    this.leader.answerRounds(true)
    this.leader.apply()
    this.receiver.flush()
  }

  /** The follower's log is the leader's, and applied. */
  replicate(): void {
    this.follower.log.splice(0, this.follower.log.length, ...this.leader.log)
    this.follower.apply()
    this.follower.router.flush()
  }

  /** The follower reads what the leader sent. */
  back(): void {
    for (const body of this.replies.splice(0)) this.sender.received('l', body)
    this.follower.router.flush()
  }
}

describe('between a follower and its leader', () => {
  test('commands and replies of many connections pair, in order', () => {
    const link = new Link()
    const [a, b] = [new Caller(link.follower), new Caller(link.follower)]
    a.submit('APPEND k x')
    b.submit('APPEND k yy')
    a.submit('GET k')
    b.submit('STRLEN k')
    link.follower.router.flush()
    assert.equal(link.requests.length, 1)
    link.turn()
    assert.equal(link.replies.length, 1)
    link.back()
    // Both writes share the entry, and each read rides right behind where it came.
    assert.deepEqual(
      [a.replies, b.replies],
      [
        [':1', '$3 xyy'],
        [':3', ':3'],
      ],
    )
    link.follower.tick(1)
  })

  test('bytes of any kind and size arrive as they were', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    const large = '\u0000\u00ff'.repeat(200_000)
    caller.send(`SET k ${large}`, 'GET k', 'SET k small', 'GET k', `SET k ${large}`)
    link.turn()
    link.back()
    assert.deepEqual(caller.calls.length, caller.replies.length)
    assert.equal(caller.replies[1]?.length, large.length + '$400000 '.length)
    assert.deepEqual([caller.replies[3], caller.replies[4]], ['$5 small', '+OK'])
  })

  test('the protocol of the connection decides how the leader encodes', () => {
    const link = new Link()
    const caller = new Caller(link.follower, { protocol: 3 })
    caller.send('SET a 1', 'GET missing')
    link.turn()
    link.back()
    assert.deepEqual(caller.replies, ['+OK', '_'])
  })

  test('a later read at the follower sees what the leader answered', () => {
    const link = new Link()
    link.follower.options.readConsistency = 'stale'
    const caller = new Caller(link.follower)
    caller.send('SET k 1')
    link.turn()
    link.back()
    caller.send('GET k')
    assert.deepEqual(caller.replies, ['+OK', undefined])
    link.follower.log.push(...link.leader.log)
    link.follower.apply()
    assert.deepEqual(caller.replies, ['+OK', '$1 1'])
  })

  test('an error of a command is its reply', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    caller.send('SET k x', 'INCR k')
    link.turn()
    link.back()
    assert.deepEqual(caller.replies, ['+OK', '-ERR'])
  })
})

describe('a leader of another term', () => {
  for (const term of [undefined, 2] satisfies (Term | undefined)[]) {
    test(`takes nothing (it leads ${term ?? 'none'})`, () => {
      const link = new Link()
      const caller = new Caller(link.follower)
      caller.send('SET k 1')
      caller.send('GET k')
      link.leader.term = term
      link.turn()
      assert.equal(link.leader.log.length, 1)
      link.back()
      assert.deepEqual(caller.replies, [undefined, undefined])
      assert.equal(link.follower.router.parked, 2)
    })
  }

  test('refuses the end of what was sent; what it took it answers', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    caller.send('APPEND k 1')
    caller.send('APPEND k 2')
    caller.send('APPEND k 3')
    link.turn(1)
    link.leader.follow('m', 2)
    link.turn()
    link.back()
    assert.deepEqual(caller.replies, [':1', undefined, undefined])
    link.follower.forward = (to, term, calls) => {
      link.follower.frames.push({ leader: to, term, first: 0, calls: [...calls] })
      return true
    }
    link.follower.follow('m', 2)
    assert.deepEqual(link.follower.handed, [['APPEND k 2', 'APPEND k 3']])
  })

  test('gives back what it took and did not append', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    link.leader.room = 0
    caller.send('SET k 1', 'GET k')
    link.turn()
    link.leader.follow('m', 2)
    link.receiver.flush()
    link.back()
    assert.deepEqual(caller.replies, [undefined, undefined])
    assert.equal(link.follower.router.parked, 2)
  })
})

describe('a link that breaks', () => {
  test('what had not left is placed again; of what had left the log tells', () => {
    const link = new Link()
    const [a, b, c] = ['a', 'b', 'c'].map((key) => {
      const caller = new Caller(link.follower)
      caller.send(`APPEND ${key} x`, `GET ${key}`)
      return caller
    })
    // The first frame arrived, the second was lost on the way, the third had not left.
    link.turn(1)
    link.replies.length = 0
    link.requests.length = 0
    link.sender.linkDown('l', 1)
    link.follower.tick(10)
    // A fence, and the third frame again.
    assert.equal(link.requests.length, 2)
    link.turn()
    link.back()
    assert.deepEqual(c?.replies, [':1', '$1 x'])
    assert.deepEqual([a?.replies, b?.replies], [Array(2).fill(undefined), Array(2).fill(undefined)])
    link.replicate()
    assert.deepEqual([a?.replies[0], b?.replies[0]], [':1', undefined])
    link.turn()
    link.back()
    assert.deepEqual([a?.replies[0], b?.replies], [':1', [':1', '$1 x']])
    link.follower.answerRounds(true)
    assert.deepEqual(a?.replies, [':1', '$1 x'])
    for (const key of ['a', 'b', 'c']) {
      const entries = link.leader.log.flatMap((_, at) => link.leader.entry(at + 1))
      assert.equal(entries.filter((words) => words === `APPEND ${key} x`).length, 1)
    }
    link.follower.tick(1)
  })

  test('frames that were answered had left, with all before them', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    for (let i = 0; i < 4; i++) caller.send(`APPEND k ${i}`)
    link.turn(2)
    link.back()
    link.requests.length = 0
    link.sender.linkDown('l', 2)
    link.follower.tick(10)
    // Everything is accounted for: nothing is adrift, so that no fence is needed.
    assert.equal(link.requests.length, 1)
    link.turn()
    link.back()
    assert.deepEqual(caller.replies, [':1', ':2', ':3', ':4'])
  })

  test('a second link begins with nothing of the first', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    caller.send('SET k 1')
    link.sender.linkDown('l', 0)
    caller.send('SET k 2')
    link.sender.linkDown('l', 1)
    assert.deepEqual(caller.replies, [undefined, undefined])
    assert.equal(link.follower.router.parked, 1)
  })

  test('a fence that had not left is sent again over the next one', () => {
    const link = new Link()
    new Caller(link.follower).send('SET k 1')
    link.sender.linkDown('l', 0)
    link.follower.router.flush()
    link.sender.linkDown('l', 1)
    link.follower.tick(1)
    assert.equal(link.requests.length, 3)
  })

  test('a frame that was not taken was not sent', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    link.takes = false
    caller.send('SET k 1')
    assert.equal(link.follower.router.parked, 1)
    link.takes = true
    link.follower.tick(10)
    link.turn()
    link.back()
    assert.deepEqual(caller.replies, ['+OK'])
  })
})

describe('large replies', () => {
  test('leave in frames, as the link has room for them', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    const value = 'x'.repeat(400_000)
    caller.send(`SET k ${value}`, ...Array.from({ length: 6 }, () => 'GET k'))
    link.room = 0
    link.turn()
    assert.equal(link.replies.length, 0)
    link.room = 2_000_000
    link.receiver.flush()
    assert.equal(link.replies.length, 3)
    assert.ok(link.replies.every((body) => body.length < 1_100_000))
    link.back()
    assert.ok(caller.replies.every((reply) => reply !== undefined))
    link.receiver.flush()
    assert.equal(link.replies.length, 0)
  })
})

describe('what is no frame', () => {
  const frame = (...fields: Parameters<typeof encodeFrame>[0]): Uint8Array => {
    const header = encodeFrame(fields)
    const length = Buffer.alloc(4)
    length.writeUInt32BE(header.length)
    return Buffer.concat([length, header])
  }
  const [set, k, v] = ['SET', 'k', 'v'].map((word) => Buffer.from(word))
  assert.ok(set && k && v)
  const transaction = (argv: readonly Uint8Array[], database = 0): Uint8Array =>
    encodeTransaction({
      watched: [],
      commands: [{ form: formCommand({ database: 0, argv }), database, protocol: 2 }],
    })
  const exec = (name: string, body: Uint8Array): Uint8Array =>
    frame(1, 1, 1000, 1, [1, 0, 2, Buffer.from(name), body])
  const malformed: Record<string, Uint8Array> = {
    empty: new Uint8Array(0),
    'shorter than its header': Buffer.from([0, 0, 0, 9, 1]),
    garbage: Buffer.from('\x00\x00\x00\x05hello'),
    'of no kind': frame(7),
    'without a term': frame(1),
    'of a negative term': frame(1, -1, 1000, 1),
    'of a term past all safe integers': frame(1, 2 ** 60, 1000, 1),
    'without a tag': frame(1, 1, 1000),
    'of tags past all safe integers': frame(1, 1, 1000, 2 ** 53 - 1, [1, 0, 2, set, k, v]),
    'of a fence with something in it': frame(4, 1, 1000, 1, [1, 0, 2, set, k, v]),
    'of a call that is no list': frame(1, 1, 1000, 1, 'SET'),
    'of a call without a name': frame(1, 1, 1000, 1, [1, 0, 2]),
    'of a call in no protocol': frame(1, 1, 1000, 1, [1, 0, 4, set, k, v]),
    'of a call in a database that there is not': frame(1, 1, 1000, 1, [1, 99, 2, set, k, v]),
    'of an argument that is text': frame(1, 1, 1000, 1, [1, 0, 2, set, k, 'v']),
    'of an argument that is longer than the frame': frame(1, 1, 1000, 1, [1, 0, 2, set, k, 9]),
    'of a local command': frame(1, 1, 1000, 1, [1, 0, 2, Buffer.from('PING')]),
    'of an unknown command': frame(1, 1, 1000, 1, [1, 0, 2, Buffer.from('NOSUCH')]),
    'of too few arguments': frame(1, 1, 1000, 1, [1, 0, 2, set, k]),
    'of garbage for a transaction': frame(1, 1, 1000, 1, [1, 0, 2, Buffer.from(EXEC_WRITES), v]),
    'of a transaction in two parts': frame(1, 1, 1000, 1, [
      ...[1, 0, 2, Buffer.from(EXEC_WRITES)],
      ...[transaction([set, k, v]), v],
    ]),
    'of a transaction with a local command': exec(EXEC_WRITES, transaction([Buffer.from('PING')])),
    'of a transaction that only reads, with a write': exec(EXEC_READS, transaction([set, k, v])),
    'of a transaction in a database that there is not': exec(
      EXEC_WRITES,
      transaction([set, k, v], 16),
    ),
    'of a name that only the log knows': frame(1, 1, 1000, 1, [1, 0, 2, Buffer.from('holdfast.x')]),
  }
  for (const [what, body] of Object.entries(malformed)) {
    test(`a request ${what}`, () => {
      const link = new Link()
      assert.throws(() => link.receiver.received(body, link.channel), CodecError)
    })
  }

  const replies: Record<string, Uint8Array> = {
    empty: new Uint8Array(0),
    'of no kind': frame(1, 1, 1000),
    'without an index': frame(2),
    'without bytes': frame(2, 1, [1]),
    'with a tag that is none': frame(2, 1, ['x', v]),
    'with more bytes than there are': frame(2, 1, [1, 5]),
    'with a refusal of nothing': frame(3, 'x'),
  }
  for (const [what, body] of Object.entries(replies)) {
    test(`a reply ${what}`, () => {
      const link = new Link()
      assert.throws(() => link.sender.received('l', body), CodecError)
    })
  }

  test('tags that nobody waits for are ignored', () => {
    const link = new Link()
    const caller = new Caller(link.follower)
    caller.send('SET k 1')
    link.sender.received('l', frame(2, 1, [77, Buffer.from('+X\r\n')]))
    link.sender.received('l', frame(3, 78))
    assert.deepEqual(caller.replies, [undefined])
    link.turn()
    link.back()
    assert.deepEqual(caller.replies, ['+OK'])
  })
})
