/*
 * What a Sentinel publishes when the leader changes or a member comes or goes: clients subscribe to these channels on
 * the Sentinel port and follow. Channels and payloads are Redis Sentinel's, in the order in which it sends them: the
 * old master is down, the new one is in its place, and who its replicas are. It is told of changes and tells the
 * connections; it knows neither sockets nor Raft.
 */

import { Buffer } from 'node:buffer'
import type { Member } from '../raft/types.ts'
import { PushReply } from '../resp/encoder.ts'
import { globMatches } from './commands/glob.ts'
import { clientHost } from './commands/status.ts'
import type { Session } from './session.ts'

export interface SentinelEventsOptions {
  readonly masterName: () => string
  readonly members: () => readonly Member[]
  /** The connections of the Sentinel port. */
  readonly sessions: () => Iterable<Session>
}

export class SentinelEvents {
  readonly #options: SentinelEventsOptions
  /** The leader that clients were told of, by name or by this. */
  #announced: Member | undefined

  constructor(options: SentinelEventsOptions) {
    this.#options = options
  }

  /** A leader is known: of a new one everybody hears. */
  leading(leader: Member): void {
    const before = this.#announced
    this.#announced = leader
    if (before === undefined || sameAddress(before, leader)) return
    const name = this.#options.masterName()
    const from = addressText(before)
    const to = addressText(leader)
    this.#publish('+sdown', `master ${name} ${from}`)
    this.#publish('+odown', `master ${name} ${from}`)
    this.#publish('+switch-master', `${name} ${from} ${to}`)
    for (const member of this.#options.members()) {
      if (member.id !== leader.id) this.#publish('+slave', this.#replica(member))
    }
  }

  /** The link to a member broke, or is there again. */
  peer(member: Member, change: 'up' | 'down'): void {
    if (this.#announced === undefined || member.id === this.#announced.id) return
    this.#publish(change === 'up' ? '-sdown' : '+sdown', this.#replica(member))
  }

  #replica(member: Member): string {
    const { host, port } = clientHost(member)
    const master = this.#announced === undefined ? '' : addressText(this.#announced)
    return `slave ${host}:${port} ${host} ${port} @ ${this.#options.masterName()} ${master}`
  }

  #publish(channel: string, payload: string): void {
    const message = Buffer.from(payload)
    for (const session of this.#options.sessions()) {
      const { channels, patterns } = session.subscriptions
      if (channels.has(channel)) session.push(new PushReply(['message', channel, message]))
      for (const pattern of patterns) {
        if (!globMatches(pattern, channel)) continue
        const name = Buffer.from(pattern, 'latin1')
        session.push(new PushReply(['pmessage', name, channel, message]))
      }
    }
  }
}

function addressText(member: Member): string {
  const { host, port } = clientHost(member)
  return `${host} ${port}`
}

function sameAddress(a: Member, b: Member): boolean {
  return a.id === b.id && a.clientAddress === b.clientAddress
}
