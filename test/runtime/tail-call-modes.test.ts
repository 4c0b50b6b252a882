/** What holds between the modes of tail calls: who may share an array, and how many tail calls a run has. */

import koffi from 'koffi';
import { describe, expect, test } from 'vitest';
import { type LoadOptions, SwitchyardError, type TailCallOverrides } from '../../src/index.ts';
import { ProgArrayLayout } from '../../src/memory/layout.ts';
import { nativeSupported } from '../../src/runtime/native/host.ts';
import { collection, withRuntime } from './build.ts';

const JMP = { name: 'jmp', type: 'prog_array', maxEntries: 4 } as const;

function failure(action: () => unknown): SwitchyardError {
  try {
    action();
  } catch (error) {
    if (error instanceof SwitchyardError) return error;
    throw error;
  }
  throw new Error('expected an error');
}

/** 64-bit words of this process. */
function words(address: bigint, count: number): bigint[] {
  return [...(koffi.decode(address, koffi.array('uint64_t', count)) as (number | bigint)[])].map(BigInt);
}

/** Counts its runs in the first word of the memory; hops to slot 0. */
const COUNTING = `
  if r2 < 8 goto out
  r6 = r1
  r2 = *(u32 *)(r1 + 0)
  r2 += 1
  *(u32 *)(r1 + 0) = r2
  r3 = *(u8 *)(r1 + 4)
  r3 &= 3
  r2 = map[jmp] ll
  call 12
out:
  r0 = 0
  exit`;
const counting = () => collection({ type: 'raw', maps: [JMP], programs: { main: COUNTING } });

