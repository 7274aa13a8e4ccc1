/*
 * How many bytes a key takes on the pages of LMDB: what MEMORY USAGE tells; and how many keys change how many pages. It
 * is worked out from the layouts, because the engine can be asked for its pages only, not for those of one key; a test
 * holds it against them.
 */

import type { Environment } from './engine.ts'
import { DISK_KEY_HEADER_BYTES, EXPIRY_BYTES, PLAIN_KEY_BYTES_MAX, SHA256_BYTES } from './layout.ts'
import { RECORD_HEADER_BYTES, type StoredValue } from './record.ts'

/** LMDB's pages, what it keeps beside a key and its value, and what of both stays on a page of the tree. */
const PAGE_BYTES = 4096
const PAGE_HEADER_BYTES = 16
const NODE_BYTES = 10
const NODE_BYTES_MAX = 2038

/**
 * The bytes on the engine's pages of a key of so many bytes: key, value and what stands beside them, with the entry
 * of one that expires in that index. What pages leave free for others is not in it.
 */
export function pageBytesOf(keyLength: number, { value, expireAt }: StoredValue): number {
  const hashed = keyLength > PLAIN_KEY_BYTES_MAX
  const diskKey = DISK_KEY_HEADER_BYTES + (hashed ? SHA256_BYTES : keyLength)
  const record = RECORD_HEADER_BYTES + (hashed ? 4 + keyLength : 0) + value.length
  const index = expireAt === 0 ? 0 : NODE_BYTES + EXPIRY_BYTES + diskKey + 4
  const node = NODE_BYTES + diskKey + record
  if (node <= NODE_BYTES_MAX) return shareOfPage(node) + index
  const pages = Math.ceil((PAGE_HEADER_BYTES + record) / PAGE_BYTES)
  return NODE_BYTES + diskKey + 8 + pages * PAGE_BYTES + index
}

/**
 * How many keys may be written until about `pages` of the pages of a state are changed; Infinity when it has no more
 * than that, or without such a bound. Positions are random, so of P pages k keys change P * (1 - (1 - 1/P)^k).
 */
export function keysChanging(
  pages: number | undefined,
  state: Pick<Environment, 'usedBytes'>,
): number {
  if (pages === undefined) return Number.POSITIVE_INFINITY
  const all = state.usedBytes() / PAGE_BYTES
  if (all <= pages) return Number.POSITIVE_INFINITY
  return Math.max(1, Math.floor(-all * Math.log1p(-pages / all)))
}

/** Of large nodes only two or three fit a page, and what they leave of it nobody else can use. */
function shareOfPage(node: number): number {
  if (node < PAGE_BYTES / 4) return node
  return Math.floor(PAGE_BYTES / Math.floor((PAGE_BYTES - PAGE_HEADER_BYTES) / node))
}
