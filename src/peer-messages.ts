/*
 * What the links between peers carry, apart from the frames: which link a message of raft's takes, what a clock looks
 * like, and how bytes that are none of it become a fault of the other side. It knows no connection.
 */

import type { Message } from '../raft/types.ts'
import { CodecError } from '../storage/codec.ts'
import { readUint64, writeUint64 } from '../storage/integers.ts'
import { PeerProtocolError } from './peer-frame.ts'
import type { LinkKind } from './peer-handshake.ts'

const CLOCK_BYTES = 8

/** A large append must not delay a heartbeat, nor what asks for votes or for reads. */
export function linkOf(message: Message): LinkKind {
  switch (message.type) {
    case 'append':
    case 'append-reply':
    case 'append-reject':
      return 'append'
    default:
      return 'control'
  }
}

/** A logical clock in ms. */
export function encodeClock(clock: number): Uint8Array {
  const bytes = new Uint8Array(CLOCK_BYTES)
  writeUint64(bytes, 0, clock)
  return bytes
}

/** Throws PeerProtocolError on bytes that are no clock. */
export function decodeClock(bytes: Uint8Array): number {
  if (bytes.length !== CLOCK_BYTES) throw badMessage('a clock that is none')
  return decoding(() => readUint64(bytes, 0))
}

/** Bytes that are no message are the other side's fault; whatever else is thrown is ours. */
export function decoding<T>(decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    if (error instanceof CodecError) throw badMessage(error.message)
    throw error
  }
}

export function badMessage(what: string): PeerProtocolError {
  return new PeerProtocolError('BADMESSAGE', `bad message: ${what}`)
}
