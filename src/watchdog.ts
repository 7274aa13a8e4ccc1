/*
 * Ends the process when its disk or its main loop has stopped answering, so that the other members go on
 * without it (an LMDB that failed hangs in every later call, close and exit included). A thread of its own,
 * because the main one may be what hangs. It knows no clock: it counts its own wake-ups, so whatever stops the
 * whole process (SIGSTOP, a paused machine) stops the count as well, and a process that comes back is forgiven.
 */

import { writeSync } from 'node:fs'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import type { Logger } from './logger.ts'
import { nonBlocking } from './non-blocking.ts'

/** One kind of commit. At most one of a kind is under way, or their age is that since the last one settled. */
export interface CommitWatch {
  commitStarted(): void
  /** Also for a commit that failed: whoever sees the failure ends the process itself. */
  commitSettled(): void
}

export interface WatchdogOptions {
  readonly logCommitTimeoutMs: number
  readonly stateCommitTimeoutMs: number
  /** Bound on a standstill of the main loop. */
  readonly stallTimeoutMs: number
  /** Where the reason is written, next to standard error when that is another descriptor. */
  readonly logFd: number
  /** Whether the log is JSON lines. */
  readonly json: boolean
}

/** Slots of the shared memory. Counters may wrap: only their change is looked at. */
const LOG_COMMITS_STARTED = 0
const LOG_COMMITS_SETTLED = 1
const STATE_COMMITS_STARTED = 2
const STATE_COMMITS_SETTLED = 3
const TICKS = 4
const STOPPED = 5
const SLOTS = 6

const WAKE_UPS_PER_TIMEOUT = 20
const WAKE_UP_MS_MAX = 250
const STDERR = 2
const FATAL_LEVEL = 60

interface Duty extends WatchdogOptions {
  readonly holdfastWatchdog: true
  readonly shared: SharedArrayBuffer
  readonly stderrFd: number
}

export class Watchdog {
  readonly log: CommitWatch
  readonly state: CommitWatch
  readonly #slots: Int32Array
  readonly #worker: Worker
  readonly #ticker: NodeJS.Timeout

  constructor(options: WatchdogOptions) {
    const shared = new SharedArrayBuffer(SLOTS * Int32Array.BYTES_PER_ELEMENT)
    const slots = new Int32Array(shared)
    this.#slots = slots
    this.log = commitWatch(slots, LOG_COMMITS_STARTED, LOG_COMMITS_SETTLED)
    this.state = commitWatch(slots, STATE_COMMITS_STARTED, STATE_COMMITS_SETTLED)
    const stderrFd = nonBlocking(STDERR)
    const duty: Duty = { ...options, holdfastWatchdog: true, shared, stderrFd }
    this.#worker = new Worker(new URL(import.meta.url), { workerData: duty })
    this.#worker.unref()
    this.#ticker = setInterval(() => Atomics.add(slots, TICKS, 1), wakeUpMs(options))
    this.#ticker.unref()
  }

  /** Ends the watch, before an orderly exit whose last steps may block the main loop. */
  async stop(): Promise<void> {
    clearInterval(this.#ticker)
    Atomics.store(this.#slots, STOPPED, 1)
    Atomics.notify(this.#slots, STOPPED)
    await this.#worker.terminate()
  }
}

/**
 * Logs the reason and ends this process at once. By SIGKILL, not process.exit(): after a write error LMDB hangs
 * in its exit handlers. Nothing durable is lost by it, and nothing else would be safer.
 */
export function endProcess(logger: Logger, reason: string): never {
  logger.fatal({}, reason)
  // The log may be a file that nobody is looking at, or have failed itself.
  tryWrite(nonBlocking(STDERR), `holdfast: ${reason}\n`)
  killSelf()
}

function commitWatch(slots: Int32Array, started: number, settled: number): CommitWatch {
  return {
    commitStarted: () => void Atomics.add(slots, started, 1),
    commitSettled: () => void Atomics.add(slots, settled, 1),
  }
}

function wakeUpMs(options: WatchdogOptions): number {
  const { logCommitTimeoutMs, stateCommitTimeoutMs, stallTimeoutMs } = options
  const shortest = Math.min(logCommitTimeoutMs, stateCommitTimeoutMs, stallTimeoutMs)
  return Math.max(1, Math.min(WAKE_UP_MS_MAX, Math.floor(shortest / WAKE_UPS_PER_TIMEOUT)))
}

/** Something that must move on: its age grows with each wake-up that finds it standing still. */
interface Standstill {
  readonly what: string
  readonly timeoutMs: number
  /** Undefined while it has nothing to do. */
  readonly progress: () => number | undefined
  lastProgress: number | undefined
  ageMs: number
}

function watch(duty: Duty): void {
  const slots = new Int32Array(duty.shared)
  const standstills: Standstill[] = [
    commits('a commit of the log', duty.logCommitTimeoutMs, slots, LOG_COMMITS_STARTED),
    commits('a commit of the state', duty.stateCommitTimeoutMs, slots, STATE_COMMITS_STARTED),
    {
      what: 'the main loop',
      timeoutMs: duty.stallTimeoutMs,
      progress: () => Atomics.load(slots, TICKS),
      lastProgress: undefined,
      ageMs: 0,
    },
  ]
  const stepMs = wakeUpMs(duty)
  while (Atomics.wait(slots, STOPPED, 0, stepMs) === 'timed-out') {
    for (const standstill of standstills) {
      const progress = standstill.progress()
      const stands = progress !== undefined && progress === standstill.lastProgress
      // One wake-up counts for one step, however long this thread itself was kept from running.
      standstill.ageMs = stands ? standstill.ageMs + stepMs : 0
      standstill.lastProgress = progress
      if (standstill.ageMs < standstill.timeoutMs) continue
      endFromThread(duty, `${standstill.what} has not come back for ${standstill.timeoutMs} ms`)
    }
  }
}

function commits(
  what: string,
  timeoutMs: number,
  slots: Int32Array,
  startedSlot: number,
): Standstill {
  function progress(): number | undefined {
    const settled = Atomics.load(slots, startedSlot + 1)
    return Atomics.load(slots, startedSlot) === settled ? undefined : settled
  }
  return { what, timeoutMs, progress, lastProgress: undefined, ageMs: 0 }
}

/** pino belongs to the main thread, which may never run again: so the line is made here. */
function endFromThread(duty: Duty, fault: string): never {
  const reason = `${fault}: this process ends itself`
  const { pid } = process
  const line = { level: FATAL_LEVEL, time: Date.now(), pid, msg: reason }
  tryWrite(duty.logFd, duty.json ? `${JSON.stringify(line)}\n` : `${reason}\n`)
  tryWrite(duty.stderrFd, `holdfast: ${reason}\n`)
  killSelf()
}

/** A reason that cannot be written must not keep the process alive. */
function tryWrite(fd: number, line: string): void {
  try {
    writeSync(fd, line)
  } catch {
    // Nobody reads; the end of the process is the message that counts.
  }
}

function killSelf(): never {
  process.kill(process.pid, 'SIGKILL')
  // The signal ends this thread on its way back from the system call; this line is for the type only.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
}

if (!isMainThread && isDuty(workerData)) watch(workerData)

function isDuty(data: unknown): data is Duty {
  return typeof data === 'object' && data !== null && 'holdfastWatchdog' in data
}
