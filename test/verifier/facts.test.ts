import { describe, expect, it } from 'vitest';
import type { Facts } from '../../src/verifier/facts.ts';
import { accepted, attempt, program } from './support.ts';

function factsOf(type: Parameters<typeof program>[0], text: string): Facts {
  const result = attempt(program(type, text));
  if (!accepted(result)) throw result;
  return result.facts;
}

describe('tail call sites', () => {
  it('one map, one index', () => {
    const { tailCalls } = factsOf('xdp', 'r2 = map[progs] ll\nr3 = 2\ncall bpf_tail_call\nr0 = 0\nexit');
    expect(tailCalls).toEqual([{ insn: 3, maps: ['progs'], index: 2, indexMin: 2, indexMax: 2 }]);
  });
  it('joins maps and indices over all paths', () => {
    const { tailCalls, usedMaps } = factsOf(
      'xdp',
      'r6 = *(u32 *)(r1 + 16)\nr2 = map[progs] ll\nr3 = 2\nif r6 > 5 goto l\nr2 = map[others] ll\nr3 = 7\nl: call bpf_tail_call\nr0 = 0\nexit',
    );
    expect(tailCalls).toEqual([{ insn: 8, maps: ['others', 'progs'], index: undefined, indexMin: 2, indexMax: 7 }]);
    expect(usedMaps).toEqual(['progs', 'others']);
  });
  it('is not misled by pruning: an index that differs on a later path counts', () => {
    const { tailCalls } = factsOf(
      'xdp',
      `r6 = *(u32 *)(r1 + 16)
r7 = 1
if r6 > 5 goto a
r7 = 3
a: if r6 > 7 goto b
r8 = 0
b: if r6 > 9 goto c
r8 = 0
c: if r6 > 11 goto d
r8 = 0
d: if r6 > 13 goto e
r8 = 0
e: r2 = map[progs] ll
r3 = r7
call bpf_tail_call
r0 = 0
exit`,
    );
    expect(tailCalls[0]).toMatchObject({ index: undefined, indexMin: 1, indexMax: 3 });
  });
  it('takes the index as u32', () => {
    const { tailCalls } = factsOf('xdp', 'r2 = map[progs] ll\nr3 = 0x700000001 ll\ncall bpf_tail_call\nr0 = 0\nexit');
    expect(tailCalls[0]).toMatchObject({ index: 1 });
    const any = factsOf('xdp', 'r3 = *(u32 *)(r1 + 16)\nr2 = map[progs] ll\ncall bpf_tail_call\nr0 = 0\nexit');
    expect(any.tailCalls[0]).toMatchObject({ index: undefined, indexMin: 0, indexMax: 0xffffffff });
  });
  it('a successful tail call in a function returns anything to its caller', () => {
    const result = attempt(
      program(
        'xdp',
        `call f
r2 = map_value[one]+0 ll
r2 += r0
r0 = *(u8 *)(r2 + 0)
exit
f: r2 = map[progs] ll
r3 = 0
call bpf_tail_call
r0 = 0
exit`,
      ),
    );
    expect(accepted(result)).toBe(false);
  });
});

describe('memory and reach', () => {
  it('names the memory behind each access', () => {
    const facts = factsOf(
      'xdp',
      `r2 = *(u32 *)(r1 + 0)
r3 = *(u32 *)(r1 + 4)
r4 = r2
r4 += 1
r0 = 0
if r4 > r3 goto out
r0 = *(u8 *)(r2 + 0)
*(u64 *)(r10 - 8) = r0
r5 = map_value[one]+0 ll
*(u64 *)(r5 + 0) = r0
out: exit`,
    );
    expect([...facts.memoryKind]).toEqual([
      [0, 'context'],
      [1, 'context'],
      [6, 'packet'],
      [7, 'stack'],
      [10, 'mapValue'],
    ]);
    expect([...facts.contextOffset]).toEqual([
      [0, 0],
      [1, 4],
    ]);
    expect(facts.subprograms[0]).toMatchObject({ start: 0, end: 12, stackDepth: 8, hasTailCall: false });
  });
  it('calls mixed memory just memory', () => {
    const facts = factsOf(
      'xdp',
      `r6 = *(u32 *)(r1 + 16)
*(u64 *)(r10 - 8) = 0
r2 = r10
r2 += -8
if r6 > 5 goto l
r2 = map_value[one]+0 ll
l: r0 = *(u32 *)(r2 + 0)
exit`,
    );
    expect(facts.memoryKind.get(7)).toBe('memory');
  });
  it('knows dead code', () => {
    const facts = factsOf('xdp', 'r0 = 1\nif r0 == 1 goto l\nr0 = 2\nl: exit');
    expect([...facts.reachable]).toEqual([1, 1, 0, 1]);
  });
  it('keeps the constant key and the map of a lookup', () => {
    const text = (key: number) =>
      `*(u32 *)(r10 - 8) = ${key}\nr2 = r10\nr2 += -8\nr1 = map[array] ll\ncall bpf_map_lookup_elem\nr0 = 0\nexit`;
    expect(factsOf('xdp', text(3)).helperCalls).toEqual([{ insn: 5, helper: 1, map: 'array', constantKey: 3 }]);
  });
  it('follows stack and tail calls through functions', () => {
    const facts = factsOf(
      'xdp',
      `r6 = 0
*(u64 *)(r10 - 16) = r6
call f
r0 = 0
exit
f: *(u32 *)(r10 - 20) = 1
r2 = map[progs] ll
r3 = 0
call bpf_tail_call
r0 = 0
exit`,
    );
    expect(facts.subprograms).toMatchObject([
      { start: 0, end: 5, stackDepth: 16, hasTailCall: false, tailCallReachable: true },
      { start: 5, end: 12, stackDepth: 24, hasTailCall: true, tailCallReachable: true },
    ]);
  });
});
