/*
 * An upgrade, node by node: in some seeds machines run builds that know different feature levels, and a newer one when
 * they start again. The level of the cluster is raised to what every member knows, never beyond, and never falls (I23).
 */

import type { Random } from '../../raft/ports.ts'
import type { Index } from '../../raft/types.ts'
import { FEATURE_LEVEL_FIRST } from '../../storage/state-meta.ts'
import type { Canon } from './canon.ts'
import type { Electorate } from './electorate.ts'
import type { Machine } from './machine.ts'
import type { Marks } from './marks.ts'
import { hold } from './violation.ts'

const NEWER = 2
/** Of the seeds in which an upgrade is under way. */
const UPGRADE_CHANCE = 0.25
/** That a machine starts with the newer build: for the first time, and later. */
const NEWER_CHANCE = { first: 0.7, later: 0.9 }

export class Levels {
  readonly #world: { canon: Canon; electorate: Electorate; marks: Marks; random: Random }
  readonly isUpgrade: boolean
  /** Of the cluster, as the entries have raised it, and the last one that did. */
  #reached: number = FEATURE_LEVEL_FIRST
  #raisedAt: Index = 0

  constructor(world: { canon: Canon; electorate: Electorate; marks: Marks; random: Random }) {
    this.#world = world
    this.isUpgrade = world.random() < UPGRADE_CHANCE
  }

  get reached(): number {
    return this.#reached
  }

  /** Of the newest build there is in this run. */
  newest(machine: Machine): number | undefined {
    return this.isUpgrade ? NEWER : machine.level
  }

  /** What the build knows that a machine starts with; undefined: it says nothing, as the oldest ones do. */
  build(machine: Machine): number | undefined {
    const { level } = machine
    if (!this.isUpgrade || level === NEWER) return level
    const chance = machine.id === '' ? NEWER_CHANCE.first : NEWER_CHANCE.later
    return this.#world.random() < chance ? NEWER : undefined
  }

  /** A machine has applied an entry. */
  applied(machine: Machine, index: Index): void {
    const level = machine.process?.state.featureLevel() ?? FEATURE_LEVEL_FIRST
    if (level > this.#reached) this.#raised(level, index)
    const right = index >= this.#raisedAt ? this.#reached : FEATURE_LEVEL_FIRST
    hold(level === right, 'I23 the feature level never falls', () => {
      return `${machine.name} has level ${level} at ${index}, the cluster has reached ${right}`
    })
  }

  #raised(level: number, index: Index): void {
    const { canon, electorate, marks } = this.#world
    const members = canon.inForce[index]?.membership.members ?? []
    for (const { id } of members) {
      const member = electorate.machine(id)
      hold(
        member === undefined || (member.level ?? FEATURE_LEVEL_FIRST) >= level,
        'I23 no member is asked for what its build does not know',
        () => `entry ${index} raises the feature level to ${level}, ${member?.name} knows less`,
      )
    }
    // The first entries of a cluster say what all of its founders know.
    if (canon.lastOp > FOUNDING_OPS) marks.reach('feature level raised')
    this.#reached = level
    this.#raisedAt = index
  }
}

/** Commands of the entry that founds a cluster. */
const FOUNDING_OPS = 2
