/*
 * A process that recovers one image after the other: a directory in, what was found or why it was refused out. It
 * ends with its parent.
 */

import { recover } from './recovery.ts'

process.on('message', (directory: string) => {
  recover(directory).then(
    (found) => process.send?.({ found }),
    (error: unknown) => process.send?.({ refused: String(error) }),
  )
})
process.once('disconnect', () => process.exit(0))
