/*
 * What this node remembers of the commands of its clients, each once it is answered: the counts behind INFO's
 * commandstats, errorstats and latencystats, SLOWLOG, LATENCY, and the lines of MONITOR. A command's time runs from
 * its arrival to its reply, so it includes what the log and other nodes took. It changes no reply.
 */

import { Buffer } from 'node:buffer'
import { EncodedReply, ErrorReply, type Reply, SimpleReply } from '../resp/encoder.ts'
import { argument, isWord } from './commands/arguments.ts'
import type { Args, Command } from './commands/command.ts'
import { limits } from './config.ts'
import { LatencyHistogram } from './latency-histogram.ts'
import { LatencyMonitor } from './latency-monitor.ts'
import type { Session } from './session.ts'
import { Slowlog } from './slowlog.ts'

export interface CommandCounts {
  calls: number
  micros: number
  /** Refused before they ran. */
  rejected: number
  /** Ran, and answered with an error. */
  failed: number
  readonly latency: LatencyHistogram
}

export interface ObserverSettings {
  /** Milliseconds since 1970. */
  wall(): number
  /** Below 0: nothing is slow. */
  slowerThanMicros(): number
  slowlogMax(): number
  /** 0: no event is kept. */
  latencyThresholdMs(): number
}

export interface Sent {
  readonly session: Session
  readonly command: Command
  readonly args: Args
}

/** A command that was answered. */
export interface Answered extends Sent {
  readonly ms: number
  readonly reply: Reply
}

const ERROR_MARK = 0x2d
const OTHER_ERRORS = 'others'
const REDACTED: Uint8Array = Buffer.from('(redacted)')

export class Observer {
  readonly #settings: ObserverSettings
  readonly #commands = new Map<Command, CommandCounts>()
  readonly #errors = new Map<string, number>()
  /** Connections that watch. */
  readonly #monitors = new Set<Session>()
  readonly slowlog: Slowlog
  readonly latency: LatencyMonitor = new LatencyMonitor()
  #errorReplies = 0

  constructor(settings: ObserverSettings) {
    this.#settings = settings
    this.slowlog = new Slowlog(() => settings.slowlogMax())
  }

  /** By the full names of the commands (`client|list`) that were called since the start or the last reset. */
  get commands(): ReadonlyMap<Command, CommandCounts> {
    return this.#commands
  }

  /** How often each error code (`ERR`, `WRONGTYPE`) was answered. */
  get errors(): ReadonlyMap<string, number> {
    return this.#errors
  }

  get errorReplies(): number {
    return this.#errorReplies
  }

  /** CONFIG RESETSTAT. */
  reset(): void {
    this.#commands.clear()
    this.#errors.clear()
    this.#errorReplies = 0
  }

  /** A command inside a transaction: its time is that of EXEC. */
  partAnswered(command: Command, reply: Reply): void {
    this.#counted(command, reply)
  }

