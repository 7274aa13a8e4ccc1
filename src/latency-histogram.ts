/*
 * How long something took, many times over: counts in buckets that grow with the value, so that a percentile is
 * right within a sixteenth of it, in a few kilobytes however much is recorded. It knows no clock and no command.
 */

/** Buckets per doubling, as a power of two. */
const PRECISION_BITS = 4
const PRECISION = 2 ** PRECISION_BITS
/** Above 2^40 microseconds, 12 days, everything is alike. */
const EXPONENT_MAX = 40
const INT32_END = 2 ** 31
const BUCKETS = (EXPONENT_MAX - PRECISION_BITS + 2) * PRECISION

export class LatencyHistogram {
  readonly #counts = new Uint32Array(BUCKETS)
  #count = 0

  get count(): number {
    return this.#count
  }

  /** In whole microseconds; part of one counts as one. */
  record(micros: number): void {
    const bucket = bucketOf(Math.max(0, Math.ceil(micros)))
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
    this.#count++
  }

  /** The least value (of its bucket the largest) that so many percent of all do not exceed; 0 when there is none. */
  percentile(percent: number): number {
    const wanted = Math.ceil((percent / 100) * this.#count)
    let seen = 0
    for (const [bucket, count] of this.#counts.entries()) {
      seen += count
      if (count > 0 && seen >= wanted) return upperEnd(bucket)
    }
    return 0
  }

  /** Powers of two in microseconds, with how many took no longer; only those that differ from the one before. */
  *doublings(): Iterable<readonly [micros: number, count: number]> {
    let seen = 0
    let limit = 1
    let before = 0
    for (const [bucket, count] of this.#counts.entries()) {
      while (upperEnd(bucket) > limit) {
        if (seen > before) yield [limit, seen]
        before = seen
        limit *= 2
      }
      seen += count
    }
    if (seen > before) yield [limit, seen]
  }
}

/** Values below PRECISION have a bucket each; beyond, PRECISION buckets share each doubling. */
function bucketOf(micros: number): number {
  if (micros < PRECISION) return micros
  if (micros < INT32_END) {
    // Every command comes by here: whole numbers alone, without a logarithm and a power.
    const doublings = 31 - Math.clz32(micros) - PRECISION_BITS
    return doublings * PRECISION + (micros >>> doublings)
  }
  const exponent = Math.floor(Math.log2(micros))
  if (exponent > EXPONENT_MAX) return BUCKETS - 1
  const within = Math.floor(micros / 2 ** (exponent - PRECISION_BITS)) - PRECISION
  return Math.min(BUCKETS - 1, (exponent - PRECISION_BITS + 1) * PRECISION + within)
}

function upperEnd(bucket: number): number {
  if (bucket < PRECISION) return bucket
  const exponent = Math.floor(bucket / PRECISION) + PRECISION_BITS - 1
  const width = 2 ** (exponent - PRECISION_BITS)
  return 2 ** exponent + ((bucket % PRECISION) + 1) * width - 1
}
