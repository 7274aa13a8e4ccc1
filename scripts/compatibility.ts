/*
 * `npm run compatibility`: writes docs/compatibility.md anew, from the command tables. test/src/compatibility.test.ts
 * fails when the file is another one.
 */

import { writeFileSync } from 'node:fs'
import { runScript } from '../test/command-line.ts'
import { compatibilityText } from '../test/src/compatibility.ts'

await runScript({ url: import.meta.url, options: {} }, () => {
  writeFileSync(new URL('../../docs/compatibility.md', import.meta.url), compatibilityText())
  return 0
})
