/*
 * Turns the system calls of one life of a node into steps on a Disk. Whatever touches the node's files in a way
 * that this file does not understand is an error: an image that leaves a write out proves nothing. It knows which
 * files count (the environments, not the lock), but not what is in them.
 */

import { type Disk, DiskError, type Flush, type Write } from './disk.ts'
import { dataOf, descriptor, type Syscall, TraceError, unquote } from './trace.ts'

/** What changes on the disk at one moment. */
export interface Step {
  readonly at: number
  /** What it touches, below the root. */
  readonly path: string
  run(disk: Disk): void
}

/** Files by their path below the root, as a life has left them. */
export type Files = ReadonlyMap<string, Uint8Array>

/** The lock of the data directory is a socket and says nothing to a next process. */
const IGNORED = /^[^/]+\/lock-/
/** LMDB's table of readers and mutexes, written through memory: it is made anew by whoever opens it alone. */
export const LOCK_FILE: RegExp = /\/lock\.mdb$/

/** The path below `root` ('' is the root itself) when it is one whose fate counts. */
export function trackedPath(root: string, path: string): string | undefined {
  if (path === root) return ''
  if (!path.startsWith(`${root}/`)) return undefined
  const below = path.slice(root.length + 1)
  return IGNORED.test(below) ? undefined : below
}

/** The steps of one life, in order. `after`: its files when it had ended. Throws TraceError. */
export function stepsOf(calls: readonly Syscall[], root: string, after: Files): Step[] {
  const life = new Life(root, after)
  for (const call of calls) life.add(call)
  return life.steps.sort((a, b) => a.at - b.at)
}

interface Open {
  readonly path: string
  readonly synchronous: boolean
  position: number
}

class Life {
  readonly steps: Step[] = []
  readonly #root: string
  readonly #after: Files
  readonly #open = new Map<number, Open>()

  constructor(root: string, after: Files) {
    this.#root = root
    this.#after = after
  }

  add(call: Syscall): void {
    if (/^(?:open|openat|mkdir|mkdirat|unlink|unlinkat|rmdir|rename|renameat2?)$/.test(call.name)) {
      this.#named(call)
      return
    }
    const named = descriptor(call.args)
    const path = named && trackedPath(this.#root, named.name)
    if (named === undefined || path === undefined) this.#mapped(call)
    else this.#onDescriptor(call, named.fd, path)
  }

  #named(call: Syscall): void {
    const { name, args, returned, result = -1 } = call
    const paths = pathsIn(args).map((path) => trackedPath(this.#root, path))
    const [path, second] = paths
    if (path === undefined || returned === undefined || result < 0) return
    switch (name) {
      case 'open':
      case 'openat':
        this.#opened(path, args, result, returned)
        return
      case 'mkdir':
      case 'mkdirat':
        this.#step(returned, path, (disk) => disk.makeDirectory(path))
        return
      case 'unlink':
      case 'unlinkat':
      case 'rmdir':
        this.#step(returned, path, (disk) => disk.remove(path))
        return
      default:
        if (second === undefined) throw notModelled(call)
        this.#step(returned, path, (disk) => disk.rename(path, second))
    }
  }

  #opened(path: string, args: string, fd: number, at: number): void {
    if (args.includes('O_TRUNC')) throw new TraceError(`${path} is opened with O_TRUNC`)
    this.#open.set(fd, { path, synchronous: /\bO_D?SYNC\b/.test(args), position: 0 })
    if (!args.includes('O_CREAT')) return
    this.#step(at, path, (disk) => {
      if (!disk.exists(path)) disk.makeFile(path)
    })
  }

  #onDescriptor(call: Syscall, fd: number, path: string): void {
    const { name, args, returned, result = -1 } = call
    switch (name) {
      case 'close':
        this.#open.delete(fd)
        return
      case 'lseek':
        this.#openFile(call, fd).position = result
        return
      case 'fsync':
      case 'fdatasync':
        this.#flush(call, path)
        return
      case 'ftruncate': {
        const size = lastNumber(args)
        if (returned !== undefined) this.#step(returned, path, (disk) => disk.truncate(path, size))
        return
      }
      case 'pwrite64':
      case 'pwritev':
        this.#write(call, fd, lastNumber(args))
        return
      case 'write':
      case 'writev': {
        const open = this.#openFile(call, fd)
        this.#write(call, fd, open.position)
        open.position += Math.max(0, result)
        return
      }
      default:
        throw notModelled(call)
    }
  }

  #write(call: Syscall, fd: number, offset: number): void {
    const { path, synchronous } = this.#openFile(call, fd)
    const { began, returned, result } = call
    const data = dataOf(call)
    if (returned !== undefined && result !== data.length) {
      throw new TraceError(`${call.name} to ${path} wrote ${result} of ${data.length} bytes`)
    }
    // Killed inside: as much of it as the next process found.
    const found = this.#after.get(path)?.subarray(offset, offset + data.length)
    const bytes = returned === undefined ? (found ?? new Uint8Array(0)) : data
    if (bytes.length === 0) return
    const write: Write = { path, offset, bytes, synchronous, at: began }
    this.#step(began, path, (disk) => disk.beginWrite(write))
    if (returned !== undefined) this.#step(returned, path, (disk) => disk.endWrite(write))
  }

  #flush({ began, returned, result }: Syscall, path: string): void {
    if (returned === undefined) return
    if (result !== 0) throw new TraceError(`a flush of ${path} failed`)
    let flush: Flush | undefined
    this.#step(began, path, (disk) => {
      flush = disk.beginFlush(path)
    })
    this.#step(returned, path, () => {
      if (flush === undefined) throw new DiskError('a flush ends that has not begun')
      flush.finish()
    })
  }

  /** Memory that is written without a call would escape this trace. */
  #mapped(call: Syscall): void {
    if (call.name !== 'mmap') return
    const named = /, (\d+<[^>]*>), /.exec(call.args)?.[1]
    const name = named === undefined ? undefined : descriptor(named)?.name
    const path = name === undefined ? undefined : trackedPath(this.#root, name)
    if (path === undefined || LOCK_FILE.test(path)) return
    const writes = call.args.includes('PROT_WRITE') && call.args.includes('MAP_SHARED')
    if (writes) throw new TraceError(`${path} is written through memory: ${call.args}`)
  }

  #openFile(call: Syscall, fd: number): Open {
    const open = this.#open.get(fd)
    if (open === undefined) throw notModelled(call)
    return open
  }

  #step(at: number, path: string, run: (disk: Disk) => void): void {
    this.steps.push({ at, path, run })
  }
}

function notModelled({ name, args }: Syscall): TraceError {
  return new TraceError(`${name} is not modelled: ${args.slice(0, 200)}`)
}

function lastNumber(args: string): number {
  const number = /, (\d+)$/.exec(args.slice(-40))?.[1]
  if (number === undefined) throw new TraceError(`no offset or size in: ${args.slice(-80)}`)
  return Number(number)
}

function pathsIn(args: string): readonly string[] {
  const paths: string[] = []
  for (let quote = args.indexOf('"'); quote !== -1; ) {
    const { bytes, end } = unquote(args, quote)
    paths.push(bytes.toString())
    quote = args.indexOf('"', end)
  }
  return paths
}
