/*
 * Reads what strace saw of one node: which writes carried which marker into the files of its log, when the commit
 * that holds them was durable, and when replies left for a client. Times are microseconds since 1970 on the one
 * clock of this machine, so the traces of several nodes can be compared.
 *
 * LMDB with overlappingSync off commits in this order: the changed pages, fdatasync, and then the meta page through a
 * descriptor opened with O_DSYNC, which makes the commit the valid one. So a marker is durable when the first
 * O_DSYNC write after the first fdatasync after the first write of its page has returned.
 */

import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'

/** More than LMDB writes in one call: markers lie anywhere in a page. */
const STRING_BYTES = 1_000_000
const CALLS = ['openat', 'pwrite64', 'pwritev', 'write', 'writev', 'sendto', 'sendmsg', 'fdatasync']

/** The command that runs a node (appended to it) and records its calls. */
export function traceCommand(file: string): readonly string[] {
  const calls = CALLS.join(',')
  return [
    'strace',
    '-f',
    '-ttt',
    '-T',
    '-yy',
    '-s',
    `${STRING_BYTES}`,
    '-e',
    `trace=${calls}`,
    '-o',
    file,
  ]
}

interface Call {
  readonly start: number
  readonly end: number
}

/** A call as strace prints it, begun and ended on one line or on two. */
interface Line {
  readonly call: string
  readonly text: string
  readonly start: number
}

export class Trace {
  readonly #firstPage: ReadonlyMap<string, Call>
  readonly #syncs: readonly Call[]
  readonly #metas: readonly Call[]
  readonly #replies: ReadonlyMap<number, readonly { at: number; text: string }[]>

  constructor(parts: {
    firstPage: ReadonlyMap<string, Call>
    syncs: readonly Call[]
    metas: readonly Call[]
    replies: ReadonlyMap<number, readonly { at: number; text: string }[]>
  }) {
    this.#firstPage = parts.firstPage
    this.#syncs = parts.syncs
    this.#metas = parts.metas
    this.#replies = parts.replies
  }

  /** When the commit that holds the marker was durable here; undefined: it never was. */
  durableAt(marker: string): number | undefined {
    const page = this.#firstPage.get(marker)
    const sync = page && firstFrom(this.#syncs, page.end)
    return sync && firstFrom(this.#metas, sync.end)?.end
  }

  /** When each write to that client's port that contains `text` began. */
  repliesTo(port: number, text: string): readonly number[] {
    const writes = this.#replies.get(port) ?? []
    return writes.filter((write) => write.text.includes(text)).map((write) => write.at)
  }
}

/** `calls` are in the order of their start. */
function firstFrom(calls: readonly Call[], time: number): Call | undefined {
  return calls.find((call) => call.start >= time)
}

export async function readTrace(file: string): Promise<Trace> {
  const reader = new TraceReader()
  for await (const line of createInterface({ input: createReadStream(file, 'latin1') })) {
    reader.read(line)
  }
  return reader.finish()
}

class TraceReader {
  readonly #unfinished = new Map<string, Line>()
  /** Descriptors of the log's file that were opened with O_DSYNC. */
  readonly #synchronous = new Set<string>()
  readonly #firstPage = new Map<string, Call>()
  readonly #syncs: Call[] = []
  readonly #metas: Call[] = []
  readonly #replies = new Map<number, { at: number; text: string }[]>()

  read(line: string): void {
    const match = /^(\d+) +(\d+\.\d+) (.*)$/.exec(line)
    if (match === null) return
    const [, thread = '', seconds = '', rest = ''] = match
    const time = Math.round(Number(seconds) * 1e6)
    const resumed = /^<\.\.\. (\w+) resumed>(.*)$/.exec(rest)
    if (resumed !== null) {
      const begun = this.#unfinished.get(thread)
      this.#unfinished.delete(thread)
      if (begun !== undefined) this.#ended({ ...begun, text: begun.text + (resumed[2] ?? '') })
      return
    }
    const call = /^(\w+)\(/.exec(rest)?.[1]
    if (call === undefined) return
    if (rest.endsWith('<unfinished ...>')) {
      const text = rest.slice(0, -'<unfinished ...>'.length)
      this.#unfinished.set(thread, { call, text, start: time })
    } else {
      this.#ended({ call, text: rest, start: time })
    }
  }

  #ended({ call, text, start }: Line): void {
    const result = /\)\s+= (-?\d+)(<[^>]*>)?.* <(\d+\.\d+)>$/.exec(text)
    if (result === null) return
    const [, value = '', path = '', took = ''] = result
    const times = { start, end: start + Math.round(Number(took) * 1e6) }
    if (call === 'openat') {
      if (isLogFile(path) && text.includes('O_DSYNC')) this.#synchronous.add(value)
      return
    }
    const target = /^\w+\((\d+)<(.*?)>\s*[,)]/.exec(text)
    if (target === null || Number(value) < 0) return
    const [, descriptor = '', what = ''] = target
    if (isLogFile(`<${what}>`)) this.#disk(call, descriptor, text, times)
    else this.#sent(what, text, start)
  }

  #disk(call: string, descriptor: string, text: string, times: Call): void {
    if (call === 'fdatasync') {
      this.#syncs.push(times)
      return
    }
    if (this.#synchronous.has(descriptor)) {
      this.#metas.push(times)
      return
    }
    for (const [marker] of text.matchAll(/<prove:\d{6}>/g)) {
      if (!this.#firstPage.has(marker)) this.#firstPage.set(marker, times)
    }
  }

  #sent(what: string, text: string, at: number): void {
    const port = /TCP(?:v6)?:\[[^\]]*->[^\]]*:(\d+)\]/.exec(what)?.[1]
    if (port === undefined) return
    const writes = this.#replies.get(Number(port))
    if (writes === undefined) this.#replies.set(Number(port), [{ at, text }])
    else writes.push({ at, text })
  }

  finish(): Trace {
    const byStart = (a: Call, b: Call): number => a.start - b.start
    return new Trace({
      firstPage: this.#firstPage,
      syncs: this.#syncs.sort(byStart),
      metas: this.#metas.sort(byStart),
      replies: this.#replies,
    })
  }
}

function isLogFile(path: string): boolean {
  return path.endsWith('/log/data.mdb>')
}
