/*
 * A sealed frame: one small record that stands for itself on disk (the stable record, the state's own record). A
 * checksum over all of it, because LMDB has none and serves flipped bytes silently; the format version as its first
 * field, so that a newer build's record is recognised and refused, whatever else it holds.
 */

import { crc32 } from 'node:zlib'
import { decodeFrame, encodeFrame } from './codec.ts'
import { FieldReader, type FrameField } from './field-reader.ts'
import { CodecError, readUint32, writeUint32 } from './integers.ts'

/** The data directory was written by a build that this one does not understand. */
export class FormatVersionError extends Error {
  override readonly name = 'FormatVersionError'
  readonly code = 'FORMAT_VERSION'
}

/** Layout: crc32 u32 over the rest, then a frame of [version, ...fields]. */
export function sealFrame(version: number, fields: readonly FrameField[]): Uint8Array {
  const frame = encodeFrame([version, ...fields])
  const bytes = new Uint8Array(4 + frame.length)
  writeUint32(bytes, 0, crc32(frame))
  bytes.set(frame, 4)
  return bytes
}

/**
 * A reader of the fields of a sealed frame of `version`. Throws CodecError on a bad checksum, FormatVersionError on another
 * version; `what` names the record in the latter, for an operator.
 */
export function openSealedFrame(bytes: Uint8Array, version: number, what: string): FieldReader {
  const frame = bytes.subarray(4)
  if (bytes.length < 4 || readUint32(bytes, 0) !== crc32(frame)) {
    throw new CodecError(`${what} has a bad checksum`)
  }
  const [found, ...fields] = decodeFrame(frame)
  if (found !== version) {
    throw new FormatVersionError(
      `${what} has format version ${found}, this build knows ${version}: run the build that wrote it`,
    )
  }
  return new FieldReader(fields)
}
