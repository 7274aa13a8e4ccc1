/*
 * The handshake and connection commands: HELLO, AUTH, SELECT, PING, ECHO, QUIT and CLIENT, on a
 * session without a socket, in both protocols, with the texts that client libraries look for.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mustAuthenticate } from '../../src/commands/connection.ts'
import { FakeServer, following } from './command-fixture.ts'

const OK = '+OK\r\n'
const wrongPass = '-WRONGPASS invalid username-password pair or user is disabled.\r\n'
const syntax = '-ERR syntax error\r\n'
const badName = '-ERR Client names cannot contain spaces, newlines or special characters.\r\n'

function arity(name: string): string {
  return `-ERR wrong number of arguments for '${name}' command\r\n`
}

/** The seven pairs of HELLO for session 1. */
function helloReply(proto: 2 | 3, role: string): string {
  const head = proto === 3 ? '%7' : '*14'
  const bulk = (text: string) => `$${text.length}\r\n${text}\r\n`
  return [
    `${head}\r\n`,
    bulk('server'),
    bulk('redis'),
    bulk('version'),
    bulk('7.2.4'),
    bulk('proto'),
    `:${proto}\r\n`,
    bulk('id'),
    ':1\r\n',
    bulk('mode'),
    bulk('cluster'),
    bulk('role'),
    bulk(role),
    bulk('modules'),
    '*0\r\n',
  ].join('')
}

test('HELLO answers the seven pairs in the protocol it switches to', () => {
  const server = new FakeServer()
  const session = server.connect()
  assert.equal(server.run(session, 'HELLO'), helloReply(2, 'master'))
  assert.equal(server.run(session, 'hello', '3'), helloReply(3, 'master'))
  assert.equal(session.protocol, 3)
  assert.equal(server.run(session, 'HELLO'), helloReply(3, 'master'))
  server.status = following
  assert.equal(server.run(session, 'HELLO', '2'), helloReply(2, 'replica'))
  assert.equal(session.protocol, 2)
})

test('HELLO takes AUTH and SETNAME in one go', () => {
  const server = new FakeServer()
  server.password = 'pw'
  const session = server.connect()
  const reply = server.run(session, 'HELLO', '3', 'auth', 'default', 'pw', 'SetName', 'app')
  assert.equal(reply, helloReply(3, 'master'))
  assert.equal(session.authenticated, true)
  assert.equal(session.name, 'app')
})

test('HELLO refuses in the words that clients look for, and changes nothing', () => {
  const server = new FakeServer()
  const session = server.connect()
  const refusals: readonly (readonly [readonly string[], string])[] = [
    [['4'], '-NOPROTO unsupported protocol version\r\n'],
    [['1'], '-NOPROTO unsupported protocol version\r\n'],
    [['x'], '-ERR Protocol version is not an integer or out of range\r\n'],
    [['3', 'foo'], "-ERR Syntax error in HELLO option 'foo'\r\n"],
    [['3', 'SETNAME'], "-ERR Syntax error in HELLO option 'SETNAME'\r\n"],
    [['3', 'AUTH', 'default'], "-ERR Syntax error in HELLO option 'AUTH'\r\n"],
    [['3', 'SETNAME', 'a b'], badName],
    [['3', 'AUTH', 'nobody', 'x', 'SETNAME', 'app'], wrongPass],
  ]
  for (const [words, reply] of refusals) {
    assert.equal(server.run(session, 'HELLO', ...words), reply, words.join(' '))
  }
  assert.equal(session.protocol, 2)
  assert.equal(session.name, '')
})

test('HELLO without a password where one is set', () => {
  const server = new FakeServer()
  server.password = 'pw'
  const session = server.connect()
  const reply = server.run(session, 'HELLO', '3', 'SETNAME', 'app')
  assert.equal(
    reply,
    '-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time\r\n',
  )
  assert.equal(session.protocol, 2)
  assert.equal(session.name, '')
  assert.equal(server.run(session, 'HELLO', '3', 'AUTH', 'default', 'no'), wrongPass)
  assert.equal(session.authenticated, false)
})

