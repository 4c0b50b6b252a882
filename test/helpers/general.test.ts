import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { functionAddress } from '../../src/interpreter/function-address.ts';
import { linkRoutine } from '../../src/interpreter/linked-program.ts';
import { RunContext, RuntimeState } from '../../src/memory/layout.ts';
import { openScratch } from '../kernel/scratch.ts';
import { HelperMachine } from './platform.ts';

const kernel = openScratch(64);
afterAll(() => kernel?.dispose());

describe('clocks and identity', () => {
  test('each clock helper reads its clock', () => {
    const machine = new HelperMachine();
    machine.time = 5_000_000_000n;
    expect(machine.call('bpf_ktime_get_ns')).toBe(5_000_000_001n);
    expect(machine.call('bpf_ktime_get_coarse_ns')).toBe(5_000_000_006n);
    expect(machine.call('bpf_ktime_get_boot_ns')).toBe(5_000_000_007n);
    expect(machine.call('bpf_ktime_get_tai_ns')).toBe(5_000_000_011n);
    // 250 ticks a second, from five minutes before 2^32.
    expect(machine.call('bpf_jiffies64')).toBe(2n ** 32n - 300n * 250n + 1250n);
  });

  test('a fixed time stands in for the clocks', () => {
    const machine = new HelperMachine();
    machine.arena.view.setBigUint64(machine.state + RuntimeState.fixedTime, 42n, true);
    expect([machine.call('bpf_ktime_get_ns'), machine.call('bpf_ktime_get_boot_ns')]).toEqual([42n, 42n]);
  });

  test('processor, node, process, user, command', () => {
    const machine = new HelperMachine();
    machine.arena.view.setUint32(machine.runContext + RunContext.cpu, 3, true);
    machine.arena.view.setUint32(machine.runContext + RunContext.numaNode, 1, true);
    expect(machine.call('bpf_get_smp_processor_id')).toBe(3n);
    expect(machine.call('bpf_get_numa_node_id')).toBe(1n);
    expect(machine.call('bpf_get_current_pid_tgid')).toBe((77n << 32n) | 78n);
    expect(machine.call('bpf_get_current_pid_tgid')).toBe((77n << 32n) | 78n);
    expect(machine.call('bpf_get_current_uid_gid')).toBe((100n << 32n) | 1000n);
    const buffer = machine.bytes(new Uint8Array(16).fill(0xff));
    expect(machine.call('bpf_get_current_comm', buffer, 16)).toBe(0n);
    expect(Buffer.from(machine.read(buffer, 16)).toString()).toBe('switchyard\0\0\0\0\0\0');
    expect(machine.call('bpf_get_current_comm', buffer, 4)).toBe(0n);
    expect(Buffer.from(machine.read(buffer, 5)).toString()).toBe('swi\0c');
    expect(machine.call('bpf_get_current_comm', 8, 4)).toBe(-14n);
  });

  test('random numbers follow xorshift64', () => {
    const machine = new HelperMachine();
    const mask = (1n << 64n) - 1n;
    let state = 88172645463325252n;
    for (let i = 0; i < 1000; i++) {
      state ^= (state << 13n) & mask;
      state ^= state >> 7n;
      state ^= (state << 17n) & mask;
      expect(machine.call('bpf_get_prandom_u32')).toBe(state >> 32n);
    }
  });
});

describe('loop', () => {
  /** A callback that adds its index to the u64 at its context, and ends the loop when it gets to `last`. */
  function callback(machine: HelperMachine, last: number, more = ''): bigint {
    const program = linkRoutine({
      name: 'callback',
      text: `
  r3 = *(u64 *)(r2 + 0)
  r3 += r1
  *(u64 *)(r2 + 0) = r3
${more}
  r0 = 0
  if r1 != ${last} goto go_on
  r0 = 1
go_on:
  exit`,
    });
    machine.programs.set(7, { ...program, id: 7 });
    return functionAddress(7, 0);
  }

  test('calls back until the count or a non-zero result', () => {
    const machine = new HelperMachine();
    const sum = machine.bytes(new Uint8Array(8));
    expect(machine.call('bpf_loop', 100, callback(machine, -1), sum, 0)).toBe(100n);
    expect(machine.arena.view.getBigUint64(machine.scratch, true)).toBe(4950n);
    expect(machine.call('bpf_loop', 100, callback(machine, 9), sum, 0)).toBe(10n);
    expect(machine.call('bpf_loop', 0, callback(machine, 9), sum, 0)).toBe(0n);
    expect(machine.call('bpf_loop', (1n << 32n) | 2n, callback(machine, -1), sum, 0)).toBe(2n);
  });

  test('refuses flags and more than 2^23 turns', () => {
    const machine = new HelperMachine();
    const sum = machine.bytes(new Uint8Array(8));
    const to = callback(machine, 0);
    expect(machine.call('bpf_loop', 1, to, sum, 1)).toBe(-22n);
    expect(machine.call('bpf_loop', (1 << 23) + 1, to, sum, 0)).toBe(-7n);
    expect(machine.call('bpf_loop', 1 << 23, to, sum, 0)).toBe(1n);
  });

  test('ends at the next turn when the runtime is stopping', () => {
    const machine = new HelperMachine();
    const sum = machine.bytes(new Uint8Array(8));
    const stopAfterFour = `
  if r1 != 3 goto run_on
  r3 = run_context
  r3 = *(u64 *)(r3 + ${RunContext.runtime})
  *(u32 *)(r3 + ${RuntimeState.stop}) = 1
run_on:`;
    expect(machine.call('bpf_loop', 1 << 23, callback(machine, -1, stopAfterFour), sum, 0)).toBe(4n);
  });
});

