/*
 * A disk under a page cache, as much of it as a power cut can show: which bytes, sizes and names are certain, which
 * are only in memory, and every image that a correct disk may be found with afterwards. Per sector of 512 bytes it
 * keeps the contents since the last flush; a cut picks one of them for each, as writeback in any order would. It
 * knows system calls only by what they promise, and nothing of LMDB.
 */

import { FileContent } from './file-content.ts'

export interface Write {
  readonly path: string
  readonly offset: number
  readonly bytes: Uint8Array
  /** Through a descriptor with O_DSYNC or O_SYNC: durable when it returns. */
  readonly synchronous: boolean
  /** The moment at which it began: what a report names it by. */
  readonly at: number
}

/** One file or directory that exists, by its path from the root. */
export interface ImageEntry {
  readonly path: string
  /** undefined for a directory. */
  readonly bytes: Uint8Array | undefined
}

/** What became of the writes, names and sizes that nothing had made durable. */
export interface Losses {
  /** Not flushed when the power went. */
  readonly pending: readonly Write[]
  /** Of these, the ones of which nothing is in the image, and those of which only a part is. */
  readonly dropped: readonly Write[]
  readonly torn: readonly Write[]
  /** Paths whose name (or whose removal) was lost. */
  readonly names: readonly string[]
}

export interface Image {
  readonly entries: readonly ImageEntry[]
  readonly losses: Losses
}

/** Which of the versions of a sector survives: a place in `writes`, or -1 for what was durable before them. */
export interface Survival {
  /** Once per cut, before everything else: the un-flushed writes of all files, in order. */
  begin(pending: readonly Write[]): void
  sector(path: string, sector: number, writes: readonly Write[]): number
  /** A place in `sizes`, in order; the first one is durable. */
  size(path: string, sizes: readonly number[]): number
  name(path: string): boolean
}

interface NameChange {
  readonly name: string
  readonly node: Node | undefined
}

interface FileNode {
  readonly kind: 'file'
  readonly content: FileContent
}

interface DirectoryNode {
  readonly kind: 'directory'
  readonly durable: Map<string, Node>
  readonly visible: Map<string, Node>
  /** Un-flushed changes in order; a rename is one of two names. */
  pending: (readonly NameChange[])[]
}

type Node = FileNode | DirectoryNode

/** A flush that has begun: it covers what had returned by then. */
export interface Flush {
  readonly finish: () => void
}

export class DiskError extends Error {
  override readonly name = 'DiskError'
  readonly code = 'DISK'
}

export class Disk {
  /** Paths are relative to it and have no leading slash ('' is itself); it exists for good. */
  readonly #root: DirectoryNode = directoryNode()

  exists(path: string): boolean {
    return this.#find(path) !== undefined
  }

  makeDirectory(path: string): void {
    this.#change(path, directoryNode())
  }

  makeFile(path: string): void {
    this.#change(path, { kind: 'file', content: new FileContent() })
  }

  remove(path: string): void {
    this.#change(path, undefined)
  }

  /** Within one directory. */
  rename(from: string, to: string): void {
    const [directory, name] = this.#place(from)
    const [other, newName] = this.#place(to)
    if (directory !== other) throw new DiskError(`a rename from ${from} to ${to}`)
    const node = directory.visible.get(name)
    if (node === undefined) throw new DiskError(`a rename of ${from}, which does not exist`)
    apply(directory, [
      { name, node: undefined },
      { name: newName, node },
    ])
  }

  truncate(path: string, size: number): void {
    this.#file(path).truncate(size)
  }

  beginWrite(write: Write): void {
    this.#file(write.path).begin(write)
  }

  endWrite(write: Write): void {
    this.#file(write.path).end(write)
  }

  /** fsync or fdatasync, of a file or a directory. */
  beginFlush(path: string): Flush {
    const node = this.#find(path)
    if (node === undefined) throw new DiskError(`a flush of ${path}, which does not exist`)
    if (node.kind === 'file') return node.content.beginFlush()
    const covered = node.pending.length
    return {
      finish: () => {
        for (const change of node.pending.slice(0, covered)) applyTo(node.durable, change)
        node.pending = node.pending.slice(covered)
      },
    }
  }

