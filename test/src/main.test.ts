/*
 * The command itself, as a process: what it prints, its exit codes, and that every mistake of an operator is one
 * line on standard error.
 */

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireDataLock } from '../../src/data-lock.ts'
import { accepts, Child, freePorts, temporaryDirectory, until } from '../processes.ts'

/** A node's first answer may take an engine's start and a first election on a busy machine. */
const START_TIMEOUT_MS = 20_000

interface Result {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function holdfast(
  context: TestContext,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Result> {
  const cwd = temporaryDirectory(context)
  const child = new Child(context, 'src/main.js', args, { environment, cwd })
  const { code } = await child.end(START_TIMEOUT_MS)
  return { code, stdout: child.stdout, stderr: child.stderr }
}

test('--version and --help', async (context) => {
  const manifest: { version: string } = JSON.parse(
    readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
  )
  assert.deepEqual(await holdfast(context, ['--version']), {
    code: 0,
    stdout: `holdfast ${manifest.version}\n`,
    stderr: '',
  })
  const help = await holdfast(context, ['--help'])
  assert.equal(help.code, 0)
  assert.equal(help.stderr, '')
  assert.match(help.stdout, /^holdfast \d/)
  assert.match(help.stdout, /--election-timeout-ms {2}\(default: 500\)/)
  for (const word of ['-h', 'help']) assert.deepEqual(await holdfast(context, [word]), help)
  assert.match((await holdfast(context, ['-v'])).stdout, /^holdfast \d/)
})

test('a mistake in the options is one line and exit code 1', async (context) => {
  const conf = join(temporaryDirectory(context), 'holdfast.conf')
  writeFileSync(conf, '# mine\nport seven\n')
  const mistakes: readonly (readonly [string[], Record<string, string>, string])[] = [
    [['--prot', '7000'], {}, "unknown option 'prot' with value '7000' (command line)"],
    [['--port', '0'], {}, "option port: value '0' (command line); allowed: 1 to 65535"],
    [
      [],
      { HOLDFAST_REDIRECT: 'ask' },
      "value 'ask' (environment HOLDFAST_REDIRECT); allowed: forward, moved",
    ],
    [[conf], {}, `option port: value 'seven' (${conf} line 2)`],
    [['missing.conf'], {}, "the configuration file 'missing.conf' cannot be read"],
    [['--check', 'nowhere'], {}, "--check: value 'nowhere'; allowed: host:port"],
    [['--check'], {}, "--check: value ''; allowed: host:port"],
    [['--election-timeout-ms', '100'], {}, 'three heartbeats'],
  ]
  const results = await Promise.all(
    mistakes.map(([args, environment]) => holdfast(context, args, environment)),
  )
  for (const [index, { code, stdout, stderr }] of results.entries()) {
    const [args, , line] = mistakes[index] ?? [[], {}, '']
    assert.equal(code, 1, args.join(' '))
    assert.equal(stdout, '')
    assert.match(stderr, /^holdfast: [^\n]+\n$/)
    assert.ok(stderr.includes(line), `${stderr} should contain ${line}`)
  }
})

test('--check tells what the node says, by its exit code too', async (context) => {
  let answer = '+OK\r\n+OK\r\n'
  const received: string[] = []
  const server = createServer((socket) => {
    socket.on('data', (chunk) => {
      received.push(chunk.toString())
      socket.end(answer)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  context.after(() => server.close())
  const target = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const password = ['--requirepass', 'secret']
  assert.deepEqual(await holdfast(context, ['--check', target, ...password]), {
    code: 0,
    stdout: 'OK\n',
    stderr: '',
  })
  assert.match(received.join(''), /^\*2\r\n\$4\r\nAUTH\r\n\$6\r\nsecret\r\n/)
  answer = '-CLUSTERDOWN no leader\r\n'
  assert.deepEqual(await holdfast(context, [`--check=${target}`]), {
    code: 1,
    stdout: 'CLUSTERDOWN no leader\n',
    stderr: '',
  })
})

async function node(
  context: TestContext,
  args: readonly string[],
): Promise<{ child: Child; port: number; dir: string }> {
  const dir = join(temporaryDirectory(context), 'data')
  const port = await freePorts(1)
  const child = new Child(context, 'src/main.js', ['--port', `${port}`, '--dir', dir, ...args])
  const serves = async (): Promise<boolean> => child.ended !== undefined || (await accepts(port))
  await until('the client port', serves, START_TIMEOUT_MS)
  assert.equal(child.ended, undefined, child.stderr + child.stdout)
  return { child, port, dir }
}

test('one node alone is ready, and stops in order on SIGTERM and SIGINT', async (context) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { child, port } = await node(context, [])
    await until(
      'a node that is ready',
      async () => (await holdfast(context, ['--check', `127.0.0.1:${port}`])).code === 0,
      START_TIMEOUT_MS,
    )
    child.kill(signal)
    assert.deepEqual(await child.end(), { code: 0, signal: null }, child.stdout)
    assert.equal(child.stderr, '')
    for (const line of child.stdout.trim().split('\n')) JSON.parse(line)
    assert.equal((await holdfast(context, ['--check', `127.0.0.1:${port}`])).code, 1)
  }
})

test('the end of standard input stops a node only for scripts/cluster.ts', async (context) => {
  const { child } = await node(context, [])
  child.closeStdin()
  const { child: second, dir } = await node(context, [])
  assert.equal(child.ended, undefined)
  second.kill('SIGKILL')
  await second.end()
  const args = ['--port', `${await freePorts(1)}`, '--dir', dir]
  const environment = { HOLDFAST_STOP_WITH_STDIN: 'yes' }
  const third = new Child(context, 'src/main.js', args, { environment })
  third.closeStdin()
  assert.deepEqual(await third.end(START_TIMEOUT_MS), { code: 0, signal: null }, third.stderr)
})

test('a port in use, a directory in use and one that is none: one line, exit code 1', async (context) => {
  const { child, port, dir } = await node(context, [])
  const elsewhere = join(temporaryDirectory(context), 'data')
  const free = await freePorts(1)
  const file = join(temporaryDirectory(context), 'file')
  writeFileSync(file, '')
  const cases: readonly (readonly [string[], RegExp])[] = [
    [['--port', `${port}`, '--dir', elsewhere], /port is in use|in use by another process/],
    // The second try in that directory fails by the other port.
    [['--port', `${free}`, '--peer-port', `${port}`, '--dir', elsewhere], /in use by another/],
    [['--port', `${free}`, '--dir', dir], new RegExp(`in use by process ${child.pid}`)],
    [['--port', `${free}`, '--dir', file], /data directory \S+ is not a directory/],
  ]
  for (const [args, line] of cases) {
    const { code, stderr } = await holdfast(context, args)
    assert.equal(code, 1, stderr)
    assert.match(stderr, /^holdfast: [^\n]+\n$/)
    assert.match(stderr, line)
  }
  const left = readdirSync(elsewhere).filter((name) => name.startsWith('lock-'))
  assert.deepEqual(left, [], 'a start that fails leaves no lock behind')
  const lock = await acquireDataLock(elsewhere)
  await lock.release()
})
