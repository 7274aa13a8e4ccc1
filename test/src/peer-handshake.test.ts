/*
 * The handshake alone, frame by frame: who is let in, what each side says when not, and that neither a wrong
 * secret, nor an old proof, nor any flipped bit gets through.
 */

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { judge, judgeJoiner, type RefusalCode } from '../../src/peer-admission.ts'
import { type FrameKind, FrameReader, PeerProtocolError } from '../../src/peer-frame.ts'
import {
  AcceptHandshake,
  DialHandshake,
  HANDSHAKE_BYTES_MAX,
  type Handshake,
  type Identity,
  NONCE_BYTES,
  type Outcome,
  PROTOCOL_VERSION_MAX,
  PROTOCOL_VERSION_MIN,
} from '../../src/peer-handshake.ts'
import { encodeFrame } from '../../storage/codec.ts'
import { nodeId } from '../sim/peer-node.ts'

const CLUSTER = 'c'.repeat(40)
const [A, B, C] = [nodeId('a'), nodeId('b'), nodeId('d')]
/** Known to have been removed, to every node of these tests. */
const GONE = nodeId('e')

function wasRemoved(id: string): boolean {
  return id === GONE
}

function identity(id: string, rest: Partial<Identity> = {}): Identity {
  return {
    id,
    clusterId: CLUSTER,
    incarnation: 1,
    peerAddress: `10.0.0.1:${16_379 + id.charCodeAt(0)}`,
    clientAddress: '10.0.0.1:6379',
    listHash: '0'.repeat(64),
    members: [A, B],
    membershipIndex: 1,
    ...rest,
  }
}

interface Setup {
  readonly dialler?: Identity
  readonly acceptor?: Identity
  readonly secrets?: readonly [string | undefined, string | undefined]
  readonly receiver?: { id: string | undefined; address: string }
}

interface Result {
  dialler: Outcome | undefined
  acceptor: Outcome | undefined
  readonly frames: Uint8Array[]
}

function unframe(bytes: Uint8Array): { kind: FrameKind; body: Uint8Array } {
  let unframed: { kind: FrameKind; body: Uint8Array } | undefined
  new FrameReader(HANDSHAKE_BYTES_MAX).push(bytes, (kind, body) => {
    unframed = { kind, body }
    return true
  })
  assert.ok(unframed !== undefined)
  return unframed
}

/** Lets the two talk until one has nothing to say; `tamper` sees each body on its way. */
function shake(setup: Setup, tamper = (_: number, body: Uint8Array): Uint8Array => body): Result {
  const self = setup.dialler ?? identity(A)
  const other = setup.acceptor ?? identity(B)
  const [ours, theirs] = setup.secrets ?? [undefined, undefined]
  const dial = new DialHandshake({
    self,
    secret: ours,
    nonce: randomBytes(NONCE_BYTES),
    kind: 'control',
    receiver: setup.receiver ?? { id: other.id, address: other.peerAddress },
    admit: (peer) => judge(self, peer, wasRemoved),
  })
  const accept = new AcceptHandshake({
    self: other,
    secret: theirs,
    nonce: randomBytes(NONCE_BYTES),
    admit: (peer) => judge(other, peer, wasRemoved),
  })
  const result: Result = { dialler: undefined, acceptor: undefined, frames: [] }
  let turn: 'dialler' | 'acceptor' = 'acceptor'
  let sent: Uint8Array | undefined = dial.begin()
  while (sent !== undefined) {
    result.frames.push(sent)
    const { kind, body } = unframe(sent)
    const receiver: Handshake = turn === 'acceptor' ? accept : dial
    const step = receiver.step(kind, tamper(result.frames.length, body))
    if (step.outcome !== undefined) result[turn] = step.outcome
    sent = step.send
    turn = turn === 'acceptor' ? 'dialler' : 'acceptor'
  }
  return result
}

function codeOf(outcome: Outcome | undefined): RefusalCode | 'established' | undefined {
  return outcome?.type === 'refused' ? outcome.refusal.code : outcome?.type
}

function codes(setup: Setup): [string | undefined, string | undefined] {
  const { dialler, acceptor } = shake(setup)
  return [codeOf(dialler), codeOf(acceptor)]
}

test('members of one cluster let each other in, with and without a secret, and learn who it is', () => {
  for (const secret of [undefined, 'open sesame']) {
    const { dialler, acceptor } = shake({ secrets: [secret, secret] })
    assert.ok(dialler?.type === 'established' && acceptor?.type === 'established')
    assert.deepEqual(dialler.other, identity(B))
    assert.deepEqual(acceptor.other, identity(A))
    assert.equal(acceptor.kind, 'control')
  }
})

