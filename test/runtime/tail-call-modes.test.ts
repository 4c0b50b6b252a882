/** What holds between the modes of tail calls: who may share an array, and how many tail calls a run has. */
import { describe, expect, test } from 'vitest';
import { type LoadOptions, SwitchyardError } from '../../src/index.ts';
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

  test('an index that the verifier proved is not checked again', () =>
    withRuntime(runtime => {
      const sizes = [3, 7].map(mask => {
        const programs = { main: COUNTING.replace('r3 &= 3', `r3 &= ${mask}`) };
        const object = runtime.load(collection({ type: 'raw', maps: [JMP], programs }), { tailCallMode: 'fast' });
        object.progArray('jmp').set(2, object.program('main'));
        const memory = new Uint8Array(8);
        memory[4] = 2;
        expect(object.program('main').run(memory).data[0]).toBe(34);
        memory[4] = 6;
        // Masked by 3 it is slot 2 again; by 7 it is out of range.
        expect(object.program('main').run(memory).data[0]).toBe(mask === 3 ? 34 : 1);
        return object.program('main').code!.length;
      });
      // cmp edx, 4; jae, or cmp w2, #4; b.hs
      expect(sizes[1]! - sizes[0]!).toBe(process.arch === 'arm64' ? 8 : 5);
    }));
});