test('AUTH with one and two arguments', () => {
  const server = new FakeServer()
  server.password = 'pw'
  const session = server.connect()
  assert.equal(mustAuthenticate(session, server), true)
  for (const words of [[''], ['PW'], ['pw '], ['default', 'x'], ['other', 'pw'], ['', 'pw']]) {
    assert.equal(server.run(session, 'AUTH', ...words), wrongPass, words.join(' '))
    assert.equal(session.authenticated, false)
  }
  assert.equal(server.run(session, 'AUTH', 'a', 'b', 'c'), syntax)
  assert.equal(server.run(session, 'AUTH'), arity('auth'))
  assert.equal(server.run(session, 'AUTH', 'pw'), OK)
  assert.equal(session.authenticated, true)
  const other = server.connect()
  assert.equal(server.run(other, 'AUTH', 'default', 'pw'), OK)
  assert.equal(mustAuthenticate(other, server), false)
  // A wrong try afterwards costs nothing, as in Redis.
  assert.equal(server.run(other, 'AUTH', 'no'), wrongPass)
  assert.equal(other.authenticated, true)
})

test('AUTH where no password is set', () => {
  const server = new FakeServer()
  const session = server.connect()
  assert.equal(mustAuthenticate(session, server), false)
  assert.equal(
    server.run(session, 'AUTH', 'pw'),
    '-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n',
  )
  assert.equal(server.run(session, 'AUTH', 'default', 'anything'), OK)
  assert.equal(server.run(session, 'AUTH', 'other', 'anything'), wrongPass)
})

test('a password that is taken away opens the connections that waited for it', () => {
  const server = new FakeServer()
  server.password = 'pw'
  const session = server.connect()
  server.password = undefined
  assert.equal(mustAuthenticate(session, server), false)
  assert.equal(server.run(session, 'HELLO', '3'), helloReply(3, 'master'))
})

test('SELECT knows databases 0 to 15', () => {
  const server = new FakeServer()
  const session = server.connect()
  const outOfRange = '-ERR DB index is out of range\r\n'
  const notInt32 = '-ERR value is out of range, value must between -2147483648 and 2147483647\r\n'
  const notInteger = '-ERR value is not an integer or out of range\r\n'
  assert.equal(server.run(session, 'SELECT', '0'), OK)
  assert.equal(server.run(session, 'SELECT', '15'), OK)
  assert.equal(session.database, 15)
  assert.equal(server.run(session, 'SELECT', '16'), outOfRange)
  assert.equal(server.run(session, 'SELECT', '-1'), outOfRange)
  assert.equal(server.run(session, 'SELECT', '3000000000'), notInt32)
  assert.equal(server.run(session, 'SELECT', '-9223372036854775808'), notInt32)
  assert.equal(server.run(session, 'SELECT', '99999999999999999999'), notInteger)
  assert.equal(server.run(session, 'SELECT', 'zero'), notInteger)
  assert.equal(server.run(session, 'SELECT'), arity('select'))
  assert.equal(session.database, 15)
})

test('PING, ECHO and QUIT', () => {
  const server = new FakeServer()
  const session = server.connect()
  assert.equal(server.run(session, 'PING'), '+PONG\r\n')
  assert.equal(server.run(session, 'ping', '\0\xff'), '$2\r\n\0\xff\r\n')
  assert.equal(server.run(session, 'PING', 'a', 'b'), arity('ping'))
  assert.equal(server.run(session, 'ECHO', ''), '$0\r\n\r\n')
  assert.equal(server.run(session, 'ECHO'), arity('echo'))
  assert.equal(session.closeAfterReply, false)
  assert.equal(server.run(session, 'QUIT', 'now'), OK)
  assert.equal(session.closeAfterReply, true)
})

