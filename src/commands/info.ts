/*
 * INFO: the node's facts as Redis writes them, section by section. Monitoring tools and clients
 * read these names (`redis_version`, `role`, `loading`), so they are Redis' where it has the fact;
 * a field this server could only make up is not there. Pure text-making over LocalServer's facts.
 */

import type { InfoFacts, LocalServer, RaftStatus } from './local-server.ts'
import { REDIS_VERSION } from './local-server.ts'
import { clientHost, type Field, known, memberFields, statusFields } from './status.ts'

interface Facts extends InfoFacts {
  readonly raft: RaftStatus
  readonly uptimeMs: number
  readonly mode: string
}

/** In the order in which INFO prints them. */
const sections: readonly (readonly [title: string, fields: (facts: Facts) => readonly Field[]])[] =
  [
    ['Server', serverFields],
    ['Clients', clientFields],
    ['Memory', memoryFields],
    ['Persistence', persistenceFields],
    ['Stats', statFields],
    ['Replication', replicationFields],
    ['Raft', raftFields],
    ['Cluster', clusterFields],
    ['Keyspace', keyspaceFields],
  ]

/** Each of these means every section: there is none that is left out for being costly. */
const ALL = ['all', 'everything', 'default']

/**
 * The text of the named sections (lower case); of all when none is named; '' when none of the names
 * is known.
 */
export function infoText(server: LocalServer, names: readonly string[]): string {
  const all = names.length === 0 || names.some((name) => ALL.includes(name))
  const wanted = sections.filter(([title]) => all || names.includes(title.toLowerCase()))
  if (wanted.length === 0) return ''
  const info = server.info()
  const facts = {
    ...info,
    raft: server.raft(),
    uptimeMs: server.now() - info.startedAt,
    mode: server.mode(),
  }
  return wanted
    .map(([title, fields]) => {
      const lines = known(fields(facts)).map(([name, value]) => `${name}:${value}\r\n`)
      return `# ${title}\r\n${lines.join('')}`
    })
    .join('\r\n')
}

function serverFields(facts: Facts): readonly Field[] {
  const seconds = Math.floor(facts.uptimeMs / 1000)
  return [
    ['redis_version', REDIS_VERSION],
    ['holdfast_version', facts.holdfastVersion],
    ['node_version', facts.nodeVersion],
    ['redis_mode', facts.mode],
    ['os', facts.operatingSystem],
    ['process_id', facts.processId],
    ['run_id', facts.raft.nodeId],
    ['tcp_port', facts.port],
    ['uptime_in_seconds', seconds],
    ['uptime_in_days', Math.floor(seconds / 86_400)],
    ['executable', facts.executable],
    ['config_file', facts.configFile],
  ]
}

function clientFields(facts: Facts): readonly Field[] {
  return [
    ['connected_clients', facts.connectedClients],
    ['maxclients', facts.maxClients],
  ]
}

/** Nothing is ever evicted and memory has no configured limit. */
function memoryFields(facts: Facts): readonly Field[] {
  return [
    ['used_memory', facts.usedMemoryBytes],
    ['used_memory_human', humanBytes(facts.usedMemoryBytes)],
    ['used_memory_rss', facts.residentMemoryBytes],
    ['used_memory_rss_human', humanBytes(facts.residentMemoryBytes)],
    ['used_memory_peak', facts.usedMemoryPeakBytes],
    ['used_memory_peak_human', humanBytes(facts.usedMemoryPeakBytes)],
    ['maxmemory', 0],
    ['maxmemory_human', humanBytes(0)],
    ['maxmemory_policy', 'noeviction'],
  ]
}

/** Clients are let in only when the state is loaded. */
function persistenceFields(): readonly Field[] {
  return [['loading', 0]]
}

function statFields(facts: Facts): readonly Field[] {
  return [
    ['total_connections_received', facts.connectionsReceived],
    ['rejected_connections', facts.connectionsRejected],
    ['total_commands_processed', facts.commandsProcessed],
    ['total_net_input_bytes', facts.inputBytes],
    ['total_net_output_bytes', facts.outputBytes],
  ]
}

/**
 * Raft in the words of replication: whoever does not lead is a replica, of no master while nobody
 * leads.
 */
function replicationFields({ raft }: Facts): readonly Field[] {
  const { leader } = raft
  if (raft.role !== 'leader') {
    const master = leader === undefined ? undefined : clientHost(leader)
    const link = raft.members.find(({ member }) => member.id === leader?.id)
    return [
      ['role', 'slave'],
      ['master_host', master?.host],
      ['master_port', master?.port],
      ['master_link_status', link?.connected ? 'up' : 'down'],
      ['slave_repl_offset', raft.applied],
      ['master_repl_offset', raft.applied],
    ]
  }
  const replicas = raft.members.filter(
    ({ member, connected }) => connected && member.id !== raft.nodeId,
  )
  return [
    ['role', 'master'],
    ['connected_slaves', replicas.length],
    ...replicas.map(({ member, match, silentForMs }, i): Field => {
      const { host, port } = clientHost(member)
      const lag =
        silentForMs === undefined ? [] : [['lag', Math.floor(silentForMs / 1000)] as const]
      return [
        `slave${i}`,
        inLine([['ip', host], ['port', port], ['state', 'online'], ['offset', match], ...lag]),
      ]
    }),
    ['master_repl_offset', raft.applied],
  ]
}

function raftFields({ raft }: Facts): readonly Field[] {
  return [
    ...statusFields(raft).map(([name, value]): Field => [`raft_${name}`, value]),
    ...raft.members.map(
      (member, i): Field => [`raft_member${i}`, inLine(memberFields(raft, member))],
    ),
  ]
}

function clusterFields({ mode }: Facts): readonly Field[] {
  return [['cluster_enabled', mode === 'cluster' ? 1 : 0]]
}

/** A database without keys has no line. */
function keyspaceFields({ databases }: Facts): readonly Field[] {
  return databases.flatMap(({ keys, expires, averageTtlMs }, database): readonly Field[] => {
    if (keys === 0) return []
    const fields: readonly Field[] = [
      ['keys', keys],
      ['expires', expires],
      ['avg_ttl', averageTtlMs],
    ]
    return [[`db${database}`, inLine(fields)]]
  })
}

function inLine(fields: readonly Field[]): string {
  return known(fields)
    .map(([name, value]) => `${name}=${value}`)
    .join(',')
}

/** Redis' way of writing bytes for people: two decimals from a kilobyte on. */
function humanBytes(bytes: number): string {
  const units = ['K', 'M', 'G', 'T']
  if (bytes < 1024) return `${bytes}B`
  let value = bytes / 1024
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit++
  }
  return `${value.toFixed(2)}${units[unit]}`
}
