/*
 * Bugs in how replicas compare themselves, in what becomes of the one that differs, and in how they agree on what all
 * of them understand: see test/sim/mutants.ts.
 */

import type { Mutant } from './mutation.ts'

const check = 'src/digest-check.js'
const checkpoints = 'src/checkpoints.js'
const damage = 'src/damage.js'

export const selfCheckMutants: readonly Mutant[] = [
  {
    id: 'x26',
    name: 'a digest is right that one member has told',
    breaks: 'members that are sound take a wrong state for the right one',
    invariants: ['I22'],
    changes: [[check, `if (2 * count > voters.length) return digest;`, `return digest;`]],
  },
  {
    id: 'x27',
    name: 'whoever differs goes on',
    breaks: 'clients are served what is wrong, for ever',
    invariants: ['I22'],
    changes: [
      [check, `damaged(\`its digest at entry \${index} is not that of the majority\`, sound);`, ``],
    ],
  },
  {
    id: 'x28',
    name: 'a leader that differs does not step down',
    breaks: 'the others have to find out that nobody leads them',
    invariants: ['I22'],
    changes: [
      [damage, `if (damage !== undefined) await members.leave(limits.handOverTimeoutMs);`, ``],
    ],
  },
  {
    id: 'x29',
    name: 'a digest is of what has been applied by the time it is made',
    breaks: 'members compare states of different moments, and sound ones seem to differ',
    invariants: ['I22'],
    changes: [
      [checkpoints, `this.#digestAt === undefined && machine.canApply()`, `machine.canApply()`],
      [
        checkpoints,
        `assert(made !== undefined && at === index, () => \`the digest of entry \${at}, not of \${index}\`);`,
        ``,
      ],
    ],
  },
  {
    id: 'x30',
    name: 'whoever differs serves until another leads',
    breaks: 'clients are served what is known to be wrong',
    invariants: ['I22'],
    changes: [
      [damage, `for (const face of faces) await face.close();`, ``],
      [
        damage,
        `await replica.stop(damage === undefined ? 'sound' : 'damaged');`,
        `for (const face of faces) await face.close();
         await replica.stop(damage === undefined ? 'sound' : 'damaged');`,
      ],
    ],
  },
  {
    id: 'x31',
    name: 'whoever differs begins anew on the state that it had',
    breaks: 'it serves what is wrong again',
    invariants: ['I22'],
    changes: [
      [
        damage,
        `const { last } = await reinstallState(engine, chunks);`,
        `if (chunks !== undefined) return;
         const { last } = await reinstallState(engine, chunks);`,
      ],
      [damage, `const damage = log.damage();`, `const damage = undefined;`],
    ],
  },
  {
    id: 'x32',
    name: 'what a node knows of its state dies with its process',
    breaks: 'killed before it has another state, it serves the wrong one again',
    invariants: ['I22'],
    changes: [
      [
        damage,
        `const marked = damage === undefined ? undefined : log.markDamaged(damage);`,
        `const marked = undefined;`,
      ],
    ],
  },
  {
    id: 'x33',
    name: 'the feature level is raised to what the leader knows',
    breaks: 'a member is told what its build cannot read',
    invariants: ['I23'],
    changes: [
      [
        'src/feature-level.js',
        `level = Math.min(level, known(id) ?? FEATURE_LEVEL_FIRST);`,
        `if (known === undefined) level = FEATURE_LEVEL_FIRST;`,
      ],
    ],
  },
]