  /** What every process sees now. */
  read(path: string): Uint8Array | undefined {
    const node = this.#find(path)
    return node?.kind === 'file' ? node.content.visible() : undefined
  }

  /** What the disk is found with if the power goes now. Changes nothing. */
  cut(survival: Survival): Image {
    const pending: Write[] = []
    for (const { content } of files(this.#root)) pending.push(...content.pending())
    pending.sort((a, b) => a.at - b.at)
    survival.begin(pending)
    const entries: ImageEntry[] = []
    const names: string[] = []
    const survived = new Map<Write, boolean[]>()
    collect(this.#root, '', survival, { entries, names, survived })
    const fate = (whole: (parts: readonly boolean[]) => boolean): readonly Write[] =>
      pending.filter((write) => whole(survived.get(write) ?? [false]))
    return {
      entries,
      losses: {
        pending,
        dropped: fate((parts) => !parts.includes(true)),
        torn: fate((parts) => parts.includes(true) && parts.includes(false)),
        names,
      },
    }
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root
    if (path === '') return node
    for (const name of path.split('/')) {
      if (node?.kind !== 'directory') return undefined
      node = node.visible.get(name)
    }
    return node
  }

  #file(path: string): FileContent {
    const node = this.#find(path)
    if (node?.kind !== 'file') throw new DiskError(`${path} is no file`)
    return node.content
  }

  #place(path: string): [DirectoryNode, string] {
    const slash = path.lastIndexOf('/')
    const directory = slash === -1 ? this.#root : this.#find(path.slice(0, slash))
    if (directory?.kind !== 'directory') throw new DiskError(`${path} is in no directory`)
    return [directory, path.slice(slash + 1)]
  }

  #change(path: string, node: Node | undefined): void {
    const [directory, name] = this.#place(path)
    apply(directory, [{ name, node }])
  }
}

function directoryNode(): DirectoryNode {
  return { kind: 'directory', durable: new Map(), visible: new Map(), pending: [] }
}

function apply(directory: DirectoryNode, change: readonly NameChange[]): void {
  applyTo(directory.visible, change)
  directory.pending.push(change)
}

function applyTo(names: Map<string, Node>, change: readonly NameChange[]): void {
  for (const { name, node } of change) {
    if (node === undefined) names.delete(name)
    else names.set(name, node)
  }
}

/** Every file that is still visible anywhere: a file that nobody can find any more is of no interest. */
function* files(directory: DirectoryNode): Iterable<FileNode> {
  for (const node of directory.visible.values()) {
    if (node.kind === 'file') yield node
    else yield* files(node)
  }
}

interface Collected {
  readonly entries: ImageEntry[]
  readonly names: string[]
  /** Per write, whether each of its sectors is in the image. */
  readonly survived: Map<Write, boolean[]>
}

function collect(
  directory: DirectoryNode,
  prefix: string,
  survival: Survival,
  into: Collected,
): void {
  const names = new Map(directory.durable)
  for (const change of directory.pending) {
    const paths = change.map(({ name }) => `${prefix}${name}`)
    if (survival.name(paths.join(' and '))) applyTo(names, change)
    else into.names.push(...paths)
  }
  for (const [name, node] of names) {
    const path = `${prefix}${name}`
    if (node.kind === 'directory') {
      into.entries.push({ path, bytes: undefined })
      collect(node, `${path}/`, survival, into)
      continue
    }
    const bytes = node.content.cut({
      sector: (sector, writes) => {
        const kept = survival.sector(path, sector, writes)
        for (const [at, write] of writes.entries()) {
          const parts = into.survived.get(write) ?? []
          parts.push(at <= kept)
          into.survived.set(write, parts)
        }
        return kept
      },
      size: (sizes) => survival.size(path, sizes),
    })
    into.entries.push({ path, bytes })
  }
}
