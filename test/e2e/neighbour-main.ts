/*
 * A client that behaves, as a process of its own, so that nothing of the test holds it up: SET and GET in turn at the
 * port that is its argument, until its standard input ends. Then it prints how long each took, in ms, as JSON.
 */

import { lapse } from '../processes.ts'
import { RespClient, textOf } from './resp-client.ts'

const PAUSE_MS = 1

let over = false
process.stdin.once('end', () => {
  over = true
})
process.stdin.resume()

const client = await RespClient.connect(Number(process.argv[2]))
const taken: number[] = []
process.stdout.write('ready\n')
for (let round = 0; !over; round++) {
  const from = performance.now()
  const reply =
    round % 2 === 0
      ? await client.call('SET', 'neighbour', round)
      : await client.call('GET', 'neighbour')
  taken.push(performance.now() - from)
  const wanted = round % 2 === 0 ? 'OK' : String(round - 1)
  if (textOf(reply) !== wanted) throw new Error(`${textOf(reply)} instead of ${wanted}`)
  await lapse(PAUSE_MS)
}
client.close()
process.stdout.write(`${JSON.stringify(taken)}\n`)
