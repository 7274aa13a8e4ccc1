/*
 * INFO: the node's facts as Redis writes them, section by section. Monitoring tools and clients
 * read these names (`redis_version`, `role`, `loading`), so they are Redis' where it has the fact;
 * a field this server could only make up is not there. Pure text-making over LocalServer's facts.
 */

import type { Observer } from '../observer.ts'
import type {
  InfoFacts,
  LocalServer,
  MemberStatus,
  RaftStatus,
  StorageFacts,
} from './local-server.ts'
import { REDIS_VERSION } from './local-server.ts'
import { clientHost, type Field, known, memberFields, statusFields } from './status.ts'

interface Facts extends InfoFacts {
  readonly raft: RaftStatus
  readonly storage: StorageFacts
  readonly uptimeMs: number
  readonly mode: string
  readonly wall: number
  readonly observer: Observer
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
    ['CPU', cpuFields],
    ['Commandstats', commandFields],
    ['Errorstats', errorFields],
    ['Latencystats', latencyFields],
    ['Cluster', clusterFields],
    ['Keyspace', keyspaceFields],
  ]

const EVERYTHING = ['all', 'everything']
/** As in Redis they are told only when they are asked for. */
const NOT_BY_DEFAULT = ['commandstats', 'latencystats']

/**
 * The text of the named sections (lower case); of Redis' default ones when none is named; '' when none
 * of the names is known.
 */
export function infoText(server: LocalServer, names: readonly string[]): string {
  const everything = names.some((name) => EVERYTHING.includes(name))
  const usual = names.length === 0 || names.includes('default')
  const wanted = sections.filter(([title]) => {
    const name = title.toLowerCase()
    return everything || names.includes(name) || (usual && !NOT_BY_DEFAULT.includes(name))
  })
  if (wanted.length === 0) return ''
  const info = server.info()
  const facts = {
    ...info,
    observer: server.observer,
    raft: server.raft(),
    wall: server.wall(),
    storage: server.storage(),
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
    ['server_time_usec', Math.floor(facts.wall * 1000)],
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
    ['blocked_clients', facts.blockedClients],
    ['monitor_clients', facts.monitors],
  ]
}

/**
 * No key is ever evicted: what has no room in memory is read from disk. The resident memory has mapped pages of the
 * state's file in it, which the kernel takes back when it needs them; what is the process's own stands beside it.
 */
function memoryFields(facts: Facts): readonly Field[] {
  const { storage } = facts
  return [
    ['used_memory', facts.usedMemoryBytes],
    ['used_memory_human', humanBytes(facts.usedMemoryBytes)],
    ['used_memory_rss', facts.residentMemoryBytes],
    ['used_memory_rss_human', humanBytes(facts.residentMemoryBytes)],
    ['used_memory_rss_anon', facts.residentAnonymousBytes],
    ['used_memory_rss_file', facts.residentFileBytes],
    ['used_memory_peak', facts.usedMemoryPeakBytes],
    ['used_memory_peak_human', humanBytes(facts.usedMemoryPeakBytes)],
    ['mem_clients_normal', facts.clientMemoryBytes],
    ['maxmemory_clients', facts.clientMemoryMax],
    ['maxmemory', 0],
    ['maxmemory_human', humanBytes(0)],
    ['maxmemory_policy', 'noeviction'],
    ['mem_memtable', storage.memtableBytes],
    ['mem_memtable_max', storage.memtableBytesMax],
    ['mem_memtable_frozen', storage.frozenBytes],
    ['mem_cache', storage.cacheBytes],
    ['mem_cache_max', storage.cacheBytesMax],
    ['mem_log_cache', storage.logCacheBytes],
    ['mem_views', storage.viewBytes],
  ]
}

/**
 * Clients are let in only when the state is loaded. A checkpoint is what Redis calls an RDB, the log its AOF; a write
 * of either that fails ends the process, so whoever can be asked has none that failed.
 */
