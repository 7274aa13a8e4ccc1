/*
 * Fills a node with very many keys as quickly as its store permits: in the order of their hash slots, which is that
 * of the disk. The writes of one checkpoint are then neighbours and share their pages, where keys in any other order
 * change a page each. What a SET costs at such a size is therefore never read from a fill.
 */

import { HASH_SLOTS, keySlot } from '../../storage/layout.ts'
import { OK_BYTES, pipelined } from './measured-node.ts'

const PROGRESS_MS = 15_000

export interface Fill {
  readonly port: number
  /** The keys are name(from) to name(to - 1). */
  readonly from: number
  readonly to: number
  readonly name: (at: number) => string
  readonly valueBytes: number
  /** Told now and then how far it is. */
  progress(line: string): void
}

export async function fill({ port, from, to, name, valueBytes, progress }: Fill): Promise<void> {
  const order = inSlotOrder(from, to, name)
  const end = `$${valueBytes}\r\n${'v'.repeat(valueBytes)}\r\n`
  let told = performance.now()
  const requests = (first: number, behind: number): Buffer => {
    if (performance.now() - told > PROGRESS_MS) {
      told = performance.now()
      progress(`${(from + first).toLocaleString('en-US')} of ${to.toLocaleString('en-US')} keys`)
    }
    let text = ''
    for (const at of order.subarray(first, behind)) {
      const key = name(at)
      text += `*3\r\n$3\r\nSET\r\n$${key.length}\r\n${key}\r\n${end}`
    }
    return Buffer.from(text, 'latin1')
  }
  await pipelined({ port, count: to - from, requests, replyBytes: OK_BYTES })
}

/** The numbers `from` to `to` - 1 in the order of the slots of their keys. */
export function inSlotOrder(from: number, to: number, name: (at: number) => string): Uint32Array {
  const slots = new Uint16Array(to - from)
  /** Of each slot where its next number goes. */
  const next = new Uint32Array(HASH_SLOTS + 1)
  for (let at = 0; at < slots.length; at++) {
    const slot = keySlot(Buffer.from(name(from + at), 'latin1'))
    slots[at] = slot
    next[slot + 1] = (next[slot + 1] ?? 0) + 1
  }
  for (let slot = 1; slot <= HASH_SLOTS; slot++) {
    next[slot] = (next[slot] ?? 0) + (next[slot - 1] ?? 0)
  }
  const order = new Uint32Array(to - from)
  for (let at = 0; at < slots.length; at++) {
    const slot = slots[at] ?? 0
    const place = next[slot] ?? 0
    order[place] = from + at
    next[slot] = place + 1
  }
  return order
}
