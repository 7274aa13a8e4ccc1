/*
 * What happened, as a hash of all of it and as readable text of its end. The hash is what two runs of one seed must
 * have in common; the text is made only when somebody wants to read it.
 */

const KEPT = 400

interface Line {
  readonly event: number
  readonly at: number
  readonly who: string
  readonly what: string
  readonly detail: () => string
}

/** One number of 32 bits from another and a number. */
export function mix(hash: number, value: number): number {
  const folded = (Math.imul(value | 0, 0x9e3779b1) ^ Math.floor(value / 4_294_967_296)) | 0
  const bits = Math.imul(hash ^ folded, 0x85ebca6b)
  return (bits ^ (bits >>> 13)) | 0
}

export class Trace {
  /** Events so far: the number that a failure names. */
  events = 0
  #hash = 0x5eed
  #now = 0
  #lines: Line[] = []
  readonly #words = new Map<string, number>()

  /** An event of the simulation begins. */
  next(now: number): void {
    this.events++
    this.#now = now
    this.#hash = mix(this.#hash, Math.floor(now * 1000))
  }

  /** `values` and the words are part of the hash; `detail` is text for the transcript only. */
  note(who: string, what: string, values: readonly number[], detail: () => string): void {
    let hash = mix(mix(this.#hash, this.#word(who)), this.#word(what))
    for (const value of values) hash = mix(hash, value)
    this.#hash = hash
    this.#lines.push({ event: this.events, at: this.#now, who, what, detail })
    if (this.#lines.length > 2 * KEPT) this.#lines = this.#lines.slice(-KEPT)
  }

  get hash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0')
  }

  /** The last `count` lines: event number, simulated ms, who, what. */
  transcript(count: number = KEPT): string {
    const lines = this.#lines.slice(-count).map(({ event, at, who, what, detail }) => {
      const place = `${String(event).padStart(8)} ${at.toFixed(2).padStart(12)}`
      return `${place}  ${who.padEnd(10)} ${what.padEnd(16)} ${detail()}`
    })
    return lines.join('\n')
  }

  /** A number for a word that is the same in every run: the order in which words first appear. */
  #word(text: string): number {
    let number = this.#words.get(text)
    if (number === undefined) {
      number = this.#words.size + 1
      this.#words.set(text, number)
    }
    return number
  }
}
