/*
 * `npm start` as a user sees it: three real nodes, one line when they have a leader, nodes that are killed, and
 * nothing left behind however it ends.
 */

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { accepts, Child, freePorts, isRunning, temporaryDirectory, until } from '../processes.ts'

const START_TIMEOUT_MS = 30_000
const ANSWER_TIMEOUT_MS = 5000

interface Place {
  readonly port: number
  readonly dir: string
}

async function place(context: TestContext): Promise<Place> {
  return { port: await freePorts(3), dir: join(temporaryDirectory(context), 'data') }
}

function start(context: TestContext, { port, dir }: Place, ...more: readonly string[]): Child {
  const args = ['--port', `${port}`, `--dir=${dir}`, ...more]
  return new Child(context, 'scripts/cluster.js', args)
}

async function ready(cluster: Child): Promise<void> {
  await cluster.prints('Holdfast is ready: ', START_TIMEOUT_MS)
}

/** One inline command; the reply's line, or the text of a bulk; undefined when nobody answers. */
function ask(port: number, command: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    let received = ''
    const socket = connect({ host: '127.0.0.1', port })
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy())
    socket.once('connect', () => socket.write(`${command}\r\n`))
    socket.on('error', () => {})
    socket.once('close', () => resolve(undefined))
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      const [head = '', ...rest] = received.split('\r\n')
      if (rest.length === 0) return
      const bulk = head.startsWith('$') && head !== '$-1'
      const body = rest.join('\r\n')
      if (bulk && body.length < Number(head.slice(1)) + 2) return
      resolve(bulk ? body.slice(0, -2) : head)
      socket.destroy()
    })
  })
}

async function processIds(first: number): Promise<readonly number[]> {
  const texts = await Promise.all([0, 1, 2].map((node) => ask(first + node, 'INFO server')))
  return texts.map((text) => Number(/^process_id:(\d+)\r?$/m.exec(text ?? '')?.[1]))
}

async function nothingLeft(first: number, pids: readonly number[]): Promise<void> {
  await until('the end of every node', () => pids.every((pid) => !isRunning(pid)))
  for (let port = first; port < first + 3; port++) assert.equal(await accepts(port), false)
}

test('starts, answers on every node, survives a kill, stops, and goes on with its data', async (context) => {
  const where = await place(context)
  const { port } = where
  const cluster = start(context, where)
  await ready(cluster)
  const line = cluster.stdout.split('\n')[0] ?? ''
  const ports = `${port}, ${port + 1}, ${port + 2}`
  assert.match(line, new RegExp(`^Holdfast is ready: 3 nodes on 127\\.0\\.0\\.1, ports ${ports}; `))
  assert.match(line, /; node-[123] \(\d+\) leads\. Try: redis-cli -p \d+ set greeting hello$/)
  assert.equal(await ask(port + 1, 'SET greeting hello'), '+OK')
  assert.equal(await ask(port + 2, 'GET greeting'), 'hello')

  const pids = await processIds(port)
  const [, second = 0] = pids
  assert.ok(second > 0, 'INFO names the process')
  process.kill(second, 'SIGKILL')
  await cluster.prints('node-2 has ended (signal SIGKILL): the others go on')
  const writes = async (): Promise<boolean> => (await ask(port, 'SET after kill')) === '+OK'
  await until('a write after the kill', writes, START_TIMEOUT_MS)
  assert.equal(await ask(port + 2, 'GET after'), 'kill')

  cluster.kill('SIGINT')
  assert.deepEqual(await cluster.end(START_TIMEOUT_MS), { code: 0, signal: null })
  assert.match(cluster.stdout, /^SIGINT: stopping$/m)
  assert.equal(cluster.stderr, '')
  await nothingLeft(port, pids)

  const again = start(context, where)
  await ready(again)
  assert.equal(await ask(port + 1, 'GET after'), 'kill')
  const newPids = await processIds(port)
  again.kill('SIGTERM')
  assert.deepEqual(await again.end(START_TIMEOUT_MS), { code: 0, signal: null })
  await nothingLeft(port, newPids)

  const refused = [
    {
      args: ['--nodes', '5'],
      line: /is of a cluster with 3 nodes, not 5; start it with --nodes 3/,
    },
    { args: ['--port', `${port + 1}`], line: /is of a cluster on port \d+, not \d+; start it/ },
  ]
  for (const { args, line: expected } of refused) {
    const other = start(context, where, ...args)
    assert.deepEqual(await other.end(START_TIMEOUT_MS), { code: 1, signal: null })
    assert.match(other.stderr, expected)
    assert.match(other.stderr, /^npm start: [^\n]+\n$/)
  }
})

