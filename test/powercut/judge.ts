/*
 * Compares what a recovery found with what the node had told others before the power went, and with what its log
 * means. Pure: it opens nothing and draws nothing, so that each of its sentences can be tested on its own.
 */

import type { Sent } from './load.ts'
import type { Told } from './promises.ts'
import type { Outcome } from './recoverer.ts'
import type { Found, StateFound } from './recovery.ts'
import type { Reference } from './reference.ts'

export interface Problem {
  readonly what:
    | 'refused'
    | 'identity'
    | 'acknowledged'
    | 'checkpoint'
    | 'term and vote'
    | 'match'
    | 'log'
    | 'content'
    | 'digest'
  readonly text: string
}

/** What the node had told others when the power went. */
export interface Due {
  /** By client, how many of its commands were answered. */
  readonly answered: ReadonlyMap<number, number>
  /** durableAt() was at least here. */
  readonly checkpoint: number
  readonly votes: readonly Extract<Told, { type: 'vote' }>[]
  readonly matches: readonly Extract<Told, { type: 'match' }>[]
}

/** Of several images: what must be equal in all of them. */
export interface Memory {
  /** By applied index. */
  readonly digests: Map<number, string>
  /** By term. */
  readonly votes: Map<number, string>
}

/** Commands acknowledged so far. */
export function acknowledged({ answered }: Due): number {
  let sum = 0
  for (const count of answered.values()) sum += count
  return sum
}

/** What was due at a moment, of all that was told and of the clients. */
export function dueAt(moment: number, told: readonly Told[], clients: readonly Sent[]): Due {
  const before = told.filter(({ at }) => at <= moment)
  const replies = new Map<number, number>()
  let checkpoint = 0
  for (const one of before) {
    if (one.type === 'replies') replies.set(one.port, (replies.get(one.port) ?? 0) + one.count)
    if (one.type === 'checkpoint') checkpoint = Math.max(checkpoint, one.index)
  }
  const answered = clients.map(({ port, client }) => [client, replies.get(port) ?? 0] as const)
  return {
    answered: new Map(answered),
    checkpoint,
    votes: before.filter((one) => one.type === 'vote'),
    matches: before.filter((one) => one.type === 'match'),
  }
}

export function judge(
  outcome: Outcome,
  due: Due,
  reference: Reference,
  memory: Memory,
): readonly Problem[] {
  const { found } = outcome
  if (found === undefined) return [{ what: 'refused', text: outcome.refused ?? 'no answer' }]
  const judgement = new Judgement(found, due, reference)
  judgement.acknowledgements()
  judgement.promises()
  judgement.hardState(memory)
  const agreed = judgement.log()
  judgement.content('the state', found.state)
  if (agreed === found.last) judgement.content('the replayed state', found.replayed)
  for (const state of [found.state, found.replayed]) judgement.digest(state, agreed, memory)
  return judgement.problems
}

class Judgement {
  readonly problems: Problem[] = []
  readonly #found: Found
  readonly #due: Due
  readonly #reference: Reference

  constructor(found: Found, due: Due, reference: Reference) {
    this.#found = found
    this.#due = due
    this.#reference = reference
  }

  acknowledgements(): void {
    const { last } = this.#found
    for (const [client, count] of this.#due.answered) {
      const commands = this.#reference.commands(client)
      const missing = commands.slice(0, count).filter(({ index }) => index > last)
      const [first] = missing
      if (count > commands.length) {
        this.#add('acknowledged', `${count - commands.length} commands were never logged`)
      }
      if (first === undefined) continue
      const [name, key = ''] = first.argv
      const what = `${name} ${key} (entry ${first.index})`
      const more = missing.length > 1 ? ` and ${missing.length - 1} later ones` : ''
      this.#add('acknowledged', `${what}${more} missing, the log ends at ${last}`)
    }
  }

  promises(): void {
    const { last, lastTerm, hardState, state, nodeId, bound } = this.#found
    const { checkpoint, matches, votes, answered } = this.#due
    if (state.at.index < checkpoint) {
      this.#add('checkpoint', `${checkpoint} was durable, the state is at ${state.at.index}`)
    }
    const spoke = [...answered.values()].some((count) => count > 0)
    if (spoke || matches.length > 0 || votes.length > 0) {
      if (nodeId !== this.#reference.nodeId || !bound) {
        this.#add('identity', `node ${nodeId}${bound ? '' : ', which belongs to no cluster'}`)
      }
    }
    for (const { term, index } of matches) {
      // A leader of a later term may have cut it again.
      if (last >= index || (hardState.term > term && lastTerm > term)) continue
      this.#add('match', `entry ${index} was acknowledged in term ${term}, the log ends at ${last}`)
      break
    }
  }

  hardState({ votes }: Memory): void {
    const { hardState, lastTerm, nodeId } = this.#found
    const { term, vote } = hardState
    if (lastTerm > term) this.#add('term and vote', `term ${term}, an entry of term ${lastTerm}`)
    for (const cast of this.#due.votes) {
      const own = cast.own ? vote === nodeId : vote !== undefined
      if (term > cast.term || (term === cast.term && own)) continue
      this.#add('term and vote', `it had voted in term ${cast.term}: term ${term}, vote ${vote}`)
    }
    for (const { term: told } of this.#due.matches) {
      if (told > term) this.#add('term and vote', `it had spoken in term ${told}: term ${term}`)
    }
    if (vote === undefined) return
    const before = votes.get(term) ?? vote
    votes.set(term, before)
    if (before !== vote) this.#add('term and vote', `two votes in term ${term}`)
  }

  /** Up to where it is the one log. */
  log(): number {
    const { base, last, entries } = this.#found
    for (const [at, { term, bytes }] of entries.entries()) {
      const index = base.index + 1 + at
      const expected = this.#reference.entryAt(index)
      if (expected?.bytes === bytes) continue
      // An entry of a deposed leader that a later one replaced.
      const superseded = expected !== undefined && term < expected.term
      if (!superseded) this.#add('log', `entry ${index} of term ${term} was never in it`)
      return index - 1
    }
    return last
  }

  content(what: string, { at, databases }: StateFound): void {
    for (const [database, { values, size, records }] of databases.entries()) {
      const expected = this.#reference.contentAt(database, at.index)
      const where = `${what} at ${at.index}, database ${database}`
      if (size !== expected.size || records !== expected.size) {
        const counts = `counts ${size} keys and has ${records} records`
        this.#add('content', `${where} ${counts}, not ${expected.size}`)
      }
      const found = new Map(values)
      const keys = [...new Set([...found.keys(), ...expected.keys()])]
      const wrong = keys.filter((key) => found.get(key) !== expected.get(key))
      if (wrong.length > 0) this.#add('content', `${where}: wrong values of ${wrong.join(', ')}`)
    }
  }

  digest({ at, digest }: StateFound, agreed: number, { digests }: Memory): void {
    if (at.index > agreed && at.index > this.#found.state.at.index) return
    const before = digests.get(at.index) ?? digest
    digests.set(at.index, before)
    if (before !== digest) this.#add('digest', `two digests of the state at ${at.index}`)
  }

  #add(what: Problem['what'], text: string): void {
    this.problems.push({ what, text })
  }
}
