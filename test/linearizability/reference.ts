/*
 * The plainest possible meaning of the string commands, for tests of the checker only: a function from value to
 * value and reply. It shares nothing with string-model.ts, and neither may import the other: each is the other's
 * witness.
 */

import { Buffer } from 'node:buffer'
import type { Reply } from './operation.ts'

export interface Applied {
  readonly value: string | null
  readonly reply: Reply
}

/** `value`: of the key, null when there is none. Throws where Redis answers an error. */
export function applyCommand(value: string | null, f: string, args: readonly string[]): Applied {
  const first = args[0] ?? ''
  switch (f) {
    case 'get':
      return { value, reply: value }
    case 'exists':
      return { value, reply: value === null ? 0 : 1 }
    case 'strlen':
      return { value, reply: Buffer.byteLength(value ?? '') }
    case 'set':
      return applySet(value, args)
    case 'setnx':
      return value === null ? { value: first, reply: 1 } : { value, reply: 0 }
    case 'getset':
      return { value: first, reply: value }
    case 'del':
      return { value: null, reply: value === null ? 0 : 1 }
    case 'append': {
      const longer = (value ?? '') + first
      return { value: longer, reply: Buffer.byteLength(longer) }
    }
    case 'incr':
      return added(value, 1)
    case 'decr':
      return added(value, -1)
    case 'incrby':
      return added(value, Number(first))
    case 'decrby':
      return added(value, -Number(first))
    default:
      throw new Error(`no command ${f}`)
  }
}

function applySet(value: string | null, args: readonly string[]): Applied {
  const [next = '', ...options] = args
  const stays =
    (options.includes('NX') && value !== null) || (options.includes('XX') && value === null)
  const after = stays ? value : next
  if (options.includes('GET')) return { value: after, reply: value }
  return { value: after, reply: stays ? null : 'OK' }
}

/** Small numbers only: the tests of int64's ends are in string-model.test.ts. */
function added(value: string | null, by: number): Applied {
  const old = Number(value ?? '0')
  if (!Number.isSafeInteger(old) || String(old) !== (value ?? '0'))
    throw new Error('not an integer')
  return { value: String(old + by), reply: old + by }
}
