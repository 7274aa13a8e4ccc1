/*
 * One file's bytes in three states: what is durable, what every process sees, and per sector the versions in between
 * that writeback may or may not have brought to the disk. A sector is never torn, and never holds a version older
 * than its last flush; its versions are whole contents, so a later one includes the earlier ones.
 */

import type { Flush, Write } from './disk.ts'

/** What a disk writes as a unit. */
export const SECTOR_BYTES = 512

interface Version {
  readonly write: Write
  /** A whole sector. */
  readonly bytes: Uint8Array
}

/** How large the file became; undefined as `write` is a truncation. */
interface Growth {
  readonly write: Write | undefined
  readonly size: number
}

/** The survival of one file's parts, as Survival without the path. */
export interface FileSurvival {
  sector(sector: number, writes: readonly Write[]): number
  size(sizes: readonly number[]): number
}

export class FileContent {
  readonly #durable = new Memory()
  readonly #visible = new Memory()
  #durableSize = 0
  #visibleSize = 0
  /** By sector, oldest first. */
  readonly #versions = new Map<number, Version[]>()
  #growths: Growth[] = []
  readonly #returned = new Set<Write>()
  /** Begun and not durable, in order. */
  readonly #open = new Set<Write>()

  begin(write: Write): void {
    const { offset, bytes } = write
    this.#open.add(write)
    this.#visible.put(offset, bytes)
    this.#grow(offset + bytes.length, write)
    for (const sector of sectorsOf(write)) {
      const versions = this.#versions.get(sector) ?? []
      versions.push({ write, bytes: this.#visible.sector(sector) })
      this.#versions.set(sector, versions)
    }
  }

  end(write: Write): void {
    this.#returned.add(write)
    if (!write.synchronous) return
    this.#settle(new Set([write]), sectorsOf(write))
    this.#settleSize(write.offset + write.bytes.length)
  }

  /** Only to grow: nothing here makes a file shorter. */
  truncate(size: number): void {
    if (size < this.#visibleSize) throw new RangeError(`a file cut to ${size} bytes`)
    this.#grow(size, undefined)
  }

  beginFlush(): Flush {
    const covered = new Set(this.#returned)
    const growths = this.#growths.filter(({ write }) => write === undefined || covered.has(write))
    return {
      finish: () => {
        this.#settle(covered, [...this.#versions.keys()])
        for (const { size } of growths) this.#settleSize(size)
      },
    }
  }

  visible(): Uint8Array {
    return this.#visible.read(this.#visibleSize)
  }

  pending(): readonly Write[] {
    return [...this.#open]
  }

  /** The bytes that are found after a power cut. */
  cut(survival: FileSurvival): Uint8Array {
    const sizes = [this.#durableSize, ...this.#growths.map(({ size }) => size)]
    const size = sizes[survival.size(sizes)] ?? this.#durableSize
    const memory = new Memory()
    memory.put(0, this.#durable.read(this.#durableSize))
    for (const [sector, versions] of this.#versions) {
      const writes = versions.map(({ write }) => write)
      const version = versions[survival.sector(sector, writes)]
      if (version !== undefined) memory.put(sector * SECTOR_BYTES, version.bytes)
    }
    return memory.read(size)
  }

  /** Makes durable what `covered` has put into these sectors, and with it whatever lay below. */
  #settle(covered: ReadonlySet<Write>, sectors: Iterable<number>): void {
    for (const sector of sectors) {
      const versions = this.#versions.get(sector) ?? []
      const last = versions.findLastIndex(({ write }) => covered.has(write))
      const version = versions[last]
      if (version === undefined) continue
      this.#durable.put(sector * SECTOR_BYTES, version.bytes)
      if (last + 1 < versions.length) this.#versions.set(sector, versions.slice(last + 1))
      else this.#versions.delete(sector)
    }
    const open = new Set([...this.#versions.values()].flat().map(({ write }) => write))
    for (const write of this.#open) {
      if (open.has(write)) continue
      this.#open.delete(write)
      this.#returned.delete(write)
    }
  }

  #grow(size: number, write: Write | undefined): void {
    if (size <= this.#visibleSize) return
    this.#visibleSize = size
    this.#growths.push({ write, size })
  }

  /** The size is part of what a flush promises, as far as the flushed data needs it. */
  #settleSize(size: number): void {
    this.#durableSize = Math.max(this.#durableSize, size)
    this.#growths = this.#growths.filter((growth) => growth.size > this.#durableSize)
  }
}

/** Bytes at any place; zeros where nothing was put. */
class Memory {
  #bytes = new Uint8Array(0)

  put(offset: number, data: Uint8Array): void {
    this.#reach(offset + data.length)
    this.#bytes.set(data, offset)
  }

  /** A copy. */
  sector(sector: number): Uint8Array {
    this.#reach((sector + 1) * SECTOR_BYTES)
    return this.#bytes.slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
  }

  /** The first `size` bytes; the caller must not keep them beyond the next put. */
  read(size: number): Uint8Array {
    this.#reach(size)
    return this.#bytes.subarray(0, size)
  }

  #reach(size: number): void {
    if (size <= this.#bytes.length) return
    const bytes = new Uint8Array(2 * size)
    bytes.set(this.#bytes)
    this.#bytes = bytes
  }
}

function* sectorsOf({ offset, bytes }: Write): Iterable<number> {
  const end = offset + bytes.length
  for (let at = Math.floor(offset / SECTOR_BYTES); at * SECTOR_BYTES < end; at++) yield at
}
