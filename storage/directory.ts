/*
 * A new name in a directory survives a power cut only when the directory itself is flushed. Whoever makes a file or
 * a directory calls this on the directory it stands in.
 */

import { closeSync, fsyncSync, openSync } from 'node:fs'

/**
 * Flushes the names in a directory. One that this process may write to but not read cannot be flushed by it; then
 * the names in it are as safe as its owner has made them.
 */
export function syncDirectory(path: string): void {
  let descriptor: number
  try {
    descriptor = openSync(path, 'r')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EACCES') return
    throw error
  }
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}
