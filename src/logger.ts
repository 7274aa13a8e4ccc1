/*
 * The log: pino's lines, written at once by the thread that logs, to standard output or a file. A line is out
 * before the call returns, so the reason of a sudden end is never lost; and a terminal or pipe that does not
 * read never holds the node up, because the descriptor does not block. No worker thread: it would die with the
 * process before it wrote. Nothing else imports pino or pino-pretty.
 */

import { openSync, writeSync } from 'node:fs'
import { isatty } from 'node:tty'
import pino from 'pino'
import { prettyFactory } from 'pino-pretty'
import { type LogLevel, limits } from './config.ts'
import { nonBlocking } from './non-blocking.ts'
import { fromSystemError } from './operator-error.ts'

type Fields = Readonly<Record<string, unknown>>

/**
 * What every part of the server may log with. `fields` are facts for machines; the message is for a person. An
 * Error belongs in the field `err`.
 */
export interface Logger {
  trace(fields: Fields, message: string): void
  debug(fields: Fields, message: string): void
  info(fields: Fields, message: string): void
  warn(fields: Fields, message: string): void
  error(fields: Fields, message: string): void
  fatal(fields: Fields, message: string): void
  child(bindings: Fields): Logger
}

/** Who is speaking: part of every line once it is known. */
export interface LogIdentity {
  readonly node: string
  readonly term: number
}

export interface RootLogger extends Logger {
  /** The descriptor under the log; it does not block where the system allows that. */
  readonly fd: number
  /** Whether lines are laid out for a person instead of JSON. */
  readonly pretty: boolean
  /** `identity` is asked at every line, so that the term is the one in force. */
  identify(identity: () => LogIdentity): void
  /** One of Redis' levels. */
  setLevel(level: LogLevel): void
}

/** Redis' four levels as pino's: "notice" is what an operator wants to read, so it is info. */
const PINO_LEVELS = {
  debug: 'trace',
  verbose: 'debug',
  notice: 'info',
  warning: 'warn',
} as const satisfies Record<LogLevel, string>

const STDOUT = 1
const RETRY_MS = 50
const NODE_ID_CHARS_SHOWN = 8

/** `logfile` '' is standard output. Throws OperatorError when the file cannot be opened. */
export function createLogger(options: { level: LogLevel; logfile: string }): RootLogger {
  const fd = options.logfile === '' ? nonBlocking(STDOUT) : openLogFile(options.logfile)
  const pretty = options.logfile === '' && isatty(STDOUT)
  const output = new LogOutput(fd, pretty ? prettyLine({ colour: true }) : undefined)
  let identity: (() => LogIdentity) | undefined
  const root = pino(
    {
      level: PINO_LEVELS[options.level],
      base: { pid: process.pid },
      mixin: () => (identity === undefined ? {} : { ...identity() }),
    },
    output,
  )
  return Object.assign(root, {
    fd,
    pretty,
    identify(to: () => LogIdentity) {
      identity = to
    },
    setLevel(level: LogLevel) {
      root.level = PINO_LEVELS[level]
    },
  })
}

/** Lays out one JSON line of the log for a person; any other line comes back as it is. */
export function prettyLine(options: { colour: boolean }): (line: string) => string {
  const layout = prettyFactory({
    colorize: options.colour,
    translateTime: 'SYS:HH:MM:ss.l',
    ignore: 'pid,node,term',
    singleLine: true,
    messageFormat(log, messageKey) {
      const { node, term } = log
      const speaker = typeof node === 'string' ? `${node.slice(0, NODE_ID_CHARS_SHOWN)} ` : ''
      const when = typeof term === 'number' ? `term ${term}: ` : ''
      return `${speaker}${when}${String(log[messageKey])}`
    },
  })
  return (line) => (line.startsWith('{') ? layout(line) : line)
}

function openLogFile(path: string): number {
  try {
    return openSync(path, 'a', 0o640)
  } catch (error) {
    throw fromSystemError(`logfile ${path}`, error) ?? error
  }
}

/** Whole lines in order, never waiting: what the descriptor does not take now is retried, within a limit. */
class LogOutput {
  readonly #fd: number
  readonly #layout: ((line: string) => string) | undefined
  #backlog: Buffer[] = []
  #backlogBytes = 0
  #dropped = 0
  #retry: NodeJS.Timeout | undefined

  constructor(fd: number, layout: ((line: string) => string) | undefined) {
    this.#fd = fd
    this.#layout = layout
  }

  /** Called by pino with one line. */
  write(line: string): void {
    const bytes = Buffer.from(this.#layout === undefined ? line : this.#layout(line))
    if (this.#backlogBytes + bytes.length > limits.logBacklogBytesMax) {
      this.#dropped++
      return
    }
    this.#backlog.push(bytes)
    this.#backlogBytes += bytes.length
    this.#flush()
  }

  #flush(): void {
    for (let bytes = this.#backlog[0]; bytes !== undefined; bytes = this.#backlog[0]) {
      const written = this.#tryWrite(bytes)
      this.#backlogBytes -= written
      if (written < bytes.length) {
        this.#backlog[0] = bytes.subarray(written)
        this.#retryLater()
        return
      }
      this.#backlog.shift()
    }
    if (this.#dropped === 0) return
    const note = `{"level":40,"time":${Date.now()},"msg":"${this.#dropped} log lines were dropped: nobody read them"}\n`
    this.#dropped = 0
    this.write(note)
  }

  /** Bytes taken. A log that cannot be written at all (closed pipe, full disk) must not end the server. */
  #tryWrite(bytes: Buffer): number {
    try {
      return writeSync(this.#fd, bytes)
    } catch (error) {
      const again = error instanceof Error && 'code' in error && error.code === 'EAGAIN'
      return again ? 0 : bytes.length
    }
  }

  #retryLater(): void {
    if (this.#retry !== undefined) return
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      this.#flush()
    }, RETRY_MS)
    this.#retry.unref()
  }
}