describe('strings', () => {
  test('strncmp gives the sign of the first difference', () => {
    const machine = new HelperMachine();
    const text = fc.uint8Array({ maxLength: 8, min: 0, max: 3 });
    fc.assert(
      fc.property(text, text, fc.integer({ min: 0, max: 8 }), (a, b, size) => {
        const first = new Uint8Array(9);
        const second = new Uint8Array(9);
        first.set(a);
        second.set(b);
        const result = machine.call('bpf_strncmp', machine.bytes(first), size, machine.bytes(second, 64));
        const until = (bytes: Uint8Array) => Buffer.from(bytes.subarray(0, bytes.indexOf(0))).subarray(0, size);
        expect(result).toBe(BigInt(Buffer.compare(until(first), until(second))));
      }),
    );
  });

  const number = fc
    .tuple(
      fc.constantFrom('', '', ' ', '\t\n '),
      fc.constantFrom('', '', '-', '+', '--'),
      fc.constantFrom('', '', '0', '0x', '0X', '0xg'),
      fc.oneof(
        fc.bigInt({ min: 0n, max: 1n << 66n }).map(String),
        fc.constantFrom(
          '',
          '9223372036854775807',
          '9223372036854775808',
          '18446744073709551615',
          '18446744073709551616',
        ),
        fc.constantFrom('7fffffffffffffff', '8000000000000000', 'ffffffffffffffff', 'DEADbeef', '777', '0'),
      ),
      fc.constantFrom('', '', 'z', ' ', '\0'),
    )
    .map(parts => parts.join(''));

  test.skipIf(kernel === undefined)('strtol and strtoul as the kernel', () => {
    fc.assert(
      fc.property(number, fc.constantFrom(0, 0, 8, 10, 16, 2, 32), fc.boolean(), (text, flags, signed) => {
        fc.pre(text.length > 0 && text.length <= 48);
        const bytes = Buffer.alloc(48);
        bytes.write(text, 'latin1');
        const stores = Array.from({ length: 6 }, (_, i) => {
          return `r0 = ${bytes.readBigUInt64LE(8 * i)} ll\n*(u64 *)(r10 - ${64 - 8 * i}) = r0`;
        });
        const { value } = kernel!.run(
          'sched_cls',
          `*(u32 *)(r10 - 4) = 0
           r2 = r10
           r2 += -4
           r1 = map_fd[${kernel!.mapFd}] ll
           call 1
           if r0 != 0 goto found
           exit
         found:
           r6 = r0
           ${stores.join('\n')}
           r1 = r10
           r1 += -64
           r2 = ${text.length}
           r3 = ${flags}
           r4 = r10
           r4 += -72
           *(u64 *)(r10 - 72) = -1
           call ${signed ? 105 : 106}
           *(u64 *)(r6 + 0) = r0
           r0 = *(u64 *)(r10 - 72)
           *(u64 *)(r6 + 8) = r0
           r0 = 0
           exit`,
          new Uint8Array(64),
        );
        const machine = new HelperMachine();
        const at = machine.bytes(bytes);
        const result = machine.call(signed ? 'bpf_strtol' : 'bpf_strtoul', at, text.length, flags, at + 64n);
        const theirs = new BigInt64Array(value.buffer, 0, 2);
        expect([result, machine.arena.view.getBigInt64(machine.scratch + 64, true)]).toEqual([theirs[0], theirs[1]]);
      }),
      { numRuns: 150 },
    );
  });
});
