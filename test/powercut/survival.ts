/*
 * What of the un-flushed survives a power cut, drawn from a seed: nothing, everything, a prefix, single writes, pages
 * or sectors. Each way is one that a correct disk may take, and each finds faults that the others miss: single
 * losses find a missing flush, prefixes find a wrong order, torn pages find trust in a page.
 */

import type { Random } from '../../raft/ports.ts'
import type { Survival, Write } from './disk.ts'
import { SECTOR_BYTES } from './file-content.ts'

export const WAYS = [
  'nothing',
  'everything',
  'a prefix',
  'all but one write',
  'whole writes',
  'pages',
  'sectors',
] as const
export type Way = (typeof WAYS)[number]

const PAGE_BYTES = 4096
/** How likely a single write, name or size survives, where each has a fate of its own. */
const CHANCES = [0.1, 0.5, 0.9]

export function survivalOf(random: Random): Survival & { readonly way: Way } {
  const way = WAYS[Math.floor(random() * WAYS.length)] ?? 'sectors'
  return new DrawnSurvival(way, random)
}

class DrawnSurvival implements Survival {
  readonly way: Way
  readonly #random: Random
  readonly #chance: number
  /** Whether no name at all is lost: what is in a file shows only in images that have the file. */
  readonly #keepsNames: boolean
  readonly #kept = new Set<Write>()
  /** By path and page: the moment up to which its writes survive. */
  readonly #pages = new Map<string, number>()

  constructor(way: Way, random: Random) {
    this.way = way
    this.#random = random
    this.#chance = CHANCES[Math.floor(random() * CHANCES.length)] ?? 0.5
    this.#keepsNames = way === 'everything' || (way !== 'nothing' && random() < 0.5)
  }

  begin(pending: readonly Write[]): void {
    const one = Math.floor(this.#random() * (pending.length + 1))
    for (const [at, write] of pending.entries()) {
      if (this.#keeps(at, one)) this.#kept.add(write)
    }
  }

  sector(path: string, sector: number, writes: readonly Write[]): number {
    switch (this.way) {
      case 'sectors':
        return this.#draw(writes.length + 1) - 1
      case 'pages': {
        const upTo = this.#page(path, sector, writes)
        return writes.findLastIndex(({ at }) => at <= upTo)
      }
      default:
        return writes.findLastIndex((write) => this.#kept.has(write))
    }
  }

  size(_path: string, sizes: readonly number[]): number {
    if (this.way === 'nothing') return 0
    // Mostly large enough for all data that survives: a shorter file hides it again.
    return this.way === 'everything' || this.#random() < 0.7
      ? sizes.length - 1
      : this.#draw(sizes.length)
  }

  name(_path: string): boolean {
    return this.#keepsNames || (this.way !== 'nothing' && this.#random() < this.#chance)
  }

  #keeps(at: number, one: number): boolean {
    switch (this.way) {
      case 'nothing':
        return false
      case 'everything':
        return true
      case 'a prefix':
        return at < one
      case 'all but one write':
        return at !== one
      default:
        return this.#random() < this.#chance
    }
  }

  #page(path: string, sector: number, writes: readonly Write[]): number {
    const key = `${path} ${Math.floor((sector * SECTOR_BYTES) / PAGE_BYTES)}`
    const known = this.#pages.get(key)
    if (known !== undefined) return known
    const upTo = writes[this.#draw(writes.length + 1) - 1]?.at ?? -1
    this.#pages.set(key, upTo)
    return upTo
  }

  #draw(count: number): number {
    return Math.floor(this.#random() * count)
  }
}
