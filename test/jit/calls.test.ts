/** Crossings: subprograms, trusted routines, callbacks, host functions and runs nested in them. */
import koffi from 'koffi';
import { afterAll, describe, expect, test } from 'vitest';
import type { CompileOptions } from '../../src/jit/shared/code.ts';
import { compile } from '../../src/jit/x64/compile.ts';
import { RunContext } from '../../src/memory/layout.ts';
import { Native, nativeAvailable } from './native.ts';
import { lowered, type ProgramOptions } from './support.ts';

const PROGRAM: CompileOptions = { kind: 'program', tailCallMode: 'cached' };
const ROUTINE: CompileOptions = { kind: 'routine', tailCallMode: 'cached' };

const HOST = koffi.proto('uint64_t JitTestHost(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t)');
type Host = (...args: (number | bigint)[]) => bigint;

describe.skipIf(!nativeAvailable)('calls', () => {
  const native = new Native();
  const registered: ReturnType<typeof koffi.register>[] = [];
  afterAll(() => {
    for (const callback of registered) koffi.unregister(callback);
  });
  const program = (text: string, options: ProgramOptions = {}, maps: readonly bigint[] = []): bigint => {
    return native.install(compile(lowered(text, options), PROGRAM), maps);
  };
  const routine = (name: string, text: string): void => {
    native.addRoutine(name, native.install(compile(lowered(text, { name }), ROUTINE)));
  };
  const host = (name: string, body: Host): void => {
    const callback = koffi.register((...args: (number | bigint)[]) => body(...args), koffi.pointer(HOST));
    registered.push(callback);
    native.addService(name, BigInt(koffi.address(callback)));
  };

  test('three instructions', () => {
    expect(native.call(program('r0 = r1\nr0 += 41\nexit'), 1n)).toBe(42n);
  });

  test('five arguments', () => {
    const text = 'r0 = r1\nr0 <<= 8\nr0 |= r2\nr0 <<= 8\nr0 |= r3\nr0 <<= 8\nr0 |= r4\nr0 <<= 8\nr0 |= r5\nexit';
    expect(native.call(program(text), 1n, 2n, 3n, 4n, 5n)).toBe(0x0102030405n);
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
    expect(native.call(entry, 15n)).toBe(610n);
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
    expect(native.call(entry)).toBe(233n);
  });

  test.each([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])('an indirect call through r%d', register => {
    routine('apply', `r${register} = r1\nr1 = 20\ncallx r${register}\nexit`.replace('r1 = r1\nr1 = 20\n', ''));
    const entry = program('r1 = func[double] ll\ncall routine apply\nexit\ndouble:\nr0 = 5\nexit');
    expect(native.call(entry)).toBe(5n);
  });

  test('the run context', () => {
    expect(native.call(program('r7 = run_context\nr0 = r7\nexit'))).toBe(native.dataAddress);
  });

  test('addresses of maps and values', () => {
    const options = { usedMaps: [0, 1].map(i => ({ name: `m${i}`, maxEntries: 1 })) };
    const entry = program('r0 = map_address[1] ll\nr1 = map_value_address[0]+24 ll\nr0 += r1\nexit', options, [
      0x1000_0000n,
      0x2000_0000_0000n,
    ]);
    expect(native.call(entry)).toBe(0x2000_0000_0000n + 0x1000_0018n);
  });

  test('a libc function', () => {
    native.addService('labs', BigInt(koffi.address(koffi.load('libc.so.6').symbol('labs', 'void *'))));
    expect(native.call(program('call service labs\nexit'), -1234567890123n)).toBe(1234567890123n);
  });

  test('a JS function gets five arguments; r6-r9 and the stack survive it', () => {
    host('sum', (...args) => args.reduce<bigint>((sum, arg) => sum * 10n + BigInt(arg), 0n));
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
    expect(native.call(entry)).toBe(18012345n);
    expect(native.call(entry)).toBe(18012345n);
  });

  test('a run nested in a service uses fresh stack, and everything is as before afterwards', () => {
    let inner = 0n;
    let depth = 0;
    const before = native.data.slice(0, RunContext.entryTarget);
    host('again', (level): bigint => {
      depth++;
      return Number(level) === 0 ? 1n : 2n * native.call(inner, BigInt(level) - 1n);
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
    expect(native.call(outer, 10n)).toBe(1024n + 3n * 77n);
    expect(depth).toBe(11);
    expect(native.data.slice(0, RunContext.entryTarget)).toEqual(before);
  });
});
