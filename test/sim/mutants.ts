/*
 * All mutants, and the record of where each was caught: the table in docs/mutants.md, which `npm run mutants` reads
 * and `npm run mutants -- --search` writes. To add a mutant: an entry in one of the five lists, and a search for it.
 */

import { commandMutants } from './command-mutants.ts'
import type { Mutant } from './mutation.ts'
import { raftMutants } from './raft-mutants.ts'
import { rejoinMutants } from './rejoin-mutants.ts'
import { selfCheckMutants } from './self-check-mutants.ts'
import { storageMutants } from './storage-mutants.ts'

export const mutants: readonly Mutant[] = [
  ...raftMutants,
  ...storageMutants,
  ...commandMutants,
  ...selfCheckMutants,
  ...rejoinMutants,
].sort((a, b) => rank(a.id) - rank(b.id) || (a.id < b.id ? -1 : 1))

/** Where a mutant was caught. */
export interface Conviction {
  readonly invariant: string
  readonly seed: number
  /** The seed whose history the checker of histories refuses; undefined: it was not asked. */
  readonly historySeed: number | undefined
}

const HEADER = [
  '# Mutants',
  '',
  'Bugs that the simulator finds. `npm run mutants` runs each of them, a small change in a copy of the compiled code, and demands that an invariant fails by its name on a seed that is clean without the bug; a crash alone does not count. The numbers are those of the research (safety.md 3.1), own mutants begin with x. `history` is a seed on which the linearizability checker alone, told nothing but what clients asked and heard, convicts the mutant, too.',
  '',
  'This table is written by `npm run mutants -- --search`, which takes the first seed that convicts. A row may be moved by hand to a seed that convicts sooner, or that others have too, since each seed is run once more without a mutant; every run proves every row. `docs/simulator.md` tells how to add a mutant.',
  '',
  '| | mutant | what it breaks | caught by | seed | history |',
  '|---|---|---|---|---|---|',
  '',
].join('\n')

export function tableOf(convictions: ReadonlyMap<string, Conviction>): string {
  const rows = mutants.map(({ id, name, breaks }) => {
    const { invariant = 'nothing', seed = '', historySeed = '' } = convictions.get(id) ?? {}
    return `| ${id} | ${name} | ${breaks} | ${invariant} | ${seed} | ${historySeed} |\n`
  })
  return HEADER + rows.join('')
}

export function readTable(text: string): ReadonlyMap<string, Conviction> {
  const convictions = new Map<string, Conviction>()
  for (const line of text.split('\n')) {
    const [, id = '', , , invariant = '', seed = '', history = ''] = line
      .split('|')
      .map((cell) => cell.trim())
    if (!/^\d+$/.test(seed)) continue
    const historySeed = history === '' ? undefined : Number(history)
    convictions.set(id, { invariant, seed: Number(seed), historySeed })
  }
  return convictions
}

function rank(id: string): number {
  return Number(/\d+/.exec(id)?.[0]) + (id.startsWith('x') ? 1000 : 0)
}