test('a node says what its build knows, and when it comes back empty whose place it is to take', () => {
  const dialler = identity(A, { replaces: C, level: 7 })
  const { acceptor } = shake({ dialler })
  assert.ok(acceptor?.type === 'established')
  assert.deepEqual(acceptor.other, dialler)
})

test('the secret never travels, and a wrong or missing one is refused before anything else is said', () => {
  const { frames } = shake({ secrets: ['open sesame', 'open sesame'] })
  assert.ok(!Buffer.concat(frames).includes('open sesame'))
  for (const secrets of [
    ['x', 'y'],
    ['x', undefined],
    [undefined, 'y'],
  ] as const) {
    // Even of another cluster: the acceptor does not say so to whom it cannot trust.
    const result = shake({ secrets, acceptor: identity(B, { clusterId: 'e'.repeat(40) }) })
    assert.equal(codeOf(result.acceptor), 'secret')
    assert.equal(codeOf(result.dialler), 'secret')
    assert.ok(!Buffer.concat(result.frames.slice(1)).includes('e'.repeat(40)))
  }
})

test('an acceptor that does not know the secret is refused by the dialler', () => {
  // It skips the check of the dialler's proof and answers with a proof under its own secret.
  const self = identity(A)
  const dial = new DialHandshake({
    self,
    secret: 'right',
    nonce: randomBytes(NONCE_BYTES),
    kind: 'append',
    receiver: { id: B, address: identity(B).peerAddress },
    admit: () => undefined,
  })
  dial.begin()
  dial.step(2, encodeFrame([PROTOCOL_VERSION_MAX, randomBytes(NONCE_BYTES)]))
  const statement = encodeFrame([[B, CLUSTER, 1, 'h:1', 'h:2', '0'.repeat(64), [A, B], 1], null])
  const { outcome } = dial.step(4, encodeFrame([statement, randomBytes(32)]))
  assert.equal(codeOf(outcome), 'secret')
})

test('a proof that was heard once is of no use to another connection, nor to its maker', () => {
  const nonce = randomBytes(NONCE_BYTES)
  const self = identity(A)
  const dial = (): DialHandshake =>
    new DialHandshake({
      self,
      secret: 's',
      nonce,
      kind: 'control',
      receiver: { id: B, address: identity(B).peerAddress },
      admit: () => undefined,
    })
  const accept = (): AcceptHandshake =>
    new AcceptHandshake({
      self: identity(B),
      secret: 's',
      nonce: randomBytes(NONCE_BYTES),
      admit: () => undefined,
    })
  const first = { dial: dial(), accept: accept() }
  const hello = unframe(first.dial.begin())
  const challenge = unframe(first.accept.step(hello.kind, hello.body).send ?? new Uint8Array(0))
  const proof = unframe(first.dial.step(challenge.kind, challenge.body).send ?? new Uint8Array(0))
  const second = accept()
  second.step(hello.kind, hello.body)
  assert.equal(codeOf(second.step(proof.kind, proof.body).outcome), 'secret')
  const answer = unframe(first.accept.step(proof.kind, proof.body).send ?? new Uint8Array(0))
  assert.equal(codeOf(first.dial.step(answer.kind, answer.body).outcome), 'established')
})

