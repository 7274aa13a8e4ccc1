/*
 * The set workload: each element is added once, by one SET NX under a key of its own, and all are read back at the
 * end. The general check covers each key; this counts over all keys what became of the elements, which is what a
 * person wants to know of such a run, and sees what no key can tell alone: an element that nobody read back.
 */

import { HistoryError, type Operation, shown } from './operation.ts'

export interface SetVerdict {
  /** `unknown`: nothing is wrong, but an acknowledged element was not read at the end. */
  readonly outcome: 'valid' | 'invalid' | 'unknown'
  readonly attempted: number
  readonly acknowledged: number
  /** Keys of acknowledged elements that the final read did not find. */
  readonly lost: readonly string[]
  /** Keys where the final read found what was never added, or answered as failed. */
  readonly unexpected: readonly string[]
  /** Keys of acknowledged elements without a final read. */
  readonly unread: readonly string[]
  /** Elements of unknown outcome that are there. */
  readonly recovered: number
}

interface Element {
  readonly added: Operation
  read: Operation | undefined
}

/** Throws HistoryError for an operation that is no part of such a workload. */
export function checkSet(operations: Iterable<Operation>): SetVerdict {
  const elements = new Map<string, Element>()
  const reads: Operation[] = []
  for (const operation of operations) {
    const { key, f, args } = operation
    if (f === 'get') reads.push(operation)
    else if (f === 'setnx' || (f === 'set' && args[1]?.toLowerCase() === 'nx')) {
      if (elements.has(key)) throw new HistoryError(`${shown(key)} is added twice`)
      elements.set(key, { added: operation, read: undefined })
    } else throw new HistoryError(`${f} is no operation of a set workload`)
  }
  for (const read of reads) {
    const element = elements.get(read.key)
    if (element === undefined || read.outcome !== 'ok') continue
    const isFinal = element.added.outcome === 'info' || read.invoked > element.added.returned
    if (isFinal && read.invoked >= (element.read?.invoked ?? 0)) element.read = read
  }
  return verdictOf([...elements.values()])
}

function verdictOf(elements: readonly Element[]): SetVerdict {
  const keysOf = (chosen: readonly Element[]): readonly string[] => {
    return chosen.map(({ added }) => added.key)
  }
  const isThere = ({ added, read }: Element): boolean => read?.reply === added.args[0]
  const acknowledged = elements.filter(({ added }) => isAcknowledged(added))
  const others = elements.filter(({ added }) => !isAcknowledged(added))
  const lost = keysOf(acknowledged.filter((element) => element.read && !isThere(element)))
  const unread = keysOf(acknowledged.filter(({ read }) => read === undefined))
  const unexpected = keysOf(
    others.filter((element) => {
      const { added, read } = element
      if (read === undefined || read.reply === null) return false
      return added.outcome !== 'info' || !isThere(element)
    }),
  )
  const recovered = others.filter(({ added }) => added.outcome === 'info').filter(isThere).length
  const isWrong = lost.length > 0 || unexpected.length > 0
  return {
    outcome: isWrong ? 'invalid' : unread.length > 0 ? 'unknown' : 'valid',
    attempted: elements.length,
    acknowledged: acknowledged.length,
    lost,
    unexpected,
    unread,
    recovered,
  }
}

function isAcknowledged({ outcome, reply }: Operation): boolean {
  return outcome === 'ok' && (reply === 'OK' || reply === 1)
}
