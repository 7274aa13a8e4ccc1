/*
 * From what somebody wrote (command line, environment, file) to a Config, and the error lines on the way: each
 * names the option, the value, where it came from and what is allowed. It reads nothing but what it is given,
 * and keeps nothing.
 */

import {
  assigned,
  Config,
  isOptionName,
  limits,
  type OptionName,
  optionNames,
  options,
  printed,
  reservedVariables,
  type Settings,
} from './config.ts'
import { brokenRules } from './config-rules.ts'
import { OperatorError } from './operator-error.ts'
import { humanBytes } from './option-kinds.ts'
import { type Assignment, fromArguments, fromEnvironment, fromFile } from './option-sources.ts'

const SHOWN_CHARS_MAX = 200
const HIDDEN = '(hidden)'
/** A mistyped password option must not print the password. */
const SECRET_NAME = /pas|pw|secret|auth/

/** What loadConfig reads; `readFile` may throw whatever node:fs throws. */
export interface ConfigInput {
  /** The command line behind the program's name: [file] [--name value ...] */
  readonly argv: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly readFile: (path: string) => string
}

/** Flag beats environment beats file beats default. Throws OperatorError (code CONFIG) with one line. */
export function loadConfig(input: ConfigInput): Config {
  const [first] = input.argv
  const file = first !== undefined && !first.startsWith('--') ? first : ''
  const strongestLast = [
    ...(file === '' ? [] : fromFile(file, readConfigFile(file, input.readFile))),
    ...fromEnvironment(input.environment, reservedVariables),
    ...fromArguments(file === '' ? input.argv : input.argv.slice(1)),
  ]
  const written = new Map<OptionName, { value: string; origin: string }>()
  for (const assignment of strongestLast) {
    const { name, origin } = assignment
    if (!isOptionName(name)) {
      const value = SECRET_NAME.test(name) ? HIDDEN : quoted(assignment.words.join(' '))
      const fault = `unknown option ${quoted(name)} with value ${value} (${origin})`
      throw configError(fault, 'holdfast --help lists all options')
    }
    const before = options[name].kind.addsUp === true ? written.get(name) : undefined
    const value = joined(name, assignment)
    written.set(name, { value: before === undefined ? value : `${before.value} ${value}`, origin })
  }
  const settings = settingsFrom(written)
  const [broken] = brokenRules(settings)
  if (broken !== undefined) {
    const shown = broken.names.map((name) => {
      const value = shownValue(name, printed(settings, name))
      return `${name} ${value} (${written.get(name)?.origin ?? 'default'})`
    })
    throw configError(shown.join(' and '), broken.rule)
  }
  return new Config(settings, file)
}

/** --help: every option with its unit and bounds, its default and its meaning. */
export function describeOptions(): string {
  const lines: string[] = []
  for (const name of optionNames) {
    const option = options[name]
    const text = typeof option.default === 'string' ? option.default : option.defaultHelp
    const live = option.settable ? '; CONFIG SET' : ''
    lines.push(
      `  --${name}  (default: ${text === '' ? "''" : text})`,
      `      ${option.help}`,
      `      [${option.kind.allowed}${live}]`,
    )
  }
  return lines.join('\n')
}

function settingsFrom(
  written: ReadonlyMap<OptionName, { value: string; origin: string }>,
): Settings {
  let settings: Partial<Settings> = {}
  for (const name of optionNames) {
    const option = options[name]
    // A default sees only options above its own, which are set by now.
    const defaultValue =
      typeof option.default === 'string' ? option.default : option.default(complete(settings))
    const { value, origin } = written.get(name) ?? { value: defaultValue, origin: 'default' }
    if (option.kind.addsUp === true) {
      settings = assigned(settings, name, defaultValue) ?? settings
    }
    const next = assigned(settings, name, value)
    if (next === undefined) {
      const allowed = `allowed: ${option.kind.allowed}`
      throw configError(`option ${name}: value ${shownValue(name, value)} (${origin})`, allowed)
    }
    settings = next
  }
  return complete(settings)
}

function joined(name: OptionName, assignment: Assignment): string {
  const { words, origin } = assignment
  const { kind } = options[name]
  if (words.length === 0 || (words.length > 1 && !kind.manyWords)) {
    const count = words.length === 0 ? 'no value' : `${words.length} values`
    throw configError(`option ${name}: ${count} (${origin})`, `allowed: ${kind.allowed}`)
  }
  return words.join(' ')
}

function readConfigFile(file: string, readFile: (path: string) => string): string {
  let content: string
  try {
    content = readFile(file)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new OperatorError('CONFIG', `the configuration file '${file}' cannot be read: ${reason}`)
  }
  if (Buffer.byteLength(content) <= limits.configFileBytesMax) return content
  throw configError(
    `the configuration file '${file}' is too long`,
    `allowed: ${humanBytes(limits.configFileBytesMax)}`,
  )
}

function shownValue(name: OptionName, value: string): string {
  return options[name].secret === true && value !== '' ? HIDDEN : quoted(value)
}

function quoted(value: string): string {
  const { length } = value
  return length <= SHOWN_CHARS_MAX ? `'${value}'` : `'${value.slice(0, SHOWN_CHARS_MAX)}...'`
}

function configError(fault: string, remedy: string): OperatorError {
  return new OperatorError('CONFIG', `${fault}; ${remedy}`)
}

/** Every option stands in the table, so the loop over the table has set them all. */
function complete(settings: Partial<Settings>): Settings {
  return settings as Settings
}
