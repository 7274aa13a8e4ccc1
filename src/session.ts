/*
 * The state of one client connection, without its socket: what HELLO, AUTH, SELECT and CLIENT
 * change and report. The frontend makes one per connection and keeps the counters true; commands
 * read and set the rest. It knows no clock: times are milliseconds of the one clock that the
 * composition hands to everybody.
 */

import type { Protocol, Reply } from '../resp/encoder.ts'
import { type MultiQueue, WatchSet } from './multi.ts'

/** Databases that SELECT can choose from, numbered from 0. */
export { DATABASES } from '../storage/state-meta.ts'

export class Session {
  /** Never used twice by one process; CLIENT ID and HELLO tell it. */
  readonly id: number
  /** host:port of the client. */
  readonly address: string
  /** host:port at which the client reached this node. */
  readonly localAddress: string
  /** When the connection was accepted, in ms. */
  readonly createdAt: number
  /** HELLO switches it; the reply to that HELLO is already in the new protocol. */
  protocol: Protocol = 2
  /** True from the start where no password is set. */
  authenticated: boolean
  database = 0
  /** What stands since MULTI; undefined outside of one. */
  multi: MultiQueue | undefined
  readonly watches: WatchSet = new WatchSet()
  /** False inside EXEC: a command that would wait answers with what there is. */
  mayWait = true
  /** Its WAITs that have no answer, in their order; CLIENT UNBLOCK sets how one has to end. */
  readonly waits: Set<{ end?: 'timeout' | 'error' }> = new Set()
  /** CLIENT SETNAME and SETINFO; '' is "none". Printable ASCII without spaces. */
  name = ''
  libName = ''
  libVersion = ''
  /** Channels and patterns by their latin1 bytes, on the Sentinel port. */
  readonly subscriptions: {
    readonly channels: Set<string>
    readonly patterns: Set<string>
  } = { channels: new Set(), patterns: new Set() }
  /** Sends what is no reply to a command, behind the replies that are due; the frontend sets it. */
  push: (message: Reply) => void = () => {}
  /** Its writes: how many were sent, how many of them were answered, and at which index the latest of those. */
  readonly writes = { sent: 0, answered: 0, index: 0 }
  /** The connection is gone: nobody waits for anything any more. */
  isClosed = false
  /** The client will send no more: it may be gone, so nobody waits for ever on its behalf. */
  hasFinished = false
  /** MONITOR: it is shown the commands of all, and may not ask for data itself. */
  isMonitor = false
  /** READONLY: with `redirect moved` its reads run where it is connected. */
  isReadonly = false
  /** CLIENT NO-EVICT and NO-TOUCH. */
  noEvict = false
  noTouch = false
  /** CLIENT REPLY: whether it hears of its commands, or of all but the next. */
  replies: 'on' | 'off' | 'skip' = 'on'
  /** Ends the connection at once, as another one's CLIENT KILL asks for; the frontend sets it. */
  close: () => void = () => {}
  /** Set by a command: the connection ends once everything answered so far has been sent. */
  closeAfterReply = false
  /** When the last command arrived, in ms; the frontend sets it. */
  lastCommandAt: number
  /** Full name of the last command (`client|list`); the frontend sets it, '' before the first. */
  lastCommand = ''
  /** Bytes received and not yet executed; the frontend sets it. */
  inputBytes = 0
  /** Bytes of replies not yet handed to the kernel; the frontend sets it. */
  outputBytes = 0
  /** All that is held for it; the frontend sets it. */
  memoryBytes = 0
  /** Bytes received and sent since it was accepted; the frontend sets it. */
  receivedBytes = 0
  sentBytes = 0

  constructor(options: {
    id: number
    address: string
    localAddress: string
    now: number
    authenticated: boolean
  }) {
    this.id = options.id
    this.address = options.address
    this.localAddress = options.localAddress
    this.createdAt = options.now
    this.lastCommandAt = options.now
    this.authenticated = options.authenticated
  }
  get subscriptionCount(): number {
    const { channels, patterns } = this.subscriptions
    return channels.size + patterns.size
  }

  /** MULTI and WATCH are over, however they ended. */
  endTransaction(): void {
    this.multi = undefined
    this.watches.clear()
  }

  /** Whether the next command gets no reply; SKIP is over with it. */
  takeMute(): boolean {
    const mute = this.replies !== 'on'
    if (this.replies === 'skip') this.replies = 'on'
    return mute
  }

  /** RESET: everything that commands have set is as it was at first; `authenticated` too is up to the caller. */
  reset(authenticated: boolean): void {
    this.endTransaction()
    this.protocol = 2
    this.database = 0
    this.authenticated = authenticated
    this.name = ''
    this.isMonitor = false
    this.isReadonly = false
    this.noEvict = false
    this.noTouch = false
    this.replies = 'on'
  }

  /** A session on which commands may be tried: what they decide is seen, and nothing of it happens. */
  copy(): Session {
    const { id, address, localAddress, createdAt: now, authenticated } = this
    const copy = new Session({ id, address, localAddress, now, authenticated })
    copy.protocol = this.protocol
    copy.database = this.database
    return copy
  }
}
