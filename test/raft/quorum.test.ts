/* Majorities against their definition: counting, sorting and set intersection done the slow way. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { countVotes, hasQuorum, majority, quorumIndex } from '../../raft/quorum.ts'

test('a majority is more than half, so any two of them share a member', () => {
  for (let voters = 1; voters <= 9; voters++) {
    assert.ok(2 * majority(voters) > voters)
    assert.ok(2 * (majority(voters) - 1) <= voters, 'and the smallest such number')
  }
})

test('the quorum index is the highest that a majority has reached', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(20), { minLength: 1, maxLength: 9 }), (matches) => {
      const voters = matches.map((_, at) => `${at}`)
      const index = quorumIndex([voters], (voter) => matches[Number(voter)] ?? 0)
      const reached = (wanted: number): number => matches.filter((match) => match >= wanted).length
      assert.ok(2 * reached(index) > voters.length)
      assert.ok(2 * reached(index + 1) <= voters.length)
    }),
    { seed: 1 },
  )
})

test('an election is won by a majority of grants and lost when that can no longer be', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(true, false, undefined), { maxLength: 9 }), (answers) => {
      const voters = answers.map((_, at) => `${at}`)
      const votes = new Map([['stranger', true]])
      answers.forEach((answer, at) => {
        if (answer !== undefined) votes.set(`${at}`, answer)
      })
      const granted = answers.filter((answer) => answer === true).length
      const refused = answers.filter((answer) => answer === false).length
      const won = 2 * granted > voters.length
      const lost = 2 * (voters.length - refused) <= voters.length
      assert.equal(countVotes([voters], votes), won ? 'won' : lost ? 'lost' : 'pending')
      assert.equal(
        hasQuorum([voters], (voter) => votes.get(voter) === true),
        won,
      )
    }),
    { seed: 1 },
  )
})

test('nobody has no majority', () => {
  for (const none of [[], [[]], [['1'], []]]) {
    assert.equal(
      hasQuorum(none, () => true),
      false,
    )
    assert.equal(
      quorumIndex(none, () => 9),
      0,
    )
    assert.equal(countVotes(none, new Map([['1', true]])), 'lost')
  }
})

test('two sets decide only together: each of them has a majority of its own', () => {
  const set = fc.uniqueArray(fc.constantFrom('1', '2', '3', '4', '5', '6', '7'), { minLength: 1 })
  const answers = fc.dictionary(fc.constantFrom('1', '2', '3', '4', '5', '6', '7'), fc.boolean())
  const matches = fc.array(fc.nat(20), { minLength: 8, maxLength: 8 })
  fc.assert(
    fc.property(set, set, answers, matches, (old, next, given, at) => {
      const votes = new Map(Object.entries(given))
      const results = [old, next].map((voters) => countVotes([voters], votes))
      const joint = countVotes([old, next], votes)
      if (results.includes('lost')) assert.equal(joint, 'lost')
      else assert.equal(joint, results.includes('pending') ? 'pending' : 'won')
      assert.equal(
        hasQuorum([old, next], (voter) => votes.get(voter) === true),
        results.every((result) => result === 'won'),
      )
      const match = (voter: string): number => at[Number(voter)] ?? 0
      assert.equal(
        quorumIndex([old, next], match),
        Math.min(quorumIndex([old], match), quorumIndex([next], match)),
      )
    }),
    { seed: 1 },
  )
})
