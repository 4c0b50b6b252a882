/** What lookups in arrays become. Texts before and after; that they do the same is tested in test/runtime/array-lookups.test.ts. */
import { describe, expect, test } from 'vitest';
import { lowerText, map, type Setup, textOf, wanted } from './support.ts';

interface Row extends Setup {
  readonly name: string;
  readonly have: string;
  readonly want: string;
  /** Slots of `want` that compilers leave out. */
  readonly unused?: readonly number[];
}

/** A lookup in an array of 1000 elements of 8 bytes whose key is only known at run time. */
const looked = (key: string): string => `
      r1 = *(u32 *)(${key})
      r0 = 0
      if w1 >= 1000 goto +4
      r0 = map_value_address[0]+0 ll
      r1 <<= 3
      r0 += r1`;

const rows: readonly Row[] = [
  {
    name: 'a check for null answered by the bounds',
    maps: [map('h', 'hash'), map('a', 'array', 1000, 12)],
    helperCalls: [lookup('a')],
    have: 'call 1\nif r0 == 0 goto -2\nexit',
    want: `
      r1 = *(u32 *)(r2 + 0)
      r0 = 0
      if w1 >= 1000 goto -3
      r0 = map_value_address[1]+0 ll
      r1 <<= 4
      r0 += r1
      exit`,
  },
  {
    name: 'the other way round, arguments that nobody reads',
    maps: [map('a', 'array', 1000, 24)],
    helperCalls: [lookup('a', { insn: 4 })],
    have: 'r2 = r10\nr2 += -4\nr1 = map[a] ll\ncall 1\nif r0 != 0 goto +2\nr0 = 7\nexit\nr0 = 8\nexit',
    unused: [0, 1, 2, 3],
    want: `
      r2 = r10
      r2 += -4
      r1 = map_address[0] ll
      r1 = *(u32 *)(r10 - 4)
      r0 = 0
      if w1 >= 1000 goto +5
      r0 = map_value_address[0]+0 ll
      r1 *= 24
      r0 += r1
      goto +2
      r0 = 7
      exit
      r0 = 8
      exit`,
  },
  {
    name: 'another check, and one that more than the lookup leads to',
    maps: [map('a', 'array', 1000, 8)],
    helperCalls: [lookup('a'), lookup('a', { insn: 3 })],
    have: 'call 1\nif w0 == 0 goto +3\nif r6 == 0 goto +1\ncall 1\nif r0 == 0 goto +1\nexit\nexit',
    want: `
      ${looked('r2 + 0')}
      if w0 == 0 goto +9
      if r6 == 0 goto +7
      ${looked('r2 + 0')}
      if r0 == 0 goto +1
      exit
      exit`,
  },
  {
    name: 'other sizes, huge',
    maps: [map('a', 'array', 0x9000_0000, 17)],
    helperCalls: [lookup('a')],
    have: 'call 1\nexit',
    want: `
      r1 = *(u32 *)(r2 + 0)
      r0 = 0
      if w1 >= 0x90000000 goto +4
      r0 = map_value_address[0]+0 ll
      r1 *= 24
      r0 += r1
      exit`,
  },
  {
    name: 'a key that was just stored',
    maps: [map('a', 'array', 1000, 8)],
    helperCalls: [lookup('a', { insn: 5 })],
    have: '*(u32 *)(r10 - 4) = r6\nr2 = r10\nr2 += -4\nr1 = 7\nr3 = r2\ncall 1\nexit',
    unused: [2, 3, 4, 5],
    want: `
      *(u32 *)(r10 - 4) = r6
      wax = w6
      r2 = r10
      r2 += -4
      r1 = 7
      r3 = r2
      r0 = 0
      if wax >= 1000 goto +4
      r0 = map_value_address[0]+0 ll
      ax <<= 3
      r0 += ax
      exit`,
  },
  {
    name: 'the whole word stored, and a check',
    maps: [map('a', 'array', 1000, 64)],
    helperCalls: [lookup('a', { insn: 3 })],
    have: '*(u64 *)(r10 - 8) = r0\nr2 = r10\nr2 += -8\ncall 1\nif r0 == 0 goto +1\nexit\nexit',
    unused: [2, 3],
    want: `
      *(u64 *)(r10 - 8) = r0
      wax = w0
      r2 = r10
      r2 += -8
      r0 = 0
      if wax >= 1000 goto +5
      r0 = map_value_address[0]+0 ll
      ax <<= 6
      r0 += ax
      exit
      exit`,
  },
  {
    name: 'a register that is written in between, and one that the call would get',
    maps: [map('a', 'array', 1000, 8)],
    helperCalls: [lookup('a', { insn: 4 })],
    have: '*(u32 *)(r10 - 4) = r6\nr6 = 7\nr2 = r10\nr2 += -4\ncall 1\nexit',
    unused: [3, 4],
    want: `
      *(u32 *)(r10 - 4) = r6
      wax = w6
      r6 = 7
      r2 = r10
      r2 += -4
      r0 = 0
      if wax >= 1000 goto +4
      r0 = map_value_address[0]+0 ll
      ax <<= 3
      r0 += ax
      exit`,
  },
  {
    name: 'a store that hits a part of the key, one through another register, one of another key',
    maps: [map('a', 'array', 1000, 8)],
    helperCalls: [lookup('a', { insn: 4 }), lookup('a', { insn: 9 }), lookup('a', { insn: 14 })],
    have: ['*(u8 *)(r10 - 1) = r7', '*(u32 *)(r8 + 0) = r7', '*(u32 *)(r10 - 8) = r7']
      .map(store => `*(u32 *)(r10 - 4) = r6\n${store}\nr2 = r10\nr2 += -4\ncall 1`)
      .join('\n')
      .concat('\nexit'),
    unused: [2, 3, 13, 14, 25, 26],
    want: ['*(u8 *)(r10 - 1) = r7', '*(u32 *)(r8 + 0) = r7']
      .map(
        store => `
      *(u32 *)(r10 - 4) = r6
      ${store}
      r2 = r10
      r2 += -4
      ${looked('r10 - 4')}`,
      )
      .join('')
      .concat(`
      *(u32 *)(r10 - 4) = r6
      wax = w6
      *(u32 *)(r10 - 8) = r7
      r2 = r10
      r2 += -4
      r0 = 0
      if wax >= 1000 goto +4
      r0 = map_value_address[0]+0 ll
      ax <<= 3
      r0 += ax
      exit`),
  },
  {
    name: 'a jump that leads between store and call',
    maps: [map('a', 'array', 1000, 8)],
    helperCalls: [lookup('a', { insn: 4 })],
    have: 'if r6 == 0 goto +1\n*(u32 *)(r10 - 4) = r6\nr2 = r10\nr2 += -4\ncall 1\nexit',
    unused: [2, 3],
    want: `
      if r6 == 0 goto +1
      *(u32 *)(r10 - 4) = r6
      r2 = r10
      r2 += -4
      ${looked('r10 - 4')}
      exit`,
  },
  {
    name: 'another key where a jump leads to the call',
    maps: [map('a', 'array', 1000, 8)],
    helperCalls: [lookup('a', { insn: 3 })],
    have: 'if r6 == 0 goto +2\nr2 = r10\nr2 += -4\ncall 1\nexit',
    want: `
      if r6 == 0 goto +2
      r2 = r10
      r2 += -4
      ${looked('r2 + 0')}
      exit`,
  },
  {
    name: 'arguments that are read after all',
    maps: [map('a', 'array', 1000, 8)],
    helperCalls: [lookup('a', { insn: 6 })],
    have: 'r3 = r6\nr3 += 1\n*(u64 *)(r10 - 16) = r3\nr2 = r10\nr2 += -4\nr4 = 1\ncall 1\nexit',
    unused: [3, 4, 5],
    want: `
      r3 = r6
      r3 += 1
      *(u64 *)(r10 - 16) = r3
      r2 = r10
      r2 += -4
      r4 = 1
      ${looked('r10 - 4')}
      exit`,
  },
  {
    name: 'constant key',
    maps: [map('a', 'array', 8, 12)],
    helperCalls: [lookup('a', { constantKey: 7 })],
    have: 'call 1\nexit',
    want: 'r0 = map_value_address[0]+112 ll\nexit',
  },
  {
    name: 'constant key in range, with a check that is left',
    maps: [map('a', 'array', 8, 12)],
    helperCalls: [lookup('a', { constantKey: 7 })],
    have: 'call 1\nif r0 == 0 goto +1\nexit\nexit',
    want: 'r0 = map_value_address[0]+112 ll\nexit\nexit',
  },
  {
    name: 'constant key out of range, with a check and without',
    maps: [map('a', 'array', 8, 12)],
    helperCalls: [lookup('a', { constantKey: 8 }), lookup('a', { insn: 2, constantKey: 0xffff_ffff })],
    have: 'call 1\nif r0 == 0 goto +1\ncall 1\nexit',
    want: 'r0 = 0\ngoto +1\nr0 = 0\nexit',
  },
  {
    name: 'a constant that was just stored',
    maps: [map('a', 'array', 8, 8)],
    helperCalls: [lookup('a', { insn: 3 }), lookup('a', { insn: 8 })],
    have:
      [3, -1].map(key => `*(u32 *)(r10 - 4) = ${key}\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto +0`).join('\n') +
      '\nexit',
    unused: [1, 2, 6, 7],
    want: `
      *(u32 *)(r10 - 4) = 3
      r2 = r10
      r2 += -4
      r0 = map_value_address[0]+24 ll
      *(u32 *)(r10 - 4) = -1
      r2 = r10
      r2 += -4
      r0 = 0
      exit`,
  },
  {
    name: 'a key that is proven to be in range',
    maps: [map('a', 'array', 8, 8)],
    helperCalls: [lookup('a', { insn: 3, keyMax: 7 })],
    have: '*(u32 *)(r10 - 4) = r6\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto +1\nexit\nexit',
    unused: [2, 3],
    want: `
      *(u32 *)(r10 - 4) = r6
      wax = w6
      r2 = r10
      r2 += -4
      r0 = map_value_address[0]+0 ll
      ax <<= 3
      r0 += ax
      exit
      exit`,
  },
  {
    name: 'a key that may be the first out of range',
    maps: [map('a', 'array', 8, 8)],
    helperCalls: [lookup('a', { keyMax: 8 })],
    have: 'call 1\nif r0 == 0 goto +1\nexit\nexit',
    want: `
      r1 = *(u32 *)(r2 + 0)
      r0 = 0
      if w1 >= 8 goto +5
      r0 = map_value_address[0]+0 ll
      r1 <<= 3
      r0 += r1
      exit
      exit`,
  },
  {
    name: 'per-CPU: a key, a constant one, and one that is in range',
    maps: [map('a', 'percpu_array', 10, 8)],
    helperCalls: [lookup('a'), lookup('a', { insn: 1, constantKey: 2 }), lookup('a', { insn: 2, keyMax: 9 })],
    have: 'call 1\ncall 1\ncall 1\nexit',
    want: `
      r1 = *(u32 *)(r2 + 0)
      r0 = 0
      if w1 >= 10 goto +8
      r0 = map_value_address[0]+0 ll
      ax = run_context
      r2 = *(u32 *)(ax + 24)
      r2 *= 128
      r0 += r2
      r1 <<= 3
      r0 += r1
      r0 = map_value_address[0]+16 ll
      ax = run_context
      r1 = *(u32 *)(ax + 24)
      r1 *= 128
      r0 += r1
      r1 = *(u32 *)(r2 + 0)
      r0 = map_value_address[0]+0 ll
      ax = run_context
      r2 = *(u32 *)(ax + 24)
      r2 *= 128
      r0 += r2
      r1 <<= 3
      r0 += r1
      exit`,
  },
  {
    name: 'per-CPU, where the values of a CPU take 2 GiB: as a call',
    maps: [map('a', 'percpu_array', 1 << 28, 8)],
    helperCalls: [lookup('a')],
    have: 'call 1\nexit',
    want: 'call routine helper_1_percpu_array\nexit',
  },
];

function lookup(map: string, more: { insn?: number; constantKey?: number; keyMax?: number } = {}) {
  return { insn: 0, helper: 1, map, constantKey: undefined, keyMax: undefined, ...more };
}

describe('array lookups', () => {
  test.each(rows)('$name', ({ have, want, unused = [], ...setup }) => {
    const lowered = lowerText(have, setup);
    expect(textOf(lowered.insns)).toEqual(wanted(want));
    expect([...lowered.unusedArguments!].sort((a, b) => a - b)).toEqual(unused);
  });
});
