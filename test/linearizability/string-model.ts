/*
 * What Holdfast's string commands do to one key, written from Redis' documentation and not from src/commands: a
 * checker that shared code with the server would share its bugs. It serves as register (GET SET GETSET DEL),
 * counter (INCR and its kin), compare-and-set (SET NX/XX, SETNX) and append log at once, in any mixture. Errors
 * are not modelled: a command that was answered an error took no effect and is recorded as `fail`.
 */

import { Buffer } from 'node:buffer'
import { ILLEGAL, type KeyModel, type Model, type State } from './model.ts'
import { HistoryError, type Operation, type Reply } from './operation.ts'
import { ABSENT, isInt64, ValueTable } from './value-table.ts'

/**
 * Replies as numbers, so that a step allocates nothing: a state for bulk replies and new counter values, the number
 * itself for other integers. A command answers in one of these ways only, so they need not be told apart.
 */
type Answer = number
const OK: Answer = -1
const NIL: Answer = -2
/** An error, or a recorded reply of a type that the command never gives. They are no match for each other. */
const ERROR: Answer = -3
const NEVER: Answer = -4
const ANY: Answer = -5

type Kind = 'bulk' | 'integer' | 'counter' | 'status'

interface Behaviour {
  readonly answers: Kind
  answer(state: State): Answer
  next(state: State): State
  /** Whether this answer says that nothing was written. */
  idleAnswer?(answer: Answer): boolean
  /** Whether this answer says that there was no such key; for answers that are not the value itself. */
  absentAnswer?(answer: Answer): boolean
  /** The one state in which a counter comes to this value, if there is one. */
  beforeAnswer?(answer: Answer): State | undefined
  /** Names what it does to a state, but for the value that it writes. */
  readonly effect: string
  /** What it writes, where that does not depend on the value that was there. */
  readonly writes?: State
}

type Make = (values: ValueTable, args: readonly string[]) => Behaviour

interface Command {
  /** How many arguments behind the key, least and most. */
  readonly arity: readonly [number, number]
  readonly make: Make
  /** Changes nothing, ever. */
  readonly reads?: true
  /** The result depends on the value that was there, so any earlier write may show in a later reply. */
  readonly derives?: true
  refusal?(args: readonly string[]): string | undefined
}

const get: Make = () => ({
  answers: 'bulk',
  answer: (state) => state,
  next: (state) => state,
  effect: 'none',
})

const set: Make = (values, args) => {
  const value = values.of(args[0] ?? '')
  const { condition, get: wantsOld } = setOptions(args)
  const writes = (state: State): boolean =>
    condition === undefined || (condition === 'nx') === (state === ABSENT)
  return {
    answers: wantsOld ? 'bulk' : 'status',
    answer: (state) => (wantsOld ? state : writes(state) ? OK : NIL),
    next: (state) => (writes(state) ? value : state),
    idleAnswer: (answer) => {
      if (!wantsOld) return answer === NIL
      return condition !== undefined && (condition === 'nx') !== (answer === ABSENT)
    },
    effect: `set ${condition ?? ''}`,
    absentAnswer: (answer) =>
      (condition === 'nx' && answer === OK) || (condition === 'xx' && answer === NIL),
    writes: value,
  }
}

const setnx: Make = (values, args) => {
  const value = values.of(args[0] ?? '')
  return {
    answers: 'integer',
    answer: (state) => (state === ABSENT ? 1 : 0),
    next: (state) => (state === ABSENT ? value : state),
    idleAnswer: (answer) => answer === 0,
    effect: 'set nx',
    absentAnswer: (answer) => answer === 1,
    writes: value,
  }
}

const getset: Make = (values, args) => {
  const value = values.of(args[0] ?? '')
  return {
    answers: 'bulk',
    answer: (state) => state,
    next: () => value,
    effect: 'set ',
    writes: value,
  }
}

const del: Make = () => ({
  answers: 'integer',
  answer: (state) => (state === ABSENT ? 0 : 1),
  next: () => ABSENT,
  effect: 'set ',
  idleAnswer: (answer) => answer === 0,
  absentAnswer: (answer) => answer === 0,
  writes: ABSENT,
})

const exists: Make = () => ({
  answers: 'integer',
  answer: (state) => (state === ABSENT ? 0 : 1),
  next: (state) => state,
  effect: 'none',
  absentAnswer: (answer) => answer === 0,
})

const strlen: Make = (values) => ({
  answers: 'integer',
  answer: (state) => values.bytes(state),
  next: (state) => state,
  effect: 'none',
})

const append: Make = (values, args) => {
  const tail = args[0] ?? ''
  const bytes = Buffer.byteLength(tail)
  return {
    answers: 'integer',
    answer: (state) => values.bytes(state) + bytes,
    next: (state) => values.append(state, tail),
    effect: `append ${tail}`,
  }
}

