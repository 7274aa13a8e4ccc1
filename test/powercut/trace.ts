/*
 * Reads what strace has written: system calls with all their data, each with the moment at which it began and the one
 * at which it returned. A moment is a place in the trace's order: strace stops a thread before each call and again
 * after it, so whatever the program did because a call had returned stands behind that return. It knows the text
 * of strace 5 and 6, and nothing of what the calls mean.
 */

import { createReadStream } from 'node:fs'

/** All that can change a file or a directory, or tell somebody something; mmap only to see that it does not. */
const TRACED = [
  ...['openat', 'open', 'creat', 'close', 'lseek', 'fsync', 'fdatasync', 'ftruncate', 'fallocate'],
  ...['write', 'writev', 'pwrite64', 'pwritev', 'pwritev2', 'sendto', 'sendmsg'],
  ...['mkdir', 'mkdirat', 'rmdir', 'unlink', 'unlinkat', 'rename', 'renameat', 'renameat2'],
  ...['link', 'linkat', 'symlink', 'symlinkat', 'truncate', 'msync', 'sync_file_range', 'mmap'],
  ...['copy_file_range', 'sendfile', 'splice', 'io_uring_setup'],
]

/** strace and its options; the file for the trace follows, then the command. */
export const STRACE: readonly string[] = [
  'strace',
  ...['-f', '-qq', '-yy', '--seccomp-bpf'],
  ...['-a', '1', '-s', String(8 * 1024 * 1024)],
  // With a question mark it is no error that this machine's architecture lacks the call.
  ...['-e', 'signal=none', '-e', `trace=${TRACED.map((name) => `?${name}`).join(',')}`],
  '-o',
]

export interface Syscall {
  readonly name: string
  /** Everything between the parentheses, as strace prints it. */
  readonly args: string
  /** Moments; even when it began, odd when it returned. */
  readonly began: number
  /** undefined: the process was killed inside, and nobody knows how far it came. */
  readonly returned: number | undefined
  /** The number that it returned; negative for an error, undefined when it never returned. */
  readonly result: number | undefined
}

/** What a trace holds of interest, in the order in which the calls began, and how many moments it has. */
export interface Trace {
  readonly calls: readonly Syscall[]
  readonly moments: number
}

export class TraceError extends Error {
  override readonly name = 'TraceError'
  readonly code = 'TRACE'
}

/** How much of a call's text is looked at to decide whether it is of interest. */
const INTEREST_CHARACTERS = 512

/** Reads a trace; `interest` decides by a call's name and the beginning of its arguments. Throws TraceError. */
export async function readTrace(
  file: string,
  interest: (name: string, beginning: string) => boolean,
): Promise<Trace> {
  const parser = new TraceParser(interest)
  let rest = ''
  for await (const chunk of createReadStream(file, { encoding: 'latin1' })) {
    const lines = (rest + String(chunk)).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) parser.line(line)
  }
  // A last line without its end is a call that strace itself did not live to report.
  return parser.end()
}

interface Unfinished {
  readonly index: number
  readonly args: string
}

class TraceParser {
  readonly #interest: (name: string, beginning: string) => boolean
  readonly #calls: Syscall[] = []
  /** By thread: each is inside of at most one call. */
  readonly #unfinished = new Map<string, Unfinished>()
  #lines = 0

  constructor(interest: (name: string, beginning: string) => boolean) {
    this.#interest = interest
  }

  line(text: string): void {
    const at = this.#lines++ * 2
    const head = /^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()/.exec(text.slice(0, 64))
    if (head === null) {
      if (/^\d+ +(?:\+\+\+|---|exit|\?\?\?\?)/.test(text)) return
      throw new TraceError(`a line that is none of strace's: ${text.slice(0, 120)}`)
    }
    const [{ length }, thread = '', resumed, name = ''] = head
    if (resumed !== undefined) this.#resume(thread, text.slice(length), at)
    else this.#begin(thread, name, text.slice(length), at)
  }

