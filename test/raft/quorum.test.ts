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
      const index = quorumIndex(voters, (voter) => matches[Number(voter)] ?? 0)
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
      assert.equal(countVotes(voters, votes), won ? 'won' : lost ? 'lost' : 'pending')
      assert.equal(
        hasQuorum(voters, (voter) => votes.get(voter) === true),
        won,
      )
    }),
    { seed: 1 },
  )
})

test('nobody has no majority', () => {
  assert.equal(
    hasQuorum([], () => true),
    false,
  )
  assert.equal(
    quorumIndex([], () => 9),
    0,
  )
  assert.equal(countVotes([], new Map()), 'lost')
})
