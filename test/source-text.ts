/*
 * Takes a TypeScript source apart into code, comments and texts, just well enough for tidy.test.ts to tell an
 * import from a comment about one. Everything keeps its place: what is taken out leaves spaces, so line numbers
 * stay true.
 */

export interface SourceText {
  /** Without comments; strings, templates and regular expressions are empty between their quotes. */
  readonly code: string
  /** Without comments, strings as they are. */
  readonly codeWithStrings: string
  /** Comments only. */
  readonly comments: string
}

type Part = 'code' | 'string' | 'comment'

/** A slash behind one of these begins a regular expression; behind a value it divides. */
const BEFORE_EXPRESSION = /(?:^|[=(,:[!&|?{};+\-*%<>~^]|\breturn|\btypeof|\bcase|=>)\s*$/

export function splitSource(text: string): SourceText {
  const parts: Record<Part, string> = { code: '', string: '', comment: '' }
  function put(part: Part, piece: string): void {
    const blank = piece.replace(/[^\n]/g, ' ')
    for (const each of ['code', 'string', 'comment'] as const) {
      parts[each] += each === part ? piece : blank
    }
  }
  /** Depth of braces within each `${` that is open. */
  const templates: number[] = []
  let at = text.startsWith('#!') ? text.indexOf('\n') : 0
  put('comment', text.slice(0, at))
  while (at < text.length) {
    const rest = text.slice(at)
    const piece = nextPiece(rest, parts.code, templates)
    put(piece.part, rest.slice(0, piece.length))
    at += piece.length
  }
  const codeWithStrings = [...parts.code].map((character, index) => {
    const inString = parts.string.charAt(index)
    return character === ' ' ? inString : character
  })
  return { code: parts.code, codeWithStrings: codeWithStrings.join(''), comments: parts.comment }
}

function nextPiece(
  rest: string,
  before: string,
  templates: number[],
): { part: Part; length: number } {
  const comment = /^(?:\/\/[^\n]*|\/\*[\s\S]*?\*\/)/.exec(rest)?.[0]
  if (comment !== undefined) return { part: 'comment', length: comment.length }
  const quoted = /^(?:'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*")/.exec(rest)?.[0]
  if (quoted !== undefined) return { part: 'string', length: quoted.length }
  if (rest.startsWith('`')) return templatePiece(rest, templates)
  if (rest.startsWith('/') && BEFORE_EXPRESSION.test(before.slice(-200))) {
    const pattern = /^\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/.exec(rest)?.[0]
    if (pattern !== undefined) return { part: 'string', length: pattern.length }
  }
  const depth = templates.at(-1)
  if (depth !== undefined && rest.startsWith('}') && depth === 0) {
    templates.pop()
    return templatePiece(rest, templates)
  }
  if (depth !== undefined && /^[{}]/.test(rest)) {
    templates[templates.length - 1] = depth + (rest.startsWith('{') ? 1 : -1)
  }
  return { part: 'code', length: 1 }
}

/** From a backtick or the brace that ends a `${...}` to the next one of either kind. */
function templatePiece(rest: string, templates: number[]): { part: Part; length: number } {
  const piece = /^[`}](?:[^`\\$]|\\[\s\S]|\$(?!\{))*(?:`|\$\{)/.exec(rest)?.[0] ?? rest
  if (piece.endsWith('${')) templates.push(0)
  return { part: 'string', length: piece.length }
}

/** The modules a source imports, exports from or loads. */
export function importsOf(source: SourceText): readonly string[] {
  const keywords = source.code.matchAll(/\bfrom\b|\bimport\b(?: ?\()?/g)
  return [...keywords].flatMap(({ index, 0: keyword }) => {
    const after = source.codeWithStrings.slice(index + keyword.length)
    const specifier = /^\s*(['"])([^'"]+)\1/.exec(after)?.[2]
    return specifier === undefined ? [] : [specifier]
  })
}