test('CLIENT ID, GETNAME, SETNAME and SETINFO', () => {
  const server = new FakeServer()
  const session = server.connect()
  assert.equal(server.run(session, 'CLIENT', 'ID'), ':1\r\n')
  assert.equal(server.run(session, 'client', 'getname'), '$-1\r\n')
  assert.equal(server.run(session, 'CLIENT', 'SETNAME', 'app'), OK)
  assert.equal(server.run(session, 'CLIENT', 'GETNAME'), '$3\r\napp\r\n')
  for (const name of ['a b', 'a\n', '\x7f', '\xe9']) {
    assert.equal(server.run(session, 'CLIENT', 'SETNAME', name), badName)
  }
  assert.equal(session.name, 'app')
  assert.equal(server.run(session, 'CLIENT', 'SETNAME', ''), OK)
  session.protocol = 3
  assert.equal(server.run(session, 'CLIENT', 'GETNAME'), '_\r\n')
  assert.equal(server.run(session, 'CLIENT', 'SETINFO', 'LIB-NAME', 'redis-py'), OK)
  assert.equal(server.run(session, 'CLIENT', 'SETINFO', 'lib-ver', '8.0'), OK)
  assert.deepEqual([session.libName, session.libVersion], ['redis-py', '8.0'])
  assert.equal(
    server.run(session, 'CLIENT', 'SETINFO', 'lib-foo', 'x'),
    "-ERR Unrecognized option 'lib-foo'\r\n",
  )
  assert.equal(
    server.run(session, 'CLIENT', 'SETINFO', 'Lib-Name', 'a b'),
    '-ERR Lib-Name cannot contain spaces, newlines or special characters.\r\n',
  )
})

test('CLIENT INFO tells what is true of the connection', () => {
  const server = new FakeServer()
  const session = server.connect()
  server.time += 12_900
  session.lastCommandAt += 10_000
  session.lastCommand = 'client|info'
  session.inputBytes = 30
  session.outputBytes = 7
  session.memoryBytes = 50
  session.name = 'app'
  session.libName = 'ioredis'
  const line =
    'id=1 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=-1 name=app age=12 idle=2 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=30 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=7 tot-mem=50 events=r cmd=client|info user=default redir=-1 resp=2 lib-name=ioredis lib-ver=\n'
  assert.equal(server.run(session, 'CLIENT', 'INFO'), `$${line.length}\r\n${line}\r\n`)
  session.protocol = 3
  const verbatim = `txt:${line.replace('resp=2', 'resp=3')}`
  assert.equal(server.run(session, 'CLIENT', 'INFO'), `=${verbatim.length}\r\n${verbatim}\r\n`)
})

test('CLIENT LIST, all, by type and by id', () => {
  const server = new FakeServer()
  const session = server.connect()
  server.connect()
  server.connect()
  const ids = (...words: string[]) =>
    [...server.run(session, 'CLIENT', 'LIST', ...words).matchAll(/^id=(\d+) /gm)].map((m) => m[1])
  assert.deepEqual(ids(), ['1', '2', '3'])
  assert.deepEqual(ids('TYPE', 'NORMAL'), ['1', '2', '3'])
  for (const type of ['master', 'replica', 'slave', 'pubsub'])
    assert.deepEqual(ids('type', type), [])
  assert.deepEqual(ids('ID', '3', '1', '9'), ['3', '1'])
  const list = (...words: string[]) => server.run(session, 'CLIENT', 'LIST', ...words)
  assert.equal(list('TYPE', 'foo'), "-ERR Unknown client type 'foo'\r\n")
  assert.equal(list('ID', 'x'), '-ERR Invalid client ID\r\n')
  assert.equal(list('ID', '9'), '$0\r\n\r\n')
  assert.equal(list('TYPE'), syntax)
  assert.equal(list('foo', 'bar'), syntax)
})

test('CLIENT with a subcommand it does not have', () => {
  const server = new FakeServer()
  const session = server.connect()
  const run = (...words: string[]) => server.run(session, 'CLIENT', ...words)
  assert.equal(run(), arity('client'))
  assert.equal(run('FOO'), "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n")
  assert.equal(run('SETNAME'), arity('client|setname'))
  assert.equal(run('ID', 'x'), arity('client|id'))
})

test('CLIENT HELP describes every subcommand', () => {
  const server = new FakeServer()
  const help = server.run(server.connect(), 'CLIENT', 'HELP').split('\r\n')
  assert.equal(help[1], '+CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:')
  for (const usage of [
    '+GETNAME',
    '+HELP',
    '+ID',
    '+INFO',
    '+LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <client-id> [ID <client-id> ...]]',
    '+SETINFO (LIB-NAME <libname>|LIB-VER <libver>)',
    '+SETNAME <connection-name>',
  ]) {
    assert.ok(help.includes(usage), usage)
  }
})