describe.skipIf(!nativeSupported())('modes of tail calls', () => {
  for (const [ours, theirs] of [
    ['fast', 'cached'],
    ['cached', 'fast'],
    ['fast', 'baseline'],
  ] as const) {
    test(`an array of mode ${ours} refuses programs of mode ${theirs}`, () =>
      withRuntime(runtime => {
        const first = runtime.load(counting(), { tailCallMode: ours });
        first.progArray('jmp').set(0, first.program('main'));
        const other = runtime.load(counting(), { tailCallMode: theirs });
        for (const action of [
          () => first.progArray('jmp').set(0, other.program('main')),
          () => runtime.load(counting(), { tailCallMode: theirs, maps: new Map([['jmp', first.map('jmp')]]) }),
        ]) {
          const error = failure(action);
          expect(error).toMatchObject({ code: 'owner_mismatch', errno: 'EINVAL' });
          expect(error.message).toContain(`its tail-call mode is '`);
        }
      }));
  }

  test('before the series and in it share arrays', () =>
    withRuntime(runtime => {
      const first = runtime.load(counting(), { tailCallMode: 'cached' });
      const other = runtime.load(counting(), { tailCallMode: 'baseline' });
      first.progArray('jmp').set(0, other.program('main'));
      other.progArray('jmp').set(0, first.program('main'));
      const { data } = first.program('main').run(new Uint8Array(8));
      expect(data[0]).toBe(34);
    }));

  for (const maxTailCalls of [1, 2, 32, 33, 34, 127, 128, 1000, 1 << 20]) {
    test(`maxTailCalls ${maxTailCalls}`, () =>
      withRuntime(runtime => {
        for (const pokes of [true, false]) {
          const object = runtime.load(counting(), { tailCallMode: 'fast', maxTailCalls, pokes });
          object.progArray('jmp').set(0, object.program('main'));
          for (let i = 0; i < 2; i++) {
            const { data } = object.program('main').run(new Uint8Array(8));
            expect(new DataView(data.buffer, data.byteOffset).getUint32(0, true)).toBe(maxTailCalls + 1);
          }
        }
      }));
  }

  test('programs of one array have one limit', () =>
    withRuntime(runtime => {
      const first = runtime.load(counting(), { tailCallMode: 'fast', maxTailCalls: 100 });
      const other = runtime.load(counting(), { tailCallMode: 'fast' });
      const error = failure(() => first.progArray('jmp').set(0, other.program('main')));
      expect(error).toMatchObject({ code: 'owner_mismatch' });
      expect(error.message).toContain("its maxTailCalls is 33, the array's is 100");
    }));

  test.each<[string, LoadOptions]>([
    ['0', { tailCallMode: 'fast', maxTailCalls: 0 }],
    ['beyond 2^20', { tailCallMode: 'fast', maxTailCalls: (1 << 20) + 1 }],
    ['no integer', { tailCallMode: 'fast', maxTailCalls: 1.5 }],
    ['no number', { tailCallMode: 'fast', maxTailCalls: Number.NaN }],
    ['another limit in another mode', { tailCallMode: 'cached', maxTailCalls: 34 }],
    ['another limit in the interpreter', { backend: 'interpreter', maxTailCalls: 34 }],
  ])('refused: %s', (_, options) =>
    withRuntime(runtime => {
      expect(failure(() => runtime.load(counting(), options)).message).toContain('maxTailCalls');
    }),
  );

  test('more tail calls than 33 are refused where subprograms make them, since each may deepen the stack', () =>
    withRuntime(runtime => {
      const nested = collection({
        type: 'raw',
        maps: [JMP],
        programs: { main: 'call sub\n r0 = 0\n exit\nsub:\n r2 = map[jmp] ll\n r3 = 0\n call 12\n r0 = 0\n exit' },
      });
      expect(runtime.load(nested, { tailCallMode: 'fast', maxTailCalls: 33 }).programs.size).toBe(1);
      expect(failure(() => runtime.load(nested, { tailCallMode: 'fast', maxTailCalls: 34 })).message).toContain(
        'maxTailCalls can be 33 at most',
      );
    }));

  // lea rcx, [rdx - 4]; and rcx, r9; jns out; mov rcx, [slot]; jmp rcx, instead of jg out; jmp [slot].
  // Or cmp edx, 4; jae. arm64: cmp w2, #4; b.hs
  test.each<[TailCallOverrides, number, number]>([
    [{ emptySlots: 'stub' }, 10, 8],
    [{ emptySlots: 'test' }, 5, 8],
    [{ rangeCheck: 'always' }, 0, 0],
  ])(
    'an index that the verifier proved is not checked again, unless one asks for it: %j',
    (tailCallChoices, x64, arm64) =>
      withRuntime(runtime => {
        const sizes = [3, 7].map(mask => {
          const programs = { main: COUNTING.replace('r3 &= 3', `r3 &= ${mask}`) };
          const parts = collection({ type: 'raw', maps: [JMP], programs });
          const object = runtime.load(parts, { tailCallMode: 'fast', tailCallChoices });
          object.progArray('jmp').set(2, object.program('main'));
          const memory = new Uint8Array(8);
          memory[4] = 2;
          expect(object.program('main').run(memory).data[0]).toBe(34);
          memory[4] = 6;
          // Masked by 3 it is slot 2 again; by 7 it is out of range.
          expect(object.program('main').run(memory).data[0]).toBe(mask === 3 ? 34 : 1);
          return object.program('main').code!.length;
        });
        expect(sizes[1]! - sizes[0]!).toBe(process.arch === 'arm64' ? arm64 : x64);
      }),
  );

  test.each(['stub', 'test'] as const)("what slots hold where emptySlots is '%s', on both sides", emptySlots =>
    withRuntime(async runtime => {
      const options = { tailCallMode: 'fast', tailCallChoices: { emptySlots } } as const;
      const object = runtime.load(counting(), options);
      const slots = object.progArray('jmp');
      const empty = new Set<bigint>();
      /** The second half, as sites read it. */
      const check = (...filled: number[]) => {
        const sides = runtime.memoryUsage > oneSided ? [0, 1] : [0];
        for (const side of sides) {
          const first = slots.map.sideAddress(side) + BigInt(ProgArrayLayout.ptrs);
          for (let index = 0; index < JMP.maxEntries; index++) {
            const [program] = words(first + BigInt(8 * index), 1) as [bigint];
            const [target] = words(first + BigInt(8 * (JMP.maxEntries + index)), 1) as [bigint];
            expect(program !== 0n).toBe(filled.includes(index));
            if (program === 0n) empty.add(target);
            else expect(target - words(program, 1)[0]!).toBe(64n);
          }
        }
      };
      const oneSided = runtime.memoryUsage;
      check();
      slots.set(1, object.program('main'));
      check(1);
      slots.transaction(tx => tx.set(2, object.program('main')));
      await runtime.settled();
      expect(runtime.memoryUsage).toBeGreaterThan(oneSided);
      check(1, 2);
      slots.transaction(tx => {
        tx.delete(1);
        tx.set(3, object.program('main'));
      });
      slots.delete(2);
      await runtime.settled();
      check(3);
      slots.clear();
      await runtime.settled();
      check();
      const later = runtime.load(counting(), options);
      const [target] = words(later.map('jmp').address + BigInt(ProgArrayLayout.ptrs + 8 * JMP.maxEntries), 1);
      empty.add(target!);
      expect(empty.size).toBe(1);
      const [stub] = empty as unknown as [bigint];
      if (emptySlots === 'test') expect(stub).toBe(0n);
      else {
        // sub r9, 1; jmp r11, or add x26, x26, #1; br x12: for all runtimes the same.
        const code = process.arch === 'arm64' ? 0xd61f0180_9100075an : 0xe3ff41_01e98349n;
        const bits = process.arch === 'arm64' ? 64 : 56;
        expect(BigInt.asUintN(bits, words(stub, 1)[0]!)).toBe(code);
      }
    }),
  );

  test('the miss stub stays when programs go', () =>
    withRuntime(async runtime => {
      const first = runtime.load(counting(), { tailCallMode: 'fast' });
      const jmp = first.map('jmp');
      const second = runtime.load(counting(), { tailCallMode: 'fast', maps: new Map([['jmp', jmp]]) });
      first.dispose();
      await runtime.settled();
      expect(second.program('main').run(new Uint8Array(8)).data[0]).toBe(1);
      second.progArray('jmp').set(0, second.program('main'));
      expect(second.program('main').run(new Uint8Array(8)).data[0]).toBe(34);
      second.progArray('jmp').delete(0);
      expect(second.program('main').run(new Uint8Array(8)).data[0]).toBe(1);
    }));

  test.each([
    ['stub', 'test'],
    ['test', 'stub'],
  ] as const)("an array whose empty slots are '%s' refuses programs to which they are '%s'", (ours, theirs) =>
    withRuntime(runtime => {
      const options = (emptySlots: 'stub' | 'test') =>
        ({ tailCallMode: 'fast', tailCallChoices: { emptySlots } }) as const;
      const first = runtime.load(counting(), options(ours));
      const other = runtime.load(counting(), options(theirs));
      for (const action of [
        () => first.progArray('jmp').set(0, other.program('main')),
        () => first.progArray('jmp').transaction(tx => tx.set(0, other.program('main'))),
        () => runtime.load(counting(), { ...options(theirs), maps: new Map([['jmp', first.map('jmp')]]) }),
      ]) {
        const error = failure(action);
        expect(error).toMatchObject({ code: 'owner_mismatch', errno: 'EINVAL' });
        expect(error.message).toContain(`its choice of emptySlots is '${theirs}', the array's is '${ours}'`);
      }
      expect(first.program('main').run(new Uint8Array(8)).data[0]).toBe(1);
    }),
  );

  test('programs that differ in rangeCheck share arrays', () =>
    withRuntime(runtime => {
      const first = runtime.load(counting(), { tailCallChoices: { rangeCheck: 'always' } });
      const other = runtime.load(counting(), { tailCallChoices: { rangeCheck: 'proved' } });
      first.progArray('jmp').set(0, other.program('main'));
      other.progArray('jmp').set(0, first.program('main'));
      expect(first.program('main').run(new Uint8Array(8)).data[0]).toBe(34);
    }));

  test.each<[string, LoadOptions, string]>([
    [
      'a stub in mode cached',
      { tailCallMode: 'cached', tailCallChoices: { emptySlots: 'stub' } },
      "emptySlots is 'test'",
    ],
    ['proofs in mode baseline', { tailCallMode: 'baseline', tailCallChoices: { rangeCheck: 'proved' } }, 'rangeCheck'],
    ['another value', { tailCallChoices: { emptySlots: 'no' as 'test' } }, "'test' or 'stub', not 'no'"],
    [
      'another choice',
      { tailCallChoices: { frames: 'own' } as TailCallOverrides },
      'rangeCheck or emptySlots, not frames',
    ],
    [
      'the same in the interpreter',
      { backend: 'interpreter', tailCallChoices: { rangeCheck: 1 as unknown as 'always' } },
      "'always' or 'proved', not '1'",
    ],
  ])('choices that are refused: %s', (_, options, message) =>
    withRuntime(runtime => {
      const error = failure(() => runtime.load(counting(), options));
      expect(error.code).toBe('bad_choice');
      expect(error.message).toContain(message);
    }),
  );

  test('an array of an object that was loaded for the interpreter has no cached targets, and refuses compiled programs', () =>
    withRuntime(runtime => {
      const leaf = { type: 'raw', maps: [JMP], programs: { leaf: 'r0 = 0\n exit' } } as const;
      const interpreted = runtime.load(collection(leaf), { backend: 'interpreter' });
      for (const tailCallMode of ['cached', 'fast'] as const) {
        const maps = new Map([['jmp', interpreted.map('jmp')]]);
        const error = failure(() => runtime.load(counting(), { tailCallMode, maps }));
        expect(error).toMatchObject({ code: 'owner_mismatch', errno: 'EINVAL' });
        expect(error.message).toContain('made for programs without tail-call entries');
      }
    }));

  test("a mode's own choices may be named", () =>
    withRuntime(runtime => {
      for (const tailCallMode of ['baseline', 'cached'] as const) {
        const tailCallChoices = { emptySlots: 'test', rangeCheck: 'always' } as const;
        expect(runtime.load(counting(), { tailCallMode, tailCallChoices }).programs.size).toBe(1);
      }
    }));
});
