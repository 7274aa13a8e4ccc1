/*
 * The guard in front of msgpackr: the shape of a frame, checked before anything is decoded. msgpackr also decodes
 * maps, records (with generated code), RegExps and Dates, and allocates what a header claims; peers need none of
 * that, and handshakes are decoded before a peer has proved who it is.
 */

import { CodecError } from './integers.ts'

/** How deep arrays may nest in a frame; its own array is level 1. */
const FRAME_DEPTH_MAX = 8

/**
 * Admits exactly one msgpack array made of what encodeFrame emits: nil, booleans, integers of up to 32 bits,
 * doubles, strings, binaries and arrays. It yields no values, so it is no second decoder; it keeps maps, records,
 * extensions (RegExp, Date, code of records) and endless nesting away from msgpackr, also before a peer has proved
 * who it is.
 */
export function guardFrame(bytes: Uint8Array): void {
  const first = bytes[0]
  const isArrayHeader = first !== undefined && ((first & 0xf0) === 0x90 || (first & 0xfe) === 0xdc)
  if (!isArrayHeader) throw new CodecError('a frame is no array')
  const end = guardValue(bytes, 0, 1)
  if (end !== bytes.length) throw new CodecError('bytes follow a frame')
}

/** Checks the value at `offset` and returns where it ends. */
function guardValue(bytes: Uint8Array, offset: number, depth: number): number {
  const tag = bytes[offset]
  if (tag === undefined) throw new CodecError('a frame is cut short')
  const body = offset + 1
  if (tag < 0x80 || tag >= 0xe0) return body
  if ((tag & 0xe0) === 0xa0) return guardEnd(bytes, body + (tag & 0x1f))
  if ((tag & 0xf0) === 0x90) return guardArray(bytes, body, tag & 0x0f, depth)
  switch (tag) {
    case 0xc0:
    case 0xc2:
    case 0xc3:
      return body
    case 0xcc:
    case 0xd0:
      return guardEnd(bytes, body + 1)
    case 0xcd:
    case 0xd1:
      return guardEnd(bytes, body + 2)
    case 0xce:
    case 0xd2:
      return guardEnd(bytes, body + 4)
    case 0xcb:
      return guardEnd(bytes, body + 8)
    case 0xc4:
    case 0xd9:
      return guardEnd(bytes, body + 1 + guardLength(bytes, body, 1))
    case 0xc5:
    case 0xda:
      return guardEnd(bytes, body + 2 + guardLength(bytes, body, 2))
    case 0xc6:
    case 0xdb:
      return guardEnd(bytes, body + 4 + guardLength(bytes, body, 4))
    case 0xdc:
      return guardArray(bytes, body + 2, guardLength(bytes, body, 2), depth)
    case 0xdd:
      return guardArray(bytes, body + 4, guardLength(bytes, body, 4), depth)
    default:
      throw new CodecError('a frame holds a value of a type that no peer sends')
  }
}

function guardArray(bytes: Uint8Array, offset: number, count: number, depth: number): number {
  if (depth > FRAME_DEPTH_MAX) throw new CodecError('a frame nests too deep')
  // Each element takes a byte at least, so whatever passes has a count that bytes back before msgpackr allocates.
  let end = offset
  for (let i = 0; i < count; i++) end = guardValue(bytes, end, depth + 1)
  return end
}

function guardLength(bytes: Uint8Array, offset: number, width: 1 | 2 | 4): number {
  guardEnd(bytes, offset + width)
  let length = 0
  for (let i = 0; i < width; i++) length = length * 256 + (bytes[offset + i] ?? 0)
  return length
}

function guardEnd(bytes: Uint8Array, end: number): number {
  if (end > bytes.length) throw new CodecError('a frame is cut short')
  return end
}
