/*
 * Descriptors that never make the writer wait. Whoever reads our output may stop reading (a paused terminal, a
 * full pipe); a write that waited for him would stop elections, or keep a process alive that must end. Stands
 * apart from the logger so that the watchdog's thread does not load pino.
 */

import { constants, fstatSync, openSync } from 'node:fs'

/**
 * The same file behind a descriptor of its own that does not block. Setting O_NONBLOCK on the descriptor that
 * was handed down would change it for whoever shares it. Where that cannot be had: the descriptor itself.
 */
export function nonBlocking(fd: number): number {
  try {
    const stat = fstatSync(fd)
    if (!stat.isFIFO() && !stat.isCharacterDevice()) return fd
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch {
    // No /proc, or the terminal belongs to another user: the log still works, it may only wait.
    return fd
  }
}