  #counted(command: Command, reply: Reply): CommandCounts {
    const counts = this.#countsOf(command)
    counts.calls++
    const error = errorText(reply)
    if (error !== undefined) {
      counts.failed++
      this.#countError(error)
    }
    return counts
  }

  answered(answered: Answered): void {
    const { command, ms, reply } = answered
    const counts = this.#counted(command, reply)
    const micros = Math.round(ms * 1000)
    counts.micros += micros
    counts.latency.record(micros)
    const slower = this.#settings.slowerThanMicros()
    if (slower >= 0 && micros >= slower) this.#addSlow(answered, micros)
    const threshold = this.#settings.latencyThresholdMs()
    if (threshold > 0 && ms >= threshold) {
      const event = command.flags.includes('fast') ? 'fast-command' : 'command'
      this.latency.record(event, { at: this.#seconds(), ms: Math.round(ms) })
    }
  }

  /** It did not run; `command` is undefined when there is no such command. */
  rejected(command: Command | undefined, { text }: ErrorReply): void {
    if (command !== undefined) this.#countsOf(command).rejected++
    this.#countError(text)
  }

  #countsOf(command: Command): CommandCounts {
    let counts = this.#commands.get(command)
    if (counts === undefined) {
      const latency = new LatencyHistogram()
      counts = { calls: 0, micros: 0, rejected: 0, failed: 0, latency }
      this.#commands.set(command, counts)
    }
    return counts
  }

  #countError(text: string): void {
    this.#errorReplies++
    const code = text.slice(0, text.search(/\s|$/))
    const known = this.#errors.has(code) || this.#errors.size < limits.errorCodesMax
    const name = known ? code : OTHER_ERRORS
    this.#errors.set(name, (this.#errors.get(name) ?? 0) + 1)
  }

  #seconds(): number {
    return Math.floor(this.#settings.wall() / 1000)
  }

  #addSlow({ session, command, args }: Answered, micros: number): void {
    const { address, name } = session
    this.slowlog.add({
      at: this.#seconds(),
      micros,
      args: redacted(command, args),
      address,
      name,
    })
  }

  // ---- MONITOR ------------------------------------------------------------------------------------

  monitor(session: Session): void {
    this.#monitors.add(session)
  }

  endMonitor(session: Session): void {
    this.#monitors.delete(session)
  }

  get monitors(): number {
    return this.#monitors.size
  }

  /**
   * A command runs, in a database: of SELECT the one that it chose. What administers the server is shown to nobody,
   * as in Redis.
   */
  show({ session, command, args }: Sent, database: number): void {
    if (this.#monitors.size === 0 || command.flags.includes('admin')) return
    const micros = Math.floor(this.#settings.wall() * 1000)
    const stamp = `${Math.floor(micros / 1e6)}.${String(micros % 1e6).padStart(6, '0')}`
    const words = quotedArgs(redacted(command, args))
    const line = new SimpleReply(`${stamp} [${database} ${session.address}] ${words}`)
    for (const monitor of this.#monitors) monitor.push(line)
  }
}

/** The error that a reply is; undefined when it is none. */
function errorText(reply: Reply): string | undefined {
  if (reply instanceof ErrorReply) return reply.text
  const [line] = reply instanceof EncodedReply ? reply.pieces : []
  return line?.[0] === ERROR_MARK ? Buffer.from(line.subarray(1)).toString() : undefined
}

/** Passwords are shown to nobody. */
function redacted({ name }: Command, args: Args): Args {
  if (name === 'auth') return args.map((arg, at) => (at === 0 ? arg : REDACTED))
  if (name === 'config|set') {
    const isSecret = (at: number): boolean =>
      at >= 3 && at % 2 === 1 && SECRETS.some((secret) => isWord(argument(args, at - 1), secret))
    return args.map((arg, at) => (isSecret(at) ? REDACTED : arg))
  }
  if (name !== 'hello') return args
  const auth = args.findIndex((arg, at) => at >= 2 && isWord(arg, 'auth'))
  return args.map((arg, at) => (auth > 0 && (at === auth + 1 || at === auth + 2) ? REDACTED : arg))
}
const SECRETS = ['requirepass', 'peer-secret']

/** As redis-cli would take them; a line has an end, however long the command is. */
function quotedArgs(args: Args): string {
  let left: number = limits.monitorLineBytesMax
  const words: string[] = []
  for (const arg of args) {
    if (left <= 0) {
      words.push(`... (${args.length - words.length} more arguments)`)
      break
    }
    const shown = arg.subarray(0, left)
    left -= shown.length + 1
    const rest = arg.length - shown.length
    words.push(`"${escaped(shown)}"${rest === 0 ? '' : `... (${rest} more bytes)`}`)
  }
  return words.join(' ')
}

const ESCAPES: ReadonlyMap<number, string> = new Map([
  [0x07, '\\a'],
  [0x08, '\\b'],
  [0x09, '\\t'],
  [0x0a, '\\n'],
  [0x0d, '\\r'],
  [0x22, '\\"'],
  [0x5c, '\\\\'],
])

function escaped(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) {
    const printable = byte >= 0x20 && byte <= 0x7e
    const plain = printable ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`
    text += ESCAPES.get(byte) ?? plain
  }
  return text
}
