/*
 * One process per data directory: two that opened it would both write, and LMDB would not object. The lock is a
 * listening unix socket in the directory, which ends with its process however that ends, holds while the process
 * is merely stopped, and is seen by containers that share nothing but the volume.
 *
 * Names are drawn once and never used again, so a socket that refuses is dead for ever and may be removed by
 * anybody. Each process first publishes its socket and then looks for others: of two that start at once at least
 * one sees the other. The holder wins over starters, the smaller name among starters.
 */

import { randomBytes } from 'node:crypto'
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { connect, createServer, type Server } from 'node:net'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { syncDirectory } from '../storage/directory.ts'
import { limits } from './config.ts'
import { fromSystemError, OperatorError } from './operator-error.ts'

export interface DataLock {
  /** After the stores are closed; the end of the process releases it as well. */
  release(): Promise<void>
}

/** Who is behind a socket: for the error line only, except `holds`. */
interface Owner {
  readonly pid: number
  readonly host: string
  readonly bootId: string
  /** False while it still looks for others. */
  readonly holds: boolean
}

/** What the kernel accepts as a socket's path on the narrowest system we run on (macOS: 104 with the NUL). */
const SOCKET_PATH_BYTES_MAX = 103
const TOKEN_BYTES = 8
const RETRY_MS = 20
const SOCKET_NAME = /^lock-([0-9a-f]{16})\.socket$/
const LITTER_NAME = /^lock-[0-9a-f]{16}\.(?:new|json)$/

/**
 * Makes the directory where it is missing and takes it for this process. Throws OperatorError: DATA_LOCKED with
 * the pid that has it, or what is wrong with the directory.
 */
export async function acquireDataLock(directory: string): Promise<DataLock> {
  const lock = new SocketLock(directory, openDirectory(directory))
  try {
    await lock.publish()
    await lock.takeTurn()
  } catch (error) {
    await lock.release()
    throw fromSystemError(`the data directory ${directory}`, error) ?? error
  }
  lock.removeLitter()
  return lock
}

class SocketLock implements DataLock {
  readonly #directory: string
  readonly #fd: number
  /** The directory by a path short enough for a socket. */
  readonly #socketBase: string
  readonly #token = randomBytes(TOKEN_BYTES).toString('hex')
  #server: Server | undefined

  constructor(directory: string, fd: number) {
    this.#directory = directory
    this.#fd = fd
    this.#socketBase = socketBase(directory, fd)
  }

