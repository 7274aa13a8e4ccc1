/*
 * The clients of this node: accepts connections, gives each its turn, and knows them all. Limits on connections
 * stand here, limits of one connection in client-connection.ts. It must not know what a command does, nor a socket:
 * it runs on the ports of network.ts.
 */

import { Buffer } from 'node:buffer'
import { Decoder } from '../resp/decoder.ts'
import { ErrorReply } from '../resp/encoder.ts'
import type { FramingLimits } from '../resp/framing-guard.ts'
import { ClientConnection, type ConnectionOwner, type FrontendStats } from './client-connection.ts'
import { disabled } from './commands/cluster.ts'
import type { Args, Command } from './commands/command.ts'
import type { LocalServer } from './commands/local-server.ts'
import { resolve } from './commands/table.ts'
import { type Config, limits } from './config.ts'
import { LongCommands } from './long-commands.ts'
import {
  type Cancel,
  type Clock,
  type Connection,
  isLoopback,
  type Listener,
  type Network,
  type Timers,
} from './network.ts'
import type { PeerLog } from './peer-refusals.ts'
import type { Router } from './router.ts'
import { Session } from './session.ts'

/** How often idle and unread connections are looked at. */
const SWEEP_MS = 1000

const TOO_MANY = '-ERR max number of clients reached\r\n'
const DENIED =
  '-DENIED Holdfast is running in protected mode because protected mode is enabled and no password is set for the ' +
  'default user. In this mode connections are only accepted from the loopback interface. To accept clients from ' +
  "other machines set requirepass (in the configuration file, or with 'CONFIG SET requirepass <password>' from " +
  "this machine), or disable the protection with 'CONFIG SET protected-mode no' if the network can be trusted.\r\n"

export interface FrontendRates {
  readonly commandsPerSecond: number
  readonly inputBytesPerSecond: number
  readonly outputBytesPerSecond: number
}

/** CLIENT PAUSE, until a moment of the monotonic clock. */
export interface Pause {
  readonly until: number
  readonly mode: 'all' | 'write'
}

export interface FrontendOptions {
  readonly network: Network
  readonly clock: Clock
  readonly timers: Timers
  readonly config: Config
  readonly router: Router
  readonly server: LocalServer
  /** See ConnectionOwner; left out: the commands of the data port. */
  readonly resolve?: ConnectionOwner['resolve']
  readonly log: PeerLog
  /** A turn is wanted: work(), later flush(). */
  wake(): void
}

/** The command that a client calls on the data port. */
function dataCommand(args: Args, server: LocalServer): Command | ErrorReply {
  const command = resolve(args)
  if (command instanceof ErrorReply || command.doc.group !== 'cluster') return command
  return server.mode() === 'cluster' ? command : disabled(command)
}

export class Frontend {
  readonly #options: FrontendOptions
  readonly #owner: ConnectionOwner
  readonly #framing: FramingLimits
  readonly #listeners: Listener[] = []
  readonly #connections = new Set<ClientConnection>()
  /** Refused connections that are not closed yet. */
  #refused = 0
  /** Have input to work on, in the order in which they came. */
  #ready = new Set<ClientConnection>()
  /** Wait until the router has room. */
  #held = new Set<ClientConnection>()
  readonly #longCommands: LongCommands<ClientConnection>
  #dirty = new Set<ClientConnection>()
  /** Between the two halves of a turn. */
  #inTurn = false
  /** Wait for the end of CLIENT PAUSE. */
  #postponed = new Set<ClientConnection>()
  #pause: Pause | undefined
  #cancelPause: Cancel | undefined
  /** What all connections hold. */
  #memoryBytes = 0
  /** What came from all of them since the last turn. */
  #turnBytes = 0
  #lastId = 0
  #cancelSweep: Cancel | undefined
  /** Of the last whole second. */
  rates: FrontendRates = { commandsPerSecond: 0, inputBytesPerSecond: 0, outputBytesPerSecond: 0 }
  readonly stats: FrontendStats = noStats()

