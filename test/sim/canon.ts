/*
 * The one history that everybody must agree on: the committed entries in order, and what a plain Map makes of their
 * commands, so that each reply and each value at each moment is known. Moments are op numbers: the commands of all
 * entries counted through, and the expiries that the clock of an entry brings, which come before its commands and
 * count as one. It is told what is committed and trusts nobody's state.
 */

import type { Entry, Index, Term } from '../../raft/types.ts'
import { decodeCommands } from '../../storage/codec.ts'
import type { InForce } from './electorate.ts'
import { mix } from './trace.ts'
import { hold } from './violation.ts'

/** A command as text, one latin1 character per byte. */
export type Words = readonly string[]

interface Change {
  readonly op: number
  /** null: there is no such key. */
  readonly value: string | null
  /** By the logged clock; 0: never. */
  readonly expireAt: number
  /** Of the entry that changed it. */
  readonly term: Term
}

/** As many keys as an entry removes: a reference that has more due would have to know their order. */
const EXPIRED_MAX = 256

const TOKEN_WRITES: ReadonlySet<string> = new Set(['SET', 'SETNX', 'GETSET', 'APPEND', 'DEL'])

/** Whether words[2] is unique to the command, so that it is recognised wherever it stands. */
export function hasToken(name: string | undefined): boolean {
  return TOKEN_WRITES.has(name ?? '')
}

export interface CanonEvents {
  /** The clock of an entry of `term` let a key expire whose time was set in `setIn`. */
  expired?(setIn: Term, term: Term): void
  /** An entry was nothing but a clock. */
  clock?(): void
}

/** Chain of an entry: equal chains are equal logs up to there. */
export function chainOf(previous: number, entry: Entry): number {
  const { encoded } = entry
  const crc =
    encoded === undefined ? 0 : new DataView(encoded.buffer, encoded.byteOffset).getUint32(0)
  return mix(mix(previous, entry.term), crc)
}

export function bulk(value: string | null): string {
  return value === null ? '$-1\r\n' : `$${value.length}\r\n${value}\r\n`
}

export class Canon {
  /** By index; [0] stands for the empty log. */
  readonly terms: Term[] = [0]
  readonly chains: number[] = [0]
  /** The op number of the last command up to an index. */
  readonly ends: number[] = [0]
  /** The keys that an entry names for writing. */
  readonly keysAt: string[][] = [[]]
  /** The membership that is in force behind an entry; undefined: none is. */
  readonly inForce: (InForce | undefined)[] = [undefined]
  /** By op number: the reply as bytes of RESP2. */
  readonly replies: string[] = ['']
  readonly #sizes: number[] = [0]
  /** The logged clock by op number. */
  readonly #clocks: number[] = [0]
  /** Op numbers by the token of their command. */
  readonly #tokens = new Map<string, number>()
  /** Op numbers of the INCRs of each key, in order. */
  readonly #increments = new Map<string, number[]>()
  readonly #versions = new Map<string, Change[]>()
  readonly #refused = new Set<string>()
  /** How often a command without a token is committed, and where, by its words. */
  readonly #untold = new Map<string, number[]>()
  /** The keys that will expire. */
  readonly #expiring = new Map<string, Change>()
  readonly #events: CanonEvents
  #clock = 0
  #term: Term = 0

  constructor(events: CanonEvents = {}) {
    this.#events = events
  }

  get lastIndex(): Index {
    return this.terms.length - 1
  }

  /** The op number of the last committed command. */
  get lastOp(): number {
    return this.replies.length - 1
  }

  add(entry: Entry): void {
    hold(
      entry.index === this.lastIndex + 1,
      'I5 state machine safety',
      () => `canon ${entry.index}`,
    )
    this.terms.push(entry.term)
    this.#term = entry.term
    this.chains.push(chainOf(this.chains.at(-1) ?? 0, entry))
    const keys: string[] = []
    if (entry.payload.type === 'commands') {
      const { at, commands } = decodeCommands(entry.payload.data)
      hold(
        at >= this.#clock,
        'I15 logged time never falls',
        () => `entry ${entry.index} says ${at}, before it was ${this.#clock}`,
      )
      this.#clock = at
      if (commands.length === 0) this.#events.clock?.()
      this.#expire(keys)
      for (const { argv } of commands) this.#run(argv.map(latin1), keys)
    }
    this.keysAt.push(keys)
    this.inForce.push(
      entry.payload.type === 'membership'
        ? { index: entry.index, membership: entry.payload.membership }
        : this.inForce.at(-1),
    )
    this.ends.push(this.lastOp)
  }

  /** The op number of a write; undefined: it is not committed. */
  opOf(token: string): number | undefined {
    return this.#tokens.get(token)
  }

  /** The op number of the n-th INCR of a key. */
  incrementOp(key: string, n: number): number | undefined {
    return this.#increments.get(key)?.[n - 1]
  }

  increments(key: string): number {
    return this.#increments.get(key)?.length ?? 0
  }

  /** A client was told that this write did not and will not happen. */
  refused(token: string): void {
    this.#refused.add(token)
    hold(
      !this.#tokens.has(token),
      'I11 definite failure is definite',
      () => `${token} was refused, and is committed`,
    )
  }

  /** The op numbers of a command without a token, in order. */
  opsOf(words: Words): readonly number[] {
    return this.#untold.get(words.join(' ')) ?? []
  }

