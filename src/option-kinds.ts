/*
 * The kinds of values an option may have: how each is read, printed and described. Pure text in, value out.
 * It knows no option by name (config.ts) and not where a text came from (option-sources.ts). What `print`
 * gives, `parse` reads back as the same value: CONFIG GET and CONFIG SET rely on it.
 */

import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { formatAddress, parseAddress } from './network.ts'

export interface OptionKind<Value> {
  /** What a bad value's error line says is allowed, and --help shows. */
  readonly allowed: string
  /** Why CONFIG SET refuses this value, in Redis' words where Redis has the kind. */
  refusal(text: string): string
  /** True when the value is made of several words, as in redis.conf's `bind 127.0.0.1 ::1`. */
  readonly manyWords: boolean
  /** A text says a part of the value: behind another text, it changes that part of the whole. */
  readonly addsUp?: true
  /** Undefined: not allowed. */
  parse(text: string): Value | undefined
  print(value: Value): string
}

/** An address to listen on; an `optional` one (redis.conf's leading '-') is skipped where the machine lacks it. */
export interface BindAddress {
  readonly host: string
  readonly optional: boolean
}

/** A client is closed above `hardBytes`, or `softSeconds` above `softBytes`; 0: as much as any may have. */
export interface OutputLimit {
  readonly hardBytes: number
  readonly softBytes: number
  readonly softSeconds: number
}

/** Redis' classes of clients, by the names that it prints. There are no clients of class slave here. */
export const outputClasses = ['normal', 'slave', 'pubsub'] as const
export type OutputClass = (typeof outputClasses)[number]
export type OutputLimits = Readonly<Record<OutputClass, OutputLimit>>

