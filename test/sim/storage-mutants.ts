/*
 * Mutants of what is kept: the log, its cache, checkpoints and the state.
 */

import type { Mutant } from './mutation.ts'

const logStore = 'storage/log-store.js'
const logCache = 'storage/log-cache.js'
const stateStore = 'storage/state-store.js'
const receiver = 'src/snapshot-receiver.js'

export const storageMutants: readonly Mutant[] = [
  {
    id: '2',
    name: 'vote and term in two commits',
    breaks: 'a crash between them leaves a vote in a term in which another was given',
    invariants: ['I2'],
    changes: [
      [
        logStore,
        `await this.#commit(stable, entries);`,
        `if (hardState !== undefined) {
           const { term } = this.#stable.hardState;
           await this.#commit({ ...stable, hardState: { ...hardState, term } }, []);
         }
         await this.#commit(stable, entries);`,
      ],
    ],
  },
  {
    id: '6',
    name: 'what can be read is taken for durable',
    breaks: 'a power cut takes what was acknowledged',
    invariants: ['I2', 'I7'],
    changes: [
      [
        logStore,
        `await this.#environment.commit(operations);`,
        `const last = operations.findLast(({ type }) => type === 'put');
         let settled = last === undefined;
         const done = this.#environment.commit(operations).finally(() => { settled = true; });
         while (!settled) {
           await new Promise((resolve) => { setImmediate(resolve); });
           let seen;
           try { seen = this.#environment.get(last.database, last.key); } catch { settled = true; }
           if (seen !== undefined && Buffer.compare(seen, last.value) === 0) break;
         }
         if (settled) await done;`,
      ],
    ],
  },
  {
    id: '7',
    name: 'the process goes on after a rejected commit',
    breaks: 'the log has a hole, or an end that was acknowledged and is not there',
    invariants: ['I2', 'I3', 'I7'],
    changes: [
      [
        'test/sim/disk.js',
        `this.#hooks.options.events.fatal(String(error)); write.failed(error);`,
        `write.failed(error);`,
      ],
      [
        logStore,
        `await this.#environment.commit(operations);`,
        `await this.#environment.commit(operations).catch(() => {});`,
      ],
    ],
  },
  {
    id: '12',
    name: 'entries in one commit, the cut behind them in the next',
    breaks: 'a crash between them leaves the end of another log behind the new entries',
    invariants: ['I3'],
    changes: [
      [
        logStore,
        `if (entries.length > 0) { for (let index = end; index <= this.lastIndex(); index++) operations.push(removeEntry(index)); }`,
        `const cut = [];
         for (let index = end; index <= this.lastIndex(); index++) cut.push(removeEntry(index));`,
      ],
      [
        logStore,
        `await this.#transact(operations, entries.length > 0 ? first : end);`,
        `await this.#transact(operations, entries.length > 0 ? first : end);
         if (entries.length > 0 && cut.length > 0) await this.#transact(cut, first);`,
      ],
    ],
  },
  {
    id: '21',
    name: 'a checkpoint, and every snapshot of it, lacks the term of its last entry',
    breaks: 'the log behind it joins an entry of another term',
    invariants: ['I13'],
    changes: [
      ['storage/state-meta.js', `term: at.term,`, `term: point.term === 0 ? at.term : point.term,`],
    ],
  },
  {
    id: '23a',
    name: 'the ring of the LogCache wraps one too late',
    breaks: 'it holds more than it may, and a slot is read as another entry',
    invariants: ['I19', 'I20'],
    changes: [
      [
        logCache,
        `this.#end - this.#first === this.#limits.entries`,
        `this.#end - this.#first === this.#limits.entries + 1`,
      ],
      [
        logCache,
        `assert(entry?.index === index, () => \`slot of \${index} holds \${entry?.index}\`); entries.push(entry);`,
        `entries.push(entry);`,
      ],
      [
        logCache,
        `assert(entry?.index === index, () => \`slot of \${index} holds \${entry?.index}\`); this.#bytes`,
        `this.#bytes`,
      ],
    ],
  },
  {
    id: '23b',
    name: 'the LogCache keeps what a truncation replaced',
    breaks: 'entries are sent and applied that are no longer in the log',
    invariants: ['I20', 'I5'],
    changes: [
      [logCache, `if (first !== undefined) this.#cut(first.index);`, ``],
      [
        logCache,
        `this.#append(entry); } async compact`,
        `if (entry.index >= this.#end) this.#append(entry); } async compact`,
      ],
    ],
  },
  {
    id: '24',
    name: 'the index of a checkpoint is that of the one before',
    breaks: 'after a restart entries are applied a second time',
    invariants: ['I13', 'I5'],
    changes: [
      [
        stateStore,
        `encodeCheckpointHeader({ ...point,`,
        `encodeCheckpointHeader({ ...point, index: this.#durable.index, term: this.#durable.term,`,
      ],
    ],
  },
  {
    id: 'x9',
    name: 'the frozen memtable is let go before its checkpoint is durable',
    breaks: 'reads and commands miss what it holds',
    invariants: ['I5', 'I9'],
    changes: [
      [
        stateStore,
        `this.#running = this.#write(frozen, this.#point);`,
        `this.#running = this.#write(frozen, this.#point);
         this.#frozen = undefined;
         this.#layers = this.#living();`,
      ],
    ],
  },
  {
    id: 'x10',
    name: 'a checkpoint claims an entry more than it holds',
    breaks: 'a restart leaves that entry out',
    invariants: ['I13', 'I5'],
    changes: [
      [
        stateStore,
        `encodeCheckpointHeader({ ...point,`,
        `encodeCheckpointHeader({ ...point, index: point.index + 1,`,
      ],
    ],
  },
  {
    id: 'x11',
    name: 'the log is compacted up to what is applied',
    breaks: 'a restart finds a gap between its checkpoint and its log',
    invariants: ['I14'],
    changes: [
      [
        'src/checkpoints.js',
        `this.#options.compactTo(index);`,
        `this.#options.compactTo(state.appliedIndex());`,
      ],
    ],
  },
  {
    id: 'x12',
    name: 'every node has a hash key of its own',
    breaks: 'states that must be equal differ, and a SCAN cursor means something else on each node',
    invariants: ['I13'],
    changes: [
      [
        'src/keyspace.js',
        `this.#store.setHashKey(argument(argv, 1));`,
        `this.#store.setHashKey(argument(argv, 1).map(() => this.#random() * 256));`,
      ],
    ],
  },
  {
    id: 'x13',
    name: 'a damaged entry of the log is believed',
    breaks: 'a flipped bit becomes part of the state',
    invariants: ['I3', 'I5', 'I7'],
    changes: [['storage/codec.js', `throw new CodecError('an entry has a bad checksum');`, ``]],
  },
  {
    id: '30',
    name: 'a node that lost its disk keeps its id',
    breaks: 'it votes and acknowledges anew, and knows nothing of what it has promised',
    invariants: ['I1', 'I2', 'I4', 'I5', 'I7'],
    changes: [
      // As if it were made from where the node lives.
      [
        'storage/stable-record.js',
        `const stable = newborn(FIRST_STATE_NUMBER);`,
        `const nodeId = Buffer.from(location).toString('hex').slice(-40).padStart(40, '0');
         const stable = { ...newborn(FIRST_STATE_NUMBER), nodeId };`,
      ],
      // Others would not let in who has fewer starts behind it than before.
      [
        'src/peers.js',
        `if (known === undefined || other.incarnation >= known.incarnation) return undefined;`,
        `return undefined;`,
      ],
    ],
  },
  {
    id: '22',
    name: 'a snapshot of an older leader is taken',
    breaks: 'a leader that was replaced still changes what others have',
    invariants: ['I14'],
    changes: [
      ['raft/core.js', `if (term < this.#term) return false;`, ``],
      [
        'raft/core.js',
        `this.#follow(from); if (this.#installing !== undefined) return false;`,
        `if (term === this.#term) this.#follow(from);
         if (this.#installing !== undefined) return false;`,
      ],
      [
        receiver,
        `if (session.term < (this.#options.raft()?.term ?? 0)) this.#giveUp(session, 'a later leader');`,
        ``,
      ],
    ],
  },
]