test('with a secret no flipped bit of any frame is let in by both', () => {
  for (let which = 1; which <= 4; which++) {
    for (let bit = 0; bit < 2_400; bit += 7) {
      let flipped = false
      const flip = (count: number, body: Uint8Array): Uint8Array => {
        if (count !== which || bit >>> 3 >= body.length) return body
        const bad = Uint8Array.from(body)
        bad[bit >>> 3] = (bad[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
        flipped = true
        return bad
      }
      let result: Result | undefined
      try {
        result = shake({ secrets: ['s', 's'] }, flip)
      } catch (error) {
        assert.ok(error instanceof PeerProtocolError, `frame ${which}, bit ${bit}: ${error}`)
      }
      const both =
        codeOf(result?.dialler) === 'established' && codeOf(result?.acceptor) === 'established'
      assert.ok(!flipped || !both, `frame ${which}, bit ${bit} went unnoticed`)
    }
  }
})

test('who is meant and who is there', () => {
  const elsewhere = identity(B).peerAddress
  assert.deepEqual(codes({ receiver: { id: C, address: elsewhere } }), ['receiver', 'receiver'])
  assert.deepEqual(codes({ receiver: { id: undefined, address: '10.0.0.9:1' } }), [
    'receiver',
    'receiver',
  ])
  const known = { id: undefined, address: elsewhere }
  assert.deepEqual(codes({ receiver: known }), ['established', 'established'])
  // The id is what counts once it is known: a member may have moved.
  assert.deepEqual(codes({ receiver: { id: B, address: '10.0.0.9:1' } }), [
    'established',
    'established',
  ])
  assert.deepEqual(codes({ acceptor: identity(A) }), ['self', 'self'])
})

test('a dialler does not take its word for it that an acceptor is who was meant', () => {
  const dial = new DialHandshake({
    self: identity(A),
    secret: undefined,
    nonce: randomBytes(NONCE_BYTES),
    kind: 'append',
    receiver: { id: B, address: 'h:1' },
    admit: () => undefined,
  })
  dial.begin()
  dial.step(2, encodeFrame([PROTOCOL_VERSION_MAX, randomBytes(NONCE_BYTES)]))
  const statement = encodeFrame([[C, CLUSTER, 1, 'h:1', 'h:2', '0'.repeat(64), [A, C], 1], null])
  const { outcome } = dial.step(4, encodeFrame([statement, new Uint8Array(0)]))
  assert.equal(codeOf(outcome), 'receiver')
})

test('another cluster, an unknown sender, another list', () => {
  const stranger = identity(B, { clusterId: 'e'.repeat(40) })
  assert.deepEqual(codes({ acceptor: stranger }), ['cluster', 'cluster'])
  assert.deepEqual(codes({ dialler: identity(C) }), ['sender', 'sender'])
  const unbound = { clusterId: undefined, members: undefined }
  const one = identity(A, unbound)
  assert.deepEqual(codes({ dialler: one, acceptor: identity(B, unbound) }), [
    'established',
    'established',
  ])
  const other = identity(B, { ...unbound, listHash: '1'.repeat(64) })
  assert.deepEqual(codes({ dialler: one, acceptor: other }), ['list', 'list'])
})

test('an empty disk: invited when the membership names it, refused with a clear line on both sides when not', () => {
  const empty = { clusterId: undefined, members: undefined }
  const invited = { dialler: identity(A, empty), acceptor: identity(B) }
  assert.deepEqual(codes(invited), ['joining', 'joining'])
  assert.deepEqual(codes({ dialler: identity(B), acceptor: identity(A, empty) }), [
    'joining',
    'joining',
  ])
  const { dialler, acceptor } = shake({ dialler: identity(C, empty), acceptor: identity(B) })
  assert.ok(dialler?.type === 'refused' && acceptor?.type === 'refused')
  assert.match(dialler.refusal.text, /this node's disk is empty, but the cluster c+ exists already/)
  assert.match(
    acceptor.refusal.text,
    /node d+ at 10.0.0.1:\d+ has an empty disk and is not a member/,
  )
})

test('bound without a log: only members that name both are let in', () => {
  const waiting = identity(A, { members: undefined, membershipIndex: 0 })
  assert.deepEqual(codes({ dialler: waiting }), ['established', 'established'])
  assert.deepEqual(codes({ dialler: identity(B), acceptor: waiting }), [
    'established',
    'established',
  ])
  assert.deepEqual(
    codes({ dialler: waiting, acceptor: identity(B, { members: undefined, membershipIndex: 0 }) }),
    ['unready', 'unready'],
  )
  assert.deepEqual(codes({ dialler: waiting, acceptor: identity(C, { members: [B, C] }) }), [
    'unready',
    'sender',
  ])
})

test('who was removed is told so, and refused by everybody else', () => {
  const gone = { dialler: identity(GONE, { members: [A, B, GONE] }) }
  assert.deepEqual(codes(gone), ['removed', 'removed'])
  const { dialler } = shake(gone)
  assert.ok(dialler?.type === 'refused' && dialler.byOther && dialler.other?.id === B)
  assert.match(dialler.refusal.text, /was removed from cluster c+; .* empty data directory/)
})

test('of two memberships that differ the later one says who is a member', () => {
  // B has a later log, in which C is a member; A has not got that far.
  const late = identity(A, { members: [A, B], membershipIndex: 5 })
  const newcomer = identity(C, { members: [A, B, C], membershipIndex: 9 })
  assert.equal(judge(late, newcomer, wasRemoved), undefined)
  assert.equal(judge(newcomer, late, wasRemoved), undefined)
  // The other way round: C still believes to be one, in an older membership than the one that left it out.
  const stale = identity(C, { members: [A, B, C], membershipIndex: 4 })
  assert.equal(judge(late, stale, wasRemoved)?.code, 'sender')
  // Who does not name this node itself says nothing of use.
  const foreign = identity(C, { members: [B, C], membershipIndex: 9 })
  assert.equal(judge(late, foreign, wasRemoved)?.code, 'sender')
})

test('who may ask to be made a member: the new and empty, and who was to be one before', () => {
  const member = identity(A)
  const empty = { clusterId: undefined, members: undefined, membershipIndex: 0 }
  const ask = (self: Identity, other: Identity): string | undefined =>
    judgeJoiner(self, other, wasRemoved)?.code
  assert.equal(ask(member, identity(C, empty)), undefined)
  // Bound by an entry that was cut from the log before it was committed (redisraft#187).
  assert.equal(ask(member, identity(C, { members: undefined, membershipIndex: 0 })), undefined)
  assert.equal(ask(member, identity(C, { ...empty, clusterId: 'd'.repeat(40) })), 'cluster')
  assert.equal(ask(member, identity(GONE)), 'removed')
  assert.equal(ask(member, identity(B, empty)), 'joining')
  assert.equal(ask(member, identity(A, empty)), 'self')
  assert.equal(ask(identity(C, empty), identity(A, empty)), 'unready')
  assert.equal(ask(identity(C), identity(A)), 'unready', 'no member itself')
})

test('a hello that asks is never a link, wherever it was meant to go', () => {
  for (const kind of ['join', 'probe'] as const) {
    const dial = new DialHandshake({
      self: identity(C, { clusterId: undefined, members: undefined }),
      secret: 's',
      nonce: randomBytes(NONCE_BYTES),
      kind,
      // An address by which nobody knows itself: of a balancer, say.
      receiver: { id: undefined, address: 'any.member:1' },
      admit: () => undefined,
    })
    const accept = new AcceptHandshake({
      self: identity(A),
      secret: 's',
      nonce: randomBytes(NONCE_BYTES),
      admit: (_, asked) => ({ code: 'joining', text: `asked to ${asked}` }),
    })
    const hello = unframe(dial.begin())
    const challenge = unframe(accept.step(hello.kind, hello.body).send ?? new Uint8Array(0))
    const proof = unframe(dial.step(challenge.kind, challenge.body).send ?? new Uint8Array(0))
    const verdict = accept.step(proof.kind, proof.body)
    assert.ok(verdict.outcome?.type === 'refused' && verdict.outcome.other?.id === C)
    const answer = unframe(verdict.send ?? new Uint8Array(0))
    const { outcome } = dial.step(answer.kind, answer.body)
    assert.ok(outcome?.type === 'refused' && outcome.byOther && outcome.other?.id === A)
    assert.equal(outcome.refusal.text, `asked to ${kind}`)
  }
})

test('versions: the highest that both know is chosen, and none in common is refused in words', () => {
  const accept = (min: number, max: number): Outcome | undefined => {
    const handshake = new AcceptHandshake({
      self: identity(B),
      secret: undefined,
      nonce: randomBytes(NONCE_BYTES),
      admit: () => undefined,
    })
    const fields = [A, CLUSTER, 1, 'h:1', 'h:2', '0'.repeat(64), [A, B], 1]
    const rest = ['control', fields, B, 'h:1', randomBytes(NONCE_BYTES), 'of a later version']
    return handshake.step(1, encodeFrame(['holdfast-peer', min, max, ...rest])).outcome
  }
  const [min, max] = [PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX]
  assert.equal(accept(min, max), undefined)
  assert.equal(accept(1, max + 6), undefined)
  const refused = accept(max + 1, max + 2)
  assert.equal(codeOf(refused), 'version')
  const text = refused?.type === 'refused' ? refused.refusal.text : ''
  assert.ok(text.includes(`versions ${max + 1} to ${max + 2}`), text)
  assert.ok(text.includes(`${min} to ${max}`), text)
  assert.equal(codeOf(accept(0, min - 1)), 'version')
})

test('whatever bytes come, they are refused as a PeerProtocolError', () => {
  const fields = fc.letrec((tie) => ({
    field: fc.oneof(
      fc.constant(null),
      fc.integer(),
      fc.double(),
      fc.string(),
      fc.uint8Array({ maxLength: 40 }),
      fc.array(tie('field'), { maxLength: 8 }),
    ),
  }))
  const body = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc.array(fields.field, { maxLength: 9 }).map((array) => encodeFrame(array as never)),
    fc
      .array(fields.field, { maxLength: 6 })
      .map((array) => encodeFrame(['holdfast-peer', 2, 2, 'control', ...(array as never[])])),
  )
  const frames = fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), body), { maxLength: 3 })
  fc.assert(
    fc.property(frames, (received) => {
      const common = { secret: 's', nonce: randomBytes(NONCE_BYTES), admit: () => undefined }
      const both: Handshake[] = [
        new AcceptHandshake({ self: identity(B), ...common }),
        new DialHandshake({
          self: identity(A),
          kind: 'control',
          receiver: { id: B, address: 'h:1' },
          ...common,
        }),
      ]
      for (const handshake of both) {
        handshake.begin()
        for (const [kind, bytes] of received) {
          try {
            const { outcome } = handshake.step(kind as FrameKind, bytes)
            assert.notEqual(outcome?.type, 'established')
            if (outcome !== undefined) break
          } catch (error) {
            assert.ok(error instanceof PeerProtocolError, String(error))
            break
          }
        }
      }
    }),
    { numRuns: 300 },
  )
})
