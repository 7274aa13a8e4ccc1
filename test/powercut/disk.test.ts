/*
 * The disk's promises, each on its own: what was flushed is in every image, what was not may be missing in whole,
 * in sectors and by name, and nothing else can be found. Last, any history against any cut.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seededRandom } from '../sim/network.ts'
import { Disk, type Image, type Survival, type Write } from './disk.ts'
import { SECTOR_BYTES } from './file-content.ts'
import { survivalOf } from './survival.ts'

const FILE = 'dir/file'
const NOTHING: Survival = { begin: () => {}, sector: () => -1, size: () => 0, name: () => false }
const EVERYTHING: Survival = {
  begin: () => {},
  sector: (_path, _sector, writes) => writes.length - 1,
  size: (_path, sizes) => sizes.length - 1,
  name: () => true,
}

let clock = 0

function write(offset: number, text: string, synchronous = false): Write {
  return { path: FILE, offset, bytes: Buffer.from(text), synchronous, at: clock++ }
}

function written(disk: Disk, one: Write): Write {
  disk.beginWrite(one)
  disk.endWrite(one)
  return one
}

function flush(disk: Disk, path: string): void {
  disk.beginFlush(path).finish()
}

/** With a directory and an empty file that are durable. */
function preparedDisk(): Disk {
  const disk = new Disk()
  disk.makeDirectory('dir')
  disk.makeFile(FILE)
  for (const path of ['', 'dir', FILE]) flush(disk, path)
  return disk
}

function found({ entries }: Image, path = FILE): string | undefined {
  const entry = entries.find((one) => one.path === path)
  return entry?.bytes === undefined ? undefined : Buffer.from(entry.bytes).toString()
}

test('a write without a flush may be lost, with one it is there', () => {
  const disk = preparedDisk()
  const one = written(disk, write(0, 'aaaa'))
  assert.equal(found(disk.cut(EVERYTHING)), 'aaaa')
  const { losses } = disk.cut(NOTHING)
  assert.equal(found(disk.cut(NOTHING)), '')
  assert.deepEqual([losses.pending, losses.dropped, losses.torn], [[one], [one], []])
  flush(disk, FILE)
  assert.equal(found(disk.cut(NOTHING)), 'aaaa')
  assert.deepEqual(disk.cut(NOTHING).losses.pending, [])
})

test('a flush covers only what had returned when it began', () => {
  const disk = preparedDisk()
  const late = write(4, 'bbbb')
  written(disk, write(0, 'aaaa'))
  const running = disk.beginFlush(FILE)
  assert.equal(found(disk.cut(NOTHING)), '')
  written(disk, late)
  running.finish()
  assert.equal(found(disk.cut(NOTHING)), 'aaaa')
  assert.equal(found(disk.cut(EVERYTHING)), 'aaaabbbb')
})

test('a synchronous write is durable when it returns, and not before', () => {
  const disk = preparedDisk()
  written(disk, write(SECTOR_BYTES, 'behind'))
  const one = write(0, 'meta', true)
  disk.beginWrite(one)
  assert.equal(found(disk.cut(NOTHING)), '')
  disk.endWrite(one)
  assert.equal(found(disk.cut(NOTHING)), 'meta')
})

test('a sector is found as it was at one time, never mixed', () => {
  const disk = preparedDisk()
  written(disk, write(0, 'old.old.'))
  flush(disk, FILE)
  written(disk, write(0, 'new.'))
  written(disk, write(4, 'new.'))
  const first: Survival = { ...EVERYTHING, sector: () => 0 }
  assert.equal(found(disk.cut(NOTHING)), 'old.old.')
  assert.equal(found(disk.cut(first)), 'new.old.')
  assert.equal(found(disk.cut(EVERYTHING)), 'new.new.')
})

test('a write over several sectors may be torn between them', () => {
  const disk = preparedDisk()
  const one = written(disk, write(0, 'x'.repeat(2 * SECTOR_BYTES)))
  const image = disk.cut({ ...EVERYTHING, sector: (_path, sector) => (sector === 0 ? -1 : 0) })
  assert.equal(found(image), `${'\0'.repeat(SECTOR_BYTES)}${'x'.repeat(SECTOR_BYTES)}`)
  assert.deepEqual([image.losses.dropped, image.losses.torn], [[], [one]])
})

test('a file may be found shorter than what was written to it, until it is flushed', () => {
  const disk = preparedDisk()
  written(disk, write(0, 'aaaa'))
  flush(disk, FILE)
  written(disk, write(4, 'bbbb'))
  assert.equal(found(disk.cut({ ...EVERYTHING, size: () => 0 })), 'aaaa')
  disk.truncate(FILE, 12)
  assert.equal(found(disk.cut(EVERYTHING)), 'aaaabbbb\0\0\0\0')
  flush(disk, FILE)
  assert.equal(found(disk.cut(NOTHING)), 'aaaabbbb\0\0\0\0')
})

test('a name is durable only when its directory was flushed', () => {
  const disk = new Disk()
  disk.makeDirectory('dir')
  disk.makeFile(FILE)
  written(disk, write(0, 'aaaa'))
  flush(disk, FILE)
  flush(disk, 'dir')
  assert.deepEqual(disk.cut(NOTHING).entries, [])
  assert.deepEqual(disk.cut(NOTHING).losses.names, ['dir'])
  flush(disk, '')
  assert.equal(found(disk.cut(NOTHING)), 'aaaa')
  disk.rename(FILE, 'dir/other')
  disk.makeFile('dir/new')
  assert.equal(found(disk.cut(NOTHING)), 'aaaa')
  assert.equal(found(disk.cut(EVERYTHING)), undefined)
  assert.equal(found(disk.cut(EVERYTHING), 'dir/other'), 'aaaa')
  flush(disk, 'dir')
  disk.remove('dir/other')
  assert.equal(found(disk.cut(NOTHING), 'dir/other'), 'aaaa')
  assert.equal(found(disk.cut(EVERYTHING), 'dir/other'), undefined)
})

test('whatever the history and the cut: flushed bytes are there, and no byte was never written', () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ at: fc.nat(6), length: fc.integer({ min: 1, max: 4 }) }) },
    { weight: 1, arbitrary: fc.constant('flush' as const) },
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.nat(), (history, seed) => {
      const disk = preparedDisk()
      /** Per sector, the letters it may be found with. */
      const allowed = Array.from({ length: 16 }, () => new Set(['\0']))
      for (const [number, one] of history.entries()) {
        if (one === 'flush') {
          flush(disk, FILE)
          for (const letters of allowed) {
            const last = [...letters].at(-1) ?? ''
            letters.clear()
            letters.add(last)
          }
          continue
        }
        const letter = String.fromCharCode(97 + number)
        written(disk, write(one.at * SECTOR_BYTES, letter.repeat(one.length * SECTOR_BYTES)))
        for (let at = one.at; at < one.at + one.length; at++) allowed[at]?.add(letter)
      }
      const bytes = found(disk.cut(survivalOf(seededRandom(seed)))) ?? ''
      for (const [sector, letters] of allowed.entries()) {
        const part = bytes.slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
        const [only = '\0'] = part
        assert.equal(part, only.repeat(part.length), 'a sector is not torn')
        assert.ok(part === '' || letters.has(only), `${only} in sector ${sector}`)
        assert.ok(part !== '' || letters.has('\0'), `sector ${sector} was flushed and is missing`)
      }
    }),
    { numRuns: 300 },
  )
})
