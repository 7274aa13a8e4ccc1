/*
 * Descriptors that never make the writer wait. Whoever reads our output may stop reading (a paused terminal, a
 * full pipe); a write that waited for him would stop elections, or keep a process alive that must end. Stands
 * apart from the logger so that the watchdog's thread does not load pino.
 */

import { constants, fstatSync, openSync } from 'node:fs'

/** Standard output or standard error. */
export type OutputFd = 1 | 2

/**
 * The same output by a descriptor that does not block: a write gives EAGAIN instead. Pipes and terminals are
 * opened anew, because O_NONBLOCK on the descriptor that was handed down would hold for whoever shares it. Files
 * never block. Where it cannot be had (no /proc, a terminal of another user) it is the descriptor itself.
 */
export function nonBlocking(fd: OutputFd): number {
  try {
    const stat = fstatSync(fd)
    if (stat.isSocket()) {
      // Sockets cannot be opened anew; Node's own stream over one makes it non-blocking when first touched.
      void (fd === 1 ? process.stdout : process.stderr)
      return fd
    }
    if (!stat.isFIFO() && !stat.isCharacterDevice()) return fd
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK)
  } catch {
    // The output still works, it may only wait for its reader.
    return fd
  }
}