const KIB = 1024
const UNITS = new Map([
  ['', 1],
  ['b', 1],
  ['k', 1000],
  ['kb', KIB],
  ['m', 1000 ** 2],
  ['mb', KIB ** 2],
  ['g', 1000 ** 3],
  ['gb', KIB ** 3],
])
const HOST_NAME = /^[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$/

export function integer(bounds: { min: number; max: number; unit: string }): OptionKind<number> {
  const { min, max, unit } = bounds
  return {
    allowed: `${min} to ${max}${unit === '' ? '' : ` ${unit}`}`,
    refusal: (text) =>
      parseInteger(text) === undefined
        ? "argument couldn't be parsed into an integer"
        : `argument must be between ${min} and ${max} inclusive`,
    manyWords: false,
    parse: (text) => within(parseInteger(text), min, max),
    print: String,
  }
}

/** An amount of memory in bytes, with Redis' units: 1k is 1,000, 1kb is 1,024, and so on; any case. */
export function bytes(bounds: { min: number; max: number }): OptionKind<number> {
  const { min, max } = bounds
  return {
    allowed: `${humanBytes(min)} to ${humanBytes(max)}`,
    refusal: (text) =>
      parseBytes(text) === undefined
        ? 'argument must be a memory value'
        : `argument must be between ${min} and ${max} inclusive`,
    manyWords: false,
    parse: (text) => within(parseBytes(text), min, max),
    print: String,
  }
}

export function boolean(): OptionKind<boolean> {
  return {
    allowed: 'yes or no',
    refusal: () => "argument must be 'yes' or 'no'",
    manyWords: false,
    parse(text) {
      const word = text.toLowerCase()
      return word === 'yes' || word === 'no' ? word === 'yes' : undefined
    },
    print: (value) => (value ? 'yes' : 'no'),
  }
}

export function choice<const Word extends string>(words: readonly Word[]): OptionKind<Word> {
  return {
    allowed: words.join(', '),
    refusal: () => `argument(s) must be one of the following: ${words.join(', ')}`,
    manyWords: false,
    parse: (text) => words.find((word) => word === text.toLowerCase()),
    print: (value) => value,
  }
}

/** Any text without NUL of at most `max` characters; '' stands for "none". */
export function text(bounds: { max: number }): OptionKind<string> {
  return {
    allowed: `up to ${bounds.max} characters`,
    refusal: () => `argument must have at most ${bounds.max} characters`,
    manyWords: false,
    parse: (value) => (value.length <= bounds.max && !value.includes('\0') ? value : undefined),
    print: (value) => value,
  }
}

/** A path, made absolute against the working directory; '' only where `optional`. */
export function path(bounds: { optional: boolean }): OptionKind<string> {
  return {
    allowed: bounds.optional ? "a path, or '' for none" : 'a path',
    refusal: () => 'argument must be a path',
    manyWords: false,
    parse(value) {
      if (value === '') return bounds.optional ? '' : undefined
      return value.length <= 4096 && !value.includes('\0') ? resolve(value) : undefined
    },
    print: (value) => value,
  }
}

/** Redis' bind: up to `max` addresses; '*' is every IPv4 address, '::*' every IPv6 one. */
export function bindAddresses(bounds: { max: number }): OptionKind<readonly BindAddress[]> {
  return {
    allowed: `1 to ${bounds.max} addresses of this machine, such as 127.0.0.1 or -::1 or *`,
    refusal: () => 'argument must be a list of addresses',
    manyWords: true,
    parse(value) {
      const found = words(value).map(parseBindAddress)
      if (found.length < 1 || found.length > bounds.max) return undefined
      const addresses = found.filter((address) => address !== undefined)
      if (addresses.length < found.length) return undefined
      // A bind made of optional addresses alone might leave the server deaf without a word.
      return addresses.some((address) => !address.optional) ? addresses : undefined
    },
    print: (value) =>
      value.map((address) => (address.optional ? `-${address.host}` : address.host)).join(' '),
  }
}

/** host:port in the one spelling that is compared byte by byte all over the cluster: lower case, no leading zero. */
export function address(): OptionKind<string> {
  return {
    allowed: 'host:port',
    refusal: () => 'argument must be host:port',
    manyWords: false,
    parse(value) {
      const parsed = parseAddress(value)
      if (parsed === undefined || !isHost(parsed.host)) return undefined
      return formatAddress(parsed.host, parsed.port)
    },
    print: (value) => value,
  }
}

/** A list `host:port,host:port,...` without repetition; empty for "none". */
export function addresses(bounds: { max: number }): OptionKind<readonly string[]> {
  const one = address()
  return {
    allowed: `up to ${bounds.max} different host:port, joined by commas`,
    refusal: () => 'argument must be a list of host:port',
    manyWords: false,
    parse(value) {
      if (value === '') return []
      const found = value.split(',').map((part) => one.parse(part.trim()))
      const list = found.filter((part) => part !== undefined)
      const valid = list.length === found.length && list.length <= bounds.max
      return valid && new Set(list).size === list.length ? list : undefined
    },
    print: (value) => value.join(','),
  }
}

/** `<class> <hard bytes> <soft bytes> <soft seconds>` once per class, as in Redis. */
export function outputLimits(bounds: {
  min: number
  max: number
  maxSeconds: number
}): OptionKind<OutputLimits> {
  const { min, max, maxSeconds } = bounds
  const sizes = `${humanBytes(min)} to ${humanBytes(max)} or 0`
  const seconds = integer({ min: 0, max: maxSeconds, unit: '' })
  const size = (text: string): number | undefined => {
    const amount = parseBytes(text)
    return amount === 0 ? 0 : within(amount, min, max)
  }
  return {
    allowed: `normal|replica|pubsub <hard> <soft> <seconds>, ${sizes}, soft <= hard, seconds 0 to ${maxSeconds}`,
    refusal: () =>
      'Error in class, hard, soft or soft_seconds setting in buffer limit configuration.',
    manyWords: true,
    addsUp: true,
    parse(text) {
      const all = words(text)
      const none = { hardBytes: 0, softBytes: 0, softSeconds: 0 }
      const limits: Record<OutputClass, OutputLimit> = { normal: none, slave: none, pubsub: none }
      if (all.length === 0 || all.length % 4 !== 0) return undefined
      for (let at = 0; at < all.length; at += 4) {
        const name = outputClass(all[at] ?? '')
        const hardBytes = size(all[at + 1] ?? '')
        const softBytes = size(all[at + 2] ?? '')
        const softSeconds = seconds.parse(all[at + 3] ?? '')
        if (name === undefined || hardBytes === undefined) return undefined
        if (softBytes === undefined || softSeconds === undefined) return undefined
        if (softBytes > (hardBytes === 0 ? max : hardBytes)) return undefined
        limits[name] = { hardBytes, softBytes, softSeconds }
      }
      return limits
    },
    print: (limits) =>
      outputClasses
        .map((name) => {
          const { hardBytes, softBytes, softSeconds } = limits[name]
          return `${name} ${hardBytes} ${softBytes} ${softSeconds}`
        })
        .join(' '),
  }
}

function outputClass(word: string): OutputClass | undefined {
  const name = word.toLowerCase()
  return outputClasses.find((one) => one === (name === 'replica' ? 'slave' : name))
}

/** The largest unit that divides the amount: 67108864 is "64mb". */
export function humanBytes(amount: number): string {
  for (const unit of ['gb', 'mb', 'kb']) {
    const size = UNITS.get(unit) ?? 1
    if (amount >= size && amount % size === 0) return `${amount / size}${unit}`
  }
  return `${amount} bytes`
}

/** An int64, as a number: beyond 2^53 no option has a meaning for it. */
function parseInteger(text: string): number | undefined {
  if (!/^-?\d{1,19}$/.test(text)) return undefined
  const fits = BigInt.asIntN(64, BigInt(text)) === BigInt(text)
  return fits ? Number(text) : undefined
}

function parseBytes(value: string): number | undefined {
  const match = /^(\d{1,15})([a-z]{0,2})$/.exec(value.toLowerCase())
  if (match === null) return undefined
  const unit = UNITS.get(match[2] ?? '')
  return unit === undefined ? undefined : Number(match[1]) * unit
}

function parseBindAddress(value: string): BindAddress | undefined {
  const optional = value.startsWith('-')
  const name = (optional ? value.slice(1) : value).toLowerCase()
  const host = name === '*' ? '0.0.0.0' : name === '::*' ? '::' : name
  return isHost(host) ? { host, optional } : undefined
}

/** Digits and dots that are no IPv4 address would pass for a host name: refused as the typing error they are. */
function isHost(value: string): boolean {
  return isIP(value) !== 0 || (HOST_NAME.test(value) && !/^[\d.]+$/.test(value))
}

function words(value: string): readonly string[] {
  return value.split(/\s+/).filter((word) => word !== '')
}

function within(value: number | undefined, min: number, max: number): number | undefined {
  return value !== undefined && value >= min && value <= max ? value : undefined
}