  /** The value after op number `op`. */
  valueAt(key: string, op: number): string | null {
    return this.#change(key, op)?.value ?? null
  }

  /** When the key expires, as it stands after op number `op`; 0: never, or there is none. */
  expireAt(key: string, op: number): number {
    return this.#change(key, op)?.expireAt ?? 0
  }

  /** The logged clock at op number `op`. */
  clockAt(op: number): number {
    return this.#clocks[op] ?? 0
  }

  sizeAt(op: number): number {
    return this.#sizes[op] ?? 0
  }

  /** The first op number above `op` at which the key changes. */
  nextChange(key: string, op: number): number {
    const versions = this.#versions.get(key) ?? []
    return versions[this.#rank(versions, op)]?.op ?? Number.POSITIVE_INFINITY
  }

  /** Every key that ever had a value. */
  keys(): Iterable<string> {
    return this.#versions.keys()
  }

  #change(key: string, op: number): Change | undefined {
    const versions = this.#versions.get(key)
    return versions?.[this.#rank(versions, op) - 1]
  }

  /** How many changes lie at or below `op`. */
  #rank(versions: readonly Change[], op: number): number {
    let low = 0
    let high = versions.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((versions[middle]?.op ?? 0) <= op) low = middle + 1
      else high = middle
    }
    return low
  }

  /** What the clock of an entry has reached is gone before its commands run. */
  #expire(keys: string[]): void {
    const due = [...this.#expiring].filter(([, { expireAt }]) => expireAt <= this.#clock)
    if (due.length === 0) return
    hold(due.length <= EXPIRED_MAX, 'the reference', () => `${due.length} keys are due at once`)
    const op = this.replies.length
    for (const [key, { term }] of due) {
      this.#put(key, op, null)
      keys.push(key)
      this.#events.expired?.(term, this.#term)
    }
    this.#ended('', -due.length)
  }

  #ended(reply: string, sizeChange: number): void {
    this.replies.push(reply)
    this.#sizes.push((this.#sizes.at(-1) ?? 0) + sizeChange)
    this.#clocks.push(this.#clock)
  }

  #run(words: Words, keys: string[]): void {
    const op = this.replies.length
    const [name = '', key = '', token = ''] = words
    if (hasToken(name)) {
      hold(
        !this.#tokens.has(token),
        'I10 exactly once',
        () => `${words.join(' ')} is committed twice`,
      )
      hold(
        !this.#refused.has(token),
        'I11 definite failure is definite',
        () => `${words.join(' ')} was refused, and is committed now`,
      )
      this.#tokens.set(token, op)
    } else if (name !== 'INCR') {
      const text = words.join(' ')
      this.#untold.set(text, [...(this.#untold.get(text) ?? []), op])
    }
    const old = this.#versions.get(key)?.at(-1)
    const reply = this.#reply(words, old, op)
    const now = this.#versions.get(key)?.at(-1)
    this.#ended(
      reply,
      Number((now?.value ?? null) !== null) - Number((old?.value ?? null) !== null),
    )
    if (!name.startsWith('holdfast.')) keys.push(key)
  }

  #reply(
    [name = '', key = '', token = '', ...options]: Words,
    was: Change | undefined,
    op: number,
  ) {
    const old = was?.value ?? null
    const kept = was?.expireAt ?? 0
    switch (name) {
      case 'SET':
        this.#put(key, op, token, options[0] === 'KEEPTTL' ? kept : this.#in(options[1]))
        return '+OK\r\n'
      case 'GETSET':
        this.#put(key, op, token)
        return bulk(old)
      case 'SETNX':
        if (old === null) this.#put(key, op, token)
        return `:${old === null ? 1 : 0}\r\n`
      case 'APPEND':
        this.#put(key, op, (old ?? '') + token, kept)
        return `:${(old ?? '').length + token.length}\r\n`
      case 'DEL':
        // Its second key is its token, and never exists.
        if (old !== null) this.#put(key, op, null)
        return `:${old === null ? 0 : 1}\r\n`
      case 'PEXPIRE': {
        const at = this.#clock + Number(token)
        if (old === null || (options[0] === 'GT' && (kept === 0 || at <= kept))) return ':0\r\n'
        this.#put(key, op, at > this.#clock ? old : null, at)
        return ':1\r\n'
      }
      case 'PERSIST':
        if (old === null || kept === 0) return ':0\r\n'
        this.#put(key, op, old)
        return ':1\r\n'
      case 'INCR': {
        const value = Number(old ?? 0) + 1
        this.#put(key, op, String(value))
        const ops = this.#increments.get(key) ?? []
        ops.push(op)
        this.#increments.set(key, ops)
        return `:${value}\r\n`
      }
      case 'holdfast.hash-key':
      case 'holdfast.fence':
      case 'holdfast.digest':
      case 'holdfast.feature-level':
        return '+OK\r\n'
      default:
        throw new Error(`the reference model does not know ${name}`)
    }
  }

  /** The logged clock in so many ms; without any: never. */
  #in(ms: string | undefined): number {
    return ms === undefined ? 0 : this.#clock + Number(ms)
  }

  #put(key: string, op: number, value: string | null, at = 0): void {
    const expireAt = value === null ? 0 : at
    const change = { op, value, expireAt, term: this.#term }
    const versions = this.#versions.get(key)
    if (versions === undefined) this.#versions.set(key, [change])
    else versions.push(change)
    if (expireAt === 0) this.#expiring.delete(key)
    else this.#expiring.set(key, change)
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}
