/* A disk that changes what was written: bits turned in the files of a node, which may be running. */

import assert from 'node:assert/strict'
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'

/** Turns one bit of every copy of the text in the file; fails when there is none. */
export function turnBit(path: string, text: string): void {
  const bytes = readFileSync(path)
  const file = openSync(path, 'r+')
  let copies = 0
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) {
    writeSync(file, Buffer.of((bytes[at] ?? 0) ^ 4), 0, 1, at)
    copies++
  }
  closeSync(file)
  assert.ok(copies > 0, `'${text}' is not in ${path}`)
}