function persistenceFields({ storage, raft }: Facts): readonly Field[] {
  const { lastCheckpoint } = storage
  return [
    ['loading', 0],
    ['rdb_changes_since_last_save', storage.changes],
    ['rdb_bgsave_in_progress', storage.checkpointing ? 1 : 0],
    ['rdb_last_save_time', Math.floor(storage.savedAt / 1000)],
    ['rdb_last_bgsave_status', 'ok'],
    [
      'rdb_last_bgsave_time_sec',
      lastCheckpoint ? Math.floor(lastCheckpoint.durationMs / 1000) : -1,
    ],
    ['aof_enabled', 1],
    ['aof_last_write_status', 'ok'],
    ['checkpoint_index', raft.checkpoint],
    ['checkpoint_last_ms', lastCheckpoint && Math.round(lastCheckpoint.durationMs)],
    ['checkpoint_last_writes', lastCheckpoint?.writes],
    ['replay_bytes', storage.bytesToReplay],
    ['state_file_bytes', storage.environmentBytes],
    ['log_bytes', storage.logBytes],
    ['scrub_passes', storage.scrubPasses],
    ['disk_free_bytes', storage.diskFreeBytes],
    ['disk_low', storage.diskLow ? 1 : 0],
  ]
}

function statFields(facts: Facts): readonly Field[] {
  return [
    ['total_connections_received', facts.connectionsReceived],
    ['total_commands_processed', facts.commandsProcessed],
    ['instantaneous_ops_per_sec', Math.round(facts.commandsPerSecond)],
    ['total_net_input_bytes', facts.inputBytes],
    ['total_net_output_bytes', facts.outputBytes],
    ['instantaneous_input_kbps', (facts.inputBytesPerSecond / 1024).toFixed(2)],
    ['instantaneous_output_kbps', (facts.outputBytesPerSecond / 1024).toFixed(2)],
    ['rejected_connections', facts.connectionsRejected],
    ['evicted_clients', facts.connectionsEvicted],
    ['expired_keys', facts.keyspace.expired],
    // What has no room in memory is read from disk.
    ['evicted_keys', 0],
    ['keyspace_hits', facts.keyspace.hits],
    ['keyspace_misses', facts.keyspace.misses],
    ['total_error_replies', facts.observer.errorReplies],
    ['cache_hits', facts.storage.cacheHits],
    ['cache_misses', facts.storage.cacheMisses],
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
      ['master_last_io_seconds_ago', secondsSilent(link) ?? -1],
      ['slave_repl_offset', raft.applied],
      ['connected_slaves', 0],
      ['master_repl_offset', raft.applied],
    ]
  }
  const replicas = raft.members.filter(
    ({ member, connected }) => connected && member.id !== raft.nodeId,
  )
  return [
    ['role', 'master'],
    ['connected_slaves', replicas.length],
    ...replicas.map((one, i): Field => {
      const { host, port } = clientHost(one.member)
      const lag = secondsSilent(one)
      const fields = [
        ['ip', host],
        ['port', port],
        ['state', 'online'],
        ['offset', one.match],
      ] as const
      return [`slave${i}`, inLine([...fields, ['lag', lag]])]
    }),
    ['master_repl_offset', raft.applied],
  ]
}

function secondsSilent(member: MemberStatus | undefined): number | undefined {
  const ms = member?.connected ? member.silentForMs : undefined
  return ms === undefined ? undefined : Math.floor(ms / 1000)
}

function raftFields({ raft }: Facts): readonly Field[] {
  return [
    ...statusFields(raft).map(([name, value]): Field => [`raft_${name}`, value]),
    ...raft.members.map(
      (member, i): Field => [`raft_member${i}`, inLine(memberFields(raft, member))],
    ),
  ]
}

function cpuFields({ systemSeconds, userSeconds }: Facts): readonly Field[] {
  return [
    ['used_cpu_sys', systemSeconds.toFixed(6)],
    ['used_cpu_user', userSeconds.toFixed(6)],
  ]
}

/** A command's time runs from its arrival to its reply. */
function commandFields({ observer }: Facts): readonly Field[] {
  return [...observer.commands].map(([{ name }, { calls, micros, rejected, failed }]): Field => {
    const each = calls === 0 ? 0 : micros / calls
    const fields: readonly Field[] = [
      ['calls', calls],
      ['usec', micros],
      ['usec_per_call', each.toFixed(2)],
      ['rejected_calls', rejected],
      ['failed_calls', failed],
    ]
    return [`cmdstat_${name}`, inLine(fields)]
  })
}

function errorFields({ observer }: Facts): readonly Field[] {
  return [...observer.errors].map(([code, count]): Field => [`errorstat_${code}`, `count=${count}`])
}

function latencyFields({ observer }: Facts): readonly Field[] {
  return [...observer.commands]
    .filter(([, { latency }]) => latency.count > 0)
    .map(([{ name }, { latency }]): Field => {
      const percentiles = [50, 99, 99.9].map((percent): Field => {
        return [`p${percent}`, latency.percentile(percent).toFixed(3)]
      })
      return [`latency_percentiles_usec_${name}`, inLine(percentiles)]
    })
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
