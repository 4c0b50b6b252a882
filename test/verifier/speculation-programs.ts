/**
 * Programs whose verdict without CAP_PERFMON hangs on paths that a processor takes by wrong guesses, or looks as if it did. Socket
 * filters; `m` is an array of one value of 48 bytes, `a` and `b` are prog arrays.
 */
import { assemble } from '../../src/isa/assembler.ts';
import { programFromInstructions } from '../../src/object/from-instructions.ts';
import type { MapSpec, ProgramSpec } from '../../src/object/spec.ts';

const map = (name: string, type: MapSpec['type'], valueSize: number): [string, MapSpec] => [
  name,
  { name, type, keySize: 4, valueSize, maxEntries: 1, flags: 0, contents: [] },
];
export const MAPS: ReadonlyMap<string, MapSpec> = new Map([
  map('m', 'array', 48),
  map('a', 'prog_array', 4),
  map('b', 'prog_array', 4),
]);

/** r6 = context, r7 = the value, r8 = some u32, r9 = 0. */
const START = `
  r6 = r1
  r2 = 0
  *(u64 *)(r10 - 8) = r2
  r2 = r10
  r2 += -8
  r1 = map[m] ll
  call 1
  if r0 != 0 goto +2
  r0 = 0
  exit
  r7 = r0
  r8 = *(u32 *)(r6 + 0)
  r9 = 0`;
const END = `
  r0 = 0
  exit`;

/** What a guess gets to first, and then a real path. */
const first = (guessed: string, real: string, both: string): string => `
  if r8 == 5 goto real
  if r9 != 0 goto guessed
  r0 = 0
  exit
guessed:
  ${guessed}
  goto both
real:
  ${real}
both:
  ${both}`;

const BODIES: Readonly<Record<string, string>> = {
  'a load of no pointer behind a wrong guess': 'if r9 == 0 goto ok\nr0 = *(u64 *)(r9 + 0)\nok:',
  'an unwritten register behind a wrong guess': 'if r9 == 0 goto ok\nr0 = r5\nok:',
  'a leak behind a wrong guess': 'if r9 == 0 goto ok\n*(u64 *)(r7 + 0) = r6\nok:',
  'an endless loop behind a wrong guess': 'if r9 == 0 goto ok\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and a barrier':
    'if r9 == 0 goto ok\nr3 = *(u64 *)(r9 + 0)\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and a spill':
    'if r9 == 0 goto ok\n*(u64 *)(r10 - 16) = r7\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and an atomic store over a number':
    '*(u64 *)(r10 - 16) = r8\nif r9 == 0 goto ok\nlock *(u64 *)(r10 - 16) += r9\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and an atomic store over half a number':
    '*(u64 *)(r10 - 16) = r8\nif r9 == 0 goto ok\nlock *(u32 *)(r10 - 12) += r9\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and an exchange on the stack':
    '*(u64 *)(r10 - 16) = r8\nif r9 == 0 goto ok\nr9 = xchg_64(r10 - 16, r9)\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and an atomic store over bytes':
    '*(u32 *)(r10 - 16) = r8\n*(u32 *)(r10 - 12) = r8\nlock *(u64 *)(r10 - 16) += r8\nif r9 == 0 goto ok\nlock *(u64 *)(r10 - 16) += r9\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and an atomic store elsewhere':
    'if r9 == 0 goto ok\nlock *(u64 *)(r7 + 0) += r9\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'an endless loop behind a wrong guess and a store-release over a number':
    '*(u64 *)(r10 - 16) = r8\nif r9 == 0 goto ok\nstore_release((u64 *)(r10 - 16), r9)\nloop:\nr9 ^= 0\ngoto loop\nok:',
  'a loop behind a wrong guess that counts': 'if r9 == 0 goto ok\nr3 = 0\nloop:\nr3 += 1\nif r3 < 9 goto loop\nok:',
  'numbers guessed where a pointer is moved': first('r1 = 3\nr2 = 1', 'r1 = r7\nr2 = r8\nr2 &= 7', 'r1 += r2'),
  'numbers guessed where a pointer is moved by a constant': first('r1 = 3', 'r1 = r7', 'r1 += 4'),
  'a pointer guessed where numbers are added': first('r1 = r7\nr2 = r8\nr2 &= 7', 'r1 = 3\nr2 = 1', 'r1 += r2'),
  'another limit guessed': first('r1 = r7\nr2 = r8\nr2 &= 15', 'r1 = r7\nr1 += 8\nr2 = r8\nr2 &= 7', 'r1 += r2'),
  'another kind of memory guessed': first('r1 = r7', 'r1 = r6', 'r0 = *(u32 *)(r1 + 0)'),
  'the stack guessed for a map value': first('r1 = r10\nr1 += -8', 'r1 = r7', 'r0 = *(u32 *)(r1 + 0)'),
  'another prog array guessed': first('r2 = map[a] ll', 'r2 = map[b] ll', 'r1 = r6\nr3 = 0\ncall 12'),
  'the same prog array guessed': first('r2 = map[a] ll', 'r2 = map[a] ll', 'r1 = r6\nr3 = 0\ncall 12'),
  'a limited pointer': 'r8 &= 7\nr7 += r8\nr0 = *(u8 *)(r7 + 0)',
  'a limited pointer that reaches the end': 'r8 &= 31\nr7 += 16\nr7 += r8\nr0 = *(u8 *)(r7 + 0)',
  'a limited pointer that must have moved': 'r8 &= 7\nr8 += 8\nr7 += r8\nr0 = *(u8 *)(r7 - 8)',
  'a number that a pointer is added to': 'r8 &= 7\nr8 += r7\nr0 = *(u8 *)(r8 + 0)',
  'a number of both signs': 'r8 s>>= 1\nr8 -= 4\nr8 &= 15\nr8 -= 8\nr7 += 8\nr7 += r8',
  'a null check that is known': 'if r7 == 0 goto no\nr0 = *(u32 *)(r7 + 0)\nno:',
  'nine frames behind a wrong guess': `if r9 == 0 goto ok\ncall f1\nok:\nr0 = 0\nexit
    ${Array.from({ length: 8 }, (_, i) => `f${i + 1}:\ncall f${i + 2}\nexit`).join('\n')}\nf9:`,
};

export const PROGRAMS: readonly ProgramSpec[] = Object.entries(BODIES).map(([name, body]) =>
  programFromInstructions({ name, type: 'socket_filter', insns: assemble(`${START}\n${body}\n${END}`) }),
);