function increment(by: (args: readonly string[]) => bigint): Make {
  return (values, args) => {
    const amount = by(args)
    const zero = values.of('0')
    return {
      answers: 'counter',
      answer: (state) => values.add(state, amount) ?? ERROR,
      next: (state) => values.add(state, amount) ?? state,
      // Zero is two states: the value and the absence of one.
      beforeAnswer: (answer) => {
        const before = answer < 0 ? undefined : values.add(answer, -amount)
        return before === zero ? undefined : before
      },
      effect: `add ${amount}`,
    }
  }
}

const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['get', { arity: [0, 0], make: get, reads: true }],
  ['exists', { arity: [0, 0], make: exists, reads: true }],
  ['strlen', { arity: [0, 0], make: strlen, reads: true }],
  ['set', { arity: [1, 3], make: set, refusal: refuseSet }],
  ['setnx', { arity: [1, 1], make: setnx }],
  ['getset', { arity: [1, 1], make: getset }],
  ['del', { arity: [0, 0], make: del }],
  ['append', { arity: [1, 1], make: append, derives: true }],
  ['incr', { arity: [0, 0], make: increment(() => 1n), derives: true }],
  ['decr', { arity: [0, 0], make: increment(() => -1n), derives: true }],
  ['incrby', counterBy((by) => by)],
  ['decrby', counterBy((by) => -by)],
])

function counterBy(signed: (by: bigint) => bigint): Command {
  return {
    arity: [1, 1],
    make: increment((args) => signed(BigInt(args[0] ?? ''))),
    derives: true,
    refusal: ([by = '']) => {
      return /^-?\d{1,19}$/.test(by) && isInt64(BigInt(by)) ? undefined : 'its argument is no int64'
    },
  }
}

interface SetOptions {
  readonly condition: 'nx' | 'xx' | undefined
  readonly get: boolean
}

function setOptions(args: readonly string[]): SetOptions {
  const words = args.slice(1).map((word) => word.toLowerCase())
  const condition = words.includes('nx') ? 'nx' : words.includes('xx') ? 'xx' : undefined
  return { condition, get: words.includes('get') }
}

function refuseSet(args: readonly string[]): string | undefined {
  const words = args.slice(1).map((word) => word.toLowerCase())
  const odd = words.find((word) => !['nx', 'xx', 'get'].includes(word))
  if (odd !== undefined) return 'its options may be NX, XX and GET'
  return words.includes('nx') && words.includes('xx') ? 'NX and XX exclude each other' : undefined
}

function refusal(f: string, args: readonly string[]): string | undefined {
  const command = COMMANDS.get(f)
  if (command === undefined) return `only ${[...COMMANDS.keys()].join(', ')} can be checked`
  const [least, most] = command.arity
  if (args.length < least || args.length > most) {
    const count = least === most ? `${least}` : `${least} to ${most}`
    return `it takes ${count} arguments behind the key, not ${args.length}`
  }
  return command.refusal?.(args)
}

interface Prepared {
  readonly operation: Operation
  readonly command: Command
  readonly behaviour: Behaviour
  readonly expected: Answer
}

function prepare(values: ValueTable, operation: Operation): Prepared {
  const { f, args, reply, outcome } = operation
  const command = COMMANDS.get(f)
  const reason = refusal(f, args)
  if (command === undefined || reason !== undefined) throw new HistoryError(`${f}: ${reason}`)
  const behaviour = command.make(values, args)
  const known = outcome === 'ok' && reply !== undefined
  const expected = known ? answerOf(values, behaviour.answers, reply) : ANY
  return { operation, command, behaviour, expected }
}

function answerOf(values: ValueTable, kind: Kind, reply: Reply): Answer {
  if (kind === 'bulk') {
    if (reply === null) return ABSENT
    return typeof reply === 'string' ? values.of(reply) : NEVER
  }
  if (kind === 'status') return reply === 'OK' ? OK : reply === null ? NIL : NEVER
  if (kind === 'counter') return isInteger(reply) ? values.of(String(reply)) : NEVER
  return typeof reply === 'number' && reply >= 0 ? reply : NEVER
}

/** A client gives an integer that no number holds exactly as a string; any other string was a bulk reply. */
function isInteger(reply: Reply): boolean {
  if (typeof reply !== 'string') return reply !== null
  return /^-?\d{16,19}$/.test(reply) && !Number.isSafeInteger(Number(reply))
}

/** What the replies of one key can tell of its value. */
interface Sight {
  /** The values that some reply names; undefined: a reply can depend on any value. */
  readonly values: ReadonlySet<State> | undefined
  /** Whether some reply or effect depends on the key being there. */
  readonly existence: boolean
}

