/*
 * A network of its own for every node, for runs as root: anonymous network namespaces, each held open by a small
 * process, joined by a bridge inside the namespace of the run itself. Nothing has a name on this machine, so nothing
 * is left behind: when the processes have ended, the kernel takes it all away.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { readlinkSync } from 'node:fs'
import { until } from '../processes.ts'

const BRIDGE = 'br0'
const NETWORK = '10.77.0'
const PREFIX = 24
const OWN_HOST = 254
/** Of the proxy in front of a node; the node itself is at its number + 1. */
const PROXY_FIRST = 100

/** Where a node's peers think it is: on the bridge, at its proxy. */
export function proxyHost(node: number): string {
  return `${NETWORK}.${PROXY_FIRST + node}`
}

export function nodeHost(node: number): string {
  return `${NETWORK}.${node + 1}`
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

export class Namespaces {
  readonly #holders: ChildProcess[] = []

  /** This process must be in a network namespace made for the run. */
  async open(nodes: number): Promise<void> {
    ip('link', 'set', 'lo', 'up')
    ip('link', 'add', BRIDGE, 'type', 'bridge')
    ip('addr', 'add', `${NETWORK}.${OWN_HOST}/${PREFIX}`, 'dev', BRIDGE)
    for (let node = 0; node < nodes; node++) {
      ip('addr', 'add', `${proxyHost(node)}/${PREFIX}`, 'dev', BRIDGE)
    }
    ip('link', 'set', BRIDGE, 'up')
    for (let node = 0; node < nodes; node++) await this.#add(node)
  }

  async #add(node: number): Promise<void> {
    // It ends with its standard input, and so with this process, however that ends.
    const holder = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] })
    this.#holders.push(holder)
    const own = readlinkSync('/proc/self/ns/net')
    await until('a network namespace', () => {
      try {
        return readlinkSync(`/proc/${holder.pid}/ns/net`) !== own
      } catch {
        return false
      }
    })
    const pid = String(holder.pid)
    const outside = `h${node}`
    ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pid)
    ip('link', 'set', outside, 'master', BRIDGE)
    ip('link', 'set', outside, 'up')
    this.#inside(node, 'link', 'set', 'lo', 'up')
    this.#inside(node, 'addr', 'add', `${nodeHost(node)}/${PREFIX}`, 'dev', 'eth0')
    this.#inside(node, 'link', 'set', 'eth0', 'up')
  }

  /** The command under which a process runs in the node's namespace. */
  enter(node: number): readonly string[] {
    return ['nsenter', `--net=/proc/${this.#holders[node]?.pid}/ns/net`]
  }

  /** The node's packets to the other's proxy vanish: connections neither end nor move. */
  blackhole(node: number, other: number): void {
    this.#inside(node, 'route', 'replace', 'blackhole', `${proxyHost(other)}/32`)
  }

  /** The whole machine is off the network, for peers and clients. */
  unplug(node: number): void {
    ip('link', 'set', `h${node}`, 'down')
  }

  heal(): void {
    for (const node of this.#holders.keys()) {
      ip('link', 'set', `h${node}`, 'up')
      this.#inside(node, 'route', 'flush', 'type', 'blackhole')
    }
  }

  close(): void {
    for (const holder of this.#holders) holder.stdin?.end()
  }

  #inside(node: number, ...args: readonly string[]): void {
    const [command = '', ...rest] = this.enter(node)
    execFileSync(command, [...rest, 'ip', ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  }
}
