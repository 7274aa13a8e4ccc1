/*
 * `holdfast --force-new-cluster`: what is left when a majority of the voters is gone for good. A survivor keeps its whole
 * log and becomes the only member of a NEW cluster, in one transaction of the log; so whoever is left of the old one has
 * another cluster id and is refused, and two clusters can never take each other for themselves. Entries that only the
 * lost nodes had are gone; entries that nobody had committed may stay. Where the quorum is not lost, as another member
 * can tell, nothing is forced. It knows neither links nor raft's driver.
 */

import type { Entry, Member, Membership, NodeId } from '../raft/types.ts'
import type { Storage } from '../storage/open.ts'
import type { ClusterList } from './bootstrap.ts'
import { OperatorError } from './operator-error.ts'
import type { PeerLog } from './peer-refusals.ts'

const CLUSTER_ID_BYTES = 20
/** Of a node that lives, and that did not come to say whether it serves its cluster. */
const UNTOLD = /^(NOAUTH|WRONGPASS|DENIED|ERR AUTH|ERR max)/
/** What is read at once to find the last membership. */
const SCAN_BYTES = 1_048_576

export interface ForceOptions {
  readonly storage: Pick<Storage, 'log' | 'state'>
  readonly list: ClusterList
  /** Where clients reach this node. */
  readonly clientAddress: string
  readonly randomBytes: (count: number) => Uint8Array
  /** Why the node that clients reach at `address` does not serve that cluster now; undefined: it does. */
  readonly ready: (address: string, clusterId: string) => Promise<string | undefined>
  readonly log: PeerLog
}

/**
 * Once for as long as the flag stays: a service manager that starts the node with it again must not cut off the members
 * that came since. A start without the flag (`forgetForced` of the log) makes it count anew. Throws OperatorError where
 * there is nothing to keep, and where the old cluster serves: two clusters would acknowledge writes to the same clients.
 */
export async function forceNewCluster(options: ForceOptions): Promise<void> {
  const { storage, list, clientAddress, randomBytes, log } = options
  const { nodeId, clusterId } = storage.log.identity()
  if (storage.log.wasForced()) {
    const text =
      '--force-new-cluster was followed by an earlier start and is not followed again: take it away. ' +
      'After a start without it, it would count anew'
    log.warn({ clusterId }, text)
    return
  }
  const before = survivor(storage, nodeId)
  const left = before.members.filter(({ id }) => id !== nodeId)
  await refuseWhereServed(options, left)
  const term = storage.log.hardState().term + 1
  const index = storage.log.lastIndex() + 1
  const membership: Membership = {
    members: [{ id: nodeId, role: 'voter', peerAddress: list.own, clientAddress }],
  }
  const payload = { type: 'membership', membership } as const
  const entry: Entry = { index, term, payload, encoded: undefined }
  const newId = Buffer.from(randomBytes(CLUSTER_ID_BYTES)).toString('hex')
  await storage.log.force({
    clusterId: newId,
    hardState: { term, vote: undefined },
    entries: [entry],
  })
  const fields = {
    oldClusterId: clusterId,
    newClusterId: newId,
    index,
    left: left.map(({ id, peerAddress }) => `${id} at ${peerAddress}`),
  }
  const text =
    'FORCED A NEW CLUSTER of this node alone: what only the other nodes had is lost, and they are refused from now on. ' +
    'Never start two of them together again: they would be the old cluster. Empty their directories, and let them --join'
  log.warn(fields, text)
}

/** The others of a cluster that is not lost can serve it without this node. Who keeps that to itself may be serving. */
async function refuseWhereServed(
  { storage, ready }: ForceOptions,
  others: readonly Member[],
): Promise<void> {
  const { clusterId = '' } = storage.log.identity()
  const answers = await Promise.all(
    others.map(({ clientAddress }) => ready(clientAddress, clusterId)),
  )
  for (const [at, { id, clientAddress }] of others.entries()) {
    const why = answers[at]
    const says =
      why === undefined
        ? `serves cluster ${clusterId}, so its quorum is not lost; start this node without the flag`
        : `lives, and does not tell whether it serves cluster ${clusterId} (it says: ${why}); give this node the requirepass of the others, or stop them`
    if (why !== undefined && !UNTOLD.test(why)) continue
    throw new OperatorError('FORCE', `--force-new-cluster: node ${id} at ${clientAddress} ${says}`)
  }
}

/** The membership in force, which names this node. */
function survivor(storage: ForceOptions['storage'], nodeId: NodeId): Membership {
  const { clusterId } = storage.log.identity()
  if (clusterId === undefined) {
    throw refusal('this node belongs to no cluster, so it has nothing to keep')
  }
  const membership = lastMembership(storage)
  if (membership === undefined) {
    throw refusal(`nothing of cluster ${clusterId} has arrived at this node yet`)
  }
  if (membership.members.some(({ id }) => id === nodeId)) return membership
  throw refusal(`this node was removed from cluster ${clusterId}, so what it holds is old`)
}

function lastMembership({ log, state }: ForceOptions['storage']): Membership | undefined {
  let last = state.membership()
  const end = log.lastIndex() + 1
  let from = log.base().index + 1
  while (from < end) {
    const entries = log.entries(from, end, SCAN_BYTES)
    for (const { payload } of entries) {
      if (payload.type === 'membership') last = payload.membership
    }
    from += entries.length
  }
  return last
}

function refusal(why: string): OperatorError {
  return new OperatorError('FORCE', `--force-new-cluster: ${why}; another node may be the survivor`)
}
