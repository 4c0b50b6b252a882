import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import type { KernelJudge } from '../../src/kernel/judge.ts';
import { programFromInstructions } from '../../src/object/from-instructions.ts';
import type { ProgramSpec } from '../../src/object/spec.ts';
import { openJudge } from '../kernel/support.ts';
import { CASES, type Case } from './cases.ts';
import { accepted, attempt, MAP_BTF, MAPS, program } from './support.ts';

/** Where our verdict differs from the kernel's, and why. An entry that no longer differs fails the suite. */
const STRONGER: Readonly<Record<string, string>> = {
  'modulo bounds an index': 'the scalar domain bounds a modulo by a constant; the kernel forgets the value',
  'division bounds an index': 'the scalar domain bounds a division by a constant; the kernel forgets the value',
  'arena: atomics that are loops': "the kernel's x86-64 compiler cannot; its arm64 one can, and so can ours",
  'tail call below a shallow frame': 'the kernel wants BTF for tail calls in functions; assembly has none',
};
const ENDLESS = 'the kernel takes the second time round for another iteration of the first loop, and so never ends';
const WEAKER: Readonly<Record<string, string>> = {
  'endless: bpf_loop over and over': ENDLESS,
  'endless: bpf_loop whose callback keeps the loop going': ENDLESS,
  'endless: a new iterator each time': ENDLESS,
  'bits: a new one each time': ENDLESS,
  'endless: the iterator is replaced while it gives elements': ENDLESS,
  'endless: may_goto in a function': ENDLESS,
  'endless: bpf_loop in a function': ENDLESS,
  'a cast of a register that the call before has cleared (xdp)':
    'the kernel does not look at what is cast; here backends may leave different things in the register',
  'dereferences a map': 'the kernel lets programs read its struct bpf_map; there is none here',
  'dereferences an inner map': 'as above',
  'arena: arithmetic on a pointer or a number at one instruction':
    'the kernel makes it 32 bits wide for both, which changes what the number becomes',
  'dynptr: slice of a record after it was given back':
    'the kernel ends what bpf_dynptr_data gave, but not slices: the record may be read when it is somebody else’s',
  'behind the end, then moved down (xdp)':
    'the kernel believes the pointer to be behind the end still; for a packet of 2 to 13 bytes it is not, and byte 100 is read',
};

interface Verdict {
  readonly accepted: boolean;
  /** The line of the log that says why not. */
  readonly error: string;
}

const FILE = new URL('verdicts.json', import.meta.url);
const judges = new Map<string, KernelJudge | undefined>();
/** A prog array belongs to the type of program that used it first, so each type has maps of its own. */
const judgeFor = (type: string): KernelJudge | undefined => {
  if (!judges.has(type)) judges.set(type, openJudge(MAPS, { programs: new Map(), btf: MAP_BTF }));
  return judges.get(type);
};
const specOf = (c: Case): ProgramSpec => {
  const spec = program(c.type, c.text, { attachType: c.attachType, license: c.license });
  return c.typed
    ? { ...spec, subprograms: programFromInstructions({ name: 'test', type: c.type, insns: spec.insns }).subprograms }
    : spec;
};

const results = new Map<string, ReturnType<typeof attempt>>();
function ourVerdict(c: Case): ReturnType<typeof attempt> {
  const result = results.get(c.name) ?? attempt(specOf(c));
  results.set(c.name, result);
  return result;
}

function kernelVerdict(judge: KernelJudge, c: Case): Verdict {
  const { accepted: ok, log } = judge.judge(specOf(c));
  const lines = log.split('\n').filter(line => line !== '' && !/^(processed|verification time|stack depth)/.test(line));
  return { accepted: ok, error: ok ? '' : (lines.at(-1) ?? '').replace(/processed .*/, '') };
}

/** Refusals whose errno differs from the kernel's, as a rule with the words. */
const OTHER_ERRNOS: ReadonlySet<string> = new Set([
  'tail call below a deep frame',
  'arena: lookup of an element',
  'ringbuf: lookup in it',
  'a cast to a type that is no structure (xdp)',
  'a cast to a type that there is not (xdp)',
  'early: packet load in a callback (sched_cls)',
]);

if (process.env.UPDATE_GOLDEN) {
  const verdicts = CASES.map(c => [c.name, kernelVerdict(judgeFor(c.type)!, c)]);
  writeFileSync(FILE, `${JSON.stringify(Object.fromEntries(verdicts), undefined, 2)}\n`);
}
const VERDICTS = JSON.parse(readFileSync(FILE, 'utf8')) as Record<string, Verdict>;

afterAll(() => {
  for (const judge of judges.values()) judge?.dispose();
});

describe("verdicts are the kernel's", () => {
  it('has a verdict for every program and no other', () => {
    expect(Object.keys(VERDICTS).sort()).toEqual(CASES.map(c => c.name).sort());
    const names = new Set(CASES.map(c => c.name));
    for (const name of [...Object.keys(STRONGER), ...Object.keys(WEAKER)]) expect(names).toContain(name);
  });
  it.each(CASES.map(c => [c.name, c] as const))('%s', (name, c) => {
    const result = ourVerdict(c);
    const ours = accepted(result);
    const theirs = VERDICTS[name]!.accepted;
    if (name in STRONGER) expect([ours, theirs]).toEqual([true, false]);
    else if (name in WEAKER) expect([ours, theirs]).toEqual([false, true]);
    else expect(ours, accepted(result) ? VERDICTS[name]!.error : result.message).toBe(theirs);
  });
});

describe('the running kernel still says so', () => {
  it.each(CASES.map(c => [c.name, c] as const))('%s', (name, c) => {
    const judge = judgeFor(c.type);
    if (judge === undefined) return;
    expect(kernelVerdict(judge, c).accepted).toBe(VERDICTS[name]!.accepted);
  });
  it('with the same errno', () => {
    let compared = 0;
    const others = CASES.filter(c => {
      const result = ourVerdict(c);
      const theirs = accepted(result) ? undefined : judgeFor(c.type)?.judge(specOf(c)).error;
      if (theirs !== undefined) compared++;
      return theirs !== undefined && !accepted(result) && result.errno !== theirs.errno;
    });
    // Those that agree by now must leave the list.
    expect(others.map(c => c.name).sort()).toEqual(compared === 0 ? [] : [...OTHER_ERRNOS].sort());
  });
});

/** Refusals whose words differ from the kernel's, though the cause is the same. */
const OTHER_WORDS: ReadonlySet<string> = new Set([
  'arena: lookup of an element',
  'infinite loop with unchanged condition',
  'iter: endless loop in the body',
  'writes to a map pointer',
  'tail call below a deep frame',
  'load_acquire from the packet (xdp)',
  'ringbuf: lookup in it',
  'bits: bits over numbers',
  // "verifier bug", where the kernel's own checks fail.
  'early: packet load in a callback (sched_cls)',
  'a cast to a type that is no structure (xdp)',
  'a cast to a type that there is not (xdp)',
]);

describe("refusals use the kernel's words", () => {
  const refused = CASES.filter(c => !(c.name in STRONGER) && VERDICTS[c.name]?.accepted === false);
  it.each(refused.map(c => [c.name, c] as const))('%s', (name, c) => {
    const result = ourVerdict(c);
    if (accepted(result)) throw new Error('accepted');
    const last = result.text.split('\n').at(-1);
    if (OTHER_WORDS.has(name)) expect(last).not.toBe(VERDICTS[name]!.error);
    else expect(last).toBe(VERDICTS[name]!.error);
    expect(result.message.split('\n').length).toBeGreaterThan(1);
    expect(result.log).toContain(result.text);
  });
});
