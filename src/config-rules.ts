/*
 * The rules between options, which neither of them can keep alone. Each says what to change, for it becomes an error
 * line of the start or the refusal of a CONFIG SET.
 */

import { isIP } from 'node:net'
import type { OptionName, Settings } from './config.ts'
import { isLoopback, parseAddress } from './network.ts'
import { humanBytes } from './option-kinds.ts'

const MB = 1_048_576

export interface BrokenRule {
  readonly names: readonly [OptionName, ...OptionName[]]
  readonly rule: string
}

/** The rules between options. Each says what to change, for it becomes an error line. */
export function* brokenRules(settings: Settings): Iterable<BrokenRule> {
  if (settings['election-timeout-ms'] < 3 * settings['heartbeat-interval-ms']) {
    const names = ['election-timeout-ms', 'heartbeat-interval-ms'] as const
    yield { names, rule: 'the election timeout must be at least three heartbeats' }
  }
  if (settings['snapshot-log-max'] < settings['log-retain-max']) {
    const names = ['snapshot-log-max', 'log-retain-max'] as const
    yield { names, rule: 'for a snapshot at least as much log must be kept as without one' }
  }
  if (settings['disk-free-leader-min'] > settings['disk-free-min']) {
    const names = ['disk-free-leader-min', 'disk-free-min'] as const
    yield { names, rule: 'a leader hands over only when it refuses writes already' }
  }
  if (settings.port === settings['peer-port']) {
    yield { names: ['port', 'peer-port'], rule: 'clients and peers need different ports' }
  }
  const sentinelPort = settings['sentinel-port']
  if (sentinelPort === settings.port || sentinelPort === settings['peer-port']) {
    const names = ['sentinel-port', 'port', 'peer-port'] as const
    yield { names, rule: 'Sentinel clients need a port of their own' }
  }
  const bulk = settings['proto-max-bulk-len']
  if (settings['client-query-buffer-limit'] < bulk + MB) {
    const names = ['client-query-buffer-limit', 'proto-max-bulk-len'] as const
    yield { names, rule: `the buffer must hold the largest argument and ${humanBytes(MB)} more` }
  }
  const { hardBytes } = settings['client-output-buffer-limit'].normal
  if (hardBytes !== 0 && hardBytes < bulk + MB) {
    const names = ['client-output-buffer-limit', 'proto-max-bulk-len'] as const
    yield { names, rule: `the hard limit must hold the largest value and ${humanBytes(MB)} more` }
  }
  const clients = settings['maxmemory-clients']
  if (clients < settings['client-query-buffer-limit']) {
    const names = ['maxmemory-clients', 'client-query-buffer-limit'] as const
    yield { names, rule: 'the memory of all clients must hold the input of one' }
  }
  const { cluster } = settings
  if (cluster.length > 0 && !cluster.includes(settings['peer-announce'])) {
    const names = ['peer-announce', 'cluster'] as const
    yield { names, rule: 'the list must contain this node as peer-announce spells it' }
  }
  if (cluster.length > 0 && settings.join.length > 0) {
    const rule = 'a node is one of the initial members or joins later, not both'
    yield { names: ['cluster', 'join'], rule }
  }
  if (settings.join.length > 0 && settings.rejoin.length > 0) {
    yield { names: ['join', 'rejoin'], rule: 'a node joins, or comes back, not both' }
  }
  if (settings['protected-mode'] && settings['peer-secret'] === '') {
    const foreign = [...cluster, ...settings.join, ...settings.rejoin].find((member) =>
      isForeign(member),
    )
    if (foreign !== undefined) {
      const rule = `peers such as ${foreign} are refused without peer-secret (or with protected-mode no, accepted unproved)`
      yield { names: ['cluster', 'protected-mode'], rule }
    }
  }
}

/** Certainly another machine. A host name may still turn out to be; then the refused link says so. */
function isForeign(member: string): boolean {
  return isIP(parseAddress(member)?.host ?? '') !== 0 && !isLoopback(member)
}