  constructor(options: FrontendOptions) {
    this.#options = options
    const { config, router, server, clock, timers } = options
    this.#framing = {
      ...limits,
      get bulkBytesMax() {
        return config.get('proto-max-bulk-len')
      },
    }
    this.#longCommands = new LongCommands({ limits, clock, timers, wake: options.wake })
    this.#owner = {
      router,
      server,
      resolve: options.resolve ?? ((args) => dataCommand(args, server)),
      now: () => clock.monotonic(),
      parkTimeoutMs: () => config.get('park-timeout-ms'),
      queryBufferBytesMax: () => config.get('client-query-buffer-limit'),
      outputLimits: () => config.get('client-output-buffer-limit'),
      memoryChanged: (bytes) => {
        this.#memoryBytes += bytes
      },
      isPaused: (command, session) => this.#isPaused(command, session),
      received: (bytes) => {
        this.#turnBytes += bytes
        return this.#turnBytes < limits.turnAllInputBytesMax
      },
      transactionBytesMax: () => config.get('transaction-max-bytes'),
      ready: (connection) => {
        this.#ready.add(connection)
        options.wake()
      },
      held: (connection) => {
        this.#held.add(connection)
      },
      postponed: (connection) => {
        this.#postponed.add(connection)
      },
      dirty: (connection) => {
        this.#dirty.add(connection)
        // The second half of this very turn writes it: another turn would find nothing to do.
        if (!this.#inTurn) options.wake()
      },
      offended: ({ session: { id, address } }, reason) =>
        options.log.warn({ client: id, address }, `client closed: ${reason}`),
      closed: (connection) => this.#forget(connection),
    }
  }

  /** Throws OperatorError when an address cannot be listened on. */
  async open(hosts: readonly string[], port: number): Promise<void> {
    const { network, config, log } = this.#options
    for (const host of hosts) {
      const listener = await network.listen(
        {
          host,
          port,
          // maxclients may change: who comes too late is refused below, and is told so.
          connectionsMax: limits.clientsMax + limits.refusedClientsMax,
          keepAliveMs: config.get('tcp-keepalive') * 1000,
        },
        {
          accepted: (connection) => this.#accept(connection),
          failed: (error) =>
            log.warn({ host, port, error: error.message }, 'cannot accept clients'),
        },
      )
      this.#listeners.push(listener)
    }
    this.#armSweep()
  }

  /** Stops accepting and closes every connection; what was written before still leaves. */
  async close(): Promise<void> {
    this.#cancelSweep?.()
    this.#cancelPause?.()
    const closed = this.#listeners.map((listener) => listener.close())
    for (const connection of this.#connections) connection.end()
    await Promise.all(closed)
  }

  /** Every connection ends as soon as nothing of it is on its way: what `close-on-step-down` asks for. */
  endWhenIdle(): void {
    for (const connection of [...this.#connections]) connection.endWhenIdle()
  }

  /** Those that are there: one that was just closed may still wait for its socket's word. */
  *sessions(): Iterable<Session> {
    for (const connection of this.#connections) {
      if (connection.session.isClosed) continue
      connection.updateSession()
      yield connection.session
    }
  }

  /** CONFIG RESETSTAT. */
  resetStats(): void {
    Object.assign(this.stats, noStats())
  }

  get connectedClients(): number {
    return this.#connections.size
  }

  /** Those that wait for copies of their writes, or with a command for the end of CLIENT PAUSE. */
  get blockedClients(): number {
    let blocked = this.#postponed.size
    for (const { session } of this.#connections) if (session.waits.size > 0) blocked++
    return blocked
  }

  #accept(connection: Connection): void {
    const { server } = this.#options
    this.stats.connectionsReceived++
    const refusal = this.#refusal(connection)
    if (refusal !== undefined) {
      this.stats.connectionsRejected++
      this.#refuse(connection, refusal)
      return
    }
    const session = new Session({
      id: ++this.#lastId,
      address: connection.remoteAddress,
      localAddress: connection.localAddress,
      now: server.now(),
      authenticated: server.passwordDigest() === undefined,
    })
    const client = new ClientConnection({
      connection,
      decoder: new Decoder(this.#framing, session.authenticated),
      session,
      owner: this.#owner,
      stats: this.stats,
    })
    this.#connections.add(client)
    connection.start(client)
  }

  /** A flood of them would take more files than all clients may: then they are not even told. */
  #refuse(connection: Connection, refusal: string): void {
    const isTold = this.#refused < limits.refusedClientsMax
    this.#refused++
    connection.start(new Refused(() => this.#refused--))
    if (!isTold) {
      connection.destroy()
      return
    }
    connection.write(Buffer.from(refusal))
    connection.end()
  }

  #refusal(connection: Connection): string | undefined {
    const { config, server } = this.#options
    if (this.#connections.size >= config.get('maxclients')) return TOO_MANY
    const open = server.passwordDigest() === undefined && config.get('protected-mode')
    return open && !isLoopback(connection.remoteAddress) ? DENIED : undefined
  }

  #forget(connection: ClientConnection): void {
    this.#connections.delete(connection)
    this.#ready.delete(connection)
    this.#longCommands.delete(connection)
    this.#held.delete(connection)
    this.#dirty.delete(connection)
    this.#postponed.delete(connection)
  }

  // ---- CLIENT PAUSE ---------------------------------------------------------------------------------

  /** Commands wait for so long: all, or those that write. What is paused already stays so at least as long. */
  pause(ms: number, mode: Pause['mode']): void {
    const { clock, timers } = this.#options
    const until = Math.max(this.#pause?.until ?? 0, clock.monotonic() + ms)
    this.#pause = { until, mode: this.#pause?.mode === 'all' ? 'all' : mode }
    this.#options.router.pauseUntil(until)
    this.#cancelPause?.()
    this.#cancelPause = timers.after(until - clock.monotonic(), () => this.unpause())
  }

  unpause(): void {
    this.#pause = undefined
    this.#options.router.pauseUntil(0)
    this.#cancelPause?.()
    for (const connection of this.#postponed) this.#owner.ready(connection)
    this.#postponed.clear()
  }

  #isPaused(command: Command, { multi }: Session): boolean {
    const pause = this.#pause
    if (pause === undefined || this.#options.clock.monotonic() >= pause.until) return false
    if (pause.mode === 'all' || command.kind === 'write') return true
    return command.name === 'exec' && multi?.writes === true
  }

  // ---- Memory ---------------------------------------------------------------------------------------

  /** What all connections hold: input, transactions and replies. */
  get memoryBytes(): number {
    return this.#memoryBytes
  }

  /** Above maxmemory-clients those that hold most have to go, until the others fit. */
  #evict(): void {
    const most = this.#options.config.get('maxmemory-clients')
    if (this.#memoryBytes <= most) return
    const holders = [...this.#connections].filter(({ session }) => !session.noEvict)
    holders.sort((a, b) => b.memory - a.memory)
    for (const connection of holders) {
      if (this.#memoryBytes <= most) return
      connection.evict()
      this.stats.connectionsEvicted++
    }
  }

  /** First half of a turn, whose second one follows: connections that have input start their shares of commands. */
  work(): void {
    this.#inTurn = true
    this.#turnBytes = 0
    this.#evict()
    if (this.#held.size > 0 && !this.#options.router.congested) {
      for (const connection of this.#held) this.#ready.add(connection)
      this.#held.clear()
    }
    const ready = this.#ready
    if (ready.size === 0) return
    this.#ready = new Set()
    const { clock } = this.#options
    const fair = Math.max(limits.turnShareMin, Math.floor(limits.turnSharedCommands / ready.size))
    const share = Math.min(fair, limits.turnCommandsMax)
    let now = clock.monotonic()
    const end = now + limits.turnWorkMsMax
    const unfinished: ClientConnection[] = []
    for (const connection of ready) {
      if (connection.isInLongCommand) {
        this.#longCommands.add(connection)
        continue
      }
      if (now >= end) {
        this.#owner.ready(connection)
        continue
      }
      if (connection.work(share, end)) unfinished.push(connection)
      now = clock.monotonic()
    }
    for (const connection of unfinished) this.#owner.ready(connection)
  }

  /** Second half: every connection with replies writes them, once; behind it those that are in the midst of a command. */
  flush(): void {
    this.#inTurn = false
    const dirty = this.#dirty
    if (dirty.size > 0) {
      this.#dirty = new Set()
      for (const connection of dirty) connection.flush()
    }
    this.#options.server.observer.slowlog.settle()
    // What a turn's quota left over, or found no room in the router, asked while this turn had begun already.
    const mayGoOn = this.#held.size > 0 && !this.#options.router.congested
    const goesOn = this.#longCommands.work(this.#owner.ready)
    if (this.#ready.size > 0 || mayGoOn || goesOn) this.#options.wake()
  }

  #measure(before: FrontendStats, ms: number): void {
    const { commandsProcessed, inputBytes, outputBytes } = this.stats
    const perSecond = (now: number, then: number): number => ((now - then) * 1000) / Math.max(1, ms)
    this.rates = {
      commandsPerSecond: perSecond(commandsProcessed, before.commandsProcessed),
      inputBytesPerSecond: perSecond(inputBytes, before.inputBytes),
      outputBytesPerSecond: perSecond(outputBytes, before.outputBytes),
    }
  }

  #armSweep(): void {
    const { timers, clock } = this.#options
    const before = { ...this.stats }
    const armedAt = clock.monotonic()
    this.#cancelSweep = timers.after(SWEEP_MS, () => {
      this.#armSweep()
      this.#measure(before, clock.monotonic() - armedAt)
      const idleMs = this.#options.config.get('timeout') * 1000
      for (const connection of [...this.#connections]) connection.sweep(idleMs)
    })
  }
}

/** A connection that is told why it may not stay. */
class Refused {
  readonly closed: () => void

  constructor(closed: () => void) {
    this.closed = closed
  }

  opened(): void {}
  received(): void {}
  finished(): void {}
  drained(): void {}
}

function noStats(): FrontendStats {
  return {
    connectionsReceived: 0,
    connectionsRejected: 0,
    connectionsEvicted: 0,
    commandsProcessed: 0,
    inputBytes: 0,
    outputBytes: 0,
  }
}
