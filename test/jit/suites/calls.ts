/** Crossings: subprograms, trusted routines, callbacks, host functions and runs nested in them. */
import koffi from 'koffi';
import { afterAll, describe, expect, test } from 'vitest';
import { RunContext } from '../../../src/memory/layout.ts';
import { Computer } from '../computer.ts';
import type { Platform } from '../processor.ts';
import { lowered, type ProgramOptions } from '../support.ts';

export function callsSuite(platform: Platform): void {
  describe.skipIf(!platform.available)('calls', () => {
    const computer = new Computer(platform);
    afterAll(() => computer.close());
    const program = (text: string, options: ProgramOptions = {}, maps: readonly bigint[] = []): bigint => {
      return computer.install(computer.compile(lowered(text, options)), maps);
    };
    const routine = (name: string, text: string): void => {
      computer.addRoutine(name, computer.install(computer.compile(lowered(text, { name }), 'routine')));
    };
    test('three instructions', () => {
      expect(computer.call(program('r0 = r1\nr0 += 41\nexit'), 1n)).toBe(42n);
    });

    test('five arguments', () => {
      const text = 'r0 = r1\nr0 <<= 8\nr0 |= r2\nr0 <<= 8\nr0 |= r3\nr0 <<= 8\nr0 |= r4\nr0 <<= 8\nr0 |= r5\nexit';
      expect(computer.call(program(text), 1n, 2n, 3n, 4n, 5n)).toBe(0x0102030405n);
    });

    test('recursion through a subprogram', () => {
      const entry = program(`call fib
exit
fib:
if r1 > 1 goto deeper
r0 = r1
exit
deeper:
r6 = r1
r1 += -1
call fib
r7 = r0
r1 = r6
r1 += -2
call fib
r0 += r7
exit`);
      expect(computer.call(entry, 15n)).toBe(610n);
    });

    test('a routine keeps r6-r9 and has a stack of its own', () => {
      routine('busy', 'r6 = 1\nr7 = 1\nr8 = 1\nr9 = 1\nr0 = 3\n*(u64 *)(r10 - 8) = r0\n*(u64 *)(r10 - 512) = r0\nexit');
      const entry = program(`r6 = 6
r7 = 7
r8 = 8
r9 = 9
r1 = 100
*(u64 *)(r10 - 8) = r1
*(u64 *)(r10 - 512) = r1
call routine busy
r0 += r6
r0 += r7
r0 += r8
r0 += r9
r1 = *(u64 *)(r10 - 8)
r0 += r1
r1 = *(u64 *)(r10 - 512)
r0 += r1
exit`);
      expect(computer.call(entry)).toBe(233n);
    });

    test.each([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])('an indirect call through r%d', register => {
      routine('apply', `r${register} = r1\nr1 = 20\ncallx r${register}\nexit`.replace('r1 = r1\nr1 = 20\n', ''));
      const entry = program('r1 = func[double] ll\ncall routine apply\nexit\ndouble:\nr0 = 5\nexit');
      expect(computer.call(entry)).toBe(5n);
    });

    test('the run context', () => {
      expect(computer.call(program('r7 = run_context\nr0 = r7\nexit'))).toBe(computer.dataAddress);
    });

    test('addresses of maps and values', () => {
      const options = { usedMaps: [0, 1].map(i => ({ name: `m${i}`, maxEntries: 1 })) };
      const entry = program('r0 = map_address[1] ll\nr1 = map_value_address[0]+24 ll\nr0 += r1\nexit', options, [
        0x1000_0000n,
        0x2000_0000_0000n,
      ]);
      expect(computer.call(entry)).toBe(0x2000_0000_0000n + 0x1000_0018n);
    });

    test.runIf(platform.machine.arch === process.arch)('a libc function', () => {
      computer.addService('labs', BigInt(koffi.address(koffi.load('libc.so.6').symbol('labs', 'void *'))));
      expect(computer.call(program('call service labs\nexit'), -1234567890123n)).toBe(1234567890123n);
    });

    test('a JS function gets five arguments; r6-r9 and the stack survive it', () => {
      computer.addService('sum', (...args) => args.reduce((sum, arg) => sum * 10n + arg, 0n));
      const entry = program(`r6 = 1000000
r7 = 2000000
r8 = 3000000
r9 = 4000000
*(u64 *)(r10 - 8) = r9
*(u64 *)(r10 - 512) = r9
r1 = 1
r2 = 2
r3 = 3
r4 = 4
r5 = 5
call service sum
r0 += r6
r0 += r7
r0 += r8
r0 += r9
r1 = *(u64 *)(r10 - 8)
r0 += r1
r1 = *(u64 *)(r10 - 512)
r0 += r1
exit`);
      expect(computer.call(entry)).toBe(18012345n);
      expect(computer.call(entry)).toBe(18012345n);
    });

    test('a run nested in a service uses fresh stack, and everything is as before afterwards', () => {
      let inner = 0n;
      let depth = 0;
      const before = computer.data.slice(0, RunContext.entryTarget);
      computer.addService('again', level => {
        depth++;
        return level === 0n ? 1n : 2n * computer.call(inner, level! - 1n);
      });
      inner = program('r6 = r1\n*(u64 *)(r10 - 8) = r6\n*(u64 *)(r10 - 512) = r6\ncall service again\nexit');
      const outer = program(`r6 = 77
*(u64 *)(r10 - 8) = r6
*(u64 *)(r10 - 512) = r6
call service again
r1 = *(u64 *)(r10 - 8)
r0 += r1
r1 = *(u64 *)(r10 - 512)
r0 += r1
r0 += r6
exit`);
      expect(computer.call(outer, 10n)).toBe(1024n + 3n * 77n);
      expect(depth).toBe(11);
      expect(computer.data.slice(0, RunContext.entryTarget)).toEqual(before);
    });
  });
}
