/*
 * Mutants of the algorithm and its driver: elections, replication, commitment, reads.
 */

import type { Mutant } from './mutation.ts'

const core = 'raft/core.js'
const log = 'raft/log.js'
const node = 'raft/node.js'
const requests = 'src/membership-requests.js'

export const raftMutants: readonly Mutant[] = [
  {
    id: '1',
    name: 'a vote is not persisted',
    breaks: 'after a restart the node votes again in the same term',
    invariants: ['I2'],
    changes: [
      [
        core,
        `this.#vote = message.from; this.#hardStateChanged = true;`,
        `this.#vote = message.from;`,
      ],
    ],
  },
  {
    id: '3',
    name: 'a vote leaves before it is durable',
    breaks: 'a crash takes back a vote that was counted',
    invariants: ['I2'],
    changes: [
      [
        core,
        `this.#afterPersist.push({ type: 'vote-reply', ...this.#envelope(message.from),`,
        `this.#messages.push({ type: 'vote-reply', ...this.#envelope(message.from),`,
      ],
    ],
  },
  {
    id: '4',
    name: 'a leader counts itself before its own disk has the entry',
    breaks: 'an entry is committed that fewer than a majority would keep through a power cut',
    invariants: ['I7'],
    changes: [
      [
        core,
        `if (voter === this.#id) return this.#log.durable;`,
        `if (voter === this.#id) return this.#log.lastIndex;`,
      ],
    ],
  },
  {
    id: '5',
    name: 'a repeated append is acknowledged before its entries are durable',
    breaks: 'the leader counts a copy that a crash takes away',
    invariants: ['I7'],
    changes: [
      [
        core,
        `this.#acknowledge(message.from, at);`,
        `if (changed === undefined)
           this.#send({ type: 'append-reply', ...this.#envelope(message.from), match: at });
         else this.#acknowledge(message.from, at);`,
      ],
    ],
  },
  {
    id: '8',
    name: 'entries of earlier terms are committed by counting',
    breaks: 'figure 8 of the paper: a committed entry is replaced',
    invariants: ['I7'],
    changes: [[core, `|| this.#log.term(index) !== this.#term)`, `)`]],
  },
  {
    id: '9',
    name: 'a quorum is one half',
    breaks: 'two leaders of one term, commits that a crash loses',
    invariants: ['I1', 'I7'],
    changes: [
      [
        'raft/quorum.js',
        `return Math.floor(voters / 2) + 1;`,
        `return Math.max(1, Math.floor(voters / 2));`,
      ],
    ],
  },
  {
    id: '10',
    name: 'a follower commits up to its own last entry',
    breaks: 'it applies entries that the append did not verify',
    invariants: ['I5'],
    changes: [
      [
        core,
        `this.#log.commitTo(Math.min(message.commit, at));`,
        `this.#log.commitTo(Math.min(message.commit, this.#log.lastIndex));`,
      ],
    ],
  },
  {
    id: '11',
    name: 'every append truncates behind prev',
    breaks: 'a late append removes entries that were acknowledged, and may be committed',
    invariants: ['I5', 'I7'],
    changes: [
      [
        log,
        `entry === undefined || this.term(entry.index) !== entry.term`,
        `entry === undefined || entry.index > this.#committed`,
      ],
    ],
  },
  {
    id: '13',
    name: 'logs are compared by their length alone',
    breaks: 'a leader without a committed entry',
    invariants: ['I4'],
    changes: [
      [
        core,
        `last.term > own.term || (last.term === own.term && last.index >= own.index)`,
        `last.index >= own.index`,
      ],
    ],
  },
  {
    id: '14',
    name: 'a new leader serves reads before its first entry is committed',
    breaks: 'reads miss what its predecessor acknowledged',
    invariants: ['I9'],
    stale: true,
    changes: [
      [
        core,
        `leader.reads.canBegin && this.#log.committed >= leader.noop`,
        `leader.reads.canBegin`,
      ],
    ],
  },
  {
    id: '15',
    name: 'the number of a read round is used again',
    breaks: 'a late answer confirms a read that came after it',
    invariants: ['I9'],
    changes: [['raft/reads.js', `this.#number++;`, `this.#number ||= 1;`]],
  },
  {
    id: '16',
    name: 'reads by lease: who was heard lately need not confirm',
    breaks: 'a leader that stood still or was cut off serves old values',
    invariants: ['I9'],
    stale: true,
    changes: [
      [
        core,
        `(voter) => confirmed.has(voter))`,
        `(voter) => confirmed.has(voter) || leader.progress.get(voter)?.active === true)`,
      ],
    ],
  },
  {
    id: '17',
    name: 'a change of members begins before the one before it is committed',
    breaks: 'two leaders commit with majorities that do not meet',
    invariants: ['I16'],
    changes: [
      [
        core,
        `if (index > this.#log.committed || current.outgoing !== undefined) { return { accepted: false, reason: 'changing' }; }`,
        ``,
      ],
      [
        'raft/membership.js',
        `assert(current.outgoing === undefined, () => 'the membership in force is still joint');`,
        ``,
      ],
      [
        requests,
        `const settled = membershipIndex <= applied && membership?.outgoing === undefined;`,
        `const settled = true;`,
      ],
    ],
  },
  {
    id: '18',
    name: 'a new leader changes the members before an entry of its own is committed',
    breaks: 'two leaders commit with majorities that do not meet',
    invariants: ['I16'],
    changes: [
      [
        core,
        `if (this.#log.committed < leader.noop) return { accepted: false, reason: 'not-ready' };`,
        ``,
      ],
      [
        'src/members.js',
        `return raft?.established === true ? raft.status() : undefined;`,
        `return raft?.isLeader === true ? raft.status() : undefined;`,
      ],
    ],
  },
  {
    id: '19',
    name: 'a membership stays in force when its entry is cut off the log',
    breaks: 'a node counts majorities of voters that nobody decided on',
    invariants: ['I16'],
    changes: [[core, `this.#memberships.truncate(changed);`, ``]],
  },
  {
    id: '20',
    name: 'a snapshot is installed although this node has as much already',
    breaks: 'what was applied is taken back',
    invariants: ['I14'],
    changes: [
      [
        core,
        `if (last.index <= this.#log.committed) {
            this.#acknowledge(from, this.#log.committed);
            return false;
        }`,
        ``,
      ],
    ],
  },
  {
    id: '31',
    name: 'a pre-vote raises the term',
    breaks: 'whoever comes back from isolation deposes a healthy leader',
    invariants: ['I17'],
    changes: [
      [core, `case 'pre-vote': return true;`, `case 'pre-vote': break;`],
      [core, `message.term > this.#term && !this.#hearsLeader()`, `!this.#hearsLeader()`],
    ],
  },
  {
    id: 'x1',
    name: 'a second vote in a term',
    breaks: 'two leaders of one term',
    invariants: ['I1', 'I2', 'I6'],
    changes: [
      [core, `this.#vote === undefined || this.#vote === message.from;`, `true;`],
      [core, `if (granted && this.#vote === undefined)`, `if (granted)`],
    ],
  },
  {
    id: 'x2',
    name: 'a heartbeat tells a commit index beyond what the follower has matched',
    breaks: 'a follower applies entries of its own that were never committed',
    invariants: ['I5'],
    changes: [
      [core, `commit: Math.min(match, this.#log.committed)`, `commit: this.#log.committed`],
    ],
  },
  {
    id: 'x3',
    name: 'entries are applied before they are durable here',
    breaks: 'after a crash the log ends before the state',
    invariants: ['I5', 'I6'],
    changes: [
      [
        log,
        `const to = Math.min(this.#committed, this.#durable); if (to <= this.#handed`,
        `const to = this.#committed; if (to <= this.#handed`,
      ],
    ],
  },
  {
    id: 'x4',
    name: 'pre-votes are granted to everybody, even while a leader is heard',
    breaks: 'whoever comes back from isolation deposes a healthy leader',
    invariants: ['I17'],
    changes: [
      // Whose log is as good as any is rare there: a leader writes of its own accord (clock, digests).
      [
        core,
        `message.term > this.#term && !this.#hearsLeader() && this.#isUpToDate(message.last);`,
        `message.term > this.#term;`,
      ],
      [core, `if (this.#hearsLeader() &&`, `if (false &&`],
    ],
  },
  {
    id: 'x5',
    name: 'a leader serves its own reads without asking anybody',
    breaks: 'a leader that was replaced and does not know it serves old values',
    invariants: ['I9'],
    stale: true,
    changes: [
      [
        core,
        `if (!this.#role.reads.add({ from: this.#id, id }))`,
        `this.#reads.push({ id, index: this.#log.committed }); if (false)`,
      ],
    ],
  },
  {
    id: 'x6',
    name: 'a read runs before its index is applied',
    breaks: 'a follower serves old values',
    invariants: ['I9'],
    stale: true,
    changes: [[node, `if (read.index > applied) break;`, ``]],
  },
  {
    id: 'x7',
    name: 'a rejected append is sent again where it was rejected',
    breaks: 'a follower that is behind never catches up',
    invariants: ['I18'],
    changes: [
      [
        'raft/progress.js',
        `this.#next = Math.max(Math.min(prev, agree + 1), this.#match + 1);`,
        ``,
      ],
    ],
  },
  {
    id: 'x8',
    name: 'committed bytes still count as uncommitted',
    breaks: 'a leader takes no more writes, for ever',
    invariants: ['I18'],
    changes: [[core, `leader.uncommittedBytes -= entry.bytes;`, ``]],
  },
]