  /** The socket gets its final name only when it listens: before that it would refuse, and pass for dead. */
  async publish(): Promise<void> {
    this.#writeOwner(false)
    this.#server = await listen(join(this.#socketBase, `lock-${this.#token}.new`))
    renameSync(this.#path('new'), this.#path('socket'))
  }

  /** Resolves when no other living process has the directory or a better claim to it. */
  async takeTurn(): Promise<void> {
    const attempts = Math.ceil(limits.lockTimeoutMs / RETRY_MS)
    for (let attempt = 1; ; attempt++) {
      const rival = await this.#findRival()
      if (rival === undefined) {
        this.#writeOwner(true)
        return
      }
      const givesWay = rival.token > this.#token && rival.owner?.holds !== true
      if (!givesWay || attempt >= attempts) throw lockedBy(this.#directory, rival.owner)
      await delay(RETRY_MS)
    }
  }

  /** What processes that died while starting left behind; their sockets went when they were found dead. */
  removeLitter(): void {
    for (const name of readdirSync(this.#directory)) {
      const mine = name.startsWith(`lock-${this.#token}.`)
      if (LITTER_NAME.test(name) && !mine) rmSync(join(this.#directory, name), { force: true })
    }
  }

  async release(): Promise<void> {
    // First the name, then the socket: a socket that refuses under its name would be removed as dead by others.
    for (const suffix of ['socket', 'new', 'json']) rmSync(this.#path(suffix), { force: true })
    const server = this.#server
    if (server !== undefined) await new Promise((resolve) => server.close(resolve))
    closeSync(this.#fd)
  }

  /** The living process with the best claim; the dead are removed on the way. */
  async #findRival(): Promise<{ token: string; owner: Owner | undefined } | undefined> {
    let best: { token: string; owner: Owner | undefined } | undefined
    for (const name of readdirSync(this.#directory)) {
      const token = SOCKET_NAME.exec(name)?.[1]
      if (token === undefined || token === this.#token) continue
      // Read first: a process that ends meanwhile takes its file along, and one that lives has written it.
      const owner = readOwner(join(this.#directory, `lock-${token}.json`))
      if (!(await isAlive(join(this.#socketBase, name)))) {
        rmSync(join(this.#directory, name), { force: true })
        rmSync(join(this.#directory, `lock-${token}.json`), { force: true })
        continue
      }
      if (owner?.holds === true) return { token, owner }
      if (best === undefined || token < best.token) best = { token, owner }
    }
    return best
  }

  #writeOwner(holds: boolean): void {
    const owner: Owner = { pid: process.pid, host: hostname(), bootId: bootId(), holds }
    const draft = this.#path('new.json')
    writeFileSync(draft, JSON.stringify(owner))
    renameSync(draft, this.#path('json'))
  }

  #path(suffix: string): string {
    return join(this.#directory, `lock-${this.#token}.${suffix}`)
  }
}

/** Like `mkdir -p`. Node's own never comes back where mkdir says ENOENT below an existing directory, as in /proc. */
export function makeDirectory(path: string): void {
  if (existsSync(path)) return
  makeDirectory(dirname(path))
  try {
    mkdirSync(path, { mode: 0o750 })
    syncDirectory(dirname(path))
  } catch (error) {
    // Another process that starts at the same moment may have been quicker.
    if (!existsSync(path)) throw error
  }
}

function openDirectory(directory: string): number {
  try {
    makeDirectory(directory)
    return openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch (error) {
    throw fromSystemError(`the data directory ${directory}`, error) ?? error
  }
}

/** Through /proc any depth of directory fits into the 107 bytes that Linux has for a socket's path. */
function socketBase(directory: string, fd: number): string {
  const short = `/proc/self/fd/${fd}`
  if (existsSync(short)) return short
  const longest = join(directory, `lock-${'0'.repeat(2 * TOKEN_BYTES)}.socket`)
  if (Buffer.byteLength(longest) <= SOCKET_PATH_BYTES_MAX) return directory
  closeSync(fd)
  throw new OperatorError(
    'DATA_DIR',
    `the path of the data directory ${directory} is too long for this system; allowed: ${SOCKET_PATH_BYTES_MAX - 29} bytes`,
  )
}

function listen(path: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    // Being accepted is all that a caller wants to know.
    const server = createServer((socket) => socket.destroy())
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      // Accepting may fail for want of descriptors: the lock holds all the same, a caller sees it listening.
      server.on('error', () => {})
      server.unref()
      resolve(server)
    })
  })
}

/** Only a refusal proves death: a stopped process, or one with a full backlog, is alive. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT')
    })
  })
}

function readOwner(path: string): Owner | undefined {
  try {
    const owner: unknown = JSON.parse(readFileSync(path, 'utf8'))
    return isOwner(owner) ? owner : undefined
  } catch {
    // Gone meanwhile or never written; the socket alone decides, this file only names.
    return undefined
  }
}

function isOwner(value: unknown): value is Owner {
  if (typeof value !== 'object' || value === null) return false
  const { pid, host, bootId, holds } = value as Partial<Record<keyof Owner, unknown>>
  return (
    typeof pid === 'number' &&
    typeof host === 'string' &&
    typeof bootId === 'string' &&
    typeof holds === 'boolean'
  )
}

function lockedBy(directory: string, owner: Owner | undefined): OperatorError {
  let who = 'another process'
  if (owner !== undefined) {
    const here = owner.bootId === bootId() && owner.host === hostname()
    who = here ? `process ${owner.pid}` : `process ${owner.pid} on ${owner.host}`
  }
  return new OperatorError('DATA_LOCKED', `the data directory ${directory} is in use by ${who}`)
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  } catch {
    // Not Linux: the host's name has to do.
    return ''
  }
}
