/*
 * The picture is well-formed whatever clients wrote, says who, what, when and which value, and shows the order.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkHistory } from './check.ts'
import { explain } from './explain.ts'
import { history } from './history-fixture.ts'
import type { Operation } from './operation.ts'
import { draw, textBelow } from './picture.ts'

function pictureOf(operations: readonly Operation[]): string {
  const [violation] = checkHistory(operations).violations
  assert.ok(violation !== undefined)
  return draw(explain(violation))
}

const TAG = /<(\/?)([a-z]+)((?: +[a-zA-Z0-9:-]+="[^"<>&]*")*) ?(\/?)>/y
const TEXT = /(?:[^<>&]|&(?:amp|lt|gt|quot|#39);)+/y

/** The names of the elements. Throws where the text is not well-formed XML of this simple kind. */
function elementsOf(xml: string): readonly string[] {
  const open: string[] = []
  const seen: string[] = []
  let at = 0
  while (at < xml.length) {
    TAG.lastIndex = at
    TEXT.lastIndex = at
    const tag = TAG.exec(xml)
    const text = TEXT.exec(xml)
    assert.ok(tag ?? text, `not XML: ${xml.slice(at, at + 60)}`)
    at = tag === null ? TEXT.lastIndex : TAG.lastIndex
    if (tag === null) continue
    const [, closing, name = '', , empty] = tag
    if (closing === '/') assert.equal(open.pop(), name)
    else {
      seen.push(name)
      if (empty !== '/') open.push(name)
    }
  }
  assert.deepEqual(open, [])
  return seen
}

test('shows who, what, when, which value and the order', () => {
  const svg = pictureOf(
    history('a 0-1 k set 1 → OK | a 2-3 k set 2 → OK | b 6-7 k set 3 → OK | c 5-8 k get → 1'),
  )
  const elements = new Set(elementsOf(svg.replaceAll('\n', ' ').trim()))
  assert.deepEqual([...elements].sort(), ['circle', 'g', 'line', 'rect', 'svg', 'text', 'title'])
  for (const part of [
    'Key &quot;k&quot; is not linearizable',
    'process a',
    'process c',
    'SET &quot;2&quot;',
    '→ &quot;1&quot;  3.000 ms',
    'from 5.000 ms to 8.000 ms',
    'here the value is &quot;2&quot;',
    'fits nowhere: here it could only be answered',
  ]) {
    assert.ok(svg.includes(part), part)
  }
})

test('what clients wrote cannot become markup or control characters', () => {
  const hostile = [
    '</text><script>alert(1)</script>',
    '"\'><img src=x onerror=alert(1)>&amp;<![CDATA[',
    '\u0000\u001b[2J\u007f\u0085\u202e\u2028\ufffe\u{e0001}]]>',
    `<${'long '.repeat(1000)}`,
  ]
  for (const text of hostile) {
    const operations = history('a 0-1 k set x → OK | b 2-3 k get → y | c 2-? k append z').map(
      (operation): Operation => ({
        ...operation,
        process: `${operation.process}${text}`,
        key: text,
        args: operation.args.map(() => text),
        reply: operation.f === 'get' ? `${text}!` : operation.reply,
      }),
    )
    const svg = pictureOf(operations)
    const elements = new Set(elementsOf(svg.replaceAll('\n', ' ').trim()))
    assert.ok(!elements.has('script') && !elements.has('img'))
    assert.doesNotMatch(svg, /[^\n\x20-\x7e\p{L}\p{N}\p{P}\p{S}]/u)
    assert.ok(svg.length < 30_000, `${svg.length}`)
    const [violation] = checkHistory(operations).violations
    assert.ok(violation !== undefined)
    for (const line of textBelow(explain(violation))) assert.doesNotMatch(line, /\p{Cc}|\p{Cf}/u)
  }
})
