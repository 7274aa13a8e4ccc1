/*
 * Whole replicas with clients in virtual time: that three of them become a cluster, agree and answer, and that one
 * seed is one run.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Replicas } from '../sim/replicas.ts'

test('three replicas become a cluster, and each answers for all', async () => {
  const cluster = new Replicas({ seed: 1 })
  await cluster.start()
  const [first, second, third] = cluster.nodes.map((node) => cluster.connect(node))
  assert.ok(first && second && third)
  first.send(['SET', 'a', '1'])
  await cluster.time.until(() => first.unanswered === 0)
  second.send(['GET', 'a'], ['INCR', 'a'], ['GET', 'a'])
  await cluster.time.until(() => second.unanswered === 0)
  third.send(['GET', 'a'])
  await cluster.time.until(() => third.unanswered === 0)
  const replies = [first, second, third].map((c) => c.exchanges.map(({ reply }) => reply))
  assert.deepEqual(replies, [['OK'], ['1', 2, '2'], ['2']])
})
