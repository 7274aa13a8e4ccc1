/*
 * The port between the search and the meaning of commands. A state is a small integer that stands for the whole
 * value of one key, so that the search compares, stores and forgets states without knowing what they are.
 */

import type { Operation, Reply } from './operation.ts'

export type State = number

/** What `step` answers when the recorded reply cannot be given in that state. */
export const ILLEGAL: State = -1

export interface Model {
  /** Why operations of this kind cannot be checked, in words; undefined when they can. */
  refusal(f: string, args: readonly string[]): string | undefined
  /**
   * Prepares the operations of one key. `witnesses` are those whose replies may tell what these did, when they are
   * not the same. Throws HistoryError for an operation that `refusal` refuses.
   */
  begin(operations: readonly Operation[], witnesses?: readonly Operation[]): KeyModel
}

/** The operations of one key; `operation` is always an index into the list that `begin` was given. */
export interface KeyModel {
  /** How many states exist so far: the search bounds it. */
  readonly states: number
  /** The state after the operation, or ILLEGAL; an operation with an unknown reply is always legal. */
  step(state: State, operation: number): State
  /** True only if the operation leaves every state as it is in which its recorded reply is legal. */
  isIdle(operation: number): boolean
  /** The one state in which the recorded reply is legal, if there is one such state. */
  needs(operation: number): State | undefined
  /**
   * The one state that the operation can change another one to; undefined for idle ones. `derives` when there is
   * more than one: its result depends on the value that was there.
   */
  makes(operation: number): State | 'derives' | undefined
  /** False if no reply of the witnesses can tell whether this operation took effect. */
  mayMatter(operation: number): boolean
  /** Equal for operations whose effects no reply of the witnesses can tell apart, whatever the state. */
  effect(operation: number): string
  /** What the operation would be answered in that state. */
  reply(state: State, operation: number): Reply | undefined
  /** The value of the key in that state, null when there is none; and the other way round. */
  value(state: State): string | null
  state(value: string | null): State
}
