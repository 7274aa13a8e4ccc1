/*
 * Who takes writes now, as a node knows it.
 */

import type { NodeId, Term } from '../raft/types.ts'

export type Route =
  /** `removed`: and never again, as far as this node is concerned. */
  | { readonly kind: 'none'; readonly removed?: true }
  /** This node leads; it takes commands once everything of earlier terms is applied (`established`). */
  | { readonly kind: 'self'; readonly term: Term; readonly established: boolean }
  | { readonly kind: 'leader'; readonly term: Term; readonly leader: NodeId }

/** By what raft says of itself. */
export function routeOf(raft: {
  readonly isLeader: boolean
  readonly leader: NodeId | undefined
  readonly term: Term
  readonly established: boolean
}): Route {
  const { isLeader, leader, term, established } = raft
  if (isLeader) return { kind: 'self', term, established }
  return leader === undefined ? { kind: 'none' } : { kind: 'leader', term, leader }
}

export function sameRoute(a: Route, b: Route): boolean {
  if (a.kind === 'none' || b.kind === 'none') {
    return a.kind === 'none' && b.kind === 'none' && a.removed === b.removed
  }
  if (a.kind === 'leader' || b.kind === 'leader') return a.kind === b.kind && a.term === b.term
  return a.term === b.term && a.established === b.established
}
