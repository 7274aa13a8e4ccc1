/*
 * `holdfast --rejoin host:peerport`: a node whose store is damaged comes back empty. One transaction of its log gives up
 * everything that the directory holds and makes it that of a new node, which only remembers whose place it is to take;
 * from then on it joins as any new node does, and the leader puts its id where the old one was. What is sound, or empty,
 * is left alone: a flag that stays in place must never cost a node its data.
 */

import type { NodeId } from '../raft/types.ts'
import type { Engine } from '../storage/engine.ts'
import { DiskLogStore } from '../storage/log-store.ts'
import type { Storage } from '../storage/open.ts'
import { CorruptStateError } from '../storage/record.ts'
import { CorruptLogError } from '../storage/stable-record.ts'
import type { PeerLog } from './peer-refusals.ts'

export interface RejoinOptions {
  readonly engine: Engine
  /** Opens what the engine holds: openStorage. Called a second time when what it held was given up. */
  readonly open: () => Promise<Storage>
  readonly log: PeerLog
}

/** Throws what `open` throws, unless that is damage; and CorruptLogError when nobody can tell who this node was. */
export async function openOrStartOver({ engine, open, log }: RejoinOptions): Promise<Storage> {
  let replaced: NodeId | undefined
  let damage: string
  try {
    const storage = await open()
    if (storage.log.identity().clusterId === undefined) return storage
    log.warn({}, 'rejoin is not followed: what this directory holds is not damaged. Take it away')
    return storage
  } catch (error) {
    if (!(error instanceof CorruptLogError || error instanceof CorruptStateError)) throw error
    damage = error.what
    replaced = await DiskLogStore.startOver(engine)
  }
  const fields = { damage, replaced: replaced ?? null }
  log.warn(fields, 'GAVE UP A DAMAGED STORE: this node comes back empty, under a new id')
  return open()
}
