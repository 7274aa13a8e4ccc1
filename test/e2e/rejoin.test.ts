/*
 * A byte of the log changes on a node's disk: the node refuses to start and says what to do; with --rejoin it comes back
 * empty and takes the place of the one it was, in one membership change, while clients go on.
 */

import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { until } from '../processes.ts'
import { Cluster, showingLogs, successful } from './cluster.ts'
import { turnBit } from './damage.ts'
import { voters } from './growth.ts'
import { Workload } from './workload.ts'

const VALUE = 'a value that lies in the log once and is found there'

test('a node with a damaged log comes back empty, in the place of the one it was', async (context) => {
  const cluster = await Cluster.start({ nodes: 3 })
  context.after(() => cluster.end())
  await showingLogs(
    () => cluster,
    async () => {
      const [victim, other] = await cluster.followers()
      assert.ok(victim && other)
      const old = (await victim.status())?.nodeId ?? ''
      const rest = cluster.nodes.filter((node) => node !== victim)
      const workload = new Workload({ nodes: rest, writersPerNode: 2, name: 'rejoin' })
      workload.start()
      // However this ends, nobody writes on.
      context.after(() => workload.stop())
      await until('some writes', () => workload.acknowledged >= 200)
      successful(await victim.ask('SET', 'precious', VALUE))
      await cluster.caughtUp(victim)
      await victim.kill()
      turnBit(join(victim.dir, 'log', 'data.mdb'), VALUE)

      victim.start()
      assert.deepEqual(await victim.end(), { code: 1, signal: null })
      assert.match(victim.output, /entry \d+ of the log is damaged.*must not vote again/)
      assert.match(victim.output, /start it with --rejoin host:peerport of another member/)

      const rejoin = ['--rejoin', `${other.host}:${other.peerPort}`]
      victim.start({ flags: rejoin })
      await victim.prints('GAVE UP A DAMAGED STORE')
      await victim.ready()
      const id = (await victim.status())?.nodeId ?? ''
      assert.notEqual(id, old)
      for (const node of cluster.nodes) {
        await until(`${node.name} knows the new member`, async () => {
          const ids = (await node.members()).map((member) => member.get('id'))
          return ids.length === 3 && ids.includes(id) && !ids.includes(old)
        })
        assert.equal(await voters(node), 3)
      }
      const changes = cluster.nodes.flatMap(({ output }) => {
        return output.split('\n').filter((line) => line.includes('changing the membership'))
      })
      assert.equal(changes.length, 1, changes.join('\n'))
      await workload.stop()
      await cluster.caughtUp(victim)
      for (const node of cluster.nodes) {
        assert.deepEqual(await workload.verify(node), { lost: [], happened: [], counter: [] })
        assert.equal(`${await node.ask('GET', 'precious')}`, VALUE)
      }
      assert.deepEqual(workload.errors, [])

      // It counts: with the third one away, a majority needs it. The flag that stays does nothing to what is sound.
      await victim.kill()
      victim.start({ flags: rejoin })
      await victim.prints('rejoin is not followed')
      await victim.ready()
      await other.kill()
      await victim.ready()
      successful(await victim.ask('SET', 'after', 'yes'))
      assert.equal((await victim.status())?.nodeId, id)
    },
  )(context)
})
