/*
 * What INFO counts of a node's keyspace, since the start of the process or the last CONFIG RESETSTAT. It decides
 * nothing, and other nodes have other counts.
 */

export class KeyspaceCounts {
  /** Keys that reads asked this node for and found, or not; one that is due is not there. */
  hits = 0
  misses = 0
  /** Keys that were removed because their time had come. */
  expired = 0
  /** Commands of other nodes' clients, but for entries of heavy writes; no figure of INFO, and never reset. */
  strangers = 0

  reset(): void {
    this.hits = 0
    this.misses = 0
    this.expired = 0
  }
}
