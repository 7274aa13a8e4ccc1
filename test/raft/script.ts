/*
 * The language of the transcripts: each command drives a Cluster, and every line the cluster traces is the output.
 * Election timeouts are not random here (a follower campaigns after exactly ten silent ticks), so a script says itself
 * who moves when. Reviewers read the .txt files as a specification; this file must only make them easy to write.
 *
 *   cluster N [members=1,2] [window=M] [append=B] [uncommitted=B] [apply=B] [retain=B] [pinned=B] [base=I] [1=1,1,2 ...]
 *     (bytes of log that are kept for whoever is behind, and for a snapshot; terms of the entries on a disk)
 *   members ID VOTERS [LEARNERS] (1,2,3 4) · transfer ID [TO]
 *   tick ID [N] · campaign ID · persist ID · pump ID · propose ID TEXT... · read ID NAME · settle · status [ID...]
 *   deliver|drop|repeat|delay [all] [FROM>TO] [TYPE]   (* for anybody; the oldest match, or all until none is left)
 *   cut FROM>TO... · isolate ID · heal · crash ID [landed] · restart ID [terms] · disk ID · queue
 *   delivered ID PEER · failed ID PEER   (what the sender of a snapshot hears)
 *   unreachable ID PEER · restarted ID PEER · close ID · open ID · checkpoint ID · lazy|eager · quietly COMMAND
 */

import type { CoreLimits } from '../../raft/core.ts'
import type { Entry, NodeId, Payload } from '../../raft/types.ts'
import { Cluster, member, type Packet } from './cluster.ts'
import { describe, entryList, position } from './describe.ts'
import { membershipText } from './invariants.ts'
import type { DurableState } from './memory-log.ts'

const ELECTION_TICKS = 10

/** A disk whose log has an entry of each of these terms, counted from `base`. */
export function diskOf(terms: readonly number[], base: number): DurableState {
  const entries = terms.map((term, at): Entry => {
    const payload: Payload = {
      type: 'commands',
      data: Uint8Array.from(`x${term}`, (c) => c.charCodeAt(0)),
    }
    return { index: base + 1 + at, term, payload, encoded: undefined }
  })
  return {
    hardState: { term: terms.at(-1) ?? 0, vote: undefined },
    base: { index: base, term: base === 0 ? 0 : 1 },
    entries,
  }
}

function parseTerms(text: string): number[] {
  return text === '' ? [] : text.split(',').map(Number)
}

export class Script {
  #cluster: Cluster | undefined
  #out: string[] = []
  #quiet = false

  /** Runs one line of commands, separated by semicolons; returns what it traced. */
  async run(line: string): Promise<readonly string[]> {
    this.#out = []
    for (const command of line.split(';')) {
      try {
        await this.#command(command.trim().split(/\s+/))
      } catch (error) {
        // Part of the transcript: no reviewer lets it through, and the rest still shows what happened before.
        this.#out.push(`! ${command.trim()}: ${error}`)
      }
    }
    return this.#out
  }

  get #on(): Cluster {
    if (this.#cluster === undefined) throw new Error('a script begins with "cluster N"')
    return this.#cluster
  }

  #print(line: string): void {
    if (!this.#quiet) this.#out.push(line)
  }