  end(): Trace {
    return { calls: this.#calls, moments: this.#lines * 2 }
  }

  #begin(thread: string, name: string, rest: string, at: number): void {
    if (!this.#interest(name, rest.slice(0, INTEREST_CHARACTERS))) return
    const cut = /,? <(?:unfinished|detached) \.\.\.>$/.exec(rest.slice(-32))
    if (cut !== null) {
      const args = rest.slice(0, rest.length - cut[0].length)
      this.#unfinished.set(thread, { index: this.#calls.length, args })
      this.#calls.push({ name, args, began: at, returned: undefined, result: undefined })
      return
    }
    const { args, result } = splitResult(rest)
    const returned = result === undefined ? undefined : at + 1
    this.#calls.push({ name, args, began: at, returned, result })
  }

  #resume(thread: string, rest: string, at: number): void {
    const begun = this.#unfinished.get(thread)
    if (begun === undefined) return
    this.#unfinished.delete(thread)
    const call = this.#calls[begun.index]
    const { args, result } = splitResult(rest)
    if (call === undefined || result === undefined) return
    const whole = begun.args + args
    this.#calls[begun.index] = { ...call, args: whole, returned: at + 1, result }
  }
}

/** "args) = 12</path>": the number is undefined where strace prints a question mark. */
function splitResult(text: string): { args: string; result: number | undefined } {
  const end = text.lastIndexOf(') = ')
  if (end === -1) throw new TraceError(`no result: ${text.slice(-120)}`)
  const number = /^(?:0x[0-9a-f]+|-?\d+)/.exec(text.slice(end + 4))
  return {
    args: text.slice(0, end),
    result: number === null ? undefined : Number(number[0]),
  }
}

/** What a descriptor names: `25</dir/file>`, `36<TCP:[...->...]>`. undefined when `text` begins with none. */
export function descriptor(text: string): { fd: number; name: string; end: number } | undefined {
  const found = /^(\d+)<([A-Za-z0-9]+:\[[^\]]*\][^>]*|[^>]*)>/.exec(text)
  if (found === null) return undefined
  return { fd: Number(found[1]), name: found[2] ?? '', end: found[0].length }
}

/** The bytes that a call hands over: one string, or those of its vector in order. Throws TraceError. */
export function dataOf({ args, name }: Syscall): Buffer {
  const parts: Buffer[] = []
  let at = descriptor(args)?.end ?? 0
  const vector = args.startsWith(', [', at) || args.startsWith(', {', at)
  for (;;) {
    const quote = vector ? args.indexOf('iov_base="', at) : args.indexOf('"', at)
    if (quote === -1) break
    const { bytes, end } = unquote(args, vector ? quote + 9 : quote)
    if (args.startsWith('...', end)) throw new TraceError(`${name}: strace has cut its data short`)
    parts.push(bytes)
    if (!vector) break
    at = end
  }
  const [first = Buffer.alloc(0)] = parts
  return parts.length === 1 ? first : Buffer.concat(parts)
}

const LETTERS: Readonly<Record<string, number>> = { n: 10, t: 9, r: 13, v: 11, f: 12 }
const BACKSLASH = 92
const QUOTE = 34

/** A string as C writes it, from its quote on. */
export function unquote(text: string, from: number): { bytes: Buffer; end: number } {
  const close = closingQuote(text, from)
  const bytes = Buffer.allocUnsafeSlow(close - from - 1)
  let length = 0
  for (let at = from + 1; at < close; at++) {
    const code = text.charCodeAt(at)
    if (code !== BACKSLASH) {
      bytes[length++] = code
      continue
    }
    const next = text.charAt(++at)
    let octal = 0
    let digits = 0
    while (digits < 3 && isOctal(text.charCodeAt(at + digits))) {
      octal = octal * 8 + text.charCodeAt(at + digits++) - 48
    }
    bytes[length++] = digits > 0 ? octal : (LETTERS[next] ?? next.charCodeAt(0))
    at += Math.max(0, digits - 1)
  }
  return { bytes: bytes.subarray(0, length), end: close + 1 }
}

function closingQuote(text: string, from: number): number {
  for (let at = from + 1; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === BACKSLASH) at++
    else if (code === QUOTE) return at
  }
  throw new TraceError(`a string without an end: ${text.slice(from, from + 60)}`)
}

function isOctal(code: number): boolean {
  return code >= 48 && code <= 55
}