test('with --restart a killed node comes back; a killed script takes its nodes along', async (context) => {
  const where = await place(context)
  const { port } = where
  const cluster = start(context, where, '--restart')
  await ready(cluster)
  const before = await processIds(port)
  process.kill(before[0] ?? 0, 'SIGKILL')
  await cluster.prints('node-1 has ended (signal SIGKILL): starting it again')
  const serves = async (): Promise<boolean> => (await ask(port, 'RAFT READY')) === '+OK'
  await until('node-1 to be ready again', serves, START_TIMEOUT_MS)
  const pids = await processIds(port)
  assert.notEqual(pids[0], before[0])
  assert.deepEqual(pids.slice(1), before.slice(1))

  cluster.kill('SIGKILL')
  assert.deepEqual(await cluster.end(), { code: null, signal: 'SIGKILL' })
  await nothingLeft(port, pids)
})

test('a second Ctrl-C does not wait for a node that hangs', async (context) => {
  const where = await place(context)
  const cluster = start(context, where)
  await ready(cluster)
  const pids = await processIds(where.port)
  process.kill(pids[0] ?? 0, 'SIGSTOP')
  cluster.kill('SIGINT')
  await cluster.prints('SIGINT: stopping')
  await until('the end of the others', () => pids.slice(1).every((pid) => !isRunning(pid)))
  assert.equal(cluster.ended, undefined)
  cluster.kill('SIGINT')
  assert.deepEqual(await cluster.end(), { code: 0, signal: null })
  await nothingLeft(where.port, pids)
})

test('what cannot work is one line and exit code 1, and leaves nothing behind', async (context) => {
  const where = await place(context)
  const busy = createServer()
  await new Promise<void>((resolve) => {
    busy.listen(where.port + 10_002, '127.0.0.1', resolve)
  })
  context.after(() => busy.close())
  const free: Place = { port: await freePorts(3), dir: where.dir }
  const file = join(temporaryDirectory(context), 'file')
  writeFileSync(file, '')
  const foreign = temporaryDirectory(context)
  mkdirSync(join(foreign, 'photos'))
  const cases: readonly { place: Place; args: readonly string[]; line: RegExp }[] = [
    {
      place: where,
      args: [],
      line: /^npm start: port \d+ is in use by another process \(EADDRINUSE\); /,
    },
    {
      place: { ...free, dir: join(file, 'data') },
      args: [],
      line: /data folder .* is not a directory/,
    },
    { place: { ...free, dir: foreign }, args: [], line: /is not a cluster's \('photos' in it\)/ },
    {
      place: free,
      args: ['--nodes', '10'],
      line: /--nodes takes a whole number from 1 to 9, not '10'/,
    },
    {
      place: free,
      args: ['--port=55534'],
      line: /--port takes a whole number from 1 to 55533, not '55534'/,
    },
    {
      place: free,
      args: ['--nods', '3'],
      line: /Unknown option '--nods'\n\n`npm start`: .* --nodes 3 /s,
    },
    {
      place: free,
      args: ['--dir'],
      line: /Option '--dir <value>' argument missing\n\n`npm start`: /,
    },
  ]
  for (const { place: there, args, line } of cases) {
    const cluster = start(context, there, ...args)
    const code = args.length === 0 ? 1 : 2
    assert.deepEqual(await cluster.end(START_TIMEOUT_MS), { code, signal: null })
    assert.equal(cluster.stdout, '')
    assert.match(cluster.stderr, line)
    // Where the words were wrong the usage follows.
    assert.match(
      cluster.stderr,
      args.length === 0 ? /^npm start: [^\n]+\n$/ : /^npm start: [^\n]+\n\n`/,
    )
  }
  assert.equal(existsSync(where.dir), false)
  assert.deepEqual(readdirSync(foreign), ['photos'])
})