function sightOf(prepared: readonly Prepared[]): Sight {
  const values = new Set<State>()
  let existence = false
  let isAny = false
  for (const { operation, command, behaviour, expected } of prepared) {
    const isConditional = behaviour.effect === 'set nx' || behaviour.effect === 'set xx'
    if (isConditional || (behaviour.answers === 'integer' && expected !== ANY)) existence = true
    if (behaviour.answers === 'bulk' && expected !== ANY) values.add(expected)
    if (command.derives === true || (operation.f === 'strlen' && expected !== ANY)) isAny = true
  }
  return { values: isAny ? undefined : values, existence }
}

function longestLog(operations: readonly Operation[]): string | undefined {
  let longest: string | undefined
  for (const { f, reply } of operations) {
    if (!['append', 'get', 'strlen', 'exists'].includes(f)) return undefined
    if (f === 'get' && typeof reply === 'string' && reply.length >= (longest ?? '').length)
      longest = reply
  }
  return longest
}

class StringKey implements KeyModel {
  readonly #values = new ValueTable()
  readonly #prepared: readonly Prepared[]
  readonly #sight: Sight
  /**
   * Of a key that is only appended to, the longest value that was read: what is shorter must be its beginning, what
   * is longer must begin with it. So a wrong APPEND is seen where it is tried, not at the next GET.
   */
  readonly #log: string | undefined

  constructor(operations: readonly Operation[], witnesses: readonly Operation[]) {
    this.#prepared = operations.map((operation) => prepare(this.#values, operation))
    const isSame = witnesses === operations
    const seeing = isSame ? this.#prepared : witnesses.map((one) => prepare(this.#values, one))
    this.#sight = sightOf(seeing)
    this.#log = longestLog(operations)
  }

  get states(): number {
    return this.#values.size
  }

  step(state: State, operation: number): State {
    const { operation: recorded, behaviour, expected } = this.#at(operation)
    if (expected !== ANY && behaviour.answer(state) !== expected) return ILLEGAL
    if (
      this.#log !== undefined &&
      recorded.f === 'append' &&
      !this.#isOnLog(state, recorded.args)
    ) {
      return ILLEGAL
    }
    return behaviour.next(state)
  }

  isIdle(operation: number): boolean {
    const { command, behaviour, expected } = this.#at(operation)
    return command.reads === true || (expected !== ANY && behaviour.idleAnswer?.(expected) === true)
  }

  needs(operation: number): State | undefined {
    const { behaviour, expected } = this.#at(operation)
    if (expected === ANY) return undefined
    if (behaviour.answers === 'bulk') return expected
    if (behaviour.answers === 'counter') return behaviour.beforeAnswer?.(expected)
    return behaviour.absentAnswer?.(expected) === true ? ABSENT : undefined
  }

  makes(operation: number): State | 'derives' | undefined {
    if (this.isIdle(operation)) return undefined
    const { behaviour, expected } = this.#at(operation)
    if (behaviour.answers === 'counter' && expected !== ANY) return expected
    return behaviour.writes ?? 'derives'
  }

  mayMatter(operation: number): boolean {
    const { command, behaviour } = this.#at(operation)
    if (command.reads === true) return false
    const { values, existence } = this.#sight
    return existence || values === undefined || values.has(behaviour.writes ?? ABSENT)
  }

  effect(operation: number): string {
    const { writes, effect } = this.#at(operation).behaviour
    if (writes === undefined) return effect
    const { values } = this.#sight
    const isTold = writes === ABSENT || values === undefined || values.has(writes)
    return isTold ? `${effect} ${writes}` : `${effect} a value that no reply names`
  }

  #isOnLog(state: State, [tail = '']: readonly string[]): boolean {
    const rest = (this.#log ?? '').slice(
      this.#values.units(state),
      this.#values.units(state) + tail.length,
    )
    return tail.startsWith(rest)
  }

  reply(state: State, operation: number): Reply | undefined {
    const { behaviour } = this.#at(operation)
    const answer = behaviour.answer(state)
    if (answer === ERROR) return undefined
    if (behaviour.answers === 'status') return answer === OK ? 'OK' : null
    if (behaviour.answers === 'integer') return answer
    if (behaviour.answers === 'counter') return Number(this.#values.text(answer))
    return answer === ABSENT ? null : this.#values.text(answer)
  }

  value(state: State): string | null {
    return state === ABSENT ? null : this.#values.text(state)
  }

  state(value: string | null): State {
    return value === null ? ABSENT : this.#values.of(value)
  }

  #at(operation: number): Prepared {
    const prepared = this.#prepared[operation]
    if (prepared === undefined) throw new RangeError(`no operation ${operation}`)
    return prepared
  }
}

export const stringModel: Model = {
  refusal,
  begin: (operations, witnesses = operations) => new StringKey(operations, witnesses),
}
