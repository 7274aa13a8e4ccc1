import assert from 'node:assert/strict'
import { test } from 'node:test'
import { replyEnd } from './raw-connection.ts'

const REPLIES = [
  '+OK\r\n',
  '-ERR no\r\n',
  ':-12\r\n',
  '$3\r\na\r\n\r\n',
  '$0\r\n\r\n',
  '$-1\r\n',
  '*-1\r\n',
  '*0\r\n',
  '*2\r\n$1\r\na\r\n*1\r\n:1\r\n',
  '%1\r\n+a\r\n~2\r\n_\r\n#t\r\n',
  '|1\r\n+a\r\n+b\r\n*1\r\n,1.5\r\n',
  '>2\r\n+message\r\n=7\r\ntxt:abc\r\n',
]

test('every reply ends where the next one begins, and not before all of it is here', () => {
  const all = Buffer.from(REPLIES.join(''))
  let from = 0
  for (const reply of REPLIES) {
    const end = from + reply.length
    assert.equal(replyEnd(all, from), end, JSON.stringify(reply))
    for (let length = from; length < end; length++) {
      assert.equal(replyEnd(all.subarray(0, length), from), undefined, JSON.stringify(reply))
    }
    from = end
  }
})
