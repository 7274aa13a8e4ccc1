/*
 * Mutants of the way of a command: placing, forwarding, answering, time.
 */

import type { Mutant } from './mutation.ts'

const forwarding = 'src/forwarding.js'
const handedCalls = 'src/handed-calls.js'
const keyspace = 'src/keyspace.js'
const pendingReads = 'src/pending-reads.js'
const replica = 'src/replica.js'
const router = 'src/router.js'

export const commandMutants: readonly Mutant[] = [
  {
    id: '25',
    name: 'applying believes the wall clock of the node',
    breaks: 'a key expires on one node and not on another',
    invariants: ['I5', 'I15'],
    changes: [
      [
        replica,
        `this.checkpoints.watching(this.#keyspace)`,
        `this.checkpoints.watching(Object.assign(this.#keyspace, {
          wall: () => this.#options.clock.wall(),
        }))`,
      ],
      [keyspace, `Math.max(this.clock(), at);`, `Math.max(this.clock(), this.wall());`],
    ],
  },
  {
    id: '26',
    name: 'a new leader begins with its own wall clock',
    breaks: 'logged time falls with a change of leadership',
    invariants: ['I15'],
    changes: [
      ['src/leader-clock.js', `this.#logical = Math.max(wall, applied);`, `this.#logical = wall;`],
    ],
  },
  {
    id: '27',
    name: 'a forwarded write is sent again when its link broke',
    breaks: 'it happens twice',
    invariants: ['I10'],
    changes: [
      [handedCalls, `this.#takeBack(readsAlone(handing));`, `this.#takeBack([...handing.calls]);`],
    ],
  },
  {
    id: '28a',
    name: 'a definite error for what was appended, at its deadline',
    breaks: 'a client is told that nothing happened, and it did',
    invariants: ['I11'],
    changes: [
      [
        'src/own-entries.js',
        `call.answer(UNKNOWN_OUTCOME, applied);`,
        `call.answer(new UNKNOWN_OUTCOME.constructor('CLUSTERDOWN the leader was lost'), applied);`,
      ],
    ],
  },
  {
    id: '28b',
    name: 'a definite error for what was forwarded, at its deadline',
    breaks: 'a client is told that nothing happened, and it did',
    invariants: ['I11'],
    changes: [
      [
        handedCalls,
        `call.answer(UNKNOWN_OUTCOME, applied);`,
        `call.answer(new ErrorReply('CLUSTERDOWN the leader was lost'), applied);`,
      ],
    ],
  },
  {
    id: '29',
    name: 'a connection that came out at another node than was meant is taken',
    // Whoever sends is known by the handshake and not by its address: nobody counts for two.
    breaks: 'the node that is meant never hears of its leader again',
    invariants: ['I18'],
    changes: [
      [
        'src/peer-handshake.js',
        `if (id === undefined ? sameAddress(address, target.peerAddress) : id === target.id)`,
        `if (target !== undefined)`,
      ],
    ],
  },
  {
    id: '32',
    name: 'ticks are counted up after a pause, before the sockets are read',
    breaks: 'a follower campaigns although heartbeats of its leader are waiting',
    invariants: ['I17'],
    changes: [
      ['src/ticker.js', `afterPoll(() => this.#tick());`, `this.#tick();`],
      ['src/ticker.js', `if (ticks > ticksMax) this.#last = now; else`, ``],
      ['src/ticker.js', `Math.min(ticks, ticksMax)`, `ticks`],
    ],
  },
  {
    id: 'x15',
    name: 'replies that come together from the leader are crossed',
    breaks: 'a client gets the reply of another command',
    invariants: ['I8', 'I9', 'I12'],
    changes: [
      [
        forwarding,
        `const tag = integerField(tagField);`,
        `const tag = integerField(arrayField(replies[replies.length - 1 - replies.indexOf(reply)])[0]);`,
      ],
    ],
  },
  {
    id: 'x16',
    name: 'refused commands are placed behind newer ones',
    breaks: 'commands of a connection take effect in another order than they were sent',
    invariants: ['I9'],
    changes: [[router, `[...calls, ...this.#backlog]`, `[...this.#backlog, ...calls]`]],
  },
  {
    id: 'x17',
    name: 'newer commands do not wait for those that an older leader may refuse',
    breaks: 'commands of a connection take effect in another order than they were sent',
    invariants: ['I9'],
    changes: [[handedCalls, `return handed[0]?.handing !== this.#current;`, `return false;`]],
  },
  {
    id: 'x18',
    name: 'a read does not wait for the writes of its connection',
    breaks: 'a connection does not see its own write',
    invariants: ['I9'],
    changes: [
      [
        pendingReads,
        `stream.appended > 0 || applied < stream.lastSeen`,
        `applied < stream.lastSeen`,
      ],
    ],
  },
  {
    id: 'x19',
    name: 'a write overtakes the reads before it',
    breaks: 'a connection sees its write before it asked for it',
    invariants: ['I9'],
    changes: [
      [
        router,
        `this.#entries.add(call, this.#reads.take(call.stream), rewrite);`,
        `this.#entries.add(call, []);`,
      ],
    ],
  },
  {
    id: 'x21',
    name: 'a read believes the time of the leader before it is logged',
    breaks: 'a key is gone on one node and still there on another',
    invariants: ['I9'],
    changes: [
      [
        replica,
        `return { now: this.#expiryClock.leaderNow(), applied };`,
        `return { now: this.#expiryClock.leaderNow(), applied: undefined };`,
      ],
    ],
  },
  {
    id: 'x22',
    name: 'a leader proposes before everything of earlier terms is applied',
    breaks: 'its clock begins behind what is in the log',
    invariants: ['I15'],
    changes: [[router, `!route.established || this.#entries.isFull`, `this.#entries.isFull`]],
  },
  {
    id: 'x23',
    name: 'what the leader of this term has not answered is taken for lost',
    breaks: 'a write is handed over again, and happens twice',
    invariants: ['I10'],
    changes: [[handedCalls, `handing.term < applied || fenced`, `handing.term <= applied`]],
  },
  {
    id: 'x24',
    name: 'an entry that is not applied yet is taken for overwritten',
    breaks: 'a write is proposed again, and happens twice',
    invariants: ['I10'],
    changes: [['src/own-entries.js', `entry.term < applied`, `entry.term <= applied`]],
  },
]
