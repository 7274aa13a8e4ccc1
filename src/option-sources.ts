/*
 * Where options come from: the command line, the environment, a file in redis.conf's syntax. Each is turned
 * into the same list of (name, words, origin), the strongest source last, so that the rest of the
 * configuration cannot tell them apart and still every error can name the place to mend.
 */

import { OperatorError } from './operator-error.ts'

/** One option as somebody wrote it. `origin` is for people: "holdfast.conf line 3". */
export interface Assignment {
  readonly name: string
  readonly words: readonly string[]
  readonly origin: string
}

const ENVIRONMENT_PREFIX = 'HOLDFAST_'
const ESCAPES = new Map([
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
  ['b', '\b'],
  ['a', '\x07'],
])

/** Reads `--name value ...` and `--name=value`; words belong to the last flag before them, as in redis-server. */
export function fromArguments(argv: readonly string[]): readonly Assignment[] {
  const assignments: { name: string; words: string[]; origin: string }[] = []
  for (const argument of argv) {
    if (!argument.startsWith('--')) {
      const last = assignments.at(-1)
      if (last === undefined) {
        throw new OperatorError('CONFIG', `'${argument}' (command line) is not an option: --name`)
      }
      last.words.push(argument)
      continue
    }
    const equals = argument.indexOf('=')
    const name = equals === -1 ? argument.slice(2) : argument.slice(2, equals)
    const words = equals === -1 ? [] : [argument.slice(equals + 1)]
    assignments.push({ name: name.toLowerCase(), words, origin: 'command line' })
  }
  return assignments
}

/**
 * Reads HOLDFAST_NAME_WITH_UNDERSCORES. A name that is no option is an error later on, because a mistyped
 * HOLDFAST_REQUIREPASS must not leave a server without its password; `reserved` names are nobody's option.
 */
export function fromEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
  reserved: readonly string[],
): readonly Assignment[] {
  const assignments: Assignment[] = []
  for (const [variable, value] of Object.entries(environment)) {
    if (!variable.startsWith(ENVIRONMENT_PREFIX) || value === undefined) continue
    if (reserved.includes(variable)) continue
    const name = variable.slice(ENVIRONMENT_PREFIX.length).toLowerCase().replaceAll('_', '-')
    assignments.push({ name, words: [value], origin: `environment ${variable}` })
  }
  return assignments
}

/** Reads redis.conf's syntax: a name and its words per line, '#' at the start of a line for a comment. */
export function fromFile(file: string, content: string): readonly Assignment[] {
  const assignments: Assignment[] = []
  for (const [number, line] of content.split('\n').entries()) {
    const origin = `${file} line ${number + 1}`
    const trimmed = line.trim()
    if (trimmed === '' || trimmed.startsWith('#')) continue
    const words = splitWords(trimmed)
    if (words === undefined) {
      throw new OperatorError('CONFIG', `${origin}: quotes are not balanced`)
    }
    const [name = '', ...values] = words
    assignments.push({ name: name.toLowerCase(), words: values, origin })
  }
  return assignments
}

/**
 * Redis' sdssplitargs: words between spaces; "..." with \n \r \t \b \a \xHH and \<any>; '...' with \' only.
 * Undefined when a quote stays open or is followed by anything but a space.
 */
export function splitWords(line: string): readonly string[] | undefined {
  const words: string[] = []
  let at = 0
  while (at < line.length) {
    if (isSpace(line[at])) {
      at++
      continue
    }
    const word = readWord(line, at)
    if (word === undefined) return undefined
    words.push(word.text)
    at = word.end
  }
  return words
}

function readWord(line: string, start: number): { text: string; end: number } | undefined {
  let text = ''
  let at = start
  while (at < line.length && !isSpace(line[at])) {
    const quote = line[at]
    if (quote !== '"' && quote !== "'") {
      text += quote
      at++
      continue
    }
    const quoted = readQuoted(line, at + 1, quote)
    if (quoted === undefined) return undefined
    const after = line[quoted.end]
    if (after !== undefined && !isSpace(after)) return undefined
    return { text: text + quoted.text, end: quoted.end }
  }
  return { text, end: at }
}

/** From behind the opening quote to behind the closing one. */
function readQuoted(
  line: string,
  start: number,
  quote: '"' | "'",
): { text: string; end: number } | undefined {
  let text = ''
  let at = start
  while (at < line.length) {
    const character = line.charAt(at)
    if (character === quote) return { text, end: at + 1 }
    if (character !== '\\' || (quote === "'" && line[at + 1] !== "'")) {
      text += character
      at++
      continue
    }
    const hex = /^x([0-9a-f]{2})/i.exec(line.slice(at + 1, at + 4))
    if (quote === '"' && hex?.[1] !== undefined) {
      text += String.fromCharCode(Number.parseInt(hex[1], 16))
      at += 4
      continue
    }
    const escaped = line.charAt(at + 1)
    text += quote === '"' ? (ESCAPES.get(escaped) ?? escaped) : escaped
    at += 2
  }
  return undefined
}

function isSpace(character: string | undefined): boolean {
  return character !== undefined && /\s/.test(character)
}
