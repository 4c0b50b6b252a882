/**
 * A hot-swappable policy inside a Node process: events are plain bytes, the policy is a verified raw program compiled to
 * machine code, and the rule behind it is replaced while events flow. Run it with `npx tsx examples/embedding/policy.ts`.
 *
 * An event is {u32 user, u32 size}; the policy answers 1 (allow) or 0 (deny).
 */
import { assemble, type Collection, createRuntime, programFromInstructions } from '../../src/index.ts';

/** The entry checks the event's size, then hands over to whatever rule is in slot 0; without a rule it denies. */
const ENTRY = `
  if r2 < 8 goto deny
  r2 = map[rules] ll
  r3 = 0
  call 12
deny:
  r0 = 0
  exit
`;

const rule = (limit: number) => `
  r0 = 0
  if r2 < 8 goto out
  r3 = *(u32 *)(r1 + 4)
  if r3 > ${limit} goto out
  r0 = 1
out:
  exit
`;

const RULES = {
  name: 'rules',
  type: 'prog_array',
  keySize: 4,
  valueSize: 4,
  maxEntries: 1,
  flags: 0,
  contents: [],
} as const;

function collection(programs: Record<string, string>): Collection {
  return {
    programs: new Map(
      Object.entries(programs).map(([name, text]) => [
        name,
        programFromInstructions({ name, type: 'raw', insns: assemble(text) }),
      ]),
    ),
    maps: new Map([['rules', RULES]]),
    license: 'Apache-2.0',
    btf: undefined,
  };
}

function event(user: number, size: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(user, size).buffer);
}

const runtime = createRuntime();
const policy = runtime.load(collection({ entry: ENTRY }));
const strict = runtime.load(collection({ rule: rule(100) }));
const relaxed = runtime.load(collection({ rule: rule(10_000) }));
const entry = policy.program('entry');
const rules = policy.progArray('rules');

console.log('no rule:     ', entry.run(event(1, 50)).returnValue);
rules.set(0, strict.program('rule'));
console.log('strict:  50  ', entry.run(event(1, 50)).returnValue);
console.log('strict:  500 ', entry.run(event(1, 500)).returnValue);

// Two native threads judge events while the rule changes under them; the event loop stays free.
const events = Array.from({ length: 1000 }, (_, i) => event(i, i * 20));
const replay = entry.replayAsync(events, { workers: 2, repeat: 2000 });
rules.set(0, relaxed.program('rule'));
strict.dispose();
const { packets, verdicts } = await replay;
console.log(`${packets} events judged on two threads:`, Object.keys(verdicts).sort().join(' and '), 'as r0');
console.log('relaxed: 500 ', entry.run(event(1, 500)).returnValue);
await runtime.dispose();
