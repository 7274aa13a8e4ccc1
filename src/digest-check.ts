/*
 * Replicas compare themselves: now and then the leader logs a request, every member works out the digest of its state
 * at exactly that entry and tells the others. What a majority of the voters has is right; a member that has something
 * else says so once, and is of no more use until it has another state. Each member judges for itself, so no verdict
 * can come from one that is wrong. It knows no raft, no store and no link; its work is done once a tick.
 */

import type { Entry, Index, Member, NodeId } from '../raft/types.ts'
import { encodeCommands, type LoggedCommand } from '../storage/codec.ts'
import type { Logger } from './logger.ts'

export interface DigestCheckOptions {
  now(): number
  /** 0: never. */
  intervalMs(): number
  readonly id: NodeId
  members(): readonly Member[]
  /** Whether this node leads, takes commands, and is not writing a checkpoint, which would hold up the request. */
  mayAsk(): boolean
  /** Appends an entry with this command and gives its index; undefined: not now. */
  propose(command: LoggedCommand): Index | undefined
  /** May be lost: the next request comes. */
  tell(to: NodeId, index: Index, digest: string): void
  readonly log: Logger
  /** This node's state is another one than that of the majority, which these members have. */
  readonly damaged: (what: string, sound: readonly NodeId[]) => void
}

/** In no table, so no client can send it; where it is applied, it does nothing. */
const REQUEST: LoggedCommand = { database: 0, argv: [Buffer.from('holdfast.digest')] }
const CLOCK_BYTES = 8
/** The payload of a request behind its clock. */
const REQUEST_BYTES = encodeCommands(0, [REQUEST]).subarray(CLOCK_BYTES)
/** Requests that members may be at: the last ones count. */
const ROUNDS_MAX = 4

export function isDigestRequest({ payload }: Entry): boolean {
  if (payload.type !== 'commands') return false
  const { data } = payload
  if (data.length !== CLOCK_BYTES + REQUEST_BYTES.length) return false
  return Buffer.compare(data.subarray(CLOCK_BYTES), REQUEST_BYTES) === 0
}

export class DigestCheck {
  readonly #options: DigestCheckOptions
  /** What was told of a request, by its index, oldest first. */
  readonly #rounds = new Map<Index, Map<NodeId, string>>()
  /** When the next request is due, while this node leads. */
  #askAt: number | undefined
  #isOver = false

  constructor(options: DigestCheckOptions) {
    this.#options = options
  }

  /** Every tick. */
  work(): void {
    const { now, intervalMs, members, mayAsk, propose } = this.#options
    const interval = intervalMs()
    if (interval === 0 || members().length < 2 || !mayAsk()) {
      if (interval === 0) this.#askAt = undefined
      return
    }
    this.#askAt ??= now() + interval
    if (now() < this.#askAt || propose(REQUEST) === undefined) return
    this.#askAt = now() + interval
  }

  /** This node's own state at the request at `index`. */
  made(index: Index, digest: string): void {
    const { members, id, tell } = this.#options
    for (const member of members()) if (member.id !== id) tell(member.id, index, digest)
    this.told(id, index, digest)
  }

  told(from: NodeId, index: Index, digest: string): void {
    let round = this.#rounds.get(index)
    if (round === undefined) {
      // Of a request that is long over: a member that replays its log tells what nobody needs.
      if (this.#rounds.size >= ROUNDS_MAX && index < Math.min(...this.#rounds.keys())) return
      round = new Map()
      this.#rounds.set(index, round)
      if (this.#rounds.size > ROUNDS_MAX) this.#rounds.delete(Math.min(...this.#rounds.keys()))
    }
    round.set(from, digest)
    this.#judge(index, round)
  }

  #judge(index: Index, round: ReadonlyMap<NodeId, string>): void {
    const { members, id, log, damaged } = this.#options
    const own = round.get(id)
    if (own === undefined || this.#isOver) return
    const voters = members().filter(({ role }) => role === 'voter')
    const right = majorityOf(voters, round)
    if (right === undefined) {
      const all = voters.every((voter) => round.has(voter.id))
      if (all)
        log.error({ index }, 'the states of the members differ, and none is that of a majority')
      return
    }
    const others = voters.filter((voter) => round.get(voter.id) === right)
    if (own !== right) {
      this.#isOver = true
      const sound = others.map((voter) => voter.id)
      damaged(`its digest at entry ${index} is not that of the majority`, sound)
      return
    }
    const wrong = [...round].filter(([, digest]) => digest !== right).map(([member]) => member)
    if (wrong.length > 0)
      log.warn({ index, members: wrong }, 'the state of other members is damaged')
  }
}

/** The digest that more than half of the voters have told; undefined: not yet, or never. */
function majorityOf(
  voters: readonly Member[],
  round: ReadonlyMap<NodeId, string>,
): string | undefined {
  const counts = new Map<string, number>()
  for (const { id } of voters) {
    const digest = round.get(id)
    if (digest === undefined) continue
    const count = (counts.get(digest) ?? 0) + 1
    if (2 * count > voters.length) return digest
    counts.set(digest, count)
  }
  return undefined
}
