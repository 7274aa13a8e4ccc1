/*
 * The whole way, short: a real server is recorded through a kill -9 and a restart, some images of it are sound, and
 * those of a server that acknowledges too early are not. `npm run powercut` does the same at length.
 */

import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { temporaryDirectory } from '../processes.ts'
import { needs } from '../tools.ts'
import { PLACES, type Place, runCampaign, type Summary } from './campaign.ts'
import { type RecordOptions, recordNode } from './recording.ts'
import { readTimeline } from './timeline.ts'

const SEED = 1
const SECONDS = 0.5
const IMAGES = 12

async function cutPower(
  context: TestContext,
  lives: RecordOptions['lives'],
  places: readonly Place[],
): Promise<Summary> {
  const folder = temporaryDirectory(context)
  const recording = await recordNode({ folder, seed: SEED, seconds: SECONDS, lives })
  const timeline = await readTimeline(folder, recording)
  return runCampaign({
    ...{ folder, timeline, seed: SEED, images: IMAGES, keep: false, places },
    progress: () => {},
  })
}

test(
  'a server keeps its word over kill -9, restart and power cuts',
  needs('strace'),
  async (context) => {
    const summary = await cutPower(context, [undefined, undefined], PLACES)
    assert.deepEqual(
      summary.failures.map(({ text }) => text),
      [],
    )
    assert.equal(summary.images, IMAGES)
    assert.ok(summary.acknowledged > 100, `${summary.acknowledged} acknowledged`)
  },
)

test('one that acknowledges too early is caught', needs('strace'), async (context) => {
  const fault = 'early-acknowledgement'
  const { failures } = await cutPower(context, [fault], ['anywhere'])
  const kinds = failures.flatMap(({ problems }) => problems.map(({ what }) => what))
  assert.ok(kinds.includes('acknowledged'), `only: ${kinds.join(', ')}`)
})
