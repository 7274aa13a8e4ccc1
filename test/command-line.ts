/*
 * The one way from the command line to what a script does, for everything that `npm run` starts. A script's header is
 * its help: --help prints it, and whatever was typed wrong gets one line and the header. What an operator can mend
 * otherwise (src/operator-error.ts) gets one line; only a bug shows its stack. This knows no script and no option.
 */

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { OperatorError, operatorLine } from '../src/operator-error.ts'

/** Exit code of a script that was called wrongly; 1 says that what it looked at is not as it must be. */
const CALLED_WRONGLY = 2
/** Beyond it numbers are not exact. */
const MOST = Number.MAX_SAFE_INTEGER

type Options = NonNullable<ParseArgsConfig['options']>

/** What stands on the command line, by node:util's parseArgs. */
export type CommandLine<T extends Options> = ReturnType<
  typeof parseArgs<{ readonly options: T; readonly allowPositionals: true }>
>

/** The script was called wrongly; `message` says what is wrong with which word, and what is allowed. */
export function calledWrongly(message: string): OperatorError {
  return new OperatorError('OPTION', message)
}

/** The words behind the script's name as they were typed, for a script that starts itself again. */
export function typedWords(): readonly string[] {
  return process.argv.slice(2)
}

interface Bounds {
  readonly least?: number
  /** Less than the value, where no `least` is. */
  readonly above?: number
  readonly most?: number
  readonly whole?: boolean
}

/** The value of the option `--name`; throws what calledWrongly() makes where `text` is no number within the bounds. */
export function numberFrom(name: string, text: string, bounds: Bounds): number {
  const { least, above, most, whole = false } = bounds
  const value = text.trim() === '' ? Number.NaN : Number(text)
  const isWithin =
    value >= (least ?? -Infinity) && value > (above ?? -Infinity) && value <= (most ?? MOST)
  if (isWithin && (!whole || Number.isInteger(value))) return value
  const words = [
    whole ? 'a whole number' : 'a number',
    ...(least === undefined ? [] : [most === undefined ? `from ${least} on` : `from ${least}`]),
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(most === undefined ? [] : [`to ${most}`]),
  ]
  throw calledWrongly(`--${name} takes ${words.join(' ')}, not '${text}'`)
}

/**
 * Runs the script at `url`: `main` is given what stands on the command line, by the options of node:util's parseArgs
 * and, if the script takes `words`, the words beside them. What it gives is the exit code; undefined leaves that as it
 * is. The error of a bug goes on to whoever called, with its stack.
 */
export async function runScript<const T extends Options>(
  { url, options, words = false }: { url: string; options: T; words?: boolean },
  main: (line: CommandLine<T>) => number | undefined | Promise<number | undefined>,
): Promise<void> {
  const header = headerOf(fileURLToPath(url))
  if (typedWords().includes('--help')) {
    process.stdout.write(`${header}\n`)
    return
  }
  try {
    const code = await main(readCommandLine(options, words))
    if (code !== undefined) process.exitCode = code
  } catch (error) {
    const line = operatorLine(error)
    if (line === undefined) throw error
    const isOption = error instanceof OperatorError && error.code === 'OPTION'
    process.exitCode = isOption ? CALLED_WRONGLY : 1
    process.stderr.write(`${nameIn(header)}: ${line}\n${isOption ? `\n${header}\n` : ''}`)
  }
}

/**
 * SIGINT and SIGTERM end this process by way of its 'exit' handlers, which end what it has started. Each time they come:
 * npm hands on what the terminal sends as well, and a second one must not kill what the first one has begun to end.
 */
export function exitOnSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(1))
}

function readCommandLine<T extends Options>(options: T, words: boolean): CommandLine<T> {
  try {
    const line = parseArgs({ args: [...typedWords()], options, allowPositionals: true })
    const [first] = line.positionals
    if (first !== undefined && !words) throw calledWrongly(`'${first}' is no option`)
    return line
  } catch (error) {
    if (!isParseError(error)) throw error
    // Behind its first sentence Node explains how words that begin with a dash could be passed on.
    throw calledWrongly(error.message.replace(/(?:\. |\.\n).*$/s, ''))
  }
}

/** How the script is started: the first `npm ...` in its header. */
function nameIn(header: string): string {
  return /npm (?:run )?[a-z:-]+/.exec(header)?.[0] ?? 'script'
}

/** The comment that a script begins with, without its marks. */
function headerOf(path: string): string {
  const [, header = ''] = /^\/\*\n(.*?)\n \*\//s.exec(readFileSync(path, 'utf8')) ?? []
  return header.replaceAll(/^ \* ?/gm, '')
}

function isParseError(error: unknown): error is Error {
  if (!(error instanceof Error) || !('code' in error)) return false
  return typeof error.code === 'string' && error.code.startsWith('ERR_PARSE_ARGS_')
}