  async #command(words: readonly string[]): Promise<void> {
    const [name = '', ...args] = words
    if (name === 'quietly') {
      this.#quiet = true
      await this.#command(args).finally(() => {
        this.#quiet = false
      })
      return
    }
    const known =
      this.#setUp(name, args) || (await this.#time(name, args)) || (await this.#network(name, args))
    if (!known && !(await this.#client(name, args))) throw new Error(`unknown command: ${name}`)
  }

  #setUp(name: string, args: readonly string[]): boolean {
    const [id = ''] = args
    if (name === 'cluster') this.#create(args)
    else if (name === 'cut') {
      for (const link of args) this.#on.cut(link.slice(0, 1), link.slice(2))
    } else if (name === 'isolate') {
      for (const peer of this.#on.ids) {
        this.#on.cut(id, peer)
        this.#on.cut(peer, id)
      }
    } else if (name === 'heal') this.#on.heal()
    else if (name === 'crash') this.#on.crash(id, args[1] === 'landed')
    else if (name === 'restart') {
      const terms = args[1]
      this.#on.restart(id, terms === undefined ? undefined : diskOf(parseTerms(terms), 0))
    } else if (name === 'disk') this.#printDisk(id)
    else if (name === 'queue') {
      for (const message of this.#on.packets) {
        this.#print(`${message.from}>${message.to} ${describe(message)}`)
      }
    } else if (name === 'lazy' || name === 'eager') this.#on.eager = name === 'eager'
    else if (name === 'status') this.#printStatus(args)
    else return false
    return true
  }

  #create(args: readonly string[]): void {
    const options = new Map(args.slice(1).map((arg) => arg.split('=') as [string, string]))
    const size = Number(args[0])
    const base = Number(options.get('base') ?? 0)
    const disks = new Map<NodeId, DurableState>()
    for (const [id, terms] of options) {
      if (Number(id) >= 1) disks.set(id, diskOf(parseTerms(terms), base))
    }
    const number = (name: string, otherwise: number): number =>
      Number(options.get(name) ?? otherwise)
    const limits: CoreLimits = {
      appendBytes: number('append', 1_000),
      window: { messages: number('window', 4), bytes: 10_000 },
      uncommittedBytes: number('uncommitted', 10_000),
      applyBytes: number('apply', 10_000),
    }
    const retain = { bytes: number('retain', 1e9), pinned: number('pinned', 1e9) }
    const trace = (line: string): void => this.#print(line)
    const members = options.get('members')?.split(',')
    this.#cluster = new Cluster({
      size,
      ...(members === undefined ? {} : { members }),
      random: () => 0,
      electionTicks: ELECTION_TICKS,
      limits,
      disks,
      retain,
      trace,
    })
  }

  async #time(name: string, args: readonly string[]): Promise<boolean> {
    const [id = '', second = ''] = args
    if (name === 'tick' || name === 'campaign') {
      const times = name === 'campaign' ? ELECTION_TICKS : Number(second || 1)
      for (let tick = 0; tick < times; tick++) await this.#on.tick(id)
    } else if (name === 'persist') await this.#on.persist(id)
    else if (name === 'pump') await this.#on.pump(id)
    else if (name === 'unreachable') await this.#on.unreachable(id, second)
    else if (name === 'restarted') await this.#on.restarted(id, second)
    else if (name === 'close' || name === 'open') await this.#on.openMachine(id, name === 'open')
    else if (name === 'delivered' || name === 'failed') {
      await this.#on.snapshotEnded(id, second, name === 'delivered')
    } else if (name === 'checkpoint') await this.#on.checkpoint(id)
    else if (name === 'settle') await this.#on.settle()
    else return false
    return true
  }

  async #network(name: string, args: readonly string[]): Promise<boolean> {
    const all = args[0] === 'all'
    const [link = '*>*', type = ''] = all ? args.slice(1) : args
    const matches = ({ from, to, type: kind }: Packet): boolean => {
      const [wantFrom, wantTo] = link.split('>')
      const linked = [from, '*'].includes(wantFrom ?? '') && [to, '*'].includes(wantTo ?? '')
      return linked && (type === '' || type === kind)
    }
    if (!['deliver', 'drop', 'repeat', 'delay'].includes(name)) return false
    for (;;) {
      const message = this.#on.packets.find(matches)
      if (message === undefined) {
        if (!all) throw new Error(`nothing to ${name}: ${args.join(' ')}`)
        return true
      }
      if (name === 'deliver') await this.#on.deliver(message)
      else if (name === 'repeat') this.#on.duplicate(message)
      else if (name === 'delay') this.#on.delay(message)
      else await this.#on.drop(message)
      if (!all) return true
    }
  }

  async #client(name: string, args: readonly string[]): Promise<boolean> {
    const [id = '', ...rest] = args
    if (name === 'propose') {
      const result = await this.#on.propose(id, rest)
      if (!result.accepted) this.#print(`${id} refuses: ${result.reason}`)
    } else if (name === 'read') {
      await this.#on.read(id, (confirmed) => {
        const at = this.#on.host(id).machine.appliedIndex()
        this.#print(`${id} read ${rest[0]} ${confirmed ? `served at ${at}` : 'lost'}`)
      })
    } else if (name === 'members') {
      const members = rest.flatMap((ids, at) =>
        ids.split(',').map((one) => member(one, at === 0 ? 'voter' : 'learner')),
      )
      const result = await this.#on.change(id, members)
      if (!result.accepted) this.#print(`${id} refuses: ${result.reason}`)
    } else if (name === 'transfer') {
      const result = await this.#on.transfer(id, rest[0])
      if (result !== 'begun') this.#print(`${id} refuses: ${result}`)
    } else return false
    return true
  }

  #printDisk(id: NodeId): void {
    const { log } = this.#on.host(id)
    const { term, vote } = log.hardState()
    const end = log.lastIndex() + 1
    const from = log.base().index + 1
    const entries = from < end ? log.entries(from, end, 1e9) : []
    this.#print(
      `${id} disk: term ${term} vote ${vote ?? '-'} base ${position(log.base())} ${entryList(entries)}`,
    )
  }

  #printStatus(ids: readonly NodeId[]): void {
    for (const id of ids.length > 0 ? ids : this.#on.up) {
      const status = this.#on.node(id).status()
      const { role, term, leader, commit, applied, last, durable, first, membership } = status
      const peers = status.peers.map(
        (peer) => `${peer.id} ${peer.state} match ${peer.match} next ${peer.next}`,
      )
      const log = `log ${first}..${last} durable ${durable} commit ${commit} applied ${applied}`
      const more = peers.length > 0 ? ` (${peers.join(', ')})` : ''
      const known = membership === undefined ? 'nobody' : membershipText(membership)
      // Only where it says more than the number of nodes.
      const who = known === `${this.#on.ids}` ? '' : ` members ${known}`
      this.#print(`${id} ${role} t${term} leader ${leader ?? '-'} ${log}${more}${who}`)
    }
  }
}
