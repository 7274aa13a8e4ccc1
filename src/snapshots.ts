/*
 * Snapshots of this node: the sender, the receiver and the source of backups put together with the links, the stores
 * and raft, and how much log is kept for members that are behind. It only connects; each side knows what it does.
 */

import type { RaftNode } from '../raft/node.ts'
import type { LogRetention } from '../raft/ports.ts'
import { BackupSource } from './backup-source.ts'
import type { Checkpoints } from './checkpoints.ts'
import { type Config, limits } from './config.ts'
import type { PeerEvents } from './peer-ports.ts'
import type { Peers } from './peers.ts'
import { whenReady } from './readiness.ts'
import type { ReplicaOptions } from './replica-ports.ts'
import type { Scrub } from './scrub.ts'
import { SnapshotReceiver } from './snapshot-receiver.ts'
import { SnapshotSender } from './snapshot-sender.ts'

export interface SnapshotsOptions {
  readonly replica: ReplicaOptions
  readonly peers: () => Pick<Peers, 'reaches' | 'sendSnapshot'>
  /** undefined until this node is bound to a cluster. */
  readonly raft: () => RaftNode | undefined
  readonly checkpoints: Checkpoints
  readonly scrub: Pick<Scrub, 'replaced'>
  /** The state is another one now. */
  readonly installed: () => void
}

export class Snapshots {
  readonly source: SnapshotSender
  readonly sink: SnapshotReceiver
  readonly backups: BackupSource
  readonly events: Pick<PeerEvents, 'snapshot' | 'snapshotReplied' | 'snapshotLink'>
  readonly retention: LogRetention
  #closed = false

  constructor({ replica, peers, raft, checkpoints, scrub, installed }: SnapshotsOptions) {
    this.source = new SnapshotSender({
      ...replica,
      reaches: (to) => peers().reaches(to),
      send: (to, body) => peers().sendSnapshot(to, body),
      ended: (to, delivered) => raft()?.snapshotEnded(to, delivered),
    })
    this.backups = new BackupSource({
      ...replica,
      checkpoints,
      ready: () =>
        whenReady(limits.backupReadyMs, { ...replica, raft, isStopped: () => this.#closed }),
    })
    this.sink = new SnapshotReceiver({
      ...replica,
      raft,
      checkpoints,
      installed: () => {
        checkpoints.replaced()
        this.backups.giveUp()
        scrub.replaced()
        installed()
      },
    })
    this.events = {
      snapshot: (from, body, reply) => this.sink.received(from, body, reply),
      snapshotReplied: (from, body) => this.source.received(from, body),
      snapshotLink: (to, change) => this.source.linkChanged(to, change),
    }
    this.retention = retentionOf(replica.config, replica.logBytes)
  }

  /** Nothing is sent or received any more; resolves when the state is free. */
  async close(): Promise<void> {
    this.#closed = true
    await this.backups.close()
    await this.source.close()
    await this.sink.close()
  }
}

function retentionOf(config: Config, bytes: () => number): LogRetention {
  return {
    bytes,
    get bytesMax() {
      return config.get('log-retain-max')
    },
    get pinnedBytesMax() {
      return config.get('snapshot-log-max')
    },
  }
}
